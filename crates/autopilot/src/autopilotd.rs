//! The daemon's command line, carried out.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::binary::Desk;
use daemon::client::{AskError, ask, ask_for, ask_within};
use daemon::config::{self, Config, EnvVars, Environment, Inputs, WorkerCommand};
use daemon::{HANDOVER, Heir, Home, Invoked, StartError, Supervisor};
use wire::control::{FailedKind, Request, Status, Verb};

use crate::binaries;
use crate::cli::daemon::{Binaries, Command, Install, Invocation, parse_from};
use crate::cli::finish;
use crate::cli::report::{Exit, Failure, note, print};
use crate::events;
use crate::service;
use crate::upgrade::{self, REHEARSAL, WOULD_SERVE};

/// The whole program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let invoked = Invoked {
        arguments: arguments.iter().skip(1).cloned().collect(),
        environment: std::env::vars_os().filter(|(name, _)| name != HANDOVER).collect(),
    };
    let heir = Heir::new(variable(HANDOVER), invoked.clone());
    let invocation = match parse_from(arguments) {
        Ok(invocation) => invocation,
        Err(error) => {
            go_back(heir.as_ref(), &error.to_string());
            return finish(&error);
        }
    };
    for (options, hint) in ignored(&invocation.ignored) {
        note(&mut io::stderr().lock(), format!("{options} changes nothing for this command"), Some(hint)).ok();
    }
    let done = match &invocation.command {
        Command::Start if variable(REHEARSAL).is_some() => rehearsed(&invocation),
        Command::Start => start(&invocation, invoked, heir),
        Command::Config => show_config(&invocation),
        Command::Status => show_status(&invocation),
        Command::RestartWorker => tell(Verb::RestartWorker),
        Command::StopWorker => tell(Verb::StopWorker),
        Command::StartWorker => tell(Verb::StartWorker),
        Command::Stop => tell(Verb::Stop),
        Command::StopKeepWorker => tell(Verb::StopKeepWorker),
        Command::Upgrade(program) => upgrade(program.as_deref()),
        Command::Service(service) => load(&invocation)
            .and_then(|config| service::run(*service, &invocation, &config))
            .and_then(|said| print(&said)),
        Command::Binaries { what, agent } => binaries_of(what, *agent, &invocation),
        Command::Events(show) => home().and_then(|home| events::show(&home.journal(), show, invocation.json)),
    };
    match done {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => failure.report(),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the edge where the environment is read")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "this is the edge where the environment is read")]
fn environment() -> Environment {
    Environment::from_lookup(std::env::var_os)
}

fn current_dir() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        Failure::new(Exit::Config, format!("cannot tell the current directory: {error}"))
            .hint("change to a folder that exists")
    })
}

fn home() -> Result<Home, Failure> {
    Ok(Home::new(config::home_path(&environment(), &current_dir()?)?))
}

fn load(invocation: &Invocation) -> Result<Config, Failure> {
    let (environment, cwd) = (environment(), current_dir()?);
    let home = config::home_path(&environment, &cwd)?;
    let file = config::read(config::config_path(invocation.config.as_deref(), &home, &cwd));
    let loaded = config::load(&Inputs { flags: invocation.flags.clone(), environment, file, home, cwd })?;
    for warning in &loaded.warnings {
        note(&mut io::stderr().lock(), warning, Some(&warning.hint())).ok();
    }
    Ok(loaded.config)
}

/// What the new program of an upgrade says before the daemon becomes it.
fn rehearsed(invocation: &Invocation) -> Result<(), Failure> {
    config::check_working_dir(&load(invocation)?)?;
    print(&format!("{WOULD_SERVE}\n"))
}

fn go_back(heir: Option<&Heir>, why: &str) {
    if let Some(heir) = heir {
        heir.go_back(why.lines().find(|line| !line.is_empty()).unwrap_or(why));
    }
}

/// Who supervises the daemon itself.
fn supervisor() -> Supervisor {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    Supervisor {
        notify_socket: variable(EnvVars::NOTIFY_SOCKET),
        watchdog_usec: number(EnvVars::WATCHDOG_USEC),
        watchdog_pid: number("WATCHDOG_PID").and_then(|pid| u32::try_from(pid).ok()),
    }
}

fn start(invocation: &Invocation, invoked: Invoked, heir: Option<Heir>) -> Result<(), Failure> {
    daemon::keep_secret(&invoked.environment);
    let begun = load(invocation).and_then(|config| {
        config::check_working_dir(&config)?;
        let intro = intro(&config);
        let daemon = daemon::start(config, supervisor(), heir.as_ref()).map_err(|error| not_started(&error))?;
        Ok((daemon, intro))
    });
    let (mut daemon, intro) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            go_back(heir.as_ref(), failure.message());
            return Err(failure);
        }
    };
    daemon.set_invoked(invoked);
    if let Some(heir) = heir {
        heir.settle();
    }
    // A terminal that is gone, or that nobody reads, is no reason not to serve.
    os::socket::write_if_room(std::os::fd::AsFd::as_fd(&io::stderr()), intro.as_bytes());
    daemon.run().map_err(|error| Failure::new(Exit::Internal, format!("the event loop broke: {error}")))
}

fn intro(config: &Config) -> String {
    let job = &config.job;
    let project = job.project.value.as_deref().unwrap_or("-");
    let socket = Home::new(config.home.clone()).control_socket();
    format!(
        "Starting autopilotd...\n  Working dir: {}\n  Project: {project}\n  Model: {}\n  Socket: {}\n",
        job.working_dir.value.display(),
        job.model.value,
        socket.display()
    )
}

fn not_started(error: &StartError) -> Failure {
    let (exit, message) = match error {
        StartError::AlreadyRunning { pid, home } => (Exit::AlreadyRunning, already_running(*pid, home)),
        StartError::Containment(_)
        | StartError::Home { .. }
        | StartError::SocketPathTooLong { .. }
        | StartError::Socket { .. } => (Exit::Config, error.to_string()),
        StartError::TooFewDescriptors { .. } | StartError::Kernel { .. } => (Exit::Internal, error.to_string()),
    };
    Failure::new(exit, message).hint(error.hint())
}

fn already_running(pid: Option<u32>, home: &Path) -> String {
    let up = ask(&Home::new(home.to_owned()).control_socket(), Verb::Status)
        .ok()
        .and_then(|reply| reply.status)
        .map(|status| format!(", up {}", daemon::duration(status.daemon_uptime_seconds.saturating_mul(1_000))));
    let pid = pid.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}"));
    format!("autopilotd already runs for this home ({pid}{})", up.unwrap_or_default())
}

fn show_config(invocation: &Invocation) -> Result<(), Failure> {
    let config = load(invocation)?;
    if invocation.json {
        return print(&format!("{:#}\n", config::to_json(&config)));
    }
    print(&config::to_text(&config))?;
    if let Some(status) = running(&home()?) {
        let what = format!("a daemon runs (PID {}); it has the settings of its own start", status.daemon_pid);
        note(&mut io::stderr().lock(), what, Some("these are for the next one: autopilotd stop, then start it again"))
            .ok();
    }
    Ok(())
}

/// Nobody, or one that is busy, has nothing to say.
fn running(home: &Home) -> Option<Status> {
    ask_within(&home.control_socket(), Verb::Status, ANSWERS_WITHIN_MS).ok()?.status.map(|status| *status)
}

fn show_status(invocation: &Invocation) -> Result<(), Failure> {
    let reply = ask(&home()?.control_socket(), Verb::Status).map_err(|error| not_asked(&error))?;
    let status: Status = match (reply.status, reply.failed) {
        (Some(status), _) => *status,
        (None, Some(failed)) => return Err(failure(failed)),
        (None, None) => return Err(Failure::new(Exit::Internal, "the daemon's answer is no status")),
    };
    if invocation.json {
        let json = serde_json::to_string_pretty(&status);
        return print(&format!("{}\n", json.map_err(|error| Failure::new(Exit::Internal, error))?));
    }
    print(&daemon::status::text(&status, os::clock::wall_ms()))
}

/// With settings that can't be read, too: a broken line in the file is no reason not to roll back.
fn binaries_of(what: &Binaries, agent: bool, invocation: &Invocation) -> Result<(), Failure> {
    let config = load(invocation).ok();
    let home = home()?;
    let desk = if agent {
        Desk::of_agents(home.root(), daemon::agent_source(config.as_ref()))
    } else {
        let configured = match config.as_ref().and_then(|config| config.worker_command.value.clone()) {
            Some(WorkerCommand::Binary { path }) => Some(path),
            Some(WorkerCommand::Cargo { .. }) | None => None,
        };
        Desk::new(home.root(), configured)
    };
    print(&binaries::run(what, &desk, config.as_ref(), invocation.json)?)?;
    match what {
        Binaries::Install(Install { restart: true, .. }) => return tell(Verb::RestartWorker),
        Binaries::List => return Ok(()),
        Binaries::Install(_) | Binaries::Rollback(_) | Binaries::Pin(_) | Binaries::Unquarantine(_) => {}
    }
    if running(&home).is_some_and(|status| status.worker_status == "failed") {
        let hint = "to start it at once: autopilotd restart-worker";
        note(&mut io::stderr().lock(), "the worker failed, and its next start may be minutes away", Some(hint)).ok();
    }
    Ok(())
}

/// Who only wants to know what else there is to say waits no longer.
const ANSWERS_WITHIN_MS: u64 = 1_000;

fn tell(verb: Verb) -> Result<(), Failure> {
    done(ask(&home()?.control_socket(), verb).map_err(|error| not_asked(&error))?)
}

fn upgrade(program: Option<&Path>) -> Result<(), Failure> {
    let program = upgrade::program(program)?;
    let socket = home()?.control_socket();
    let status = ask(&socket, Verb::Status).map_err(|error| not_asked(&error))?.status;
    let pid = status.map(|status| status.daemon_pid).unwrap_or_default();
    upgrade::rehearse(&program, pid)?;
    let Some(path) = program.to_str() else {
        return Err(Failure::new(Exit::Config, format!("the path {} is not UTF-8", program.display())));
    };
    let request = Request { program: Some(path.to_owned()), ..Request::new(Verb::Upgrade) };
    done(ask_for(&socket, &request).map_err(|error| not_asked(&error))?)
}

fn done(reply: wire::control::Reply) -> Result<(), Failure> {
    match (reply.done, reply.failed) {
        (Some(done), _) => print(&format!("{}\n", done.message)),
        (None, Some(failed)) => Err(failure(failed)),
        (None, None) => Err(Failure::new(Exit::Internal, "the daemon's answer is none to this command")),
    }
}

fn failure(failed: wire::control::Failed) -> Failure {
    let exit = match failed.kind {
        FailedKind::BadRequest => Exit::Internal,
        FailedKind::NotPermitted | FailedKind::Refused | FailedKind::CannotStart => Exit::Refused,
    };
    let failure = Failure::new(exit, failed.message);
    match failed.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn not_asked(error: &AskError) -> Failure {
    let failure = |exit| Failure::new(exit, error);
    match error {
        AskError::NoDaemon { .. } => failure(Exit::NoDaemon)
            .hint("start it: autopilotd --workdir /path/to/project; or is another AUTOPILOT_HOME meant?"),
        AskError::NotPermitted { .. } => failure(Exit::NoDaemon).hint("ask as the user who started it"),
        AskError::Unreachable { .. } => {
            failure(Exit::NoDaemon).hint("set AUTOPILOT_HOME to a folder of yours, or ask as the user whose home it is")
        }
        AskError::Interrupted { .. } => failure(Exit::NoDaemon).hint("ask again; its worker lives on without it"),
        AskError::Silent { socket } => failure(Exit::NoDaemon)
            .hint(format!("was it stopped? kill -CONT $(cat {})", socket.with_extension("pid").display())),
        AskError::Broken { .. } => failure(Exit::Internal),
    }
}

/// Options that change nothing, and what they are for.
fn ignored(options: &[&str]) -> Vec<(String, &'static str)> {
    let (data, settings): (Vec<&str>, Vec<&str>) = options.iter().partition(|name| **name == "--json");
    let of_start = "options count when the daemon is started: autopilotd stop, then start it with them";
    let groups = [(settings, of_start), (data, "--json is for status, config, events and binaries")];
    let given = groups.into_iter().filter(|(names, _)| !names.is_empty());
    given.map(|(names, hint)| (names.join(", "), hint)).collect()
}

#[cfg(test)]
mod tests {
    use super::ignored;

    #[test]
    fn what_changes_nothing_is_told_what_it_is_for() {
        assert_eq!(ignored(&[]), []);
        assert_eq!(ignored(&["--json"]), [("--json".to_owned(), "--json is for status, config, events and binaries")]);
        let both = ignored(&["--model", "--prompt", "--json"]);
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].0, "--model, --prompt");
        assert!(both[0].1.starts_with("options count when the daemon is started"));
    }
}
