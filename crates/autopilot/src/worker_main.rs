//! The worker's command line, carried out.

use std::ffi::OsString;
use std::process::ExitCode;

use worker::{Environment, RunArgs};

use crate::cli::finish;
use crate::cli::report::{Exit, Failure};
use crate::cli::worker::{Command, Run, parse_from};

/// The whole program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match parse_from(arguments) {
        Ok(command) => command,
        Err(error) => return finish(&error),
    };
    match command {
        Command::Run(run) => work(run),
        Command::Demo(demo) => crate::demo::main(demo.agent),
    }
}

fn environment() -> Environment {
    Environment::from_variables(std::env::vars_os())
}

fn work(run: Run) -> ExitCode {
    let cwd = match run.cwd {
        Some(cwd) => cwd,
        None => match std::env::current_dir() {
            Ok(cwd) => cwd,
            Err(error) => return no_current_dir(&error),
        },
    };
    let args = RunArgs {
        full_auto: run.full_auto,
        project: run.project,
        model: run.model,
        max_turns: run.max_turns,
        max_budget_usd: run.max_budget,
        cwd,
        prompt: run.prompt,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    ExitCode::from(worker::run(&args, &environment()).code())
}

fn no_current_dir(error: &std::io::Error) -> ExitCode {
    Failure::new(Exit::Internal, format!("cannot tell the current directory: {error}"))
        .hint("change to a folder that exists, or name one with --cwd")
        .report()
}
