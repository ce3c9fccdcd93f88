//! The words of the machine: states, events, effects, notes.

use alloc::vec::Vec;

use super::memory::{Band, MemoryReading, Survey};
use super::stall::Watch;
use super::{Answer, Command, RequestId};

/// The number of a run: 1, 2, 3 … over the whole life of a home, across daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RunId(pub u64);

/// Where the machine stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Not booted yet.
    Down,
    /// A run was asked for; it is not known yet whether it could be.
    Starting(Watch),
    /// The worker's program runs.
    Running(Watch),
    /// It has also said that it is ready.
    Ready(Watch),
    /// It was told to end; what comes when its tree is gone.
    Stopping {
        /// The run that ends.
        watch: Watch,
        /// What comes then.
        then: Then,
    },
    /// Waiting for the next attempt.
    BackingOff {
        /// When it is due.
        until_ms: u64,
    },
    /// Too many failures: `failed`, until the cooldown is over.
    CoolingDown {
        /// When it is over.
        until_ms: u64,
    },
    /// Something seems to live of a run that the daemon did not begin, and it can't be told what: nothing is signalled,
    /// and nothing started beside it. Its end, or the operator, leads out of it.
    Unknown(Watch),
    /// Ended by the operator.
    Stopped,
    /// The daemon is to end, and the worker ends first.
    ShuttingDown(Watch),
    /// The daemon can end.
    Halted,
}

/// What follows when a run that was told to end is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The operator wants it anew: at once.
    StartAnew,
    /// It was stalled: a failure.
    StallFailure,
    /// Memory was critical: a failure.
    MemoryFailure,
    /// Its shim was found dead, and what is left of its tree is ended: a failure.
    OrphanFailure,
    /// The operator wants it to stay down.
    Stay,
}

/// What a starting daemon found of its predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Found {
    /// No run.
    #[default]
    Nothing,
    /// A run that lives, with its supervising shim.
    Live {
        /// Its number.
        run: RunId,
        /// When its program was started.
        started_ms: u64,
    },
    /// A run whose shim is gone, but not all of its tree.
    Orphaned {
        /// Its number.
        run: RunId,
    },
    /// A run of which something seems to live, but what it is can't be told for certain.
    Unverified {
        /// Its number.
        run: RunId,
    },
    /// A run that ended while no daemon was there.
    Ended {
        /// Its number.
        run: RunId,
        /// How.
        exit: Exit,
        /// How long it lived.
        lived_ms: u64,
    },
}

/// What happens to the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Before [`Event::Boot`], for each run that has ended before the newest, oldest first: the daemon before this one
    /// saw it and began the next run, but did not live to record it.
    Missed {
        /// Its number.
        run: RunId,
        /// How it ended.
        exit: Exit,
        /// How long it lived.
        lived_ms: u64,
    },
    /// The daemon is up. First and once.
    Boot(Found),
    /// The deadline was reached, or nothing in particular happened.
    Tick,
    /// The program of this run was executed.
    Started(RunId),
    /// It could not be.
    StartFailed(RunId, StartFailure),
    /// It said that it is ready.
    Announced(RunId),
    /// It showed life: a heartbeat.
    Activity(RunId),
    /// It asked for more time (`EXTEND_TIMEOUT_USEC`): not stalled before then, within an hour from now.
    Extended(RunId, u64),
    /// What a daemon before this one had seen of an adopted run.
    Recalled(RunId, Recalled),
    /// It can't be ended, or what is left of it not be told from strangers: hands off.
    Unverified(RunId),
    /// The answer to [`Effect::Sample`]: memory, and whether the run's own log moved since the last sample.
    Sampled {
        /// Of which run; `None` when none runs.
        run: Option<RunId>,
        /// What its log, its output and its tools showed since the last look.
        sign: Sign,
        /// The memory of the machine or of the container.
        memory: MemoryReading,
    },
    /// The answer to [`Effect::Survey`].
    Surveyed(RunId, Survey),
    /// A victim is gone.
    VictimGone(u32),
    /// The run is over and its tree is empty.
    Exited(RunId, Exit),
    /// The operator asks for something.
    Operator(RequestId, Command),
    /// The program that failed is set aside, and a proven one is to be run in its place: at once, where it is waited for.
    RolledBack,
}

/// What outlives a daemon of what it has seen of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recalled {
    /// It has said that it is ready.
    pub announced: bool,
    /// Its last sign of life.
    pub active_ms: u64,
    /// Its last sign of new life.
    pub progress_ms: u64,
    /// It asked not to be judged before this.
    pub extended_until_ms: u64,
    /// It was found stalled and left alone at this time.
    pub tolerated_ms: Option<u64>,
}

/// What a look at a run showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// Nothing.
    Nothing,
    /// It wrote, but only what it had written before.
    Repetition,
    /// It wrote something new, or a tool of it worked.
    Progress,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// By the kernel's OOM killer.
    OutOfMemory,
    /// Nobody saw it: the shim that would have was killed.
    Unseen,
}

/// Why a run could not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFailure {
    /// There is no such program.
    NotFound,
    /// It may not be executed.
    NotExecutable,
    /// It is no program for this machine.
    NotAProgram,
    /// The working directory is missing or can't be entered.
    WorkingDirectory,
    /// The machine has no room for it: processes, memory, descriptors, disk. The errno.
    Resources(i32),
    /// Anything else. The errno.
    Other(i32),
}

/// What the shell is to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Begin this run. Answered by `Started` or `StartFailed`.
    Start(RunId),
    /// End this run's tree: TERM, after the stop timeout KILL. Answered by `Exited`.
    Stop(RunId),
    /// Look at memory and at the run's activity, now. Answered by `Sampled`.
    Sample,
    /// Look through the run's tree. Answered by `Surveyed`.
    Survey(RunId),
    /// Signal one process of the tree.
    Signal {
        /// The candidate's pid, as in the survey; the shell holds its pidfd.
        pid: u32,
        /// Which signal.
        signal: VictimSignal,
    },
    /// Answer a request.
    Answer(RequestId, Answer),
    /// Something that must be explained later.
    Note(Note),
    /// What [`super::Supervisor::snapshot`] returns has changed.
    Save,
    /// The daemon ends now.
    Halt,
}

/// How a victim is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VictimSignal {
    /// Please.
    Term,
    /// At once.
    Kill,
}

/// One decision or observation, for the journal and for `status`.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// A run was asked for.
    Starting {
        /// Which.
        run: RunId,
    },
    /// Its program runs.
    Started {
        /// Which.
        run: RunId,
    },
    /// Its program was running already: left by the daemon before this one.
    Adopted {
        /// Which.
        run: RunId,
    },
    /// The operator stopped it before this daemon began.
    StaysStopped,
    /// Something lives of it, perhaps, and nobody can say what: it is left alone.
    Unverified {
        /// Which.
        run: RunId,
    },
    /// It ended.
    Ended {
        /// Which.
        run: RunId,
        /// How.
        exit: Exit,
        /// Why, if it was told to.
        told: Option<Reason>,
        /// How long it lived.
        lived_ms: u64,
    },
    /// It could not begin.
    CannotStart {
        /// Which.
        run: RunId,
        /// Why.
        failure: StartFailure,
    },
    /// The next attempt waits.
    Waiting {
        /// For how long.
        delay_ms: u64,
        /// How many failures in a row there were.
        failures: u32,
        /// What kind of wait it is.
        kind: Waiting,
    },
    /// A run lived long enough to count as a success.
    Succeeded {
        /// Which.
        run: RunId,
    },
    /// No activity for too long: it is ended.
    Stalled {
        /// Which.
        run: RunId,
        /// Without a sign of life for so long; of new life, if it repeats itself.
        silent_ms: u64,
        /// It was not silent, but wrote the same again and again.
        repeats_itself: bool,
    },
    /// No activity for too long, but it was ended too often for that within an hour: left alone.
    StallTolerated {
        /// Which.
        run: RunId,
        /// Silent for so long.
        silent_ms: u64,
    },
    /// The band of available memory changed.
    MemoryBand {
        /// The new one.
        band: Band,
        /// What was read.
        reading: MemoryReading,
    },
    /// Processes wait for memory, for this much of the time.
    MemoryPressure {
        /// In percent of the last 10 s.
        percent: u8,
    },
    /// A process of the worker's tree is ended for want of memory.
    Victim {
        /// Of which run.
        run: RunId,
        /// Its pid.
        pid: u32,
        /// Its size.
        bytes: u64,
        /// With which signal.
        signal: VictimSignal,
    },
    /// Memory is critical and the worker's tree is a cause: it is restarted.
    MemoryRestart {
        /// Which.
        run: RunId,
        /// The size of its tree.
        tree_bytes: u64,
    },
    /// Memory is critical, but the worker's tree is not what fills it: left alone.
    MemoryElsewhere {
        /// Which.
        run: RunId,
        /// The size of its tree.
        tree_bytes: u64,
    },
    /// The operator asked for something.
    Asked {
        /// What.
        command: Command,
    },
}

/// Why it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// After a failure.
    Backoff,
    /// After a clean exit that came too soon.
    QuickExit,
    /// `failed`: too many failures in a row.
    Consecutive,
    /// `failed`: too many failures within an hour.
    PerHour,
}

/// Why the machine is where it is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The worker ended by itself.
    Exited(Exit),
    /// It could not be started.
    CannotStart(StartFailure),
    /// It was stalled.
    Stalled,
    /// Memory was critical.
    Memory,
    /// The operator wanted it.
    Operator(Command),
}

/// Effects of one step, in order.
pub(super) type Effects = Vec<Effect>;
