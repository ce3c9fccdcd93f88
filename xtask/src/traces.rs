//! What tests could leave behind on a machine: processes, files, mounts, cgroups. Looked at before and after them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::processes;

use crate::step::Failure;

/// The state before the tests, and the folder and the id that they get.
#[derive(Debug)]
pub(crate) struct Traces {
    pub(crate) scope: String,
    pub(crate) temporary: PathBuf,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
}

impl Traces {
    pub(crate) fn before() -> Result<Self, Failure> {
        let temporary = std::env::temp_dir().join(format!("xt-{}", std::process::id()));
        fs::create_dir(&temporary)
            .map_err(|error| Failure::new(format!("cannot make {}: {error}", temporary.display())))?;
        Ok(Self { scope: processes::new_id(), temporary, mounts: mounts(), cgroups: our_cgroups() })
    }

    /// Ends what is left and says what it was; nothing, when all is well.
    pub(crate) fn after(self) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        left.extend(processes::of(&self.scope).into_iter().map(|process| format!("process {process:?}")));
        processes::end_all(&self.scope, Duration::from_secs(10));
        let files = fs::read_dir(&self.temporary).into_iter().flatten().flatten();
        left.extend(files.map(|file| format!("file {}", file.path().display())));
        if let Err(error) = fs::remove_dir_all(&self.temporary) {
            left.push(format!("folder {}: {error}", self.temporary.display()));
        }
        left.extend(mounts().difference(&self.mounts).map(|mount| format!("mount {mount}")));
        left.extend(self.abandoned_cgroups().iter().map(|cgroup| format!("cgroup {}", cgroup.display())));
        left
    }

    /// Cgroups that have come since, with nobody in them, and stay. Somebody else's daemon on this machine has its
    /// worker in its own.
    fn abandoned_cgroups(&self) -> Vec<PathBuf> {
        let new_and_empty =
            || our_cgroups().into_iter().filter(|cgroup| !self.cgroups.contains(cgroup) && is_empty(cgroup));
        let first: Vec<PathBuf> = new_and_empty().collect();
        if !first.is_empty() {
            std::thread::park_timeout(GRACE);
        }
        new_and_empty().filter(|cgroup| first.contains(cgroup)).collect()
    }
}

/// Between two looks at what seems to be abandoned.
const GRACE: Duration = Duration::from_secs(3);

/// Nobody is in it or below it.
fn is_empty(cgroup: &Path) -> bool {
    let nobody = fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|members| members.is_empty());
    let below = fs::read_dir(cgroup).into_iter().flatten().flatten();
    let mut below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    nobody && below.all(|entry| is_empty(&entry.path()))
}

/// Mount points of this namespace.
fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

/// Cgroups made by the daemon. Others come and go on a living machine.
fn our_cgroups() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut to_visit = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = to_visit.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                to_visit.push(entry.path());
            }
        }
        if is_ours(&folder) {
            found.insert(folder);
        }
    }
    found
}

fn is_ours(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.to_string_lossy().contains("autopilot"))
}
