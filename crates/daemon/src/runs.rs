//! One run as the daemon sees it: begun or found, told to end, and how it ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use os::cgroup::Group;
use os::fail;
use os::files::{Lock, Locked};
use os::process::{Identity, Pidfd, Send};
use os::socket::{WireEnd, WireRead};
use policy::supervisor::{Exit, StartFailure};
use wire::run::{Ended, Line, Process, Record, StartError, Started};

use crate::doubt::Doubt;
use crate::home::{Home, RunFolder};
use crate::seal::{self, Aside};
use crate::shim::{self, Plan};

/// A run that lives, or whose shim does.
#[derive(Debug)]
pub(crate) struct LiveRun {
    pub(crate) number: u64,
    pub(crate) folder: RunFolder,
    pub(crate) run_id: String,
    pub(crate) shim: Option<Pidfd>,
    /// Its pid, while it lives.
    pub(crate) shim_pid: u32,
    pub(crate) wire: Option<WireEnd>,
    pub(crate) worker: Option<Identity>,
    pub(crate) started_unix_ms: u64,
    /// Its control group, if it has one.
    pub(crate) group: Option<Group>,
    /// What keeps its tree together, as its record says.
    pub(crate) rung: Option<String>,
    /// Why it can't be told what lives of it, if it can't.
    pub(crate) doubt: Option<Doubt>,
    /// When it began, in clock ticks since boot; nothing of it is older.
    pub(crate) begun_ticks: Option<u64>,
}

/// What came over the wire, or is to be read from its end.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    Started(Started),
    Ended(Ended),
    /// The shim is gone without a word.
    ShimGone,
}

/// What is chosen only when a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The worker's program, and its first arguments.
    pub(crate) program: Vec<OsString>,
    /// The copy of the agent that it is to use.
    pub(crate) agent: Option<PathBuf>,
    /// It is not proven, and there is another one.
    pub(crate) is_agent_on_trial: bool,
}

/// A run before its time: its folder, under another name as yet, and its lock. A file system that is busy takes longer
/// for them than all else takes that happens between a worker's end and the next one's start.
#[derive(Debug)]
pub(crate) struct Prepared {
    plan: Plan,
    waits_in: RunFolder,
    lock: Lock,
}

impl Prepared {
    /// # Errors
    /// As of mkdir, open and flock.
    pub(crate) fn new(home: &Home, plan: Plan) -> io::Result<Self> {
        let waits_in = home.next_run();
        fail::point("run.clear")?;
        // Of a daemon before this one.
        remove_folder(&waits_in)?;
        let lock = create(&waits_in, &plan.run_id)?;
        Ok(Self { plan, waits_in, lock })
    }

    pub(crate) fn number(&self) -> u64 {
        self.plan.run
    }

    /// Begin it with this program: its shim.
    ///
    /// # Errors
    /// As of rename, pipe and fork.
    pub(crate) fn begin(mut self, chosen: Chosen) -> io::Result<LiveRun> {
        self.plan.program.argv.splice(0..0, chosen.program);
        if chosen.is_agent_on_trial {
            self.plan.program.env.push(("AUTOPILOT_CLAUDE_PROBATION".into(), "1".into()));
        }
        self.plan.program.env.extend(chosen.agent.map(|copy| ("AUTOPILOT_CLAUDE".into(), copy.into())));
        self.take_place()?;
        let Self { plan, lock, .. } = self;
        fail::point("run.wire")?;
        let (wire, to_daemon): (WireEnd, OwnedFd) = os::socket::wire()?;
        fail::point("run.fork")?;
        let begun_ticks = Some(os::process::ticks_since_boot());
        let pid = os::fork::fork(|| shim::run(&plan, &lock, &to_daemon))?;
        // The run lives from here on, whatever else fails: without a hold on its shim it is ended like any orphan.
        let shim = fail::point("run.pidfd").and_then(|()| Pidfd::open_child(pid)).ok().flatten();
        Ok(LiveRun {
            number: plan.run,
            shim,
            shim_pid: pid,
            wire: Some(wire),
            started_unix_ms: os::clock::wall_ms(),
            begun_ticks,
            ..LiveRun::found(0, plan.folder, plan.run_id)
        })
    }

    fn take_place(&self) -> io::Result<()> {
        let folder = &self.plan.folder;
        fail::point("run.take-place")?;
        match std::fs::rename(self.waits_in.path(), folder.path()) {
            // A run of the same number can only have been there if the counter was lost.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                if !is_free(folder) {
                    return Err(io::Error::other("a run of this number lives"));
                }
                remove_folder(folder)?;
                std::fs::rename(self.waits_in.path(), folder.path())
            }
            done => done,
        }
    }
}

fn remove_folder(folder: &RunFolder) -> io::Result<()> {
    match std::fs::remove_dir_all(folder.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl LiveRun {
    /// Of which nothing is known yet but its folder.
    pub(crate) fn found(number: u64, folder: RunFolder, run_id: String) -> Self {
        let (shim, wire, worker, group, rung, doubt) = (None, None, None, None, None, None);
        Self {
            number,
            folder,
            run_id,
            shim,
            shim_pid: 0,
            wire,
            worker,
            started_unix_ms: 0,
            group,
            rung,
            doubt,
            begun_ticks: None,
        }
    }

    /// Below whom its processes are: the worker, and what its dead children left, are below the shim.
    pub(crate) fn top(&self) -> Option<u32> {
        Some(self.shim_pid).filter(|&pid| pid != 0).or(self.worker.map(|worker| worker.pid))
    }

    /// Its processes.
    pub(crate) fn tree(&self) -> Vec<(Identity, os::proc::Stat)> {
        self.top().and_then(|top| os::proc::descendants(os::proc::root(), top).ok()).unwrap_or_default()
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
        let record = || read(&self.folder.exit()).ok().flatten().map(News::Ended);
        over_the_wire.or_else(record).unwrap_or(News::ShimGone)
    }

    /// Tell the shim to end the tree, at its own pace or at once. `false`: there is no shim to tell.
    pub(crate) fn tell_to_end(&self, at_once: bool) -> bool {
        let signal = if at_once { Send::User1 } else { Send::Term };
        let Some(shim) = &self.shim else { return false };
        let told = shim.send(signal).unwrap_or(false);
        // Whoever was stopped hears of it only when it goes on.
        shim.send(Send::Continue).ok();
        told
    }

    /// The shim does not do as it was told.
    pub(crate) fn kill_shim(&self) {
        self.shim.as_ref().map(|shim| shim.send(Send::Kill));
    }

    /// Without a shim: kill what is left of the tree. `true` when nothing is.
    pub(crate) fn kill_orphans(&self) -> bool {
        // Who can't be seen may be there.
        let Ok(mut left) = left_of(&self.folder, &self.run_id) else { return false };
        if let Some(worker) = self.worker
            && matches!(Pidfd::open(worker), Ok(Some(_)))
            && os::proc::stat(os::proc::root(), worker.pid).is_ok_and(|stat| stat.state != 'Z')
        {
            left.push(worker);
        }
        let Ok(escaped) = self.escaped() else { return false };
        left.extend(escaped);
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

/// Children of the daemon's own making.
/// One that has no name of its own yet is called like the daemon.
const OWN: [&std::ffi::CStr; 4] = [shim::NAME, crate::guard::NAME, c"autopilot-try", c"autopilotd"];

impl LiveRun {
    /// Who has neither mark nor lock any more is a child of this process, the next subreaper, since the shim is dead. As
    /// the first process of a container this one is everybody's: there nobody can be told from a stranger.
    fn escaped(&self) -> io::Result<Vec<Identity>> {
        let own = os::process::own_pid();
        let Some(begun_ticks) = self.begun_ticks.filter(|_| own != 1) else { return Ok(Vec::new()) };
        let mut escaped = os::tree::children_since(begun_ticks)?;
        escaped.retain(|(_, name)| OWN.iter().all(|own| own.to_bytes() != name.as_bytes()));
        Ok(escaped.into_iter().map(|(identity, _)| identity).collect())
    }
}

/// What lives of a run, by its mark or by its lock: whoever has cleared its environment has seldom closed the lock, too.
///
/// # Errors
/// If `/proc` can't be read.
pub(crate) fn left_of(folder: &RunFolder, run_id: &str) -> io::Result<Vec<Identity>> {
    fail::point("orphans.find")?;
    let mut left = marked(run_id)?;
    left.extend(os::tree::lock_holders(&folder.lock())?);
    left.sort_unstable();
    left.dedup();
    Ok(left)
}

/// Those that were executed in a run.
///
/// # Errors
/// If `/proc` can't be read.
pub(crate) fn marked(run_id: &str) -> io::Result<Vec<Identity>> {
    if run_id.is_empty() { Ok(Vec::new()) } else { os::tree::started_with(&mark(run_id)) }
}

/// Whether the shim may live: it holds the run's lock and, as a fork of the daemon, has not the run's mark.
pub(crate) fn has_a_writer(folder: &RunFolder) -> bool {
    let found = || -> io::Result<bool> {
        let run_id = run_id(folder)?;
        let holders = os::tree::lock_holders(&folder.lock())?;
        let marked = os::tree::started_with(&mark(&run_id))?;
        Ok(run_id.is_empty() || holders.iter().any(|holder| !marked.contains(holder)))
    };
    // Who can't be seen may be there.
    found().unwrap_or(true)
}

/// The entry in the environment of every process of the run.
pub(crate) fn mark(run_id: &str) -> Vec<u8> {
    format!("AUTOPILOT_RUN_ID={run_id}").into_bytes()
}

fn news(line: &[u8]) -> Option<News> {
    Some(match wire::run::decode_line(line).known()? {
        Line::Started(started) => News::Started(started),
        Line::Ended(ended) => News::Ended(ended),
    })
}

fn create(folder: &RunFolder, run_id: &str) -> io::Result<Lock> {
    fail::point("run.folder")?;
    os::files::create_private_folder(folder.path())?;
    fail::point("run.lock")?;
    match Lock::try_take(&folder.lock())? {
        Locked::Taken(lock) => {
            fail::point("run.name")?;
            std::fs::write(folder.lock(), run_id)?;
            Ok(lock)
        }
        Locked::Busy => Err(io::Error::other("a run of this number lives")),
    }
}

/// Nothing of the run lives any more, for sure. A lock that was removed or replaced says nothing about those that hold the
/// one of before: they are looked for, unless the shim has left its last record.
pub(crate) fn is_free(folder: &RunFolder) -> bool {
    match fail::point("run.is-free").and_then(|()| look_at_lock(folder)) {
        Ok(LockSays::Held) | Err(_) => false,
        Ok(LockSays::NoRun) => true,
        Ok(LockSays::Free) => folder.exit().exists() || !lives(folder).unwrap_or(false),
        Ok(LockSays::Nothing) => folder.exit().exists() || lives(folder).is_ok_and(|lives| !lives),
    }
}

/// What there is to learn from the lock alone.
enum LockSays {
    Held,
    Free,
    /// It is none of ours.
    Nothing,
    /// The folder is gone: that is for the operator to decide.
    NoRun,
}

/// Never makes the file that it looks for.
fn look_at_lock(folder: &RunFolder) -> io::Result<LockSays> {
    let lock = folder.lock();
    match std::fs::symlink_metadata(&lock) {
        Ok(meta) if meta.is_file() => Ok(match Lock::try_take(&lock)? {
            Locked::Busy => LockSays::Held,
            Locked::Taken(_) if meta.len() > 0 => LockSays::Free,
            Locked::Taken(_) => LockSays::Nothing,
        }),
        Ok(_) => Ok(LockSays::Nothing),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(if folder.path().try_exists()? { LockSays::Nothing } else { LockSays::NoRun })
        }
        Err(error) => Err(error),
    }
}

/// Whether anything of the run is to be seen, without regard to its lock.
fn lives(folder: &RunFolder) -> io::Result<bool> {
    fail::point("run.lives")?;
    let started: Option<Started> = read(&folder.started())?;
    let here = started.filter(|started| {
        started.boot_id == os::clock::boot_id() && [0, os::process::pid_namespace()].contains(&started.pid_namespace)
    });
    for process in here.iter().flat_map(|started| [started.shim, started.worker]) {
        let is_there = Pidfd::open(identity(process))?.is_some();
        if is_there && os::proc::stat(os::proc::root(), process.pid).is_ok_and(|stat| stat.state != 'Z') {
            return Ok(true);
        }
    }
    Ok(!left_of(folder, &run_id(folder)?)?.is_empty())
}

/// The unique name of a run: its lock's content, or where that is lost, what its record says; empty if neither does.
///
/// # Errors
/// As of [`record`].
pub(crate) fn run_id(folder: &RunFolder) -> io::Result<String> {
    let named = seal::read(&folder.lock()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match named.filter(|name| !name.is_empty()) {
        Some(name) => Ok(name),
        None => Ok(read::<Started>(&folder.started())?.map(|started| started.run_id).unwrap_or_default()),
    }
}

/// The lock is there, and nobody holds it.
pub(crate) fn lock_is_free(folder: &RunFolder) -> bool {
    matches!(look_at_lock(folder), Ok(LockSays::Free))
}

/// A record of the shim; none, if it is missing or no record.
///
/// # Errors
/// As of [`record`].
pub(crate) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    record(path).map(Record::known)
}

/// The same; what is missing, or can't be read, is garbled.
///
/// # Errors
/// For want of descriptors or memory: then it may well be there.
pub(crate) fn record<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Record<T>> {
    match fail::point_at("record.read", path).and_then(|()| seal::read(path)) {
        Ok(bytes) => Ok(wire::run::decode(&bytes)),
        Err(error) if matches!(by_errno(error.raw_os_error().unwrap_or(0)), StartFailure::Resources(_)) => Err(error),
        Err(_) => Ok(Record::Garbled),
    }
}

/// Give records of the newest run that are none another name: for the reader they were missing before. Those of a later
/// version are left as they are.
pub(crate) fn set_garbled_aside(home: &Home) -> Vec<Aside> {
    let newest = numbers(home).ok().and_then(|numbers| numbers.first().copied());
    let Some(folder) = newest.map(|number| home.run(number)) else { return Vec::new() };
    let is_garbled = |path: &Path, record: fn(&[u8]) -> bool| match seal::read(path) {
        Ok(bytes) => record(&bytes),
        // No file at all, or one that none of ours is as long as.
        Err(error) => error.kind() == io::ErrorKind::Other,
    };
    let started = |bytes: &[u8]| wire::run::decode::<Started>(bytes) == Record::Garbled;
    let ended = |bytes: &[u8]| wire::run::decode::<Ended>(bytes) == Record::Garbled;
    let records = [(folder.started(), started as fn(&[u8]) -> bool), (folder.exit(), ended)];
    let garbled = records.into_iter().filter(|(path, record)| is_garbled(path, *record));
    garbled.map(|(path, _)| seal::set_aside(&path, "it is damaged".to_owned())).collect()
}

pub(crate) fn identity(process: Process) -> Identity {
    Identity { pid: process.pid, start_ticks: process.start_ticks }
}

/// No home begins so many runs; and it is a number that JSON can tell everybody.
const LARGEST_NUMBER: u64 = 1 << 53;

/// As a run's folder is called; one of ours or not.
fn number_of(entry: &std::fs::DirEntry) -> Option<u64> {
    let name = entry.file_name();
    let number: u64 = name.to_str()?.parse().ok()?;
    (number.to_string() == name.to_str()?).then_some(number)
}

fn is_run(entry: &std::fs::DirEntry) -> bool {
    number_of(entry).is_some_and(|number| (1..LARGEST_NUMBER).contains(&number))
        && entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// Give what is in the place of a run and is none another name: a run of that number would otherwise find no room.
pub(crate) fn set_foreign_aside(home: &Home) -> Vec<Aside> {
    let entries = std::fs::read_dir(home.runs()).into_iter().flatten().flatten();
    let foreign = entries.filter(|entry| number_of(entry).is_some() && !is_run(entry));
    foreign.map(|entry| seal::set_aside(&entry.path(), "it is no run's folder".to_owned())).collect()
}

/// The numbers of the runs that have a folder, newest first.
///
/// # Errors
/// If they can't be listed: one of them may live.
pub(crate) fn numbers(home: &Home) -> io::Result<Vec<u64>> {
    let entries = match fail::point("runs.list").and_then(|()| std::fs::read_dir(home.runs())) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut numbers: Vec<u64> = entries.iter().filter_map(|entry| number_of(entry).filter(|_| is_run(entry))).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

/// Remove the folders of old runs, but for the newest `keep`.
pub(crate) fn prune(home: &Home, keep: usize) {
    // It is tried again with every end of a run.
    for number in numbers(home).unwrap_or_default().into_iter().skip(keep) {
        let folder = home.run(number);
        if is_free(&folder) && fail::point("runs.prune").is_ok() {
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

/// How a run ended that its shim has told of.
pub(crate) fn exit_of(ended: &Ended) -> Exit {
    if ended.out_of_memory { Exit::OutOfMemory } else { ended.exit.map_or(Exit::Unseen, exit) }
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

#[cfg(test)]
mod tests {
    use os::output::Bounds;
    use os::spawn::Program;

    use super::*;
    use crate::containment::Containment;

    fn prepared(home: &Home, run: u64) -> Prepared {
        let plan = Plan {
            run,
            run_id: format!("{run}-x"),
            boot_id: String::new(),
            folder: home.run(run),
            program: Program { argv: Vec::new(), env: Vec::new(), env_remove: Vec::new() },
            working_dir: home.root().to_owned(),
            output: Bounds { path: home.output_log(), max_file_bytes: 1, max_files: 1 },
            stop_timeout_ms: 1,
            notify: home.notify_socket(),
            containment: Containment::Subreaper,
        };
        Prepared::new(home, plan).unwrap()
    }

    #[test]
    fn a_prepared_run_is_no_run_until_it_begins_and_then_has_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned());
        let run = prepared(&home, 7);
        assert_eq!(numbers(&home).unwrap(), [] as [u64; 0], "a daemon that comes now has nothing to find");
        run.take_place().unwrap();
        assert_eq!(numbers(&home).unwrap(), [7]);
        assert_eq!(std::fs::read_to_string(home.run(7).lock()).unwrap(), "7-x");
        assert!(!is_free(&home.run(7)));
        drop(run);
        assert!(is_free(&home.run(7)));
    }

    #[test]
    fn a_prepared_run_takes_the_place_of_a_dead_one_and_never_of_a_live_one() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned());
        let live = prepared(&home, 7);
        live.take_place().unwrap();
        std::fs::write(home.run(7).exit(), "old").unwrap();
        assert!(prepared(&home, 7).take_place().is_err());
        drop(live);
        prepared(&home, 7).take_place().unwrap();
        assert!(!home.run(7).exit().exists());
    }
}
