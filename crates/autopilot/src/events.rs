//! `autopilotd events`: the incident journal for people, or its raw lines.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use daemon::events::{Entry, Events, Follower, Waited};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use wire::journal::Line;

use crate::cli::daemon::Show;
use crate::cli::report::{Exit, Failure, note, printable};

/// So many are shown if neither a number nor a time is given.
const DEFAULT_COUNT: usize = 20;

/// The longest kind of event.
const KIND_WIDTH: usize = 16;
const TIME_WIDTH: usize = "2026-01-31 09:30:00".len();

/// Show what is there, and with `-f` go on.
pub(crate) fn show(journal: &Path, show: &Show, json: bool) -> Result<(), Failure> {
    let unreadable = |error: io::Error| {
        Failure::new(Exit::Internal, format!("cannot read {}: {error}", journal.display()))
            .hint("make it readable, or ask as the user whose daemon it is")
    };
    let stdout = io::stdout();
    let mut follower = match show.follow {
        true => Some(Follower::new(journal.to_owned(), stdout.as_fd()).map_err(|error| {
            Failure::new(Exit::Internal, format!("cannot watch {}: {error}", journal.display()))
                .hint("without -f it works all the same")
        })?),
        false => None,
    };
    let mut events = Events::new(journal.to_owned());
    let mut entries = events.read().map_err(unreadable)?;
    if entries.is_empty() {
        let message = format!("no events yet in {}", journal.display());
        note(&mut io::stderr().lock(), message, Some("is another AUTOPILOT_HOME meant?")).ok();
    }
    let zone = TimeZone::system();
    select(&mut entries, show, &local(os::clock::wall_ms(), &zone));
    loop {
        let written = write(&mut stdout.lock(), &entries, json, &zone);
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Failure::new(Exit::Internal, format!("cannot write to stdout: {error}"))),
            Ok(()) => {}
        }
        let Some(follower) = &mut follower else { return Ok(()) };
        if follower.wait().map_err(unreadable)? == Waited::ReaderGone {
            return Ok(());
        }
        entries = events.read().map_err(unreadable)?;
    }
}

/// The last so many of those that are recent enough.
fn select(entries: &mut Vec<Entry>, show: &Show, now: &Zoned) {
    if let Some(since) = show.since {
        let since_ms = since.at_unix_ms(now);
        // In the order of the file: a clock that stepped back hides nothing that came later.
        let recent = |entry: &Entry| entry.line.at_unix_ms().is_some_and(|at_ms| at_ms >= since_ms);
        let first = entries.iter().position(recent).unwrap_or(entries.len());
        entries.drain(..first);
    }
    let all = if show.since.is_some() { usize::MAX } else { DEFAULT_COUNT };
    let surplus = entries.len().saturating_sub(show.count.unwrap_or(all));
    entries.drain(..surplus);
}

fn write(to: &mut impl Write, entries: &[Entry], json: bool, zone: &TimeZone) -> io::Result<()> {
    let mut text = Vec::new();
    for entry in entries {
        if json {
            // Whoever reads JSON must get nothing else.
            if entry.line != Line::Garbled {
                text.extend_from_slice(&entry.bytes);
                text.push(b'\n');
            }
        } else {
            text.extend_from_slice(line(&entry.line, zone).as_bytes());
        }
    }
    to.write_all(&text)?;
    to.flush()
}

/// When, what, why.
fn line(line: &Line, zone: &TimeZone) -> String {
    let (at_ms, kind, text) = match line {
        Line::Record(record) => (Some(record.at_unix_ms), record.event.kind(), record.text.as_str()),
        Line::Unknown { at_unix_ms, kind, text, .. } => (Some(*at_unix_ms), kind.clone(), text.as_str()),
        Line::Garbled => (None, "?".to_owned(), "a line that is torn or damaged"),
    };
    let time = at_ms.map_or_else(|| "?".to_owned(), |at_ms| local(at_ms, zone).strftime("%F %T").to_string());
    let indent = " ".repeat(TIME_WIDTH + KIND_WIDTH + 4);
    let text = printable(text).replace('\n', &format!("\n{indent}"));
    format!("{time:<TIME_WIDTH$}  {:<KIND_WIDTH$}  {text}\n", printable(&kind).replace('\n', " "))
}

fn local(at_unix_ms: u64, zone: &TimeZone) -> Zoned {
    let at = i64::try_from(at_unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    at.to_zoned(zone.clone())
}

#[cfg(test)]
mod tests {
    use wire::journal::decode;

    use super::*;
    use crate::cli::since;

    fn entry(seq: u64, at_unix_ms: u64, event: &str, text: &str) -> Entry {
        let json = serde_json::json!({
            "v": 1, "seq": seq, "at_unix_ms": at_unix_ms, "at_ms": 5, "boot": "b", "daemon": 7,
            "event": serde_json::from_str::<serde_json::Value>(event).unwrap(), "text": text,
        });
        let bytes = json.to_string().into_bytes();
        Entry { line: decode(&bytes), bytes }
    }

    #[test]
    fn a_line_says_when_what_and_why() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let entries = [
            entry(
                1,
                1_772_000_000_000,
                "{\"kind\":\"started\",\"run\":1,\"pid\":4121}",
                "Worker started with PID 4121",
            ),
            entry(2, 1_772_000_000_000, "{\"kind\":\"of-the-future\"}", "two\nlines \u{1b}[31m"),
            Entry { bytes: b"{\"v\":".to_vec(), line: decode(b"{\"v\":") },
        ];
        let mut shown = Vec::new();
        write(&mut shown, &entries, false, &zone).unwrap();
        let expected = "2026-02-25 08:13:20  started           Worker started with PID 4121\n\
                        2026-02-25 08:13:20  of-the-future     two\n\
                        \x20                                      lines \u{fffd}[31m\n\
                        ?                    ?                 a line that is torn or damaged\n";
        assert_eq!(String::from_utf8(shown).unwrap(), expected);
        let mut raw = Vec::new();
        write(&mut raw, &entries, true, &zone).unwrap();
        assert_eq!(raw, [&entries[0].bytes[..], b"\n", &entries[1].bytes[..], b"\n"].concat());
    }

    #[test]
    fn the_last_ones_are_selected_and_the_recent_ones() {
        let now: Zoned = "2026-03-10T12:00:00+00:00[+00:00]".parse().unwrap();
        let now_ms = u64::try_from(now.timestamp().as_millisecond()).unwrap();
        // One a minute, the newest now.
        let all: Vec<Entry> = (1..=60).map(|seq| entry(seq, now_ms - (60 - seq) * 60_000, "{}", "")).collect();
        for (count, since, first, length) in [
            (None, None, 41, 20),
            (Some(3), None, 58, 3),
            (Some(0), None, 0, 0),
            (Some(100), None, 1, 60),
            (None, Some("30m"), 30, 31),
            (Some(2), Some("30m"), 59, 2),
            (None, Some("0s"), 60, 1),
            (None, Some("11:50"), 50, 11),
        ] {
            let since = since.map(|text| since::parse(text).unwrap());
            let mut entries = all.clone();
            select(&mut entries, &Show { count, since, follow: false }, &now);
            let found = (entries.first().and_then(|entry| entry.line.seq()).unwrap_or(0), entries.len());
            assert_eq!(found, (first, length), "{count:?} {since:?}");
        }
    }
}
