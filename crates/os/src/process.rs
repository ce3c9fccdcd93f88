//! One process, named so that a reused pid can't be mistaken for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};

use crate::proc;

/// A process of this boot: its pid and when it began. Two processes with one pid differ in the start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Its number, which the kernel uses again after its end.
    pub pid: u32,
    /// Clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

/// The signals that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Send {
    /// End, please.
    Term,
    /// End.
    Kill,
    /// Stand still.
    Stop,
    /// Go on.
    Continue,
    /// Between daemon and shim: end the tree at once.
    User1,
}

impl From<Send> for Signal {
    fn from(send: Send) -> Self {
        match send {
            Send::Term => Self::TERM,
            Send::Kill => Self::KILL,
            Send::Stop => Self::STOP,
            Send::Continue => Self::CONT,
            Send::User1 => Self::USR1,
        }
    }
}

/// This process.
#[must_use]
pub fn own_pid() -> u32 {
    number(rustix::process::getpid())
}

/// This process, by pid and start time; the start time is 0 where `/proc` is hidden.
#[must_use]
pub fn own_identity() -> Identity {
    let pid = own_pid();
    Identity { pid, start_ticks: proc::stat(proc::root(), pid).map_or(0, |stat| stat.start_ticks) }
}

/// The namespace that this process's pids are of, by its inode; 0 where `/proc` is hidden. See pid_namespaces(7).
#[must_use]
pub fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino())
}

/// How long ago a process began, the time that the machine was suspended included.
#[must_use]
pub fn age_ms(process: Identity) -> u64 {
    let began_ms = process.start_ticks.saturating_mul(1_000) / rustix::param::clock_ticks_per_second().max(1);
    crate::clock::boottime_ms().saturating_sub(began_ms)
}

/// What a process that began now would have as its start time.
#[must_use]
pub fn ticks_since_boot() -> u64 {
    crate::clock::boottime_ms().saturating_mul(rustix::param::clock_ticks_per_second()) / 1_000
}

/// The user whose rights this process has.
#[must_use]
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What that user is called, by passwd(5); another directory of users is not asked.
#[must_use]
pub fn user_name() -> Option<String> {
    name_in(&std::fs::read("/etc/passwd").ok()?, effective_uid())
}

/// Of lines `name:password:uid:…`.
fn name_in(passwd: &[u8], uid: u32) -> Option<String> {
    let is_user =
        |line: &&[u8]| line.split(|byte| *byte == b':').nth(2).is_some_and(|text| text == uid.to_string().as_bytes());
    let line = passwd.split(|byte| *byte == b'\n').find(is_user)?;
    let name = String::from_utf8(line.split(|byte| *byte == b':').next()?.to_vec()).ok()?;
    Some(name).filter(|name| !name.is_empty())
}

/// So many descriptors this process may have open at once.
#[must_use]
pub fn most_descriptors() -> u64 {
    // None: without a limit.
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A process that ended, as its parent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Which.
    pub pid: u32,
    /// Its exit status, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it, otherwise.
    pub signal: Option<i32>,
}

/// What there is to reap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reap {
    /// One child ended.
    Ended(Reaped),
    /// There are children; none has ended.
    NoneEnded,
    /// There is no child.
    NoChild,
}

/// Reap one ended child without waiting.
///
/// # Errors
/// As of waitpid, but for "no child".
pub fn reap_any() -> io::Result<Reap> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                return Ok(Reap::Ended(Reaped {
                    pid: number(pid),
                    code: status.exit_status(),
                    signal: status.terminating_signal(),
                }));
            }
            Ok(None) => return Ok(Reap::NoneEnded),
            Err(rustix::io::Errno::CHILD) => return Ok(Reap::NoChild),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A handle that stays with its process: signals through it never reach another one, and it is readable when the
/// process has ended.
#[derive(Debug)]
pub struct Pidfd {
    fd: OwnedFd,
}

impl Pidfd {
    /// The process with this identity; `None` if there is none (any more).
    ///
    /// # Errors
    /// As of `pidfd_open`, but for "no such process".
    pub fn open(identity: Identity) -> io::Result<Option<Self>> {
        let Some(pidfd) = Self::open_child(identity.pid)? else { return Ok(None) };
        // Compare start times after the open: the pid may have been used again since the identity was taken.
        let same = proc::stat(proc::root(), identity.pid).is_ok_and(|stat| stat.start_ticks == identity.start_ticks);
        Ok(same.then_some(pidfd))
    }

    /// Whoever has this pid now: for a child of this process that it has not reaped yet, whose pid can't have been used
    /// again, or where the caller finds out afterwards who it is.
    ///
    /// # Errors
    /// As of `pidfd_open`, but for "no such process".
    pub fn open_child(pid: u32) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(Self { fd })),
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Send a signal; `false` if the process has ended.
    ///
    /// # Errors
    /// As of `pidfd_send_signal`: EPERM, for a process that has changed its user.
    pub fn send(&self, signal: Send) -> io::Result<bool> {
        match pidfd_send_signal(&self.fd, signal.into()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_pid_is_not_taken_for_the_process() {
        let own = own_identity();
        assert!(Pidfd::open(own).unwrap().is_some());
        assert!(Pidfd::open(Identity { start_ticks: own.start_ticks + 1, ..own }).unwrap().is_none());
    }

    #[test]
    fn a_user_is_called_as_its_line_says() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/bash\n# 7:x:7\n:x:8:8\nada:x:1000:100::/home/ada:\nother:x:1000:1\nshort\n";
        for (uid, name) in [(0, Some("root")), (1000, Some("ada")), (100, None), (8, None), (1, None)] {
            assert_eq!(name_in(passwd, uid).as_deref(), name, "{uid}");
        }
    }
}
