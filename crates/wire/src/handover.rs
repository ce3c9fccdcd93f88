//! What one daemon leaves to the next: what it has seen of the run that goes on (`seen` in the run's folder), and, where
//! it becomes the next one itself by execve(2), which of its descriptors are what (`AUTOPILOTD_HANDOVER`).
//!
//! Version 1. Members are only ever added, and default where they are missing. Who does not understand it does without:
//! the run is found by its lock and its records, a socket can be bound anew.

use serde::{Deserialize, Serialize};

/// The formats' version.
pub const VERSION: u32 = 1;

/// What a daemon has seen of a run, of what no file of the run tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// The format's version.
    pub v: u32,
    /// The run's unique name: times are of its boot.
    pub run_id: String,
    /// It has said that it is ready.
    pub ready: bool,
    /// It sends heartbeats.
    pub heartbeat: bool,
    /// What it does.
    pub phase: Option<String>,
    /// The same in its own words.
    pub message: Option<String>,
    /// Its log for people.
    pub rlog: Option<String>,
    /// What is run, for people.
    pub binary: Option<String>,
    /// A hash of the arguments and the folder that it was begun with.
    pub begun_with: Option<String>,
    /// Why it was started anew, for people.
    pub reason: Option<String>,
    /// It asked not to be judged before this.
    pub extended_until_ms: u64,
    /// It was found stalled and left alone at this time.
    pub tolerated_ms: Option<u64>,
    /// The daemon ended on purpose, at this time, and the two times below are of then.
    pub left_at_ms: Option<u64>,
    /// Written at this time, when the two times below and the logs were so; a daemon that is killed leaves that.
    pub noted_at_ms: Option<u64>,
    /// Its last sign of life.
    pub active_ms: u64,
    /// Its last sign of new life.
    pub progress_ms: u64,
    /// Its logs and its output, as they were then.
    pub logs: Vec<Log>,
}

/// A log, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Where it is.
    pub path: String,
    /// Which file it was.
    pub inode: u64,
    /// How long.
    pub bytes: u64,
    /// When it was last written to, to be compared and nothing else: seconds and nanoseconds.
    pub written: (i64, i64),
    /// The complaints that were read in it, hashed.
    pub complaints: Vec<u64>,
}

/// From a daemon to the program that it becomes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handover {
    /// The format's version.
    pub v: u32,
    /// Who it is for: the pid stays. For anybody else it means nothing.
    pub pid: u32,
    /// The old program's version.
    pub from: String,
    /// The descriptor of the daemon's lock, which stays locked.
    pub lock: i32,
    /// Of the control socket, at which clients go on queueing.
    pub control: i32,
    /// Of the socket for the worker's heartbeats.
    pub notify: i32,
    /// Of connections on which something may yet come.
    pub clients: Vec<i32>,
    /// Of the connection that asked for it, and waits for an answer.
    pub asked: Option<i32>,
    /// Of the old program's file, to go back to if the new one can't serve; absent on the way back.
    pub back: Option<i32>,
    /// The old program's arguments; absent if they are not text.
    pub arguments: Option<Vec<String>>,
    /// Where to tell the guard that the new program serves.
    pub guard: Option<i32>,
    /// On the way back: why.
    pub failed: Option<String>,
}

/// `None`: not understood.
#[must_use]
pub fn seen(bytes: &[u8]) -> Option<Seen> {
    serde_json::from_slice::<Seen>(bytes).ok().filter(|seen| (1..=VERSION + 1).contains(&seen.v))
}

/// `None`: not understood.
#[must_use]
pub fn handover(bytes: &[u8]) -> Option<Handover> {
    serde_json::from_slice::<Handover>(bytes).ok().filter(|handover| (1..=VERSION + 1).contains(&handover.v))
}
