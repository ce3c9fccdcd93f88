//! `autopilot demo`.

use std::process::ExitCode;

use crate::cli::report::{Exit, Failure};
use crate::cli::worker::Agent;

/// Under construction.
pub fn main(_agent: Agent) -> ExitCode {
    Failure::new(Exit::Internal, "not built yet").report()
}
