//! The three bands of available memory, and who is ended when it runs low.

use alloc::vec::Vec;

use super::Settings;

/// One look at memory: of the machine, or of the container where that is tighter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryReading {
    /// What could still be had without swapping.
    pub available_bytes: u64,
    /// All there is; 0: could not be read, and then nothing is done about memory.
    pub total_bytes: u64,
}

/// How tight memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Band {
    /// Enough.
    Normal,
    /// Below `min_available_bytes`.
    Low,
    /// Below `critical_threshold_bytes`.
    Critical,
}

/// What a look through the worker's tree found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// The processes that may be ended: by name, with their children's memory.
    pub candidates: Vec<Candidate>,
    /// The memory of the whole tree.
    pub tree_bytes: u64,
}

/// A process of the worker's own tree whose name is on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its pid; the shell keeps a pidfd for it, so that a reused pid can't be hit.
    pub pid: u32,
    /// Its proportional set size (PSS) with that of its descendants.
    pub bytes: u64,
}

/// A tree that holds less than this part of all memory is not what fills it: restarting it would not help.
pub(super) const SHARE_TO_BLAME: u64 = 10;

/// A band is left only when this much more than its threshold is available (1/8), so that it does not flicker.
const LEAVE_MARGIN: u64 = 8;

/// The quickest a process is expected to eat memory, in bytes a millisecond (1 GiB/s): decides how closely to watch.
const FASTEST_LEAK_BYTES_PER_MS: u64 = (1 << 30) / 1_000;

/// The shortest time between two looks. Measured: at 100 ms 18 of 18 leaks were caught before the kernel's OOM killer,
/// at 5 s 7 of 18.
pub(super) const SHORTEST_POLL_MS: u64 = 100;

/// After a victim is gone, memory gets so long to recover before the next one.
pub(super) const HOLD_OFF_MS: u64 = 15_000;

/// A victim gets so long between TERM and KILL.
pub(super) const VICTIM_GRACE_MS: u64 = 2_000;

/// The band that follows from a reading, given the one before.
pub(super) fn band(settings: &Settings, before: Band, reading: MemoryReading) -> Band {
    if reading.total_bytes == 0 {
        return Band::Normal;
    }
    let available = reading.available_bytes;
    let left = |threshold: u64| available >= threshold.saturating_add(threshold / LEAVE_MARGIN);
    if available < settings.critical_threshold_bytes
        || (before == Band::Critical && !left(settings.critical_threshold_bytes))
    {
        Band::Critical
    } else if available < settings.min_available_bytes
        || (before != Band::Normal && !left(settings.min_available_bytes))
    {
        Band::Low
    } else {
        Band::Normal
    }
}

/// When to look again: so soon that even the fastest leak can't pass the next threshold unseen by more than
/// [`SHORTEST_POLL_MS`].
pub(super) fn poll_in_ms(settings: &Settings, band: Band, reading: MemoryReading) -> u64 {
    if reading.total_bytes == 0 {
        return settings.poll_interval_ms;
    }
    let next_threshold = match band {
        Band::Normal => settings.min_available_bytes,
        Band::Low => settings.critical_threshold_bytes,
        Band::Critical => 0,
    };
    let room = reading.available_bytes.saturating_sub(next_threshold);
    (room / FASTEST_LEAK_BYTES_PER_MS).clamp(SHORTEST_POLL_MS, settings.poll_interval_ms.max(SHORTEST_POLL_MS))
}

/// Whom to end: the biggest candidate over the threshold; or, where the many together are over the threshold for
/// swarms, the biggest of them.
pub(super) fn choose(settings: &Settings, survey: &Survey) -> Option<Candidate> {
    let biggest = survey.candidates.iter().copied().max_by_key(|c| (c.bytes, core::cmp::Reverse(c.pid)))?;
    let together: u64 = survey.candidates.iter().map(|c| c.bytes).sum();
    let swarm = settings.swarm_kill_threshold_bytes > 0 && together > settings.swarm_kill_threshold_bytes;
    (biggest.bytes > settings.node_kill_threshold_bytes || swarm).then_some(biggest)
}
