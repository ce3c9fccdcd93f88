//! The control groups that a home's daemon makes, removed when the home goes: a daemon that was killed could not.
//!
//! A home's group is `autopilot-HASH`, below whatever group the daemon was in; the runs' groups are inside. Its name is
//! made here as the daemon makes it. Should the two differ one day, `cargo xtask test` finds what is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const HIERARCHIES: &str = "/sys/fs/cgroup";
/// Members that were killed are gone a little later.
const LONGEST: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Lets everything in the home's groups run: of what is frozen nothing dies, in version 1.
pub(super) fn thaw(home: &Path) {
    for group in of(home) {
        let state = group.join("freezer.state");
        // Version 2 has no such file, and needs none.
        if state.exists() {
            fs::write(state, "THAWED").ok();
        }
    }
}

/// Removes the home's groups, which nobody is in any more; returns those that stay.
pub(super) fn remove(home: &Path) -> Vec<PathBuf> {
    let started = Instant::now();
    loop {
        let groups = of(home);
        // The innermost first: a group with groups in it cannot be removed.
        for group in groups.iter().rev() {
            fs::remove_dir(group).ok();
        }
        if groups.iter().all(|group| !group.exists()) {
            return Vec::new();
        }
        if started.elapsed() > LONGEST {
            return groups;
        }
        std::thread::park_timeout(POLL_INTERVAL);
    }
}

/// The home's groups in each hierarchy, and those below them, the outer before the inner.
pub fn of(home: &Path) -> Vec<PathBuf> {
    // FNV-1a, as the daemon names them.
    let bytes = home.as_os_str().as_encoded_bytes();
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let name = format!("autopilot-{hash:016x}");
    let mut all = with_groups_below(Path::new(HIERARCHIES));
    all.retain(|group| group.components().any(|part| part.as_os_str() == name.as_str()));
    all
}

/// The group itself, then those below it, the outer before the inner.
fn with_groups_below(group: &Path) -> Vec<PathBuf> {
    let mut found = vec![group.to_owned()];
    let mut visited = 0;
    while let Some(group) = found.get(visited) {
        let entries = fs::read_dir(group).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let below: Vec<PathBuf> = below.map(|entry| entry.path()).collect();
        found.extend(below);
        visited += 1;
    }
    found
}
