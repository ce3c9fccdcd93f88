//! What the daemon knows of its worker's program: which copy runs next, and what comes of it.
//!
//! **Invariant:** a start that finds nothing changed costs four `stat` calls, and writes nothing, unless it is a candidate's
//! that could be rolled back: then the attempt is on the disk before the start.

use std::fs;
use std::path::{Path, PathBuf};

use policy::probation::Settings;

use super::admit::{Admission, Role, Wish};
use super::index::{self, Binary, Index, Stamp, Standing, Unused};
use super::lives::Counted;
use super::program::{self, Program, Unfit};
use super::store::Store;
use super::trial::Asked;
use super::{Launch, Note, Refused, install_path};
use crate::config::WorkerCommand;
use crate::seal::Aside;

/// So long does the daemon wait for whoever changes the index, once.
const PATIENCE_MS: u64 = 200;

/// What to do for the next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Run this.
    Run(Launch),
    /// Find something out first: whether the file, which is new, may run; or whether a copy is what it was.
    Ask(Asked),
    /// There is nothing to run.
    Refuse(Refused),
}

/// A change that people should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is a new binary, and it may show what it can.
    Admitted { binary: Box<Binary>, source: PathBuf, proven: Option<Box<Binary>> },
    /// The file is not used, and this runs on.
    Refused { source: PathBuf, why: String, instead: Option<Box<Binary>> },
    /// It was healthy for long enough.
    Proven { binary: Box<Binary> },
    /// It had its chances. `is_out`: it is in quarantine; else it was set aside.
    RolledBack { from: Box<Binary>, to: Box<Binary>, is_out: bool },
}

/// The shelf of one home.
#[derive(Debug)]
pub(crate) struct Shelf {
    home: PathBuf,
    pub(super) store: Store,
    /// What comes new must call itself as what was there before.
    is_named: bool,
    /// The index as it was read, and the file's stamp then.
    pub(super) index: Index,
    read: Option<Option<Stamp>>,
    /// What could not be written is not read over.
    unsaved: Option<String>,
    pub(super) counted: Option<Counted>,
    /// When what was counted is to be written.
    pub(super) count_due_ms: Option<u64>,
    /// A file that was looked into, and is none to copy.
    seen: Option<Seen>,
    /// Copies that were read, and are not what their names say.
    damaged: Vec<(String, Stamp)>,
    /// The newest run, and what it runs.
    pub(super) running: Option<(u64, String)>,
    /// The copy of the newest run, open: it can be put back if the store is deleted.
    held: Option<(String, fs::File)>,
    /// A binary was run once, also if nothing in the store tells of it any more.
    pub(crate) had_binary: bool,
    /// It runs no copy.
    pub(super) is_in_place: bool,
    pub(super) probation: Settings,
    /// When to look at the candidate that runs.
    pub(super) due_ms: Option<u64>,
    pub(super) turns: Vec<Turn>,
    aside: Option<Aside>,
}

/// A file as it was when it was looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    source: PathBuf,
    stamp: Stamp,
    what: SeenAs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum SeenAs {
    /// A script that is not copied.
    InPlace,
    Unfit(Unfit),
    /// There is no room for a copy.
    NotStored(String),
}

impl Shelf {
    /// Of the worker. Touches nothing yet.
    pub(crate) fn new(home: &Path, probation: Settings) -> Self {
        Self::of(home, Store::of_workers(home), true, probation)
    }

    /// Of the agent.
    pub(crate) fn of_agents(home: &Path, probation: Settings) -> Self {
        Self::of(home, Store::of_agents(home), false, probation)
    }

    fn of(home: &Path, store: Store, is_named: bool, probation: Settings) -> Self {
        Self {
            home: home.to_owned(),
            store,
            is_named,
            index: Index::default(),
            read: None,
            unsaved: None,
            counted: None,
            count_due_ms: None,
            seen: None,
            damaged: Vec::new(),
            running: None,
            held: None,
            had_binary: false,
            is_in_place: false,
            probation,
            due_ms: None,
            turns: Vec::new(),
            aside: None,
        }
    }

    pub(crate) fn take_aside(&mut self) -> Option<Aside> {
        self.aside.take()
    }

    pub(crate) fn take_turns(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.turns)
    }

    /// What does not work as it should.
    pub(crate) fn problems(&self) -> Vec<String> {
        let path = index::path(self.store.folder());
        let unsaved = self.unsaved.as_ref().map(|why| format!("cannot write {}: {why}", path.display()));
        let unused = self.seen.as_ref().map(|seen| {
            let source = seen.source.display();
            match &seen.what {
                SeenAs::InPlace => format!(
                    "{source} runs where it is, and can't be rolled back: it is a script that looks for its own place \
                     (a binary would not, or a script that starts it by its full path)"
                ),
                SeenAs::Unfit(unfit) => format!("{source} is not used: {unfit}"),
                SeenAs::NotStored(why) => format!("{source} can't be copied: {why}"),
            }
        });
        let pinned = self.index.pinned.as_ref().filter(|sha256| self.is_damaged(sha256)).map(|sha256| {
            format!("the pinned binary {} is not used: its copy is damaged or gone", index::short(sha256))
        });
        unsaved.into_iter().chain(pinned).chain(unused).collect()
    }

    /// The file that the worker is taken from.
    pub(crate) fn source(&self, command: Option<&WorkerCommand>) -> PathBuf {
        match command {
            Some(WorkerCommand::Binary { path }) => path.clone(),
            Some(WorkerCommand::Cargo { .. }) | None => install_path(&self.home),
        }
    }

    /// Read the index again if somebody else has changed it. One `stat`.
    pub(super) fn refresh(&mut self) {
        let now = index::stamp_of(&index::path(self.store.folder()));
        if self.unsaved.is_some() || self.read == Some(now) {
            return;
        }
        // Deleted under the daemon: what it remembers is the newest there is.
        if now.is_none() && self.read.is_some() && !self.index.binaries.is_empty() {
            let (remembered, path) = (self.index.clone(), index::path(self.store.folder()));
            self.change(|index| {
                if !path.exists() {
                    *index = remembered.clone();
                }
            });
            return;
        }
        let (mut index, aside) = Index::load(self.store.folder());
        index.recall(self.counted());
        self.index = index;
        self.read = Some(now);
        self.aside = aside.or(self.aside.take());
    }

    /// By now nothing may have been read at all. What others have changed since is seen by the next choice.
    pub(super) fn ensure_read(&mut self) {
        if self.read.is_none() {
            self.refresh();
        }
    }

    /// Change the index, on the disk if that is possible, and in memory in any case.
    pub(super) fn change(&mut self, changes: impl Fn(&mut Index)) {
        // What could not be written before is written with it, unless somebody else has changed the index since.
        let unsaved = self.unsaved.as_ref().map(|_| (self.index.clone(), self.read));
        let path = index::path(self.store.folder());
        let counted = self.counted().clone();
        let changes = |index: &mut Index| {
            index.recall(&counted);
            if let Some((remembered, read)) = &unsaved
                && *read == Some(index::stamp_of(&path))
            {
                index.clone_from(remembered);
            }
            changes(index);
        };
        match index::change(self.store.folder(), PATIENCE_MS, changes) {
            Ok(((), index, aside)) => {
                self.index = index;
                self.read = Some(index::stamp_of(&index::path(self.store.folder())));
                self.aside = aside.or(self.aside.take());
                self.unsaved = None;
            }
            Err(error) => {
                changes(&mut self.index);
                self.unsaved = Some(error.to_string());
            }
        }
    }

    /// Chooses the program for the next start.
    pub(crate) fn choose(&mut self, command: Option<&WorkerCommand>, is_stored: bool) -> Choice {
        if let Some(WorkerCommand::Cargo { manifest_path }) = command {
            return Choice::Run(Launch::cargo(manifest_path.as_deref(), Note::CargoByChoice));
        }
        let source = self.source(command);
        let found = look_into(&source);
        if !is_stored {
            return match found.and_then(|(_, metadata)| examine(&source, &metadata)) {
                Ok(_) => Choice::Run(Launch::in_place(&source, None)),
                Err(unfit) => Choice::Refuse(Refused { path: source, unfit }),
            };
        }
        if self.is_in_doubt() {
            return Choice::Ask(Asked::Mend);
        }
        if let Some(pinned) = self.index.pinned.as_ref().and_then(|sha256| self.sound(sha256)) {
            return Choice::Run(self.launch(&source, &pinned, None));
        }
        match found {
            Ok((stamp, metadata)) => self.choose_from(source, stamp, &metadata),
            Err(Unfit::Missing) if command.is_none() && !self.has_history() => {
                Choice::Run(Launch::cargo(None, Note::NeverInstalled { install_to: source }))
            }
            Err(unfit) => {
                // Whatever was wrong with the one that was there before.
                self.seen = None;
                self.without(source, unfit, false)
            }
        }
    }

    fn choose_from(&mut self, source: PathBuf, stamp: Stamp, metadata: &fs::Metadata) -> Choice {
        let followed = self.index.followed.as_ref();
        if followed.is_some_and(|followed| followed.source == source && self.store.is_same(followed.stamp, stamp)) {
            return match self.usable() {
                Some(binary) => Choice::Run(self.launch(&source, &binary, None)),
                None => self.resurrect(&source).map_or(Choice::Ask(Asked::Admit), Choice::Run),
            };
        }
        if self.seen.is_none()
            && let Some(unused) = self.index.unused.clone().filter(|unused| unused.source == source)
            && self.usable().is_some()
        {
            let what = SeenAs::Unfit(unused.unfit);
            self.seen = Some(Seen { source: source.clone(), stamp: unused.stamp, what });
        }
        if self.seen.as_ref().is_none_or(|seen| seen.source != source || seen.stamp != stamp) {
            let what = match examine(&source, metadata) {
                Ok(Program::MachineCode | Program::Script) => return Choice::Ask(Asked::Admit),
                Ok(Program::InPlace) => SeenAs::InPlace,
                Err(unfit) => SeenAs::Unfit(unfit),
            };
            if let SeenAs::Unfit(unfit) = &what {
                self.refused(&source, unfit.to_string());
            }
            self.seen = Some(Seen { source: source.clone(), stamp, what });
        }
        match self.seen.as_ref().map(|seen| seen.what.clone()) {
            Some(SeenAs::InPlace) => Choice::Run(Launch::in_place(&source, None)),
            Some(SeenAs::Unfit(unfit)) => {
                if unfit == Unfit::BeingWritten {
                    // Its end changes nothing of the file: it is looked into again at the next start.
                    self.seen = None;
                }
                self.without(source, unfit, true)
            }
            Some(SeenAs::NotStored(reason)) => match self.usable() {
                Some(binary) => {
                    let note = Note::NotStored { source: source.clone(), reason, is_run: false };
                    Choice::Run(self.launch(&source, &binary, Some(note)))
                }
                None => Choice::Run(Launch::in_place(&source, Some(reason))),
            },
            None => Choice::Ask(Asked::Admit),
        }
    }

    /// The file can't be run: what is known runs on, if it is the same worker's.
    fn without(&mut self, source: PathBuf, unfit: Unfit, is_told: bool) -> Choice {
        let is_followed = self.is_followed(&source);
        // What was installed by command needs no file.
        let is_told = is_told || self.index.followed.is_none();
        match self.usable().filter(|_| is_followed) {
            Some(binary) => {
                let note = Note::SourceUnfit { source: source.clone(), unfit, runs: binary.to_string() };
                Choice::Run(self.launch(&source, &binary, Some(note).filter(|_| !is_told)))
            }
            None => {
                // What is refused now may be whole in a moment.
                self.seen = None;
                let is_gone = unfit == Unfit::Missing && self.had_binary && self.store.hashes().is_empty();
                let unfit = if is_gone { Unfit::StoreGone { store: self.store.folder().to_owned() } } else { unfit };
                Choice::Refuse(Refused { path: source, unfit })
            }
        }
    }

    /// What is in the store was taken from there, or put there by command.
    fn is_followed(&self, source: &Path) -> bool {
        self.index.followed.as_ref().is_none_or(|followed| followed.source == source)
    }

    /// The current copy, or the best of the others; only if it is what it was.
    fn usable(&self) -> Option<Binary> {
        let current = self.index.current.as_deref().unwrap_or_default();
        self.sound(current).or_else(|| self.fallback(current))
    }

    /// What would run in place of this one.
    pub(super) fn fallback(&self, sha256: &str) -> Option<Binary> {
        self.index.others(sha256).into_iter().find_map(|binary| self.sound(&binary.sha256))
    }

    pub(super) fn sound(&self, sha256: &str) -> Option<Binary> {
        let binary = self.index.binary(sha256).filter(|binary| binary.standing != Standing::Quarantined)?;
        self.store.is_unchanged(sha256, binary.copy).then(|| binary.clone())
    }

    /// Whether a copy may be what it was, although it was touched, and that is worth knowing before a start: of what runs
    /// next, and of what would take its place if it is not proven.
    pub(crate) fn is_in_doubt(&mut self) -> bool {
        self.refresh();
        let current = self.index.current.as_deref().unwrap_or_default();
        let pinned = self.index.pinned.iter().filter_map(|sha256| self.index.binary(sha256));
        let current_one = self.index.binary(current).into_iter();
        let wanted = pinned.map(|binary| (binary, true)).chain(current_one.map(|binary| (binary, false)));
        for (binary, is_pinned) in wanted.chain(self.index.others(current).into_iter().map(|other| (other, false))) {
            if binary.standing == Standing::Quarantined {
                continue;
            }
            let now = index::stamp_of(&self.store.copy_path(&binary.sha256));
            if now.is_none() && self.held().is_some_and(|(sha256, _)| sha256 == binary.sha256) {
                return true;
            }
            if now.is_some_and(|now| self.store.is_same(binary.copy, now)) {
                if is_pinned || binary.standing == Standing::Good {
                    return false;
                }
            } else if now.is_some_and(|now| !self.damaged.contains(&(binary.sha256.clone(), now))) {
                return true;
            }
        }
        // Copies that nothing names: the index was lost.
        self.index.binaries.is_empty() && self.store.hashes().into_iter().any(|sha256| !self.is_damaged(&sha256))
    }

    fn is_damaged(&self, sha256: &str) -> bool {
        let now = index::stamp_of(&self.store.copy_path(sha256));
        now.is_none_or(|now| self.damaged.contains(&(sha256.to_owned(), now)))
    }

    /// The copy of the newest run, as an open file.
    pub(super) fn held(&self) -> Option<(&str, &fs::File)> {
        self.held.as_ref().map(|(sha256, file)| (sha256.as_str(), file))
    }

    pub(super) fn hold(&mut self, sha256: &str) {
        if self.store.holds_open() && self.held().is_none_or(|(held, _)| held != sha256) {
            let file = fs::File::open(self.store.copy_path(sha256));
            self.held = file.ok().map(|file| (sha256.to_owned(), file));
        }
    }

    /// The copies were read again.
    pub(super) fn mended(&mut self) {
        self.read = None;
        self.refresh();
        let changed = |binary: &Binary| {
            let path = self.store.copy_path(&binary.sha256);
            let now = index::stamp_of(&path).filter(|now| !self.store.is_same(binary.copy, *now))?;
            Some((path, (binary.sha256.clone(), now)))
        };
        let damaged: Vec<_> = self.index.binaries.iter().filter_map(changed).collect();
        for (path, copy) in &damaged {
            if !self.damaged.contains(copy) {
                self.refused(path, "it was changed since it was copied there".to_owned());
            }
        }
        self.damaged = damaged.into_iter().map(|(_, copy)| copy).collect();
        if self.index.binaries.is_empty() {
            let strangers = self.store.hashes().into_iter();
            let stamped =
                strangers.filter_map(|sha256| Some((index::stamp_of(&self.store.copy_path(&sha256))?, sha256)));
            self.damaged.extend(stamped.map(|(stamp, sha256)| (sha256, stamp)));
        }
        // It could not be put back.
        self.held = self.held.take().filter(|(sha256, _)| self.store.copy_path(sha256).exists());
    }

    /// Nothing is left but what was given up: better that than nothing.
    fn resurrect(&mut self, source: &Path) -> Option<Launch> {
        let sha256 = self.index.followed.as_ref()?.sha256.clone();
        let binary = self.index.binary(&sha256)?.clone();
        if !self.store.is_unchanged(&sha256, binary.copy) {
            return None;
        }
        self.change(|index| {
            if let Some(binary) = index.binary_mut(&sha256) {
                binary.standing = Standing::Candidate;
            }
            index.current = Some(sha256.clone());
        });
        Some(self.launch(source, &binary, None))
    }

    /// Whether a binary was ever admitted; the copies tell it too if the index is lost.
    fn has_history(&self) -> bool {
        self.had_binary || !self.index.binaries.is_empty() || !self.store.hashes().is_empty()
    }

    fn launch(&self, source: &Path, binary: &Binary, note: Option<Note>) -> Launch {
        let path = self.store.copy_path(&binary.sha256);
        Launch { argv: vec![path.into()], source: Some(source.to_owned()), sha256: Some(binary.sha256.clone()), note }
    }

    /// What to ask of the file before it may run.
    pub(super) fn wish(&self, command: Option<&WorkerCommand>) -> Wish {
        let source = self.source(command);
        let same = self.index.followed.as_ref().is_some_and(|followed| followed.source == source);
        let known = self.index.next().filter(|_| same).and_then(|binary| binary.name().map(str::to_owned));
        let name = if command.is_none() { Some(OWN_NAME.to_owned()) } else { known };
        let name = name.filter(|_| self.is_named);
        let in_use = self.running.as_ref().map(|(_, sha256)| sha256.clone());
        Wish { source, role: Role::Followed, name, in_use }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// What became of it. The next choice follows it.
    pub(crate) fn admitted(&mut self, source: &Path, stamp: Option<Stamp>, admission: Admission) {
        self.read = None;
        self.refresh();
        let what = match admission {
            Admission::Admitted { sha256, is_new, .. } => {
                self.seen = None;
                if let Some(binary) = self.index.binary(&sha256).cloned().filter(|_| is_new) {
                    let proven = self.fallback(&sha256).map(Box::new);
                    let (binary, source) = (Box::new(binary), source.to_owned());
                    self.turns.push(Turn::Admitted { binary, source, proven });
                }
                return;
            }
            Admission::Quarantined { sha256, reason, .. } => {
                self.refused(source, format!("its copy {} is in quarantine: {reason}", index::short(&sha256)));
                return;
            }
            Admission::Unfit(unfit) => {
                self.refused(source, unfit.to_string());
                SeenAs::Unfit(unfit)
            }
            Admission::NotStored { reason } => SeenAs::NotStored(reason),
        };
        let stamp = stamp.or_else(|| index::stamp_of(source));
        // A daemon after this one need not wait for the same answer.
        if let (SeenAs::Unfit(unfit @ Unfit::Untried { .. }), Some(stamp)) = (&what, stamp) {
            let unused = Unused { source: source.to_owned(), stamp, unfit: unfit.clone() };
            self.change(|index| index.unused = Some(unused.clone()));
        }
        self.seen = stamp.map(|stamp| Seen { source: source.to_owned(), stamp, what });
    }

    fn refused(&mut self, source: &Path, why: String) {
        let instead = self.usable().map(Box::new);
        self.turns.push(Turn::Refused { source: source.to_owned(), why, instead });
    }

    /// What is known already, without a look at any file but the copy. `of`: only what was taken from there.
    pub(crate) fn known(&mut self, of: Option<&Path>) -> Option<PathBuf> {
        self.refresh();
        let pinned = self.index.pinned.clone().and_then(|sha256| self.sound(&sha256));
        let is_of = of.is_none_or(|source| self.is_followed(source));
        let binary = pinned.or_else(|| self.usable().filter(|_| is_of))?;
        Some(self.store.copy_path(&binary.sha256))
    }

    /// The hash of a copy by its path.
    pub(crate) fn launch_of(copy: &Path) -> Option<Launch> {
        let sha256 = copy.parent()?.file_name()?.to_str()?.to_owned();
        Some(Launch { argv: vec![copy.into()], source: None, sha256: Some(sha256), note: None })
    }

    /// The copy of the newest run.
    pub(crate) fn current(&self) -> Option<&Binary> {
        let (_, sha256) = self.running.as_ref()?;
        self.index.binary(sha256)
    }

    /// For `status`: the copy of the newest run, else of the next, if it was taken from there; and a newer one that was given up.
    pub(crate) fn shown(&self, of: Option<&Path>) -> (Option<&Binary>, Option<&Binary>) {
        if self.is_in_place {
            return (None, None);
        }
        let is_of = of.is_none_or(|source| self.is_followed(source));
        let next = || self.index.next().filter(|_| is_of);
        (self.current().or_else(next), self.index.given_up())
    }
}

/// What our own worker calls itself.
pub(super) const OWN_NAME: &str = "autopilot";

fn look_into(source: &Path) -> Result<(Stamp, fs::Metadata), Unfit> {
    let metadata = fs::metadata(source).map_err(|error| program::from_io(&error))?;
    Ok((Stamp::of(&metadata), metadata))
}

fn examine(source: &Path, metadata: &fs::Metadata) -> Result<Program, Unfit> {
    program::check_metadata(metadata)?;
    let file = fs::File::open(source).map_err(|error| program::from_io(&error))?;
    program::examine(&file, metadata.len())
}
