//! The machine itself: every state answers every event, written out, with no catch-all.
//!
//! A step changes the state once, then lets everything that is due at `now` happen, so that the next deadline always
//! lies in the future.

use alloc::vec::Vec;

use super::command::{Answer, Command, RequestId};
use super::rollback::Counters;
use super::stall::Watch;
use super::types::{Effect, Effects, Event, Exit, Note, Reason, RunId, StartFailure, State, Then, Waiting};
use super::view::Snapshot;
use super::watching::MemoryWatch;
use super::window::Window;
use super::{Settings, backoff};

/// One worker's supervisor. See the [module](super).
#[derive(Debug)]
pub struct Supervisor {
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) tight: MemoryWatch,
    pub(super) stall_kills: Window,
    pub(super) failures_window: Window,
    pub(super) last_run: u64,
    pub(super) starts: u64,
    pub(super) failures: u32,
    pub(super) quick_exits: u32,
    pub(super) reason: Option<Reason>,
    pub(super) waiting: Vec<(RequestId, Command)>,
    pub(super) stay_down: bool,
    pub(super) resume: Option<(u64, bool)>,
    /// Of a proven binary, while a candidate runs.
    pub(super) aside: Option<Counters>,
}

impl Supervisor {
    /// A machine that has not booted yet. `snapshot`: what a daemon before this one left, if it did, in this boot.
    #[must_use]
    pub fn new(settings: Settings, snapshot: Option<Snapshot>) -> Self {
        let before = snapshot.unwrap_or(Snapshot {
            last_run: 0,
            starts: 0,
            failures: 0,
            quick_exits: 0,
            failures_ms: Vec::new(),
            stall_kills_ms: Vec::new(),
            stopped: false,
            next_attempt_ms: None,
            failed: false,
            reason: None,
            aside: None,
        });
        Self {
            settings,
            state: State::Down,
            tight: MemoryWatch::default(),
            stall_kills: Window::from_times(before.stall_kills_ms),
            failures_window: Window::from_times(before.failures_ms),
            last_run: before.last_run,
            starts: before.starts,
            failures: before.failures,
            quick_exits: before.quick_exits,
            reason: before.reason,
            waiting: Vec::new(),
            stay_down: before.stopped,
            resume: before.next_attempt_ms.map(|at_ms| (at_ms, before.failed)),
            aside: before.aside,
        }
    }

    /// Take one event; the effects are to be carried out in order, and their answers fed back, before the next wait.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut effects = Effects::new();
        self.forgive_lateness(now_ms);
        self.settle_success(now_ms, &mut effects);
        self.react(now_ms, event, &mut effects);
        self.settle(now_ms, &mut effects);
        save_once(&mut effects);
        effects
    }

    fn react(&mut self, now_ms: u64, event: Event, effects: &mut Effects) {
        match event {
            Event::Missed { run, exit, lived_ms } => self.missed(now_ms, run, exit, lived_ms, effects),
            Event::Boot(found) => self.boot(now_ms, found, effects),
            Event::Tick => {}
            Event::Started(run) => self.started(now_ms, run, effects),
            Event::StartFailed(run, failure) => self.start_failed(now_ms, run, failure, effects),
            Event::Announced(run) => self.announced(now_ms, run),
            Event::Activity(run) => {
                if let Some(watch) = self.watch_mut(run) {
                    watch.active(now_ms);
                }
            }
            Event::Extended(run, until_ms) => {
                if let Some(watch) = self.watch_mut(run) {
                    watch.extend(now_ms, until_ms);
                }
            }
            Event::Recalled(run, recalled) => self.recalled(now_ms, run, recalled),
            Event::Unverified(run) => self.unverified(run, effects),
            Event::Sampled { run, sign, memory } => self.sampled(now_ms, run, sign, memory, effects),
            Event::Surveyed(run, survey) => self.surveyed(now_ms, run, &survey, effects),
            Event::VictimGone(pid) => self.tight.victim_gone(now_ms, pid),
            Event::Exited(run, exit) => self.exited(now_ms, run, exit, effects),
            Event::Operator(id, command) => {
                effects.push(Effect::Note(Note::Asked { command }));
                self.operator(now_ms, id, command, effects);
            }
            Event::RolledBack => self.rolled_back(now_ms, effects),
        }
    }

    /// Let happen what is due.
    fn settle(&mut self, now_ms: u64, effects: &mut Effects) {
        match &mut self.state {
            State::BackingOff { until_ms } => {
                if *until_ms <= now_ms {
                    self.start(now_ms, effects);
                }
            }
            State::CoolingDown { until_ms } => {
                if *until_ms <= now_ms {
                    self.failures = 0;
                    self.quick_exits = 0;
                    self.start(now_ms, effects);
                }
            }
            State::Down
            | State::Starting(_)
            | State::Running(_)
            | State::Ready(_)
            | State::Stopping { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => {}
        }
        self.settle_success(now_ms, effects);
        self.settle_watching(now_ms, effects);
    }

    /// A run has lived long enough. Before the event, too: it may be the very one that ends the run.
    fn settle_success(&mut self, now_ms: u64, effects: &mut Effects) {
        let (State::Running(watch) | State::Ready(watch)) = &mut self.state else { return };
        if watch.succeeded || watch.succeeds_at_ms(&self.settings) > now_ms {
            return;
        }
        watch.succeeded = true;
        let run = watch.run;
        if self.failures > 0 || self.quick_exits > 0 {
            self.failures = 0;
            self.quick_exits = 0;
            effects.push(Effect::Note(Note::Succeeded { run }));
            effects.push(Effect::Save);
        }
    }

    /// When [`Event::Tick`] is due, if nothing else happens. Always after the `now` of the last step.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        match &self.state {
            State::BackingOff { until_ms } | State::CoolingDown { until_ms } => Some(*until_ms),
            State::Starting(_) => Some(self.tight.deadline_ms()),
            State::Running(watch) | State::Ready(watch) => {
                let watching = self.tight.deadline_ms();
                let pending = !watch.succeeded && (self.failures > 0 || self.quick_exits > 0);
                Some(if pending { watching.min(watch.succeeds_at_ms(&self.settings)) } else { watching })
            }
            State::Down
            | State::Stopping { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => None,
        }
    }

    pub(super) fn start(&mut self, now_ms: u64, effects: &mut Effects) {
        self.last_run += 1;
        self.starts += 1;
        let run = RunId(self.last_run);
        self.state = State::Starting(Watch::new(run, now_ms));
        self.tight.begin(now_ms);
        effects.push(Effect::Start(run));
        effects.push(Effect::Note(Note::Starting { run }));
        effects.push(Effect::Save);
    }

    fn started(&mut self, now_ms: u64, run: RunId, effects: &mut Effects) {
        match &self.state {
            State::Starting(watch) => {
                if watch.run == run {
                    let watch = watch.clone();
                    self.state = if watch.announced { State::Ready(watch) } else { State::Running(watch) };
                    self.tight.runs(now_ms);
                    effects.push(Effect::Note(Note::Started { run }));
                    self.answer(effects, Answer::Running(run), |c| {
                        matches!(c, Command::StartWorker | Command::RestartWorker)
                    });
                }
            }
            State::Down
            | State::Running(_)
            | State::Ready(_)
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::CoolingDown { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => {}
        }
    }

    fn start_failed(&mut self, now_ms: u64, run: RunId, failure: StartFailure, effects: &mut Effects) {
        match &self.state {
            // Where it runs, its daemon died before the answer, and this one could only assume that it would.
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) => {
                if watch.run == run {
                    effects.push(Effect::Note(Note::CannotStart { run, failure: failure.clone() }));
                    self.reason = Some(Reason::CannotStart(failure.clone()));
                    self.fail(now_ms, effects);
                    self.answer(effects, Answer::CannotStart(failure), |c| {
                        matches!(c, Command::StartWorker | Command::RestartWorker)
                    });
                }
            }
            State::Stopping { watch, then } => {
                if watch.run == run {
                    let then = *then;
                    self.gone(now_ms, then, effects);
                    self.disappoint(then, Answer::CannotStart(failure), effects);
                }
            }
            State::Unknown(watch) => {
                if watch.run == run {
                    effects.push(Effect::Note(Note::CannotStart { run, failure: failure.clone() }));
                    if self.stay_down {
                        self.rest(effects);
                    } else {
                        self.reason = Some(Reason::CannotStart(failure));
                        self.fail(now_ms, effects);
                    }
                }
            }
            State::ShuttingDown(watch) => {
                if watch.run == run {
                    self.halt(effects);
                }
            }
            State::Down | State::BackingOff { .. } | State::CoolingDown { .. } | State::Stopped | State::Halted => {}
        }
    }

    fn announced(&mut self, now_ms: u64, run: RunId) {
        match &self.state {
            State::Starting(watch) | State::Running(watch) => {
                if watch.run == run {
                    let mut watch = watch.clone();
                    watch.active(now_ms);
                    watch.announced = true;
                    self.state = if matches!(self.state, State::Starting(_)) {
                        // Ready before the shim's word that it runs: the word is still to come.
                        State::Starting(watch)
                    } else {
                        State::Ready(watch)
                    };
                }
            }
            State::Ready(_) => {
                if let Some(watch) = self.watch_mut(run) {
                    watch.active(now_ms);
                }
            }
            State::Down
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::CoolingDown { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => {}
        }
    }

    fn exited(&mut self, now_ms: u64, run: RunId, exit: Exit, effects: &mut Effects) {
        match &self.state {
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) => {
                if watch.run == run {
                    let lived_ms = now_ms.saturating_sub(watch.started_ms);
                    effects.push(Effect::Note(Note::Ended { run, exit, told: None, lived_ms }));
                    self.judge(now_ms, exit, lived_ms, effects);
                    // Nobody heard that it had begun, and whoever waits for that is told.
                    self.answer(effects, Answer::EndedAtOnce(exit), |c| {
                        matches!(c, Command::StartWorker | Command::RestartWorker)
                    });
                }
            }
            State::Stopping { watch, then } => {
                if watch.run == run {
                    let then = *then;
                    let lived_ms = now_ms.saturating_sub(watch.started_ms);
                    let told = self.reason.clone();
                    effects.push(Effect::Note(Note::Ended { run, exit, told, lived_ms }));
                    self.gone(now_ms, then, effects);
                    self.disappoint(then, Answer::EndedAtOnce(exit), effects);
                }
            }
            State::ShuttingDown(watch) => {
                if watch.run == run {
                    let lived_ms = now_ms.saturating_sub(watch.started_ms);
                    let told = self.reason.clone();
                    effects.push(Effect::Note(Note::Ended { run, exit, told, lived_ms }));
                    self.halt(effects);
                }
            }
            State::Unknown(watch) => {
                if watch.run == run {
                    let lived_ms = now_ms.saturating_sub(watch.started_ms);
                    effects.push(Effect::Note(Note::Ended { run, exit, told: None, lived_ms }));
                    if self.stay_down {
                        self.rest(effects);
                    } else {
                        self.judge(now_ms, exit, lived_ms, effects);
                    }
                }
            }
            State::Down | State::BackingOff { .. } | State::CoolingDown { .. } | State::Stopped | State::Halted => {}
        }
    }

    /// A run ended by itself.
    pub(super) fn judge(&mut self, now_ms: u64, exit: Exit, lived_ms: u64, effects: &mut Effects) {
        self.count_exit(now_ms, exit, lived_ms);
        match exit {
            Exit::Code(0) if lived_ms >= self.settings.success_threshold_ms => self.start(now_ms, effects),
            Exit::Code(0) => {
                let delay_ms = backoff::delay_ms(&self.settings, self.quick_exits);
                self.wait(now_ms, delay_ms, Waiting::QuickExit, effects);
            }
            Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory | Exit::Unseen => {
                self.wait_after_failure(now_ms, effects)
            }
        }
    }

    pub(super) fn count_exit(&mut self, now_ms: u64, exit: Exit, lived_ms: u64) {
        self.reason = Some(Reason::Exited(exit));
        let long = lived_ms >= self.settings.success_threshold_ms;
        if long {
            self.failures = 0;
            self.quick_exits = 0;
        }
        match exit {
            Exit::Code(0) if long => {}
            Exit::Code(0) => self.quick_exits = self.quick_exits.saturating_add(1),
            Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory | Exit::Unseen => self.count_failure(now_ms),
        }
    }

    /// A run that was told to end is gone.
    fn gone(&mut self, now_ms: u64, then: Then, effects: &mut Effects) {
        match then {
            Then::StartAnew => self.start(now_ms, effects),
            Then::StallFailure | Then::MemoryFailure | Then::OrphanFailure => self.fail(now_ms, effects),
            Then::Stay => self.rest(effects),
        }
    }

    /// A run was told to end before it was known to run: whoever waits for that is told, and not left waiting for the
    /// next attempt.
    fn disappoint(&mut self, then: Then, answer: Answer, effects: &mut Effects) {
        match then {
            Then::StallFailure | Then::MemoryFailure | Then::OrphanFailure => {
                self.answer(effects, answer, |c| matches!(c, Command::StartWorker | Command::RestartWorker));
            }
            // The next start is on its way, or nobody waits for one.
            Then::StartAnew | Then::Stay => {}
        }
    }

    /// One failure more: wait, or give up for a while.
    pub(super) fn fail(&mut self, now_ms: u64, effects: &mut Effects) {
        self.count_failure(now_ms);
        self.wait_after_failure(now_ms, effects);
    }

    fn count_failure(&mut self, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        self.failures_window.add(now_ms);
    }

    pub(super) fn too_many_in_a_row(&self) -> bool {
        let most = self.settings.max_consecutive_restarts;
        most > 0 && self.failures >= most
    }

    fn wait_after_failure(&mut self, now_ms: u64, effects: &mut Effects) {
        let per_hour = self.settings.max_restarts_per_hour as usize;
        if self.too_many_in_a_row() {
            self.wait(now_ms, self.settings.recovery_cooldown_ms, Waiting::Consecutive, effects);
        } else if per_hour > 0 && self.failures_window.count(now_ms) >= per_hour {
            self.wait(now_ms, self.settings.recovery_cooldown_ms, Waiting::PerHour, effects);
        } else {
            let delay_ms = backoff::delay_ms(&self.settings, self.failures);
            self.wait(now_ms, delay_ms, Waiting::Backoff, effects);
        }
    }

    pub(super) fn wait(&mut self, now_ms: u64, delay_ms: u64, kind: Waiting, effects: &mut Effects) {
        let until_ms = now_ms.saturating_add(delay_ms);
        self.state = match kind {
            Waiting::Backoff | Waiting::QuickExit => State::BackingOff { until_ms },
            Waiting::Consecutive | Waiting::PerHour => State::CoolingDown { until_ms },
        };
        effects.push(Effect::Note(Note::Waiting { delay_ms, failures: self.failures, kind }));
        if delay_ms > 0 {
            effects.push(Effect::Save);
        }
    }

    /// Down, and to stay so.
    pub(super) fn rest(&mut self, effects: &mut Effects) {
        self.stay_down = true;
        self.state = State::Stopped;
        effects.push(Effect::Save);
        self.answer(effects, Answer::Stopped, |c| matches!(c, Command::StopWorker));
    }

    pub(super) fn halt(&mut self, effects: &mut Effects) {
        self.state = State::Halted;
        if self.stay_down {
            // That is what holds for the next daemon.
            self.reason = Some(Reason::Operator(Command::StopWorker));
        }
        effects.push(Effect::Save);
        self.answer(effects, Answer::Stopped, |c| matches!(c, Command::StopWorker));
        self.answer(effects, Answer::Halted, |c| matches!(c, Command::Shutdown));
        effects.push(Effect::Halt);
    }

    /// End the run that lives, for a reason of the machine's own.
    pub(super) fn tell_to_end(&mut self, then: Then, reason: Reason, effects: &mut Effects) {
        let Some(watch) = self.watch().cloned() else { return };
        self.reason = Some(reason);
        effects.push(Effect::Stop(watch.run));
        self.state = State::Stopping { watch, then };
        effects.push(Effect::Save);
    }

    /// The run that lives, if one does.
    pub(super) fn watch(&self) -> Option<&Watch> {
        match &self.state {
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) => Some(watch),
            State::Down
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::CoolingDown { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => None,
        }
    }

    pub(super) fn watch_mut(&mut self, run: RunId) -> Option<&mut Watch> {
        match &mut self.state {
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) => (watch.run == run).then_some(watch),
            State::Down
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::CoolingDown { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => None,
        }
    }
}

/// Only the last record of a step: an earlier one would already speak of a start that has not been carried out, and a
/// daemon that died between the two would leave it so.
fn save_once(effects: &mut Effects) {
    let mut more = effects.iter().filter(|e| matches!(e, Effect::Save)).count();
    if more > 1 {
        effects.retain(|effect| {
            let save = matches!(effect, Effect::Save);
            more -= usize::from(save);
            !save || more == 0
        });
    }
}
