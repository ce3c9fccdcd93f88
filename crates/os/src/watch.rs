//! Being told by the kernel that something in a folder changed (inotify(7)), instead of looking again and again.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{Interest, Poller, Token};

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
