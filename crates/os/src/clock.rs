//! Time, read in one place so that everything else takes it as an argument.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds on `CLOCK_MONOTONIC`: never steps, does not count the time that the machine is suspended, the same for
/// all processes of one boot. The core's `now`.
#[must_use]
pub fn monotonic_ms() -> u64 {
    monotonic_ns() / 1_000_000
}

/// Nanoseconds on `CLOCK_MONOTONIC`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
}

/// Milliseconds on `CLOCK_BOOTTIME`: as [`monotonic_ms`], and it counts the time that the machine is suspended. For
/// waits that end at a time of day.
#[must_use]
pub fn boottime_ms() -> u64 {
    let t = clock_gettime(ClockId::Boottime);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(t.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Milliseconds since the Unix epoch. For names and for people; never compared with a deadline.
#[must_use]
pub fn wall_ms() -> u64 {
    let t = clock_gettime(ClockId::Realtime);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(t.tv_nsec).unwrap_or(0) / 1_000_000
}

/// The kernel's id of this boot (`random(4)`), or an empty string where `/proc` is hidden. Pids and monotonic times mean
/// nothing in another boot.
#[must_use]
pub fn boot_id() -> String {
    let kernels = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned());
    crate::fail::boot_id().unwrap_or_else(|| kernels().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_does_not_go_back() {
        let first = monotonic_ns();
        assert!(monotonic_ns() >= first);
        assert!(monotonic_ms() >= first / 1_000_000);
    }

    #[test]
    fn the_boot_has_an_id() {
        assert_eq!(boot_id().len(), 36, "a UUID");
    }
}
