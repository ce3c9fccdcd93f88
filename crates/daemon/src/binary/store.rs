//! `bin/store/<sha256>/autopilot`: immutable copies, each under the hash of its content.
//!
//! A copy appears by rename, after its bytes were synced and read back; what has a name is whole. Several processes may
//! put copies here at once: each writes to a name of its own, and the same content ends up under the same name.

use super::index::Stamp;
use super::program::{self, Program, Unfit};
use os::fail;
use os::files;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How often a file that changes under the reader is read again at once. Who is slower than that meets the next start.
const MAX_TRIES: u32 = 3;
const CHUNK_BYTES: usize = 128 << 10;
const HASH_DIGITS: usize = 64;
const INCOMING: &str = ".incoming-";
const CLOCK: &str = ".clock";
/// The kernel stamps files with a clock that ticks every 1 to 10 ms, so a file that was written within this time of being
/// read may have been written again without a new stamp. (The "racy git" problem, with a margin; since Linux 6.13 the
/// common file systems stamp finely enough.)
const SETTLE_NS: u64 = 20_000_000;
/// Looks at the clock while waiting for that; a bound in case it stands still. About 0.1 s.
const MAX_LOOKS: u32 = 20_000;

/// A folder of copies, and what they are called in there.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
    name: &'static str,
    /// How many copies are kept, and how many proven ones, besides those that must stay.
    keep: usize,
    /// A copy may be another name of the same file: for what is too large to be kept twice.
    links: bool,
}

/// A copy that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) sha256: String,
    pub(super) path: PathBuf,
    /// Of the copy.
    pub(super) stamp: Stamp,
    /// Of the file that it is a copy of.
    pub(super) source: Stamp,
}

/// Why there is no copy: the source's fault, or the store's.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Source(Unfit),
    /// Worth another try.
    #[error("it changed while it was read")]
    Changed,
    #[error(transparent)]
    Store(#[from] io::Error),
}

impl Failure {
    fn source(error: io::Error) -> Self {
        Self::Source(program::from_io(&error))
    }
}

impl Store {
    /// Of the worker's binaries in this home. Touches nothing yet.
    pub(super) fn of_workers(home: &Path) -> Self {
        Self { folder: home.join("bin").join("store"), name: "autopilot", keep: 5, links: false }
    }

    /// Of the agent's: one file of 381 MB each.
    pub(super) fn of_agents(home: &Path) -> Self {
        Self { folder: home.join("bin").join("agents"), name: "claude", keep: 2, links: true }
    }

    pub(super) fn keep(&self) -> usize {
        self.keep
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn copy_path(&self, sha256: &str) -> PathBuf {
        self.folder.join(sha256).join(self.name)
    }

    /// A copy of `source` under the hash of its content.
    ///
    /// # Errors
    /// [`Failure`]; never [`Failure::Changed`].
    pub(super) fn copy(&self, source: &Path) -> Result<Copied, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_to_copy(source) {
                Err(Failure::Changed) if tries < MAX_TRIES => {}
                Err(Failure::Changed) => return Err(Failure::Source(Unfit::Unsettled { tries })),
                done => return done,
            }
        }
    }

    fn try_to_copy(&self, source: &Path) -> Result<Copied, Failure> {
        let metadata = fs::metadata(source).map_err(Failure::source)?;
        let stamp = Stamp::of(&metadata);
        program::check_metadata(&metadata).map_err(Failure::Source)?;
        fail::point("store.source").map_err(Failure::source)?;
        let file = File::open(source).map_err(Failure::source)?;
        let program = program::examine(&file, stamp.size_bytes).map_err(Failure::Source)?;
        if program == Program::InPlace {
            return Err(Failure::Source(Unfit::Script));
        }
        // Without headers nothing else tells that there is more to come.
        if program == Program::Script && files::is_being_written(&file) {
            return Err(Failure::Source(Unfit::BeingWritten));
        }
        // A shell reads a script while it runs, so that a link to the user's file won't do.
        let links = self.links && program == Program::MachineCode;
        fail::point("store.folder")?;
        files::create_private_folder(&self.folder)?;
        self.clear_incoming();
        let incoming = self.folder.join(format!("{INCOMING}{}", os::process::own_pid()));
        let placed = self
            .receive(source, file, stamp, &incoming, links)
            .and_then(|sha256| Ok((self.place(&incoming, &sha256)?, sha256)));
        let (path, sha256) = placed.inspect_err(|_| {
            // It may not exist; the failure is what matters. A part of it must not fill up the disk.
            fs::remove_file(&incoming).ok();
        })?;
        let copy = Stamp::of(&fs::metadata(&path)?);
        // After a link to it, it is stamped anew.
        let source = if links { Stamp::of(&fs::metadata(source).map_err(Failure::source)?) } else { stamp };
        Ok(Copied { sha256, path, stamp: copy, source })
    }

    /// What processes have left that were killed.
    fn clear_incoming(&self) {
        for item in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = item.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(INCOMING)?.parse().ok());
            if pid.is_some_and(|pid| os::proc::stat(os::proc::root(), pid).is_err()) {
                // Another one may be faster.
                fs::remove_file(item.path()).ok();
            }
        }
    }

    /// Makes `incoming` the whole and only content that `source` has under this stamp.
    fn receive(
        &self,
        source: &Path,
        mut file: File,
        stamp: Stamp,
        incoming: &Path,
        links: bool,
    ) -> Result<String, Failure> {
        let mut copy = create(incoming)?;
        let mut is_settled = self.is_settled(stamp)?;
        fail::point("store.copy")?;
        let mut is_link = false;
        let sha256 = if links && files::share_blocks(&file, &copy).is_ok() {
            hash_of(incoming)?
        } else if links && link(source, incoming).is_ok() {
            is_link = true;
            hash_of(incoming)?
        } else {
            // Where neither is possible, after a try that may have removed it.
            copy = create(incoming)?;
            transfer(&mut file, &mut copy)?
        };
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
        // The same file still, and nobody wrote to it meanwhile? A link has changed the time of its last change by itself.
        let is_same = |metadata: &fs::Metadata| Stamp::of(metadata).is_same(stamp, is_link);
        let now = fs::metadata(source).map_err(Failure::source)?;
        if !is_same(&now) || !is_same(&file.metadata().map_err(Failure::source)?) {
            return Err(Failure::Changed);
        }
        if is_link {
            return Ok(sha256);
        }
        copy.set_permissions(Permissions::from_mode(0o555))?;
        fail::point("store.sync")?;
        copy.sync_all()?;
        fail::synced(&copy);
        // A file that is open for writing anywhere cannot be executed.
        drop(copy);
        fail::point("store.verify")?;
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

    /// Gives the incoming file its name, unless a sound one has it already: that one may be running.
    fn place(&self, incoming: &Path, sha256: &str) -> io::Result<PathBuf> {
        let path = self.copy_path(sha256);
        if self.is_sound(sha256) {
            fs::remove_file(incoming)?;
            return Ok(path);
        }
        fail::point("store.place")?;
        files::create_private_folder(&self.folder.join(sha256))?;
        fail::point("store.rename")?;
        fs::rename(incoming, &path)?;
        fail::point("store.sync-folder")?;
        files::sync_folder_of(&path)?;
        files::sync_folder_of(&self.folder.join(sha256))?;
        Ok(path)
    }

    /// Whether there is a copy by this name, to the last bit.
    pub(super) fn is_sound(&self, sha256: &str) -> bool {
        let path = self.copy_path(sha256);
        fs::metadata(&path).is_ok_and(|metadata| self.links || metadata.permissions().mode() & 0o777 == 0o555)
            && hash_of(&path).is_ok_and(|found| found == sha256)
    }

    /// The same, whatever became of its mode.
    pub(super) fn has_content(&self, sha256: &str) -> bool {
        hash_of(&self.copy_path(sha256)).is_ok_and(|found| found == sha256)
    }

    /// Whether two looks at a file saw the same content.
    pub(super) fn is_same(&self, before: Stamp, now: Stamp) -> bool {
        now.is_same(before, self.links)
    }

    /// Whether the copy by this name is what it was. One `stat`.
    pub(super) fn is_unchanged(&self, sha256: &str, stamp: Stamp) -> bool {
        fs::metadata(self.copy_path(sha256)).is_ok_and(|metadata| Stamp::of(&metadata).is_same(stamp, self.links))
    }

    /// Whether the copies are of a size at which one more may be kept open.
    pub(super) fn holds_open(&self) -> bool {
        !self.links
    }

    /// A copy that was removed, from the open file that it was.
    pub(super) fn put_back(&self, sha256: &str, file: &File) -> io::Result<()> {
        files::create_private_folder(&self.folder)?;
        let incoming = self.folder.join(format!("{INCOMING}{}", os::process::own_pid()));
        let mut copy = create(&incoming)?;
        let mut file = file.try_clone()?;
        file.rewind()?;
        let found = transfer(&mut file, &mut copy).map_err(io::Error::other)?;
        copy.set_permissions(Permissions::from_mode(0o555))?;
        copy.sync_all()?;
        fail::synced(&copy);
        drop(copy);
        if found == sha256 && hash_of(&incoming)? == sha256 {
            return self.place(&incoming, sha256).map(|_| ());
        }
        fs::remove_file(&incoming)
    }

    /// The stamp of the copy by this name, if its content is what the name says.
    pub(super) fn stamp_if_sound(&self, sha256: &str) -> Option<Stamp> {
        let path = self.copy_path(sha256);
        // Somebody may have changed it; of a link that is the user's business.
        if !self.links {
            fs::set_permissions(&path, Permissions::from_mode(0o555)).ok()?;
        }
        let before = Stamp::of(&fs::metadata(&path).ok()?);
        let is_whole = hash_of(&path).is_ok_and(|found| found == sha256);
        let after = Stamp::of(&fs::metadata(&path).ok()?);
        (is_whole && before == after).then_some(before)
    }

    /// # Errors
    /// As of unlink and rmdir.
    pub(super) fn remove(&self, sha256: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.folder.join(sha256)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The hashes of all copies that have a name.
    pub(super) fn hashes(&self) -> Vec<String> {
        let items = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        items.map(|item| item.file_name().to_string_lossy().into_owned()).filter(|name| is_hash(name)).collect()
    }
}

/// Another name for the file that `source` leads to, in place of what is there.
fn link(source: &Path, incoming: &Path) -> io::Result<()> {
    let true_path = source.canonicalize()?;
    fs::remove_file(incoming)?;
    fs::hard_link(true_path, incoming)
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
