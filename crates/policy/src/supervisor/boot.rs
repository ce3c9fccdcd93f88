//! What a starting daemon does with what it found of the one before it.

use core::mem;

use super::command::{Answer, Refusal};
use super::stall::Watch;
use super::step::Supervisor;
use super::types::{Effect, Effects, Exit, Found, Note, Reason, Recalled, RunId, State, Then};

impl Supervisor {
    /// Before [`Event::Boot`], and after what was missed: there is nothing of this run or any before it, but it may have
    /// been begun once.
    ///
    /// [`Event::Boot`]: super::types::Event::Boot
    pub fn count_from(&mut self, newest: RunId) {
        self.last_run = self.last_run.max(newest.0.saturating_sub(1));
    }

    pub(super) fn boot(&mut self, now_ms: u64, found: Found, effects: &mut Effects) {
        match &self.state {
            State::Down => {}
            State::Starting(_)
            | State::Running(_)
            | State::Ready(_)
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::CoolingDown { .. }
            | State::Unknown(_)
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

    /// What followed from it was decided, so that it only has to be counted.
    pub(super) fn missed(&mut self, now_ms: u64, run: RunId, exit: Exit, lived_ms: u64, effects: &mut Effects) {
        match &self.state {
            State::Down => {
                self.count_found(run);
                effects.push(Effect::Note(Note::Ended { run, exit, told: None, lived_ms }));
                self.count_exit(now_ms, exit, lived_ms);
                effects.push(Effect::Save);
            }
            State::Unknown(_)
            | State::Starting(_)
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

    pub(super) fn take_over(&mut self, now_ms: u64, found: Found, effects: &mut Effects) {
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
                let mut then = Then::Stay;
                if !self.stay_down {
                    then = Then::OrphanFailure;
                    // Not told to by anybody.
                    self.reason = Some(Reason::Exited(Exit::Unseen));
                }
                self.state = State::Stopping { watch: Watch::new(run, now_ms), then };
            }
            Found::Unverified { run } => {
                self.count_found(run);
                self.hands_off(Watch::new(run, now_ms), effects);
            }
            Found::Ended { run, .. } if self.judged(run) => self.boot_without_run(now_ms, effects),
            Found::Ended { run, exit, lived_ms } => {
                self.count_found(run);
                let told = self.reason.clone().filter(|_| self.stay_down);
                effects.push(Effect::Note(Note::Ended { run, exit, told, lived_ms }));
                if self.stay_down {
                    effects.push(Effect::Note(Note::StaysStopped));
                    self.rest(effects);
                } else {
                    self.judge(now_ms, exit, lived_ms, effects);
                }
            }
        }
    }

    /// Nothing is signalled, and nothing started beside it.
    pub(super) fn hands_off(&mut self, watch: Watch, effects: &mut Effects) {
        effects.push(Effect::Note(Note::Unverified { run: watch.run }));
        effects.push(Effect::Save);
        self.state = State::Unknown(watch);
    }

    /// Whoever wanted it to end, or another one to begin, is told that it is not known what lives.
    pub(super) fn unverified(&mut self, run: RunId, effects: &mut Effects) {
        match &self.state {
            // Where it was not told to end: its shim was killed.
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) | State::Stopping { watch, .. } => {
                if watch.run == run {
                    let watch = watch.clone();
                    self.hands_off(watch, effects);
                    self.answer(effects, Answer::Refused(Refusal::Unverified), |_| true);
                }
            }
            State::ShuttingDown(watch) => {
                if watch.run == run {
                    effects.push(Effect::Note(Note::Unverified { run }));
                    self.halt(effects);
                }
            }
            State::Down
            | State::BackingOff { .. }
            | State::CoolingDown { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::Halted => {}
        }
    }

    /// It is judged as if this daemon had seen it all.
    pub(super) fn recalled(&mut self, now_ms: u64, run: RunId, recalled: Recalled) {
        match &mut self.state {
            State::Running(watch) | State::Ready(watch) => {
                if watch.run != run {
                    return;
                }
                watch.announced |= recalled.announced;
                watch.active_ms = recalled.active_ms.clamp(watch.started_ms.min(now_ms), now_ms);
                watch.progress_ms = recalled.progress_ms.clamp(watch.started_ms.min(now_ms), now_ms);
                watch.extend(now_ms, recalled.extended_until_ms);
                watch.tolerated_ms = recalled.tolerated_ms.map(|at_ms| at_ms.min(now_ms));
                if watch.announced {
                    self.state = State::Ready(watch.clone());
                }
            }
            State::Down
            | State::Starting(_)
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::CoolingDown { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::ShuttingDown(_)
            | State::Halted => {}
        }
    }

    pub(super) fn boot_without_run(&mut self, now_ms: u64, effects: &mut Effects) {
        if self.stay_down {
            effects.push(Effect::Note(Note::StaysStopped));
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
    pub(super) fn count_found(&mut self, run: RunId) {
        self.starts = self.starts.saturating_add(run.0.saturating_sub(self.last_run)).max(1);
        self.last_run = self.last_run.max(run.0);
    }

    /// The daemon before this one has seen the end of this run and recorded what follows from it: a wait, or its own end.
    pub(super) fn judged(&self, run: RunId) -> bool {
        run.0 <= self.last_run && (self.resume.is_some() || self.starts == 0)
    }
}
