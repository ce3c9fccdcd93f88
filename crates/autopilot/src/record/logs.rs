//! `autopilot logs archive` and `cleanup`.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use worker::record::{Change, Housekeeping, Kept, Tidied};

use super::project;
use super::words::{bytes, count};
use crate::cli::record::{Logs, Place};
use crate::cli::report::{Exit, Failure, printable, written};
use crate::cli::since::Since;

pub(crate) fn tidy(logs: &Logs) -> Result<(), Failure> {
    match logs {
        Logs::Archive(old) => run(Change::Pack, old.older_than, old.max_size, old.dry_run, &old.place),
        Logs::Cleanup(old) => run(Change::Remove, old.older_than, old.max_size, old.dry_run, &old.place),
    }
}

fn run(change: Change, older_than: Since, max_bytes: Option<u64>, dry_run: bool, place: &Place) -> Result<(), Failure> {
    let project = project(place)?;
    let now = Timestamp::from_millisecond(i64::try_from(os::clock::wall_ms()).unwrap_or(0)).unwrap_or_default();
    let before_ms = older_than.at_unix_ms(&now.to_zoned(TimeZone::system()));
    let job = Housekeeping { change, before_ms, max_bytes, dry_run };
    let mut out = io::stdout().lock();
    let (mut logs, mut freed, mut failed, mut told) = (0, 0, Vec::new(), Ok(()));
    let (does, did) = match change {
        Change::Pack => ("pack", "packed"),
        Change::Remove => ("remove", "removed"),
    };
    let listed = job.run(&project, |outcome| {
        let line = match outcome {
            Tidied::Changed { log, before_bytes, after_bytes } => {
                (logs, freed) = (logs + 1, freed + before_bytes.saturating_sub(*after_bytes));
                let left = if *after_bytes > 0 { format!(" to {}", bytes(*after_bytes)) } else { String::new() };
                format!("{did} {}  {}{left}", printable(&log.id()), bytes(*before_bytes))
            }
            Tidied::Would { log, before_bytes } => {
                (logs, freed) = (logs + 1, freed + before_bytes);
                format!("would {does} {}  {}", printable(&log.id()), bytes(*before_bytes))
            }
            Tidied::Kept { log, why: Kept::Living } => {
                format!("kept {}  it may still be written to", printable(&log.id()))
            }
            Tidied::Kept { why: Kept::Packed, .. } => return,
            Tidied::Failed { log, error } => {
                failed.push(format!("{}: {error}", log.id()));
                return;
            }
        };
        if told.is_ok() {
            told = writeln!(out, "{line}");
        }
    });
    listed.map_err(|error| Failure::new(Exit::Internal, format!("cannot read {}: {error}", project.display())))?;
    let sum = match (change, dry_run) {
        (Change::Pack, true) => format!("would pack {} logs of {}", count(logs), bytes(freed)),
        (Change::Remove, true) => format!("would remove {} logs and free {}", count(logs), bytes(freed)),
        (_, false) => format!("{did} {} logs, {} freed", count(logs), bytes(freed)),
    };
    written(told.and_then(|()| writeln!(out, "{sum}")))?;
    match failed.first() {
        None => Ok(()),
        Some(first) => {
            let others = if failed.len() > 1 { format!(" (and {} more)", failed.len() - 1) } else { String::new() };
            Err(Failure::new(Exit::Internal, format!("cannot {does} {first}{others}")))
        }
    }
}
