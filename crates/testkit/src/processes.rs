//! Finds and ends the processes that a test has started, whatever they did to get away.
//!
//! A process group or a parent is left with one call (`setsid`, a double fork); the environment given at exec is not. So
//! each test's processes carry an id in theirs, and `/proc/PID/environ` finds them. Zombies have no environment and are
//! not seen: they hold nothing but a pid until their parent collects them.

use std::fs;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Names the home that a process belongs to.
pub(crate) const ID_VARIABLE: &str = "TESTKIT_ID";
/// Names a whole run of tests; ids made within it begin with it.
pub const SCOPE_VARIABLE: &str = "TESTKIT_SCOPE";

/// More than an exec takes to give a process its new environment.
const EXEC_TIME: Duration = Duration::from_millis(3);

/// A running process of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub command: String,
}

/// An id that no other test has, on this machine since it was started.
pub fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let scope = std::env::var(SCOPE_VARIABLE).unwrap_or_else(|_| "t".to_owned());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    format!("{scope}.{}-{count}-{:x}", std::process::id(), now.tv_sec * 1_000_000_000 + now.tv_nsec)
}

/// Every running process that carries the id, or one made within it.
pub fn of(id: &str) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| carries(*pid, id))
        .map(|pid| Process { pid, command: command_of(pid) })
        .collect()
}

/// Kills every process that carries the id until none is left. Returns what was left when the time was over.
pub fn end_all(id: &str, longest: Duration) -> Vec<Process> {
    let started = Instant::now();
    let mut seen_none_before = false;
    loop {
        let found = of(id);
        // Twice in a row: in the middle of exec(2) a process has no environment.
        if (found.is_empty() && seen_none_before) || started.elapsed() > longest {
            return found;
        }
        seen_none_before = found.is_empty();
        if seen_none_before {
            std::thread::park_timeout(EXEC_TIME);
        }
        let killed: Vec<_> = found.iter().filter_map(|process| kill_carrier(process.pid, id)).collect();
        for pidfd in killed {
            wait_for_exit(&pidfd, Duration::from_secs(1));
        }
    }
}

/// Waits until the process behind the pidfd has exited; says whether it has.
pub(crate) fn wait_for_exit(pidfd: impl AsFd, longest: Duration) -> bool {
    let longest = Timespec::try_from(longest).expect("a deadline within this millennium");
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&longest)), Ok(1..))
}

/// SIGKILL, and its end awaited, if it still runs and carries the id.
///
/// # Panics
/// When it still runs after ten seconds.
pub(crate) fn kill(process: &Process, id: &str) {
    if let Some(pidfd) = kill_carrier(process.pid, id) {
        assert!(wait_for_exit(&pidfd, Duration::from_secs(10)), "killed, but still runs: {process:?}");
    }
}

/// A signal to a process that still runs and carries the id; says whether it did.
pub(crate) fn signal(process: &Process, id: &str, signal: Signal) -> bool {
    signal_carrier(process.pid, id, signal).is_some()
}

fn kill_carrier(pid: i32, id: &str) -> Option<std::os::fd::OwnedFd> {
    signal_carrier(pid, id, Signal::KILL)
}

fn signal_carrier(pid: i32, id: &str, signal: Signal) -> Option<std::os::fd::OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Look again now that the pidfd pins the process: the pid may have been reused since the scan.
    if !carries(pid, id) {
        return None;
    }
    pidfd_send_signal(&pidfd, signal).ok()?;
    Some(pidfd)
}

fn carries(pid: i32, id: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    environment.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok()).any(|entry| {
        let Some((ID_VARIABLE | SCOPE_VARIABLE, value)) = entry.split_once('=') else { return false };
        value.strip_prefix(id).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn command_of(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
}
