//! The environment variables that the worker knows, read once and passed on as a value.

use std::ffi::OsString;
use std::path::PathBuf;

use wire::redact::{Redactor, is_secret_name};

/// What the worker takes from its environment. Nothing else in this crate looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `AUTOPILOT_HOME`: where autopilot keeps its state. Default: `.autopilot` in `HOME`.
    pub home: Option<PathBuf>,
    /// `HOME`: the user's own folder.
    pub user_home: Option<PathBuf>,
    /// `PATH`: where `claude` is looked for.
    pub path: Option<OsString>,
    /// `AUTOPILOT_CLAUDE`: the Claude CLI's path, instead of `claude` in `PATH`.
    pub claude: Option<OsString>,
    /// `AUTOPILOTD_SUPERVISED=1`: a supervisor started us.
    pub supervised: bool,
    /// `AUTOPILOT_CLAUDE_PROBATION=1`: the CLI is on trial, and the supervisor has another one.
    pub claude_on_trial: bool,
    /// `AUTOPILOT_RUN_ID`: the supervisor's name for this run, for the logs.
    pub run_id: Option<String>,
    /// `NOTIFY_SOCKET`: where heartbeats go (sd_notify).
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`: so many microseconds without a heartbeat and the supervisor takes us for stalled.
    pub watchdog_usec: Option<u64>,
    /// `AUTOPILOT_MODEL_SILENCE_MS`: so long may the CLI be silent while it waits for the model. Default: 240000, or 80 % of
    /// `WATCHDOG_USEC` if that is less.
    pub model_silence_ms: Option<u64>,
    /// `AUTOPILOT_RETRY_DELAY_MS`: the first delay after a fault that passes by itself; it doubles. Default: 5000.
    pub retry_delay_ms: Option<u64>,
    /// `CLAUDE_CODE_MAX_RETRIES`: how often the CLI itself tries a request again. Default: 3, because the worker waits and
    /// tries again, too; with the CLI's own default of 10, a key that is refused would be told of after minutes only.
    pub cli_retries: Option<String>,
    /// `NO_COLOR` is set: no colours anywhere.
    pub no_color: bool,
    /// `TERM`: what the terminal can.
    pub term: Option<OsString>,
    /// Variables with secret-looking names: what they hold is written nowhere.
    pub secrets: Vec<(String, String)>,
}

impl Environment {
    /// Picks what is known. A variable that is empty, or no number where one is wanted, reads as unset.
    pub fn from_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut env = Self::default();
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            if value.is_empty() {
                continue;
            }
            let text = value.to_str();
            if let Some(text) = text.filter(|_| is_secret_name(name)) {
                env.secrets.push((name.to_owned(), text.to_owned()));
            }
            let number = || text.and_then(|text| text.parse().ok());
            match name {
                "AUTOPILOT_HOME" => env.home = Some(value.into()),
                "HOME" => env.user_home = Some(value.into()),
                "PATH" => env.path = Some(value),
                "AUTOPILOT_CLAUDE" => env.claude = Some(value),
                "AUTOPILOTD_SUPERVISED" => env.supervised = text != Some("0"),
                "AUTOPILOT_CLAUDE_PROBATION" => env.claude_on_trial = text != Some("0"),
                "AUTOPILOT_RUN_ID" => env.run_id = text.map(str::to_owned),
                "NOTIFY_SOCKET" => env.notify_socket = Some(value),
                "NO_COLOR" => env.no_color = true,
                "TERM" => env.term = Some(value),
                "WATCHDOG_USEC" => env.watchdog_usec = number(),
                "AUTOPILOT_MODEL_SILENCE_MS" => env.model_silence_ms = number(),
                "CLAUDE_CODE_MAX_RETRIES" => env.cli_retries = text.map(str::to_owned),
                "AUTOPILOT_RETRY_DELAY_MS" => env.retry_delay_ms = number(),
                _ => {}
            }
        }
        env
    }

    /// A terminal may be written to in colour.
    #[must_use]
    pub fn colour(&self) -> bool {
        !self.no_color && self.redraws()
    }

    /// A terminal understands what moves its cursor.
    pub(crate) fn redraws(&self) -> bool {
        self.term.as_deref().is_some_and(|term| term != "dumb")
    }

    /// What stands before everything that is written.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        Redactor::with_environment(self.secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Where autopilot keeps its state; `None` if neither `AUTOPILOT_HOME` nor `HOME` is set.
    #[must_use]
    pub fn autopilot_home(&self) -> Option<PathBuf> {
        self.home.clone().or_else(|| Some(self.user_home.as_ref()?.join(".autopilot")))
    }
}

/// Given to the CLI, and so to its tools and servers: which process of the CLI they belong to.
pub(crate) const MARK: &str = "AUTOPILOT_AGENT";

/// Variables of ours or of an outer session that would change how the CLI behaves, and never reach it.
pub(crate) const NOT_FOR_THE_CLI: [&str; 8] = [
    "AUTOPILOTD_SUPERVISED",
    "CLAUDECODE",
    "CLAUDE_CODE_CHILD_SESSION",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_SSE_PORT",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_sense_is_taken() {
        let env = Environment::from_variables(
            [
                ("HOME", "/home/ada"),
                ("AUTOPILOT_CLAUDE", ""),
                ("WATCHDOG_USEC", "300000000"),
                ("AUTOPILOT_MODEL_SILENCE_MS", "soon"),
                ("AUTOPILOTD_SUPERVISED", "1"),
                ("AUTOPILOT_CLAUDE_PROBATION", "1"),
                ("OTHER", "x"),
                ("SHOP_API_KEY", "k-1"),
            ]
            .map(|(name, value)| (name.into(), value.into())),
        );
        let expected = Environment {
            user_home: Some("/home/ada".into()),
            watchdog_usec: Some(300_000_000),
            supervised: true,
            claude_on_trial: true,
            secrets: vec![("SHOP_API_KEY".to_owned(), "k-1".to_owned())],
            ..Environment::default()
        };
        assert_eq!(env, expected);
        assert_eq!(env.autopilot_home(), Some("/home/ada/.autopilot".into()));
        assert_eq!(Environment::default().autopilot_home(), None);
    }
}
