//! Budgets for a stretch of time: what is left of them, and until when there is none.

/// A day, a week or a month, with what may be spent in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Millionths of a dollar. 0: no limit.
    pub limit_micros: u64,
    pub spent_micros: u64,
    /// When the next one begins, on the loop's clock.
    pub ends_at_ms: u64,
}

impl Window {
    /// `None`: no limit. What was spent before its end says nothing about the window after it.
    #[must_use]
    pub fn left_micros(&self, now_ms: u64) -> Option<u64> {
        let spent = if now_ms >= self.ends_at_ms { 0 } else { self.spent_micros };
        (self.limit_micros > 0).then(|| self.limit_micros.saturating_sub(spent))
    }
}

/// The least that is left of any of them; `None`: no limit.
#[must_use]
pub fn left_micros(windows: &[Window], now_ms: u64) -> Option<u64> {
    windows.iter().filter_map(|window| window.left_micros(now_ms)).min()
}

/// The window that keeps us waiting longest, if one is used up.
#[must_use]
pub fn used_up(windows: &[Window], now_ms: u64) -> Option<Window> {
    let used_up = windows.iter().filter(|window| window.left_micros(now_ms) == Some(0));
    used_up.max_by_key(|window| window.ends_at_ms).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn window(limit_micros: u64, spent_micros: u64, ends_at_ms: u64) -> Window {
        Window { limit_micros, spent_micros, ends_at_ms }
    }

    #[test]
    fn the_tightest_window_counts_and_the_longest_wait() {
        let (day, week) = (100, 700);
        for (windows, now_ms, left, until) in [
            ([window(0, 9, day), window(0, 9, week)], 0, None, None),
            ([window(5, 2, day), window(9, 2, week)], 0, Some(3), None),
            ([window(5, 5, day), window(9, 8, week)], 0, Some(0), Some(day)),
            ([window(5, 6, day), window(9, 9, week)], 0, Some(0), Some(week)),
            // A new day; the week goes on.
            ([window(5, 6, day), window(9, 8, week)], day, Some(1), None),
            ([window(5, 6, day), window(9, 9, week)], day, Some(0), Some(week)),
            ([window(5, 6, day), window(9, 9, week)], week, Some(5), None),
        ] {
            assert_eq!(left_micros(&windows, now_ms), left, "{windows:?} at {now_ms}");
            assert_eq!(used_up(&windows, now_ms).map(|window| window.ends_at_ms), until, "{windows:?} at {now_ms}");
        }
    }
}
