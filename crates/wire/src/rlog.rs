//! `rlog/1`: a session's log for people, one line an event, made for `tail -f`.
//!
//! Owns: how a line looks, and how to tell a log that was closed from one whose writer died. May not: touch a file. The full
//! events are in the `.jsonl` beside the log; here long texts are shortened, and what was cut is counted.
//!
//! ```text
//! ---
//! format: rlog/1
//! id: 20261122-091400-fix-login
//! …
//! ---
//! @start id=7f1c2a90-… ts=2026-11-22T09:14:00Z
//! @init model=claude-sonnet-5-5
//! u: Fix the login.
//! th: The test fails because …
//! a: Writing the file.
//! t!:Bash id=toolu_1 arg="cargo test" → [running]
//! o: id=toolu_1 → [ok] test result: ok (+12 lines)
//! # 09:20:11 usage limit until 12:00:01
//! @end tokens_in=240 tokens_out=84 cost_usd=0.0015 reason=done
//! ```

pub mod read;
mod text;

use std::fmt::{self, Display, Write};

use text::{inline, quoted, token};

/// The version that this module writes. rlog/1: the first.
pub const FORMAT: &str = "rlog/1";

/// Longest text of what was asked and answered, in characters.
const SAID_MAX_CHARS: usize = 2_000;
/// Longest thought.
const THOUGHT_MAX_CHARS: usize = 500;
/// Longest argument, first line of a result, or status.
const SHORT_MAX_CHARS: usize = 240;

/// What stands between the two `---` lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header<'a> {
    pub id: &'a str,
    /// Empty where the working directory is no git repository.
    pub repo_sha: &'a str,
    pub branch: &'a str,
    pub model: &'a str,
    pub cwd: &'a str,
    pub agent: &'a str,
    pub version: &'a str,
}

impl Display for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "---\nformat: {FORMAT}")?;
        for (key, value) in [
            ("id", self.id),
            ("repo_sha", self.repo_sha),
            ("branch", self.branch),
            ("model", self.model),
            ("cwd", self.cwd),
            ("agent", self.agent),
            ("version", self.version),
        ] {
            writeln!(f, "{key}: {}", inline(if value.is_empty() { "-" } else { value }, SAID_MAX_CHARS))?;
        }
        f.write_str("---\n")
    }
}

/// One event of the body.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<'a> {
    /// A session begins, or goes on in a new process.
    Start {
        session: &'a str,
        ts: &'a str,
    },
    /// The agent says what it is.
    Init {
        model: &'a str,
    },
    User(&'a str),
    Assistant(&'a str),
    Thinking(&'a str),
    Call {
        id: &'a str,
        tool: &'a str,
        arg: &'a str,
    },
    Output {
        id: &'a str,
        is_error: bool,
        text: &'a str,
    },
    /// The same of a subagent; `parent` is the call that started it.
    Subagent {
        parent: &'a str,
        entry: &'a Entry<'a>,
    },
    Status(&'a str),
    /// The last line. `reason` is one word.
    End {
        tokens_in: u64,
        tokens_out: u64,
        cost_usd: f64,
        reason: &'a str,
    },
}

impl Entry<'_> {
    /// The entry as one line with its end.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = String::new();
        // Writing into a String can't fail.
        write!(line, "{self}").ok();
        line.push('\n');
        line
    }
}

impl Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { session, ts } => write!(f, "@start id={} ts={}", token(session), token(ts)),
            Self::Init { model } => write!(f, "@init model={}", token(model)),
            Self::User(text) => write!(f, "u: {}", inline(text, SAID_MAX_CHARS)),
            Self::Assistant(text) => write!(f, "a: {}", inline(text, SAID_MAX_CHARS)),
            Self::Thinking(text) => write!(f, "th: {}", inline(text, THOUGHT_MAX_CHARS)),
            Self::Call { id, tool, arg } => {
                let arg = quoted(arg, SHORT_MAX_CHARS);
                write!(f, "t!:{} id={} arg={arg} → [running]", token(tool), short_id(id))
            }
            Self::Output { id, is_error, text } => {
                let state = if *is_error { "error" } else { "ok" };
                write!(f, "o: id={} → [{state}]", short_id(id))?;
                let text = text.trim();
                let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
                if !first.is_empty() {
                    write!(f, " {}", inline(first, SHORT_MAX_CHARS))?;
                }
                match rest.lines().count() {
                    0 => Ok(()),
                    1 => f.write_str(" (+1 line)"),
                    lines => write!(f, " (+{lines} lines)"),
                }
            }
            Self::Subagent { parent, entry } => write!(f, "x: id={} {entry}", short_id(parent)),
            Self::Status(text) => write!(f, "# {}", inline(text, SHORT_MAX_CHARS)),
            Self::End { tokens_in, tokens_out, cost_usd, reason } => write!(
                f,
                "@end tokens_in={tokens_in} tokens_out={tokens_out} cost_usd={cost_usd:.4} reason={}",
                token(reason)
            ),
        }
    }
}

/// Ids of calls are 30 characters of noise: their last eight tell them apart within a log, and find them in the `.jsonl`.
fn short_id(id: &str) -> String {
    let id = token(id);
    if id.chars().count() <= 16 {
        return id;
    }
    id.char_indices().nth_back(7).map(|(at, _)| id[at..].to_owned()).unwrap_or(id)
}

/// How the end of a log was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Its last line is an `@end`.
    Closed,
    /// Its writer died; `torn` if in the middle of a line.
    Open { torn: bool },
}

/// Judges a log by its last bytes (a few KB are enough).
#[must_use]
pub fn tail(bytes: &[u8]) -> Tail {
    let torn = bytes.last().is_some_and(|byte| *byte != b'\n');
    let last = bytes.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    if !torn && is_closed(last) { Tail::Closed } else { Tail::Open { torn } }
}

/// Whether this is a log's last line.
#[must_use]
pub fn is_closed(last_line: &[u8]) -> bool {
    last_line.starts_with(b"@end ") && last_line.windows(8).any(|window| window == b" reason=")
}

#[cfg(test)]
mod tests;
