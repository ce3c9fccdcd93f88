//! What goes into the worker's loop and what comes out.

use alloc::string::String;

use super::budget::Window;
use super::delay::Growing;
use super::ladder::Strikes;
use super::outcome::{Ended, Exit, Fault, Need, Outcome, Refusal};
use super::task::{Errand, ErrandEnd, Obstacle};

/// The job's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Go on until the work is done; else one session only.
    pub full_auto: bool,
    /// A supervisor watches: wait for a person instead of leaving, idle instead of ending.
    pub supervised: bool,
    /// The agent is on trial, and the supervisor has another one: leave when it dies again and again.
    pub agent_on_trial: bool,
    /// Turns of the whole job, over all sessions and restarts. 0: no limit.
    pub max_turns: u64,
    /// Millionths of a dollar for the whole job. 0: no limit.
    pub max_cost_micros: u64,
    /// So long may the agent be silent while nothing but the model is waited for.
    pub model_silence_ms: u64,
    /// So long may it be silent while a tool runs.
    pub tool_silence_ms: u64,
    /// So long may it live on after its result.
    pub linger_ms: u64,
    /// The same while it has tasks in the background and has not said that all is done.
    pub background_linger_ms: u64,
    /// From SIGTERM to SIGKILL.
    pub kill_after_ms: u64,
    /// The longest time between two heartbeats while we wait for something that is known to take time.
    pub heartbeat_ms: u64,
    /// After faults that pass by themselves.
    pub retry: Growing,
    /// While a person is needed.
    pub needs_you: Growing,
    /// How often the CLI is asked meanwhile whether somebody has logged in. It costs a fifth of a second of CPU and no request.
    pub probe_ms: u64,
    /// Of the jitter.
    pub seed: u64,
    /// When there is no job (any more), tasks come from the queue.
    pub queue: bool,
    /// When there is no task either, one is waited for, supervised or not.
    pub wait: bool,
    /// So many results of one task may be refused; then a person has to look.
    pub max_attempts: u32,
}

impl Rules {
    /// With nothing to do it waits instead of leaving.
    pub(super) fn stays(&self) -> bool {
        self.supervised || self.wait
    }
}

impl Rules {
    /// What holds where nothing else is said.
    pub const DEFAULT: Self = Self {
        full_auto: true,
        supervised: false,
        agent_on_trial: false,
        max_turns: 0,
        max_cost_micros: 0,
        model_silence_ms: 240_000,
        // A build may take long; the CLI reports a running tool every 30 s, but is not known to for every tool.
        tool_silence_ms: 3_600_000,
        linger_ms: 10_000,
        background_linger_ms: 3_600_000,
        kill_after_ms: 3_000,
        heartbeat_ms: 30_000,
        retry: Growing { first_ms: 5_000, longest_ms: 300_000 },
        needs_you: Growing { first_ms: 60_000, longest_ms: 1_800_000 },
        probe_ms: 60_000,
        seed: 0,
        queue: false,
        wait: false,
        max_attempts: 3,
    };
}

impl Default for Rules {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What the state on disk says at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing to do and nobody said what.
    NoJob,
    /// A job that never had a session.
    NewJob,
    /// A job whose session was cut short.
    Interrupted,
    /// The same job is done already.
    Done,
}

/// What is kept of the worker before this one, whose work is gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Failures in a row, of whatever kind.
    pub failures: u32,
    /// What speaks against the session.
    pub strikes: Strikes,
    /// A usage limit ends then: nothing is asked before.
    pub limit_until_ms: Option<u64>,
}

/// What has been used up so far, all sessions and restarts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    pub turns: u64,
    pub cost_micros: u64,
    /// Of the whole project: today, this week, this month.
    pub windows: [Window; 3],
}

/// What happens to the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// Before the first event, if there was a worker before.
    Recall(Standing),
    /// The first event.
    Begin { found: Found, spent: Spent },
    /// The CLI runs.
    Started,
    /// The CLI is not there.
    Missing,
    /// The CLI said something.
    Fact(Fact<'a>),
    /// The ledger moved on.
    Spent(Spent),
    /// The CLI has ended and all it said was passed on.
    Exited(Exit),
    /// The CLI was asked whether it is logged in. `changed`: it answers otherwise than when it was asked before.
    Probed { logged_in: bool, changed: bool },
    /// A task is ours; `begun`: a session of it was cut short.
    Claimed { begun: bool },
    /// None is ready; one may be at this time.
    NoTask { look_again_ms: Option<u64> },
    /// Somebody has written to the queue.
    QueueChanged,
    /// Our claim is over, or somebody else's.
    TaskLost,
    /// An errand was done.
    ErrandEnded(ErrandEnd),
    /// The deadline has come, or not: waking up is always allowed.
    Tick,
    /// We are to end. The second time at once.
    Stop(Stop),
}

/// Who ends us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Terminate,
    Interrupt,
}

/// What one event of the stream means for the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<'a> {
    /// Bytes came, of whatever kind.
    Life,
    /// A line of the protocol came.
    Protocol,
    /// A tool was called.
    Call(&'a str),
    /// It returned.
    Return(&'a str),
    /// So many tasks run in the background.
    Background(usize),
    /// The CLI asks the API again by itself after so long.
    Retry { delay_ms: u64 },
    /// The CLI compacts the conversation: one long request.
    Compacting,
    /// The main agent began a new answer.
    Answer,
    /// Why the last answer stopped.
    StopReason { tool_use: bool },
    /// The main agent said this.
    Said(&'a str),
    /// A call of the API failed for good.
    ApiError(super::outcome::ApiError),
    /// What the CLI's own words say of that, which count where no token says it.
    Complaint(super::outcome::ApiError),
    /// A usage limit rejected us.
    Limit { resets_at_ms: Option<u64> },
    /// It came up without the server with the queue's tools.
    NoServer,
    /// The CLI refused in its own words.
    Refusal(Refusal),
    /// A result came; its text, if any, is the last thing that was said.
    Result { ended: Ended, text: Option<&'a str> },
}

/// Which session the next process works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// A new one, with a new id.
    Fresh,
    /// A new one under the id that we have.
    SameId,
    /// The one that we have.
    Resume,
    /// A copy of the one that we have, with a new id.
    Fork,
}

/// What the agent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// The user's words.
    Task,
    /// Nobody is here; decide, go on.
    Continue,
    /// You were interrupted; check what is done, go on.
    Interrupted,
    /// The user's words, and that an earlier session may have done part of it.
    HandOver,
    /// What the project's own check says about the result.
    Rejected,
}

/// One process of the agent to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    pub session: Session,
    pub prompt: Prompt,
    /// What is left of the job's turns; `None`: no limit.
    pub max_turns: Option<u64>,
    /// What is left of the job's money; `None`: no limit.
    pub max_cost_micros: Option<u64>,
}

/// What the worker is waiting for, as the supervisor is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Model,
    Tool,
    Limit,
    NeedsYou,
    Idle,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start the CLI, and answer with [`Event::Started`] or [`Event::Missing`]. The session's id goes to disk first.
    Start(Launch),
    /// SIGTERM to the CLI.
    Terminate,
    /// SIGKILL to the CLI.
    Kill,
    /// We are alive and where we should be.
    Heartbeat,
    Phase(Phase),
    /// For the log and the status line.
    Note(Note),
    /// Ask the CLI whether it is logged in, and answer with [`Event::Probed`].
    Probe,
    /// Look whether somebody has changed the budgets that keep us waiting, and answer with [`Event::Spent`] if so.
    LookAtBudget,
    /// For the worker after this one; nothing depends on its being on the disk.
    Keep(Standing),
    /// The job's fate, for the disk.
    Settle(Fate),
    /// Claim a task, and answer with [`Event::Claimed`] or [`Event::NoTask`].
    Claim,
    /// Show that we still work on the task; answer with [`Event::TaskLost`] if it is not ours any more.
    Renew,
    /// Do this for the task, and answer with [`Event::ErrandEnded`].
    Errand(Errand),
    /// Set the task aside for a person.
    Block(Obstacle),
    /// End the log with this reason.
    Close(Reason),
    /// End ourselves.
    Leave(Code),
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Done,
    /// It can be gone on with.
    Unfinished,
    /// It can, but every way to do so was tried.
    Poisoned,
}

/// What is worth a line to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Waiting for this to pass; the next attempt is in so many milliseconds, in this session.
    Waiting { outcome: Outcome, delay_ms: u64, session: Session },
    /// The CLI says that nobody is logged in: no attempt is made before somebody is.
    LoggedOut,
    /// The agent was silent for so long and is ended.
    Silent { silent_ms: u64 },
    /// It came up without the server with the queue's tools; ending it.
    NoServer,
    /// It gave its result and did not go.
    Lingering,
    /// It took more turns than it was given.
    Overshot { turns: u64 },
    /// The session could not be entered; another one is begun at once.
    FreshSession { outcome: Outcome },
    /// Twice in a row the agent did nothing and did not say that it is done: taken as done.
    NothingLeft,
    /// The agent needs a person, as it says.
    Blocked { reason: String },
    /// Nothing to do.
    Idle(Idle),
    /// Every session failed, so many times in a row. Another fresh one is tried after so many milliseconds.
    Poisoned { outcome: Outcome, failures: u32, delay_ms: u64 },
    /// What may be spent in a stretch of time is spent; it goes on by itself in so many milliseconds.
    BudgetPause { window: Window, delay_ms: u64 },
    /// Given up after so many failures in a row.
    GaveUp { outcome: Outcome, failures: u32 },
}

/// Why there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    NoPrompt,
    Done,
    Turns {
        used: u64,
        max: u64,
    },
    Budget {
        used_micros: u64,
        max_micros: u64,
    },
    Blocked,
    /// No task of the queue is ready.
    NoTask,
}

/// The word after `@end … reason=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Done,
    Turns,
    Budget,
    /// The project's, for a day, a week or a month.
    Window,
    NeedsYou(Need),
    /// The agent itself, or its task, needs a person.
    Blocked,
    /// The task is somebody else's by now.
    Taken,
    RateLimit,
    Api(Fault),
    CliMissing,
    CliFailed,
    Terminated,
    Interrupted,
}

/// The worker's exit code, as far as the loop decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Done,
    Turns,
    Budget,
    NeedsYou,
    CliUnusable,
    Api,
    GaveUp,
    Terminated,
    Interrupted,
}
