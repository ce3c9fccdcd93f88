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
    /// When it is tried again to write the state.
    again_ms: u64,
    /// And the pid file.
    pid_file_again_ms: Option<u64>,
}

/// How often it is tried again to write the state.
const AGAIN_MS: u64 = 1_000;
/// Nothing is decided by a pid file: on a full disk the rest goes first.
const PID_FILE_AGAIN_MS: u64 = 30_000;

impl Saved {
    /// By the daemon before this one, which may have been killed before it synced a stop that it had written. `no_pid_file`:
    /// this one could not write its own.
    pub(crate) fn found(stopped: bool, no_pid_file: bool) -> Self {
        let pid_file_again_ms = no_pid_file.then(|| os::clock::monotonic_ms().saturating_add(PID_FILE_AGAIN_MS));
        Self { stopped, unsynced: stopped, pid_file_again_ms, ..Self::default() }
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
        let state = self.state_unsaved.as_ref().map(|_| self.saved.again_ms);
        state.into_iter().chain(self.saved.pid_file_again_ms).min()
    }

    /// There may be space again.
    pub(crate) fn save_again(&mut self) {
        let now_ms = os::clock::monotonic_ms();
        if self.state_unsaved.is_some() && self.saved.again_ms <= now_ms {
            self.save_durably(Durability::Power);
        }
        if self.saved.pid_file_again_ms.is_some_and(|again_ms| again_ms <= now_ms) {
            let is_unwritten = write_pid_file(&self.home).is_err();
            self.saved.pid_file_again_ms = is_unwritten.then(|| now_ms.saturating_add(PID_FILE_AGAIN_MS));
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
