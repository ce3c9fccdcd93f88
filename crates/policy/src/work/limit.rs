//! How long a usage limit is waited for: until it ends, and not asked before.

use super::delay::scramble;

/// Clocks differ, and everybody whose limit ends at the full hour comes back then: between one second and two after it.
const AFTER_RESET_MS: u64 = 1_000;
const SPREAD_MS: u64 = 1_000;

/// No limit that is known is longer than a month. What ends later is not believed.
const FARTHEST_MS: u64 = 32 * 24 * 3_600_000;

/// How long to wait at `now_ms` for a limit that is said to end at `resets_at_ms`. `None`: that can't be; it is to be tried
/// with growing delays.
pub(super) fn delay_ms(now_ms: u64, resets_at_ms: Option<u64>, seed: u64) -> Option<u64> {
    let left_ms = resets_at_ms?.checked_sub(now_ms).filter(|left_ms| (1..=FARTHEST_MS).contains(left_ms))?;
    Some(left_ms + AFTER_RESET_MS + scramble(seed ^ left_ms) % (SPREAD_MS + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_once_within_the_second_second_after_its_end() {
        let week_ms = 7 * 24 * 3_600_000;
        for seed in 0..500 {
            for left_ms in [1, 3_600_000, week_ms] {
                let delay_ms = delay_ms(1_000, Some(1_000 + left_ms), seed).unwrap();
                assert!((left_ms + 1_000..=left_ms + 2_000).contains(&delay_ms), "{seed} {left_ms}: {delay_ms}");
            }
        }
        assert_ne!(delay_ms(0, Some(60_000), 1), delay_ms(0, Some(60_000), 2));
    }

    #[test]
    fn an_end_that_is_not_said_or_is_past_or_absurd_is_none() {
        for resets_at_ms in [None, Some(0), Some(1_000), Some(1_000 + FARTHEST_MS + 1), Some(u64::MAX)] {
            assert_eq!(delay_ms(1_000, resets_at_ms, 7), None, "{resets_at_ms:?}");
        }
    }
}
