//! The disk that old logs keep: packed (gzip, so that `zcat` reads them, too) or removed, the oldest first.
//!
//! **Invariant:** a log that somebody may still write to is left alone: one without its end is touched only if no process has
//! it open. A packed file is read back and compared before the original goes, so that a death in between loses nothing.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use wire::rlog::{Tail, tail};

use super::logs::{Log, all};

/// How much of a log is looked at to find its last line.
const TAIL_BYTES: u64 = 64 << 10;
const CHUNK_BYTES: usize = 64 << 10;

/// What is to be done with an old log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Pack,
    Remove,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub change: Change,
    /// Logs that were begun before.
    pub before_ms: u64,
    /// And, oldest first, so many more that all that is left is no larger.
    pub max_bytes: Option<u64>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Why a log is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Somebody may still write to it.
    Living,
    /// It is packed already.
    Packed,
}

/// What became of one log.
#[derive(Debug)]
pub enum Outcome {
    Changed {
        log: Log,
        before_bytes: u64,
        after_bytes: u64,
    },
    /// It would have been.
    Would {
        log: Log,
        before_bytes: u64,
    },
    Kept {
        log: Log,
        why: Kept,
    },
    Failed {
        log: Log,
        error: io::Error,
    },
}

impl Job {
    /// Does it, oldest first, and tells of each log that is old enough.
    ///
    /// # Errors
    /// The logs can't be listed.
    pub fn run(&self, project: &Path, mut each: impl FnMut(&Outcome)) -> io::Result<()> {
        let logs = all(project)?;
        let mut left: u64 = logs.iter().map(bytes).sum();
        for log in logs {
            let old = log.began_ms().is_some_and(|at| at < self.before_ms);
            let surplus = self.max_bytes.is_some_and(|max| left > max);
            if !old && !surplus {
                continue;
            }
            let before_bytes = bytes(&log);
            let outcome = self.one(log, before_bytes);
            match &outcome {
                Outcome::Changed { after_bytes, .. } => {
                    left = left.saturating_sub(before_bytes - after_bytes.min(&before_bytes))
                }
                Outcome::Would { .. } if self.change == Change::Remove => left = left.saturating_sub(before_bytes),
                Outcome::Would { .. } | Outcome::Kept { .. } | Outcome::Failed { .. } => {}
            }
            each(&outcome);
        }
        Ok(())
    }

    fn one(&self, log: Log, before_bytes: u64) -> Outcome {
        let plain: Vec<PathBuf> =
            log.files().into_iter().filter(|file| file.extension().is_none_or(|end| end != "gz")).collect();
        if self.change == Change::Pack && plain.is_empty() {
            return Outcome::Kept { log, why: Kept::Packed };
        }
        match may_be_written(&log, &plain) {
            Ok(true) => return Outcome::Kept { log, why: Kept::Living },
            Ok(false) => {}
            Err(error) => return Outcome::Failed { log, error },
        }
        if self.dry_run {
            return Outcome::Would { log, before_bytes };
        }
        let done = match self.change {
            Change::Pack => plain.iter().try_for_each(|file| pack(file)),
            Change::Remove => log.files().iter().try_for_each(std::fs::remove_file),
        };
        if let Some(day) = log.path.parent().filter(|_| self.change == Change::Remove) {
            // Only an empty folder goes.
            std::fs::remove_dir(day).ok();
        }
        match done {
            Ok(()) => Outcome::Changed { before_bytes, after_bytes: bytes(&log), log },
            Err(error) => Outcome::Failed { log, error },
        }
    }
}

/// What its files keep of the disk, as their lengths say.
fn bytes(log: &Log) -> u64 {
    log.files().iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum()
}

fn may_be_written(log: &Log, plain: &[PathBuf]) -> io::Result<bool> {
    if log.is_packed() && plain.is_empty() {
        return Ok(false);
    }
    let is_closed = !log.is_packed() && log.path.extension().is_some_and(|end| end == "rlog") && {
        let mut file = File::open(&log.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        tail(&bytes) == Tail::Closed
    };
    if is_closed {
        return Ok(false);
    }
    plain.iter().map(|file| os::tree::is_open(file)).try_fold(false, |any, open| Ok(any || open?))
}

/// `file` becomes `file.gz`.
fn pack(file: &Path) -> io::Result<()> {
    let name = |end: &str| {
        let mut name = file.as_os_str().to_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    let (packed, temporary) = (name(".gz"), name(".gz.tmp"));
    let done = pack_into(file, &temporary).and_then(|()| std::fs::rename(&temporary, &packed));
    if done.is_err() {
        // It may not exist; the first error is the one to report.
        std::fs::remove_file(&temporary).ok();
        return done;
    }
    std::fs::remove_file(file)
}

fn pack_into(file: &Path, temporary: &Path) -> io::Result<()> {
    let mut from = File::open(file)?;
    let meta = from.metadata()?;
    let mut encoder = GzEncoder::new(File::create(temporary)?, Compression::default());
    io::copy(&mut from, &mut encoder)?;
    let mut to = encoder.finish()?;
    to.flush()?;
    to.set_permissions(meta.permissions())?;
    to.set_modified(meta.modified()?)?;
    to.sync_all()?;
    from.seek(SeekFrom::Start(0))?;
    if !same(&mut from, &mut MultiGzDecoder::new(File::open(temporary)?))? {
        return Err(io::Error::other("it does not read back as it was"));
    }
    Ok(())
}

fn same(one: &mut impl Read, other: &mut impl Read) -> io::Result<bool> {
    let (mut a, mut b) = (Vec::with_capacity(CHUNK_BYTES), Vec::with_capacity(CHUNK_BYTES));
    loop {
        a.clear();
        b.clear();
        one.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut a)?;
        other.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut b)?;
        if a != b {
            return Ok(false);
        }
        if a.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    /// Logs of ten days, one a day, 100 kB each; the last has no end.
    fn project() -> tempfile::TempDir {
        let project = tempfile::tempdir().unwrap();
        for day in 1..=10 {
            let folder = super::super::logs::folder(project.path()).join(format!("202611{day:02}"));
            std::fs::create_dir_all(&folder).unwrap();
            let end = if day == 10 { "" } else { "@end tokens_in=0 tokens_out=0 cost_usd=0.0 reason=done\n" };
            std::fs::write(folder.join("120000-x.rlog"), format!("{}{end}", "a: the same again\n".repeat(3_000)))
                .unwrap();
            std::fs::write(folder.join("120000-x.jsonl"), "{\"type\":\"x\"}\n".repeat(4_000)).unwrap();
        }
        project
    }

    fn run(project: &Path, job: Job) -> Vec<String> {
        let mut told = Vec::new();
        job.run(project, |outcome| {
            told.push(match outcome {
                Outcome::Changed { log, before_bytes, after_bytes } => {
                    assert!(after_bytes < before_bytes);
                    format!("changed {}", log.id())
                }
                Outcome::Would { log, .. } => format!("would {}", log.id()),
                Outcome::Kept { log, why } => format!("{why:?} {}", log.id()),
                Outcome::Failed { log, error } => format!("failed {}: {error}", log.id()),
            });
        })
        .unwrap();
        told
    }

    fn before(project: &Path, day: usize) -> u64 {
        all(project).unwrap()[day - 1].began_ms().unwrap()
    }

    #[test]
    fn old_logs_are_packed_and_read_as_before() {
        let project = project();
        let before_ms = before(project.path(), 3);
        let lines = |log: &Log| {
            let mut count = 0;
            super::super::each_line(&log.path, 1_000, |_| count += 1).unwrap();
            super::super::each_line(&log.jsonl().unwrap(), 1_000, |_| count += 1).unwrap();
            count
        };
        let job = Job { change: Change::Pack, before_ms, max_bytes: None, dry_run: true };
        assert_eq!(run(project.path(), job), ["would 20261101-120000-x", "would 20261102-120000-x"]);
        let job = Job { dry_run: false, ..job };
        assert_eq!(run(project.path(), job), ["changed 20261101-120000-x", "changed 20261102-120000-x"]);
        assert_eq!(run(project.path(), job), ["Packed 20261101-120000-x", "Packed 20261102-120000-x"]);
        let logs = all(project.path()).unwrap();
        assert_eq!((logs.len(), logs[0].is_packed(), logs[2].is_packed()), (10, true, false));
        assert!(logs.iter().take(3).all(|log| lines(log) == 7_001), "nothing is lost");
        assert!(bytes(&logs[0]) < 10_000, "{}", bytes(&logs[0]));
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits_but_never_a_log_that_is_written_to() {
        let project = project();
        let living = all(project.path()).unwrap().pop().unwrap();
        let writer = std::fs::OpenOptions::new().append(true).open(&living.path).unwrap();
        let one = bytes(&living);
        let job = Job { change: Change::Remove, before_ms: 0, max_bytes: Some(one * 4 + 1_000), dry_run: false };
        assert_eq!(run(project.path(), Job { dry_run: true, ..job }).len(), 6);
        assert_eq!(run(project.path(), job).len(), 6);
        assert_eq!(all(project.path()).unwrap().len(), 4);
        let all_of_them = Job { before_ms: before(project.path(), 4) + 365 * DAY_MS, max_bytes: None, ..job };
        assert_eq!(run(project.path(), all_of_them).last().unwrap(), "Living 20261110-120000-x");
        assert_eq!(all(project.path()).unwrap(), std::slice::from_ref(&living));
        assert_eq!(
            std::fs::read_dir(super::super::logs::folder(project.path())).unwrap().count(),
            1,
            "no empty folders"
        );
        drop(writer);
        assert_eq!(run(project.path(), all_of_them), ["changed 20261110-120000-x"], "its writer died");
    }
}
