//! Files that survive a crash: atomic replacement and advisory locks.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::fail;

/// fcntl(2); not in the libc crate.
const F_SETSIG: libc::c_int = 10;

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
    replace(path, bytes, durability, None)
}

/// With these permissions, else 0600.
fn replace(path: &Path, bytes: &[u8], durability: Durability, permissions: Option<Permissions>) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let written = write_and_rename(&temporary, path, bytes, durability, permissions);
    if written.is_err() {
        // It may not exist; the first error is the one to report.
        std::fs::remove_file(&temporary).ok();
    }
    written
}

/// Write a file that somebody named: what is there is replaced at once and keeps its mode, also where a symbolic link leads to
/// it; what is no file (a pipe, a device) is written to. A new one has the mode that the umask leaves.
///
/// # Errors
/// As of open, write, fsync and rename. A file that was there is then untouched.
pub fn write_where_it_is(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_new = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            // Who may not write to it may not replace it either.
            OpenOptions::new().write(true).open(path)?;
            replace(&path.canonicalize()?, bytes, Durability::Power, Some(metadata.permissions()))
        }
        Err(error) if !is_new(&error) => Err(error),
        Ok(_) | Err(_) => {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
            file.write_all(bytes)?;
            // A pipe can't be synced, and need not.
            file.sync_all()
                .or_else(|error| if error.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) })
        }
    }
}

fn write_and_rename(
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
    durability: Durability,
    permissions: Option<Permissions>,
) -> io::Result<()> {
    fail::point_at("file.open", path)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    fail::point_at("file.write", path)?;
    file.write_all(bytes)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    if durability == Durability::Power {
        fail::point_at("file.sync", path)?;
        file.sync_all()?;
        fail::synced(&file);
    }
    fail::point_at("file.rename", path)?;
    std::fs::rename(temporary, path)?;
    if durability == Durability::Power {
        fail::point_at("file.sync-folder", path)?;
        sync_folder_of(path)?;
    }
    Ok(())
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", rustix::process::getpid().as_raw_nonzero()));
    path.with_file_name(name)
}

/// Give `to`, which is empty, the content of `from` without copying it: both share its blocks until one is written to
/// (ioctl_ficlone(2)).
///
/// # Errors
/// Where the file system can't do that, or they lie in two of them.
pub fn share_blocks(from: &File, to: &File) -> io::Result<()> {
    rustix::fs::ioctl_ficlone(to, from).map_err(Into::into)
}

/// Whether somebody has this file, which is open for reading only, open for writing now (fcntl(2), "Leases": a read lease
/// can't be had then). `false` also where that can't be told: of somebody else's file, or on a file system without leases.
pub fn is_being_written(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: three calls of fcntl with integer arguments on a descriptor that is open for as long as `file` is borrowed.
    // The signal is one that nobody is ended by: whoever opens the file in between breaks the lease.
    #[expect(unsafe_code, reason = "rustix has no leases")]
    let (taken, error) = unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG);
        let taken = libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK);
        let error = io::Error::last_os_error();
        if taken == 0 {
            libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
        }
        (taken, error)
    };
    taken != 0 && error.raw_os_error() == Some(libc::EAGAIN)
}

/// Make a finished rename or creation in the folder of `path` survive the loss of power.
///
/// # Errors
/// As of open and fsync.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = File::open(folder.unwrap_or(Path::new(".")))?;
    folder.sync_all()?;
    fail::synced(&folder);
    Ok(())
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
            Err(rustix::io::Errno::WOULDBLOCK) if fail::ignored("lock.busy", path) => {
                Ok(Locked::Taken(Self { fd: file.into() }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Locked::Busy),
            Err(errno) => Err(errno.into()),
        }
    }

    /// One that is held already, by a descriptor that came from the program before this one in the same process.
    ///
    /// # Errors
    /// It is not the file at `path`, or it is held by another open file of it.
    pub fn passed_on(fd: OwnedFd, path: &Path) -> io::Result<Self> {
        let (own, there) = (rustix::fs::fstat(&fd)?, rustix::fs::stat(path)?);
        if (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino) {
            return Err(io::Error::other("another file"));
        }
        flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { fd })
    }

    /// Whether it is the lock of the file that is there now.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let same =
            |own: rustix::fs::Stat, there: rustix::fs::Stat| (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino);
        matches!((rustix::fs::fstat(&self.fd), rustix::fs::stat(path)), (Ok(own), Ok(there)) if same(own, there))
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
