//! Copies that are not what the index says, although they may be sound: touched by a backup with hard links or a `chmod`, moved
//! with the whole store, deleted while one is still open; or there is no index any more that names them.
//!
//! Reading them takes its time, so that is done in a child of the daemon, or in the operator's command.

use std::fs::File;
use std::io;

use super::index::{self, Binary, Index, Stamp};
use super::lives::Counted;
use super::smoke::{self, Smoke};
use super::store::Store;

/// So long is waited for whoever changes the index.
const PATIENCE_MS: u64 = 5_000;

/// Reads each of them once. Whoever is what its name says is stamped anew; the others stay as they are, and are not run.
/// `held`: a copy that is open, and may be gone from its folder.
///
/// # Errors
/// As of the index.
pub(super) fn mend(store: &Store, held: Option<(&str, &File)>) -> io::Result<()> {
    let known = Index::peek(store.folder());
    if let Some((sha256, file)) = held
        && index::stamp_of(&store.copy_path(sha256)).is_none()
    {
        store.put_back(sha256, file)?;
    }
    if known.binaries.is_empty() {
        return rebuild(store);
    }
    let doubtful = known.binaries.iter().filter(|binary| !store.is_unchanged(&binary.sha256, binary.copy));
    let found = doubtful.filter_map(|binary| Some((binary.sha256.clone(), store.stamp_if_sound(&binary.sha256)?)));
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        return Ok(());
    }
    let changed = index::change(store.folder(), PATIENCE_MS, |index| {
        for (sha256, stamp) in found {
            if let Some(binary) = index.binary_mut(&sha256) {
                binary.copy = stamp;
            }
        }
    });
    changed.map(|_| ())
}

/// An index of what is there. What each was known for is lost, so all are candidates; who lived longest is gone back to first.
fn rebuild(store: &Store) -> io::Result<()> {
    let counted = Counted::load(store.folder());
    let mut found: Vec<(u64, String, Stamp, String)> = Vec::new();
    for sha256 in store.hashes() {
        let Some(stamp) = store.stamp_if_sound(&sha256) else { continue };
        // Who had no answer was admitted without one.
        let version = match smoke::test(&store.copy_path(&sha256), false)? {
            Smoke::Version(version) => Some(version),
            Smoke::Silent(_) => Some(smoke::NAMELESS.to_owned()),
            Smoke::Failed(_) => None,
        };
        if let Some(version) = version {
            found.push((counted.of(&sha256).lived_ms, sha256, stamp, version));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    found.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    let changed = index::change(store.folder(), PATIENCE_MS, |index| {
        // Somebody may have been faster.
        for (lived_ms, sha256, stamp, version) in found {
            if index.binary(&sha256).is_none() {
                let lived = lived_ms > 0 || counted.is_empty();
                let order = index.next_order();
                index.insert(Binary { lived, ..Binary::new(sha256, version, stamp, order) });
            }
        }
    });
    changed.map(|_| ())
}
