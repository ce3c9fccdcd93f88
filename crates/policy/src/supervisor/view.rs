//! What others may see of the machine: for `status`, and to carry on after the daemon's death.

use alloc::vec::Vec;

use super::rollback::Counters;
use super::step::Supervisor;
use super::types::{State, Then};
use super::{Band, MemoryReading, Reason, Recalled, RunId};

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
    /// Nobody can say what lives of it.
    Unknown,
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
            Self::Unknown => "unknown",
            Self::Stopped => "stopped",
        }
    }

    pub(super) fn of(state: &State) -> Self {
        match state {
            State::Down | State::Starting(_) => Self::Starting,
            State::Running(_) | State::Ready(_) => Self::Running,
            State::Stopping { .. } | State::ShuttingDown(_) => Self::Stopping,
            State::BackingOff { .. } => Self::Restarting,
            State::Unknown(_) => Self::Unknown,
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
    /// Its last sign of new life, not a repetition.
    pub progress_ms: Option<u64>,
    /// How often the worker was started again.
    pub total_restarts: u64,
    /// Failures in a row.
    pub failures: u32,
    /// When the next attempt is due.
    pub next_attempt_ms: Option<u64>,
    /// Why it is not running, or why it last was not.
    pub reason: Option<Reason>,
    /// It failed too often within an hour, not so often in a row.
    pub failed_per_hour: bool,
    /// It shows no life, and was ended for that too often within an hour: it is left alone.
    pub left_alone: bool,
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
    /// Why the machine is where it is.
    pub reason: Option<Reason>,
    /// What waits for a proven binary while a candidate runs in its place.
    pub aside: Option<Counters>,
}

impl Snapshot {
    /// The same for a run that was decided on and is not begun yet: whoever finds nothing of it is to begin it once.
    #[must_use]
    pub fn before_start(self) -> Self {
        Self { last_run: self.last_run.saturating_sub(1), starts: self.starts.saturating_sub(1), ..self }
    }
}

impl Supervisor {
    /// Where the machine stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// For `status`.
    #[must_use]
    pub fn view(&self) -> View {
        let watch = match &self.state {
            State::Starting(watch)
            | State::Running(watch)
            | State::Ready(watch)
            | State::Stopping { watch, .. }
            | State::Unknown(watch)
            | State::ShuttingDown(watch) => Some(watch),
            State::Down | State::BackingOff { .. } | State::CoolingDown { .. } | State::Stopped | State::Halted => None,
        };
        View {
            status: WorkerStatus::of(&self.state),
            ready: matches!(self.state, State::Ready(_)),
            run: watch.map(|w| w.run),
            started_ms: watch.map(|w| w.started_ms),
            active_ms: watch.map(|w| w.active_ms),
            progress_ms: watch.map(|w| w.progress_ms),
            total_restarts: self.total_restarts(),
            failures: self.failures,
            next_attempt_ms: self.next_attempt_ms(),
            // What was the matter with the one before is no word on the one that runs.
            reason: self.reason.clone().filter(|_| !matches!(self.state, State::Running(_) | State::Ready(_))),
            failed_per_hour: matches!(self.state, State::CoolingDown { .. }) && !self.too_many_in_a_row(),
            left_alone: watch.is_some_and(|watch| watch.tolerated_ms.is_some()),
            memory: self.tight.reading,
            band: self.tight.band,
        }
    }

    fn total_restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    fn next_attempt_ms(&self) -> Option<u64> {
        match &self.state {
            State::BackingOff { until_ms } | State::CoolingDown { until_ms } => Some(*until_ms),
            State::Down
            | State::Starting(_)
            | State::Running(_)
            | State::Ready(_)
            | State::Stopping { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => None,
        }
    }

    /// What the next daemon needs to carry on. After a halt it begins anew, but for the numbering of the runs and for a
    /// worker that the operator stopped.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let halted = matches!(self.state, State::Halted);
        Snapshot {
            last_run: self.last_run,
            starts: if halted { 0 } else { self.starts },
            failures: if halted { 0 } else { self.failures },
            quick_exits: if halted { 0 } else { self.quick_exits },
            failures_ms: if halted { Vec::new() } else { self.failures_window.times() },
            stall_kills_ms: if halted { Vec::new() } else { self.stall_kills.times() },
            stopped: self.stay_down,
            next_attempt_ms: self.next_attempt_ms(),
            failed: matches!(self.state, State::CoolingDown { .. }),
            reason: self.reason.clone().filter(|_| !halted || self.stay_down),
            aside: self.aside.clone().filter(|_| !halted),
        }
    }

    /// The operator wants it to stay down.
    #[must_use]
    pub fn stays_down(&self) -> bool {
        self.stay_down
    }

    /// The run that comes next, if nobody says otherwise: for who wants to have it prepared.
    #[must_use]
    pub fn next_run(&self) -> Option<RunId> {
        let expected = match &self.state {
            State::Starting(_)
            | State::Running(_)
            | State::Ready(_)
            | State::BackingOff { .. }
            | State::CoolingDown { .. } => true,
            State::Stopping { then, .. } => *then != Then::Stay,
            State::Down | State::Unknown(_) | State::Stopped | State::ShuttingDown(_) | State::Halted => false,
        };
        expected.then_some(RunId(self.last_run + 1))
    }

    /// The run that is watched, as far as it can be watched.
    #[must_use]
    pub fn recall(&self) -> Option<(RunId, Recalled)> {
        let (State::Running(watch) | State::Ready(watch)) = &self.state else { return None };
        let recalled = Recalled {
            announced: watch.announced,
            active_ms: watch.active_ms,
            progress_ms: watch.progress_ms,
            extended_until_ms: watch.extended_until_ms,
            tolerated_ms: watch.tolerated_ms,
        };
        Some((watch.run, recalled))
    }

    /// Nothing is on its way: no run begins or ends just now, and nobody waits for one.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match &self.state {
            State::Running(_)
            | State::Ready(_)
            | State::BackingOff { .. }
            | State::CoolingDown { .. }
            | State::Unknown(_)
            | State::Stopped => true,
            State::Down | State::Starting(_) | State::Stopping { .. } | State::ShuttingDown(_) | State::Halted => false,
        }
    }

    /// The last reading's band.
    #[must_use]
    pub fn band(&self) -> Band {
        self.tight.band
    }

    /// Remember a reading that was made for another reason (for `status`).
    pub fn observe_memory(&mut self, reading: MemoryReading) {
        self.tight.reading = reading;
    }
}
