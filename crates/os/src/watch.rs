//! Being told by the kernel that something in a folder changed (inotify(7)), instead of looking again and again.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;

/// Tells when an entry of one folder was removed or renamed.
#[derive(Debug)]
pub struct RemovalWatch {
    fd: OwnedFd,
}

impl RemovalWatch {
    /// # Errors
    /// As of inotify: the folder is missing, or there are too many watches.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let what = inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_FROM | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(&fd, folder, what)?;
        Ok(Self { fd })
    }

    /// Forget what came; the caller looks for itself at what is left.
    pub fn clear(&self) {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        while reader.next().is_ok() {}
    }
}

impl AsFd for RemovalWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Tells which entries came into being in a set of folders.
#[derive(Debug)]
pub struct CreationWatch {
    fd: OwnedFd,
    folders: Vec<(i32, PathBuf)>,
}

/// What [`CreationWatch::add`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watching {
    /// It is watched from now on.
    Anew,
    /// It was watched before.
    Already,
    /// There is no such folder.
    Missing,
}

impl Watching {
    /// The folder is watched.
    #[must_use]
    pub fn exists(self) -> bool {
        self != Self::Missing
    }

    /// It was not watched before.
    #[must_use]
    pub fn is_new(self) -> bool {
        self == Self::Anew
    }
}

impl CreationWatch {
    /// # Errors
    /// As of inotify_init1: too many instances.
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        Ok(Self { fd, folders: Vec::new() })
    }

    /// Watch this folder, too.
    ///
    /// # Errors
    /// As of inotify_add_watch, but for a folder that isn't there.
    pub fn add(&mut self, folder: &Path) -> io::Result<Watching> {
        let what = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR;
        let id = match inotify::add_watch(&self.fd, folder, what) {
            Ok(id) => id,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Watching::Missing),
            Err(errno) => return Err(errno.into()),
        };
        if self.folders.iter().any(|(known, _)| *known == id) {
            return Ok(Watching::Already);
        }
        self.folders.push((id, folder.to_owned()));
        Ok(Watching::Anew)
    }

    /// Wake, too, when this file is written to. A file that isn't there is no error: its coming is told by its folder.
    ///
    /// # Errors
    /// As of inotify_add_watch.
    pub fn add_file(&mut self, file: &Path) -> io::Result<()> {
        match inotify::add_watch(&self.fd, file, inotify::WatchFlags::MODIFY) {
            Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Watch nothing any more, and forget what came.
    ///
    /// To be used again for other folders: giving up the descriptor waits for a grace period of the kernel (measured: 5
    /// to 20 ms), removing its watches does not.
    pub fn clear(&mut self) {
        for (id, _) in self.folders.drain(..) {
            // It may be gone with its folder.
            inotify::remove_watch(&self.fd, id).ok();
        }
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        while reader.next().is_ok() {}
    }

    /// What came into being since the last call. It need not exist any more.
    pub fn take(&mut self) -> Vec<PathBuf> {
        let mut news = Vec::new();
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::IGNORED) {
                self.folders.retain(|(id, _)| *id != event.wd());
                continue;
            }
            let folder = self.folders.iter().find(|(id, _)| *id == event.wd()).map(|(_, folder)| folder);
            if let (Some(folder), Some(name)) = (folder, event.file_name()) {
                news.push(folder.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            }
        }
        news
    }
}

/// Readable when something came into being.
impl AsFd for CreationWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{Interest, Poller, Token};

    #[test]
    fn a_cleared_watch_has_forgotten_everything_and_can_be_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = CreationWatch::new().unwrap();
        assert_eq!(watch.add(folder.path()).unwrap(), Watching::Anew);
        std::fs::write(folder.path().join("before"), "").unwrap();
        watch.clear();
        std::fs::write(folder.path().join("unwatched"), "").unwrap();
        assert_eq!(watch.add(folder.path()).unwrap(), Watching::Anew);
        std::fs::write(folder.path().join("after"), "").unwrap();
        assert_eq!(watch.take(), [folder.path().join("after")]);
    }

    #[test]
    fn a_removed_entry_wakes_the_poller() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s"), "").unwrap();
        let watch = RemovalWatch::new(folder.path()).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&watch, Token(1), Interest::Readable).unwrap();
        let mut ready = Vec::new();
        poller.wait(Some(0), &mut ready).unwrap();
        assert!(ready.is_empty());
        std::fs::remove_file(folder.path().join("s")).unwrap();
        poller.wait(Some(5_000), &mut ready).unwrap();
        assert_eq!(ready.len(), 1);
        watch.clear();
        poller.wait(Some(0), &mut ready).unwrap();
        assert!(ready.is_empty());
    }
}
