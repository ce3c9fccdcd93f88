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
    /// For how much of the last 10 s some process waited for memory (PSI, `some avg10`), in percent. A warning, never
    /// a reason to act: as a trigger it caught 0 of 9 leaks in time.
    pub pressure_percent: u8,
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

/// A process of the worker's own tree whose name is on the list. It is ended with all that is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its pid; the shell keeps a pidfd for it, so that a reused pid can't be hit.
    pub pid: u32,
    /// The nearest candidate above it.
    pub parent: Option<u32>,
    /// Its proportional set size (PSS), without that of candidates below it.
    pub own_bytes: u64,
    /// The PSS of all that would go with it. Not RSS: five forks of a process of 1.05 GB have 1.05 GB each by RSS, and
    /// 32 kB that are their own.
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

/// Pressure is told of from here on, and again after it has been below the second.
pub(super) const PRESSURE_PERCENT: (u8, u8) = (10, 5);

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

/// Whom to end.
pub(super) fn choose(settings: &Settings, survey: &Survey) -> Vec<Candidate> {
    let limit = settings.swarm_kill_threshold_bytes;
    let together: u64 = survey.candidates.iter().map(|c| c.own_bytes).sum();
    if limit > 0 && together > limit {
        return thin_out(survey, together, limit);
    }
    biggest(survey).filter(|c| c.bytes > settings.node_kill_threshold_bytes).into_iter().collect()
}

/// The biggest candidate; or, where most of what it has is below it in one child, that child: the leaking server rather
/// than the agent that started it.
fn biggest(survey: &Survey) -> Option<Candidate> {
    let order = |c: &Candidate| (c.bytes, core::cmp::Reverse(c.pid));
    let mut chosen = survey.candidates.iter().copied().filter(|c| c.parent.is_none()).max_by_key(order)?;
    // A bound: who is below whom was read from a tree that moved.
    for _ in 0..survey.candidates.len() {
        let below = survey.candidates.iter().copied().filter(|c| c.parent == Some(chosen.pid)).max_by_key(order);
        match below {
            Some(child) if child.bytes > chosen.bytes / 2 => chosen = child,
            Some(_) | None => break,
        }
    }
    Some(chosen)
}

/// Of many that are too much together: the biggest, until the rest is not; those without candidates below them first, so
/// that the agent outlives its swarm.
fn thin_out(survey: &Survey, mut together: u64, limit: u64) -> Vec<Candidate> {
    let has_below = |pid| survey.candidates.iter().any(|c| c.parent == Some(pid));
    let mut order = survey.candidates.clone();
    order.sort_by_key(|c| (has_below(c.pid), core::cmp::Reverse(c.own_bytes), c.pid));
    let mut chosen = Vec::new();
    for candidate in order {
        if together <= limit {
            break;
        }
        together = together.saturating_sub(candidate.own_bytes);
        chosen.push(candidate);
    }
    chosen
}
