//! The worker's command line, carried out.

use std::ffi::OsString;
use std::process::ExitCode;

use worker::{Environment, RunArgs};

use crate::cli::finish;
use crate::cli::report::{Exit, Failure};
use crate::cli::worker::{Command, Run, parse_from};
use crate::record;

/// The whole program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match parse_from(arguments) {
        Ok(command) => command,
        Err(error) => return finish(&error),
    };
    match command {
        Command::Run(run) => work(run),
        Command::Log(show) => done(record::log::show(&show)),
        Command::Replay(replay) => done(record::replay::play(&replay)),
        Command::Analyze(analyze) => done(record::analyze::show(&analyze)),
        Command::Compare(compare) => done(record::compare::show(&compare)),
        Command::Apm(apm) => done(record::apm::show(&apm)),
        Command::Logs(logs) => done(record::logs::tidy(&logs)),
        Command::Project(project) => crate::projects::main(&project, &environment()),
        Command::Issue(issue) => crate::issues::main(&issue, &environment()),
        Command::Mcp(mcp) => crate::tools::main(&mcp, &environment()),
        Command::Budget(budget) => crate::budget::main(&budget, &environment()),
        Command::Demo(demo) => crate::demo::main(demo.agent),
    }
}

fn done(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
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
    let env = environment();
    let is_of_queue = run.prompt.is_none() && run.full_auto;
    let (project, cwd) = crate::projects::for_worker(&env, run.project, cwd, is_of_queue);
    let args = RunArgs {
        full_auto: run.full_auto,
        project,
        model: run.model,
        max_turns: run.max_turns,
        max_budget_usd: run.max_budget,
        cwd,
        prompt: run.prompt,
        wait: run.wait,
        // Under the daemon this is an immutable copy: what the user copies over `bin/autopilot` changes no running session.
        mcp: std::env::current_exe().ok(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    ExitCode::from(worker::run(&args, &env).code())
}

fn no_current_dir(error: &std::io::Error) -> ExitCode {
    Failure::new(Exit::Internal, format!("cannot tell the current directory: {error}"))
        .hint("change to a folder that exists, or name one with --cwd")
        .report()
}
