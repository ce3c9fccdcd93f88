//! Counters of a proven binary while another one is tried: what the candidate does is not held against it, and what the
//! proven one did does not shorten the candidate's chances.

use alloc::vec::Vec;
use core::mem;

use super::step::Supervisor;
use super::types::{Effect, Effects, State};
use super::window::Window;

/// What is counted of one binary. Times are of the same boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Failures in a row.
    pub failures: u32,
    /// Clean exits in a row that came too soon.
    pub quick_exits: u32,
    /// When the failures of the last hour were.
    pub failures_ms: Vec<u64>,
    /// When runs were ended as stalled within the last hour.
    pub stall_kills_ms: Vec<u64>,
}

impl Supervisor {
    /// A candidate is started in place of a proven binary, whose counters wait for it. Once is enough. In the midst of a
    /// start, whose record says so, too.
    pub fn begin_probation(&mut self) {
        if self.aside.is_none() {
            self.aside = Some(Counters {
                failures: mem::take(&mut self.failures),
                quick_exits: mem::take(&mut self.quick_exits),
                failures_ms: mem::take(&mut self.failures_window).times(),
                stall_kills_ms: mem::take(&mut self.stall_kills).times(),
            });
        }
    }

    /// The candidate is proven: what is counted is its own.
    pub fn end_probation(&mut self) {
        self.aside = None;
    }

    /// Counters wait for a proven binary.
    #[must_use]
    pub fn is_probation(&self) -> bool {
        self.aside.is_some()
    }

    /// The proven binary is the one to run again: with its own counters, and at once.
    pub(super) fn rolled_back(&mut self, now_ms: u64, effects: &mut Effects) {
        if let Some(counters) = self.aside.take() {
            self.failures = counters.failures;
            self.quick_exits = counters.quick_exits;
            self.failures_window = Window::from_times(counters.failures_ms);
            self.stall_kills = Window::from_times(counters.stall_kills_ms);
            effects.push(Effect::Save);
        }
        match &self.state {
            State::BackingOff { .. } | State::CoolingDown { .. } => self.start(now_ms, effects),
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
    }
}
