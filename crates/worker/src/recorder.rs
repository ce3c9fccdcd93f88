//! The sole writer of a run's two logs: the `.rlog` for people and, beside it, the `.jsonl` with the full events.
//!
//! Everything passes the redactor before it is cut to its length, so that no part of a secret is left.
//!
//! A log that cannot be written never stops the job: the loss is said once on stderr, counted, and told in the log when there
//! is space again. Nothing is ever overwritten, and a log that somebody deletes is begun anew.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use wire::redact::Redactor;
use wire::rlog::{Entry, Header};

use crate::complain;
use crate::progress::Progress;
use os::append::Appender;

/// After a refusal the disk is asked again no sooner than this.
const RETRY_MS: u64 = 5_000;

/// What goes to stdout of what goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    /// All of it: somebody looks on.
    Body,
    /// Only statuses, starts and ends: it is kept in a supervisor's file.
    Terse,
}

/// What the header says of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    pub(crate) repo_sha: String,
    pub(crate) branch: String,
    pub(crate) model: String,
    pub(crate) cwd: PathBuf,
    pub(crate) version: String,
    /// For the file's name.
    pub(crate) slug: String,
}

/// The two logs of a run.
#[derive(Debug)]
pub(crate) struct Recorder {
    about: About,
    echo: Echo,
    open: bool,
    rlog: Option<Appender>,
    jsonl: Option<Appender>,
    lost_lines: u64,
    refused_at_ms: Option<u64>,
    /// It was said that lines are being lost.
    said: bool,
    redactor: Redactor,
    progress: Progress,
}

impl Recorder {
    pub(crate) fn new(about: About, echo: Echo, redactor: Redactor, progress: Progress) -> Self {
        Self {
            progress,
            redactor,
            about,
            echo,
            open: false,
            rlog: None,
            jsonl: None,
            lost_lines: 0,
            refused_at_ms: None,
            said: false,
        }
    }

    /// A log was begun, on disk or in vain, and not closed.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// For the name of the next log.
    pub(crate) fn set_slug(&mut self, slug: String) {
        self.about.slug = slug;
    }

    pub(crate) fn cwd(&self) -> &Path {
        &self.about.cwd
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.rlog.as_ref().map(Appender::path)
    }

    /// Begins a log.
    pub(crate) fn open(&mut self) {
        self.open = true;
        self.refused_at_ms = None;
        self.lost_lines = 0;
        if let Err(error) = self.create() {
            self.refused(&error);
        }
    }

    /// Adds an entry to the log; says it on stdout whether or not there is a log.
    pub(crate) fn entry(&mut self, entry: &Entry<'_>) {
        let line = without_secrets(entry, &self.redactor, &|entry| entry.line());
        let said = match self.echo {
            Echo::Body => true,
            Echo::Terse => matches!(entry, Entry::Start { .. } | Entry::Status(_) | Entry::End { .. }),
        };
        if said {
            self.progress.line(&line);
        }
        self.progress.entry(entry, &line);
        if self.open {
            self.write(line.as_bytes());
        }
    }

    /// A status line, with the time of day.
    pub(crate) fn status(&mut self, text: &str) {
        let text = format!("{} {text}", local_now().strftime("%H:%M:%S"));
        self.entry(&Entry::Status(&text));
    }

    /// Adds an event of the agent, as it came.
    pub(crate) fn event(&mut self, line: &[u8]) {
        if let Some(jsonl) = &mut self.jsonl
            && jsonl.append(&[&*self.redactor.bytes(line), b"\n"].concat()).is_err()
        {
            self.lost_lines += 1;
        }
    }

    /// Ends the log. Nothing is written after it.
    pub(crate) fn close(&mut self, end: &Entry<'_>) {
        if !self.open {
            return;
        }
        // The last line is worth one more try at a full disk.
        self.refused_at_ms = None;
        self.entry(end);
        (self.open, self.rlog, self.jsonl) = (false, None, None);
    }

    fn write(&mut self, line: &[u8]) {
        let now_ms = os::clock::monotonic_ms();
        if self.refused_at_ms.is_some_and(|at| now_ms < at + RETRY_MS) {
            self.lost_lines += 1;
            return;
        }
        if let Err(error) = self.try_write(line) {
            self.lost_lines += 1;
            self.refused(&error);
        }
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.rlog.as_ref().is_none_or(Appender::is_removed) {
            if self.rlog.take().is_some() {
                complain(format_args!("warning: the log was removed; it is begun anew"));
            }
            self.jsonl = None;
            self.create()?;
        }
        let Some(rlog) = &mut self.rlog else { return Ok(()) };
        if self.lost_lines > 0 {
            let text = format!("{} {} lines are missing here: the disk refused them", clock(), self.lost_lines);
            rlog.append(Entry::Status(&text).line().as_bytes())?;
            self.lost_lines = 0;
        }
        rlog.append(line)?;
        (self.refused_at_ms, self.said) = (None, false);
        Ok(())
    }

    fn refused(&mut self, error: &io::Error) {
        self.refused_at_ms = Some(os::clock::monotonic_ms());
        if !std::mem::replace(&mut self.said, true) {
            complain(format_args!("warning: cannot write the log under {}: {error}", self.about.cwd.display()));
            complain(format_args!("hint: the work goes on; the log does, too, when there is space again"));
        }
    }

    fn create(&mut self) -> io::Result<()> {
        let now = local_now();
        let day = self.about.cwd.join("docs/logs").join(now.strftime("%Y%m%d").to_string());
        std::fs::create_dir_all(&day)?;
        for attempt in 1..1_000 {
            let mut name = format!("{}-{}", now.strftime("%H%M%S"), self.about.slug);
            if attempt > 1 {
                // Writing into a String can't fail.
                write!(name, "-{attempt}").ok();
            }
            let path = day.join(format!("{name}.rlog"));
            let mut rlog = match Appender::create(&path) {
                Ok(rlog) => rlog,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            let jsonl = match Appender::create(&path.with_extension("jsonl")) {
                Ok(jsonl) => jsonl,
                Err(error) => {
                    // An empty log says nothing and has no end.
                    std::fs::remove_file(&path).ok();
                    if error.kind() == io::ErrorKind::AlreadyExists {
                        continue;
                    }
                    return Err(error);
                }
            };
            let header = Header {
                id: &format!("{}-{name}", now.strftime("%Y%m%d")),
                repo_sha: &self.about.repo_sha,
                branch: &self.about.branch,
                model: &self.about.model,
                cwd: &self.about.cwd.to_string_lossy(),
                agent: "claude-code",
                version: &self.about.version,
            };
            let written = rlog.append(self.redactor.text(&header.to_string()).as_bytes());
            (self.rlog, self.jsonl) = (Some(rlog), Some(jsonl));
            return written;
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Gives the entry as it may be written.
fn without_secrets(entry: &Entry<'_>, redactor: &Redactor, then: &dyn Fn(&Entry<'_>) -> String) -> String {
    let text = |text| redactor.text(text);
    match *entry {
        Entry::Start { .. } | Entry::End { .. } => then(entry),
        Entry::Init { model } => then(&Entry::Init { model: &text(model) }),
        Entry::User(said) => then(&Entry::User(&text(said))),
        Entry::Assistant(said) => then(&Entry::Assistant(&text(said))),
        Entry::Thinking(said) => then(&Entry::Thinking(&text(said))),
        Entry::Status(said) => then(&Entry::Status(&text(said))),
        Entry::Call { id, tool, arg } => then(&Entry::Call { id, tool: &text(tool), arg: &text(arg) }),
        Entry::Output { id, is_error, text: said } => then(&Entry::Output { id, is_error, text: &text(said) }),
        Entry::Subagent { parent, entry } => {
            without_secrets(entry, redactor, &|entry| then(&Entry::Subagent { parent, entry }))
        }
    }
}

/// Now, where the user is.
pub(crate) fn local_now() -> Zoned {
    local(os::clock::wall_ms())
}

/// A time of the Unix epoch, where the user is.
pub(crate) fn local(wall_ms: u64) -> Zoned {
    let timestamp = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    timestamp.to_zoned(TimeZone::system())
}

fn clock() -> String {
    local_now().strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn recorder(cwd: &Path) -> Recorder {
        let about = About { cwd: cwd.to_owned(), slug: "fix".into(), ..About::default() };
        Recorder::new(about, Echo::Terse, Redactor::default(), Progress::new(false, false))
    }

    const END: Entry<'static> = Entry::End { tokens_in: 0, tokens_out: 0, cost_usd: 0.0, reason: "done" };

    #[test]
    fn two_logs_of_one_second_are_two_files() {
        let cwd = tempfile::tempdir().unwrap();
        let mut paths: Vec<PathBuf> = (0..3)
            .map(|_| {
                let mut recorder = recorder(cwd.path());
                recorder.open();
                recorder.event(b"{\"type\":\"x\"}");
                let path = recorder.path().unwrap().to_owned();
                recorder.close(&END);
                assert!(!recorder.is_open());
                path
            })
            .collect();
        for path in &paths {
            let text = fs::read_to_string(path).unwrap();
            assert!(text.starts_with("---\nformat: rlog/1\nid: 20"), "{text}");
            assert!(text.ends_with("\n---\n@end tokens_in=0 tokens_out=0 cost_usd=0.0000 reason=done\n"), "{text}");
            assert_eq!(fs::read_to_string(path.with_extension("jsonl")).unwrap(), "{\"type\":\"x\"}\n");
        }
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 3);
    }

    #[test]
    fn a_full_disk_is_told_once_and_the_gap_is_marked() {
        let cwd = tempfile::tempdir().unwrap();
        let mut recorder = recorder(cwd.path());
        recorder.open();
        let path = recorder.path().unwrap().to_owned();
        let good = recorder.rlog.replace(Appender::open(Path::new("/dev/full"), 0o600).unwrap());
        for _ in 0..3 {
            recorder.entry(&Entry::Assistant("lost"));
        }
        assert_eq!(recorder.lost_lines, 3);
        recorder.rlog = good;
        recorder.refused_at_ms = None;
        recorder.entry(&Entry::Assistant("kept"));
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(" 3 lines are missing here: the disk refused them\na: kept\n"), "{text}");
    }

    #[test]
    fn a_log_that_was_deleted_is_begun_anew() {
        let cwd = tempfile::tempdir().unwrap();
        let mut recorder = recorder(cwd.path());
        recorder.open();
        fs::remove_dir_all(cwd.path().join("docs")).unwrap();
        recorder.entry(&Entry::Assistant("still here"));
        recorder.close(&END);
        let day = fs::read_dir(cwd.path().join("docs/logs")).unwrap().next().unwrap().unwrap().path();
        let rlog = fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path());
        let rlog = rlog.into_iter().find(|path| path.extension().is_some_and(|end| end == "rlog")).unwrap();
        let text = fs::read_to_string(rlog).unwrap();
        assert!(text.starts_with("---\n") && text.contains("---\na: still here\n@end"), "{text}");
    }

    #[test]
    fn no_place_for_a_log_stops_nothing() {
        let cwd = tempfile::tempdir().unwrap();
        fs::write(cwd.path().join("docs"), "a file").unwrap();
        let mut recorder = recorder(cwd.path());
        recorder.open();
        recorder.entry(&Entry::Assistant("x"));
        assert!(recorder.is_open());
        assert_eq!(recorder.path(), None);
        recorder.close(&END);
    }
}
