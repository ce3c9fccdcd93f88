//! A usage limit in the CLI's own words, for versions that say it in no other way.
//!
//! Only ever to be asked about what the CLI itself said (a `result` that is an error, a message about a failed call): a model or
//! a tool can print any words. Wordings: reported by users of Claude Code 1 and 2; `policy` believes the tokens of the stream
//! first.

/// When a limit ends, as it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resets<'a> {
    /// Seconds since 1970.
    Epoch(u64),
    /// The next time that a clock shows this.
    Clock(Clock<'a>),
}

/// `Jul 23 at 6pm (America/Los_Angeles)`, `Mon 12:00am`, `2am`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock<'a> {
    /// From 1, and the day in it.
    pub month_day: Option<(i8, i8)>,
    /// Monday is 1, Sunday 7.
    pub weekday: Option<i8>,
    /// 0 to 23.
    pub hour: i8,
    pub minute: i8,
    /// The clock's time zone; the machine's, if it is not said.
    pub zone: Option<&'a str>,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Whether these words say that a plan's usage limit is reached, and when it ends: `Some(None)` if that is not said, or not
/// understood.
#[must_use]
pub fn limit(text: &str) -> Option<Option<Resets<'_>>> {
    let line = text.trim().lines().next()?;
    let lower = line.to_ascii_lowercase().replace('’', "'");
    let yours = ["you've hit your ", "you've reached your ", "you have hit your ", "you have reached your "];
    let is_limit = lower.split_once("limit reached").is_some_and(|(before, _)| before.split(' ').count() <= 5)
        || yours.iter().any(|words| lower.strip_prefix(words).is_some_and(|rest| rest.contains("limit")));
    if !is_limit {
        return None;
    }
    let epoch = line.rsplit_once('|').and_then(|(_, number)| number.trim().parse().ok()).map(Resets::Epoch);
    Some(epoch.or_else(|| clock(words_after(line, "resets ")?).map(Resets::Clock)))
}

/// Not by an offset of the lower-case text: that may have other lengths.
fn words_after<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    let at = line.as_bytes().windows(words.len()).position(|window| window.eq_ignore_ascii_case(words.as_bytes()))?;
    line.get(at + words.len()..)
}

fn clock(text: &str) -> Option<Clock<'_>> {
    let zone = text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(zone, _)| zone.trim());
    let mut clock = Clock { month_day: None, weekday: None, hour: 0, minute: 0, zone };
    let mut month = None;
    for word in text.split(['(', '·', '∙']).next()?.split([' ', ',']).filter(|word| !word.is_empty()) {
        let lower = word.to_ascii_lowercase();
        let named = |names: &[&str]| {
            let at = names.iter().position(|name| lower.len() >= 3 && lower.starts_with(name))?;
            i8::try_from(at + 1).ok()
        };
        if let Some(number) = named(&MONTHS) {
            month = Some(number);
        } else if let Some(number) = named(&WEEKDAYS) {
            clock.weekday = Some(number);
        } else if let (Some(month), None, Ok(day)) = (month, clock.month_day, lower.parse()) {
            clock.month_day = (1..=31).contains(&day).then_some((month, day));
        } else if let Some((hour, minute)) = time(&lower) {
            (clock.hour, clock.minute) = (hour, minute);
            return Some(clock);
        } else if lower != "at" && lower != "on" {
            return None;
        }
    }
    None
}

/// `2am`, `12:00am`, `7:29pm`, `18:30`.
fn time(word: &str) -> Option<(i8, i8)> {
    let (digits, afternoon) = match (word.strip_suffix("am"), word.strip_suffix("pm")) {
        (Some(digits), _) => (digits, Some(false)),
        (None, Some(digits)) => (digits, Some(true)),
        (None, None) => (word, None),
    };
    let (hour, minute) = match digits.split_once(':') {
        Some((hour, minute)) => (hour.parse::<i8>().ok()?, minute.parse::<i8>().ok()?),
        // A bare number is no time of day.
        None if afternoon.is_some() => (digits.parse::<i8>().ok()?, 0),
        None => return None,
    };
    let hour = match afternoon {
        Some(is_pm) if (1..=12).contains(&hour) => hour % 12 + if is_pm { 12 } else { 0 },
        None if (0..=23).contains(&hour) => hour,
        Some(_) | None => return None,
    };
    (0..=59).contains(&minute).then_some((hour, minute))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(month_day: Option<(i8, i8)>, weekday: Option<i8>, time: (i8, i8), zone: Option<&str>) -> Option<Resets<'_>> {
        Some(Resets::Clock(Clock { month_day, weekday, hour: time.0, minute: time.1, zone }))
    }

    #[test]
    fn the_wordings_that_are_known() {
        for (text, expected) in [
            ("Claude AI usage limit reached|1762952400", Some(Resets::Epoch(1_762_952_400))),
            ("5-hour limit reached ∙ resets 2am", at(None, None, (2, 0), None)),
            ("You've hit your 5-hour limit · resets 7:29am (UTC)", at(None, None, (7, 29), Some("UTC"))),
            (
                "You've hit your limit · resets Jul 23 at 6pm (America/Los_Angeles)",
                at(Some((7, 23)), None, (18, 0), Some("America/Los_Angeles")),
            ),
            ("You've hit your weekly limit · resets Mon 12:00am", at(None, Some(1), (0, 0), None)),
            ("You’ve reached your usage limit. Resets Sunday, 12pm", at(None, Some(7), (12, 0), None)),
            ("Opus weekly limit reached ∙ resets Oct 6, 1pm", at(Some((10, 6)), None, (13, 0), None)),
            (
                "Session limit reached · resets 23:05 (Europe/Berlin) · /upgrade",
                at(None, None, (23, 5), Some("Europe/Berlin")),
            ),
            ("You've hit your limit", None),
            ("You've hit your weekly limit · resets soon", None),
            ("You've hit your weekly limit · resets 25:00", None),
            ("You've hit your weekly limit · resets 13pm", None),
            ("Claude AI usage limit reached|never", None),
        ] {
            assert_eq!(limit(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_words_are_none() {
        for text in [
            "",
            "API Error: Server is temporarily limiting requests (not your usage limit) · Rate limited",
            "API Error: Request rejected (429) · rate limit",
            "Credit balance is too low",
            "I have written a test for what happens when the 5-hour usage or weekly or daily limit reached is shown",
            "Reached maximum number of turns (1)",
            "This organization has been disabled",
        ] {
            assert_eq!(limit(text), None, "{text}");
        }
    }

    /// Cut, doubled or turned upper-case: never a panic, and never another time of day than one that is there.
    #[test]
    fn mutated_wordings_are_understood_or_not() {
        let text = "You’ve hit your limit · resets Jul 23 at 6pm (America/Los_Angeles)";
        for (cut, _) in text.char_indices() {
            for mutated in [text[..cut].to_owned(), text[cut..].to_owned(), format!("{}{text}", &text[..cut])] {
                for mutated in [mutated.to_uppercase(), mutated.replace(' ', ""), mutated] {
                    if let Some(Some(Resets::Clock(clock))) = limit(&mutated) {
                        assert!(
                            mutated.to_lowercase().contains("6pm") && (clock.hour, clock.minute) == (18, 0),
                            "{mutated}"
                        );
                    }
                }
            }
        }
    }
}
