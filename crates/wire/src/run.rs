//! What a run's shim leaves for the daemon: `started` and `exit` in the run's folder, and the same as lines on the
//! pipe to the daemon that made it. One JSON object each.
//!
//! Version 1. Members are only ever added: a reader ignores those that it does not know, and takes the default for those
//! that are missing. The files end with the member `sum`, see [`encode`]. Daemon and shim are not always of one version, since a shim outlives the daemon that made it: a
//! reader understands every version before its own, and the one after it, which is what a version may count on when it
//! changes. A record of a later version is `Unknown`, and its run is then left alone.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The format's version.
pub const VERSION: u32 = 1;

/// The newest version that is understood.
pub const NEWEST_READ: u32 = VERSION + 1;

/// What a record turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<T> {
    /// One of ours.
    Known(T),
    /// Of a version that is not understood.
    Unknown {
        /// Which.
        v: u32,
    },
    /// Nothing that one of ours would write.
    Garbled,
}

impl<T> Record<T> {
    /// What it says, if it is understood.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(record) => Some(record),
            Self::Unknown { .. } | Self::Garbled => None,
        }
    }
}

/// `started` or `exit`.
#[must_use]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Record<T> {
    #[derive(Deserialize)]
    struct Head {
        v: u32,
        sum: Option<String>,
    }
    match serde_json::from_slice::<Head>(bytes) {
        Ok(Head { v: 1..=NEWEST_READ, sum: Some(_) }) if !is_whole(bytes) => Record::Garbled,
        Ok(Head { v: 1..=NEWEST_READ, .. }) => serde_json::from_slice(bytes).map_or(Record::Garbled, Record::Known),
        Ok(Head { v, .. }) => Record::Unknown { v },
        Err(_) => Record::Garbled,
    }
}

/// The bytes to write for a record: with a last member `sum`, the FNV-1a hash (64 bits) of all bytes before it. Whoever
/// does not know it ignores it; a record without one is of a version before. It is for bits that flip and hands that slip:
/// one byte that changed always shows.
///
/// # Errors
/// As of `serde_json`.
pub fn encode<T: Serialize>(record: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(record)?;
    if bytes.pop_if(|last| *last == b'}').is_some() {
        let end = seal_of(&bytes);
        bytes.extend(end.into_bytes());
    }
    Ok(bytes)
}

fn seal_of(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!(",\"sum\":\"{hash:016x}\"}}")
}

fn is_whole(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_end();
    let length = seal_of(b"").len();
    bytes
        .split_at_checked(bytes.len().saturating_sub(length))
        .is_some_and(|(body, seal)| seal_of(body).as_bytes() == seal)
}

/// A line of the pipe. Kinds of lines that are not known are passed over.
#[must_use]
pub fn decode_line(line: &[u8]) -> Record<Line> {
    match serde_json::from_slice::<Line>(line) {
        Ok(line) => match line.version() {
            1..=NEWEST_READ => Record::Known(line),
            v => Record::Unknown { v },
        },
        Err(_) => Record::Garbled,
    }
}

/// A process of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// When it began, in clock ticks since boot; 0: could not be read.
    pub start_ticks: u64,
}

/// The worker's program was executed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Started {
    /// The format's version.
    pub v: u32,
    /// The run's number.
    pub run: u64,
    /// The run's unique name, which every process of it carries as `AUTOPILOT_RUN_ID`.
    pub run_id: String,
    /// The boot it happened in.
    pub boot_id: String,
    /// The shim.
    pub shim: Process,
    /// The worker.
    pub worker: Process,
    /// When, on the monotonic clock of that boot.
    pub at_ms: u64,
    /// When, since the epoch.
    pub at_unix_ms: u64,
    /// What keeps its tree together: `cgroup2`, `cgroup1`, `subreaper` or `group`.
    pub containment: String,
    /// The folder of its control group, if it has one.
    pub group: Option<String>,
    /// The namespace of its pids, by the inode of `/proc/self/ns/pid`; 0: not known. In another one they mean nothing.
    pub pid_namespace: u64,
}

/// The run is over and its tree is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// The format's version.
    pub v: u32,
    /// The run's number.
    pub run: u64,
    /// The boot it happened in.
    pub boot_id: String,
    /// How the worker ended; absent if it never began.
    pub exit: Option<Exit>,
    /// Why the worker could not be begun.
    pub start_error: Option<StartError>,
    /// When, on the monotonic clock of that boot.
    pub at_ms: u64,
    /// When, since the epoch.
    pub at_unix_ms: u64,
    /// How long the worker lived.
    pub lived_ms: u64,
    /// How many processes of its tree were still there when it ended, and were killed.
    pub survivors_killed: u64,
    /// How much of its output could not be kept.
    pub output_lost_bytes: u64,
    /// The kernel killed the worker for want of memory.
    pub out_of_memory: bool,
    /// What could not be killed.
    pub leaked: Vec<Leaked>,
}

/// A process that is still there although it was killed: it hangs in the kernel, or belongs to another user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Leaked {
    /// Its pid.
    pub pid: u32,
    /// Its program's short name.
    pub name: String,
    /// As in `/proc/PID/stat`.
    pub state: char,
}

/// How a worker ended: one of the two is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// By itself, with this status.
    pub code: Option<i32>,
    /// By this signal.
    pub signal: Option<i32>,
}

/// Why a worker could not be begun.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StartError {
    /// At which step: `working-dir`, `execute`, `output`.
    pub step: String,
    /// What the kernel said.
    pub errno: i32,
}

/// A line on the pipe from shim to daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// The worker's program was executed.
    Started(Started),
    /// The run is over.
    Ended(Ended),
}

impl Line {
    fn version(&self) -> u32 {
        match self {
            Self::Started(started) => started.v,
            Self::Ended(ended) => ended.v,
        }
    }
}
