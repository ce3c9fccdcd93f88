//! `bin/store/<sha256>/autopilot`: immutable copies, each under the hash of its content.
//!
//! A copy appears by rename, after its bytes were synced and read back; what has a name is whole. The store belongs to
//! the daemon that holds the home's lock, so nobody else writes here.

use super::index::{Entry, Index, Stamp};
use super::program::{self, Program, Unfit};
use super::{Launch, Note};
use os::files;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How many copies are kept, besides those in use.
const KEEP: usize = 5;
/// How often a file that changes under the reader is read again at once. Who is slower than that meets the next start.
const MAX_TRIES: u32 = 3;
const CHUNK_BYTES: usize = 128 << 10;
const HASH_DIGITS: usize = 64;
const INCOMING: &str = ".incoming";
const CLOCK: &str = ".clock";
/// The kernel stamps files with a clock that ticks every 1 to 10 ms, so a file that was written within this time of being
/// read may have been written again without a new stamp. (The "racy git" problem, with a margin; since Linux 6.13 the
/// common file systems stamp finely enough.)
const SETTLE_NS: u64 = 20_000_000;
/// Looks at the clock while waiting for that; a bound in case it stands still. About 0.1 s.
const MAX_LOOKS: u32 = 20_000;

/// The store of one home.
#[derive(Debug)]
pub struct Store {
    home: PathBuf,
    folder: PathBuf,
    /// Read when it is first needed.
    index: Option<Index>,
    /// The last choice: one comparison instead of a look into the index, or into the file.
    recent: Option<Recent>,
}

#[derive(Debug)]
struct Recent {
    source: PathBuf,
    stamp: Stamp,
    /// None for a script.
    copy: Option<(PathBuf, Stamp)>,
    launch: Launch,
}

/// What went wrong while copying: the source's fault, or the store's.
#[derive(Debug)]
enum Failure {
    Source(Unfit),
    /// Worth another try.
    Changed,
    Store(io::Error),
}

impl Failure {
    fn source(error: io::Error) -> Self {
        Self::Source(program::from_io(&error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Store(error)
    }
}

impl Store {
    /// Touches nothing yet.
    pub fn new(home: &Path) -> Self {
        Self { home: home.to_owned(), folder: home.join("bin").join("store"), index: None, recent: None }
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// The way to start `source`: its copy, or itself if it is a script.
    pub(super) fn admit(&mut self, source: &Path, in_use: &[&Path]) -> Result<Launch, Unfit> {
        let mut tries = 0;
        loop {
            let metadata = fs::metadata(source).map_err(|error| program::from_io(&error))?;
            let stamp = Stamp::of(&metadata);
            if let Some(launch) = self.known(source, stamp) {
                return Ok(launch);
            }
            program::check_metadata(&metadata)?;
            tries += 1;
            match self.copy(source, stamp, in_use) {
                Ok(launch) => return Ok(launch),
                Err(Failure::Source(unfit)) => return Err(unfit),
                Err(Failure::Changed) if tries < MAX_TRIES => {}
                Err(Failure::Changed) => return Err(Unfit::Unsettled { tries }),
                Err(Failure::Store(error)) => return Ok(in_place(source, Some(error.to_string()))),
            }
        }
    }

    /// The unchanged file of last time, or of the last daemon's time.
    fn known(&mut self, source: &Path, stamp: Stamp) -> Option<Launch> {
        let is_recent = |recent: &&Recent| recent.source == source && recent.stamp == stamp;
        if let Some(recent) = self.recent.as_ref().filter(is_recent)
            && recent.copy.as_ref().is_none_or(|(path, stamp)| is_unchanged(path, *stamp))
        {
            return Some(recent.launch.clone());
        }
        let entry = self.index().find(source, stamp)?.clone();
        let path = self.copy_path(&entry.sha256);
        if !is_unchanged(&path, entry.copy) {
            return None;
        }
        let launch = stored(source, &path, entry.sha256);
        self.recent =
            Some(Recent { source: source.to_owned(), stamp, copy: Some((path, entry.copy)), launch: launch.clone() });
        Some(launch)
    }

    fn copy(&mut self, source: &Path, stamp: Stamp, in_use: &[&Path]) -> Result<Launch, Failure> {
        let file = File::open(source).map_err(Failure::source)?;
        if program::examine(&file, stamp.size_bytes).map_err(Failure::Source)? == Program::Script {
            let launch = in_place(source, None);
            self.recent = Some(Recent { source: source.to_owned(), stamp, copy: None, launch: launch.clone() });
            return Ok(launch);
        }
        files::create_private_folder(&self.folder)?;
        let incoming = self.folder.join(INCOMING);
        let sha256 = match self.receive(source, file, stamp, &incoming) {
            Ok(sha256) => sha256,
            Err(failure) => {
                // It may not exist; the failure is what matters. A part of it must not fill up the disk.
                fs::remove_file(&incoming).ok();
                return Err(failure);
            }
        };
        let path = self.place(&incoming, &sha256)?;
        let copy = Stamp::of(&fs::metadata(&path)?);
        let mut launch = stored(source, &path, sha256.clone());

        let remembered = self.remember(source, stamp, &sha256, copy, in_use);
        launch.note = remembered.err().map(|error| Note::StoreUntidy { reason: error.to_string() });
        self.recent =
            Some(Recent { source: source.to_owned(), stamp, copy: Some((path, copy)), launch: launch.clone() });
        Ok(launch)
    }

    /// Makes `incoming` the whole and only content that `source` has under this stamp.
    fn receive(&self, source: &Path, mut file: File, stamp: Stamp, incoming: &Path) -> Result<String, Failure> {
        let mut copy = create(incoming)?;
        let mut is_settled = self.is_settled(stamp)?;
        let sha256 = transfer(&mut file, &mut copy)?;
        if !is_settled {
            for _ in 0..MAX_LOOKS {
                is_settled = self.is_settled(stamp)?;
                if is_settled {
                    break;
                }
                std::thread::yield_now();
            }
            // What was read may be a mixture. A second look, begun after the tick, is not.
            if hash_of(source).map_err(Failure::source)? != sha256 {
                return Err(Failure::Changed);
            }
        }
        // The same file still, and nobody wrote to it meanwhile?
        let now = fs::metadata(source).map_err(Failure::source)?;
        if Stamp::of(&now) != stamp || Stamp::of(&file.metadata().map_err(Failure::source)?) != stamp {
            return Err(Failure::Changed);
        }
        copy.set_permissions(Permissions::from_mode(0o555))?;
        copy.sync_all()?;
        // A file that is open for writing anywhere cannot be executed.
        drop(copy);
        if hash_of(incoming)? != sha256 {
            return Err(Failure::Store(io::Error::other("the copy reads back differently from what was written")));
        }
        Ok(sha256)
    }

    /// Whether a write from now on would show in the stamp. Asks the file system's clock, not the machine's: the home may
    /// be on another host. Far apart in either direction will do, since a clock that was set back ticks elsewhere.
    fn is_settled(&self, stamp: Stamp) -> io::Result<bool> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.folder.join(CLOCK))?;
        file.write_all(b".")?;
        Ok(Stamp::of(&file.metadata()?).ctime_ns.abs_diff(stamp.ctime_ns) > SETTLE_NS)
    }

    /// Brings index and folder up to date. A failure costs time or space later, not this start.
    fn remember(&mut self, source: &Path, stamp: Stamp, sha256: &str, copy: Stamp, in_use: &[&Path]) -> io::Result<()> {
        let order = self.index().next_order();
        // A source whose name is not UTF-8 is read anew by each daemon.
        if let Some(name) = source.to_str() {
            let (source, sha256) = (name.to_owned(), sha256.to_owned());
            self.index_mut().insert(Entry { source, stamp, sha256, copy, order });
        }
        self.prune(sha256, in_use)?;
        let bytes = self.index().to_bytes();
        files::write_atomic(&self.index_path(), &bytes, files::Durability::Process)
    }

    /// Gives the incoming file its name, unless a sound one has it already: that one may be running.
    fn place(&self, incoming: &Path, sha256: &str) -> io::Result<PathBuf> {
        let path = self.copy_path(sha256);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.permissions().mode() & 0o777 == 0o555)
            && hash_of(&path).is_ok_and(|found| found == sha256)
        {
            fs::remove_file(incoming)?;
            return Ok(path);
        }
        files::create_private_folder(&self.folder.join(sha256))?;
        fs::rename(incoming, &path)?;
        files::sync_folder_of(&path)?;
        files::sync_folder_of(&self.folder.join(sha256))?;
        Ok(path)
    }

    /// Removes the oldest copies but those that run.
    fn prune(&mut self, newest: &str, in_use: &[&Path]) -> io::Result<()> {
        let mut hashes = Vec::new();
        for item in fs::read_dir(&self.folder)? {
            let name = item?.file_name().to_string_lossy().into_owned();
            if is_hash(&name) {
                hashes.push(name);
            }
        }
        hashes.sort_by_key(|hash| std::cmp::Reverse((hash == newest, self.index().order_of(hash))));
        for hash in hashes.iter().skip(KEEP) {
            if in_use.contains(&self.copy_path(hash).as_path()) {
                continue;
            }
            fs::remove_dir_all(self.folder.join(hash))?;
            self.index_mut().forget(hash);
        }
        Ok(())
    }

    /// The newest copy of `source` that still is what it was.
    pub(super) fn last_good(&mut self, source: &Path) -> Option<Launch> {
        let index = self.index().clone();
        index.of_source(source).into_iter().find_map(|entry| {
            let path = self.copy_path(&entry.sha256);
            is_unchanged(&path, entry.copy).then(|| stored(source, &path, entry.sha256.clone()))
        })
    }

    /// Whether a binary was ever admitted; the copies tell it too if the index is lost.
    pub(super) fn has_history(&mut self) -> bool {
        let has_copies = || {
            let mut items = fs::read_dir(&self.folder).into_iter().flatten().flatten();
            items.any(|item| is_hash(&item.file_name().to_string_lossy()))
        };
        has_copies() || !self.index().is_empty()
    }

    fn index(&mut self) -> &Index {
        self.index_mut()
    }

    fn index_mut(&mut self) -> &mut Index {
        let path = self.folder.join("index.json");
        // Not to be read is as good as absent: see the index's first line.
        self.index.get_or_insert_with(|| fs::read(path).map_or_else(|_| Index::default(), |bytes| Index::parse(&bytes)))
    }

    fn index_path(&self) -> PathBuf {
        self.folder.join("index.json")
    }

    fn copy_path(&self, sha256: &str) -> PathBuf {
        self.folder.join(sha256).join("autopilot")
    }
}

fn stored(source: &Path, copy: &Path, sha256: String) -> Launch {
    Launch { argv: vec![copy.into()], source: Some(source.to_owned()), sha256: Some(sha256), note: None }
}

fn in_place(source: &Path, not_stored: Option<String>) -> Launch {
    let note = not_stored.map(|reason| Note::NotStored { source: source.to_owned(), reason });
    Launch { argv: vec![source.into()], source: Some(source.to_owned()), sha256: None, note }
}

fn is_unchanged(path: &Path, stamp: Stamp) -> bool {
    fs::metadata(path).is_ok_and(|metadata| Stamp::of(&metadata) == stamp)
}

fn is_hash(name: &str) -> bool {
    name.len() == HASH_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An empty file of that name; what a crash has left there goes.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Copies and hashes in one pass.
fn transfer(from: &mut File, to: &mut File) -> Result<String, Failure> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(hex(hasher)),
            Ok(length) => {
                hasher.update(&chunk[..length]);
                to.write_all(&chunk[..length])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Source(program::from_io(&error))),
        }
    }
}

fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hex(hasher)),
            Ok(length) => hasher.update(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
