//! Ending whole process trees without cgroups: for the process that adopts all orphans below it (a subreaper).
//!
//! Measured: `killpg` alone leaves the grandchild that called setsid alive every time, and each Bash call of Claude Code
//! is such a grandchild.

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
/// not count. proc_pid_fdinfo(5) tells the two apart.
///
/// # Errors
/// If `/proc` or the file can't be read.
pub fn lock_holders(path: &Path) -> io::Result<Vec<Identity>> {
    let root = proc::root();
    let own = crate::process::own_pid();
    let meta = std::fs::metadata(path)?;
    let mut found = Vec::new();
    for pid in proc::pids(root)? {
        let Ok(stat) = proc::stat(root, pid) else { continue };
        if pid != own && stat.state != 'Z' && holds_lock(&root.join(pid.to_string()), &meta) {
            found.push(Identity { pid, start_ticks: stat.start_ticks });
        }
    }
    Ok(found)
}

fn holds_lock(process: &Path, file: &Metadata) -> bool {
    // Not ours to look into: not of ours.
    let descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors.into_iter().any(|descriptor| {
        let same = |meta: Metadata| (meta.dev(), meta.ino()) == (file.dev(), file.ino());
        std::fs::metadata(descriptor.path()).is_ok_and(same)
            && std::fs::read_to_string(process.join("fdinfo").join(descriptor.file_name()))
                .is_ok_and(|info| info.lines().any(|line| line.starts_with("lock:") && line.contains(" FLOCK ")))
    })
}

/// Kill these, and every process below them. For trees whose subreaper is gone.
pub fn kill_each(identities: &[Identity]) -> usize {
    let mut still: Vec<Identity> = Vec::new();
    loop {
        let mut news = 0;
        for &identity in identities {
            let below = proc::descendants(proc::root(), identity.pid).unwrap_or_default();
            for one in std::iter::once(identity).chain(below.into_iter().map(|(identity, _)| identity)) {
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
        let holders: Vec<u32> = lock_holders(&path).unwrap().into_iter().map(|identity| identity.pid).collect();
        for child in [&mut reader, &mut heir] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(holders.contains(&heir.id()) && !holders.contains(&reader.id()), "{holders:?}");
        assert!(lock_holders(&path).unwrap().iter().all(|identity| identity.pid != heir.id()));
    }
}
