//! The daemon's command line, carried out.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::client::{AskError, ask};
use daemon::config::{self, Config, Environment, Inputs};
use daemon::{Home, StartError};
use wire::control::{FailedKind, Status, Verb};

use crate::cli::daemon::{Command, Invocation, parse_from};
use crate::cli::finish;
use crate::cli::report::{Exit, Failure, note};

/// The whole program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let invocation = match parse_from(arguments) {
        Ok(invocation) => invocation,
        Err(error) => return finish(&error),
    };
    if !invocation.ignored.is_empty() {
        let options = invocation.ignored.join(", ");
        let hint = "options count when the daemon is started: autopilotd stop, then start it with them";
        note(&mut io::stderr().lock(), format!("{options} changes nothing for this command"), Some(hint)).ok();
    }
    let done = match invocation.command {
        Command::Start => start(&invocation),
        Command::Config => show_config(&invocation),
        Command::Status => show_status(&invocation),
        Command::RestartWorker => tell(&invocation, Verb::RestartWorker),
        Command::StopWorker => tell(&invocation, Verb::StopWorker),
        Command::StartWorker => tell(&invocation, Verb::StartWorker),
        Command::Stop => tell(&invocation, Verb::Stop),
    };
    match done {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => failure.report(),
    }
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

fn start(invocation: &Invocation) -> Result<(), Failure> {
    let config = load(invocation)?;
    config::check_working_dir(&config)?;
    let intro = intro(&config);
    let mut daemon = daemon::start(config).map_err(|error| not_started(&error))?;
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
        StartError::Kernel { .. } => (Exit::Internal, error.to_string()),
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
    print(&config::to_text(&config))
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

fn tell(invocation: &Invocation, verb: Verb) -> Result<(), Failure> {
    debug_assert!(invocation.command != Command::Start);
    let reply = ask(&home()?.control_socket(), verb).map_err(|error| not_asked(&error))?;
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
        AskError::Interrupted { .. } => failure(Exit::NoDaemon).hint("ask again; its worker lives on without it"),
        AskError::Broken { .. } => failure(Exit::Internal),
    }
}

/// A reader that goes away early is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Internal, format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}
