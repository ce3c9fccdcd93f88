//! Actions per minute: messages of user and assistant, and tool calls, over a stretch of time.

use std::collections::HashSet;
use std::io;

use wire::claude::{Block, Decoded, MAX_LINE_BYTES, Message, decode};
use wire::rlog::read::{Reader, Seen, body};

use super::logs::{Log, RLOG_LINE_MAX_BYTES, each_line};

/// A silence longer than this is no work.
const PAUSE_MS: u64 = 5 * 60_000;

/// The times of all actions, in milliseconds since the epoch, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actions {
    at_ms: Vec<u64>,
}

/// What happened in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    pub actions: u64,
    /// Of the whole stretch, pauses included.
    pub per_minute: f64,
    /// Of the time in which something was done.
    pub per_active_minute: f64,
    pub active_ms: u64,
}

/// How much that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    Baseline,
    Active,
    Productive,
    High,
    Elite,
}

impl Tier {
    /// The tier of so many actions per minute; the steps are at 5, 15, 30 and 50.
    #[must_use]
    pub fn of(per_minute: f64) -> Self {
        match per_minute {
            rate if rate >= 50.0 => Self::Elite,
            rate if rate >= 30.0 => Self::High,
            rate if rate >= 15.0 => Self::Productive,
            rate if rate >= 5.0 => Self::Active,
            _ => Self::Baseline,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Active => "active",
            Self::Productive => "productive",
            Self::High => "high",
            Self::Elite => "elite",
        }
    }
}

impl Actions {
    /// Adds those of a log.
    ///
    /// # Errors
    /// As of open and read.
    pub fn add(&mut self, log: &Log) -> io::Result<()> {
        let before = self.at_ms.len();
        let (jsonl, is_events) = (log.jsonl(), log.is_events());
        let mut untimed = 0_u64;
        if let Some(jsonl) = &jsonl {
            let mut answers = HashSet::new();
            each_line(jsonl, MAX_LINE_BYTES, |line| {
                let Some(Decoded::Message(message)) = line.map(decode) else { return };
                match (of_event(&message, is_events, &mut answers), message.at_unix_ms()) {
                    (count, Some(at)) => self.at_ms.extend(std::iter::repeat_n(at, count)),
                    (count, None) => untimed += count as u64,
                }
            })?;
        }
        if !is_events {
            let mut reader = Reader::default();
            each_line(&log.path, RLOG_LINE_MAX_BYTES, |line| {
                let line = String::from_utf8_lossy(line.unwrap_or_default());
                untimed += u64::from(is_action(&reader.line(&line), jsonl.is_none()));
            })?;
        }
        let timed = self.at_ms.get(before..).unwrap_or_default();
        let modified_ms = || {
            let since =
                std::fs::metadata(&log.path).ok()?.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            u64::try_from(since.as_millis()).ok()
        };
        let last = timed.iter().max().copied().or_else(modified_ms).unwrap_or(0);
        let first = log.began_ms().or_else(|| timed.iter().min().copied()).unwrap_or(last).min(last);
        // Lines without a time are spread over the log's.
        let step = |number: u64| first + (last - first) * number / untimed.max(1);
        self.at_ms.extend((0..untimed).map(step));
        self.at_ms.sort_unstable();
        Ok(())
    }

    /// Those of the last so many milliseconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far from 2^53")]
    pub fn window(&self, now_ms: u64, window_ms: u64) -> Window {
        let from = self.at_ms.partition_point(|at| *at < now_ms.saturating_sub(window_ms));
        let until = self.at_ms.partition_point(|at| *at <= now_ms);
        let inside = self.at_ms.get(from..until.max(from)).unwrap_or_default();
        let gaps = inside.windows(2).map(|pair| pair[1] - pair[0]);
        let active_ms: u64 = gaps.filter(|gap| *gap <= PAUSE_MS).sum();
        let rate = |ms: u64| if ms == 0 { 0.0 } else { inside.len() as f64 * 60_000.0 / ms as f64 };
        Window {
            actions: inside.len() as u64,
            per_minute: rate(window_ms),
            // What takes no time at all is no rate.
            per_active_minute: if active_ms < 1_000 { 0.0 } else { rate(active_ms) },
            active_ms,
        }
    }
}

/// How many actions an event is. What was asked is in the `.rlog`, if there is one.
fn of_event(message: &Message<'_>, is_alone: bool, answers: &mut HashSet<String>) -> usize {
    match message {
        Message::Assistant(message) if message.error.is_none() => {
            let is_new = message.id.as_deref().is_none_or(|id| answers.insert(id.to_owned()));
            let calls = message.blocks.iter().filter(|block| matches!(block, Block::ToolUse { .. })).count();
            calls + usize::from(is_new)
        }
        Message::User(message) => {
            let is_said = message.blocks.iter().any(|block| matches!(block, Block::Text(_)));
            usize::from(is_alone && is_said && message.parent.is_none())
        }
        _ => 0,
    }
}

/// Without a `.jsonl` beside it the `.rlog` has all that there is.
fn is_action(seen: &Seen<'_>, is_alone: bool) -> bool {
    match seen {
        Seen::User(_) => true,
        Seen::Assistant(_) | Seen::Call { .. } => is_alone,
        Seen::Subagent { line, .. } => match body(line) {
            // What it is asked is the argument of a call.
            Seen::User(_) => false,
            seen => is_action(&seen, is_alone),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiers_begin_at_5_15_30_and_50() {
        let names = [0.0, 4.99, 5.0, 14.9, 15.0, 30.0, 49.9, 50.0, f64::NAN].map(|rate| Tier::of(rate).name());
        let expected = ["baseline", "baseline", "active", "active", "productive", "high", "high", "elite", "baseline"];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_window_counts_what_is_in_it_and_pauses_are_no_work() {
        // One a second for ten minutes, an hour's pause, and again.
        let begin = 1_000_000_000;
        let at_ms: Vec<u64> = (0..=600).flat_map(|s| [begin + s * 1_000, begin + 4_200_000 + s * 1_000]).collect();
        let mut actions = Actions { at_ms };
        actions.at_ms.sort_unstable();
        let now = begin + 4_800_000;
        let hour = actions.window(now, 3_600_000);
        assert_eq!((hour.actions, hour.active_ms), (601, 600_000));
        assert!(
            (hour.per_minute - 601.0 / 60.0).abs() < 0.01 && (hour.per_active_minute - 60.1).abs() < 0.01,
            "{hour:?}"
        );
        let week = actions.window(now, 7 * 86_400_000);
        assert_eq!((week.actions, week.active_ms), (1_202, 1_200_000));
        assert_eq!(Actions::default().window(now, 3_600_000).actions, 0);
    }

    #[test]
    fn what_tells_no_time_is_spread_over_the_log_s() {
        let folder = tempfile::tempdir().unwrap();
        let count = |file: &str, text: &str| {
            let path = folder.path().join(file);
            std::fs::write(&path, text).unwrap();
            let mut actions = Actions::default();
            actions.add(&Log::at(&path).unwrap()).unwrap();
            actions.at_ms
        };
        let event = |kind: &str, id: u32, block: &str, time: &str| {
            format!("{{\"type\":\"{kind}\",\"message\":{{\"id\":\"{id}\",\"content\":[{block}]}}{time}}}\n")
        };
        let text = "{\"type\":\"text\",\"text\":\"x\"}";
        let call = "{\"type\":\"tool_use\",\"id\":\"1\",\"name\":\"Bash\",\"input\":{}}";
        let result = "{\"type\":\"tool_result\",\"tool_use_id\":\"1\",\"content\":\"y\"}";
        let at = |second: u32| format!(",\"timestamp\":\"2026-11-22T15:00:{second:02}Z\"");
        // Asked once, answered once in two pieces, called once.
        let events = |times: [&str; 4]| {
            let [asked, said, called, back] = times;
            let first = event("user", 0, text, asked) + &event("assistant", 1, text, said);
            first + &event("assistant", 1, call, called) + &event("user", 2, result, back)
        };
        let times = [at(0), at(1), at(2), at(3)];
        let seconds = [0, 1, 2].map(|second| 1_795_359_600_000 + second * 1_000);
        assert_eq!(count("timed.jsonl", &events(times.each_ref().map(String::as_str))), seconds);
        assert_eq!(count("some.jsonl", &events(["", &times[1], "", &times[3]])), [seconds[1]; 3]);
        assert_eq!(count("none.jsonl", &events([""; 4])).len(), 3);
        let foreign =
            "u: go\na: x\nt:Task id=1 → [ok]\nx: id=1 u: sub\nx: id=1 a: sub\nx: id=1 t!:Bash id=2 → [running]\n";
        assert_eq!(count("foreign.rlog", foreign).len(), 5);
    }
}
