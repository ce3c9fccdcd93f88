//! `autopilotd service`: the daemon started with the machine, by a systemd user unit or by cron.
//!
//! What is written is made of the options that were given, and of the environment: systemd and cron start programs with
//! hardly any of it, and without `PATH` no worker finds its agent. Nothing that somebody else wrote is replaced or removed
//! without `--force`.

mod cron;
mod plan;
mod programs;
mod unit;
mod userunit;

#[cfg(test)]
mod tests;

use daemon::config::Config;

use crate::cli::daemon::{Invocation, Service};
use crate::cli::report::{Exit, Failure};

pub(crate) use plan::Plan;

/// The first line of all that is written: who wrote it.
const WRITTEN_BY: &str = "# Written by `autopilotd service install`; `autopilotd service uninstall` removes it.";

/// # Errors
/// Something can't be written, or was written by somebody else; or systemd or cron says no.
pub(crate) fn run(service: Service, invocation: &Invocation, config: &Config) -> Result<String, Failure> {
    let plan = Plan::new(invocation, config)?;
    if service.cron { cron::run(service, &plan) } else { userunit::run(service, &plan) }
}

/// Written by us, or not there.
fn is_ours(path: &std::path::Path) -> Result<bool, Failure> {
    use std::io::ErrorKind;
    match path.symlink_metadata() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(true),
        Err(error) => return Err(unusable(path, &error)),
        // A link, such as systemd's to /dev/null for a masked unit, is somebody's decision.
        Ok(meta) if !meta.is_file() => return Ok(false),
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(|error| unusable(path, &error))?;
    Ok(String::from_utf8_lossy(&bytes).lines().any(|line| line == WRITTEN_BY))
}

fn unusable(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Config, format!("cannot use {}: {error}", path.display()))
}

fn not_ours(path: &std::path::Path) -> Failure {
    Failure::new(Exit::Config, format!("{} was not written by this command", path.display()))
        .hint("look at it; --force replaces or removes it all the same")
}
