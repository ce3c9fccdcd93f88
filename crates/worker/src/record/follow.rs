//! A project's log while it grows, and then the next one: across runs and midnight. The kernel tells when there is more.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use os::poll::{Interest, Poller, Token};
use os::signals::SignalPipe;
use os::watch::CreationWatch;
use wire::claude::{Line, LineSplitter};

use super::logs::{Log, RLOG_LINE_MAX_BYTES, folder, in_day, newest_day};

const CHANGES: Token = Token(0);
const READER: Token = Token(1);
const SIGNALS: Token = Token(2);
const CHUNK_BYTES: usize = 64 << 10;

/// What there is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Another log begins.
    Log(&'a Log),
    /// A line of it.
    Line(&'a str),
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    More,
    Over,
}

/// Follows the newest log of a project.
#[derive(Debug)]
pub struct Follower {
    project: PathBuf,
    watch: CreationWatch,
    poller: Poller,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    log: Log,
    file: File,
    read_bytes: u64,
    lines: LineSplitter,
}

impl Follower {
    /// Begins with `first`, or the newest log there is, or will be. `reader`: where the lines go; when nobody reads there any
    /// more, or a signal comes, it is over.
    ///
    /// # Errors
    /// As of inotify and epoll.
    pub fn new(project: &Path, first: Option<Log>, reader: BorrowedFd<'_>, signals: &SignalPipe) -> io::Result<Self> {
        let watch = CreationWatch::new()?;
        let poller = Poller::new()?;
        poller.add(&watch, CHANGES, Interest::Readable)?;
        poller.add(signals, SIGNALS, Interest::Readable)?;
        // A regular file can't be waited for, and never goes away.
        poller.add(reader, READER, Interest::Nothing).ok();
        let mut follower = Self { project: project.to_owned(), watch, poller, current: None };
        if let Some(log) = first {
            follower.current = Some(Current::open(log)?);
        }
        Ok(follower)
    }

    /// Gives all that there is and will be, until nobody reads any more or a signal comes.
    ///
    /// # Errors
    /// As of inotify, epoll and read, and of `each`.
    pub fn follow(&mut self, each: &mut dyn FnMut(Heard<'_>) -> io::Result<()>) -> io::Result<()> {
        loop {
            // Before anything is read: what is added after that is told.
            self.watch()?;
            self.read(each)?;
            if self.wait()? == Waited::Over {
                return Ok(());
            }
        }
    }

    fn read(&mut self, each: &mut dyn FnMut(Heard<'_>) -> io::Result<()>) -> io::Result<()> {
        loop {
            let newer = self.newer();
            if let Some(current) = &mut self.current {
                current.read(each)?;
            }
            let Some(log) = newer else { return Ok(()) };
            // It may be gone again.
            let Ok(mut current) = Current::open(log) else { return Ok(()) };
            if let Some(before) = &mut self.current {
                before.finish(each)?;
            }
            each(Heard::Log(&current.log))?;
            current.read(each)?;
            self.current = Some(current);
            self.watch()?;
        }
    }

    /// The first log after the one that is followed.
    fn newer(&self) -> Option<Log> {
        let newest = newest_day(&self.project)?;
        let Some(current) = &self.current else { return in_day(&newest).pop() };
        // Of the day of the current one, then of the newest.
        let own = current.log.path.parent().map(in_day).unwrap_or_default();
        own.into_iter().chain(in_day(&newest)).filter(|log| *log > current.log && !log.is_packed()).min()
    }

    fn wait(&mut self) -> io::Result<Waited> {
        let mut ready = Vec::new();
        while ready.is_empty() {
            self.poller.wait(None, &mut ready)?;
        }
        self.watch.take();
        let over = ready.iter().any(|event| event.token == READER || event.token == SIGNALS);
        Ok(if over { Waited::Over } else { Waited::More })
    }

    /// The log's file, the newest day's folder, the folder of the days, or what there is on the way to it.
    fn watch(&mut self) -> io::Result<()> {
        if let Some(current) = &self.current {
            self.watch.add_file(&current.log.path)?;
        }
        let days = folder(&self.project);
        for folder in newest_day(&self.project).iter().map(PathBuf::as_path).chain(days.ancestors()) {
            let found = self.watch.add(folder)?;
            if found.exists() && folder.parent() != Some(&days) {
                break;
            }
        }
        Ok(())
    }
}

impl Current {
    fn open(log: Log) -> io::Result<Self> {
        let file = File::open(&log.path)?;
        Ok(Self { log, file, read_bytes: 0, lines: LineSplitter::new(RLOG_LINE_MAX_BYTES) })
    }

    fn read(&mut self, each: &mut dyn FnMut(Heard<'_>) -> io::Result<()>) -> io::Result<()> {
        if self.file.metadata()?.len() < self.read_bytes {
            // Somebody cut it.
            self.read_bytes = self.file.seek(SeekFrom::Start(0))?;
            self.lines = LineSplitter::new(RLOG_LINE_MAX_BYTES);
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let bytes = self.file.read(&mut chunk)?;
            if bytes == 0 {
                return Ok(());
            }
            self.read_bytes += bytes as u64;
            let mut failed = Ok(());
            self.lines.push(chunk.get(..bytes).unwrap_or_default(), |line| {
                if failed.is_ok() {
                    failed = give(line, each);
                }
            });
            failed?;
        }
    }

    /// A last line without its end.
    fn finish(&mut self, each: &mut dyn FnMut(Heard<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut failed = Ok(());
        self.lines.finish(|line| failed = give(line, each));
        failed
    }
}

fn give(line: Line<'_>, each: &mut dyn FnMut(Heard<'_>) -> io::Result<()>) -> io::Result<()> {
    match line {
        Line::Whole(line) => each(Heard::Line(&String::from_utf8_lossy(line))),
        Line::TooLong(bytes) => each(Heard::Line(&format!("# a line of {bytes} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn write(project: &Path, log: &str, text: &str) {
        let path = folder(project).join(log);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    #[test]
    fn a_log_is_followed_across_runs_and_midnight() {
        let project = tempfile::tempdir().unwrap();
        let root = project.path().to_owned();
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let signals = SignalPipe::new(&[os::signals::Signal::WindowChange]).unwrap();
        let mut follower = Follower::new(&root, None, ours.as_fd(), &signals).unwrap();
        // What is written at each step, and what is then heard; nothing is there at first.
        let steps: [(&str, &str, &[&str]); 6] = [
            ("20261121/235900-a.rlog", "a: one\na: tw", &["> 20261121-235900-a", "a: one"]),
            ("20261121/235900-a.rlog", "o\n", &["a: two"]),
            ("20261121/235930-b.rlog", "a: b\n", &["> 20261121-235930-b", "a: b"]),
            ("20261121/235930-b.rlog", "a: torn", &[]),
            ("20261122/000001-c.rlog", "a: c\n", &["a: torn", "> 20261122-000001-c", "a: c"]),
            ("20261122/000001-c.rlog", "@end reason=done\n", &["@end reason=done"]),
        ];
        for (log, text, expected) in steps {
            follower.watch().unwrap();
            write(&root, log, text);
            let mut heard = Vec::new();
            let mut each = |what: Heard<'_>| {
                heard.push(match what {
                    Heard::Log(log) => format!("> {}", log.id()),
                    Heard::Line(line) => line.to_owned(),
                });
                Ok(())
            };
            // The way to the first log is made step by step.
            loop {
                assert_eq!(follower.wait().unwrap(), Waited::More);
                follower.watch().unwrap();
                follower.read(&mut each).unwrap();
                let mut ready = Vec::new();
                follower.poller.wait(Some(0), &mut ready).unwrap();
                if ready.is_empty() {
                    break;
                }
            }
            assert_eq!(heard, expected, "{log} {text:?}");
        }
        drop(_theirs);
        assert_eq!(follower.wait().unwrap(), Waited::Over);
    }
}
