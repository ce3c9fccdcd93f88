//! `autopilot log`.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;

use os::signals::{Signal, SignalPipe};
use wire::rlog::read::Reader;
use worker::record::{self, Follower, Heard, Log, Paint};

use super::{choose, project, unreadable};
use crate::cli::record::ShowLog;
use crate::cli::report::{Exit, Failure, note, printable, written};

/// So many are shown before it goes on.
const FOLLOWED_LINES: usize = 20;
/// A longer line is not shown.
const LINE_MAX_BYTES: usize = 1 << 20;

pub(crate) fn show(show: &ShowLog) -> Result<(), Failure> {
    let paint = super::paint();
    if show.list {
        return list(show);
    }
    if !show.follow {
        let log = choose(&show.place, show.run.as_deref())?;
        return written(lines(&log, show.count, paint).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => error,
            kind => io::Error::new(kind, format!("{}: {error}", log.path.display())),
        }));
    }
    let project = project(&show.place)?;
    let first = match record::choose(&project, show.run.as_deref()) {
        Ok(log) => Some(log),
        Err(record::NotFound::NoLogs(folder)) => {
            note(&mut io::stderr().lock(), format!("no logs yet in {}; waiting", folder.display()), None).ok();
            None
        }
        Err(error) => return Err(super::not_found(&error)),
    };
    follow(&project, first, show.count.unwrap_or(FOLLOWED_LINES), paint)
}

fn list(show: &ShowLog) -> Result<(), Failure> {
    let project = project(&show.place)?;
    let logs = record::all(&project)
        .map_err(|error| Failure::new(Exit::Internal, format!("cannot read {}: {error}", project.display())))?;
    let mut out = io::stdout().lock();
    written(logs.iter().try_for_each(|log| writeln!(out, "{}", printable(&log.id()))))
}

fn lines(log: &Log, count: Option<usize>, paint: Paint) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut reader = Reader::default();
    let mut last = VecDeque::new();
    let mut failed = Ok(());
    let mut each = |line: &str| {
        let line = paint.line(&mut reader, line);
        match count {
            None if failed.is_ok() => failed = writeln!(out, "{line}"),
            None => {}
            Some(count) => {
                last.push_back(line);
                if last.len() > count {
                    last.pop_front();
                }
            }
        }
    };
    if log.is_events() {
        record::script(log, |step| {
            each(&step.line);
            true
        })?;
    } else {
        record::each_line(&log.path, LINE_MAX_BYTES, |line| {
            each(&String::from_utf8_lossy(line.unwrap_or(b"# a line that is too long to be shown")));
        })?;
    }
    failed?;
    last.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    out.flush()
}

fn follow(project: &std::path::Path, first: Option<Log>, count: usize, paint: Paint) -> Result<(), Failure> {
    let cannot = |error: io::Error| {
        Failure::new(Exit::Internal, format!("cannot follow the logs of {}: {error}", project.display()))
            .hint("without -f it works all the same")
    };
    let signals = SignalPipe::new(&[Signal::Int, Signal::Term, Signal::Hup]).map_err(cannot)?;
    let mut reader = Reader::default();
    // What is there already is cut to its last lines.
    let mut skip = 0_usize;
    if let Some(log) = &first {
        record::each_line(&log.path, LINE_MAX_BYTES, |_| skip += 1).map_err(|error| unreadable(log, &error))?;
        skip = skip.saturating_sub(count);
    }
    let stdout = io::stdout();
    let mut follower = Follower::new(project, first, stdout.as_fd(), &signals).map_err(cannot)?;
    let mut each = |heard: Heard<'_>| {
        let text = match heard {
            Heard::Log(log) => {
                (reader, skip) = (Reader::default(), 0);
                paint.bold(&format!("== {} ==", printable(&log.id())))
            }
            Heard::Line(line) => paint.line(&mut reader, line),
        };
        if skip > 0 {
            skip -= 1;
            return Ok(());
        }
        let mut out = stdout.lock();
        writeln!(out, "{text}")?;
        out.flush()
    };
    written(follower.follow(&mut each))
}
