//! Whether the worker's tools work: CPU time and input/output of what is below the worker.
//!
//! A build that says nothing for 40 minutes is alive; a worker that spins by itself is not, so its own CPU time does not
//! count, only that of its children. They count together: a build is many short processes, seldom one of them there at two looks,
//! and what each has used is its parent's when that has waited for it. Only looked at when a worker that sends no heartbeats has been silent for long.

use std::collections::BTreeMap;

use os::process::Identity;
use policy::supervisor::Sign;

/// Less than this much of one core is what the timers of idle runtimes use together, or a shell that sleeps between two lines.
const WORKING_PERCENT: u64 = 10;

/// Less than this is what idle programs chat.
const WORKING_BYTES_PER_S: u64 = 64 << 10;

/// Two looks must be so far apart to be compared.
const SHORTEST_MS: u64 = 100;

/// The last look: what each process had used by then.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    worker: u32,
    at_ms: u64,
    used: BTreeMap<Identity, Used>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    cpu_ms: u64,
    io_bytes: u64,
}

impl Tools {
    /// Compare with the last look. The first one of a run finds nothing.
    pub(crate) fn look(&mut self, worker: u32, now_ms: u64) -> Sign {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        if self.worker == worker && passed_ms < SHORTEST_MS {
            return Sign::Nothing;
        }
        let used = used_below(worker);
        let before = if self.worker == worker { std::mem::take(&mut self.used) } else { BTreeMap::new() };
        let works = !before.is_empty() && is_work(done(&before, &used), passed_ms);
        *self = Self { worker, at_ms: now_ms, used };
        if works { Sign::Progress } else { Sign::Nothing }
    }
}

/// What all of them have done since the last look. What was not there then has done all it did since. What ended leaves all its CPU time
/// to its parent, what was counted before included: the end of a tool is a sign of life, too.
fn done(before: &BTreeMap<Identity, Used>, now: &BTreeMap<Identity, Used>) -> Used {
    now.iter().fold(Used::default(), |done, (identity, now)| {
        let then = before.get(identity).copied().unwrap_or_default();
        Used {
            cpu_ms: done.cpu_ms.saturating_add(now.cpu_ms.saturating_sub(then.cpu_ms)),
            io_bytes: done.io_bytes.saturating_add(now.io_bytes.saturating_sub(then.io_bytes)),
        }
    })
}

fn is_work(done: Used, passed_ms: u64) -> bool {
    done.cpu_ms.saturating_mul(100) >= passed_ms.saturating_mul(WORKING_PERCENT)
        || done.io_bytes.saturating_mul(1_000) >= passed_ms.saturating_mul(WORKING_BYTES_PER_S)
}

fn used_below(worker: u32) -> BTreeMap<Identity, Used> {
    let root = os::proc::root();
    let tick_ms = 1_000 / os::proc::ticks_per_second().max(1);
    let tree = os::proc::descendants(root, worker).unwrap_or_default();
    let below = tree.into_iter().map(|(identity, stat)| {
        let io_bytes = os::proc::io_bytes(root, identity.pid).unwrap_or(0);
        let ticks = stat.cpu_ticks.saturating_add(stat.reaped_cpu_ticks);
        (identity, Used { cpu_ms: ticks.saturating_mul(tick_ms), io_bytes })
    });
    // Of the worker only what its ended children have left to it.
    let worker = os::proc::stat(root, worker).ok().map(|stat| {
        let identity = Identity { pid: worker, start_ticks: stat.start_ticks };
        (identity, Used { cpu_ms: stat.reaped_cpu_ticks.saturating_mul(tick_ms), io_bytes: 0 })
    });
    below.chain(worker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(cpu_ms: u64, io_bytes: u64) -> Used {
        Used { cpu_ms, io_bytes }
    }

    #[test]
    fn what_is_work() {
        let cases = [
            (used(0, 0), false),
            (used(90, 0), false),
            (used(100, 0), true),
            (used(0, 60_000), false),
            (used(0, 70_000), true),
        ];
        for (done, expect) in cases {
            assert_eq!(is_work(done, 1_000), expect, "{done:?} within a second");
        }
    }

    #[test]
    fn what_short_processes_did_counts_together() {
        let look = |all: &[(u32, Used)]| -> BTreeMap<Identity, Used> {
            all.iter().map(|&(pid, used)| (Identity { pid, start_ticks: 1 }, used)).collect()
        };
        let cases = [
            ("nothing", look(&[(1, used(10, 5))]), used(0, 0)),
            ("many did a little each", look(&[(1, used(10, 5)), (2, used(30, 7)), (3, used(30, 7))]), used(60, 14)),
            ("what ended left it to its parent", look(&[(1, used(70, 5))]), used(60, 0)),
        ];
        for (what, now, expect) in cases {
            let done = done(&look(&[(1, used(10, 5))]), &now);
            assert_eq!((done.cpu_ms, done.io_bytes), (expect.cpu_ms, expect.io_bytes), "{what}");
        }
    }

    /// Only the worker's own account tells of them.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "real children")]
    fn a_direct_child_that_came_and_went_between_two_looks_is_work() {
        let own = std::process::id();
        let cpu_ms =
            || used_below(own).iter().find(|(identity, _)| identity.pid == own).map_or(0, |(_, used)| used.cpu_ms);
        let before_ms = cpu_ms();
        let spin = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", spin]).status().unwrap().success());
        assert!(cpu_ms() > before_ms);
    }
}
