//! The agreement with the agent: how it says, in the last line of its last message, that there is nothing left to do.

/// What is asked of the agent, in addition to its own system prompt.
pub const AGREEMENT: &str = "You work unattended: nobody reads along and nobody can answer a question. Decide for yourself \
and go on until everything you were asked for is done and checked. When all of it is done, end your last message with a line \
that is exactly\nAUTOPILOT: DONE\nIf you cannot go on without a person, end it with a line\nAUTOPILOT: BLOCKED <reason>";

const DONE: &str = "AUTOPILOT: DONE";
const BLOCKED: &str = "AUTOPILOT: BLOCKED";

/// What the last line of a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    Done,
    /// The reason, as the agent gave it.
    Blocked(&'a str),
    /// Nothing of the kind: there is more to do.
    Open,
}

impl<'a> Reply<'a> {
    /// Reads the last line that is not empty. Markdown's emphasis around the line is no part of it.
    #[must_use]
    pub fn read(message: &'a str) -> Self {
        let Some(line) = message.lines().rev().map(bare).find(|line| !line.is_empty()) else { return Self::Open };
        if line == DONE {
            return Self::Done;
        }
        match line.strip_prefix(BLOCKED) {
            Some("") => Self::Blocked(""),
            Some(reason) if reason.starts_with([' ', ':']) => Self::Blocked(reason.trim_start_matches([' ', ':'])),
            _ => Self::Open,
        }
    }
}

fn bare(line: &str) -> &str {
    line.trim_matches(|char: char| char.is_whitespace() || matches!(char, '*' | '`' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_counts_and_only_whole() {
        for (message, expected) in [
            ("All tests pass.\n\nAUTOPILOT: DONE\n", Reply::Done),
            ("AUTOPILOT: DONE", Reply::Done),
            ("ok\n**AUTOPILOT: DONE**  \n```\n", Reply::Done),
            ("I will write AUTOPILOT: DONE when it is finished.", Reply::Open),
            ("AUTOPILOT: DONE\nbut one thing is left", Reply::Open),
            ("AUTOPILOT: DONE soon", Reply::Open),
            ("AUTOPILOT: BLOCKED no access to the server", Reply::Blocked("no access to the server")),
            ("AUTOPILOT: BLOCKED", Reply::Blocked("")),
            ("AUTOPILOT: BLOCKEDNESS", Reply::Open),
            ("", Reply::Open),
        ] {
            assert_eq!(Reply::read(message), expected, "{message:?}");
        }
    }
}
