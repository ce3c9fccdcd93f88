//! The two agents: the scripted stand-in, and the real Claude Code CLI. How they differ for the demo.

use std::path::{Path, PathBuf};

use crate::cli::report::Failure;
use crate::cli::worker::Agent;

/// Who plays, and what that means.
#[derive(Debug, Clone)]
pub(super) struct Casting {
    /// The real CLI's path.
    pub(super) claude: Option<PathBuf>,
    /// A model at the other end of a network is silent for longer than a script.
    pub(super) stall_timeout_ms: u64,
    /// No single thing may take longer.
    pub(super) patience_ms: u64,
    pub(super) model: &'static str,
    /// 0: no limit.
    pub(super) max_budget_usd: &'static str,
}

impl Casting {
    pub(super) fn of(agent: Agent) -> Result<Self, Failure> {
        match agent {
            Agent::Script => Ok(Self {
                claude: None,
                stall_timeout_ms: 3_000,
                patience_ms: 12_000,
                model: "stand-in",
                max_budget_usd: "0.0",
            }),
            Agent::Claude => {
                let environment = worker::Environment::from_variables(std::env::vars_os());
                let claude = worker::find_claude(&environment).map_err(|missing| {
                    let code = worker::Exit::CliUnusable.code();
                    Failure::with_code(code, format!("the Claude CLI is missing: {missing}")).hint(worker::INSTALL_HINT)
                })?;
                Ok(Self {
                    claude: Some(claude),
                    stall_timeout_ms: 15_000,
                    patience_ms: 120_000,
                    model: "haiku",
                    max_budget_usd: "1.0",
                })
            }
        }
    }

    pub(super) fn is_real(&self) -> bool {
        self.claude.is_some()
    }

    /// What the worker is asked to do. The stand-in does not read it.
    pub(super) fn prompt(&self, steps: u32) -> String {
        format!(
            "The file counted.txt in this folder is to get the lines 1 to {steps}, in order. Write line N by running the \
             command ./step N with the Bash tool, and in no other way. One command at a time, in the foreground; some \
             take a while, wait for them. Each number exactly once: if you were interrupted, read counted.txt first to \
             see which lines are there, and go on with the next one. Do nothing else, and be brief."
        )
    }

    /// Where the CLI keeps what it remembers of a folder.
    pub(super) fn claude_folder(&self) -> Option<PathBuf> {
        self.claude.as_ref()?;
        let variable = |name: &str| std::env::vars_os().find(|(key, _)| key == name).map(|(_, value)| value);
        let named = variable("CLAUDE_CONFIG_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
        named.or_else(|| Some(Path::new(&variable("HOME")?).join(".claude")))
    }
}
