//! Ending whole process trees without cgroups: for the process that adopts all orphans below it (a subreaper).
//!
//! Measured: `killpg` alone leaves the grandchild that called setsid alive every time, and each Bash call of Claude Code
//! is such a grandchild.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::proc;
use crate::process::{Identity, Pidfd, Send};

/// Ask every process below this one to end, the direct child `first` before the others. Says how many were asked.
pub fn terminate(first: u32) -> usize {
    let Ok(found) = proc::descendants(proc::root(), crate::process::own_pid()) else { return 0 };
    let (leader, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|(identity, _)| identity.pid == first);
    let mut asked = 0;
    for (identity, _) in leader.into_iter().chain(others) {
        if send(identity, Send::Term) {
            // What was stopped receives TERM only when it goes on.
            send(identity, Send::Continue);
            asked += 1;
        }
    }
    asked
}

/// Kill every process below this one. To catch those that fork faster than they are found, all are made to stand still
/// first, until no new one turns up. Says how many were killed; the caller reaps them, and calls again while there are
/// any.
///
/// # Errors
/// If `/proc` can't be read.
pub fn kill_below() -> io::Result<usize> {
    let own = crate::process::own_pid();
    let mut still: Vec<Identity> = Vec::new();
    loop {
        let mut news = 0;
        for (identity, stat) in proc::descendants(proc::root(), own)? {
            if stat.state == 'Z' || still.contains(&identity) {
                continue;
            }
            news += 1;
            send(identity, Send::Stop);
            still.push(identity);
        }
        if news == 0 {
            break;
        }
    }
    let killed = still.into_iter().filter(|&identity| send(identity, Send::Kill)).count();
    Ok(killed)
}

fn send(identity: Identity, signal: Send) -> bool {
    match Pidfd::open(identity) {
        Ok(Some(pidfd)) => pidfd.send(signal).unwrap_or(false),
        Ok(None) | Err(_) => false,
    }
}

/// Signal the process group that `leader` leads; `false` if nobody is in it any more.
///
/// # Errors
/// As of kill, but for "no such process".
pub fn signal_group(leader: u32, signal: Send) -> io::Result<bool> {
    let Some(group) = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw) else { return Ok(false) };
    match rustix::process::kill_process_group(group, signal.into()) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Who is left below this process, ended but unreaped ones aside: pid, name and state of each.
#[must_use]
pub fn left_below() -> Vec<(u32, String, char)> {
    let found = proc::descendants(proc::root(), crate::process::own_pid()).unwrap_or_default();
    found.into_iter().filter(|(_, stat)| stat.state != 'Z').map(|(id, stat)| (id.pid, stat.name, stat.state)).collect()
}

/// The children of this process that began at or after that time (in clock ticks since boot) and have not ended, each with
/// its name.
///
/// # Errors
/// If `/proc` can't be read.
pub fn children_since(start_ticks: u64) -> io::Result<Vec<(Identity, String)>> {
    let own = crate::process::own_pid();
    let found = proc::descendants(proc::root(), own)?;
    let is_one = |stat: &proc::Stat| stat.parent == own && stat.start_ticks >= start_ticks && stat.state != 'Z';
    Ok(found.into_iter().filter(|(_, stat)| is_one(stat)).map(|(identity, stat)| (identity, stat.name)).collect())
}

/// The processes that were started with this environment entry, wherever they hang in the process tree.
///
/// # Errors
/// If `/proc` can't be read.
pub fn started_with(entry: &[u8]) -> io::Result<Vec<Identity>> {
    let root = proc::root();
    let own = crate::process::own_pid();
    let mut found = Vec::new();
    for pid in proc::pids(root)? {
        if pid == own {
            continue;
        }
        // Start time first: if the pid is used again in between, the identity is of a process that is gone.
        let Ok(stat) = proc::stat(root, pid) else { continue };
        if stat.state != 'Z' && proc::was_started_with(root, pid, entry).unwrap_or(false) {
            found.push(Identity { pid, start_ticks: stat.start_ticks });
        }
    }
    Ok(found)
}

/// The processes that hold the `flock` of this file, because they have inherited it: whoever only has the file open does
/// not count. proc_pid_fdinfo(5) tells the two apart. A file of this path that was removed counts, too: whoever holds its
/// lock holds it on, and proc_pid_fd(5) says what it was called.
///
/// # Errors
/// If `/proc` or the file can't be read; a file that is not there is no error.
pub fn lock_holders(path: &Path) -> io::Result<Vec<Identity>> {
    let root = proc::root();
    let own = crate::process::own_pid();
    let file = match std::fs::symlink_metadata(path) {
        Ok(meta) => Some((meta.dev(), meta.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let removed = name_once_removed(path);
    let mut found = Vec::new();
    for pid in proc::pids(root)? {
        let Ok(stat) = proc::stat(root, pid) else { continue };
        if pid != own && stat.state != 'Z' && holds_lock(&root.join(pid.to_string()), file, &removed) {
            found.push(Identity { pid, start_ticks: stat.start_ticks });
        }
    }
    Ok(found)
}

/// Whether any process that we may look into has this file open.
///
/// # Errors
/// If `/proc` or the file can't be read.
pub fn is_open(path: &Path) -> io::Result<bool> {
    let root = proc::root();
    let file = std::fs::metadata(path)?;
    let same = |meta: Metadata| (meta.dev(), meta.ino()) == (file.dev(), file.ino());
    Ok(proc::pids(root)?.into_iter().any(|pid| {
        let descriptors = std::fs::read_dir(root.join(pid.to_string()).join("fd")).into_iter().flatten().flatten();
        descriptors.into_iter().any(|descriptor| std::fs::metadata(descriptor.path()).is_ok_and(same))
    }))
}

/// What the link to an open file says when the file at this path was removed.
fn name_once_removed(path: &Path) -> OsString {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    let mut name = match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name).into_os_string(),
        _ => path.as_os_str().to_owned(),
    };
    name.push(" (deleted)");
    name
}

fn holds_lock(process: &Path, file: Option<(u64, u64)>, removed: &OsStr) -> bool {
    // Not ours to look into: not of ours.
    let descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors.into_iter().any(|descriptor| {
        let same = |meta: Metadata| Some((meta.dev(), meta.ino())) == file;
        (std::fs::metadata(descriptor.path()).is_ok_and(same)
            || std::fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == removed))
            && std::fs::read_to_string(process.join("fdinfo").join(descriptor.file_name()))
                .is_ok_and(|info| info.lines().any(|line| line.starts_with("lock:") && line.contains(" FLOCK ")))
    })
}

/// The processes below this one; none if it has ended.
#[must_use]
pub fn below(identity: Identity) -> Vec<Identity> {
    let found = proc::descendants(proc::root(), identity.pid).unwrap_or_default();
    // After the look: if it is still there, it was all the time, and nobody else had its pid.
    if !matches!(Pidfd::open(identity), Ok(Some(_))) {
        return Vec::new();
    }
    found.into_iter().map(|(identity, _)| identity).collect()
}

/// Kill these, and every process below them. For trees whose subreaper is gone, and for parts of a tree.
pub fn kill_each(identities: &[Identity]) -> usize {
    let mut still: Vec<Identity> = Vec::new();
    loop {
        let mut news = 0;
        for &identity in identities {
            for one in std::iter::once(identity).chain(below(identity)) {
                if !still.contains(&one) {
                    news += usize::from(send(one, Send::Stop));
                    still.push(one);
                }
            }
        }
        if news == 0 {
            break;
        }
    }
    still.into_iter().filter(|&identity| send(identity, Send::Kill)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Lock, Locked};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "children that inherit what a test lets them")]
    fn who_inherited_a_lock_holds_it_and_who_reads_the_file_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let Locked::Taken(lock) = Lock::try_take(&path).unwrap() else { panic!("nobody else is here") };
        let mut reader =
            std::process::Command::new("sleep").arg("60").stdin(std::fs::File::open(&path).unwrap()).spawn().unwrap();
        lock.inherit_on_exec().unwrap();
        let mut heir = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(lock);
        // Another test's child may have inherited it, too.
        let pids = |path| lock_holders(path).unwrap().into_iter().map(|identity| identity.pid).collect::<Vec<u32>>();
        let holders = pids(&path);
        std::fs::remove_file(&path).unwrap();
        let holders_of_removed = pids(&path);
        std::fs::write(&path, "").unwrap();
        let holders_of_replaced = pids(&path);
        for child in [&mut reader, &mut heir] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(holders.contains(&heir.id()) && !holders.contains(&reader.id()), "{holders:?}");
        assert!(holders_of_removed.contains(&heir.id()) && holders_of_replaced.contains(&heir.id()));
        assert!(lock_holders(&path).unwrap().iter().all(|identity| identity.pid != heir.id()));
    }

    /// A pid that was used again: what is below its new owner is nobody of ours.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "real children")]
    fn below_a_process_that_has_ended_nobody_is_killed() {
        let mut stranger = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let stat = |pid| proc::stat(proc::root(), pid).unwrap();
        let now = Identity { pid: stranger.id(), start_ticks: stat(stranger.id()).start_ticks };
        let child = loop {
            if let [child] = below(now)[..] {
                break child;
            }
            std::thread::yield_now();
        };
        let before = Identity { start_ticks: now.start_ticks - 1, ..now };
        assert_eq!((kill_each(&[before]), below(before).len()), (0, 0));
        assert!(Pidfd::open(child).unwrap().is_some() && stat(child.pid).state != 'Z');
        assert_eq!(kill_each(&[now]), 2);
        stranger.wait().unwrap();
    }
}
