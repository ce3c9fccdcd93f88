//! The incident journal's files: `journal.jsonl`, and the ones before it, `journal.jsonl.1` to `.3`.
//!
//! Each line is one write, so that no death of the daemon tears it; a loss of power may, and what comes next begins a new
//! line. Nothing is synced: the loop must not wait for a disk, and the last seconds before a loss of power are worth
//! less. A line that can't be written is counted, and the gap is told as soon as there is room.

use std::io;
use std::path::{Path, PathBuf};

use os::append::Appender;
use os::fail;
use wire::journal::{Event, Record, VERSION, decode};

use crate::secrets;

/// A file is not made longer than this.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 20;

/// So many are kept, the one that is written to included: about 12,000 lines, or 3,000 restarts.
pub(crate) const FILES: usize = 4;

/// A longer text is cut, so that one line is never a file's worth.
const MAX_TEXT_CHARS: usize = 4_000;

/// Where the newest number is looked for.
const TAIL_BYTES: u64 = 64 << 10;

/// The journal of one home, as its daemon has it.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Option<Appender>,
    boot: String,
    next_seq: u64,
    lost: u64,
    why_lost: String,
}

/// The file of this age; 0 is the one that is written to.
pub(crate) fn file(path: &Path, age: usize) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_os_string();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

impl Journal {
    /// Goes on where the daemon before this one ended. Touches nothing yet.
    pub(crate) fn new(path: PathBuf, boot: String) -> Self {
        let last = (0..FILES).find_map(|age| last_seq(&file(&path, age)));
        Self {
            path,
            file: None,
            boot,
            next_seq: last.map_or(1, |seq| seq.saturating_add(1)),
            lost: 0,
            why_lost: String::new(),
        }
    }

    /// Add a line.
    pub(crate) fn add(&mut self, event: Event, text: &str, hint: Option<&str>) {
        if self.lost > 0 {
            let (lost, why) = (self.lost, self.why_lost.clone());
            let text = format!("{lost} lines are missing here: {why}");
            if self.write(Event::Lost { lines: lost }, &text, None) {
                self.lost = 0;
            }
        }
        if self.lost > 0 || !self.write(event, text, hint) {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        (self.lost > 0).then(|| format!("{} lines of the journal could not be written: {}", self.lost, self.why_lost))
    }

    fn write(&mut self, event: Event, text: &str, hint: Option<&str>) -> bool {
        let record = Record {
            v: VERSION,
            seq: self.next_seq,
            at_unix_ms: os::clock::wall_ms(),
            at_ms: os::clock::monotonic_ms(),
            boot: self.boot.clone(),
            daemon: os::process::own_pid(),
            event,
            text: secrets::without(text).chars().take(MAX_TEXT_CHARS).collect(),
            hint: hint.map(str::to_owned),
        };
        let written = self.write_line(&secrets::without_in_bytes(&record.encode()));
        match written {
            // A line that is lost leaves its number free: the next one tells of the gap.
            Ok(()) => self.next_seq = self.next_seq.saturating_add(1),
            Err(error) => {
                self.file = self.file.take().filter(|file| !file.is_removed());
                self.why_lost = format!("cannot write {}: {error}", self.path.display());
                return false;
            }
        }
        true
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.file = self.file.take().filter(|file| !file.is_removed());
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(fail::point("journal.open").and_then(|()| open(&self.path))?),
        };
        fail::point("journal.append")?;
        if file.size_bytes().saturating_add(line.len() as u64) <= MAX_FILE_BYTES {
            return file.append(line);
        }
        self.file = None;
        fail::point("journal.rotate")?;
        for age in (1..FILES).rev() {
            match std::fs::rename(self::file(&self.path, age - 1), self::file(&self.path, age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.file.insert(open(&self.path)?).append(line)
    }
}

fn open(path: &Path) -> io::Result<Appender> {
    match std::fs::metadata(path) {
        // A pipe, for example, could hold up the writer.
        Ok(metadata) if !metadata.is_file() => return Err(io::Error::other("it is not a file")),
        Ok(_) => {}
        Err(_) => {
            if let Some(folder) = path.parent() {
                os::files::create_private_folder(folder)?;
            }
        }
    }
    Appender::resume(path, 0o600)
}

/// The last number in a file.
fn last_seq(path: &Path) -> Option<u64> {
    let bytes = tail(path).ok()?;
    bytes.split(|byte| *byte == b'\n').rev().find_map(|line| decode(line).seq())
}

fn tail(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    if !std::fs::metadata(path)?.is_file() {
        return Ok(Vec::new());
    }
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use wire::journal::Line;

    use super::*;

    /// What a file says, line by line.
    fn lines(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Line)> {
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| (line, decode(line)))
    }

    fn journal(folder: &Path) -> Journal {
        Journal::new(folder.join("journal.jsonl"), "boot".to_owned())
    }

    fn numbers(folder: &Path) -> Vec<u64> {
        let path = folder.join("journal.jsonl");
        let read = |age| std::fs::read(file(&path, age)).unwrap_or_default();
        (0..=FILES)
            .rev()
            .flat_map(|age| lines(&read(age)).filter_map(|(_, line)| line.seq()).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn the_next_daemon_counts_on_and_begins_a_new_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        journal(folder.path()).add(Event::DaemonStopping, "one", None);
        let whole = std::fs::read(&path).unwrap();
        for torn in 0..whole.len() - 1 {
            std::fs::write(&path, [&whole[..], &whole[..torn]].concat()).unwrap();
            journal(folder.path()).add(Event::DaemonStopped, "two", None);
            let text = std::fs::read_to_string(&path).unwrap();
            let last = text.lines().last().unwrap();
            assert!(
                matches!(decode(last.as_bytes()), Line::Record(record) if (record.seq, record.text.as_str()) == (2, "two"))
            );
            assert_eq!(numbers(folder.path()).len(), 2, "{torn} bytes of a line: {text}");
        }
    }

    #[test]
    fn the_files_are_bounded_and_nothing_between_first_and_last_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = journal(folder.path());
        let text = "x".repeat(3_500);
        for _ in 0..1_500 {
            journal.add(Event::Degraded, &text, None);
        }
        let numbers = numbers(folder.path());
        assert_eq!(*numbers.last().unwrap(), 1_500);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
        let sizes: Vec<u64> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
        assert!(sizes.len() == FILES && sizes.iter().all(|size| *size <= MAX_FILE_BYTES), "{sizes:?}");
        assert!(numbers.len() > 800, "{}", numbers.len());
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut journal = journal(folder.path());
        for _ in 0..3 {
            journal.add(Event::Degraded, "lost", None);
        }
        assert!(journal.problem().unwrap().starts_with("3 lines of the journal could not be written: cannot write "));
        std::fs::remove_file(&path).unwrap();
        journal.add(Event::Degraded, "kept", None);
        assert_eq!(journal.problem(), None);
        let written = std::fs::read(&path).unwrap();
        let texts: Vec<String> = lines(&written).map(|(_, line)| format!("{line:?}")).collect();
        assert!(
            texts.len() == 2 && texts[0].contains("Lost { lines: 3 }") && texts[1].contains("\"kept\""),
            "{texts:?}"
        );
    }

    #[test]
    fn a_journal_that_was_removed_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("workers/main");
        let mut journal = journal(&folder);
        journal.add(Event::Degraded, "one", None);
        std::fs::remove_dir_all(&folder).unwrap();
        journal.add(Event::Degraded, "two", None);
        assert_eq!((numbers(&folder), journal.problem()), (vec![2], None));
    }
}
