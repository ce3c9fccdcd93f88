//! What a person sees of `autopilot run`: the log's lines and, in a terminal, one line below them with what happens now.
//!
//! The terminal is left as it was found whatever ends the worker: nothing of it is switched, only that one line is drawn and
//! wiped. Where stdout is no terminal there are plain lines and nothing else.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use policy::work::Spent;
use wire::rlog::Entry;
use wire::rlog::read::Reader;

use crate::ledger::dollars;
use crate::record::Paint;

/// So often it is drawn anew although nothing happens: the time goes on.
const TICK_MS: u64 = 1_000;
/// From the line's beginning to the right.
const WIPE: &str = "\r\x1b[K";
/// Without a size.
const COLUMNS: u16 = 80;

/// The line is on the screen: whoever writes something else wipes it first.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// Wipes the line if it is there, so that something else can be written.
pub(crate) fn wipe() {
    if DRAWN.swap(false, Ordering::Relaxed) {
        // Nobody may be listening any more.
        io::stdout().lock().write_all(WIPE.as_bytes()).ok();
    }
}

/// What the line tells.
#[derive(Debug)]
pub(crate) struct Progress {
    /// There is a terminal that can redraw a line.
    live: bool,
    paint: Paint,
    reader: Reader,
    columns: u16,
    began_ms: u64,
    /// The calls that have not returned: id, what, since when.
    calls: Vec<(String, String, u64)>,
    phase: &'static str,
    phase_since_ms: u64,
    spent: Spent,
    next_ms: u64,
    spin: usize,
    drawn_chars: usize,
}

impl Progress {
    /// `live`: the terminal, if stdout is one, can redraw a line.
    pub(crate) fn new(live: bool, colour: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let now_ms = os::clock::monotonic_ms();
        let mut progress = Self {
            live: live && terminal,
            paint: Paint::new(colour && terminal),
            reader: Reader::default(),
            columns: COLUMNS,
            began_ms: now_ms,
            calls: Vec::new(),
            phase: "",
            phase_since_ms: now_ms,
            spent: Spent::default(),
            next_ms: now_ms,
            spin: 0,
            drawn_chars: 0,
        };
        progress.resized();
        progress
    }

    /// The terminal may have another size.
    pub(crate) fn resized(&mut self) {
        if let Some((columns, _)) = os::terminal::size(io::stdout().as_fd()) {
            self.columns = columns;
        }
        // A line that has become too long was broken into several by the terminal.
        let rows = self.drawn_chars.saturating_sub(1) / usize::from(self.columns.max(1));
        if rows > 0 && DRAWN.swap(false, Ordering::Relaxed) {
            io::stdout().lock().write_all(format!("\x1b[{rows}A\r\x1b[J").as_bytes()).ok();
        }
        self.next_ms = 0;
    }

    /// A line of the log, as it was written there.
    pub(crate) fn line(&mut self, line: &str) {
        wipe();
        let mut text = String::new();
        for line in line.lines() {
            text.push_str(&self.paint.line(&mut self.reader, line));
            text.push('\n');
        }
        // Nobody may be listening any more; the log has it.
        io::stdout().lock().write_all(text.as_bytes()).ok();
        self.next_ms = 0;
    }

    /// What the agent does now.
    pub(crate) fn entry(&mut self, entry: &Entry<'_>, clean_line: &str) {
        if !self.live {
            return;
        }
        match entry {
            Entry::Call { id, tool, .. } => {
                let what = match wire::rlog::read::body(clean_line.trim_end()) {
                    wire::rlog::read::Seen::Call { tool, arg, .. } if !arg.is_empty() => format!("{tool}: {arg}"),
                    _ => (*tool).to_owned(),
                };
                self.calls.push(((*id).to_owned(), what, os::clock::monotonic_ms()));
            }
            Entry::Output { id, .. } => self.calls.retain(|(call, _, _)| call != id),
            Entry::End { .. } | Entry::Start { .. } => self.calls.clear(),
            _ => {}
        }
        self.next_ms = 0;
    }

    pub(crate) fn phase(&mut self, phase: &'static str, spent: Spent) {
        if self.phase != phase {
            self.phase_since_ms = os::clock::monotonic_ms();
        }
        (self.phase, self.spent, self.next_ms) = (phase, spent, 0);
    }

    pub(crate) fn spent(&mut self, spent: Spent) {
        (self.spent, self.next_ms) = (spent, 0);
    }

    /// When the line is to be drawn again; `None` where there is none.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.live.then_some(self.next_ms)
    }

    /// Draws the line if it is time.
    pub(crate) fn draw(&mut self) {
        let now_ms = os::clock::monotonic_ms();
        if !self.live || now_ms < self.next_ms {
            return;
        }
        self.next_ms = now_ms + TICK_MS;
        self.spin += 1;
        let line = self.text(now_ms);
        let mut out = io::stdout().lock();
        let drawn = out.write_all(format!("{WIPE}{}", self.paint.dim(&line)).as_bytes()).and_then(|()| out.flush());
        DRAWN.store(drawn.is_ok(), Ordering::Relaxed);
        self.drawn_chars = line.chars().count();
    }

    /// Nothing more is drawn.
    pub(crate) fn end(&mut self) {
        wipe();
        self.live = false;
    }

    fn text(&self, now_ms: u64) -> String {
        const SPIN: [char; 4] = ['|', '/', '-', '\\'];
        let (what, since_ms) = match self.calls.last() {
            Some((_, what, since_ms)) => (what.as_str(), *since_ms),
            None => (self.phase, self.phase_since_ms),
        };
        let others = match self.calls.len() {
            0 | 1 => String::new(),
            calls => format!(" +{}", calls - 1),
        };
        let since = clock(now_ms.saturating_sub(since_ms));
        let turns = if self.spent.turns == 1 { "turn" } else { "turns" };
        let cost = dollars(self.spent.cost_micros);
        let elapsed = clock(now_ms.saturating_sub(self.began_ms));
        let spin = SPIN[self.spin % SPIN.len()];
        let right = format!("{others}  {since} | {} {turns} | ${cost:.2} | {elapsed}", self.spent.turns);
        // The last column stays free: some terminals begin a new line there.
        let room = usize::from(self.columns).saturating_sub(right.chars().count() + 3);
        let mut left: String = what.chars().take(room).collect();
        if left.len() < what.len() && room > 1 {
            left = what.chars().take(room - 1).chain(['…']).collect();
        }
        format!("{spin} {left}{right}").chars().take(usize::from(self.columns).saturating_sub(1)).collect()
    }
}

/// `2:05`, `1:02:05`.
fn clock(ms: u64) -> String {
    let s = ms / 1_000;
    let (hours, minutes, seconds) = (s / 3_600, s / 60 % 60, s % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(columns: u16) -> Progress {
        Progress {
            live: true,
            paint: Paint::new(false),
            reader: Reader::default(),
            columns,
            began_ms: 0,
            calls: Vec::new(),
            phase: "waiting for the model",
            phase_since_ms: 60_000,
            spent: Spent { turns: 3, cost_micros: 123_456, ..Spent::default() },
            next_ms: 0,
            spin: 0,
            drawn_chars: 0,
        }
    }

    #[test]
    fn the_line_tells_what_happens_and_fits_the_terminal() {
        let mut progress = progress(80);
        assert_eq!(progress.text(65_000), "| waiting for the model  0:05 | 3 turns | $0.12 | 1:05");
        let call = Entry::Call { id: "t1", tool: "Bash", arg: "cargo test --workspace --all-targets" };
        progress.entry(&call, &call.line());
        progress.calls[0].2 = 61_000;
        let expected = "| Bash: cargo test --workspace --all-targets  0:04 | 3 turns | $0.12 | 1:05";
        assert_eq!(progress.text(65_000), expected);
        let second = Entry::Call { id: "t2", tool: "Read", arg: "" };
        progress.entry(&second, &second.line());
        progress.calls[1].2 = 65_000;
        assert_eq!(progress.text(65_000), "| Read +1  0:00 | 3 turns | $0.12 | 1:05");
        progress.entry(&Entry::Output { id: "t2", is_error: false, text: "" }, "");
        for columns in [1, 10, 30, 45, 60] {
            progress.columns = columns;
            let text = progress.text(65_000);
            assert!(text.chars().count() < usize::from(columns), "{columns}: {text}");
        }
        assert_eq!(progress.text(65_000), "| Bash: cargo test --worksp…  0:04 | 3 turns | $0.12 | 1:05");
        progress.entry(&Entry::Start { session: "s", ts: "t" }, "");
        assert!(progress.calls.is_empty(), "what a dead agent had begun");
        assert_eq!(clock(3_725_000), "1:02:05");
    }

    #[test]
    fn where_there_is_no_terminal_nothing_is_drawn() {
        let mut plain = Progress { live: false, ..progress(80) };
        assert_eq!(plain.due_ms(), None);
        plain.draw();
        assert!(!DRAWN.load(Ordering::Relaxed));
    }
}
