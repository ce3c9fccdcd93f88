//! What keeps a run's process tree together: the best that works here, found out by trying.

use std::io;

use os::cgroup::{Group, Version};
use os::fail;

use crate::config;
use crate::home::Home;

/// The ladder, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Containment {
    /// A control group for each run, below this one.
    Groups(Group),
    /// The shim adopts every orphan, and finds all of them below itself.
    Subreaper,
    /// The worker's process group, and by the run's name in their environment those who left it.
    ProcessGroup,
}

/// The rung that was asked for does not bear.
#[derive(Debug, thiserror::Error)]
#[error("containment = \"{wanted}\" does not work here: {error}")]
pub struct Unavailable {
    wanted: &'static str,
    error: io::Error,
}

impl Containment {
    pub(crate) fn choose(wanted: config::Containment, home: &Home) -> Result<Self, Unavailable> {
        let group = |version| fail::point("groups.probe").and_then(|()| Group::below_own(version, &group_name(home)));
        let forced = |wanted, version| match group(version) {
            Ok(group) => Ok(Self::Groups(group)),
            Err(error) => Err(Unavailable { wanted, error }),
        };
        match wanted {
            config::Containment::Auto => {
                let best = group(Version::Two).or_else(|_| group(Version::One));
                Ok(best.map_or(Self::Subreaper, Self::Groups))
            }
            config::Containment::Cgroup2 => forced("cgroup2", Version::Two),
            config::Containment::Cgroup1 => forced("cgroup1", Version::One),
            config::Containment::Subreaper => Ok(Self::Subreaper),
            config::Containment::Group => Ok(Self::ProcessGroup),
        }
    }

    /// As in the settings.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Groups(group) => match group.version() {
                Version::One => "cgroup1",
                Version::Two => "cgroup2",
            },
            Self::Subreaper => "subreaper",
            Self::ProcessGroup => "group",
        }
    }

    /// The group of one run.
    pub(crate) fn for_run(&self, run: u64) -> Option<Group> {
        match self {
            Self::Groups(base) => fail::point("groups.make").and_then(|()| base.child(&format!("run-{run}"))).ok(),
            Self::Subreaper | Self::ProcessGroup => None,
        }
    }

    /// Remove the groups in which nobody is.
    pub(crate) fn tidy(&self) {
        if let Self::Groups(base) = self
            && fail::point("leave.groups").is_ok()
        {
            base.remove_empty();
        }
    }
}

/// The control groups that daemons of this home, started from where this process is, have made and not removed: because
/// they live, or were killed.
#[must_use]
pub fn groups_of(home: &Home) -> Vec<Group> {
    let name = group_name(home);
    [Version::Two, Version::One].into_iter().filter_map(|version| Group::found_below_own(version, &name)).collect()
}

/// What an earlier process noted of a run's group.
pub(crate) fn noted(containment: &str, group: Option<&str>) -> Option<Group> {
    let version = match containment {
        "cgroup1" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    group.map(|path| Group::at(version, path.into()))
}

/// Its own for each home, so that two daemons don't share one; by FNV-1a, the same in every build of this program.
fn group_name(home: &Home) -> String {
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(home.root().as_os_str());
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("autopilot-{hash:016x}")
}
