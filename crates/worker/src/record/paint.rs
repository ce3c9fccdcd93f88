//! The lines of a log, in colour where that is wanted.

use wire::rlog::read::{Reader, Seen, body};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BLUE: &str = "34";
const MAGENTA: &str = "35";
const CYAN: &str = "36";

/// How lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    #[must_use]
    pub fn new(colour: bool) -> Self {
        Self { colour }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.paint(BOLD, text)
    }

    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.paint(DIM, text)
    }

    /// One line of a log, with nothing in it that could drive the terminal.
    #[must_use]
    pub fn line(self, reader: &mut Reader, line: &str) -> String {
        let line: String = line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
        let seen = reader.line(&line);
        if !self.colour {
            return line;
        }
        self.seen(&line, &seen)
    }

    fn seen(self, line: &str, seen: &Seen<'_>) -> String {
        // The mark in its colour, the text as it is read best.
        let marked = |mark: &str, text: &str| {
            let (head, rest) = line.split_at(line.find(':').map_or(0, |at| at + 1));
            format!("{}{}", self.paint(mark, head), self.paint(text, rest))
        };
        match seen {
            Seen::Fence | Seen::Header { .. } | Seen::Start { .. } | Seen::Init { .. } => self.paint(DIM, line),
            Seen::User(_) => marked("1;34", BLUE),
            Seen::Assistant(_) => marked("1;32", "0"),
            Seen::Thinking(_) => marked(DIM, "2;3"),
            Seen::Call { .. } => marked("1;36", CYAN),
            Seen::Output { is_error: true, .. } => marked("1;31", RED),
            Seen::Output { .. } => marked(DIM, DIM),
            Seen::Subagent { line: inner, .. } => {
                let head = line.get(..line.len() - inner.len()).unwrap_or_default();
                format!("{}{}", self.paint(MAGENTA, head), self.seen(inner, &body(inner)))
            }
            Seen::Status(_) => self.paint(YELLOW, line),
            Seen::End { reason: Some("done"), .. } => self.paint(GREEN, line),
            Seen::End { .. } => self.paint("1;33", line),
            Seen::Nothing | Seen::Other { .. } => line.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_add_nothing_but_themselves_and_are_left_out_where_nobody_wants_them() {
        let lines = [
            "u: go",
            "a: yes",
            "th: hm",
            "t!:Bash id=1 arg=\"x\" → [running]",
            "o: id=1 → [error] no",
            "x: id=1 a: sub",
            "# status",
            "@end reason=done",
            "odd",
            "",
            "é: x",
        ];
        let (plain, coloured) = (Paint { colour: false }, Paint { colour: true });
        let mut reader = Reader::default();
        for line in lines {
            assert_eq!(plain.line(&mut reader, line), line);
            let shown = coloured.line(&mut reader, line);
            let mut bare = shown.clone();
            while let Some(at) = bare.find('\x1b') {
                let end = at + bare[at..].find('m').unwrap();
                bare.replace_range(at..=end, "");
            }
            assert_eq!(bare, line);
        }
        assert_eq!(plain.line(&mut reader, "a: \x1b[2Jx"), "a: \u{fffd}[2Jx");
    }
}
