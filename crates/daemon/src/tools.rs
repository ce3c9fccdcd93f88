//! Whether the worker's tools work: CPU time and input/output of what is below the worker.
//!
//! A build that says nothing for 40 minutes is alive; a worker that spins by itself is not, so its own CPU time does not
//! count. Only looked at when a worker that sends no heartbeats has been silent for long.

use std::collections::BTreeMap;

use os::process::Identity;
use policy::supervisor::Sign;

/// Less than this much of one core is what an idle runtime's timers use.
const WORKING_PERCENT: u64 = 5;

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
        let works = used.iter().any(|(identity, now)| {
            // What was not there yet has done all it did since.
            let then = before.get(identity).copied().unwrap_or_default();
            !before.is_empty() && is_work(then, *now, passed_ms)
        });
        *self = Self { worker, at_ms: now_ms, used };
        if works { Sign::Progress } else { Sign::Nothing }
    }
}

fn is_work(then: Used, now: Used, passed_ms: u64) -> bool {
    let cpu_ms = now.cpu_ms.saturating_sub(then.cpu_ms);
    let io_bytes = now.io_bytes.saturating_sub(then.io_bytes);
    cpu_ms.saturating_mul(100) >= passed_ms.saturating_mul(WORKING_PERCENT)
        || io_bytes.saturating_mul(1_000) >= passed_ms.saturating_mul(WORKING_BYTES_PER_S)
}

fn used_below(worker: u32) -> BTreeMap<Identity, Used> {
    let root = os::proc::root();
    let tick_ms = 1_000 / os::proc::ticks_per_second().max(1);
    let tree = os::proc::descendants(root, worker).unwrap_or_default();
    tree.into_iter()
        .map(|(identity, stat)| {
            let io_bytes = os::proc::io_bytes(root, identity.pid).unwrap_or(0);
            // A build is many short processes: seldom is one of them there at two looks.
            let ticks = stat.cpu_ticks.saturating_add(stat.reaped_cpu_ticks);
            (identity, Used { cpu_ms: ticks.saturating_mul(tick_ms), io_bytes })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_work() {
        let used = |cpu_ms, io_bytes| Used { cpu_ms, io_bytes };
        let cases = [
            (used(0, 0), false),
            (used(40, 0), false),
            (used(50, 0), true),
            (used(0, 60_000), false),
            (used(0, 70_000), true),
        ];
        for (now, expect) in cases {
            assert_eq!(is_work(Used::default(), now, 1_000), expect, "{now:?} within a second");
        }
    }
}
