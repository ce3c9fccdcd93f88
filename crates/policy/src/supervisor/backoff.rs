//! How long to wait before the next attempt.

use super::Settings;

/// Attempt `n` (from 1) waits `min(initial × multiplier^(n−1), max)` milliseconds; 0 failures wait 0.
#[must_use]
pub fn delay_ms(settings: &Settings, failures: u32) -> u64 {
    if failures == 0 {
        return 0;
    }
    let mut delay = settings.initial_backoff_ms;
    for _ in 1..failures {
        if delay >= settings.max_backoff_ms {
            break;
        }
        let next = scale(delay, settings.backoff_multiplier);
        if next == delay {
            // A multiplier of 1, or a delay of 0: it will not grow any more.
            break;
        }
        delay = next;
    }
    delay.min(settings.max_backoff_ms)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "float to integer saturates, and a delay above 2^53 ms is cut by max_backoff_ms anyway"
)]
fn scale(delay_ms: u64, multiplier: f64) -> u64 {
    (delay_ms as f64 * multiplier) as u64
}
