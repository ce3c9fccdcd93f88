//! The machine itself: every state answers every event, written out, with no catch-all.
//!
//! A step changes the state once, then lets everything that is due at `now` happen, so that the next deadline always
//! lies in the future.

use alloc::vec::Vec;
use core::mem;

use super::command::{Answer, Command, Refusal, RequestId};
use super::memory::{self, Band, MemoryReading};
use super::stall::Watch;
use super::types::{Effect, Effects, Event, Exit, Found, Note, Reason, RunId, StartFailure, State, Then, Waiting};
use super::view::{Snapshot, View, WorkerStatus};
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
    failures_window: Window,
    last_run: u64,
    starts: u64,
    failures: u32,
    quick_exits: u32,
    reason: Option<Reason>,
    waiting: Vec<(RequestId, Command)>,
    stay_down: bool,
    resume: Option<(u64, bool)>,
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
            reason: None,
            waiting: Vec::new(),
            stay_down: before.stopped,
            resume: before.next_attempt_ms.map(|at_ms| (at_ms, before.failed)),
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
            Event::Boot(found) => self.boot(now_ms, found, effects),
            Event::Tick => {}
            Event::Started(run) => self.started(run, effects),
            Event::StartFailed(run, failure) => self.start_failed(now_ms, run, failure, effects),
            Event::Announced(run) => self.announced(now_ms, run),
            Event::Activity(run) => {
                if let Some(watch) = self.watch_mut(run) {
                    watch.active(now_ms);
                }
            }
            Event::Extended(run, until_ms) => {
                if let Some(watch) = self.watch_mut(run) {
                    watch.extended_until_ms = watch.extended_until_ms.max(until_ms);
                }
            }
            Event::Sampled { run, active, memory } => self.sampled(now_ms, run, active, memory, effects),
            Event::Surveyed(run, survey) => self.surveyed(now_ms, run, &survey, effects),
            Event::VictimGone(pid) => self.tight.victim_gone(now_ms, pid),
            Event::Exited(run, exit) => self.exited(now_ms, run, exit, effects),
            Event::Operator(id, command) => {
                effects.push(Effect::Note(Note::Asked { command }));
                self.operator(now_ms, id, command, effects);
            }
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
            State::Down | State::Stopping { .. } | State::Stopped | State::ShuttingDown(_) | State::Halted => None,
        }
    }

    fn boot(&mut self, now_ms: u64, found: Found, effects: &mut Effects) {
        match &self.state {
            State::Down => {}
            State::Starting(_)
            | State::Running(_)
            | State::Ready(_)
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::CoolingDown { .. }
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => return,
        }
        self.take_over(now_ms, found, effects);
        // What was asked before it was known what runs.
        for (id, command) in mem::take(&mut self.waiting) {
            self.operator(now_ms, id, command, effects);
        }
    }

    fn take_over(&mut self, now_ms: u64, found: Found, effects: &mut Effects) {
        match found {
            Found::Nothing => self.boot_without_run(now_ms, effects),
            Found::Live { run, started_ms } => {
                self.count_found(run);
                effects.push(Effect::Save);
                effects.push(Effect::Note(Note::Adopted { run }));
                if self.stay_down {
                    // The operator's stop had not finished when the daemon died.
                    effects.push(Effect::Stop(run));
                    self.state = State::Stopping { watch: Watch::new(run, started_ms.min(now_ms)), then: Then::Stay };
                    return;
                }
                let mut watch = Watch::new(run, started_ms.min(now_ms));
                watch.active(now_ms);
                self.tight.begin(now_ms);
                self.state = State::Running(watch);
            }
            Found::Orphaned { run } => {
                self.count_found(run);
                effects.push(Effect::Save);
                effects.push(Effect::Stop(run));
                let then = if self.stay_down { Then::Stay } else { Then::OrphanFailure };
                self.state = State::Stopping { watch: Watch::new(run, now_ms), then };
            }
            Found::Ended { run, .. } if self.judged(run) => self.boot_without_run(now_ms, effects),
            Found::Ended { run, exit, lived_ms } => {
                self.count_found(run);
                effects.push(Effect::Note(Note::Ended { run, exit, told: None, lived_ms }));
                if self.stay_down {
                    self.rest(effects);
                } else {
                    self.judge(now_ms, exit, lived_ms, effects);
                }
            }
        }
    }

    fn boot_without_run(&mut self, now_ms: u64, effects: &mut Effects) {
        if self.stay_down {
            self.rest(effects);
            return;
        }
        // A wait that is over already ends in this very step, and as it would have with a daemon there.
        match self.resume {
            Some((until_ms, true)) => self.state = State::CoolingDown { until_ms },
            Some((until_ms, false)) => self.state = State::BackingOff { until_ms },
            None => self.start(now_ms, effects),
        }
    }

    /// A run that the daemon before this one began, perhaps without living to record it.
    fn count_found(&mut self, run: RunId) {
        self.starts = self.starts.saturating_add(run.0.saturating_sub(self.last_run)).max(1);
        self.last_run = self.last_run.max(run.0);
    }

    /// The daemon before this one has seen the end of this run and recorded what follows from it: a wait, or its own end.
    fn judged(&self, run: RunId) -> bool {
        run.0 <= self.last_run && (self.resume.is_some() || self.starts == 0)
    }

    fn start(&mut self, now_ms: u64, effects: &mut Effects) {
        self.last_run += 1;
        self.starts += 1;
        let run = RunId(self.last_run);
        self.state = State::Starting(Watch::new(run, now_ms));
        self.tight.begin(now_ms);
        effects.push(Effect::Start(run));
        effects.push(Effect::Note(Note::Starting { run }));
        effects.push(Effect::Save);
    }

    fn started(&mut self, run: RunId, effects: &mut Effects) {
        match &self.state {
            State::Starting(watch) => {
                if watch.run == run {
                    self.state = State::Running(watch.clone());
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
            State::Down | State::BackingOff { .. } | State::CoolingDown { .. } | State::Stopped | State::Halted => {}
        }
    }

    /// A run ended by itself.
    fn judge(&mut self, now_ms: u64, exit: Exit, lived_ms: u64, effects: &mut Effects) {
        self.reason = Some(Reason::Exited(exit));
        if lived_ms >= self.settings.success_threshold_ms {
            self.failures = 0;
            self.quick_exits = 0;
        }
        match exit {
            Exit::Code(0) if lived_ms >= self.settings.success_threshold_ms => self.start(now_ms, effects),
            Exit::Code(0) => {
                self.quick_exits = self.quick_exits.saturating_add(1);
                let delay_ms = backoff::delay_ms(&self.settings, self.quick_exits);
                self.wait(now_ms, delay_ms, Waiting::QuickExit, effects);
            }
            Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory | Exit::Unseen => self.fail(now_ms, effects),
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

    /// One failure more: wait, or give up for a while.
    fn fail(&mut self, now_ms: u64, effects: &mut Effects) {
        self.failures = self.failures.saturating_add(1);
        self.failures_window.add(now_ms);
        let consecutive = self.settings.max_consecutive_restarts;
        let per_hour = self.settings.max_restarts_per_hour as usize;
        if consecutive > 0 && self.failures >= consecutive {
            self.wait(now_ms, self.settings.recovery_cooldown_ms, Waiting::Consecutive, effects);
        } else if per_hour > 0 && self.failures_window.count(now_ms) >= per_hour {
            self.wait(now_ms, self.settings.recovery_cooldown_ms, Waiting::PerHour, effects);
        } else {
            let delay_ms = backoff::delay_ms(&self.settings, self.failures);
            self.wait(now_ms, delay_ms, Waiting::Backoff, effects);
        }
    }

    fn wait(&mut self, now_ms: u64, delay_ms: u64, kind: Waiting, effects: &mut Effects) {
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
    fn rest(&mut self, effects: &mut Effects) {
        self.stay_down = true;
        self.state = State::Stopped;
        effects.push(Effect::Save);
        self.answer(effects, Answer::Stopped, |c| matches!(c, Command::StopWorker));
    }

    fn halt(&mut self, effects: &mut Effects) {
        self.state = State::Halted;
        self.stay_down = false;
        effects.push(Effect::Save);
        self.answer(effects, Answer::Stopped, |c| matches!(c, Command::StopWorker));
        self.answer(effects, Answer::Halted, |c| matches!(c, Command::Shutdown));
        effects.push(Effect::Halt);
    }

    fn operator(&mut self, now_ms: u64, id: RequestId, command: Command, effects: &mut Effects) {
        match command {
            Command::StartWorker => self.start_worker(now_ms, id, effects),
            Command::RestartWorker => self.restart_worker(now_ms, id, effects),
            Command::StopWorker => self.stop_worker(id, effects),
            Command::Shutdown => self.shut_down(id, effects),
        }
    }

    fn start_worker(&mut self, now_ms: u64, id: RequestId, effects: &mut Effects) {
        match &mut self.state {
            State::Down | State::Starting(_) => self.waiting.push((id, Command::StartWorker)),
            State::Running(watch) | State::Ready(watch) => {
                effects.push(Effect::Answer(id, Answer::AlreadyRunning(watch.run)));
            }
            State::Stopping { then, .. } => {
                *then = Then::StartAnew;
                self.anew(id, Command::StartWorker, effects);
                effects.push(Effect::Save);
            }
            State::BackingOff { .. } | State::CoolingDown { .. } | State::Stopped => {
                self.anew(id, Command::StartWorker, effects);
                self.start(now_ms, effects);
            }
            State::ShuttingDown(_) | State::Halted => refuse(id, effects),
        }
    }

    fn restart_worker(&mut self, now_ms: u64, id: RequestId, effects: &mut Effects) {
        match &mut self.state {
            State::Down => self.waiting.push((id, Command::RestartWorker)),
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) => {
                effects.push(Effect::Stop(watch.run));
                self.state = State::Stopping { watch: watch.clone(), then: Then::StartAnew };
                self.anew(id, Command::RestartWorker, effects);
                effects.push(Effect::Save);
            }
            State::Stopping { then, .. } => {
                *then = Then::StartAnew;
                self.anew(id, Command::RestartWorker, effects);
                effects.push(Effect::Save);
            }
            State::BackingOff { .. } | State::CoolingDown { .. } | State::Stopped => {
                self.anew(id, Command::RestartWorker, effects);
                self.start(now_ms, effects);
            }
            State::ShuttingDown(_) | State::Halted => refuse(id, effects),
        }
    }

    /// The operator wants it to run: whatever was counted before counts no more.
    fn anew(&mut self, id: RequestId, command: Command, effects: &mut Effects) {
        self.supersede(effects, command, |c| matches!(c, Command::StopWorker));
        self.waiting.push((id, command));
        self.stay_down = false;
        self.failures = 0;
        self.quick_exits = 0;
        self.failures_window.clear();
        self.reason = Some(Reason::Operator(command));
    }

    fn stop_worker(&mut self, id: RequestId, effects: &mut Effects) {
        match &mut self.state {
            State::Down => self.waiting.push((id, Command::StopWorker)),
            State::BackingOff { .. } | State::CoolingDown { .. } => {
                self.stay_down(id, effects);
                self.rest(effects);
            }
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) => {
                effects.push(Effect::Stop(watch.run));
                self.state = State::Stopping { watch: watch.clone(), then: Then::Stay };
                self.stay_down(id, effects);
                effects.push(Effect::Save);
            }
            State::Stopping { then, .. } => {
                *then = Then::Stay;
                self.stay_down(id, effects);
                effects.push(Effect::Save);
            }
            State::Stopped | State::Halted => effects.push(Effect::Answer(id, Answer::AlreadyStopped)),
            State::ShuttingDown(_) => self.waiting.push((id, Command::StopWorker)),
        }
    }

    fn stay_down(&mut self, id: RequestId, effects: &mut Effects) {
        self.supersede(effects, Command::StopWorker, |c| matches!(c, Command::StartWorker | Command::RestartWorker));
        self.waiting.push((id, Command::StopWorker));
        self.stay_down = true;
        self.failures = 0;
        self.quick_exits = 0;
        self.reason = Some(Reason::Operator(Command::StopWorker));
    }

    fn shut_down(&mut self, id: RequestId, effects: &mut Effects) {
        if matches!(self.state, State::Down) {
            self.waiting.push((id, Command::Shutdown));
            return;
        }
        let starting = |c| matches!(c, Command::StartWorker | Command::RestartWorker);
        self.supersede(effects, Command::Shutdown, starting);
        match &self.state {
            State::Down => {}
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) => {
                self.waiting.push((id, Command::Shutdown));
                effects.push(Effect::Stop(watch.run));
                self.state = State::ShuttingDown(watch.clone());
                self.reason = Some(Reason::Operator(Command::Shutdown));
            }
            State::Stopping { watch, .. } => {
                self.waiting.push((id, Command::Shutdown));
                self.state = State::ShuttingDown(watch.clone());
                self.reason = Some(Reason::Operator(Command::Shutdown));
            }
            State::BackingOff { .. } | State::CoolingDown { .. } | State::Stopped => {
                self.waiting.push((id, Command::Shutdown));
                self.halt(effects);
            }
            State::ShuttingDown(_) => self.waiting.push((id, Command::Shutdown)),
            State::Halted => effects.push(Effect::Answer(id, Answer::Halted)),
        }
    }

    fn answer(&mut self, effects: &mut Effects, answer: Answer, whose: impl Fn(Command) -> bool) {
        self.waiting.retain(|&(id, command)| {
            if whose(command) {
                effects.push(Effect::Answer(id, answer.clone()));
            }
            !whose(command)
        });
    }

    fn supersede(&mut self, effects: &mut Effects, by: Command, whose: impl Fn(Command) -> bool) {
        self.answer(effects, Answer::Refused(Refusal::Superseded(by)), whose);
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
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => None,
        }
    }

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
            | State::ShuttingDown(watch) => Some(watch),
            State::Down | State::BackingOff { .. } | State::CoolingDown { .. } | State::Stopped | State::Halted => None,
        };
        View {
            status: WorkerStatus::of(&self.state),
            ready: matches!(self.state, State::Ready(_)),
            run: watch.map(|w| w.run),
            started_ms: watch.map(|w| w.started_ms),
            active_ms: watch.map(|w| w.active_ms),
            total_restarts: self.total_restarts(),
            failures: self.failures,
            next_attempt_ms: self.next_attempt_ms(),
            reason: self.reason.clone(),
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
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => None,
        }
    }

    /// What the next daemon needs to carry on. After a halt it begins anew, but for the numbering of the runs.
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

    pub(super) fn next_sample_in_ms(&self, now_ms: u64) -> u64 {
        let poll_ms = memory::poll_in_ms(&self.settings, self.tight.band, self.tight.reading);
        if self.settings.stall_timeout_ms == 0 {
            return poll_ms;
        }
        let fine_ms = (self.settings.stall_timeout_ms / 4).max(1);
        let stall_in_ms = self
            .watch()
            .and_then(|w| w.stalled_at_ms(&self.settings))
            .map_or(u64::MAX, |at_ms| at_ms.saturating_sub(now_ms));
        // A silent run is judged just when its time is over; one that is over already has been judged.
        let due_ms = if stall_in_ms == 0 { u64::MAX } else { stall_in_ms };
        poll_ms.min(fine_ms).min(due_ms).max(1)
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

fn refuse(id: RequestId, effects: &mut Effects) {
    effects.push(Effect::Answer(id, Answer::Refused(Refusal::ShuttingDown)));
}
