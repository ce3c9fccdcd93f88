//! Lines added to a file, each with one write: what is on disk after any death is whole lines and at most one torn one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that only grows.
#[derive(Debug)]
pub struct Appender {
    file: File,
    path: PathBuf,
    /// A write stopped in the middle of a line (full disk, loss of power): the next one must begin a new line.
    torn: bool,
}

impl Appender {
    /// Opens an existing file, or makes it with this mode.
    ///
    /// # Errors
    /// As of open.
    pub fn open(path: &Path, mode: u32) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(mode).open(path)?;
        Ok(Self { file, path: path.to_owned(), torn: false })
    }

    /// The same, and whoever wrote it before may have died in the middle of a line: what is added begins a new one.
    ///
    /// # Errors
    /// As of open, fstat and pread.
    pub fn resume(path: &Path, mode: u32) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(mode).open(path)?;
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(at) = length.checked_sub(1) {
            file.read_at(&mut last, at)?;
        }
        Ok(Self { file, path: path.to_owned(), torn: last != [b'\n'] })
    }

    /// Makes a new file; it is an error if there is one of that name.
    ///
    /// # Errors
    /// As of open.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        Ok(Self { file, path: path.to_owned(), torn: false })
    }

    /// Where it is, or was.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Somebody removed the file: what is written goes nowhere.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// How long it is by now; 0 if nobody can tell.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Adds lines, the last one with its end.
    ///
    /// # Errors
    /// As of write. What was written by then stays, and the next line begins anew.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mended;
        let mut rest = lines;
        if self.torn {
            mended = [b"\n", lines].concat();
            rest = &mended;
        }
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    rest = rest.get(bytes..).unwrap_or_default();
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Syncs to the disk what was written.
    ///
    /// # Errors
    /// As of fdatasync.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_not_glued_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        for (before, after) in [("", "next\n"), ("one\n", "one\nnext\n"), ("one\ntw", "one\ntw\nnext\n")] {
            std::fs::write(&path, before).unwrap();
            Appender::resume(&path, 0o600).unwrap().append(b"next\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}
