//! `autopilot mcp`: which database is served.

use std::process::ExitCode;

use queue::Queue;
use worker::Environment;

use crate::cli::queue::Mcp;
use crate::cli::report::{Exit, Failure};
use crate::projects::{failed, find_or_make};

pub(crate) fn main(mcp: &Mcp, env: &Environment) -> ExitCode {
    let queue = match &mcp.database {
        Some(path) => Queue::open(path).map_err(|error| failed(&error)),
        None => find_or_make(env, mcp.project.as_deref()).map(|known| known.queue),
    };
    let served = queue.and_then(|queue| {
        mcp::serve(queue, mcp.task, env.redactor())
            .map_err(|error| Failure::new(Exit::Internal, format!("cannot serve tools: {error}")))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
