//! A control group of its own for each run: the kernel then knows the whole tree, whoever forked, called setsid, or lost
//! its parent.
//!
//! Version 2 kills a group with one write (`cgroup.kill`, Linux 5.14); version 1 can make it stand still (freezer) while
//! its members are killed one by one. kernel: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/freezer-subsystem.rst

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::process::{Pidfd, Send};
use crate::{clock, proc};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The freezer hierarchy of version 1.
    One,
    /// The unified hierarchy.
    Two,
}

/// One group: a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    version: Version,
    path: PathBuf,
}

/// After this time at the latest the killed may go on and die, whoever else is there: the caller comes again.
const KILL_WITHIN_MS: u64 = 200;

impl Group {
    /// Make a group of this name below the one that this process is in, or find it.
    ///
    /// # Errors
    /// There is no such hierarchy, it can't be written, or the kernel is too old: this rung does not bear.
    pub fn below_own(version: Version, name: &str) -> io::Result<Self> {
        let own = own_folder(version, proc::root())?;
        let group = Self { version, path: own.join(name) };
        group.make()?;
        if !group.path.join(group.switch()).exists() {
            group.remove().ok();
            return Err(io::Error::new(io::ErrorKind::Unsupported, format!("no {} in its groups", group.switch())));
        }
        // Whether a process may be moved there is what counts; its own folder says so as well as any.
        rustix::fs::access(group.procs_file(), rustix::fs::Access::WRITE_OK)?;
        rustix::fs::access(own.join("cgroup.procs"), rustix::fs::Access::WRITE_OK)?;
        Ok(group)
    }

    /// The group of this name below the one that this process is in, if somebody has made it.
    #[must_use]
    pub fn found_below_own(version: Version, name: &str) -> Option<Self> {
        let path = own_folder(version, proc::root()).ok()?.join(name);
        path.is_dir().then_some(Self { version, path })
    }

    /// A group that an earlier process noted.
    #[must_use]
    pub fn at(version: Version, path: PathBuf) -> Self {
        Self { version, path }
    }

    /// Make a group below this one, and this one too if it went away.
    ///
    /// # Errors
    /// As of mkdir.
    pub fn child(&self, name: &str) -> io::Result<Self> {
        let group = Self { version: self.version, path: self.path.join(name) };
        match group.make() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make()?;
                group.make()?;
            }
            made => made?,
        }
        Ok(group)
    }

    fn make(&self) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// The file whose presence decides whether the rung bears.
    fn switch(&self) -> &'static str {
        match self.version {
            Version::One => "freezer.state",
            Version::Two => "cgroup.kill",
        }
    }

    /// Which of the two.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writing a pid there, or 0 for the writer, moves that process into the group.
    #[must_use]
    pub fn procs_file(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// A descriptor of the folder, for `CLONE_INTO_CGROUP`.
    ///
    /// # Errors
    /// As of open.
    pub fn open(&self) -> io::Result<OwnedFd> {
        Ok(fs::File::open(&self.path)?.into())
    }

    /// Kill everything in it and below it. What is killed is gone a little later.
    ///
    /// # Errors
    /// As of read and write.
    pub fn kill(&self) -> io::Result<()> {
        match self.version {
            Version::Two => fs::write(self.path.join("cgroup.kill"), "1"),
            Version::One => self.freeze_and_kill(),
        }
    }

    /// Nobody has to stand still first: who has SIGKILL pending can't fork any more, and dies when it may go on. Waiting
    /// for a fork bomb to freeze cost two turns of the processor for each of its processes instead of one.
    fn freeze_and_kill(&self) -> io::Result<()> {
        let state = self.path.join("freezer.state");
        fs::write(&state, "FROZEN")?;
        let until_ms = clock::monotonic_ms() + KILL_WITHIN_MS;
        let mut held = BTreeMap::new();
        let mut killed = BTreeSet::new();
        while clock::monotonic_ms() < until_ms {
            for pid in self.members()? {
                if let Entry::Vacant(place) = held.entry(pid)
                    && let Ok(Some(pidfd)) = Pidfd::open_child(pid)
                {
                    place.insert(pidfd);
                }
            }
            // Listed after its pidfd was opened: it is a member, whoever had the pid before.
            let listed = self.members()?;
            let mut news = false;
            for pid in &listed {
                match held.get(pid) {
                    Some(pidfd) if killed.insert(*pid) => {
                        pidfd.send(Send::Kill).ok();
                        news = true;
                    }
                    Some(_) => {}
                    // It came in between, and has its turn in the next round.
                    None => news = true,
                }
            }
            if !news {
                break;
            }
        }
        fs::write(&state, "THAWED")
    }

    /// The processes in it and below it.
    ///
    /// # Errors
    /// As of read.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        let mut members = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            let text = fs::read_to_string(folder.join("cgroup.procs"))?;
            members.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            folders.extend(subfolders(&folder));
        }
        Ok(members)
    }

    /// Whether nobody is left in it; a group that does not exist is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members().map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |members| members.is_empty())
    }

    /// Remove the groups below it in which nobody is, and it too, if none is left.
    pub fn remove_empty(&self) {
        for below in subfolders(&self.path) {
            remove(&below).ok();
        }
        fs::remove_dir(&self.path).ok();
    }

    /// Remove it and the groups below it, if they are empty.
    ///
    /// # Errors
    /// As of rmdir: EBUSY while somebody is in it.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    for below in subfolders(folder) {
        remove(&below)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// The folder of the group that this process is in.
fn own_folder(version: Version, proc_root: &Path) -> io::Result<PathBuf> {
    let groups = fs::read_to_string(proc_root.join("self/cgroup"))?;
    let mounts = fs::read_to_string(proc_root.join("self/mountinfo"))?;
    let missing = || io::Error::new(io::ErrorKind::Unsupported, "no such cgroup hierarchy is mounted");
    let own = own_path(version, &groups).ok_or_else(missing)?;
    let (root, mount) = mount_point(version, &mounts).ok_or_else(missing)?;
    let below = Path::new(&own).strip_prefix(&root).map_err(|_| missing())?;
    Ok(mount.join(below))
}

/// `hierarchy:controllers:path` lines, cgroups(7).
fn own_path(version: Version, groups: &str) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let found = match version {
            Version::Two => hierarchy == "0" && controllers.is_empty(),
            Version::One => controllers.split(',').any(|controller| controller == "freezer"),
        };
        // Outside of the namespace's root it begins with `/..` and leads nowhere.
        (found && !path.starts_with("/..")).then(|| path.to_owned())
    })
}

/// Root within the hierarchy, and mount point; proc_pid_mountinfo(5).
fn mount_point(version: Version, mounts: &str) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let found = match version {
            Version::Two => kind == "cgroup2",
            Version::One => kind == "cgroup" && options.split(',').any(|option| option == "freezer"),
        };
        found.then(|| (PathBuf::from(root), PathBuf::from(point)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
33 30 0:29 /docker/x /sys/fs/cgroup/freezer rw,nosuid - cgroup cgroup rw,freezer
";
    const GROUPS: &str = "6:freezer:/docker/x/y\n1:name=systemd:/\n0::/user.slice\n";

    #[test]
    fn the_own_group_is_found_in_a_hybrid_hierarchy() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("self")).unwrap();
        fs::write(folder.path().join("self/cgroup"), GROUPS).unwrap();
        fs::write(folder.path().join("self/mountinfo"), HYBRID).unwrap();
        let own = |version| own_folder(version, folder.path()).unwrap();
        assert_eq!(own(Version::Two), Path::new("/sys/fs/cgroup/unified/user.slice"));
        assert_eq!(own(Version::One), Path::new("/sys/fs/cgroup/freezer/y"));
        fs::write(folder.path().join("self/cgroup"), "0::/../outside\n").unwrap();
        assert!(own_folder(Version::Two, folder.path()).is_err());
        assert!(own_folder(Version::One, folder.path()).is_err());
    }
}
