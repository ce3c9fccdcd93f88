//! `--since`: a span back from now, a time of day, a date, or a whole timestamp.

use jiff::civil::{Date, DateTime, Time};
use jiff::{Timestamp, Zoned};

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long before now.
    Ago { ms: i64 },
    /// The last time that a clock showed this.
    Clock(Time),
    /// In local time.
    Local(DateTime),
    /// At this instant.
    At(Timestamp),
}

const UNITS_MS: [(char, i64); 5] =
    [('s', 1_000), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000), ('w', 604_800_000)];

/// As it was given.
///
/// # Errors
/// What is wanted instead.
pub fn parse(text: &str) -> Result<Since, String> {
    let text = text.trim();
    let found = ago(text)
        .map(|ms| Since::Ago { ms })
        .or_else(|| clock(text).map(Since::Clock))
        .or_else(|| text.parse().ok().map(Since::At))
        .or_else(|| text.parse().ok().map(Since::Local))
        .or_else(|| text.parse().ok().map(|date: Date| Since::Local(date.at(0, 0, 0, 0))));
    found.ok_or_else(|| {
        "wants 30s, 10m, 2h, 1d or 1w (so long ago), 09:30, 2026-01-31, 2026-01-31 09:30, or 2026-01-31T09:30:00Z"
            .to_owned()
    })
}

fn ago(text: &str) -> Option<i64> {
    let unit = text.chars().next_back()?;
    let (_, unit_ms) = UNITS_MS.into_iter().find(|(name, _)| *name == unit)?;
    let number = text.strip_suffix(unit)?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<i64>().ok())??.checked_mul(unit_ms)
}

/// `9:30` is one, too; a time without a colon is none.
fn clock(text: &str) -> Option<Time> {
    let parts: Vec<i8> =
        text.split(':').map(|part| part.parse().ok().filter(|_| part.len() <= 2)).collect::<Option<_>>()?;
    match parts[..] {
        [hour, minute] => Time::new(hour, minute, 0, 0).ok(),
        [hour, minute, second] => Time::new(hour, minute, second, 0).ok(),
        _ => None,
    }
}

impl Since {
    /// Milliseconds since the epoch; 0 for what lies before it, or is no time in this zone's calendar.
    pub fn at_unix_ms(self, now: &Zoned) -> u64 {
        let local = |time: DateTime| time.to_zoned(now.time_zone().clone()).ok().map(|time| time.timestamp());
        let at = match self {
            Self::Ago { ms } => return u64::try_from(now.timestamp().as_millisecond().saturating_sub(ms)).unwrap_or(0),
            Self::At(timestamp) => Some(timestamp),
            Self::Local(time) => local(time),
            Self::Clock(time) => {
                let date = if time <= now.time() { Some(now.date()) } else { now.date().yesterday().ok() };
                date.and_then(|date| local(date.to_datetime(time)))
            }
        };
        at.and_then(|at| u64::try_from(at.as_millisecond()).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood_in_local_time() {
        let now: Zoned = "2026-03-10T12:00:00+02:00[+02:00]".parse().unwrap();
        for (text, expected) in [
            ("30s", "2026-03-10T09:59:30Z"),
            ("10m", "2026-03-10T09:50:00Z"),
            ("2h", "2026-03-10T08:00:00Z"),
            ("1d", "2026-03-09T10:00:00Z"),
            ("1w", "2026-03-03T10:00:00Z"),
            ("0s", "2026-03-10T10:00:00Z"),
            ("11:30", "2026-03-10T09:30:00Z"),
            ("9:05", "2026-03-10T07:05:00Z"),
            ("9:05:07", "2026-03-10T07:05:07Z"),
            ("12:00", "2026-03-10T10:00:00Z"),
            // Not yet today.
            ("12:01", "2026-03-09T10:01:00Z"),
            ("2026-03-09", "2026-03-08T22:00:00Z"),
            ("2026-03-09 08:15", "2026-03-09T06:15:00Z"),
            ("2026-03-09T08:15", "2026-03-09T06:15:00Z"),
            ("2026-03-09T08:15:00Z", "2026-03-09T08:15:00Z"),
            ("2026-03-09T08:15:00-05:00", "2026-03-09T13:15:00Z"),
            ("99999w", "1970-01-01T00:00:00Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            let found = parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).at_unix_ms(&now);
            assert_eq!(found, u64::try_from(expected.as_millisecond()).unwrap(), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_is_wanted() {
        for text in [
            "",
            "m",
            "-5m",
            "5",
            "5 parsecs",
            "25:00",
            "1:2:3:4",
            "soon",
            "2026-13-01",
            "12",
            "é",
            "99999999999999999w",
        ] {
            assert!(parse(text).is_err_and(|error| error.contains("10m")), "{text:?}");
        }
    }
}
