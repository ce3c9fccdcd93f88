//! Days, weeks and months for budgets, in local time.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};

/// A stretch of time that a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Milliseconds since the Unix epoch.
    pub begins_ms: u64,
    /// The first that does not belong to it.
    pub ends_ms: u64,
}

/// The day, the week (from Monday) and the month that `now_ms` is in.
#[must_use]
pub fn stretches(now_ms: u64, zone: &TimeZone) -> [Stretch; 3] {
    let now = i64::try_from(now_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX);
    let today = now.to_zoned(zone.clone()).start_of_day().unwrap_or_else(|_| now.to_zoned(zone.clone()));
    let since_monday = i64::from(today.weekday().since(Weekday::Monday));
    let monday = today.checked_sub(since_monday.days()).unwrap_or_else(|_| today.clone());
    let first = today.first_of_month().unwrap_or_else(|_| today.clone());
    [stretch(&today, 1.day()), stretch(&monday, 1.week()), stretch(&first, 1.month())]
}

fn stretch(begin: &Zoned, length: Span) -> Stretch {
    let ms = |time: &Zoned| u64::try_from(time.timestamp().as_millisecond()).unwrap_or(0);
    // A day may begin later than at midnight, where clocks are put forward then.
    let begin = begin.start_of_day().unwrap_or_else(|_| begin.clone());
    let end = begin.checked_add(length).and_then(|end| end.start_of_day());
    Stretch { begins_ms: ms(&begin), ends_ms: end.map_or(u64::MAX, |end| ms(&end)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_those_of_the_local_calendar() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = |text: &str| -> u64 {
            let time = text.parse::<jiff::civil::DateTime>().unwrap().to_zoned(zone.clone()).unwrap();
            time.timestamp().as_millisecond().try_into().unwrap()
        };
        for (now, expected) in [
            // A Sunday on which clocks go forward: 23 hours.
            (
                "2026-03-29T23:59:59.999",
                ["2026-03-29", "2026-03-30", "2026-03-23", "2026-03-30", "2026-03-01", "2026-04-01"],
            ),
            ("2026-03-30T00:00", ["2026-03-30", "2026-03-31", "2026-03-30", "2026-04-06", "2026-03-01", "2026-04-01"]),
            ("2026-12-31T12:00", ["2026-12-31", "2027-01-01", "2026-12-28", "2027-01-04", "2026-12-01", "2027-01-01"]),
        ] {
            let ends: Vec<u64> = expected.iter().map(|day| at(&format!("{day}T00:00"))).collect();
            let found = stretches(at(now), &zone).map(|stretch| [stretch.begins_ms, stretch.ends_ms]).concat();
            assert_eq!(found, ends, "{now}");
        }
        assert_eq!(stretches(at("2026-03-29T12:00"), &zone).map(|day| day.ends_ms - day.begins_ms)[0], 23 * 3_600_000);
    }
}
