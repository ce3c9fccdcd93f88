//! `autopilot run`: drives one Claude Code CLI at a time until a job is done.
//!
//! One thread, one poll loop. `policy::work` decides, `wire` reads the CLI's stream and words the log, `os` talks to the
//! kernel; here they are put together, and what must survive a crash is kept on disk: the job (`work.json`), what it has used
//! up (`queue.db`), and the run's logs. **Invariant:** nothing sleeps, nothing waits without a deadline, and no fault of
//! the disk, the API or the CLI makes the worker forget what it was asked to do.

mod agent;
mod calendar;
mod drive;
mod environment;
mod errand;
mod exit;
mod handover;
mod job;
mod ledger;
mod names;
mod previous;
mod price;
mod progress;
pub mod record;
mod recorder;
mod repository;
mod resets;
mod settings;
mod stream;
mod words;

use std::fmt::Arguments;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

use wire::redact::Redactor;

pub use agent::{INSTALL_HINT, Missing, find as find_claude};
pub use calendar::{Stretch, stretches};
pub use environment::Environment;
pub use exit::Exit;
pub use ledger::{QUEUE_ACCOUNT, dollars};
pub use names::project_slug;
pub use settings::{Budgets, Isolation, Settings, Wrong};

/// What `autopilot run` was asked to do.
#[derive(Debug, Clone, PartialEq)]
pub struct RunArgs {
    /// Go on until the work is done; else a single session.
    pub full_auto: bool,
    /// The project's name; without one the working directory is the project.
    pub project: Option<String>,
    /// The model, as the CLI knows it.
    pub model: String,
    /// Turns of the whole job. 0: no limit.
    pub max_turns: u64,
    /// Dollars for the whole job. 0: no limit.
    pub max_budget_usd: f64,
    /// Where the agent works.
    pub cwd: PathBuf,
    /// What is to be done. `None`: go on with the unfinished job.
    pub prompt: Option<String>,
    /// Wait for tasks when there are none, supervised or not.
    pub wait: bool,
    /// The program that serves the queue's tools to the agent, with `mcp` as its command.
    pub mcp: Option<PathBuf>,
    /// The program's version, for the logs.
    pub version: String,
}

/// In front of stderr, which has no owner.
static REDACTOR: OnceLock<Redactor> = OnceLock::new();

/// Runs the worker to its end. Everything worth saying has then been said on stderr.
pub fn run(args: &RunArgs, env: &Environment) -> Exit {
    REDACTOR.get_or_init(|| env.redactor());
    match drive::run(args, env) {
        Ok(exit) => exit,
        Err(failure) => {
            complain(format_args!("error: {failure}"));
            if let Some(hint) = failure.hint() {
                complain(format_args!("hint: {hint}"));
            }
            failure.exit()
        }
    }
}

/// Why the worker could not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot work in {path}: {error}")]
    WorkingDirectory { path: PathBuf, error: io::Error },
    #[error("--max-budget wants dollars, not less than 0, found {0}")]
    Budget(f64),
    #[error("no prompt was given and no job is unfinished here")]
    NoPrompt,
    #[error("autopilot.toml wants git = \"branch\" or \"worktree\", and {0} is in no git repository")]
    NoRepository(PathBuf),
    #[error("neither AUTOPILOT_HOME nor HOME is set")]
    NoHome,
    #[error("another worker holds this project{}", .0.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Busy(Option<u32>),
    #[error("cannot keep state in {path}: {error}")]
    State { path: PathBuf, error: io::Error },
    #[error("{path} was written by a later version (format {version})")]
    Newer { path: PathBuf, version: u32 },
    #[error(transparent)]
    Queue(#[from] queue::Error),
    #[error(transparent)]
    Settings(#[from] Wrong),
    #[error("{what}: {error}")]
    Kernel { what: &'static str, error: io::Error },
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::WorkingDirectory { .. }
            | Self::Budget(_)
            | Self::NoPrompt
            | Self::NoRepository(_)
            | Self::NoHome
            | Self::Settings(_) => Exit::Usage,
            Self::Busy(_) => Exit::Busy,
            Self::State { .. } | Self::Newer { .. } | Self::Kernel { .. } | Self::Queue(_) => Exit::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::WorkingDirectory { .. } => Some("name an existing directory with --cwd".to_owned()),
            Self::NoPrompt => Some(
                "autopilot run --full-auto \"what is to be done\"; or make a queue with `autopilot issue create`, and --full-auto works it off"
                    .to_owned(),
            ),
            Self::NoRepository(_) => Some("git init, or take that line out".to_owned()),
            Self::NoHome => Some("set AUTOPILOT_HOME to a directory for autopilot's state".to_owned()),
            Self::Busy(_) => Some("wait for it, end it, or use another --project".to_owned()),
            Self::State { .. } => Some("make that directory writable, or set AUTOPILOT_HOME to another one".to_owned()),
            Self::Newer { .. } => Some("use that version, or another --project".to_owned()),
            Self::Settings(_) => Some("correct that line of autopilot.toml, then run this again".to_owned()),
            Self::Queue(queue::Error::Newer { .. }) => Some("use that version, or another --project".to_owned()),
            Self::Queue(queue::Error::Damaged { path, .. }) => Some(format!(
                "the file was not touched; `sqlite3 {} .recover` reads what is left of it",
                path.display()
            )),
            Self::Queue(_) => Some("make that directory writable, or set AUTOPILOT_HOME to another one".to_owned()),
            Self::Budget(_) | Self::Kernel { .. } => None,
        }
    }
}

/// One line on stderr. Nobody may be listening any more; that must not end the work.
pub(crate) fn complain(line: Arguments<'_>) {
    let line = format!("{line}\n");
    progress::wipe();
    let line = REDACTOR.get_or_init(Redactor::default).text(&line);
    io::stderr().lock().write_all(line.as_bytes()).ok();
}
