//! Times as they stand in the stream: RFC 3339 in UTC, `2026-11-22T15:02:04.306Z`.

/// In milliseconds since the epoch; `None` for another form.
pub(super) fn unix_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':')?;
    let fits = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let thousandths = fraction
        .bytes()
        .chain(*b"000")
        .take(3)
        .try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))?;
    // Days from a year that begins in March: a leap day is its last (Howard Hinnant, chrono-compatible date algorithms).
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + thousandths)
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let mut parts =
        text.split(between).map(|part| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?);
    let found = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-22T15:02:04.306Z", Some(1_795_359_724_306)),
            ("2024-02-29T23:59:59.9Z", Some(1_709_251_199_900)),
            ("2000-03-01T00:00:00.123456Z", Some(951_868_800_123)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-22T15:02:04Z", None),
            ("2026-11-22T15:02:04+01:00", None),
            ("2026-11-22", None),
            ("2026-11-22T15:02Z", None),
            ("é-11-22T15:02:04Z", None),
            ("", None),
        ] {
            assert_eq!(unix_ms(text), expected, "{text}");
        }
    }
}
