//! Durations and sizes for people: read, in order to name the number that was meant; shown, beside the plain number.

/// The number that was probably meant: `"1s"` is 1000 ms. Only ever used for a hint.
pub(super) fn parse_millis(text: &str) -> Option<u64> {
    parse(
        text,
        &[
            (&["", "ms", "msec", "milliseconds"], 1),
            (&["s", "sec", "secs", "second", "seconds"], 1_000),
            (&["m", "min", "mins", "minute", "minutes"], 60_000),
            (&["h", "hr", "hour", "hours"], 3_600_000),
            (&["d", "day", "days"], 86_400_000),
        ],
    )
}

/// The number that was probably meant: `"2 GB"` is 2 × 2³⁰, as in the documentation. Only ever used for a hint.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    parse(
        text,
        &[
            (&["", "b", "byte", "bytes"], 1),
            (&["k", "kb", "kib"], 1 << 10),
            (&["m", "mb", "mib"], 1 << 20),
            (&["g", "gb", "gib"], 1 << 30),
            (&["t", "tb", "tib"], 1 << 40),
        ],
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a hint of at most 2^53, checked below"
)]
fn parse(text: &str, units: &[(&[&str], u64)]) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.replace('_', "").parse().ok()?;
    let (_, factor) = units.iter().find(|(names, _)| names.contains(&unit.trim()))?;
    let product = (number * *factor as f64).round();
    (product <= 2_f64.powi(53)).then_some(product as u64)
}

/// `300000` is `5 min`. The largest unit that leaves at most one digit after the point, so that nothing is hidden.
pub(super) fn show_millis(millis: u64) -> String {
    show(millis, &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")], "ms")
}

/// `2147483648` is `2 GB`, as in the documentation.
pub(super) fn show_bytes(bytes: u64) -> String {
    show(bytes, &[(1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")], "bytes")
}

fn show(number: u64, units: &[(u64, &str)], smallest: &str) -> String {
    for (size, name) in units {
        if number >= *size && (u128::from(number) * 10).is_multiple_of(u128::from(*size)) {
            let tenths = u128::from(number) * 10 / u128::from(*size);
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                tenth => format!("{}.{tenth} {name}", tenths / 10),
            };
        }
    }
    format!("{number} {smallest}")
}

#[cfg(test)]
mod tests {
    use super::{parse_bytes, parse_millis, show_bytes, show_millis};

    #[test]
    fn what_was_meant() {
        for (text, expected) in [
            ("1s", Some(1_000)),
            ("1.5 s", Some(1_500)),
            ("5min", Some(300_000)),
            ("5 minutes", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("60_000", Some(60_000)),
            ("soon", None),
            ("5 parsecs", None),
            ("", None),
            ("-5", None),
            ("9e99", None),
            ("99999999999999999999999 d", None),
        ] {
            assert_eq!(parse_millis(text), expected, "{text}");
        }
        for (text, expected) in
            [("2 GB", Some(2 << 30)), ("500MiB", Some(500 << 20)), ("4096", Some(4_096)), ("2 m/s", None)]
        {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn shown_for_people() {
        for (millis, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_500, "1.5 s"),
            (1_234, "1234 ms"),
            (90_000, "1.5 min"),
            (600_000, "10 min"),
            (86_400_000, "1 d"),
        ] {
            assert_eq!(show_millis(millis), expected);
        }
        for (bytes, expected) in
            [(0, "0 bytes"), (1 << 30, "1 GB"), (500 << 20, "500 MB"), (1_000_000, "1000000 bytes")]
        {
            assert_eq!(show_bytes(bytes), expected);
        }
    }
}
