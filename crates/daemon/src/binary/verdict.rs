//! What becomes of a copy that runs: an attempt is counted, an end is judged, a candidate is proven or rolled back. Decided in
//! `policy::probation`.

use std::io;

use policy::probation::{self, Blame, Life, Look, MOST_EXCUSES};

use super::Launch;
use super::index::{Binary, MOST_ATTEMPTS, Standing};
use super::lives::Counted;
use super::shelf::{Shelf, Turn};

/// What is counted may wait for so long.
const COUNT_AFTER_MS: u64 = 1_000;

impl Shelf {
    /// Before the start of run `run`: the attempt is counted, if it may come to matter. `true`: it is a candidate's, in place
    /// of a proven binary.
    pub(crate) fn begin(&mut self, run: u64, launch: &Launch) -> bool {
        self.due_ms = None;
        self.running = launch.sha256.clone().map(|sha256| (run, sha256));
        self.is_in_place = launch.sha256.is_none();
        self.had_binary |= launch.source.is_some();
        let Some(sha256) = &launch.sha256 else { return false };
        self.hold(sha256);
        let is_candidate = self.index.binary(sha256).is_some_and(|binary| binary.standing == Standing::Candidate);
        if !is_candidate || self.fallback(sha256).is_none() {
            return false;
        }
        let sha256 = sha256.clone();
        self.change(|index| {
            if let Some(binary) = index.binary_mut(&sha256) {
                binary.set_trial(binary.trial().begun());
                binary.trying = Some(run);
            }
        });
        true
    }

    /// A run that this daemon did not begin.
    pub(crate) fn adopt(&mut self, run: u64) {
        self.refresh();
        let trying = self.index.binaries.iter().find(|binary| binary.trying == Some(run));
        let sha256 = trying.map(|binary| binary.sha256.clone()).or_else(|| self.counted().running.clone());
        if let Some(sha256) = &sha256 {
            self.hold(sha256);
        }
        self.running = sha256.map(|sha256| (run, sha256));
    }

    /// The end of a run. `why` for people.
    pub(crate) fn ended(&mut self, run: u64, blame: Blame, lived_ms: u64, why: &str) {
        self.due_ms = None;
        self.ensure_read();
        let of_run = self.running.as_ref().filter(|(number, _)| *number == run).map(|(_, sha256)| sha256.clone());
        if let Some(sha256) = &of_run {
            self.counted().ended(sha256, lived_ms);
            self.count_soon();
        }
        let trying = self.index.binaries.iter().find(|binary| binary.trying == Some(run));
        let Some(sha256) = trying.map(|binary| binary.sha256.clone()) else { return };
        let lived = crate::text::duration(lived_ms);
        let reason = format!("{why}, after {lived}");
        self.change(|index| {
            if let Some(binary) = index.binary_mut(&sha256) {
                binary.trying = None;
                binary.set_trial(binary.trial().ended(blame, lived_ms));
                binary.lived |= blame == Blame::Well;
                if matches!(blame, Blame::Binary | Blame::Excused) {
                    binary.reason = Some(reason.clone());
                }
            }
        });
    }

    /// Give up a candidate that had its chances. `true`: something else runs next.
    pub(crate) fn roll_back(&mut self) -> bool {
        self.ensure_read();
        let Some(binary) = self.index.next().cloned() else { return false };
        let trial = binary.trial();
        let is_over = binary.standing == Standing::Candidate && (trial.is_used_up() || trial.is_set_aside());
        if !is_over || self.index.pinned.is_some() {
            return false;
        }
        let Some(to) = self.fallback(&binary.sha256) else { return false };
        let how = binary.reason.clone().unwrap_or_else(|| "its end was seen by nobody".to_owned());
        let reason = if trial.is_used_up() {
            format!("failed {MOST_ATTEMPTS} times in probation, last: {how}")
        } else {
            format!("ended {MOST_EXCUSES} times at once, last: {how}")
        };
        self.change(|index| {
            if trial.is_used_up() {
                index.quarantine(&binary.sha256, reason.clone());
            } else if let Some(binary) = index.binary_mut(&binary.sha256) {
                binary.reason = Some(reason.clone());
            }
            index.current = Some(to.sha256.clone());
        });
        let is_out = trial.is_used_up();
        let from = Binary { reason: Some(reason), ..binary };
        self.turns.push(Turn::RolledBack { from: Box::new(from), to: Box::new(to), is_out });
        true
    }

    /// When something is due here: a look at the candidate that runs, or what was counted.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        [self.due_ms, self.count_due_ms].into_iter().flatten().min()
    }

    /// Whether it is. `life` of the run that runs.
    pub(crate) fn look(&mut self, life: Option<Life>, now_ms: u64) -> bool {
        let candidate = self.current().filter(|binary| binary.standing == Standing::Candidate).cloned();
        let (Some(binary), Some(life)) = (candidate, life) else {
            self.due_ms = None;
            return false;
        };
        if !binary.lived && probation::shows_life(life) {
            self.counted().showed_life(&binary.sha256);
            self.count_soon();
            if let Some(binary) = self.index.binary_mut(&binary.sha256) {
                binary.lived = true;
            }
        }
        if self.due_ms.is_some_and(|due_ms| now_ms < due_ms) {
            return false;
        }
        match probation::look(self.probation, binary.trial(), life, now_ms) {
            Look::Later(at_ms) => {
                self.due_ms = Some(at_ms);
                false
            }
            Look::Proven => {
                self.due_ms = None;
                self.change(|index| index.prove(&binary.sha256));
                self.turns.push(Turn::Proven { binary: Box::new(binary) });
                true
            }
        }
    }

    pub(super) fn counted(&mut self) -> &mut Counted {
        let folder = self.store.folder();
        self.counted.get_or_insert_with(|| Counted::load(folder))
    }

    /// Not at once: a worker that ends and is started again must not wait for it.
    fn count_soon(&mut self) {
        let soon_ms = os::clock::monotonic_ms().saturating_add(COUNT_AFTER_MS);
        self.count_due_ms = self.count_due_ms.or(Some(soon_ms));
    }

    /// Write down what was counted, if that is due, or now.
    pub(crate) fn keep_count(&mut self, now_ms: Option<u64>) -> io::Result<()> {
        if self.count_due_ms.is_none_or(|due_ms| now_ms.is_some_and(|now_ms| now_ms < due_ms)) {
            return Ok(());
        }
        self.count_due_ms = None;
        if !self.store.folder().exists() {
            return Ok(());
        }
        let folder = self.store.folder().to_owned();
        let index = &self.index;
        let Some(counted) = &mut self.counted else { return Ok(()) };
        counted.save(&folder, |sha256| index.binary(sha256).is_some())
    }

    /// After a start that came about.
    pub(crate) fn began(&mut self) {
        if let Some((_, sha256)) = self.running.clone() {
            self.counted().began(&sha256);
            self.count_soon();
        }
    }
}
