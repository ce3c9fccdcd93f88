//! What the operator can ask for, and how it is answered: every request exactly once.

use super::{Exit, RunId, StartFailure};

/// One request of a client, so that its answer finds it. Chosen by the shell, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The operator's verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Run the worker if it does not run. Answered when it runs.
    StartWorker,
    /// End the worker and leave it ended. Answered when its whole tree is gone.
    StopWorker,
    /// End the worker if it runs, and run it anew, waiting for nothing. Answered when the new one runs.
    RestartWorker,
    /// End the worker, then the daemon. Answered when its whole tree is gone.
    Shutdown,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The worker runs, as this run.
    Running(RunId),
    /// It ran already; nothing was changed.
    AlreadyRunning(RunId),
    /// The worker's tree is gone and stays so.
    Stopped,
    /// It was stopped already; nothing was changed.
    AlreadyStopped,
    /// The tree is gone, and the daemon ends now.
    Halted,
    /// The worker can't be started; it is tried again as after any failure.
    CannotStart(StartFailure),
    /// The worker ended before it was known to run; it is tried again as after any failure.
    EndedAtOnce(Exit),
    /// Not done, and why.
    Refused(Refusal),
}

/// Why a request was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A later request of the operator said otherwise before this one was done.
    Superseded(Command),
    /// The daemon is about to end.
    ShuttingDown,
    /// Nobody can say what lives of a run that is not over: nothing is started beside it.
    Unverified,
}
