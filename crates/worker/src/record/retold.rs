//! A log of which only the `.jsonl` is left: its events become the lines that the worker would have written of them.

use std::borrow::Cow;
use std::io;

use policy::work::Fact;
use wire::claude::{Assistant, Decoded, Ending, Line, MAX_LINE_BYTES, Message, Partial, Resets, Usage, decode};
use wire::rlog::Entry;

use super::logs::{Log, each_line};
use super::script::{Step, UNTIMED_MS};
use crate::stream::{Listener, Pipe, hear};

/// Gives each line, and goes on as long as `each` says so.
pub(super) fn retell(log: &Log, each: &mut dyn FnMut(Step) -> bool) -> io::Result<()> {
    let mut timed = false;
    each_line(&log.path, MAX_LINE_BYTES, |line| {
        if let Some(Decoded::Message(message)) = line.map(decode) {
            timed |= message.at_unix_ms().is_some();
        }
    })?;
    let mut retelling = Retelling { each, timed, at_ms: None, last_ms: None, begun: false, going: true };
    each_line(&log.path, MAX_LINE_BYTES, |line| {
        if retelling.going {
            match line {
                Some(line) => hear(Line::Whole(line), Pipe::Stdout, &mut retelling),
                None => retelling.tell("# a line that is too long".to_owned()),
            }
        }
    })
}

struct Retelling<'e> {
    each: &'e mut dyn FnMut(Step) -> bool,
    /// Some of the events tell when they were.
    timed: bool,
    /// Of the event that is being told.
    at_ms: Option<u64>,
    last_ms: Option<u64>,
    begun: bool,
    going: bool,
}

impl Retelling<'_> {
    fn tell(&mut self, line: String) {
        if !self.going {
            return;
        }
        let after_ms = match (self.at_ms, self.last_ms) {
            (Some(at), Some(last)) => at.saturating_sub(last),
            _ if self.timed || !self.begun => 0,
            _ => UNTIMED_MS,
        };
        (self.last_ms, self.begun) = (self.at_ms.or(self.last_ms), true);
        self.going = (self.each)(Step { after_ms, line });
    }
}

impl Listener for Retelling<'_> {
    fn entry(&mut self, entry: &Entry<'_>) {
        self.tell(entry.to_string());
    }

    fn status(&mut self, text: &str) {
        self.tell(Entry::Status(text).to_string());
    }

    fn seen(&mut self, message: &Message<'_>) {
        self.at_ms = message.at_unix_ms();
    }

    fn cost(&mut self, ending: &Ending<'_>) {
        let cost = ending.total_cost_usd.map(|usd| format!(", {usd:.4} USD in all")).unwrap_or_default();
        self.status(&format!("result: {}, {} turns{cost}", ending.subtype, ending.num_turns));
    }

    // What follows is for the worker's loop and its ledger.
    fn fact(&mut self, _: Fact<'_>) {}
    fn event(&mut self, _: &[u8]) {}
    fn cli_said(&mut self, _: &str) {}
    fn is_of_key(&mut self, _: &[u8]) -> bool {
        false
    }
    fn begun(&mut self, _: &str, _: &Partial<'_>) {}
    fn answered(&mut self, _: &Assistant<'_>) -> bool {
        false
    }
    fn finished(&mut self, _: &str, _: Usage) {}
    fn is_main(&self, _: &str) -> bool {
        true
    }
    fn has_server(&mut self, _: &[(Cow<'_, str>, Cow<'_, str>)]) -> bool {
        true
    }
    fn at_ms(&self, epoch_s: u64) -> u64 {
        epoch_s.saturating_mul(1_000)
    }
    fn epoch_s(&self, _: Resets<'_>) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::script;
    use super::*;

    #[test]
    fn what_the_recordings_say_is_told_in_the_time_that_it_took() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/golden/claude-2.1.330/success.jsonl");
        let told = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("1.jsonl");
            std::fs::write(&path, text).unwrap();
            let mut steps = Vec::new();
            script(&Log::at(&path).unwrap(), |step| {
                steps.push(step);
                steps.len() < 50
            })
            .unwrap();
            steps
        };
        let steps = told(&std::fs::read_to_string(golden).unwrap());
        let kinds: Vec<&str> = steps.iter().filter_map(|step| step.line.split([':', ' ']).next()).collect();
        assert_eq!(kinds, ["@init", "th", "a", "t!", "o", "a", "#"], "{steps:#?}");
        assert!(steps.last().is_some_and(|step| step.line.contains("result: success, 2 turns")), "{steps:#?}");

        let said = |second: Option<u64>, text: &str| {
            let at = second.map(|at| format!(",\"timestamp\":\"2026-11-22T15:00:{at:02}Z\"")).unwrap_or_default();
            format!(
                "{{\"type\":\"assistant\",\"message\":{{\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}]}}{at}}}\n"
            )
        };
        let waits = |text: &str| told(text).iter().map(|step| step.after_ms).collect::<Vec<_>>();
        assert_eq!(waits(&[said(Some(1), "a"), said(Some(4), "b"), said(Some(3), "c")].concat()), [0, 3_000, 0]);
        assert_eq!(waits(&[said(None, "a"), said(None, "b")].concat()), [0, UNTIMED_MS], "nothing tells the time");
        assert_eq!(waits("garbage\n"), [0]);
    }
}
