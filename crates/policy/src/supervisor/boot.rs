//! What a starting daemon does with what it found of the one before it.

use core::mem;

use super::stall::Watch;
use super::step::Supervisor;
use super::types::{Effect, Effects, Found, Note, RunId, State, Then};

impl Supervisor {
    pub(super) fn boot(&mut self, now_ms: u64, found: Found, effects: &mut Effects) {
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

    pub(super) fn boot_without_run(&mut self, now_ms: u64, effects: &mut Effects) {
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
    pub(super) fn count_found(&mut self, run: RunId) {
        self.starts = self.starts.saturating_add(run.0.saturating_sub(self.last_run)).max(1);
        self.last_run = self.last_run.max(run.0);
    }

    /// The daemon before this one has seen the end of this run and recorded what follows from it: a wait, or its own end.
    pub(super) fn judged(&self, run: RunId) -> bool {
        run.0 <= self.last_run && (self.resume.is_some() || self.starts == 0)
    }
}
