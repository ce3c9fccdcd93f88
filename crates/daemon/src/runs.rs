//! One run as the daemon sees it: begun or found, told to end, and how it ended.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use os::cgroup::Group;
use os::files::{Lock, Locked};
use os::process::{Identity, Pidfd, Send};
use os::socket::{WireEnd, WireRead};
use policy::supervisor::{Exit, StartFailure};
use wire::run::{Ended, Line, Process, StartError, Started};

use crate::home::{Home, RunFolder};
use crate::shim::{self, Plan};

/// A run that lives, or whose shim does.
#[derive(Debug)]
pub(crate) struct LiveRun {
    pub(crate) number: u64,
    pub(crate) folder: RunFolder,
    pub(crate) run_id: String,
    pub(crate) shim: Option<Pidfd>,
    pub(crate) wire: Option<WireEnd>,
    pub(crate) worker: Option<Identity>,
    pub(crate) started_unix_ms: u64,
    /// Its control group, if it has one.
    pub(crate) group: Option<Group>,
}

/// What came over the wire, or is to be read from its end.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    Started(Started),
    Ended(Ended),
    /// The shim is gone without a word.
    ShimGone,
}

impl LiveRun {
    /// Begin a run: its folder, its lock, its shim.
    ///
    /// # Errors
    /// As of mkdir, open, flock, pipe and fork.
    pub(crate) fn begin(plan: &Plan) -> io::Result<Self> {
        let lock = create(&plan.folder, &plan.run_id)?;
        let (wire, to_daemon): (WireEnd, OwnedFd) = os::socket::wire()?;
        let pid = os::fork::fork(|| shim::run(plan, &lock, &to_daemon))?;
        Ok(Self {
            number: plan.run,
            folder: plan.folder.clone(),
            run_id: plan.run_id.clone(),
            shim: Pidfd::open_child(pid)?,
            wire: Some(wire),
            worker: None,
            started_unix_ms: os::clock::wall_ms(),
            group: None,
        })
    }

    /// Read the wire.
    pub(crate) fn listen(&mut self) -> Vec<News> {
        let Some(wire) = &mut self.wire else { return Vec::new() };
        match wire.read() {
            Ok(WireRead::Lines(lines)) => lines.iter().filter_map(|line| news(line)).collect(),
            Ok(WireRead::End) | Err(_) => {
                self.wire = None;
                Vec::new()
            }
        }
    }

    /// The shim has ended: what it wrote last.
    pub(crate) fn last_words(&mut self) -> News {
        let over_the_wire = self.listen().into_iter().find(|news| matches!(news, News::Ended(_)));
        over_the_wire.or_else(|| read(&self.folder.exit()).map(News::Ended)).unwrap_or(News::ShimGone)
    }

    /// Tell the shim to end the tree, at its own pace or at once. `false`: there is no shim to tell.
    pub(crate) fn tell_to_end(&self, at_once: bool) -> bool {
        let signal = if at_once { Send::User1 } else { Send::Term };
        self.shim.as_ref().is_some_and(|shim| shim.send(signal).unwrap_or(false))
    }

    /// Without a shim: kill what is left of the tree. `true` when nothing is.
    pub(crate) fn kill_orphans(&self) -> bool {
        let mut left = left_of(&self.folder, &self.run_id);
        if let Some(worker) = self.worker
            && matches!(Pidfd::open(worker), Ok(Some(_)))
            && os::proc::stat(os::proc::root(), worker.pid).is_ok_and(|stat| stat.state != 'Z')
        {
            left.push(worker);
        }
        let grouped = self.group.as_ref().filter(|group| !group.is_empty());
        if let Some(group) = grouped {
            group.kill().ok();
        }
        if !left.is_empty() || grouped.is_some() {
            os::tree::kill_each(&left);
            return false;
        }
        if let Some(group) = &self.group {
            group.remove().ok();
        }
        is_free(&self.folder)
    }
}

/// What lives of a run, by its mark or by its lock: whoever has cleared its environment has seldom closed the lock, too.
pub(crate) fn left_of(folder: &RunFolder, run_id: &str) -> Vec<Identity> {
    let mut left =
        if run_id.is_empty() { Vec::new() } else { os::tree::started_with(&mark(run_id)).unwrap_or_default() };
    left.extend(os::tree::lock_holders(&folder.lock()).unwrap_or_default());
    left.sort_unstable();
    left.dedup();
    left
}

/// The entry in the environment of every process of the run.
fn mark(run_id: &str) -> Vec<u8> {
    format!("AUTOPILOT_RUN_ID={run_id}").into_bytes()
}

fn news(line: &[u8]) -> Option<News> {
    Some(match serde_json::from_slice::<Line>(line).ok()? {
        Line::Started(started) => News::Started(started),
        Line::Ended(ended) => News::Ended(ended),
    })
}

fn create(folder: &RunFolder, run_id: &str) -> io::Result<Lock> {
    os::files::create_private_folder(folder.path())?;
    // A file from a run of the same number can only be there if the counter was lost.
    std::fs::remove_file(folder.exit()).ok();
    std::fs::remove_file(folder.started()).ok();
    match Lock::try_take(&folder.lock())? {
        Locked::Taken(lock) => {
            std::fs::write(folder.lock(), run_id)?;
            Ok(lock)
        }
        Locked::Busy => Err(io::Error::other("a run of this number lives")),
    }
}

/// Nothing of the run lives any more.
pub(crate) fn is_free(folder: &RunFolder) -> bool {
    !folder.lock().exists() || matches!(Lock::try_take(&folder.lock()), Ok(Locked::Taken(_)))
}

/// A record of the shim; none, if it is missing or no record.
pub(crate) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

pub(crate) fn identity(process: Process) -> Identity {
    Identity { pid: process.pid, start_ticks: process.start_ticks }
}

/// The numbers of the runs that have a folder, newest first.
pub(crate) fn numbers(home: &Home) -> Vec<u64> {
    let entries = std::fs::read_dir(home.runs()).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers
}

/// Remove the folders of old runs, but for the newest `keep`.
pub(crate) fn prune(home: &Home, keep: usize) {
    for number in numbers(home).into_iter().skip(keep) {
        let folder = home.run(number);
        if is_free(&folder) {
            std::fs::remove_dir_all(folder.path()).ok();
        }
    }
}

pub(crate) fn exit(exit: wire::run::Exit) -> Exit {
    match (exit.code, exit.signal) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unseen,
    }
}

/// In the machine's words.
pub(crate) fn start_failure(error: &StartError) -> StartFailure {
    if error.step == "working-dir" {
        return StartFailure::WorkingDirectory;
    }
    by_errno(error.errno)
}

/// Errnos of execve(2) and fork(2).
pub(crate) fn by_errno(errno: i32) -> StartFailure {
    match io::Error::from_raw_os_error(errno).kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StartFailure::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => StartFailure::NotExecutable,
        io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock | io::ErrorKind::StorageFull => {
            StartFailure::Resources(errno)
        }
        _ if errno == os::spawn::ENOEXEC => StartFailure::NotAProgram,
        _ if os::spawn::OUT_OF_DESCRIPTORS.contains(&errno) => StartFailure::Resources(errno),
        _ => StartFailure::Other(errno),
    }
}
