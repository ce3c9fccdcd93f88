//! Ending whole process trees without cgroups: for the process that adopts all orphans below it (a subreaper).
//!
//! Measured: `killpg` alone leaves the grandchild that called setsid alive every time, and each Bash call of Claude Code
//! is such a grandchild.

use std::io;

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
