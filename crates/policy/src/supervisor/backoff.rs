//! How long to wait before the next attempt.

use super::Settings;

/// Attempt `n` (from 1) waits `min(initial × multiplier^(n−1), max)` milliseconds; 0 failures wait 0.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "float to integer saturates, and a delay above 2^53 ms is cut by max_backoff_ms anyway"
)]
pub fn delay_ms(settings: &Settings, failures: u32) -> u64 {
    if failures == 0 {
        return 0;
    }
    let delay_ms = settings.initial_backoff_ms as f64 * power(settings.backoff_multiplier, failures - 1);
    (delay_ms as u64).min(settings.max_backoff_ms)
}

/// `f64::powi` is not in `core`. By squaring, so that a huge exponent costs no more than 32 rounds.
fn power(base: f64, mut exponent: u32) -> f64 {
    let (mut result, mut square) = (1.0, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    result
}
