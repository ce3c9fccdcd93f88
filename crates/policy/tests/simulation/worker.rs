//! One run of the worker's program, from its start to the end of its tree.

use policy::supervisor::{Exit, RunId, StartFailure};

use crate::faults::{Fate, SECOND};
use crate::invariants::Silence;

/// The daemon's `stop_timeout_ms`: between TERM and KILL.
const STOP_TIMEOUT_MS: u64 = 10 * SECOND;

const NEVER: u64 = u64::MAX;

/// A run that lives. Its times move on while the machine is frozen.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) run: RunId,
    /// When it was asked for; the only time that a freeze does not move.
    pub(crate) begun_ms: u64,
    executed_ms: u64,
    pub(crate) executed: bool,
    failure: Option<StartFailure>,
    ready_ms: u64,
    ends_ms: u64,
    exit: Exit,
    silent_ms: u64,
    writes_every_ms: u64,
    dies_in_ms: Option<u64>,
    /// Its shim is dead.
    pub(crate) orphaned: bool,
    /// The daemon that lives now told it to end.
    pub(crate) told: bool,
    looked_ms: u64,
    watched_ms: u64,
    pub(crate) extended_until_ms: u64,
    doubtful_ms: u64,
    doubted_ms: u64,
}

/// What happens to it next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    Executed,
    CannotStart(StartFailure),
    Ready,
    Ended(Exit),
}

impl Worker {
    pub(crate) fn new(run: RunId, now_ms: u64, fate: Fate) -> Self {
        let executed_ms = now_ms + fate.executed_in_ms;
        Self {
            run,
            begun_ms: now_ms,
            executed_ms,
            executed: false,
            failure: fate.failure,
            ready_ms: executed_ms + fate.ready_after_ms,
            ends_ms: executed_ms + fate.lives_ms,
            exit: fate.exit,
            silent_ms: executed_ms + fate.silent_after_ms,
            writes_every_ms: fate.writes_every_ms,
            dies_in_ms: fate.dies_in_ms,
            orphaned: false,
            told: false,
            looked_ms: now_ms,
            watched_ms: now_ms,
            extended_until_ms: 0,
            doubtful_ms: 0,
            doubted_ms: 0,
        }
    }

    pub(crate) fn next_ms(&self) -> u64 {
        let executed_ms = if self.executed { NEVER } else { self.executed_ms };
        executed_ms.min(self.ready_ms).min(self.ends_ms)
    }

    /// What is due; one thing at a time.
    pub(crate) fn turn(&mut self, now_ms: u64) -> Option<Turn> {
        if !self.executed && self.executed_ms <= now_ms && self.executed_ms <= self.ends_ms {
            self.executed = true;
            if let Some(failure) = self.failure.take() {
                return Some(Turn::CannotStart(failure));
            }
            return Some(Turn::Executed);
        }
        if self.ends_ms <= now_ms {
            return Some(Turn::Ended(self.exit));
        }
        if self.ready_ms <= now_ms {
            self.ready_ms = NEVER;
            return Some(Turn::Ready);
        }
        None
    }

    /// TERM, and KILL where that does not help.
    pub(crate) fn stop(&mut self, now_ms: u64) {
        self.told = true;
        let (in_ms, exit) = match self.dies_in_ms {
            Some(in_ms) if self.orphaned => (in_ms, Exit::Unseen),
            Some(in_ms) if in_ms > SECOND => (in_ms, Exit::Code(0)),
            Some(in_ms) => (in_ms, Exit::Signal(15)),
            None => (STOP_TIMEOUT_MS, Exit::Signal(9)),
        };
        if now_ms + in_ms < self.ends_ms {
            self.ends_ms = now_ms + in_ms;
            self.exit = exit;
        }
    }

    /// A new daemon took it over.
    pub(crate) fn adopted(&mut self, now_ms: u64) {
        self.told = false;
        self.looked_ms = now_ms;
        self.watched_ms = now_ms;
        self.extended_until_ms = 0;
    }

    /// Its shim is killed, and its own end no more seen.
    pub(crate) fn orphan(&mut self) {
        self.orphaned = true;
        self.exit = Exit::Unseen;
        self.ends_ms = NEVER;
        self.executed = true;
        self.failure = None;
        self.ready_ms = NEVER;
    }

    /// The machine did not run for so long; `unnoticed_ms` of it look like silence to the daemon.
    pub(crate) fn frozen(&mut self, now_ms: u64, ms: u64, unnoticed_ms: u64) {
        let times = [
            &mut self.executed_ms,
            &mut self.ready_ms,
            &mut self.ends_ms,
            &mut self.silent_ms,
            &mut self.looked_ms,
            &mut self.doubted_ms,
        ];
        for at_ms in times {
            *at_ms = at_ms.saturating_add(ms);
        }
        self.watched_ms = now_ms;
        if self.last_life_ms(now_ms) > self.doubted_ms {
            self.doubtful_ms = 0;
        }
        self.doubtful_ms += unnoticed_ms;
        self.doubted_ms = now_ms;
    }

    /// When it last wrote to its log.
    fn last_life_ms(&self, now_ms: u64) -> u64 {
        let until_ms = now_ms.min(self.silent_ms);
        if until_ms <= self.executed_ms || !self.executed {
            return self.executed_ms.min(now_ms);
        }
        until_ms - (until_ms - self.executed_ms) % self.writes_every_ms
    }

    /// Whether its log moved since the last look.
    pub(crate) fn look(&mut self, now_ms: u64) -> bool {
        let active = self.last_life_ms(now_ms) > self.looked_ms;
        self.looked_ms = now_ms;
        active
    }

    pub(crate) fn silence(&self, now_ms: u64) -> Silence {
        let life_ms = self.last_life_ms(now_ms);
        let watched_ms = life_ms.max(self.watched_ms).max(self.extended_until_ms);
        Silence {
            ms: now_ms - life_ms.min(now_ms),
            watched_ms: now_ms.saturating_sub(watched_ms),
            age_ms: now_ms - self.begun_ms,
            extended: now_ms < self.extended_until_ms,
            doubtful_ms: if life_ms > self.doubted_ms { 0 } else { self.doubtful_ms },
        }
    }
}
