//! The commands that show the record. What the logs say is `worker::record`'s to find; here it becomes words and colours.

pub(crate) mod analyze;
pub(crate) mod apm;
pub(crate) mod compare;
pub(crate) mod log;
pub(crate) mod logs;
pub(crate) mod replay;
mod words;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use worker::record::{self, Log, NotFound, Paint};

use crate::cli::record::Place;
use crate::cli::report::{Exit, Failure};

/// For stdout: coloured in a terminal, unless `NO_COLOR` is set (https://no-color.org) or the terminal can't.
fn paint() -> Paint {
    let variables = worker::Environment::from_variables(std::env::vars_os());
    Paint::new(io::stdout().is_terminal() && variables.colour())
}

fn project(place: &Place) -> Result<PathBuf, Failure> {
    match &place.cwd {
        Some(cwd) if cwd.is_dir() => Ok(cwd.clone()),
        Some(cwd) => Err(Failure::new(Exit::Usage, format!("there is no folder {}", cwd.display()))
            .hint("name the project's folder, in which docs/logs is")),
        None => std::env::current_dir()
            .map_err(|error| Failure::new(Exit::Internal, format!("cannot tell the current directory: {error}"))),
    }
}

/// The logs that a command is about.
fn logs_at(path: Option<&Path>, place: &Place) -> Result<Vec<Log>, Failure> {
    let logs = match path {
        Some(path) => record::in_path(path),
        None => record::in_path(&project(place)?),
    };
    logs.map_err(|error| not_found(&error))
}

fn choose(place: &Place, run: Option<&str>) -> Result<Log, Failure> {
    record::choose(&project(place)?, run).map_err(|error| not_found(&error))
}

fn not_found(error: &NotFound) -> Failure {
    let failure = Failure::new(Exit::Usage, error);
    match error {
        NotFound::NoLogs(_) => failure.hint("change to the project's folder, or name it with --cwd"),
        NotFound::Nobody(_) => failure.hint("autopilot log --list shows all there are"),
        NotFound::Several { .. } => failure.hint("give more of its name"),
        NotFound::NoLog(_) => failure.hint("name a log, or a folder with logs"),
        NotFound::Nothing(_) => {
            failure.hint("name a log, a folder with logs, or none and --cwd with the project's folder")
        }
        NotFound::Unreadable { .. } => failure,
    }
}

fn unreadable(log: &Log, error: &io::Error) -> Failure {
    Failure::new(Exit::Internal, format!("cannot read {}: {error}", log.path.display()))
}
