//! A log as something to be played again: each line, with the time that it took until it came.

use std::collections::VecDeque;
use std::io;

use wire::claude::{Block, Decoded, MAX_LINE_BYTES, Message, decode};
use wire::rlog::read::{Reader, Seen};

use super::logs::{Log, RLOG_LINE_MAX_BYTES, each_line};
use super::retold::retell;

/// Where nothing tells the time: a line a second.
pub(super) const UNTIMED_MS: u64 = 1_000;
/// A line of the log stands within so many of its event.
const NEAR: usize = 64;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// After the line before it.
    pub after_ms: u64,
    pub line: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Assistant,
    Thinking,
    Call,
    Output,
}

/// Plays a log: gives each line, and goes on as long as `each` says so.
///
/// # Errors
/// As of open and read.
pub fn script(log: &Log, mut each: impl FnMut(Step) -> bool) -> io::Result<()> {
    if log.is_events() {
        return retell(log, &mut each);
    }
    let jsonl = log.jsonl();
    let mut times = VecDeque::new();
    if let Some(jsonl) = &jsonl {
        each_line(jsonl, MAX_LINE_BYTES, |line| times.extend(line.map(decode).map(of_event).unwrap_or_default()))?;
    }
    let timed = !times.is_empty();
    let (mut reader, mut last_ms, mut going) = (Reader::default(), None, true);
    each_line(&log.path, RLOG_LINE_MAX_BYTES, |line| {
        if !going {
            return;
        }
        let line = String::from_utf8_lossy(line.unwrap_or(b"# a line that is too long")).into_owned();
        let kind = kind(&reader.line(&line));
        let at = kind.and_then(|kind| {
            let position = times.iter().take(NEAR).position(|(of, _)| *of == kind)?;
            times.drain(..position);
            times.pop_front().map(|(_, at)| at)
        });
        let after_ms = match (at, last_ms) {
            (Some(at), Some(last)) => at.saturating_sub(last),
            _ if timed || kind.is_none() => 0,
            _ => UNTIMED_MS,
        };
        last_ms = at.or(last_ms);
        going = each(Step { after_ms, line });
    })
}

fn of_event(decoded: Decoded<'_>) -> Vec<(Kind, u64)> {
    let (blocks, at) = match decoded {
        Decoded::Message(Message::Assistant(message)) if message.error.is_none() => {
            (message.blocks, message.at_unix_ms)
        }
        Decoded::Message(Message::User(message)) => (message.blocks, message.at_unix_ms),
        Decoded::Message(_) | Decoded::Unknown(_) | Decoded::Garbled => return Vec::new(),
    };
    let Some(at) = at else { return Vec::new() };
    let kinds = blocks.iter().filter_map(|block| match block {
        Block::Text(_) => Some(Kind::Assistant),
        Block::Thinking(text) => (!text.trim().is_empty()).then_some(Kind::Thinking),
        Block::ToolUse { .. } => Some(Kind::Call),
        Block::ToolResult { .. } => Some(Kind::Output),
        Block::Other(_) => None,
    });
    kinds.map(|kind| (kind, at)).collect()
}

fn kind(seen: &Seen<'_>) -> Option<Kind> {
    match seen {
        Seen::Assistant(_) => Some(Kind::Assistant),
        Seen::Thinking(_) => Some(Kind::Thinking),
        Seen::Call { .. } => Some(Kind::Call),
        Seen::Output { .. } => Some(Kind::Output),
        Seen::Subagent { line, .. } => kind(&wire::rlog::read::body(line)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_played_in_the_time_that_it_took() {
        let folder = tempfile::tempdir().unwrap();
        let (rlog, jsonl) = (folder.path().join("1.rlog"), folder.path().join("1.jsonl"));
        let event = |kind: &str, second: u64, block: &str| {
            format!(
                "{{\"type\":\"{kind}\",\"message\":{{\"id\":\"m\",\"content\":[{block}]}},\"timestamp\":\"2026-11-22T15:00:{second:02}Z\"}}\n"
            )
        };
        let text = "u: go\na: first\nt!:Bash id=1 arg=\"x\" → [running]\n# 15:00:03 a status\no: id=1 → [ok] y\na: last\n@end reason=done\n";
        std::fs::write(&rlog, text).unwrap();
        let played = || {
            let mut steps = Vec::new();
            script(&Log::at(&rlog).unwrap(), |step| {
                steps.push(step);
                true
            })
            .unwrap();
            assert_eq!(steps.iter().map(|step| format!("{}\n", step.line)).collect::<String>(), text);
            steps.iter().map(|step| step.after_ms).collect::<Vec<_>>()
        };
        assert_eq!(played(), [0, 1_000, 1_000, 0, 1_000, 1_000, 0], "without times");
        let events = event("assistant", 1, "{\"type\":\"text\",\"text\":\"first\"}")
            + &event("assistant", 3, "{\"type\":\"tool_use\",\"id\":\"1\",\"name\":\"Bash\",\"input\":{}}")
            + &event("user", 10, "{\"type\":\"tool_result\",\"tool_use_id\":\"1\",\"content\":\"y\"}")
            + &event("assistant", 12, "{\"type\":\"text\",\"text\":\"last\"}");
        std::fs::write(&jsonl, events).unwrap();
        assert_eq!(played(), [0, 0, 2_000, 0, 7_000, 2_000, 0]);
    }
}
