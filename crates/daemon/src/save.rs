//! When the state is written, and what it must survive.
//!
//! Whatever it says must survive the daemon; only what the operator said must survive the loss of power, too, and only
//! that is synced: when it is answered, not while a worker waits to be started.

use std::io;

use os::fail;
use os::files::{Durability, sync_folder_of};
use policy::supervisor::Effect;

use crate::drive::{Daemon, KEPT_RUNS};
use crate::runs;
use crate::start::write_pid_file;
use crate::state::State;

/// What is on disk of the operator's word.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// The worker is to stay down.
    stopped: bool,
    /// That has changed since it was last synced.
    unsynced: bool,
    /// The folders that lead to it are synced, too.
    is_reachable: bool,
    /// When what could not be written is tried again.
    again_ms: u64,
}

/// How often it is tried again to write what could not be written.
const AGAIN_MS: u64 = 1_000;

impl Saved {
    /// By the daemon before this one, which may have been killed before it synced a stop that it had written.
    pub(crate) fn found(stopped: bool) -> Self {
        Self { stopped, unsynced: stopped, ..Self::default() }
    }
}

impl Daemon {
    /// An operator's stop is on disk before the worker hears of it: a daemon that dies in between must not have
    /// forgotten it.
    pub(crate) fn save_stop_first(&mut self, effects: &mut Vec<Effect>) {
        let saves = effects.iter().any(|effect| matches!(effect, Effect::Save));
        if saves && self.machine.stays_down() && !self.saved.stopped {
            effects.retain(|effect| !matches!(effect, Effect::Save));
            self.save();
        }
    }

    /// Before the operator is answered.
    pub(crate) fn sync_operators_word(&mut self) {
        if self.saved.unsynced {
            self.save_durably(Durability::Power);
        }
    }

    pub(crate) fn save(&mut self) {
        self.save_durably(Durability::Process);
        runs::prune(&self.home, KEPT_RUNS);
    }

    fn save_durably(&mut self, durability: Durability) {
        let mut snapshot = self.machine.snapshot();
        if self.launching.awaited.is_some_and(|run| run == snapshot.last_run) {
            snapshot = snapshot.before_start();
        }
        let stopped = snapshot.stopped;
        let had_binary = self.launching.shelf.had_binary;
        let state = State::new(self.boot_id.clone(), snapshot, self.ended_run, self.exits.clone(), had_binary);
        let saved = fail::point("state.save").and_then(|()| state.save(&self.home.state_file(), durability));
        match saved.and_then(|()| self.make_reachable(durability)) {
            Ok(()) => {
                self.state_unsaved = None;
                let unsynced = self.saved.unsynced || self.saved.stopped != stopped;
                self.saved.stopped = stopped;
                self.saved.unsynced = unsynced && durability == Durability::Process;
            }
            Err(error) => {
                let problem = format!("cannot write {}: {error}", self.home.state_file().display());
                if self.state_unsaved.as_ref() != Some(&problem) {
                    self.warn(&problem);
                }
                self.state_unsaved = Some(problem);
                self.saved.again_ms = os::clock::monotonic_ms().saturating_add(AGAIN_MS);
            }
        }
    }

    /// When something that could not be written is to be tried again.
    pub(crate) fn save_due_ms(&self) -> Option<u64> {
        let waits =
            self.state_unsaved.is_some() || self.degraded.iter().any(|problem| problem.is_of_pid_file(&self.home));
        waits.then_some(self.saved.again_ms)
    }

    /// There may be space again.
    pub(crate) fn save_again(&mut self) {
        let now_ms = os::clock::monotonic_ms();
        if self.save_due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return;
        }
        self.saved.again_ms = now_ms.saturating_add(AGAIN_MS);
        if self.state_unsaved.is_some() {
            self.save_durably(Durability::Power);
        }
        if self.degraded.iter().any(|problem| problem.is_of_pid_file(&self.home)) {
            // It is said already.
            write_pid_file(&self.home).ok();
        }
    }

    /// A file in a folder that is not on the disk itself is not there either. Whoever made the folders, once is enough.
    fn make_reachable(&mut self, durability: Durability) -> io::Result<()> {
        if durability == Durability::Power && !self.saved.is_reachable {
            // The file's own folder was synced with it.
            for folder in self.home.worker().ancestors().take_while(|folder| folder.starts_with(self.home.root())) {
                fail::point("state.reach")?;
                sync_folder_of(folder)?;
            }
            self.saved.is_reachable = true;
        }
        Ok(())
    }
}
