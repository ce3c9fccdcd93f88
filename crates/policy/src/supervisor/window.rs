//! How often something happened within the last hour.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

pub(super) const HOUR_MS: u64 = 3_600_000;

/// Times of events, oldest first; never more than [`Window::MOST`] of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Window {
    times_ms: VecDeque<u64>,
}

impl Window {
    /// No limit is larger than this, so older ones need not be remembered.
    const MOST: usize = 10_000;

    pub(super) fn from_times(mut times_ms: Vec<u64>) -> Self {
        times_ms.sort_unstable();
        let surplus = times_ms.len().saturating_sub(Self::MOST);
        Self { times_ms: times_ms.into_iter().skip(surplus).collect() }
    }

    pub(super) fn times(&self) -> Vec<u64> {
        self.times_ms.iter().copied().collect()
    }

    pub(super) fn add(&mut self, now_ms: u64) {
        self.expire(now_ms);
        if self.times_ms.len() == Self::MOST {
            self.times_ms.pop_front();
        }
        self.times_ms.push_back(now_ms);
    }

    /// How many there were within the hour before `now_ms`.
    pub(super) fn count(&mut self, now_ms: u64) -> usize {
        self.expire(now_ms);
        self.times_ms.len()
    }

    pub(super) fn clear(&mut self) {
        self.times_ms.clear();
    }

    fn expire(&mut self, now_ms: u64) {
        while self.times_ms.front().is_some_and(|&at_ms| now_ms.saturating_sub(at_ms) >= HOUR_MS) {
            self.times_ms.pop_front();
        }
    }
}
