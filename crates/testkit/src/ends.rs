//! When processes end, to the millisecond and however they are related: each has a pidfd, and the kernel tells.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::hostile::monotonic_ns;

/// Some processes, and when each of them ended.
#[derive(Debug, Default)]
pub struct Ends {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    pid: i32,
    pidfd: OwnedFd,
    ended_ns: Option<u64>,
}

impl Ends {
    /// Of those processes; one that is gone already is left out.
    pub fn of(pids: impl IntoIterator<Item = i32>) -> Self {
        let watch = |pid| {
            let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
            Some(Watched { pid, pidfd, ended_ns: None })
        };
        Self { watched: pids.into_iter().filter_map(watch).collect() }
    }

    /// Waits for the end of all. Returns those that still run when the time is over.
    pub fn wait(&mut self, longest: Duration) -> Vec<i32> {
        let until = Instant::now() + longest;
        loop {
            let mut open: Vec<&mut Watched> = self.watched.iter_mut().filter(|one| one.ended_ns.is_none()).collect();
            let left = until.saturating_duration_since(Instant::now());
            if open.is_empty() || left.is_zero() {
                return open.iter().map(|one| one.pid).collect();
            }
            let mut fds: Vec<PollFd<'_>> = open.iter().map(|one| PollFd::new(&one.pidfd, PollFlags::IN)).collect();
            let longest = Timespec::try_from(left).expect("a short while");
            if poll(&mut fds, Some(&longest)).is_err() {
                continue;
            }
            let now_ns = monotonic_ns();
            let ended: Vec<bool> = fds.iter().map(|fd| fd.revents().contains(PollFlags::IN)).collect();
            drop(fds);
            for (one, _) in open.iter_mut().zip(ended).filter(|(_, ended)| *ended) {
                one.ended_ns = Some(now_ns);
            }
        }
    }

    /// When this one ended (CLOCK_MONOTONIC); none while it runs, and for one that is not watched.
    pub fn at_ns(&self, pid: i32) -> Option<u64> {
        self.watched.iter().find(|one| one.pid == pid)?.ended_ns
    }

    /// When the last of them ended; none while one runs.
    pub fn last_ns(&self) -> Option<u64> {
        let all: Option<Vec<u64>> = self.watched.iter().map(|one| one.ended_ns).collect();
        all?.into_iter().max()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn each_end_has_its_time() {
        let start = || Command::new("sleep").arg("60").spawn().unwrap();
        let mut children = [start(), start()];
        let pids = children.each_ref().map(|child| i32::try_from(child.id()).unwrap());
        let mut ends = Ends::of(pids);
        children[0].kill().unwrap();
        assert_eq!(ends.wait(Duration::from_millis(200)), [pids[1]]);
        assert_eq!((ends.at_ns(pids[1]), ends.last_ns()), (None, None));
        children[1].kill().unwrap();
        assert!(ends.wait(Duration::from_secs(10)).is_empty());
        assert!(ends.at_ns(pids[0]) < ends.at_ns(pids[1]));
        assert_eq!(ends.last_ns(), ends.at_ns(pids[1]));
        children.iter_mut().for_each(|child| drop(child.wait()));
    }
}
