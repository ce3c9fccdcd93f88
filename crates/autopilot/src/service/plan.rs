//! What is to be started: program, arguments, environment. All text, since a unit file and a crontab are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use daemon::config::{Config, EnvVars, Origin};

use crate::cli::daemon::Invocation;
use crate::cli::report::{Exit, Failure};

/// The daemon as systemd or cron is to start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The daemon's home.
    pub(crate) home: PathBuf,
    /// Whether that is `~/.autopilot`.
    pub(crate) is_usual_home: bool,
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// The longest that an orderly end takes.
    pub(crate) stop_timeout_ms: u64,
}

/// What a daemon and its worker need of the environment. Keys and tokens are not among it: they belong in a file that only
/// the user can read.
const TAKEN: [&str; 6] = [
    "PATH",
    EnvVars::AUTOPILOT_HOME,
    EnvVars::AUTOPILOT_WORKER_BINARY,
    EnvVars::AUTOPILOT_STALL_TIMEOUT_MS,
    EnvVars::AUTOPILOT_RECOVERY_COOLDOWN_MS,
    EnvVars::AUTOPILOT_CLAUDE,
];

impl Plan {
    pub(crate) fn new(invocation: &Invocation, config: &Config) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::Internal, format!("cannot tell which program this is: {error}")))?;
        let cwd = std::env::current_dir()
            .map_err(|error| Failure::new(Exit::Config, format!("cannot tell the current directory: {error}")))?;
        #[expect(clippy::disallowed_methods, reason = "this is the edge where the environment is read")]
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let mut environment = Vec::new();
        for name in TAKEN {
            if let Some(value) = variable(name) {
                environment.push((name, text(name, &value)?));
            }
        }
        if variable(EnvVars::AUTOPILOT_HOME).is_some() {
            // However it was written: as it is meant from here.
            environment.retain(|(name, _)| *name != EnvVars::AUTOPILOT_HOME);
            environment.push((EnvVars::AUTOPILOT_HOME, text("the home", config.home.as_os_str())?));
        }
        let usual = variable(EnvVars::HOME).map(|home| Path::new(&home).join(".autopilot"));
        Ok(Self {
            is_usual_home: usual.as_deref() == Some(config.home.as_path()),
            home: config.home.clone(),
            program: text("the program's path", program.as_os_str())?,
            arguments: arguments(invocation, config, &cwd)?,
            environment,
            stop_timeout_ms: config.restart.stop_timeout_ms.value,
        })
    }

    /// A file or a unit name that is this home's own.
    pub(crate) fn name(&self) -> String {
        if self.is_usual_home {
            return "autopilotd".to_owned();
        }
        // FNV-1a: the same in every version of this program.
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(self.home.as_os_str());
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("autopilotd-{:08x}", hash & 0xffff_ffff)
    }
}

fn arguments(invocation: &Invocation, config: &Config, cwd: &Path) -> Result<Vec<String>, Failure> {
    let flags = &invocation.flags;
    let mut arguments = vec!["start".to_owned()];
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    if let Some(file) = &invocation.config {
        add("--config", text("--config", cwd.join(file).as_os_str())?);
    }
    let working_dir = &config.job.working_dir;
    if flags.workdir.is_some() || matches!(working_dir.origin, Origin::Default) {
        add("--workdir", text("--workdir", working_dir.value.as_os_str())?);
    }
    for (option, value) in [("--project", &flags.project), ("--model", &flags.model)] {
        if let Some(value) = value {
            add(option, clean(option, value)?);
        }
    }
    if let Some(budget) = flags.max_budget {
        add("--max-budget", budget.to_string());
    }
    if let Some(turns) = flags.max_turns {
        add("--max-turns", turns.to_string());
    }
    if let Some(prompt) = &flags.prompt {
        add("--prompt", clean("--prompt", prompt)?);
    }
    Ok(arguments)
}

fn text(what: &str, value: &OsStr) -> Result<String, Failure> {
    match value.to_str() {
        Some(value) => clean(what, value),
        None => Err(Failure::new(Exit::Config, format!("{what} is not UTF-8: {}", value.display()))
            .hint("a unit file and a crontab are text: give it a name that is")),
    }
}

fn clean(what: &str, value: &str) -> Result<String, Failure> {
    if value.contains('\0') {
        return Err(Failure::new(Exit::Config, format!("{what} contains a NUL")));
    }
    Ok(value.to_owned())
}
