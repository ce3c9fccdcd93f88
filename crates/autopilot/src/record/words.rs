//! Numbers as people read them.

use worker::record::Span;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) fn dollars(micros: u64) -> String {
    let hundredths = micros.saturating_add(50) / 100;
    format!("${}.{:04}", hundredths / 10_000, hundredths % 10_000)
}

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(super) fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..10 => format!("{s}.{} s", ms % 1_000 / 100),
        10..60 => format!("{s} s"),
        60..3_600 => format!("{} min {:02} s", s / 60, s % 60),
        3_600..172_800 => format!("{} h {:02} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} days {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} kB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Of `of`, in percent.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(super) fn percent(part: u64, of: u64) -> String {
    if of == 0 { "-".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / of as f64) }
}

/// From when to when, where the user is.
pub(super) fn when(stretch: Span) -> String {
    let local = |ms: u64| {
        let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
        at.to_zoned(TimeZone::system())
    };
    let (from, to) = (local(stretch.from_ms), local(stretch.to_ms));
    let end = if from.date() == to.date() { "%H:%M:%S" } else { "%F %H:%M:%S" };
    format!("{} to {}", from.strftime("%F %H:%M:%S"), to.strftime(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!((dollars(1_480), dollars(12_345_678)), ("$0.0015".to_owned(), "$12.3457".to_owned()));
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let spans = [5, 1_250, 59_999, 61_000, 7_260_000, 200_000_000].map(span);
        assert_eq!(spans, ["5 ms", "1.2 s", "59 s", "1 min 01 s", "2 h 01 min", "2 days 7 h"]);
        assert_eq!([0, 2_048, 5 << 20, 3 << 30].map(bytes), ["0 B", "2.0 kB", "5.0 MB", "3.0 GB"]);
        assert_eq!((percent(1, 8), percent(0, 0)), ("12.5 %".to_owned(), "-".to_owned()));
    }
}
