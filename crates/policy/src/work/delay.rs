//! Growing delays with a little jitter, so that many workers that were refused together do not come back together.

/// A delay that doubles with every failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growing {
    pub first_ms: u64,
    pub longest_ms: u64,
}

impl Growing {
    /// The delay after the `failures`-th failure in a row (from 1): `first × 2^(n−1)`, at most `longest`, and up to a
    /// quarter more, as `seed` says.
    #[must_use]
    pub fn after(self, failures: u32, seed: u64) -> u64 {
        let doublings = failures.saturating_sub(1).min(40);
        let delay = self.first_ms.saturating_mul(1 << doublings).min(self.longest_ms);
        delay + scramble(seed ^ u64::from(failures)) % (delay / 4 + 1)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): one round is enough to spread a counter.
pub(super) fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_its_longest_and_strays_by_a_quarter_at_most() {
        let growing = Growing { first_ms: 5_000, longest_ms: 300_000 };
        for seed in 0..500 {
            for (failures, base) in
                [(1, 5_000), (2, 10_000), (3, 20_000), (6, 160_000), (7, 300_000), (8, 300_000), (u32::MAX, 300_000)]
            {
                let delay = growing.after(failures, seed);
                assert!((base..=base + base / 4).contains(&delay), "{failures} {seed}: {delay}");
            }
        }
        assert_ne!(growing.after(1, 1), growing.after(1, 2));
    }
}
