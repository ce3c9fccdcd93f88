//! Reading the incident journal, with a daemon or without one: what is there, and then what is added.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use os::poll::{Interest, Poller, Token};
use os::watch::CreationWatch;
use wire::journal::{Line, decode};

use crate::journal::{self, FILES};

/// One line of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// As it is in the file, without its end.
    pub bytes: Vec<u8>,
    /// What it says.
    pub line: Line,
}

/// Where a reader of the journal stands.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    newest: Option<File>,
    /// Of a line whose end is not there yet.
    begun: Vec<u8>,
    last_seq: u64,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// There may be more to read.
    More,
    /// Nobody reads what is printed any more.
    ReaderGone,
}

const CHANGES: Token = Token(0);
const READER: Token = Token(1);

/// So often the files are opened anew because they were rotated just then.
const MOST_TRIES: u32 = 10;

impl Events {
    /// Of a journal that need not be there yet: [`crate::Home::journal`].
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, newest: None, begun: Vec::new(), last_seq: 0 }
    }

    /// What was added since the last call, oldest first; at first, all.
    ///
    /// # Errors
    /// As of open and read.
    pub fn read(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if let Some(mut newest) = self.newest.take() {
            let mut bytes = std::mem::take(&mut self.begun);
            newest.read_to_end(&mut bytes)?;
            self.take(bytes, &mut entries);
            if is_at(&newest, &self.path) {
                self.newest = Some(newest);
                return Ok(entries);
            }
        }
        // At first, and when the files were rotated, perhaps several times.
        for mut file in self.open_all()? {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            // What an older file ends with will not be continued.
            self.begun.clear();
            let known = self.last_seq;
            let mut found = Vec::new();
            self.take(bytes, &mut found);
            let new = found.iter().position(|entry| entry.line.seq().is_some_and(|seq| seq > known));
            entries.extend(found.into_iter().skip(new.unwrap_or(usize::MAX)));
            self.newest = Some(file);
        }
        Ok(entries)
    }

    fn take(&mut self, mut bytes: Vec<u8>, entries: &mut Vec<Entry>) {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.begun = bytes.split_off(whole);
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let entry = Entry { bytes: line.to_owned(), line: decode(line) };
            self.last_seq = self.last_seq.max(entry.line.seq().unwrap_or(0));
            entries.push(entry);
        }
    }

    /// All files of one moment, oldest first.
    fn open_all(&self) -> io::Result<Vec<File>> {
        let mut tries = 0;
        loop {
            let mut files = Vec::new();
            for age in (0..FILES).rev() {
                match File::open(journal::file(&self.path, age)) {
                    Ok(file) => files.push(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            tries += 1;
            let same = files.last().is_none_or(|newest| is_at(newest, &self.path));
            if same || tries == MOST_TRIES {
                return Ok(files);
            }
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        // Between two files, or removed: there is nothing newer yet.
        _ => true,
    }
}

/// Waits for lines to be added, without looking again and again.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    watch: CreationWatch,
    poller: Poller,
}

impl Follower {
    /// `reader`: where the lines go; it stays open.
    ///
    /// # Errors
    /// As of inotify and epoll.
    pub fn new(path: PathBuf, reader: BorrowedFd<'_>) -> io::Result<Self> {
        let watch = CreationWatch::new()?;
        let poller = Poller::new()?;
        poller.add(&watch, CHANGES, Interest::Readable)?;
        // A regular file can't be waited for, and never goes away.
        poller.add(reader, READER, Interest::Nothing).ok();
        let mut follower = Self { path, watch, poller };
        follower.watch()?;
        Ok(follower)
    }

    /// Until something was added since the last call, or came into being on the way to the journal.
    ///
    /// # Errors
    /// As of inotify and epoll.
    pub fn wait(&mut self) -> io::Result<Waited> {
        let mut ready = Vec::new();
        while ready.is_empty() {
            self.poller.wait(None, &mut ready)?;
        }
        if ready.iter().any(|event| event.token == READER) {
            return Ok(Waited::ReaderGone);
        }
        self.watch.take();
        // Before the caller looks: what is added after that is told.
        self.watch()?;
        Ok(Waited::More)
    }

    /// The file, and the nearest folder on the way to it.
    fn watch(&mut self) -> io::Result<()> {
        loop {
            let mut folders = self.path.ancestors().skip(1);
            let mut watching = None;
            for folder in &mut folders {
                let found = self.watch.add(folder)?;
                if found.exists() {
                    watching = Some((folder, found));
                    break;
                }
            }
            let Some((folder, found)) = watching else { return Err(io::ErrorKind::NotFound.into()) };
            // Once more after a new watch: the next folder on the way may have come just before it.
            if Some(folder) == self.path.parent() || !found.is_new() {
                return self.watch.add_file(&self.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use wire::journal::Event;

    use super::*;
    use crate::journal::Journal;

    fn seqs(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.line.seq().unwrap()).collect()
    }

    #[test]
    fn what_is_added_is_read_once_across_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut journal = Journal::new(path.clone(), "boot".to_owned());
        let mut events = Events::new(path.clone());
        assert_eq!(events.read().unwrap(), []);
        let (mut written, mut read) = (0, 0);
        let text = "x".repeat(3_500);
        // More than a file's worth between two looks; and more than one.
        for batch in [1, 0, 5, 280, 1, 700, 2] {
            for _ in 0..batch {
                journal.add(Event::Degraded, &text, None);
                written += 1;
            }
            assert_eq!(seqs(&events.read().unwrap()), (read + 1..=written).collect::<Vec<_>>(), "{batch}");
            read = written;
        }
        assert_eq!(*seqs(&Events::new(path).read().unwrap()).last().unwrap(), written);
    }

    #[test]
    fn a_torn_line_is_not_shown_and_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let write = |text| Journal::new(path.clone(), "boot".to_owned()).add(Event::Degraded, text, None);
        write("one");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"v\":1,\"se"].concat()).unwrap();
        let mut events = Events::new(path.clone());
        assert_eq!(seqs(&events.read().unwrap()), [1]);
        write("two");
        let lines: Vec<Line> = events.read().unwrap().into_iter().map(|entry| entry.line).collect();
        assert!(lines.len() == 2 && lines[0] == Line::Garbled && lines[1].seq() == Some(2), "{lines:?}");
    }

    #[test]
    fn a_journal_that_comes_into_being_later_wakes_the_follower() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home/workers/main/journal.jsonl");
        let mut follower = Follower::new(path.clone(), tempfile::tempfile().unwrap().as_fd()).unwrap();
        let mut events = Events::new(path.clone());
        let mut journal = Journal::new(path, "boot".to_owned());
        for seq in 1..=3 {
            assert_eq!(events.read().unwrap(), []);
            journal.add(Event::Degraded, "x", None);
            let mut found = Vec::new();
            while found.is_empty() {
                assert_eq!(follower.wait().unwrap(), Waited::More);
                found = events.read().unwrap();
            }
            assert_eq!(seqs(&found), [seq]);
        }
    }

    #[test]
    fn a_follower_whose_reader_has_gone_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (read, write) = std::io::pipe().unwrap();
        let mut follower = Follower::new(folder.path().join("journal.jsonl"), write.as_fd()).unwrap();
        drop(read);
        assert_eq!(follower.wait().unwrap(), Waited::ReaderGone);
    }
}
