//! `autopilot`: `run` and `demo`; the others are in [`super::queue`].

use super::number;
use super::record::{Analyze, Apm, Compare, Logs, Replay, ShowLog};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  autopilot demo                          See the supervisor at work; needs nothing but the build
  autopilot run \"Fix the failing tests\"   One session of Claude Code, here
  autopilot run --full-auto --max-budget 5 --cwd ~/code/app \"Fix the failing tests\"
                                          Go on until it is done, or $5 are spent
  autopilot run -- \"-v prints nothing: fix it\"
                                          A prompt that starts with a dash
  autopilot issue create \"Fix the login\" --priority high
                                          A task for later; `autopilot issue list` shows them

To keep it running for days, let autopilotd start it: autopilotd --help";

const AFTER_RUN_HELP: &str = "\
The session is logged to docs/logs/YYYYMMDD/HHMMSS-*.rlog in the working directory.

A job is one prompt until it is done, or all tasks of the queue. Another prompt is another job,
which counts from 0; what the project may cost is [budget] in autopilot.toml:
`autopilot budget --help`.

Environment:
  AUTOPILOT_CLAUDE  The Claude Code CLI [default: claude on PATH]
  AUTOPILOT_HOME    Where the worker keeps its state [default: ~/.autopilot]

Exit codes:
  0 the work is done, 1 internal error, 2 wrong usage, 10 turns used up, 11 budget used up,
  12 it needs you (login, credit, model), 13 Claude Code CLI missing or unusable,
  14 the API failed (without --full-auto), 15 another worker has this project,
  16 the session failed for good or a task was set aside, 130 ended by SIGINT,
  143 ended by SIGTERM";

/// Works on a task with the Claude Code CLI, resumes after crashes, and keeps a record.
#[derive(Debug, Parser)]
#[command(
    name = "autopilot",
    version,
    after_help = AFTER_HELP,
    args_override_self = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Work on a prompt
    Run(Run),
    /// Show a log, coloured in a terminal; -f follows
    Log(ShowLog),
    /// Play a log again
    Replay(Replay),
    /// What logs took: money, tokens, turns, and how the tools did
    Analyze(Analyze),
    /// Two logs side by side
    Compare(Compare),
    /// Actions per minute: messages and tool calls
    Apm(Apm),
    /// Keep the logs small
    #[command(subcommand)]
    Logs(Logs),
    /// Projects: each has a queue of tasks
    #[command(subcommand)]
    Project(super::queue::Project),
    /// The tasks of a project
    Issue(super::queue::Issue),
    /// What a project has cost, against what it may
    Budget(super::queue::Budget),
    /// The queue as tools for an agent (Model Context Protocol on stdio); each session of the worker has it
    Mcp(super::queue::Mcp),
    /// Watch the supervisor recover a worker that is killed, hangs and leaks; leaves nothing behind
    Demo(Demo),
}

/// `autopilot run`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = AFTER_RUN_HELP)]
pub struct Run {
    /// Go on until Claude says that the work is done, or turns or budget are used up
    #[arg(long)]
    pub full_auto: bool,
    /// Project name [default: the working directory identifies the project]
    #[arg(short, long, value_name = "NAME", value_parser = number::name)]
    pub project: Option<String>,
    /// Model to use
    #[arg(long, value_name = "MODEL", default_value = "sonnet", value_parser = number::name)]
    pub model: String,
    /// Maximum turns of the job, over all its runs; 0 = no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = number::turns, default_value = "0")]
    pub max_turns: u64,
    /// Maximum budget of the job, over all its runs; 0 = no limit
    #[arg(long, value_name = "USD", allow_negative_numbers = true, value_parser = number::budget, default_value = "0")]
    pub max_budget: f64,
    /// Working directory [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// With --full-auto and no task that is ready: wait for one
    #[arg(long)]
    pub wait: bool,
    /// What to do; without it the project's unfinished work goes on, with --full-auto its queue
    #[arg(value_parser = number::prompt)]
    pub prompt: Option<String>,
}

/// `autopilot demo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Demo {
    /// Who plays the agent: a scripted stand-in, or the real Claude Code CLI
    #[arg(long, value_enum, default_value_t = Agent::Script)]
    pub agent: Agent,
}

/// Who plays the agent in the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Agent {
    Script,
    Claude,
}

/// Understands a command line; the first argument is the program's name.
///
/// # Errors
/// Wrong usage, and requests for help and version; see [`super::finish`].
pub fn parse_from<I, T>(arguments: I) -> Result<Command, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    Cli::try_parse_from(arguments).map(|cli| cli.command)
}

/// The definition, for man pages and completions.
pub fn definition() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}
