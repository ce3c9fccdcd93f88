//! What the job has used up: an append-only file, replayed at the start, so that turns and budget hold over sessions, crashes
//! and restarts.
//!
//! Version 1, one JSON object a line. `start` comes before a process is started, `use` at every answer (again when its final
//! counts are known: the last one of an id holds), `result` with what the CLI itself says it cost. The uses of a process that
//! died without a result are priced by [`crate::price`].

use std::collections::HashMap;
use std::io;
use std::path::Path;

use policy::work::Spent;
use serde::{Deserialize, Serialize};
use wire::claude::Usage;

use crate::append::Appender;
use crate::price::estimate_micros;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "kebab-case")]
pub(crate) enum Record {
    /// A log was opened: what follows is told in its `@end`.
    Log { v: u32, job: String, rlog: String },
    /// A process of the agent is about to be started.
    Start { v: u32, job: String, session: String },
    /// An answer.
    Use {
        v: u32,
        job: String,
        id: String,
        model: String,
        /// Of the main agent: a turn.
        main: bool,
        input: u64,
        output: u64,
        cache_write: u64,
        cache_read: u64,
    },
    /// A process said what it cost, this result alone and its session in all.
    Result { v: u32, job: String, cost_micros: Option<u64>, total_micros: Option<u64> },
}

const VERSION: u32 = 1;

impl Record {
    fn job(&self) -> &str {
        match self {
            Self::Log { job, .. } | Self::Start { job, .. } | Self::Use { job, .. } | Self::Result { job, .. } => job,
        }
    }
}

#[derive(Debug, Clone)]
struct Answer {
    model: String,
    usage: Usage,
    main: bool,
    /// What it is thought to cost, until a result has told; then 0.
    unsettled_micros: u64,
}

/// Tokens and money of a stretch of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) tokens_in: u64,
    pub(crate) tokens_out: u64,
    pub(crate) cost_micros: u64,
}

#[derive(Debug, Default)]
struct Tally {
    turns: u64,
    settled_micros: u64,
    /// The sum over the answers.
    unsettled_micros: u64,
    tokens_in: u64,
    tokens_out: u64,
    /// Of the running process, by message id.
    answers: HashMap<String, Answer>,
    /// The totals when the current log was opened.
    log_began: Totals,
    /// What each session had cost in all at its last result; the CLI keeps counting when it resumes one.
    session_totals: HashMap<String, u64>,
    session: String,
}

impl Tally {
    fn totals(&self) -> Totals {
        let (tokens_in, tokens_out) = (self.tokens_in, self.tokens_out);
        Totals { tokens_in, tokens_out, cost_micros: self.settled_micros + self.unsettled_micros }
    }

    fn take(&mut self, record: &Record) {
        match record {
            Record::Log { .. } => self.log_began = self.totals(),
            Record::Start { session, .. } => {
                // The process before has said all that it ever will.
                self.settled_micros += std::mem::take(&mut self.unsettled_micros);
                self.answers.clear();
                self.session.clone_from(session);
            }
            Record::Use { id, model, main, input, output, cache_write, cache_read, .. } => {
                let usage = Usage {
                    input_tokens: *input,
                    output_tokens: *output,
                    cache_write_tokens: *cache_write,
                    cache_read_tokens: *cache_read,
                };
                let unsettled_micros = estimate_micros(model, usage);
                let answer = Answer { model: model.clone(), usage, main: *main, unsettled_micros };
                self.unsettled_micros += unsettled_micros;
                let before = self.answers.insert(id.clone(), answer);
                match before {
                    Some(before) => {
                        self.unsettled_micros -= before.unsettled_micros;
                        self.tokens_in = self.tokens_in.saturating_sub(tokens_in(before.usage));
                        self.tokens_out = self.tokens_out.saturating_sub(before.usage.output_tokens);
                    }
                    None => self.turns += u64::from(*main),
                }
                self.tokens_in += tokens_in(usage);
                self.tokens_out += usage.output_tokens;
            }
            Record::Result { cost_micros, total_micros, .. } => {
                let before = self.session_totals.get(&self.session).copied().unwrap_or(0);
                let by_total = total_micros.map(|total| total.saturating_sub(before));
                // A cost of 0 for answers that were given is a gap in the CLI's own books.
                let told = cost_micros.or(by_total).filter(|cost| *cost > 0);
                let thought = std::mem::take(&mut self.unsettled_micros);
                self.settled_micros += told.unwrap_or(thought);
                self.answers.values_mut().for_each(|answer| answer.unsettled_micros = 0);
                if let Some(total) = total_micros {
                    self.session_totals.insert(self.session.clone(), *total);
                }
            }
        }
    }
}

fn tokens_in(usage: Usage) -> u64 {
    usage.input_tokens + usage.cache_write_tokens + usage.cache_read_tokens
}

/// The ledger of one job in a project's file.
#[derive(Debug)]
pub(crate) struct Ledger {
    job: String,
    file: Appender,
    tally: Tally,
    /// Records that could not be written; they still count.
    unwritten: Vec<u8>,
}

impl Ledger {
    /// Opens the file and replays what concerns this job. A torn last line is moved to a file beside it.
    pub(crate) fn open(path: &Path, job: &str) -> io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (lines, torn) = bytes.split_at(whole);
        if !torn.is_empty() {
            let mut aside = Appender::open(&path.with_extension("torn"), 0o600)?;
            aside.append(&[torn, b"\n"].concat())?;
            std::fs::OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
        }
        let mut tally = Tally::default();
        for line in lines.split(|byte| *byte == b'\n') {
            // A record of a later version, or damage: the rest still counts.
            let Ok(record) = serde_json::from_slice::<Record>(line) else { continue };
            if record.job() == job {
                tally.take(&record);
            }
        }
        let file = Appender::open(path, 0o600)?;
        Ok(Self { job: job.to_owned(), file, tally, unwritten: Vec::new() })
    }

    pub(crate) fn spent(&self) -> Spent {
        Spent { turns: self.tally.turns, cost_micros: self.tally.totals().cost_micros }
    }

    /// Since the current log was opened.
    pub(crate) fn log_totals(&self) -> Totals {
        let (now, began) = (self.tally.totals(), self.tally.log_began);
        Totals {
            tokens_in: now.tokens_in.saturating_sub(began.tokens_in),
            tokens_out: now.tokens_out.saturating_sub(began.tokens_out),
            cost_micros: now.cost_micros.saturating_sub(began.cost_micros),
        }
    }

    pub(crate) fn log_opened(&mut self, rlog: &Path) -> io::Result<()> {
        let rlog = rlog.to_string_lossy().into_owned();
        self.add(Record::Log { v: VERSION, job: self.job.clone(), rlog })
    }

    /// Synced: what is spent after it must not be forgotten, even by a loss of power.
    pub(crate) fn starting(&mut self, session: &str) -> io::Result<()> {
        self.add(Record::Start { v: VERSION, job: self.job.clone(), session: session.to_owned() })?;
        self.file.sync()
    }

    /// An answer was begun or its counts are known better. Says whether it is a new one.
    pub(crate) fn answered(&mut self, id: &str, model: &str, main: bool, usage: Usage) -> (bool, io::Result<()>) {
        let known = self.tally.answers.get(id);
        if known.is_some_and(|answer| answer.usage == usage) {
            return (false, Ok(()));
        }
        let new = known.is_none();
        (new, self.write_use(id, model, main, usage))
    }

    /// The final counts of an answer that was told before: the larger figure of each kind holds.
    pub(crate) fn finished(&mut self, id: &str, usage: Usage) -> io::Result<()> {
        let Some(answer) = self.tally.answers.get(id).cloned() else { return Ok(()) };
        let usage = Usage {
            input_tokens: answer.usage.input_tokens.max(usage.input_tokens),
            output_tokens: answer.usage.output_tokens.max(usage.output_tokens),
            cache_write_tokens: answer.usage.cache_write_tokens.max(usage.cache_write_tokens),
            cache_read_tokens: answer.usage.cache_read_tokens.max(usage.cache_read_tokens),
        };
        if usage == answer.usage { Ok(()) } else { self.write_use(id, &answer.model, answer.main, usage) }
    }

    /// Whether this answer is one of the main agent.
    pub(crate) fn is_main(&self, id: &str) -> bool {
        self.tally.answers.get(id).is_some_and(|answer| answer.main)
    }

    pub(crate) fn result(&mut self, cost_usd: Option<f64>, total_usd: Option<f64>) -> io::Result<()> {
        let (cost_micros, total_micros) = (cost_usd.and_then(micros), total_usd.and_then(micros));
        self.add(Record::Result { v: VERSION, job: self.job.clone(), cost_micros, total_micros })
    }

    fn write_use(&mut self, id: &str, model: &str, main: bool, usage: Usage) -> io::Result<()> {
        self.add(Record::Use {
            v: VERSION,
            job: self.job.clone(),
            id: id.to_owned(),
            model: model.to_owned(),
            main,
            input: usage.input_tokens,
            output: usage.output_tokens,
            cache_write: usage.cache_write_tokens,
            cache_read: usage.cache_read_tokens,
        })
    }

    fn add(&mut self, record: Record) -> io::Result<()> {
        self.tally.take(&record);
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        // What a full disk refused goes first, once there is space again.
        if self.unwritten.is_empty() {
            let written = self.file.append(&line);
            if written.is_err() {
                self.unwritten = line;
            }
            return written;
        }
        if self.unwritten.len() < 1 << 20 {
            self.unwritten.extend_from_slice(&line);
        }
        self.file.append(&self.unwritten)?;
        self.unwritten.clear();
        Ok(())
    }
}

/// Dollars as millionths, rounded up: a budget is a bound.
#[must_use]
pub(crate) fn micros(usd: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and only non-negative finite numbers arrive here"
    )]
    // The CLI sums in binary fractions: 0.0022199999999999998 is 2220 millionths.
    (usd.is_finite() && usd >= 0.0).then(|| (usd * 1_000_000.0 - 1e-6).ceil().max(0.0) as u64)
}

/// Millionths of a dollar as dollars.
#[must_use]
pub(crate) fn dollars(micros: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to nine billion dollars")]
    let micros = micros as f64;
    micros / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: Usage = Usage { input_tokens: 100, output_tokens: 1, cache_write_tokens: 0, cache_read_tokens: 0 };

    fn replayed(path: &Path) -> (Spent, Totals) {
        let ledger = Ledger::open(path, "job").unwrap();
        (ledger.spent(), ledger.log_totals())
    }

    #[test]
    fn what_was_spent_survives_restarts_and_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let mut ledger = Ledger::open(&path, "job").unwrap();
        ledger.log_opened(Path::new("a.rlog")).unwrap();
        ledger.starting("s1").unwrap();
        for expected in [true, false] {
            let (new, written) = ledger.answered("m1", "claude-sonnet-5-5", true, USAGE);
            written.unwrap();
            assert_eq!(new, expected);
        }
        ledger.finished("m1", Usage { output_tokens: 50, ..Usage::default() }).unwrap();
        // Subagents cost, but their answers are no turns.
        ledger.answered("m2", "claude-haiku-4-5", false, USAGE).1.unwrap();
        let estimate = 100 * 3 + 50 * 15 + 100 + 5;
        assert_eq!(ledger.spent(), Spent { turns: 1, cost_micros: estimate });
        ledger.result(Some(0.0005), Some(0.0005)).unwrap();
        assert_eq!(ledger.spent(), Spent { turns: 1, cost_micros: 500 });
        // The second process dies without a result: its answers are priced.
        ledger.starting("s1").unwrap();
        ledger.answered("m3", "claude-sonnet-5-5", true, USAGE).1.unwrap();
        let spent = Spent { turns: 2, cost_micros: 500 + 315 };
        assert_eq!(ledger.spent(), spent);
        let totals = Totals { tokens_in: 300, tokens_out: 52, cost_micros: 815 };
        assert_eq!(replayed(&path), (spent, totals));
        // The third resumes the session; an older CLI tells only the session's total.
        ledger.starting("s1").unwrap();
        ledger.answered("m4", "claude-sonnet-5-5", true, USAGE).1.unwrap();
        ledger.result(None, Some(0.0009)).unwrap();
        assert_eq!(ledger.spent(), Spent { turns: 3, cost_micros: 815 + 400 });
        // A new log begins at nothing.
        ledger.log_opened(Path::new("b.rlog")).unwrap();
        assert_eq!(replayed(&path).1, Totals::default());
        assert_eq!(Ledger::open(&path, "other job").unwrap().spent(), Spent::default());
    }

    #[test]
    fn a_torn_line_is_kept_aside_and_damage_in_the_middle_loses_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let whole = r#"{"t":"use","v":1,"job":"job","id":"m1","model":"claude-opus-4","main":true,"input":1,"output":1,"cache_write":0,"cache_read":0}"#;
        let text = format!("{whole}\n%%%\n{{\"t\":\"telepathy\",\"job\":\"job\"}}\n{{\"t\":\"use\",\"v\":1,\"jo");
        std::fs::write(&path, text).unwrap();
        let mut ledger = Ledger::open(&path, "job").unwrap();
        assert_eq!(ledger.spent(), Spent { turns: 1, cost_micros: 90 });
        ledger.answered("m2", "claude-opus-4", true, USAGE).1.unwrap();
        assert_eq!(replayed(&path).0.turns, 2);
        let aside = std::fs::read_to_string(folder.path().join("ledger.torn")).unwrap();
        assert_eq!(aside, "{\"t\":\"use\",\"v\":1,\"jo\n");
    }

    #[test]
    fn a_full_disk_forgets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let mut ledger = Ledger::open(&path, "job").unwrap();
        let file = std::mem::replace(&mut ledger.file, Appender::open(Path::new("/dev/full"), 0o600).unwrap());
        assert!(ledger.starting("s").is_err());
        assert!(ledger.answered("m1", "claude-opus-4", true, USAGE).1.is_err());
        assert_eq!(ledger.spent().turns, 1);
        ledger.file = file;
        ledger.answered("m2", "claude-opus-4", true, USAGE).1.unwrap();
        assert_eq!(replayed(&path).0.turns, 2);
    }

    #[test]
    fn dollars_round_up_to_millionths() {
        for (usd, expected) in [
            (0.0, Some(0)),
            (0.0022199999999999998, Some(2_220)),
            (0.00148, Some(1_480)),
            (0.000_000_2, Some(1)),
            (5.0, Some(5_000_000)),
            (f64::NAN, None),
            (-1.0, None),
        ] {
            assert_eq!(micros(usd), expected, "{usd}");
        }
        assert!((dollars(1_480) - 0.00148).abs() < 1e-12);
    }
}
