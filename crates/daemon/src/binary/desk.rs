//! The store as the operator's commands see it: `install`, `binaries`, `rollback`, `pin`, `unquarantine`. They work with and
//! without a daemon, which notices by itself at the next start.

use std::io;
use std::path::{Path, PathBuf};

use super::admit::{Admission, Role, Wish, admit};
use super::index::{self, Binary, Index, Standing};
use super::install_path;
use super::lives::{Counted, Lives};
use super::mend::mend;
use super::shelf::OWN_NAME;
use super::store::Store;

/// So long is waited for another command.
const PATIENCE_MS: u64 = 5_000;
/// Fewer digits than this could be meant by accident.
const FEWEST_DIGITS: usize = 4;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("no binary with the hash {wanted} is in the store")]
    Unknown { wanted: String },
    #[error("{wanted} could be one of {count} binaries")]
    Ambiguous { wanted: String, count: usize },
    #[error("the binary {short} is in quarantine: {reason}")]
    Quarantined { short: String, reason: String },
    #[error("the binary {short} is not in quarantine")]
    NotQuarantined { short: String },
    #[error("the copy of the binary {short} is damaged or gone")]
    Damaged { short: String },
    #[error("there is no other proven binary to go back to")]
    NothingProven,
    #[error("the binary {short} runs already")]
    RunsAlready { short: String },
    #[error("cannot change the store: {0}")]
    Store(#[from] io::Error),
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { .. } | Self::RunsAlready { .. } => "autopilotd binaries".to_owned(),
            Self::Ambiguous { .. } => "give more digits; see autopilotd binaries".to_owned(),
            Self::Quarantined { short, .. } => format!("autopilotd unquarantine {short}"),
            Self::NotQuarantined { .. } => "autopilotd binaries shows what each is".to_owned(),
            Self::Damaged { .. } => "install it again: autopilotd install PATH".to_owned(),
            Self::NothingProven => "name one: autopilotd rollback HASH; see autopilotd binaries".to_owned(),
            Self::Store(_) => "is there space in the home, and is it yours?".to_owned(),
        }
    }
}

/// A copy, as `autopilotd binaries` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub binary: Binary,
    pub lives: Lives,
    pub is_current: bool,
    pub is_pinned: bool,
}

/// The store of a home.
#[derive(Debug)]
pub struct Desk {
    store: Store,
    /// Where the worker is taken from by the settings, as far as this command knows them.
    configured: Option<PathBuf>,
    /// And where without any; but the daemon may have been told of another place.
    usual: Option<PathBuf>,
    /// What the first one must call itself.
    name: Option<&'static str>,
    /// What comes after it must call itself as that does.
    is_named: bool,
}

impl Desk {
    /// Of the worker's binaries. Touches nothing yet. `configured`: where the settings take the worker from.
    #[must_use]
    pub fn new(home: &Path, configured: Option<PathBuf>) -> Self {
        let name = configured.is_none().then_some(OWN_NAME);
        let usual = Some(install_path(home));
        Self { store: Store::of_workers(home), configured, usual, name, is_named: true }
    }

    /// Of the agent's, which this command finds at `found`.
    #[must_use]
    pub fn of_agents(home: &Path, found: Option<PathBuf>) -> Self {
        // An agent says its number first.
        Self { store: Store::of_agents(home), configured: None, usual: found, name: None, is_named: false }
    }

    /// Admit this file; it is what the next start runs.
    #[must_use]
    pub fn install(&self, source: PathBuf) -> Admission {
        let in_use = Counted::load(self.store.folder()).running;
        let index = self.read();
        let known = index.next().map(|binary| binary.name().map(str::to_owned));
        let name = known.unwrap_or_else(|| self.name.map(str::to_owned)).filter(|_| self.is_named);
        let wish = Wish { source, role: Role::Chosen { over: self.source(&index) }, name, in_use };
        admit(&self.store, &wish)
    }

    /// Where the worker, or the agent, is taken from.
    fn source(&self, index: &Index) -> Option<PathBuf> {
        let followed = || index.followed.as_ref().map(|followed| followed.source.clone());
        self.configured.clone().or_else(followed).or_else(|| self.usual.clone())
    }

    /// All copies, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Shown> {
        let index = self.read();
        let counted = Counted::load(self.store.folder());
        let next = self.runs_next(&index).map(|binary| binary.sha256.clone());
        let shown = |binary: &Binary| Shown {
            lives: counted.of(&binary.sha256),
            is_current: next.as_deref() == Some(&binary.sha256),
            is_pinned: index.pinned.as_deref() == Some(&binary.sha256),
            binary: binary.clone(),
        };
        index.binaries.iter().map(shown).collect()
    }

    /// What the next start runs, if nothing new lies where the worker is taken from: not what is named, if that is gone.
    fn runs_next<'i>(&self, index: &'i Index) -> Option<&'i Binary> {
        let named = [index.pinned.as_deref(), index.current.as_deref()].into_iter().flatten();
        let named = named.filter_map(|sha256| index.binary(sha256));
        let mut all = named.chain(index.others("")).filter(|binary| binary.standing != Standing::Quarantined);
        all.find(|binary| {
            self.store.is_unchanged(&binary.sha256, binary.copy) || self.store.has_content(&binary.sha256)
        })
    }

    /// Only the daemon sets a damaged index aside: it tells of it.
    fn read(&self) -> Index {
        let mut index = Index::peek(self.store.folder());
        index.recall(&Counted::load(self.store.folder()));
        index
    }

    /// Go back to this one, or to the best one before. A candidate that it takes the place of is not run any more. Returns what
    /// runs next.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn roll_back(&self, wanted: Option<&str>) -> Result<Binary, Refusal> {
        self.change(|index, store| {
            let from = index.next().map(|binary| binary.sha256.clone()).unwrap_or_default();
            let to = match wanted {
                Some(wanted) => find(index, wanted)?.clone(),
                None => {
                    let mut back = index.way_back(&from).into_iter();
                    back.find(|binary| check(binary, store).is_ok()).ok_or(Refusal::NothingProven)?.clone()
                }
            };
            let short = to.short().to_owned();
            if to.sha256 == from {
                return Err(Refusal::RunsAlready { short });
            }
            check(&to, store)?;
            if index.binary(&from).is_some_and(|binary| binary.standing == Standing::Candidate) {
                index.quarantine(&from, "rolled back by the operator".to_owned());
            }
            index.pinned = None;
            self.overrule(index);
            index.current = Some(to.sha256.clone());
            if let Some(to) = index.binary_mut(&to.sha256) {
                to.excuses = 0;
            }
            Ok(to)
        })
    }

    /// Run this one, whatever is installed; none: follow what is installed again.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn pin(&self, wanted: Option<&str>) -> Result<Option<Binary>, Refusal> {
        self.change(|index, store| {
            let pinned = wanted.map(|wanted| find(index, wanted).cloned()).transpose()?;
            pinned.as_ref().map_or(Ok(()), |binary| check(binary, store))?;
            index.pinned = pinned.as_ref().map(|binary| binary.sha256.clone());
            Ok(pinned)
        })
    }

    /// Give it another chance: it is a candidate again, and what the next start runs.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn unquarantine(&self, wanted: &str) -> Result<Binary, Refusal> {
        self.change(|index, store| {
            let sha256 = find(index, wanted)?.sha256.clone();
            let Some(binary) = index.binary_mut(&sha256) else {
                return Err(Refusal::Unknown { wanted: wanted.to_owned() });
            };
            let short = binary.short().to_owned();
            if binary.standing != Standing::Quarantined {
                return Err(Refusal::NotQuarantined { short });
            }
            if !store.is_unchanged(&sha256, binary.copy) {
                return Err(Refusal::Damaged { short });
            }
            binary.standing = Standing::Candidate;
            binary.reason = None;
            let binary = binary.clone();
            index.current = Some(sha256);
            self.overrule(index);
            Ok(binary)
        })
    }

    /// What lies where the worker is taken from is older than the operator's word, whether it was looked into or not.
    fn overrule(&self, index: &mut Index) {
        if let (Some(source), Some(sha256)) = (self.source(index), index.current.clone()) {
            index.follow(source, &sha256);
        }
    }

    fn change<T>(&self, changes: impl FnOnce(&mut Index, &Store) -> Result<T, Refusal>) -> Result<T, Refusal> {
        // What was only touched is as good as before.
        mend(&self.store, None)?;
        let (done, _, _) = index::change(self.store.folder(), PATIENCE_MS, |index| {
            index.recall(&Counted::load(self.store.folder()));
            let before = index.clone();
            let done = changes(index, &self.store);
            if done.is_err() {
                *index = before;
            }
            done
        })?;
        done
    }
}

/// By its hash, or as many digits of it as make it clear.
fn find<'i>(index: &'i Index, wanted: &str) -> Result<&'i Binary, Refusal> {
    let wanted = wanted.to_ascii_lowercase();
    let digits = wanted.len() >= FEWEST_DIGITS;
    let found: Vec<&Binary> = index.binaries.iter().filter(|b| digits && b.sha256.starts_with(&wanted)).collect();
    match found.as_slice() {
        [binary] => Ok(binary),
        [] => Err(Refusal::Unknown { wanted }),
        several => Err(Refusal::Ambiguous { wanted, count: several.len() }),
    }
}

/// It could be run now.
fn check(binary: &Binary, store: &Store) -> Result<(), Refusal> {
    let short = binary.short().to_owned();
    if binary.standing == Standing::Quarantined {
        let reason = binary.reason.clone().unwrap_or_default();
        return Err(Refusal::Quarantined { short, reason });
    }
    if store.is_unchanged(&binary.sha256, binary.copy) { Ok(()) } else { Err(Refusal::Damaged { short }) }
}
