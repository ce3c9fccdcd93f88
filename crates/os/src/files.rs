//! Files that survive a crash: atomic replacement and advisory locks.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// What a write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The death of every process: the rename is atomic, the kernel holds the data.
    Process,
    /// The loss of power, too: the data are synced before the rename, the folder after it.
    Power,
}

/// Replace `path` by a file with `bytes`, mode 0600: readers see the old content or the new, never a part.
///
/// # Errors
/// As of open, write, fsync and rename; the old file is then untouched and the temporary one removed.
pub fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let written = write_and_rename(&temporary, path, bytes, durability);
    if written.is_err() {
        // It may not exist; the first error is the one to report.
        std::fs::remove_file(&temporary).ok();
    }
    written
}

fn write_and_rename(temporary: &Path, path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    if durability == Durability::Power {
        file.sync_all()?;
    }
    std::fs::rename(temporary, path)?;
    if durability == Durability::Power {
        sync_folder_of(path)?;
    }
    Ok(())
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", rustix::process::getpid().as_raw_nonzero()));
    path.with_file_name(name)
}

/// Make a finished rename or creation in the folder of `path` survive the loss of power.
///
/// # Errors
/// As of open and fsync.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Create a folder and its parents; those that are made here are readable by the owner only (0700).
///
/// # Errors
/// As of mkdir; an existing folder is not an error.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Take away everybody else's access to a folder that already exists.
///
/// # Errors
/// As of chmod.
pub fn make_private(path: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o7700))
}

/// An exclusive `flock(2)`. It belongs to the open file description: processes that inherit the descriptor hold it on,
/// and it is free again when the last of them has closed it or died. A crash can't leave it behind.
#[derive(Debug)]
pub struct Lock {
    fd: OwnedFd,
}

/// What an attempt to lock found.
#[derive(Debug)]
pub enum Locked {
    /// It is ours.
    Taken(Lock),
    /// Somebody holds it.
    Busy,
}

impl Lock {
    /// Try to lock the file at `path`, which is made if it doesn't exist (0600) and is never removed: removing a lock
    /// file lets two processes lock two files of one name.
    ///
    /// # Errors
    /// As of open and flock, but for "somebody holds it".
    pub fn try_take(path: &Path) -> io::Result<Locked> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Locked::Taken(Self { fd: file.into() })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Locked::Busy),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Let programs that this process executes inherit the lock (clears close-on-exec).
    ///
    /// # Errors
    /// As of fcntl.
    pub fn inherit_on_exec(&self) -> io::Result<()> {
        rustix::io::fcntl_setfd(&self.fd, rustix::io::FdFlags::empty()).map_err(Into::into)
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_atomic(&path, b"old", Durability::Power).unwrap();
        assert!(write_atomic(&folder.path().join("missing/state"), b"new", Durability::Process).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        write_atomic(&path, b"new", Durability::Process).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_lock_is_exclusive_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let Locked::Taken(first) = Lock::try_take(&path).unwrap() else { panic!("nobody else is here") };
        assert!(matches!(Lock::try_take(&path).unwrap(), Locked::Busy));
        drop(first);
        assert!(matches!(Lock::try_take(&path).unwrap(), Locked::Taken(_)));
    }

    #[test]
    fn a_shared_folder_is_made_private() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        make_private(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
