//! The control protocol: one JSON object a line over a local stream socket, a request and its reply in turn.
//!
//! Version 1. A reader ignores members that it does not know; a request of another version is refused by name, so that
//! an old client is told to update rather than misunderstood.

use serde::{Deserialize, Serialize};

/// The protocol's version.
pub const VERSION: u32 = 1;

/// A request is never longer; a longer one is refused, and the connection closed.
pub const MAX_REQUEST_BYTES: usize = 4096;

/// A reply is never longer.
pub const MAX_REPLY_BYTES: usize = 1 << 20;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The protocol's version.
    pub v: u32,
    /// What is asked.
    pub verb: Verb,
    /// For [`Verb::Upgrade`]: the program, by its absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

impl Request {
    /// One that needs nothing but its verb.
    #[must_use]
    pub fn new(verb: Verb) -> Self {
        Self { v: VERSION, verb, program: None }
    }
}

/// The verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// How things stand.
    Status,
    /// Run the worker.
    StartWorker,
    /// End the worker and leave it ended.
    StopWorker,
    /// End the worker and run it anew.
    RestartWorker,
    /// End the worker and the daemon.
    Stop,
    /// End the daemon, and leave the worker as it is. A verb of its own: a daemon that does not know it must not take it
    /// for a plain stop.
    StopKeepWorker,
    /// Become another program, and leave the worker as it is.
    Upgrade,
}

/// The answer: exactly one of the members besides `v` is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The protocol's version.
    pub v: u32,
    /// To [`Verb::Status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
    /// To a command that was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
    /// To one that was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

impl Reply {
    /// It was carried out.
    #[must_use]
    pub fn done(message: String, worker_pid: Option<u32>) -> Self {
        Self { v: VERSION, status: None, done: Some(Done { message, worker_pid }), failed: None }
    }

    /// It was not.
    #[must_use]
    pub fn failed(kind: FailedKind, message: String, hint: Option<String>) -> Self {
        Self { v: VERSION, status: None, done: None, failed: Some(Failed { kind, message, hint }) }
    }

    /// How things stand.
    #[must_use]
    pub fn status(status: Status) -> Self {
        Self { v: VERSION, status: Some(Box::new(status)), done: None, failed: None }
    }
}

/// A command was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// For people.
    pub message: String,
    /// The worker that runs now, if one does.
    pub worker_pid: Option<u32>,
}

/// A command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// For programs.
    pub kind: FailedKind,
    /// What happened and why, for people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailedKind {
    /// The request is not one.
    BadRequest,
    /// Another user's.
    NotPermitted,
    /// The state of things, or a later command, did not allow it.
    Refused,
    /// The worker can't be started.
    CannotStart,
}

/// How things stand. Members are only ever added.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `running`, `starting`, `restarting`, `failed`, `stopped` or `stopping`.
    pub worker_status: String,
    /// The worker's process, if there is one.
    pub worker_pid: Option<u32>,
    /// How long the worker has run; 0 if it does not.
    pub uptime_seconds: u64,
    /// How often the worker was started again since the daemon was first started.
    pub total_restarts: u64,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Memory that could still be had.
    pub memory_available_bytes: u64,
    /// All memory, or the container's limit where that is what is tight.
    pub memory_total_bytes: u64,
    /// `normal`, `low` or `critical`.
    pub memory_band: String,
    /// The program that is run as the worker, and what chose it.
    pub worker_binary: String,
    /// What its copy answered to `--version`.
    pub worker_version: Option<String>,
    /// The copy's hash.
    pub worker_sha256: Option<String>,
    /// `candidate`, `good` or `quarantined`.
    pub worker_standing: Option<String>,
    /// Of a candidate in place of a proven binary: starts that count against it.
    pub worker_attempts: u32,
    /// A newer binary that was given up, and why, for people.
    pub rolled_back: Option<String>,
    /// What the agent's copy answered to `--version`; absent if the worker looks for the agent itself.
    pub agent_version: Option<String>,
    /// That copy's hash.
    pub agent_sha256: Option<String>,
    /// `candidate`, `good` or `quarantined`.
    pub agent_standing: Option<String>,
    /// A newer agent that was given up, and why, for people.
    pub agent_rolled_back: Option<String>,
    /// How the last runs ended, newest first.
    pub last_exits: Vec<LastExit>,
    /// When the next attempt is due, if one waits.
    pub next_attempt_in_ms: Option<u64>,
    /// Why the worker is in this state, for people.
    pub reason: Option<String>,
    /// The number of the run.
    pub run: Option<u64>,
    /// Whether the worker has said that it is ready.
    pub worker_ready: bool,
    /// What the worker says that it is doing.
    pub worker_phase: Option<String>,
    /// The same in its own words.
    pub worker_message: Option<String>,
    /// Its log for people.
    pub worker_rlog: Option<String>,
    /// How long ago it last showed life.
    pub last_activity_ms_ago: Option<u64>,
    /// By what: a heartbeat, its log, its output, its tools at work. Absent before the first sign that this daemon has seen.
    pub last_activity_source: Option<String>,
    /// How its process tree is kept together.
    pub containment: String,
    /// The daemon's process.
    pub daemon_pid: u32,
    /// The daemon's version.
    pub daemon_version: String,
    /// How long the daemon has run.
    pub daemon_uptime_seconds: u64,
    /// Where the worker runs.
    pub working_dir: String,
    /// The project, if it has a name.
    pub project: Option<String>,
    /// The model.
    pub model: String,
    /// Where the worker's stdout and stderr are kept.
    pub output_log: String,
    /// What does not work as it should, for people.
    pub degraded: Vec<String>,
}

/// How one run ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LastExit {
    /// Its number.
    pub run: u64,
    /// For people: `exit status 3`, `SIGKILL`, `stopped by the operator` …
    pub cause: String,
    /// Milliseconds since the epoch.
    pub at_unix_ms: u64,
    /// How long it lived.
    pub lived_ms: u64,
}
