//! The incident journal: what the daemon did and why, one JSON object a line.
//!
//! Version 1. Each line says the same twice: `event`, for programs, and `text` (with a `hint`, perhaps), for people. So
//! a reader that does not know an event, because the daemon is newer, can still show it. Members and kinds of events are
//! only ever added; a line of another version is shown by its text, too.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The format's version.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The format's version.
    pub v: u32,
    /// Counts on over all daemons of a home, without gaps: [`Event::Lost`] tells of lines that could not be written.
    pub seq: u64,
    /// When, since the epoch: for people. The clock may step.
    pub at_unix_ms: u64,
    /// When, on the monotonic clock of this boot: what differences are to be taken of.
    pub at_ms: u64,
    /// The boot.
    pub boot: String,
    /// The daemon's pid.
    pub daemon: u32,
    /// What happened.
    pub event: Event,
    /// The same for people.
    pub text: String,
    /// What they can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What happened. In the JSON its kind is the member `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// The daemon serves.
    DaemonStarted {
        /// Its version.
        version: String,
        /// What will keep a worker's tree together.
        containment: String,
        /// The machine was started anew since the last daemon: what that one had begun is gone.
        rebooted: bool,
    },
    /// It was told to end, and ends the worker first.
    DaemonStopping,
    /// It ends.
    DaemonStopped,
    /// Somebody asks for something that changes something.
    Command {
        /// `start-worker`, `stop-worker`, `restart-worker` or `stop`.
        verb: String,
        /// Who, if it came over the socket.
        uid: Option<u32>,
        /// The asking process.
        pid: Option<u32>,
    },
    /// The answer to it.
    Answer {
        /// What was asked.
        verb: String,
        /// It was done.
        done: bool,
    },
    /// Which program the worker is from now on.
    Binary {
        /// The file, or the command, that was asked for.
        source: String,
        /// Of the copy that runs.
        sha256: Option<String>,
    },
    /// A new binary is in the store, and may show what it can.
    BinaryAdmitted {
        /// The file that it is a copy of.
        source: String,
        /// Its hash.
        sha256: String,
        /// What it answered to `--version`.
        version: String,
        /// It is the agent's, not the worker's.
        #[serde(default)]
        agent: bool,
    },
    /// A file is not used.
    BinaryRefused {
        /// The file.
        source: String,
        /// Why, for people.
        why: String,
        /// It is the agent's, not the worker's.
        #[serde(default)]
        agent: bool,
    },
    /// A binary was healthy for long enough.
    BinaryProven {
        /// Its hash.
        sha256: String,
        /// It is the agent's, not the worker's.
        #[serde(default)]
        agent: bool,
    },
    /// A binary failed its probation; one that is proven runs again.
    RolledBack {
        /// The one that is in quarantine now.
        from: String,
        /// The one that runs again.
        to: String,
        /// Why, for people.
        why: String,
        /// It is the agent's, not the worker's.
        #[serde(default)]
        agent: bool,
    },
    /// The worker is built from source, and does not build.
    BuildFailed {
        /// The run's number.
        run: u64,
        /// The first error.
        error: String,
    },
    /// The worker runs.
    Started {
        /// The run's number.
        run: u64,
        /// The worker.
        pid: Option<u32>,
    },
    /// It ran already.
    Adopted {
        /// The run's number.
        run: u64,
        /// The worker.
        pid: Option<u32>,
    },
    /// A run without its shim was found; its tree is ended.
    Orphaned {
        /// The run's number.
        run: u64,
    },
    /// A run seems to live, but what it is can't be told for certain: it is left alone.
    Unverified {
        /// The run's number.
        run: u64,
    },
    /// The worker ended.
    Ended {
        /// The run's number.
        run: u64,
        /// The worker.
        pid: Option<u32>,
        /// The exit status.
        code: Option<i32>,
        /// The signal.
        signal: Option<i32>,
        /// Who told it to: `stall`, `memory`, or a verb; absent if nobody did.
        told: Option<String>,
        /// How long it lived.
        lived_ms: u64,
    },
    /// The worker could not be started.
    CannotStart {
        /// The run's number.
        run: u64,
    },
    /// The next attempt waits.
    Waiting {
        /// For so long.
        delay_ms: u64,
        /// Failures in a row.
        failures: u32,
        /// `backoff`, `quick-exit`, `consecutive` or `per-hour`; the last two are `failed`.
        why: String,
    },
    /// The worker lived long enough; failures are forgotten.
    Succeeded {
        /// The run's number.
        run: u64,
    },
    /// No activity for too long: it is ended.
    Stalled {
        /// The run's number.
        run: u64,
        /// For so long.
        silent_ms: u64,
        /// It was not silent, but wrote the same again and again.
        repeats_itself: bool,
        /// The file that says what was seen.
        evidence: Option<String>,
    },
    /// No activity for too long, but left alone.
    StallTolerated {
        /// The run's number.
        run: u64,
        /// For so long.
        silent_ms: u64,
        /// The file that says what was seen.
        evidence: Option<String>,
    },
    /// Available memory came into another band.
    MemoryBand {
        /// `normal`, `low` or `critical`.
        band: String,
        /// What is available.
        available_bytes: u64,
        /// Of so much.
        total_bytes: u64,
    },
    /// Processes wait for memory.
    MemoryPressure {
        /// For so much of the last 10 s.
        percent: u8,
    },
    /// A process of the worker's tree is ended for want of memory.
    Victim {
        /// The run's number.
        run: u64,
        /// The process.
        pid: u32,
        /// What it holds.
        bytes: u64,
        /// `SIGTERM` or `SIGKILL`.
        signal: String,
    },
    /// The worker is restarted for want of memory.
    MemoryRestart {
        /// The run's number.
        run: u64,
        /// What its tree holds.
        tree_bytes: u64,
        /// The file that says what was seen.
        evidence: Option<String>,
    },
    /// Memory is critical, but not because of the worker.
    MemoryElsewhere {
        /// The run's number.
        run: u64,
        /// What its tree holds.
        tree_bytes: u64,
    },
    /// What the worker had left was killed after its end.
    Survivors {
        /// The run's number.
        run: u64,
        /// So many processes.
        killed: u64,
    },
    /// Some of it could not be killed.
    Leaked {
        /// The run's number.
        run: u64,
        /// Their pids.
        pids: Vec<u32>,
    },
    /// The worker waits for a person.
    NeedsYou {
        /// The run's number.
        run: u64,
        /// The worker.
        pid: Option<u32>,
    },
    /// Some of the worker's output could not be kept.
    OutputLost {
        /// The run's number, if it is known.
        run: Option<u64>,
        /// So much by now.
        bytes: u64,
    },
    /// Something does not work as it should; the daemon goes on without it.
    Degraded,
    /// A file that is not what it should be got another name.
    SetAside {
        /// Its name.
        file: String,
        /// Its new name; absent if it could not be renamed.
        to: Option<String>,
    },
    /// Lines of this journal could not be written.
    Lost {
        /// So many.
        lines: u64,
    },
}

/// A line, as far as it is understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// Wholly.
    Record(Box<Record>),
    /// A line of another version, or with an event of a kind that is not known here.
    Unknown {
        /// Its number.
        seq: u64,
        /// When, since the epoch.
        at_unix_ms: u64,
        /// The event's kind, as it is written.
        kind: String,
        /// What it says for people.
        text: String,
    },
    /// No line of this journal: torn, or damaged.
    Garbled,
}

impl Line {
    /// Its number, if it has one.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Record(record) => Some(record.seq),
            Self::Unknown { seq, .. } => Some(*seq),
            Self::Garbled => None,
        }
    }

    /// When, since the epoch.
    #[must_use]
    pub fn at_unix_ms(&self) -> Option<u64> {
        match self {
            Self::Record(record) => Some(record.at_unix_ms),
            Self::Unknown { at_unix_ms, .. } => Some(*at_unix_ms),
            Self::Garbled => None,
        }
    }
}

impl Record {
    /// The line, with its end.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Strings and numbers: serialising them cannot fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

impl Event {
    /// The event's kind, as it is written.
    #[must_use]
    pub fn kind(&self) -> String {
        serde_json::to_value(self).ok().as_ref().and_then(kind_of).unwrap_or_default()
    }
}

fn kind_of(event: &Value) -> Option<String> {
    event.get("kind")?.as_str().map(str::to_owned)
}

/// A line, with or without its end.
#[must_use]
pub fn decode(line: &[u8]) -> Line {
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return Line::Garbled };
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    let (Some(v), Some(seq), Some(at_unix_ms)) = (number("v"), number("seq"), number("at_unix_ms")) else {
        return Line::Garbled;
    };
    let kind = value.get("event").and_then(kind_of).unwrap_or_else(|| "unknown".to_owned());
    let text = value.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
    let unknown = Line::Unknown { seq, at_unix_ms, kind, text };
    if v != u64::from(VERSION) {
        return unknown;
    }
    serde_json::from_value(value).map_or(unknown, |record| Line::Record(Box::new(record)))
}
