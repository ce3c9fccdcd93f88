//! `autopilotd [OPTIONS] [COMMAND]`.
//!
//! Every option is accepted before and after every command, also where it changes nothing: a shell alias such as
//! `autopilotd -w . -p demo "$@"` is worth more than strictness. What changes nothing is named in
//! [`Invocation::ignored`], and the program says so: who writes `restart-worker --model opus` must learn that it is the
//! daemon's start that counts.

use super::number;
use super::since::{self, Since};
use clap::{Args, Parser, Subcommand};
use daemon::config::Flags;
use std::ffi::OsString;
use std::path::PathBuf;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Start,
    Status,
    RestartWorker,
    StopWorker,
    StartWorker,
    Stop,
    /// End the daemon only.
    StopKeepWorker,
    /// Become this program, else the one that asks for it.
    Upgrade(Option<PathBuf>),
    Service(Service),
    Config,
    Events(Show),
    /// Of the worker, or of the agent.
    Binaries {
        what: Binaries,
        agent: bool,
    },
}

/// The store of worker binaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binaries {
    Install(Install),
    List,
    /// To this one, or to the one that was proven last.
    Rollback(Option<String>),
    /// `none` or nothing: none any more.
    Pin(Option<String>),
    Unquarantine(String),
}

/// `install`: where the binary comes from, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct Install {
    /// The file
    #[arg(value_name = "PATH", conflicts_with = "build")]
    pub path: Option<PathBuf>,
    /// Build it first: cargo build --release -p autopilot, here or in --workdir
    #[arg(long)]
    pub build: bool,
    /// Restart the worker with it, once it is installed
    #[arg(long)]
    pub restart: bool,
    /// It is a Claude Code CLI for the worker [default: the one that the worker would find]
    #[arg(long, conflicts_with = "build")]
    pub agent: bool,
}

/// Which events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Args)]
pub struct Show {
    /// Only the last N [default: 20, or all with --since]
    #[arg(short = 'n', long = "lines", value_name = "N")]
    pub count: Option<usize>,
    /// Only from then on: 10m, 2h, 1d ago; 09:30; 2026-01-31; 2026-01-31T09:30:00Z
    #[arg(long, value_name = "TIME", value_parser = since::parse, allow_hyphen_values = true)]
    pub since: Option<Since>,
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
}

/// `service`: how the daemon is started with the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    pub action: ServiceAction,
    /// By cron instead of systemd.
    pub cron: bool,
    /// Over what somebody else wrote.
    pub force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ServiceAction {
    /// Write it and start it
    Install,
    /// Stop it and remove it
    Uninstall,
    /// Print what would be written
    Show,
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
  autopilotd events --since 1d    What happened since yesterday, and why
  autopilotd events -f            The same while it happens
  autopilotd config               Every setting, its value, and who chose it
  autopilotd stop                 End the worker and the daemon
  autopilotd upgrade              Have the daemon become this build, without touching the worker
  autopilotd install --build      Build a new worker, try it, and run it from the next start on
  autopilotd binaries             The worker binaries that there are, and what each is worth
  autopilotd service install      Have it started with the machine

Environment:
  AUTOPILOT_HOME                  The daemon's files [default: ~/.autopilot]
  AUTOPILOT_WORKER_BINARY         The worker's program [default: ~/.autopilot/bin/autopilot]
  AUTOPILOT_STALL_TIMEOUT_MS      Stall detection [default: 300000, 5 min; 0 = off]
  AUTOPILOT_RECOVERY_COOLDOWN_MS  Pause after too many failures [default: 600000, 10 min]

A setting is taken from the command line, else the environment, else the config file.

Exit codes:
  0 done, 1 internal error, 2 wrong usage, 3 no daemon answers,
  4 a daemon already runs for this home, 5 a setting is wrong, 6 the command was refused";

const EVENTS_AFTER_HELP: &str = "\
Examples:
  autopilotd events                      The last 20
  autopilotd events -n 100               The last 100
  autopilotd events --since 22:00        The night
  autopilotd events -f -n 0              Only what happens from now on
  autopilotd events --json --since 1d | jq 'select(.event.kind == \"ended\")'

They are read from workers/main/journal.jsonl in the home, and the older journal.jsonl.1 to .3.";
const STOP_EXAMPLES: &str = "\
Examples:
  autopilotd stop                 End the worker, then the daemon
  autopilotd stop --keep-worker   End the daemon only; `autopilotd start` takes the worker over";

const UPGRADE_EXAMPLES: &str = "\
Examples:
  target/release/autopilotd upgrade   Have the running daemon become this build
  autopilotd upgrade /opt/autopilotd  Have it become that one

The new program is tried first: --version, and the daemon's own settings. Options, folder and environment
stay those of the running daemon. If the new program can't serve, the old one goes on.";

const INSTALL_EXAMPLES: &str = "\
Examples:
  autopilotd install target/release/autopilot             The next start runs it
  autopilotd install target/release/autopilot --restart   At once
  autopilotd install --build --restart                    Build it here first
  autopilotd install --agent                              The Claude Code CLI as it is now, for the worker

It is copied, read back and asked for its --version before it is the one to run. What fails changes nothing.";

const SERVICE_EXAMPLES: &str = "\
Examples:
  autopilotd service show -w ~/code/app -p app      What would be written
  autopilotd service install -w ~/code/app -p app   A systemd user unit, enabled and started
  autopilotd service install --cron -w ~/code/app   A crontab entry, for machines without systemd
  autopilotd service uninstall                      Stop it, and remove what install wrote";

/// Keeps an autopilot worker at work: restarts it when it dies, hangs or runs out of memory.
#[derive(Debug, Parser)]
#[command(
    name = "autopilotd",
    version,
    after_help = AFTER_HELP,
    args_override_self = true,
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
    /// Maximum budget of a job, over all restarts; 0 = no limit [default: 0]
    #[arg(long, value_name = "USD", global = true, allow_negative_numbers = true, value_parser = number::budget)]
    max_budget: Option<f64>,
    /// Maximum turns of a job, over all restarts; 0 = no limit [default: 99999]
    #[arg(long, value_name = "N", global = true, allow_negative_numbers = true, value_parser = number::turns)]
    max_turns: Option<u64>,
    /// What the worker is asked to do
    #[arg(long, value_name = "TEXT", global = true, allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Print data instead of text (status, config, events, binaries)
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Subcommand)]
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
    #[command(after_help = STOP_EXAMPLES)]
    Stop {
        /// Stop the daemon only; the next one that is started adopts the worker
        #[arg(long)]
        keep_worker: bool,
    },
    /// Have the daemon become another build of itself; the worker is not touched
    #[command(after_help = UPGRADE_EXAMPLES)]
    Upgrade {
        /// The new program [default: the one that you call]
        #[arg(value_name = "PATH")]
        program: Option<PathBuf>,
    },
    /// Have the daemon started with the machine, by systemd or cron
    #[command(after_help = SERVICE_EXAMPLES)]
    Service {
        #[arg(value_enum)]
        action: ServiceAction,
        /// A crontab entry instead of a systemd user unit
        #[arg(long)]
        cron: bool,
        /// Replace or remove a file that this command did not write
        #[arg(long)]
        force: bool,
    },
    /// Show every setting in force and who chose it; starts nothing
    Config,
    /// Show what happened and why, also without a daemon
    #[command(after_help = EVENTS_AFTER_HELP)]
    Events(Show),
    /// Try a worker binary and put it into the store; the next start runs it
    #[command(after_help = INSTALL_EXAMPLES)]
    Install(Install),
    /// Show the worker binaries in the store; the one with * is what the next start runs
    Binaries {
        /// The agent's, not the worker's
        #[arg(long)]
        agent: bool,
    },
    /// Go back to the binary that was proven last, or to another one, from the next start on
    Rollback {
        /// Its hash, or the first digits
        #[arg(value_name = "HASH")]
        hash: Option<String>,
        /// The agent's, not the worker's
        #[arg(long)]
        agent: bool,
    },
    /// Run this binary, whatever is installed
    Pin {
        /// Its hash, or the first digits; `none`: what is installed, again
        #[arg(value_name = "HASH")]
        hash: String,
        /// The agent's, not the worker's
        #[arg(long)]
        agent: bool,
    },
    /// Give a binary that was rolled back another chance
    Unquarantine {
        /// Its hash, or the first digits
        #[arg(value_name = "HASH")]
        hash: String,
        /// The agent's, not the worker's
        #[arg(long)]
        agent: bool,
    },
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
        Some(Verb::Stop { keep_worker: false }) => Command::Stop,
        Some(Verb::Stop { keep_worker: true }) => Command::StopKeepWorker,
        Some(Verb::Upgrade { program }) => Command::Upgrade(program),
        Some(Verb::Service { action, cron, force }) => Command::Service(Service { action, cron, force }),
        Some(Verb::Config) => Command::Config,
        Some(Verb::Events(show)) => Command::Events(show),
        Some(Verb::Install(install)) => of_store(install.agent, Binaries::Install(install)),
        Some(Verb::Binaries { agent }) => of_store(agent, Binaries::List),
        Some(Verb::Rollback { hash, agent }) => of_store(agent, Binaries::Rollback(hash)),
        Some(Verb::Pin { hash, agent }) => of_store(agent, Binaries::Pin(Some(hash))),
        Some(Verb::Unquarantine { hash, agent }) => of_store(agent, Binaries::Unquarantine(hash)),
    };
    let ignored = ignored(&command, &options);
    let Options { config, workdir, project, model, max_budget, max_turns, prompt, json } = options;
    let flags = Flags { workdir, project, model, prompt, max_budget, max_turns };
    Ok(Invocation { command, config, flags, json, ignored })
}

fn of_store(agent: bool, what: Binaries) -> Command {
    Command::Binaries { what, agent }
}

/// `--config` is never named: it belongs to the alias.
fn ignored(command: &Command, options: &Options) -> Vec<&'static str> {
    let has_json = matches!(
        command,
        Command::Status | Command::Config | Command::Events(_) | Command::Binaries { what: Binaries::List, .. }
    );
    let has_settings = matches!(command, Command::Start | Command::Config | Command::Service(_));
    let builds = matches!(command, Command::Binaries { what: Binaries::Install(Install { build: true, .. }), .. });
    let settings = [
        ("--workdir", options.workdir.is_some() && !builds),
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
