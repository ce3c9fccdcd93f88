//! What a run's shim leaves for the daemon: `started` and `exit` in the run's folder, and the same as lines on the
//! pipe to the daemon that made it. One JSON object each.
//!
//! Version 1. Members are only ever added; a reader ignores those that it does not know.

use serde::{Deserialize, Serialize};

/// The format's version.
pub const VERSION: u32 = 1;

/// A process of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// When it began, in clock ticks since boot; 0: could not be read.
    pub start_ticks: u64,
}

/// The worker's program was executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(default)]
    pub containment: String,
    /// The folder of its control group, if it has one.
    #[serde(default)]
    pub group: Option<String>,
}

/// The run is over and its tree is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(default)]
    pub out_of_memory: bool,
    /// What could not be killed.
    #[serde(default)]
    pub leaked: Vec<Leaked>,
}

/// A process that is still there although it was killed: it hangs in the kernel, or belongs to another user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaked {
    /// Its pid.
    pub pid: u32,
    /// Its program's short name.
    pub name: String,
    /// As in `/proc/PID/stat`.
    pub state: char,
}

/// How a worker ended: one of the two is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// By itself, with this status.
    pub code: Option<i32>,
    /// By this signal.
    pub signal: Option<i32>,
}

/// Why a worker could not be begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
