//! The store's index, `bin/store/index.json`: which copies there are, what each is known for, and which of them runs next.
//!
//! It holds what was decided, so it is synced; and several processes change it (the daemon, `install`, `rollback` …), so it is
//! changed under a lock alone, always from what is on the disk. What is only counted lies in [`super::lives`].
//!
//! **Invariant:** a copy that it names was whole when it was named, and had answered to `--version` if it could be asked, or
//! there was none that had.

use std::cmp::Reverse;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use os::fail;
use os::files::{self, Durability, Lock, Locked};
use os::poll::Poller;
use policy::probation::{self, Trial, Worth};
use serde::{Deserialize, Serialize};

use super::lives::Counted;
use super::program::Unfit;
use super::smoke;
use crate::seal::{self, Aside};

/// Version of the file's format: 3, the first one that knows what a copy is worth.
const VERSION: u32 = 3;
/// How often a lock that somebody holds is looked at.
const LOOK_EVERY_MS: u64 = 2;

/// A file's identity and last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) size_bytes: u64,
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size_bytes: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Stamp {
    /// Whether it is the same file with the same content. `by_link`: names of it may have come and gone, which changes the
    /// time of its last change, but not of its content.
    pub(super) fn is_same(self, other: Self, by_link: bool) -> bool {
        let ctime_ns = if by_link { other.ctime_ns } else { self.ctime_ns };
        Self { ctime_ns, ..self } == other
    }
}

/// What a copy is known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    Candidate,
    Good,
    Quarantined,
}

impl Standing {
    pub fn name(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Good => "good",
            Self::Quarantined => "quarantined",
        }
    }
}

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binary {
    pub sha256: String,
    /// What it answered to `--version`, or what is said in place of an answer.
    pub version: String,
    pub size_bytes: u64,
    pub installed_unix_ms: u64,
    pub standing: Standing,
    /// Why it is in quarantine; of a candidate, how its last start failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In probation: starts that were not given back.
    pub attempts: u32,
    /// In probation: see [`Trial`].
    pub health_ms: u64,
    /// In probation: see [`Trial`].
    #[serde(default)]
    pub(super) excuses: u32,
    /// In probation: the run whose end is still to be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trying: Option<u64>,
    /// It has shown life since it was admitted.
    #[serde(default)]
    pub(super) lived: bool,
    /// Of the copy.
    pub(super) copy: Stamp,
    /// Counts admissions; the newest has the greatest.
    pub(super) order: u64,
    /// Counts proofs likewise; 0: none yet.
    pub(super) proof: u64,
}

impl Binary {
    /// One that nothing is known of yet.
    pub(super) fn new(sha256: String, version: String, copy: Stamp, order: u64) -> Self {
        Self {
            sha256,
            version,
            size_bytes: copy.size_bytes,
            installed_unix_ms: os::clock::wall_ms(),
            standing: Standing::Candidate,
            reason: None,
            attempts: 0,
            health_ms: 0,
            excuses: 0,
            trying: None,
            lived: false,
            copy,
            order,
            proof: 0,
        }
    }

    pub(super) fn trial(&self) -> Trial {
        Trial { attempts: self.attempts, health_ms: self.health_ms, excuses: self.excuses }
    }

    pub(super) fn set_trial(&mut self, trial: Trial) {
        (self.attempts, self.health_ms, self.excuses) = (trial.attempts, trial.health_ms, trial.excuses);
    }

    /// It was given up, or set aside.
    fn is_out(&self) -> bool {
        self.standing == Standing::Quarantined || self.trial().is_set_aside()
    }

    pub(super) fn worth(&self) -> Worth {
        let standing = match self.standing {
            Standing::Candidate => probation::Standing::Candidate(self.trial()),
            Standing::Good => probation::Standing::Good,
            Standing::Quarantined => probation::Standing::Quarantined,
        };
        Worth::of(standing, self.lived, self.order, self.proof)
    }

    /// The first word that it says of itself, if it was asked.
    pub(super) fn name(&self) -> Option<&str> {
        name_in(&self.version)
    }

    /// For people.
    pub fn short(&self) -> &str {
        short(&self.sha256)
    }
}

/// The first word of an answer to `--version`.
pub(super) fn name_in(version: &str) -> Option<&str> {
    version.split_whitespace().next().filter(|_| smoke::is_answer(version))
}

/// So many digits of a hash are shown.
pub(super) fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

/// The file that a home's worker is taken from, as it was when it was last looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Followed {
    pub(super) source: PathBuf,
    pub(super) stamp: Stamp,
    /// Its content, or what the operator wants in place of it.
    pub(super) sha256: String,
}

/// A file that was looked into and may not run, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unused {
    pub(super) source: PathBuf,
    pub(super) stamp: Stamp,
    pub(super) unfit: Unfit,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    version: u32,
    /// What the next start runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<String>,
    /// The operator wants this one, whatever is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pinned: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) followed: Option<Followed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unused: Option<Unused>,
    /// Newest first.
    pub(super) binaries: Vec<Binary>,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, current: None, pinned: None, followed: None, unused: None, binaries: Vec::new() }
    }
}

impl Index {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let json = seal::open(bytes).ok_or_else(|| "it is damaged".to_owned())?;
        let index: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        // The next version, too: an upgrade of the daemon must have a way back.
        if (VERSION..=VERSION + 1).contains(&index.version) {
            Ok(index)
        } else {
            Err(format!("its version is {}, not {VERSION}", index.version))
        }
    }

    /// What is on the disk; what is no index is set aside, and the one before holds.
    pub(super) fn load(folder: &Path) -> (Self, Option<Aside>) {
        let path = path(folder);
        match seal::read(&path).ok().map(|bytes| Self::parse(&bytes)) {
            Some(Ok(index)) => (index, None),
            Some(Err(why)) => (Self::previous(folder), Some(seal::set_aside(&path, why))),
            None => (Self::previous(folder), None),
        }
    }

    /// The same for who only looks: nothing is set aside.
    pub(super) fn peek(folder: &Path) -> Self {
        let index = seal::read(&path(folder)).ok().and_then(|bytes| Self::parse(&bytes).ok());
        index.unwrap_or_else(|| Self::previous(folder))
    }

    /// As good as none, if it is not there or damaged, too.
    fn previous(folder: &Path) -> Self {
        seal::read(&previous_path(folder)).ok().and_then(|bytes| Self::parse(&bytes).ok()).unwrap_or_default()
    }

    /// Whether something else is proven, given up or pinned than there.
    fn judges_as(&self, other: &Self) -> bool {
        let judged = |index: &Self| -> Vec<(String, Standing)> {
            index.binaries.iter().map(|binary| (binary.sha256.clone(), binary.standing)).collect()
        };
        self.pinned == other.pinned && judged(self) == judged(other)
    }

    pub(super) fn binary(&self, sha256: &str) -> Option<&Binary> {
        self.binaries.iter().find(|binary| binary.sha256 == sha256)
    }

    pub(super) fn binary_mut(&mut self, sha256: &str) -> Option<&mut Binary> {
        self.binaries.iter_mut().find(|binary| binary.sha256 == sha256)
    }

    /// Whether there is a copy that tells its version: then a new one has to.
    pub(super) fn must_answer(&self) -> bool {
        self.binaries.iter().any(|binary| !binary.is_out() && binary.name().is_some())
    }

    /// The one that is pinned, else the current one.
    pub(crate) fn next(&self) -> Option<&Binary> {
        self.binary(self.pinned.as_deref().or(self.current.as_deref())?)
    }

    /// What could take the place of this one, the best first.
    pub(super) fn others(&self, sha256: &str) -> Vec<&Binary> {
        let others = self.binaries.iter().filter(|binary| binary.sha256 != sha256 && binary.worth() != Worth::Nothing);
        let mut others: Vec<&Binary> = others.collect();
        others.sort_by_key(|binary| Reverse(binary.worth()));
        others
    }

    /// Where an operator goes back to from this one, the first choice first.
    pub(super) fn way_back(&self, sha256: &str) -> Vec<&Binary> {
        let from = self.binary(sha256).map_or(Worth::Nothing, Binary::worth);
        let key = |binary: &Binary| binary.worth().on_the_way_back(from);
        let others = self.binaries.iter().filter(|binary| binary.sha256 != sha256 && key(binary).is_some());
        let mut others: Vec<&Binary> = others.collect();
        others.sort_by_key(|binary| Reverse(key(binary)));
        others
    }

    /// What was only counted so far.
    pub(super) fn recall(&mut self, counted: &Counted) {
        for binary in &mut self.binaries {
            binary.lived |= counted.of(&binary.sha256).shown;
        }
    }

    /// The file at `source` is dealt with as it is now: this copy runs until it changes.
    pub(super) fn follow(&mut self, source: PathBuf, sha256: &str) {
        if let Some(stamp) = stamp_of(&source) {
            self.followed = Some(Followed { source, stamp, sha256: sha256.to_owned() });
        }
    }

    pub(super) fn next_order(&self) -> u64 {
        self.binaries.iter().map(|binary| binary.order).max().unwrap_or(0).saturating_add(1)
    }

    pub(super) fn insert(&mut self, binary: Binary) {
        self.binaries.retain(|old| old.sha256 != binary.sha256);
        self.binaries.push(binary);
        self.binaries.sort_by_key(|binary| Reverse(binary.order));
    }

    /// It has shown that it works.
    pub(super) fn prove(&mut self, sha256: &str) {
        let proof = self.binaries.iter().map(|binary| binary.proof).max().unwrap_or(0).saturating_add(1);
        if let Some(binary) = self.binary_mut(sha256) {
            binary.standing = Standing::Good;
            binary.proof = proof;
            (binary.reason, binary.trying) = (None, None);
            binary.set_trial(Trial::default());
        }
    }

    /// It is not to be run any more.
    pub(super) fn quarantine(&mut self, sha256: &str, reason: String) {
        if let Some(binary) = self.binary_mut(sha256) {
            binary.standing = Standing::Quarantined;
            (binary.reason, binary.trying) = (Some(reason), None);
            binary.set_trial(Trial::default());
        }
    }

    /// A newer binary that was given up, and why: until there is another one.
    pub(crate) fn given_up(&self) -> Option<&Binary> {
        let current = self.next()?;
        let newer = self.binaries.iter().filter(|binary| binary.order > current.order);
        newer.max_by_key(|binary| binary.order).filter(|binary| binary.is_out())
    }

    /// All but those that must stay, the newest `keep`, and the `keep` that were proven last. `in_use`: what runs.
    pub(super) fn surplus(&self, keep: usize, in_use: Option<&str>) -> Vec<String> {
        let best: Vec<&Binary> = self
            .others("")
            .into_iter()
            .enumerate()
            .filter(|(n, binary)| *n == 0 || (*n < keep && binary.standing == Standing::Good))
            .map(|(_, binary)| binary)
            .collect();
        let held = [self.current.as_deref(), self.pinned.as_deref(), in_use];
        let is_held = |binary: &&Binary| held.contains(&Some(binary.sha256.as_str())) || best.contains(binary);
        let others = self.binaries.iter().skip(keep).filter(|binary| !is_held(binary));
        others.map(|binary| binary.sha256.clone()).collect()
    }
}

impl std::fmt::Display for Binary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, copy {}", self.version, self.short())
    }
}

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("index.json")
}

/// What holds if that one is lost. Not always as new, but as of the last verdict.
fn previous_path(folder: &Path) -> PathBuf {
    folder.join("index.json.prev")
}

/// Change the index, under its lock, from what is on the disk. `patience_ms`: so long is waited for whoever holds the lock.
///
/// # Errors
/// As of the lock and the write; nothing was changed then.
pub(super) fn change<T>(
    folder: &Path,
    patience_ms: u64,
    changes: impl FnOnce(&mut Index) -> T,
) -> io::Result<(T, Index, Option<Aside>)> {
    fail::point("store.lock")?;
    files::create_private_folder(folder)?;
    let _lock = lock(folder, patience_ms)?;
    let (mut index, aside) = Index::load(folder);
    let before = index.clone();
    let done = changes(&mut index);
    if index != before || !path(folder).exists() {
        fail::point("store.remember")?;
        let json = serde_json::to_vec(&index).map_err(io::Error::other)?;
        let bytes = seal::seal(&json);
        files::write_atomic(&path(folder), &bytes, Durability::Power)?;
        if !index.judges_as(&before) || !previous_path(folder).exists() {
            // The index itself is whole: it is written with the next verdict.
            files::write_atomic(&previous_path(folder), &bytes, Durability::Process).ok();
        }
    }
    Ok((done, index, aside))
}

fn lock(folder: &Path, patience_ms: u64) -> io::Result<Lock> {
    let until_ms = os::clock::monotonic_ms().saturating_add(patience_ms);
    loop {
        if let Locked::Taken(lock) = Lock::try_take(&folder.join(".lock"))? {
            return Ok(lock);
        }
        if os::clock::monotonic_ms() >= until_ms {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "another process changes the store"));
        }
        Poller::new()?.wait(Some(LOOK_EVERY_MS), &mut Vec::new())?;
    }
}

/// Of the file as it is now.
pub(super) fn stamp_of(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
}

/// So many failed starts.
pub(super) const MOST_ATTEMPTS: u32 = probation::MOST_ATTEMPTS;
