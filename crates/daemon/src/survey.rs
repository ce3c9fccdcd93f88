//! A look through the worker's tree: how big it is, and which of its processes may be ended.

use os::process::Identity;
use policy::supervisor::{Candidate, Survey};

/// What was found, with the identities that a later signal needs.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) survey: Survey,
    pub(crate) identities: Vec<Identity>,
}

/// Look below `shim`; the worker itself is never a candidate.
pub(crate) fn look(shim: u32, worker: Option<u32>, names: &[String]) -> Found {
    let root = os::proc::root();
    let Ok(tree) = os::proc::descendants(root, shim) else { return Found::default() };
    let sizes: Vec<u64> =
        tree.iter().map(|(identity, _)| os::proc::pss_bytes(root, identity.pid).unwrap_or(0)).collect();
    let mut found = Found::default();
    found.survey.tree_bytes = sizes.iter().sum();
    for (identity, stat) in &tree {
        if Some(identity.pid) == worker || !names.contains(&stat.name) {
            continue;
        }
        let bytes = tree
            .iter()
            .zip(&sizes)
            .filter(|((other, _), _)| other.pid == identity.pid || is_below(&tree, other.pid, identity.pid))
            .map(|(_, size)| size)
            .sum();
        found.survey.candidates.push(Candidate { pid: identity.pid, bytes });
        found.identities.push(*identity);
    }
    found
}

fn is_below(tree: &[(Identity, os::proc::Stat)], mut pid: u32, ancestor: u32) -> bool {
    // A bound, because the parents were read one after the other and need not fit together.
    for _ in 0..tree.len() {
        let Some((_, stat)) = tree.iter().find(|(identity, _)| identity.pid == pid) else { return false };
        if stat.parent == ancestor {
            return true;
        }
        pid = stat.parent;
    }
    false
}
