//! What others may see of the machine: for `status`, and to carry on after the daemon's death.

use alloc::vec::Vec;

use super::types::State;
use super::{Band, MemoryReading, Reason, RunId};

/// The words of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerStatus {
    /// Asked for, not known to run yet.
    Starting,
    /// Runs.
    Running,
    /// Waits for the next attempt.
    Restarting,
    /// Too many failures; waits for the cooldown.
    Failed,
    /// Was told to end and has not yet.
    Stopping,
    /// Ended by the operator.
    Stopped,
}

impl WorkerStatus {
    /// The word itself.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    pub(super) fn of(state: &State) -> Self {
        match state {
            State::Down | State::Starting(_) => Self::Starting,
            State::Running(_) | State::Ready(_) => Self::Running,
            State::Stopping { .. } | State::ShuttingDown(_) => Self::Stopping,
            State::BackingOff { .. } => Self::Restarting,
            State::CoolingDown { .. } => Self::Failed,
            State::Stopped | State::Halted => Self::Stopped,
        }
    }
}

/// The machine as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// In a word.
    pub status: WorkerStatus,
    /// Whether the run said that it is ready.
    pub ready: bool,
    /// The run that there is.
    pub run: Option<RunId>,
    /// When it was started.
    pub started_ms: Option<u64>,
    /// When it last showed life.
    pub active_ms: Option<u64>,
    /// How often the worker was started again.
    pub total_restarts: u64,
    /// Failures in a row.
    pub failures: u32,
    /// When the next attempt is due.
    pub next_attempt_ms: Option<u64>,
    /// Why it is not running, or why it last was not.
    pub reason: Option<Reason>,
    /// The last reading.
    pub memory: MemoryReading,
    /// Its band.
    pub band: Band,
}

/// What must outlive the daemon. Times are of the same boot.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The newest run's number; 0: none yet.
    pub last_run: u64,
    /// How often the worker was started.
    pub starts: u64,
    /// Failures in a row.
    pub failures: u32,
    /// Clean exits in a row that came too soon.
    pub quick_exits: u32,
    /// When the failures of the last hour were.
    pub failures_ms: Vec<u64>,
    /// When runs were ended as stalled within the last hour.
    pub stall_kills_ms: Vec<u64>,
    /// The operator wants it to stay down.
    pub stopped: bool,
    /// When the next attempt is due, if one waits.
    pub next_attempt_ms: Option<u64>,
    /// Whether that wait is `failed`.
    pub failed: bool,
}
