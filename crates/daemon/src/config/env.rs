//! Every environment variable of the project, in one documented type.

use super::AgentSearch;
use std::ffi::OsString;
use std::path::PathBuf;

macro_rules! env_vars {
    ($( $(#[doc = $doc:literal])+ $group:ident $name:ident = $text:literal; )+) => {
        /// The names of all environment variables that are read or set. The texts make the printed reference.
        #[derive(Debug)]
        pub struct EnvVars;

        impl EnvVars {
            $( $(#[doc = $doc])+ pub const $name: &'static str = $text; )+

            /// Name, who sets it, and meaning of each.
            pub const ALL: &'static [(&'static str, SetBy, &'static str)] =
                &[$( ($text, SetBy::$group, concat!($($doc),+).trim_ascii()), )+];
        }
    };
}

/// Who gives a variable its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetBy {
    /// You do.
    User,
    /// The daemon does, for the worker.
    Daemon,
}

env_vars! {
    /// The folder of the daemon's files; default `~/.autopilot`. Each home has one daemon.
    User AUTOPILOT_HOME = "AUTOPILOT_HOME";
    /// The worker's program; before `worker_command` in the file and `bin/autopilot` in the home.
    User AUTOPILOT_WORKER_BINARY = "AUTOPILOT_WORKER_BINARY";
    /// A worker with no sign of activity for so many milliseconds is killed and restarted; 0 = off.
    User AUTOPILOT_STALL_TIMEOUT_MS = "AUTOPILOT_STALL_TIMEOUT_MS";
    /// The pause, in milliseconds, after too many failures in a row.
    User AUTOPILOT_RECOVERY_COOLDOWN_MS = "AUTOPILOT_RECOVERY_COOLDOWN_MS";
    /// The Claude Code CLI that the worker runs; default `claude` on `PATH`. For the worker the daemon sets it to its copy.
    User AUTOPILOT_CLAUDE = "AUTOPILOT_CLAUDE";
    /// Where `~` leads in paths, and where `.autopilot` is by default.
    User HOME = "HOME";
    /// `1` for a worker that the daemon started.
    Daemon AUTOPILOTD_SUPERVISED = "AUTOPILOTD_SUPERVISED";
    /// `1` where the CLI is a new one that could be rolled back: the worker leaves with 16 when it dies three times in a row.
    Daemon AUTOPILOT_CLAUDE_PROBATION = "AUTOPILOT_CLAUDE_PROBATION";
    /// The run's unique name.
    Daemon AUTOPILOT_RUN_ID = "AUTOPILOT_RUN_ID";
    /// The datagram socket for the worker's heartbeats (the sd_notify protocol). The daemon's own supervisor sets it for the daemon.
    Daemon NOTIFY_SOCKET = "NOTIFY_SOCKET";
    /// The stall timeout in microseconds; absent if the rule is off. For the daemon likewise: how often it shows life.
    Daemon WATCHDOG_USEC = "WATCHDOG_USEC";
}

/// What the environment says. Empty variables count as unset, as everywhere in Unix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    pub home: Option<OsString>,
    pub user_home: Option<PathBuf>,
    pub worker_binary: Option<OsString>,
    pub stall_timeout_ms: Option<OsString>,
    pub recovery_cooldown_ms: Option<OsString>,
    pub agent: AgentSearch,
}

impl Environment {
    /// Reads each variable once, by way of `lookup`.
    pub fn from_lookup(lookup: impl Fn(&'static str) -> Option<OsString>) -> Self {
        let get = |name| lookup(name).filter(|value| !value.is_empty());
        Self {
            home: get(EnvVars::AUTOPILOT_HOME),
            user_home: get(EnvVars::HOME).map(PathBuf::from),
            worker_binary: get(EnvVars::AUTOPILOT_WORKER_BINARY),
            stall_timeout_ms: get(EnvVars::AUTOPILOT_STALL_TIMEOUT_MS),
            recovery_cooldown_ms: get(EnvVars::AUTOPILOT_RECOVERY_COOLDOWN_MS),
            agent: AgentSearch { named: get(EnvVars::AUTOPILOT_CLAUDE), path: get("PATH") },
        }
    }

    /// The value of a variable that gives a setting.
    pub(super) fn setting(&self, name: &str) -> Option<&OsString> {
        match name {
            EnvVars::AUTOPILOT_WORKER_BINARY => self.worker_binary.as_ref(),
            EnvVars::AUTOPILOT_STALL_TIMEOUT_MS => self.stall_timeout_ms.as_ref(),
            EnvVars::AUTOPILOT_RECOVERY_COOLDOWN_MS => self.recovery_cooldown_ms.as_ref(),
            _ => None,
        }
    }
}
