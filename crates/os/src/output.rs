//! A worker's output: always taken off its pipe, kept in a bounded set of files.
//!
//! Measured on an earlier implementation: a pipe that nobody reads stops the worker for good after 65,536 bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::fail;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// As much as an ordinary user may ask for (`/proc/sys/fs/pipe-max-size`); it takes memory only when it fills up.
const PIPE_BYTES: usize = 1 << 20;

/// A pipe for a child's output: the reading end, non-blocking, and the end that the child gets.
///
/// # Errors
/// As of pipe2.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK)?;
    // Without the larger size it works as well, with more wake-ups.
    fcntl_setpipe_size(&read, PIPE_BYTES).ok();
    Ok((read, write))
}

/// How much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The newest file; older ones have `.1`, `.2` … appended to their names.
    pub path: PathBuf,
    /// A file of this size is put aside.
    pub max_file_bytes: u64,
    /// So many files there are at most, the newest included.
    pub max_files: u32,
}

/// What one call to [`Output::drain`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// There may be more.
    Some,
    /// The pipe is empty.
    Empty,
    /// It is empty, and nobody can write to it any more.
    End,
}

/// The files that a pipe is drained into.
#[derive(Debug)]
pub struct Output {
    bounds: Bounds,
    file: Option<File>,
    file_bytes: u64,
    lost_bytes: u64,
    copy_instead: bool,
}

impl Output {
    /// Go on where the newest file ends. A file that can't be opened is tried again with the next output.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let mut output = Self { bounds, file: None, file_bytes: 0, lost_bytes: 0, copy_instead: false };
        output.open().ok();
        output
    }

    /// How much could not be kept, for want of room or rights.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    fn open(&mut self) -> io::Result<()> {
        fail::point("output.open")?;
        let mut file = open(&self.bounds.path)?;
        self.file_bytes = file.seek(SeekFrom::End(0))?;
        self.file = Some(file);
        Ok(())
    }

    /// Move what the pipe holds into the files. It never blocks on the pipe, and the pipe is emptied even where nothing
    /// can be written: then what it held is counted as lost.
    ///
    /// # Errors
    /// As of reading the pipe. Errors of the files are no errors here.
    pub fn drain(&mut self, pipe: &OwnedFd) -> io::Result<Drained> {
        if self.file.is_none() || self.file_bytes >= self.bounds.max_file_bytes {
            self.rotate_or_open();
        }
        let Some(file) = &mut self.file else { return self.discard(pipe) };
        let room = self.bounds.max_file_bytes.saturating_sub(self.file_bytes).max(1);
        let most = usize::try_from(room).unwrap_or(PIPE_BYTES).min(PIPE_BYTES);
        if self.copy_instead {
            return self.copy(pipe, most);
        }
        let moved = fail::point("output.splice")
            .and_then(|()| Ok(splice(pipe, None, &*file, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?));
        match moved.map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)) {
            Ok(0) => Ok(Drained::End),
            Ok(count) => {
                self.file_bytes += count as u64;
                Ok(Drained::Some)
            }
            Err(rustix::io::Errno::AGAIN) => Ok(Drained::Empty),
            Err(rustix::io::Errno::INTR) => Ok(Drained::Some),
            // A file system that can't splice.
            Err(rustix::io::Errno::INVAL) => {
                self.copy_instead = true;
                Ok(Drained::Some)
            }
            Err(_) => {
                self.file = None;
                self.discard(pipe)
            }
        }
    }

    fn copy(&mut self, pipe: &OwnedFd, most: usize) -> io::Result<Drained> {
        let mut buffer = [0_u8; 16 * 1024];
        let most = most.min(buffer.len());
        match rustix::io::read(pipe, &mut buffer[..most]) {
            Ok(0) => Ok(Drained::End),
            Ok(count) => {
                let written =
                    self.file.as_mut().is_some_and(|file| io::Write::write_all(file, &buffer[..count]).is_ok());
                if written {
                    self.file_bytes += count as u64;
                } else {
                    self.lost_bytes += count as u64;
                    self.file = None;
                }
                Ok(Drained::Some)
            }
            Err(rustix::io::Errno::AGAIN) => Ok(Drained::Empty),
            Err(rustix::io::Errno::INTR) => Ok(Drained::Some),
            Err(errno) => Err(errno.into()),
        }
    }

    fn discard(&mut self, pipe: &OwnedFd) -> io::Result<Drained> {
        let mut buffer = [0_u8; 64 * 1024];
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => Ok(Drained::End),
            Ok(count) => {
                self.lost_bytes += count as u64;
                Ok(Drained::Some)
            }
            Err(rustix::io::Errno::AGAIN) => Ok(Drained::Empty),
            Err(rustix::io::Errno::INTR) => Ok(Drained::Some),
            Err(errno) => Err(errno.into()),
        }
    }

    fn rotate_or_open(&mut self) {
        if self.file.is_some() {
            self.rotate();
        }
        // What can't be opened now is tried again at the next call; until then output is counted as lost.
        self.file = None;
        self.open().ok();
        if self.file_bytes >= self.bounds.max_file_bytes && self.file.is_some() {
            self.rotate();
            self.open().ok();
        }
        if self.file_bytes >= self.bounds.max_file_bytes {
            // It could not be put aside: begin it anew rather than let it grow.
            if let Some(file) = &mut self.file {
                let emptied = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
                self.file_bytes = if emptied.is_ok() { 0 } else { self.file_bytes };
            }
        }
    }

    /// Move every file one number up; the one with the highest number goes.
    fn rotate(&mut self) {
        self.file = None;
        self.bounds.remove_surplus();
        let last = self.bounds.max_files.saturating_sub(1);
        if last == 0 {
            std::fs::remove_file(&self.bounds.path).ok();
            return;
        }
        // Removed, not replaced: when a rename replaces a file, ext4 first writes the new one to the disk (`auto_da_alloc`),
        // and all output would go there, however soon it is removed.
        std::fs::remove_file(numbered(&self.bounds.path, last)).ok();
        for number in (1..last).rev() {
            std::fs::rename(numbered(&self.bounds.path, number), numbered(&self.bounds.path, number + 1)).ok();
        }
        if fail::point("output.rotate").is_err() {
            return;
        }
        std::fs::rename(&self.bounds.path, numbered(&self.bounds.path, 1)).ok();
    }
}

impl Bounds {
    /// What is left of a time when more files were kept.
    fn remove_surplus(&self) {
        let beyond = (self.max_files.max(1)..).map(|number| numbered(&self.path, number));
        for path in beyond {
            if std::fs::remove_file(path).is_err() {
                return;
            }
        }
    }

    /// Give up the oldest of what is kept, so that there is room for something else. `false`: there is nothing more.
    #[must_use]
    pub fn give_up_oldest(&self) -> bool {
        let older = (1..self.max_files).rev().map(|number| numbered(&self.path, number));
        if older.into_iter().any(|path| std::fs::remove_file(path).is_ok()) {
            return true;
        }
        // The newest is emptied, not removed: whoever follows it follows on.
        std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() > 0)
            && OpenOptions::new().write(true).truncate(true).open(&self.path).is_ok()
    }
}

/// Not O_APPEND: splice(2) refuses such files. There is one writer.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain_all(output: &mut Output, pipe: &OwnedFd) {
        while output.drain(pipe).unwrap() == Drained::Some {}
    }

    fn sizes(folder: &Path) -> Vec<u64> {
        let mut sizes: Vec<u64> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn the_files_stay_within_their_bounds_and_the_newest_bytes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let bounds = Bounds { path: folder.path().join("log"), max_file_bytes: 10_001, max_files: 3 };
        let mut output = Output::new(bounds.clone());
        let (read, write) = pipe().unwrap();
        for number in 0_u32..10_000 {
            rustix::io::write(&write, format!("{number:07}\n").as_bytes()).unwrap();
            if number % 500 == 0 {
                drain_all(&mut output, &read);
            }
        }
        drain_all(&mut output, &read);
        assert!(sizes(folder.path()).iter().all(|&size| size <= 10_001));
        assert_eq!(sizes(folder.path()).len(), 3);
        assert!(std::fs::read_to_string(&bounds.path).unwrap().ends_with("0009999\n"));
        drop(write);
        assert_eq!(output.drain(&read).unwrap(), Drained::End);
        assert_eq!(output.lost_bytes(), 0);
    }

    #[test]
    fn the_oldest_output_is_given_up_first() {
        let folder = tempfile::tempdir().unwrap();
        let bounds = Bounds { path: folder.path().join("log"), max_file_bytes: 10, max_files: 3 };
        for name in ["log", "log.1", "log.2"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        for left in [["log", "log.1"].as_slice(), &["log"], &["log"]] {
            assert!(bounds.give_up_oldest());
            assert_eq!(sizes(folder.path()).len(), left.len());
            assert!(left.iter().all(|name| folder.path().join(name).exists()));
        }
        assert_eq!(sizes(folder.path()), [0]);
        assert!(!bounds.give_up_oldest());
    }

    #[test]
    fn fewer_files_than_before_are_kept_from_the_next_rotation_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for number in 1..=6 {
            std::fs::write(numbered(&path, number), "older").unwrap();
        }
        std::fs::write(numbered(&path, 9), "somebody else's").unwrap();
        let mut output = Output::new(Bounds { path, max_file_bytes: 10, max_files: 3 });
        let (read, write) = pipe().unwrap();
        rustix::io::write(&write, b"more than ten bytes").unwrap();
        drain_all(&mut output, &read);
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["log", "log.1", "log.2", "log.9"]);
    }

    #[test]
    fn a_new_writer_goes_on_where_the_old_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        let bounds = Bounds { path: folder.path().join("log"), max_file_bytes: 10_000, max_files: 3 };
        for text in ["one\n", "two\n"] {
            let mut output = Output::new(bounds.clone());
            let (read, write) = pipe().unwrap();
            rustix::io::write(&write, text.as_bytes()).unwrap();
            drain_all(&mut output, &read);
        }
        assert_eq!(std::fs::read_to_string(&bounds.path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn what_cannot_be_kept_is_counted_and_the_writer_never_blocked() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let bounds = Bounds { path: missing.join("log"), max_file_bytes: 1_000_000, max_files: 3 };
        let mut output = Output::new(bounds);
        let (read, write) = pipe().unwrap();
        rustix::io::write(&write, &[b'x'; 50_000]).unwrap();
        drain_all(&mut output, &read);
        assert_eq!(output.lost_bytes(), 50_000);
        std::fs::create_dir(&missing).unwrap();
        rustix::io::write(&write, b"back\n").unwrap();
        drain_all(&mut output, &read);
        assert_eq!(std::fs::read_to_string(missing.join("log")).unwrap(), "back\n");
    }
}
