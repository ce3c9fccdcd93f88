//! A daemon's life as a sequence of what was in its home, and what a loss of power may leave of it at any moment.
//!
//! The model is a pessimist: what was written to a file and not synced may be there, or be cut, or be missing; a folder may
//! have any of the contents that it had since it was synced, each folder for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What the daemon noted of itself.
#[derive(Debug)]
pub(crate) struct Recorded {
    moments: Vec<Moment>,
    /// Of each inode the moments after which it was synced.
    synced: BTreeMap<u64, Vec<usize>>,
}

#[derive(Debug)]
struct Moment {
    tree: PathBuf,
    inodes: BTreeMap<PathBuf, u64>,
}

/// How the unlucky things go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Luck {
    /// All is on the disk.
    Good,
    /// The folders are, the contents of the files are not.
    Empty,
    /// Half of each content is.
    Half,
    /// Nothing is but what was synced.
    Bad,
    /// Any of these for each file and each folder.
    Mixed(u64),
}

/// A home after a loss of power.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Left {
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Content>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Bytes(Vec<u8>),
    /// Large, and the same as there.
    As(PathBuf),
}

const LARGE_BYTES: u64 = 1 << 20;

impl Recorded {
    /// What a daemon wrote to the folder that `AUTOPILOT_FS_TRACE` named.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        let mut recorded = Self { moments: Vec::new(), synced: BTreeMap::new() };
        for name in names {
            let path = folder.join(&name);
            if name.ends_with("-synced") {
                let inode = fs::read_to_string(path).unwrap().parse().unwrap();
                recorded.synced.entry(inode).or_default().push(recorded.moments.len());
                continue;
            }
            let list = fs::read_to_string(path.join("inodes")).unwrap_or_default();
            let entry = |line: &str| {
                let (inode, path) = line.split_once(' ')?;
                Some((path.into(), inode.parse().ok()?))
            };
            recorded.moments.push(Moment { tree: path.join("tree"), inodes: list.lines().filter_map(entry).collect() });
        }
        recorded
    }

    pub(crate) fn len(&self) -> usize {
        self.moments.len()
    }

    pub(crate) fn syncs(&self) -> usize {
        self.synced.values().map(Vec::len).sum()
    }

    /// All that this file ever was.
    pub(crate) fn contents_of(&self, path: &Path) -> BTreeSet<Vec<u8>> {
        self.moments.iter().filter_map(|moment| fs::read(moment.tree.join(path)).ok()).collect()
    }

    /// What a loss of power at this moment leaves.
    pub(crate) fn left_at(&self, moment: usize, luck: Luck) -> Left {
        let mut left = Left { folders: BTreeSet::new(), files: BTreeMap::new() };
        self.add(Path::new(""), moment, luck, &mut left);
        left
    }

    fn add(&self, folder: &Path, moment: usize, luck: Luck, left: &mut Left) {
        let seen = self.moments[moment].inodes.get(folder);
        let synced = seen.and_then(|inode| self.last_sync(*inode, moment)).unwrap_or(0);
        let then = match luck {
            Luck::Bad => synced,
            Luck::Mixed(seed) => synced + usize::try_from(dice(seed, folder)).unwrap_or(0) % (moment + 1 - synced),
            Luck::Good | Luck::Empty | Luck::Half => moment,
        };
        let then = &self.moments[then];
        for (path, &inode) in then.inodes.iter().filter(|(path, _)| path.parent() == Some(folder)) {
            let source = then.tree.join(path);
            if source.is_dir() {
                left.folders.insert(path.clone());
                self.add(path, moment, luck, left);
            } else if source.is_file() {
                left.files.insert(path.clone(), self.content(&source, inode, path, moment, luck));
            }
        }
    }

    /// The last moment up to this one at which it was on the disk as it then was.
    fn last_sync(&self, inode: u64, moment: usize) -> Option<usize> {
        self.synced.get(&inode)?.iter().copied().filter(|&at| at <= moment).max()
    }

    fn content(&self, source: &Path, inode: u64, path: &Path, moment: usize, luck: Luck) -> Content {
        let is_safe = self.last_sync(inode, moment).is_some();
        let size = fs::metadata(source).map_or(0, |meta| meta.len());
        let bytes = || fs::read(source).unwrap_or_default();
        let fate = match luck {
            _ if is_safe => 0,
            Luck::Good | Luck::Bad => 0,
            Luck::Empty => 1,
            Luck::Half => 2,
            Luck::Mixed(seed) => dice(seed, path) % 3,
        };
        match fate {
            0 if size > LARGE_BYTES => Content::As(source.to_owned()),
            0 => Content::Bytes(bytes()),
            1 => Content::Bytes(Vec::new()),
            _ => {
                let mut bytes = bytes();
                bytes.truncate(bytes.len() / 2);
                Content::Bytes(bytes)
            }
        }
    }
}

impl Left {
    /// Makes it.
    pub(crate) fn build(&self, home: &Path) {
        fs::create_dir(home).unwrap();
        for folder in &self.folders {
            fs::create_dir(home.join(folder)).unwrap();
        }
        for (path, content) in &self.files {
            match content {
                Content::Bytes(bytes) => fs::write(home.join(path), bytes).unwrap(),
                Content::As(source) => fs::hard_link(source, home.join(path)).unwrap(),
            }
        }
    }

    /// What this file is by now, if it is there.
    pub(crate) fn file(&self, path: &Path) -> Option<&[u8]> {
        match self.files.get(path)? {
            Content::Bytes(bytes) => Some(bytes),
            Content::As(_) => None,
        }
    }
}

/// The same for the same: so that a failure can be played again.
fn dice(seed: u64, path: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (seed, path).hash(&mut hasher);
    hasher.finish()
}
