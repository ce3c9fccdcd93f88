//! A file becomes a candidate: copied, read back, asked for its `--version`, and only then named in the index.
//!
//! Runs where it may take its time: in a child of the daemon, or in `autopilotd install`.

use std::io;
use std::path::PathBuf;

use os::fail;
use serde::{Deserialize, Serialize};

use super::index::{self, Binary, Followed, Standing};
use super::program::Unfit;
use super::smoke::{self, Smoke};
use super::store::{Copied, Failure, Store};

/// A copy that nothing names for so long was forgotten.
const STRANGER_MS: u128 = 86_400_000;
/// So long is waited for whoever changes the index.
const PATIENCE_MS: u64 = 5_000;

/// Who chose the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// The settings: the worker is taken from it until it changes.
    Followed,
    /// An operator's command, which is newer than whatever lies at `over`, where the worker is taken from.
    Chosen { over: Option<PathBuf> },
}

/// Who wants a file admitted, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) source: PathBuf,
    pub(super) role: Role,
    /// What it must call itself.
    pub(super) name: Option<String>,
    /// A copy that runs now.
    pub(super) in_use: Option<String>,
}

/// What became of it. The child of the daemon reports it as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// It is in the store, and what the next start runs; unless something is pinned.
    Admitted { sha256: String, version: String, standing: Standing, is_new: bool },
    /// It is known, and known to be bad.
    Quarantined { sha256: String, version: String, reason: String },
    /// It is no program that could run here.
    Unfit(Unfit),
    /// The store can't be written.
    NotStored { reason: String },
}

/// Admit a file. The index is changed last, in one step.
pub(super) fn admit(store: &Store, wish: &Wish) -> Admission {
    match store.copy(&wish.source) {
        Ok(copied) => {
            let sha256 = copied.sha256.clone();
            let done = try_copied(store, wish, copied);
            if !matches!(done, Ok(Admission::Admitted { .. } | Admission::Quarantined { .. })) {
                remove_unnamed(store, &[sha256]);
            }
            done.unwrap_or_else(|error| Admission::NotStored { reason: error.to_string() })
        }
        Err(Failure::Source(unfit)) => Admission::Unfit(unfit),
        Err(Failure::Changed) => Admission::Unfit(Unfit::Unsettled { tries: 1 }),
        Err(Failure::Store(error)) => Admission::NotStored { reason: error.to_string() },
    }
}

/// Remove copies that nothing names. Under the index's lock, and only what it does not name by now: somebody may have
/// installed the same again.
fn remove_unnamed(store: &Store, hashes: &[String]) {
    let removed = index::change(store.folder(), PATIENCE_MS, |index| {
        for sha256 in hashes.iter().filter(|sha256| index.binary(sha256).is_none()) {
            // It costs room until the next time.
            store.remove(sha256).ok();
        }
    });
    removed.ok();
}

fn try_copied(store: &Store, wish: &Wish, copied: Copied) -> io::Result<Admission> {
    let (before, _) = index::Index::load(store.folder());
    let must_answer = before.must_answer();
    let version = match before.binary(&copied.sha256) {
        Some(known) => known.version.clone(),
        None => match smoke::test(&copied.path, must_answer)? {
            Smoke::Version(version) => version,
            // Better that than no worker.
            Smoke::Silent(_) if !must_answer => smoke::NAMELESS.to_owned(),
            Smoke::Silent(why) | Smoke::Failed(why) => return Ok(Admission::Unfit(Unfit::Untried { why })),
        },
    };
    let name = index::name_in(&version);
    if let Some(wanted) = wish.name.as_deref().filter(|wanted| name.is_some_and(|name| name != *wanted)) {
        let why = format!("it is another program: to --version it answers {version:?}, not \"{wanted} …\"");
        return Ok(Admission::Unfit(Unfit::Untried { why }));
    }
    let (admission, index, _) =
        index::change(store.folder(), PATIENCE_MS, |index| enter(store, index, wish, copied, version))?;
    prune(store, &index, wish.in_use.as_deref());
    fail::point("store.admitted").ok();
    Ok(admission)
}

fn enter(store: &Store, index: &mut index::Index, wish: &Wish, copied: Copied, version: String) -> Admission {
    let Copied { sha256, path, stamp, source } = copied;
    if !store.is_unchanged(&sha256, stamp) {
        return Admission::NotStored { reason: format!("the copy {} is gone again", path.display()) };
    }
    let order = index.next_order();
    let is_new = index.binary(&sha256).is_none();
    if is_new {
        index.insert(Binary::new(sha256.clone(), version.clone(), stamp, order));
    }
    index.unused = None;
    match &wish.role {
        Role::Followed => {
            index.followed = Some(Followed { source: wish.source.clone(), stamp: source, sha256: sha256.clone() });
        }
        Role::Chosen { over: Some(over) } => index.follow(over.clone(), &sha256),
        Role::Chosen { over: None } => {}
    }
    let Some(binary) = index.binary_mut(&sha256) else { return Admission::NotStored { reason: String::new() } };
    binary.copy = stamp;
    if binary.standing == Standing::Quarantined {
        let reason = binary.reason.clone().unwrap_or_default();
        return Admission::Quarantined { sha256, version, reason };
    }
    // Installed again: newer than what was installed in between.
    (binary.order, binary.excuses) = (order, 0);
    let standing = binary.standing;
    index.binaries.sort_by_key(|binary| std::cmp::Reverse(binary.order));
    index.current = Some(sha256.clone());
    Admission::Admitted { sha256, version, standing, is_new }
}

/// Removes the oldest copies but those that must stay: first from the index, so that it never names what is not there.
fn prune(store: &Store, index: &index::Index, in_use: Option<&str>) {
    let mut gone = Vec::new();
    if !index.surplus(store.keep(), in_use).is_empty() {
        let forgotten = index::change(store.folder(), PATIENCE_MS, |index| {
            let surplus = index.surplus(store.keep(), in_use);
            index.binaries.retain(|binary| !surplus.contains(&binary.sha256));
            surplus
        });
        // It is tried again with the next admission.
        gone = forgotten.map(|(surplus, _, _)| surplus).unwrap_or_default();
    }
    // What nothing names, because an index was lost or somebody was killed; not what is just being admitted.
    let is_old = |sha256: &String| {
        let modified = std::fs::metadata(store.copy_path(sha256)).and_then(|metadata| metadata.modified());
        modified.ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age.as_millis() > STRANGER_MS)
    };
    gone.extend(store.hashes().into_iter().filter(|sha256| index.binary(sha256).is_none() && is_old(sha256)));
    if !gone.is_empty() {
        remove_unnamed(store, &gone);
    }
}
