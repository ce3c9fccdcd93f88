//! From the words for the end of a usage limit to the time that they mean.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};
use wire::claude::{Clock, Resets};

/// A time of day that is past by no more than this is not tomorrow's: the limit is just over.
const JUST_OVER_MINUTES: i64 = 30;

/// Seconds since 1970. `None`: it can't be told, or is just over.
pub(crate) fn epoch_s(resets: Resets<'_>, now: &Zoned) -> Option<u64> {
    match resets {
        Resets::Epoch(epoch_s) => Some(epoch_s),
        Resets::Clock(clock) => u64::try_from(next(clock, now)?.timestamp().as_second()).ok(),
    }
}

fn next(clock: Clock<'_>, now: &Zoned) -> Option<Zoned> {
    let zone = match clock.zone {
        Some(name) => TimeZone::get(name).ok()?,
        None => now.time_zone().clone(),
    };
    let now = now.with_time_zone(zone.clone());
    let time = jiff::civil::time(clock.hour, clock.minute, 0, 0);
    let (first, step) = match (clock.month_day, clock.weekday) {
        (Some((month, day)), _) => (jiff::civil::Date::new(now.year(), month, day).ok()?, Span::new().years(1)),
        (None, Some(weekday)) => {
            let weekday = Weekday::from_monday_one_offset(weekday).ok()?;
            let ahead = i64::from(now.weekday().until(weekday));
            (now.date().checked_add(Span::new().days(ahead)).ok()?, Span::new().days(7))
        }
        (None, None) => (now.date(), Span::new().days(1)),
    };
    let at = first.to_datetime(time).to_zoned(zone.clone()).ok()?;
    if at > now {
        return Some(at);
    }
    if at >= now.checked_sub(Span::new().minutes(JUST_OVER_MINUTES)).ok()? {
        return None;
    }
    first.checked_add(step).ok()?.to_datetime(time).to_zoned(zone).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is waited until, by the clock in Berlin.
    fn check(now: &str, words: &str, expected: Option<&str>) {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let now: Zoned = now.parse().unwrap();
        let resets = wire::claude::limit(words).unwrap().unwrap();
        let at = epoch_s(resets, &now.with_time_zone(berlin.clone()))
            .map(|epoch_s| jiff::Timestamp::from_second(epoch_s.try_into().unwrap()).unwrap().to_zoned(berlin));
        assert_eq!(at.map(|at| at.strftime("%Y-%m-%d %H:%M").to_string()).as_deref(), expected, "{words}");
    }

    #[test]
    fn the_next_time_that_the_clock_shows_it() {
        let now = "2026-11-22T23:30:00+01:00[Europe/Berlin]";
        check(now, "5-hour limit reached ∙ resets 2am", Some("2026-11-23 02:00"));
        check(now, "5-hour limit reached ∙ resets 11:45pm", Some("2026-11-22 23:45"));
        check(now, "You've hit your 5-hour limit · resets 7:29am (UTC)", Some("2026-11-23 08:29"));
        check(now, "You've hit your weekly limit · resets Mon 12:00am", Some("2026-11-23 00:00"));
        check(now, "You've hit your weekly limit · resets Sun 10pm", Some("2026-11-29 22:00"));
        check(now, "You've hit your limit · resets Jul 23 at 6pm (America/Los_Angeles)", Some("2027-07-24 03:00"));
        check(now, "You've hit your limit · resets Nov 30 at 6pm", Some("2026-11-30 18:00"));
        check(now, "Claude AI usage limit reached|1795388400", Some("2026-11-23 00:00"));
    }

    #[test]
    fn a_minute_too_late_is_not_a_day_too_early() {
        check("2026-11-22T02:01:00+01:00[Europe/Berlin]", "5-hour limit reached ∙ resets 2am", None);
        check(
            "2026-11-22T02:31:00+01:00[Europe/Berlin]",
            "5-hour limit reached ∙ resets 2am",
            Some("2026-11-23 02:00"),
        );
        check("2026-11-22T02:01:00+01:00[Europe/Berlin]", "5-hour limit reached ∙ resets 2am (Nowhere/Land)", None);
        check("2026-11-22T02:01:00+01:00[Europe/Berlin]", "Weekly limit reached ∙ resets Feb 30 at 2am", None);
    }
}
