//! `autopilotd [OPTIONS] [COMMAND]`.
//!
//! Every option is accepted before and after every command, also where it changes nothing: a shell alias such as
//! `autopilotd -w . -p demo "$@"` is worth more than strictness. What changes nothing is named in
//! [`Invocation::ignored`], and the program says so: who writes `restart-worker --model opus` must learn that it is the
//! daemon's start that counts.

use super::number;
use clap::{Args, Parser, Subcommand};
use daemon::config::Flags;
use std::ffi::OsString;
use std::path::PathBuf;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Start,
    Status,
    RestartWorker,
    StopWorker,
    StartWorker,
    Stop,
    Config,
}

/// A whole command line, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    pub command: Command,
    /// `--config`.
    pub config: Option<PathBuf>,
    pub flags: Flags,
    /// Print data instead of text.
    pub json: bool,
    /// Options that change nothing for this command.
    pub ignored: Vec<&'static str>,
}

const AFTER_HELP: &str = "\
Examples:
  autopilotd -w ~/code/app -p app --prompt \"Fix the failing tests\"
                                  Keep a worker at it, here in the terminal
  nohup autopilotd -w . -p app &  The same in the background
  autopilotd status               What the worker does
  autopilotd status --json        The same for programs
  autopilotd restart-worker       Fresh worker, same daemon
  autopilotd config               Every setting, its value, and who chose it
  autopilotd stop                 End the worker and the daemon

Environment:
  AUTOPILOT_HOME                  The daemon's files [default: ~/.autopilot]
  AUTOPILOT_WORKER_BINARY         The worker's program [default: ~/.autopilot/bin/autopilot]
  AUTOPILOT_STALL_TIMEOUT_MS      Stall detection [default: 300000, 5 min; 0 = off]
  AUTOPILOT_RECOVERY_COOLDOWN_MS  Pause after too many failures [default: 600000, 10 min]

A setting is taken from the command line, else the environment, else the config file.

Exit codes:
  0 done, 1 internal error, 2 wrong usage, 3 no daemon answers,
  4 a daemon already runs for this home, 5 a setting is wrong, 6 the daemon refused the command";

/// Keeps an autopilot worker at work: restarts it when it dies, hangs or runs out of memory.
#[derive(Debug, Parser)]
#[command(
    name = "autopilotd",
    version,
    after_help = AFTER_HELP,
    args_override_self = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Debug, Args)]
struct Options {
    /// Config file [default: ~/.autopilot/daemon.toml]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Working directory for worker [default: the current one]
    #[arg(short, long, value_name = "PATH", global = true)]
    workdir: Option<PathBuf>,
    /// Project name
    #[arg(short, long, value_name = "NAME", global = true)]
    project: Option<String>,
    /// Model to use [default: sonnet]
    #[arg(long, value_name = "MODEL", global = true)]
    model: Option<String>,
    /// Maximum budget, over all restarts; 0 = no limit [default: 0]
    #[arg(long, value_name = "USD", global = true, allow_negative_numbers = true, value_parser = number::budget)]
    max_budget: Option<f64>,
    /// Maximum turns, over all restarts; 0 = no limit [default: 99999]
    #[arg(long, value_name = "N", global = true, allow_negative_numbers = true, value_parser = number::turns)]
    max_turns: Option<u64>,
    /// What the worker is asked to do
    #[arg(long, value_name = "TEXT", global = true, allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Print data instead of text (status, config)
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Verb {
    /// Start the daemon, in the foreground (the default)
    Start,
    /// Show what the worker does
    Status,
    /// Restart the worker at once, whatever it waits for
    RestartWorker,
    /// Stop the worker until start-worker or restart-worker
    StopWorker,
    /// Start the worker after stop-worker
    StartWorker,
    /// Stop the worker and the daemon
    Stop,
    /// Show every setting in force and who chose it; starts nothing
    Config,
}

/// Understands a command line; the first argument is the program's name.
///
/// # Errors
/// Wrong usage, and requests for help and version; see [`super::finish`].
pub fn parse_from<I, T>(arguments: I) -> Result<Invocation, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let Cli { options, command } = Cli::try_parse_from(arguments)?;
    let command = match command {
        None | Some(Verb::Start) => Command::Start,
        Some(Verb::Status) => Command::Status,
        Some(Verb::RestartWorker) => Command::RestartWorker,
        Some(Verb::StopWorker) => Command::StopWorker,
        Some(Verb::StartWorker) => Command::StartWorker,
        Some(Verb::Stop) => Command::Stop,
        Some(Verb::Config) => Command::Config,
    };
    let ignored = ignored(command, &options);
    let Options { config, workdir, project, model, max_budget, max_turns, prompt, json } = options;
    let flags = Flags { workdir, project, model, prompt, max_budget, max_turns };
    Ok(Invocation { command, config, flags, json, ignored })
}

/// `--config` is never named: it belongs to the alias.
fn ignored(command: Command, options: &Options) -> Vec<&'static str> {
    let has_json = matches!(command, Command::Status | Command::Config);
    let has_settings = matches!(command, Command::Start | Command::Config);
    let settings = [
        ("--workdir", options.workdir.is_some()),
        ("--project", options.project.is_some()),
        ("--model", options.model.is_some()),
        ("--max-budget", options.max_budget.is_some()),
        ("--max-turns", options.max_turns.is_some()),
        ("--prompt", options.prompt.is_some()),
    ];
    let settings = settings.into_iter().filter(|(_, given)| *given && !has_settings).map(|(name, _)| name);
    settings.chain((options.json && !has_json).then_some("--json")).collect()
}

/// The definition, for man pages and completions.
pub fn definition() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}
