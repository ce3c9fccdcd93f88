//! What is printed, and how: lines of at most 80 columns that only ever scroll, with colour where somebody sees it.

use std::io::{self, IsTerminal, Write};

/// For the oldest terminal that anybody has.
const COLUMNS: usize = 80;
/// Time and speaker.
const MARGIN: usize = 16;

/// Whose line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// What this program does to the others.
    Demo,
    Daemon,
    Agent,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Daemon => "daemon",
            Self::Agent => "agent",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Demo => MAGENTA,
            Self::Daemon => CYAN,
            Self::Agent => BLUE,
        }
    }
}

// Select Graphic Rendition, ECMA-48; the eight colours that every terminal knows.
const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "1;32";
const BLUE: &str = "34";
const MAGENTA: &str = "35";
const CYAN: &str = "36";

/// Stdout.
#[derive(Debug)]
pub(super) struct Screen {
    colour: bool,
    /// A person sees it, and cannot read as fast as it happens.
    paced: bool,
    started_ms: u64,
    gone: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let set = |name: &str| std::env::vars_os().any(|(key, value)| key == name && !value.is_empty());
        let dumb = std::env::vars_os().any(|(key, value)| key == "TERM" && value == "dumb");
        let terminal = io::stdout().is_terminal();
        Self {
            // https://no-color.org
            colour: terminal && !dumb && !set("NO_COLOR"),
            paced: terminal,
            started_ms: os::clock::monotonic_ms(),
            gone: false,
        }
    }

    pub(super) fn is_paced(&self) -> bool {
        self.paced
    }

    /// Nobody reads any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Since the demo began.
    #[expect(clippy::cast_precision_loss, reason = "a demo does not last for millennia")]
    pub(super) fn seconds(&self) -> f64 {
        os::clock::monotonic_ms().saturating_sub(self.started_ms) as f64 / 1_000.0
    }

    /// A paragraph.
    pub(super) fn plain(&mut self, text: &str) {
        let lines = wrap(text, COLUMNS);
        self.print(&format!("{}\n", lines.join("\n")));
    }

    /// As it is.
    pub(super) fn verbatim(&mut self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    /// The heading of an act.
    pub(super) fn act(&mut self, number: u32, of: u32, title: &str) {
        let heading = self.paint(BOLD, &format!("{number}/{of}  {title}"));
        self.print(&format!("\n{heading}\n"));
    }

    /// Something that happened now.
    pub(super) fn event(&mut self, who: Who, text: &str) {
        let time = format!("{:6.2} s", self.seconds());
        let speaker = format!("{:<7}", who.name());
        let margin = format!("{} {}", self.paint(DIM, &time), self.paint(who.colour(), &speaker));
        self.with_margin(&margin, text);
    }

    /// What was checked, and held.
    pub(super) fn verdict(&mut self, text: &str) {
        let margin = format!("         {}     ", self.paint(GREEN, "ok"));
        self.with_margin(&margin, text);
    }

    /// What did not hold.
    pub(super) fn failed(&mut self, text: &str) {
        let margin = format!("         {} ", self.paint(RED, "FAILED"));
        self.with_margin(&margin, text);
        self.print("\n");
    }

    fn with_margin(&mut self, margin: &str, text: &str) {
        let lines = wrap(text, COLUMNS - MARGIN - 1);
        let indent = format!("\n{}", " ".repeat(MARGIN));
        self.print(&format!("{margin}{}\n", lines.join(&indent)));
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn print(&mut self, text: &str) {
        let mut stdout = io::stdout().lock();
        self.gone |= stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err();
    }
}

/// Breaks a text at its spaces. Control characters of others do not reach the terminal.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut width = 0;
        for word in paragraph.split(' ') {
            let word: String = word.chars().filter(|char| !char.is_control()).collect();
            let length = word.chars().count();
            if width > 0 && width + 1 + length > columns {
                lines.push(std::mem::take(&mut line));
                width = 0;
            } else if width > 0 || !line.is_empty() {
                line.push(' ');
                width += 1;
            }
            line.push_str(&word);
            width += length;
        }
        lines.push(line);
    }
    lines
}

/// `12 ms`, `3.4 s`, `3 s`.
pub(super) fn span(ms: u64) -> String {
    match (ms / 1_000, ms % 1_000 / 100) {
        (0, _) => format!("{ms} ms"),
        (seconds, 0) => format!("{seconds} s"),
        (seconds, tenths) => format!("{seconds}.{tenths} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_lose_what_drives_a_terminal() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable", 4), ["unbreakable"]);
        assert_eq!(wrap("a\nb", 10), ["a", "b"]);
        assert_eq!(wrap("a\x1b[31mb", 10), ["a[31mb"]);
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([3, 999, 1_000, 3_456].map(span), ["3 ms", "999 ms", "1 s", "3.4 s"]);
    }
}
