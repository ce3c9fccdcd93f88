//! Arguments in, sentences and exit codes out.

pub mod daemon;
mod number;
pub mod queue;
pub mod record;
pub mod report;
pub mod since;
pub mod worker;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

/// Prints what clap has to say: help and version to stdout, a usage error to stderr. The exit code is 0 or 2.
pub fn finish(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell if the terminal is gone.
    error.print().ok();
    if error.use_stderr() { ExitCode::from(report::Exit::Usage as u8) } else { ExitCode::SUCCESS }
}
