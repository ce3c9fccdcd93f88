//! The demo's numbers: what is configured, how long anything is waited for, and how large the leak is.

use os::memory::Gauge;
use policy::supervisor::MemoryReading;

/// Lines of the job: one for each act.
pub(super) const STEPS: u32 = 6;
/// The restart delay of the demo's settings, the same for every failure.
pub(super) const DELAY_MS: u64 = 500;
/// From SIGTERM to SIGKILL.
pub(super) const STOP_TIMEOUT_MS: u64 = 2_000;

const MIB: u64 = 1 << 20;

/// The leak and the thresholds around it, for the memory that this machine has at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeakPlan {
    /// With less than this available, the daemon acts.
    pub(super) min_available_bytes: u64,
    /// With less than this, it would restart the worker. Out of the leak's reach.
    pub(super) critical_bytes: u64,
    /// Only a process larger than this is ended.
    pub(super) victim_from_bytes: u64,
    /// The leak stops growing here, whether or not anybody does something about it.
    pub(super) cap_bytes: u64,
    /// How fast it grows.
    pub(super) bytes_per_second: u64,
}

impl LeakPlan {
    /// A sixteenth of what is available, at most 192 MB, has to leak before the daemon acts; and it may become twice as
    /// large, because others free memory meanwhile. So at most an eighth of the available memory is ever taken.
    pub(super) fn new(reading: MemoryReading) -> Self {
        let room = (reading.available_bytes / 16).clamp(8 * MIB, 192 * MIB);
        let min_available_bytes = reading.available_bytes.saturating_sub(room);
        Self {
            min_available_bytes,
            critical_bytes: min_available_bytes / 4,
            victim_from_bytes: room / 2,
            cap_bytes: room.saturating_mul(2),
            bytes_per_second: room.saturating_mul(3) / 2,
        }
    }

    /// Until there is a leak: an agent that takes some memory for itself is none.
    pub(super) fn none(reading: MemoryReading) -> Self {
        let min_available_bytes = reading.available_bytes / 4;
        Self { min_available_bytes, critical_bytes: min_available_bytes / 2, ..Self::new(reading) }
    }

    /// For a leak that is as large as it may become, while others freed memory: the threshold goes after them.
    pub(super) fn with_less_left(self, reading: MemoryReading) -> Self {
        Self { min_available_bytes: reading.available_bytes.saturating_add(self.cap_bytes / 2), ..self }
    }

    /// Whether the leak still crosses the threshold, and only the leak does.
    pub(super) fn fits(&self, reading: MemoryReading) -> bool {
        let least = self.min_available_bytes.saturating_add(self.cap_bytes / 8);
        let most = self.min_available_bytes.saturating_add(self.cap_bytes * 3 / 4);
        (least..most).contains(&reading.available_bytes)
    }
}

/// As the daemon reads it.
pub(super) fn memory() -> std::io::Result<MemoryReading> {
    Gauge::new(os::proc::root(), os::memory::cgroup_root()).read(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leak_crosses_the_low_threshold_and_nothing_else() {
        for available_bytes in [256 * MIB, 1 << 30, 16 << 30, 1 << 40] {
            let reading = MemoryReading { available_bytes, total_bytes: available_bytes * 2, ..Default::default() };
            let plan = LeakPlan::new(reading);
            assert!(available_bytes - plan.cap_bytes < plan.min_available_bytes, "{plan:?}");
            assert!(available_bytes - plan.cap_bytes > plan.critical_bytes, "{plan:?}");
            assert!(plan.cap_bytes <= available_bytes / 8 && plan.cap_bytes <= 384 * MIB, "{plan:?}");
            assert!(plan.fits(reading), "{plan:?}");
            assert!(plan.victim_from_bytes < available_bytes - plan.min_available_bytes, "{plan:?}");
        }
    }
}
