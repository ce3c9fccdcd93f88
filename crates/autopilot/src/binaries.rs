//! `autopilotd install`, `binaries`, `rollback`, `pin`, `unquarantine`: the operator's hand in the store of worker binaries. All
//! of it happens in this process, with or without a daemon; a daemon notices before its next start.

use std::io;
use std::path::PathBuf;

use daemon::binary::{Admission, Binary, Desk, Refusal, Shown, Standing};
use daemon::config::Config;
use daemon::duration;

use crate::build;
use crate::cli::daemon::{Binaries, Install};
use crate::cli::report::{Exit, Failure, note};

/// Carry it out; what is to be printed. `config`: what is in force, as far as it can be read.
///
/// # Errors
/// It was not done.
pub(crate) fn run(what: &Binaries, desk: &Desk, config: Option<&Config>, json: bool) -> Result<String, Failure> {
    match what {
        Binaries::Install(install) => self::install(desk, install, config),
        Binaries::List if json => list_json(&desk.list()),
        Binaries::List => Ok(list(&desk.list(), os::clock::wall_ms())),
        Binaries::Rollback(hash) => {
            let binary = desk.roll_back(hash.as_deref()).map_err(refused)?;
            Ok(format!("Rolled back to {binary}: {}\n", next_start(&binary)))
        }
        Binaries::Pin(Some(hash)) if hash != "none" => {
            let pinned = desk.pin(Some(hash)).map_err(refused)?;
            Ok(pinned.map_or_else(String::new, |binary| {
                format!("Pinned {binary}: {}, whatever is installed\n", next_start(&binary))
            }))
        }
        Binaries::Pin(_) => {
            desk.pin(None).map_err(refused)?;
            Ok("Nothing is pinned any more: the next start runs what was installed last\n".to_owned())
        }
        Binaries::Unquarantine(hash) => {
            let binary = desk.unquarantine(hash).map_err(refused)?;
            Ok(format!("{binary} has another chance: {}\n", next_start(&binary)))
        }
    }
}

fn next_start(binary: &Binary) -> &'static str {
    match binary.standing {
        Standing::Candidate => "the next start runs it, in probation",
        Standing::Good | Standing::Quarantined => "the next start runs it",
    }
}

fn refused(refusal: Refusal) -> Failure {
    let exit = if matches!(refusal, Refusal::Store(_)) { Exit::Internal } else { Exit::Refused };
    let hint = refusal.hint();
    Failure::new(exit, refusal).hint(hint)
}

fn install(desk: &Desk, install: &Install, config: Option<&Config>) -> Result<String, Failure> {
    let source = match (&install.path, install.build) {
        (Some(path), _) => path.clone(),
        (None, true) => {
            let here = std::env::current_dir().map_err(|error| Failure::new(Exit::Internal, error))?;
            build::build(&build::folder(config, here))?
        }
        (None, false) if install.agent => daemon::agent_source(config).ok_or_else(|| {
            Failure::new(Exit::Refused, "claude is not in PATH")
                .hint("npm install -g @anthropic-ai/claude-code, or name its file: autopilotd install --agent PATH")
        })?,
        (None, false) => {
            return Err(Failure::new(Exit::Usage, "which file is to be installed?")
                .hint("autopilotd install target/release/autopilot, or autopilotd install --build"));
        }
    };
    let source: PathBuf = source.canonicalize().unwrap_or(source);
    let shown = source.display();
    match desk.install(source.clone()) {
        Admission::Admitted { sha256, version, standing, is_new } => {
            let size = std::fs::metadata(&source).map_or(0, |metadata| metadata.len());
            let what = if is_new { "Installed" } else { "Was installed already:" };
            let copy = sha256.get(..12).unwrap_or(&sha256);
            let probation = config.map_or(600_000, |config| config.job.probation_ms.value);
            let then = match standing {
                Standing::Candidate => format!("the next start runs it, in probation for {}", duration(probation)),
                Standing::Good | Standing::Quarantined => "proven; the next start runs it".to_owned(),
            };
            if let Some(pinned) = desk.list().iter().find(|shown| shown.is_pinned) {
                let message = format!("{} is pinned: that one runs, whatever is installed", pinned.binary);
                note(&mut io::stderr().lock(), message, Some("autopilotd pin none")).ok();
            }
            Ok(format!("{what} {version}, copy {copy} ({}): {then}\n", size_of(size)))
        }
        Admission::Quarantined { sha256, reason, .. } => {
            let copy = sha256.get(..12).unwrap_or(&sha256);
            Err(Failure::new(
                Exit::Refused,
                format!("cannot install {shown}: its copy {copy} is in quarantine: {reason}"),
            )
            .hint(format!("autopilotd unquarantine {copy}")))
        }
        Admission::Unfit(unfit) => Err(Failure::new(Exit::Refused, format!("cannot install {shown}: {unfit}"))
            .hint("what was installed before is as it was")),
        Admission::NotStored { reason } => {
            Err(Failure::new(Exit::Internal, format!("cannot install {shown}: the store can't be written: {reason}"))
                .hint("is there space in the home, and is it yours?"))
        }
    }
}

fn size_of(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

fn list(binaries: &[Shown], now_unix_ms: u64) -> String {
    use std::fmt::Write;
    if binaries.is_empty() {
        return "No binary is installed\n".to_owned();
    }
    let head = ["", "HASH", "VERSION", "SIZE", "INSTALLED", "STATE", "RUNS", "MEAN LIFE"].map(str::to_owned);
    let rows: Vec<[String; 8]> = binaries.iter().map(|shown| row(shown, now_unix_ms)).collect();
    let width = |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).enumerate();
        // Numbers to the right.
        let cells = cells.map(|(column, (cell, width))| match column {
            3 | 6 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        let joined = cells.collect::<Vec<_>>().join("  ");
        // Writing to a String can't fail.
        writeln!(text, "{}", joined.trim_end()).ok();
    };
    line(&head);
    for row in &rows {
        line(row);
    }
    for shown in binaries {
        if let Some(reason) = &shown.binary.reason {
            writeln!(text, "{}: {reason}", shown.binary.short()).ok();
        }
    }
    text
}

fn row(shown: &Shown, now_unix_ms: u64) -> [String; 8] {
    let binary = &shown.binary;
    let mark = if shown.is_current { "*" } else { "" };
    let installed = format!("{} ago", duration(now_unix_ms.saturating_sub(binary.installed_unix_ms) / 1_000 * 1_000));
    let pinned = if shown.is_pinned { ", pinned" } else { "" };
    [
        mark.to_owned(),
        binary.short().to_owned(),
        binary.version.clone(),
        size_of(binary.size_bytes),
        installed,
        format!("{}{pinned}", binary.standing.name()),
        shown.lives.runs.to_string(),
        shown.lives.mean_ms().map_or_else(|| "-".to_owned(), duration),
    ]
}

fn list_json(binaries: &[Shown]) -> Result<String, Failure> {
    let shown: Vec<serde_json::Value> = binaries
        .iter()
        .map(|shown| {
            let binary = &shown.binary;
            serde_json::json!({
                "sha256": binary.sha256,
                "version": binary.version,
                "size_bytes": binary.size_bytes,
                "installed_unix_ms": binary.installed_unix_ms,
                "state": binary.standing.name(),
                "reason": binary.reason,
                "attempts": binary.attempts,
                "runs": shown.lives.runs,
                "mean_life_ms": shown.lives.mean_ms(),
                "current": shown.is_current,
                "pinned": shown.is_pinned,
            })
        })
        .collect();
    let json = serde_json::to_string_pretty(&shown).map_err(|error| Failure::new(Exit::Internal, error))?;
    Ok(format!("{json}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_tables_read_well() {
        assert_eq!(size_of(4_404_020), "4.2 MB");
        assert_eq!(size_of(100), "0.0 MB");
        assert_eq!(list(&[], 0), "No binary is installed\n");
    }
}
