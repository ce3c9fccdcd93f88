//! Reading `rlog/1`, ours and that of other tools: every line says something, however it looks.
//!
//! Other writers have more kinds of lines (`t:` for a call with its result, `q:`, `p:`, `@phase` …) and put their own members
//! into ours; what is not known is kept as it stands. A line that was cut is read as far as it goes.

/// One line of a log, as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<'a> {
    /// `---`, around the header.
    Fence,
    /// `key: value` between the fences.
    Header { key: &'a str, value: &'a str },
    /// `@start`: a session begins or goes on.
    Start { session: Option<&'a str>, ts: Option<&'a str> },
    /// `@init`
    Init { model: Option<&'a str> },
    /// `u:`
    User(&'a str),
    /// `a:`
    Assistant(&'a str),
    /// `th:`
    Thinking(&'a str),
    /// `t!:` and, with its result, `t:`.
    Call { tool: &'a str, id: Option<&'a str>, arg: &'a str },
    /// `o:`
    Output { id: Option<&'a str>, is_error: bool, text: &'a str },
    /// `x:` what a subagent says; the rest of the line is a line of its own.
    Subagent { parent: Option<&'a str>, line: &'a str },
    /// `#`
    Status(&'a str),
    /// `@end`
    End {
        tokens_in: Option<u64>,
        tokens_out: Option<u64>,
        /// In millionths of a dollar.
        cost_micros: Option<u64>,
        reason: Option<&'a str>,
    },
    /// An empty line.
    Nothing,
    /// Anything else, with its kind if it has one: `q` of `q: …`, `@phase` of `@phase …`.
    Other { kind: Option<&'a str>, text: &'a str },
}

/// Reads the lines of one log, one after the other: only the header needs to be remembered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reader {
    fences: u8,
    lines: u64,
}

impl Reader {
    /// What the next line says.
    pub fn line<'a>(&mut self, line: &'a str) -> Seen<'a> {
        let is_first = self.lines == 0;
        self.lines += 1;
        let line = line.trim_end_matches(['\r', '\n']);
        // A log that lost its beginning has no header.
        if line == "---" && (is_first || self.fences == 1) {
            self.fences += 1;
            return Seen::Fence;
        }
        if self.fences == 1 {
            return match line.split_once(':') {
                Some((key, value)) if !key.starts_with('@') => Seen::Header { key: key.trim(), value: value.trim() },
                _ => body(line),
            };
        }
        body(line)
    }
}

/// What a line of the body says, without its end.
#[must_use]
pub fn body(line: &str) -> Seen<'_> {
    if line.trim().is_empty() {
        return Seen::Nothing;
    }
    if let Some(text) = line.strip_prefix('#') {
        return Seen::Status(text.trim());
    }
    if let Some(rest) = line.strip_prefix('@') {
        return mark(line, rest);
    }
    let Some((kind, text)) = line.split_once(':') else { return Seen::Other { kind: None, text: line } };
    let text = text.strip_prefix(' ').unwrap_or(text);
    match kind {
        "u" => Seen::User(text),
        "a" => Seen::Assistant(text),
        "th" => Seen::Thinking(text),
        "t!" | "t" => {
            let (tool, rest) = text.split_once(' ').unwrap_or((text, ""));
            Seen::Call { tool, id: member(rest, "id"), arg: argument(rest) }
        }
        "o" => {
            let (head, text) = text.split_once('→').map_or(("", text), |(head, text)| (head, text.trim_start()));
            let is_error = text.starts_with("[error]") || text.starts_with("[failed]");
            let text =
                ["[ok]", "[error]", "[failed]"].iter().find_map(|state| text.strip_prefix(state)).unwrap_or(text);
            Seen::Output { id: member(head, "id"), is_error, text: text.trim_start() }
        }
        "x" => {
            let rest = text.strip_prefix("id=").and_then(|rest| rest.split_once(' ')).map(|(_, rest)| rest);
            Seen::Subagent { parent: member(text, "id"), line: rest.unwrap_or(text) }
        }
        _ if is_kind(kind) => Seen::Other { kind: Some(kind), text },
        _ => Seen::Other { kind: None, text: line },
    }
}

fn mark<'a>(line: &'a str, rest: &'a str) -> Seen<'a> {
    let (name, members) = rest.split_once(' ').unwrap_or((rest, ""));
    match name {
        "start" => Seen::Start { session: member(members, "id"), ts: member(members, "ts") },
        "init" => Seen::Init { model: member(members, "model") },
        "end" => Seen::End {
            tokens_in: member(members, "tokens_in").and_then(|text| text.parse().ok()),
            tokens_out: member(members, "tokens_out").and_then(|text| text.parse().ok()),
            cost_micros: member(members, "cost_usd").and_then(micros),
            reason: member(members, "reason"),
        },
        _ => Seen::Other { kind: line.get(..=name.len()), text: members },
    }
}

/// A short word before a colon: of a kind of line that is not known here.
fn is_kind(kind: &str) -> bool {
    (1..=12).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'_' | b'-'))
}

/// `name=value`, anywhere among words.
fn member<'a>(members: &'a str, name: &str) -> Option<&'a str> {
    members.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// `arg="…"`, or whatever stands between the id and the arrow.
fn argument(rest: &str) -> &str {
    let rest = rest.rsplit_once(" → ").map_or(rest, |(before, _)| before).trim();
    let rest = rest.strip_prefix("id=").map_or(rest, |rest| rest.split_once(' ').map_or("", |(_, rest)| rest)).trim();
    match rest.strip_prefix("arg=\"") {
        Some(quoted) => quoted.strip_suffix('"').unwrap_or(quoted),
        None => rest,
    }
}

fn micros(text: &str) -> Option<u64> {
    let dollars: f64 = text.trim_start_matches('$').parse().ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    (dollars.is_finite() && dollars >= 0.0).then_some((dollars * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rlog::{Entry, Header};

    #[test]
    fn what_we_write_is_read_back() {
        let header = Header { id: "i", model: "sonnet", cwd: "/home/ada/shop: two", ..Header::default() }.to_string();
        let mut reader = Reader::default();
        let seen: Vec<Seen<'_>> = header.lines().map(|line| reader.line(line)).collect();
        assert_eq!((seen.first(), seen.last()), (Some(&Seen::Fence), Some(&Seen::Fence)));
        assert!(seen.contains(&Seen::Header { key: "cwd", value: "/home/ada/shop: two" }), "{seen:?}");
        let call = Entry::Call { id: "t1", tool: "Bash", arg: "echo \"a → b\"" }.line();
        let output = Entry::Output { id: "t1", is_error: true, text: "no → way\nmore" };
        let end = Entry::End { tokens_in: 7, tokens_out: 8, cost_usd: 0.0015, reason: "done" }.line();
        let subagent = Entry::Subagent { parent: "t9", entry: &output }.line();
        for (line, expected) in [
            ("---", Seen::Other { kind: None, text: "---" }),
            (
                "@start id=s ts=2026-11-22T09:14:00Z",
                Seen::Start { session: Some("s"), ts: Some("2026-11-22T09:14:00Z") },
            ),
            ("@init model=m", Seen::Init { model: Some("m") }),
            ("u: a: b", Seen::User("a: b")),
            (&call, Seen::Call { tool: "Bash", id: Some("t1"), arg: "echo \\\"a → b\\\"" }),
            (&output.line(), Seen::Output { id: Some("t1"), is_error: true, text: "no → way (+1 line)" }),
            (&subagent, Seen::Subagent { parent: Some("t9"), line: "o: id=t1 → [error] no → way (+1 line)" }),
            ("# 09:20:11 limit", Seen::Status("09:20:11 limit")),
            (
                &end,
                Seen::End { tokens_in: Some(7), tokens_out: Some(8), cost_micros: Some(1_500), reason: Some("done") },
            ),
        ] {
            assert_eq!(reader.line(line), expected, "{line}");
        }
    }

    #[test]
    fn other_writers_and_damage_are_read_as_far_as_they_go() {
        let mut reader = Reader::default();
        for (line, expected) in [
            ("a: the header is gone", Seen::Assistant("the header is gone")),
            (
                "t:Read id=c1 src/main.rs → [ok] 40 lines",
                Seen::Call { tool: "Read", id: Some("c1"), arg: "src/main.rs" },
            ),
            ("t!:Bash", Seen::Call { tool: "Bash", id: None, arg: "" }),
            ("t!:Bash id=x arg=\"cut of", Seen::Call { tool: "Bash", id: Some("x"), arg: "cut of" }),
            ("o:", Seen::Output { id: None, is_error: false, text: "" }),
            ("q: which one?", Seen::Other { kind: Some("q"), text: "which one?" }),
            ("@phase name=plan", Seen::Other { kind: Some("@phase"), text: "name=plan" }),
            ("@", Seen::Other { kind: Some("@"), text: "" }),
            ("@end", Seen::End { tokens_in: None, tokens_out: None, cost_micros: None, reason: None }),
            (
                "@end cost_usd=-1 tokens_in=x",
                Seen::End { tokens_in: None, tokens_out: None, cost_micros: None, reason: None },
            ),
            ("see http://x", Seen::Other { kind: None, text: "see http://x" }),
            ("\r", Seen::Nothing),
        ] {
            assert_eq!(reader.line(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(line in "(@|#|u:|t!:|o:|x: |---|=)?\\PC{0,60}", second in any::<String>()) {
            let mut reader = Reader::default();
            reader.line(&line);
            reader.line(&second);
        }
    }
}
