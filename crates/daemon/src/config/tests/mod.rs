//! Text in, settings or sentences out.

mod faults;
mod merge;
mod shown;

use super::{Content, Environment, FileSource, Flags, Inputs, Loaded, Problems, load};
use std::path::PathBuf;

/// The specification's sample, verbatim but for its paths.
const SAMPLE: &str = r#"# Worker command - use Binary for reliability
[worker_command]
type = "Binary"
path = "/home/ada/.autopilot/bin/autopilot"

# Working directory
working_dir = "/home/ada/code/myproject"

# Project name
project = "myproject"

# Model to use
model = "sonnet"

# Budget constraints
max_budget = 0.0    # 0 = no limit
max_turns = 99999

# Memory configuration
[memory]
min_available_bytes = 2147483648      # 2 GB
critical_threshold_bytes = 1073741824  # 1 GB
poll_interval_ms = 5000                # 5 seconds
node_kill_threshold_bytes = 524288000  # 500 MB

# Restart policy
[restart]
initial_backoff_ms = 1000
max_backoff_ms = 300000               # 5 minutes max
backoff_multiplier = 2.0
success_threshold_ms = 60000          # Reset backoff after 1 min success
max_consecutive_restarts = 10
stall_timeout_ms = 300000             # Kill if no log activity for 5 min
recovery_cooldown_ms = 600000         # Wait 10 min before retry after max failures
"#;

/// A home of Ada's, with `text` as its file.
fn inputs(text: &str) -> Inputs {
    Inputs {
        flags: Flags::default(),
        environment: Environment { user_home: Some(PathBuf::from("/home/ada")), ..Environment::default() },
        file: FileSource {
            path: PathBuf::from("/home/ada/.autopilot/daemon.toml"),
            required: false,
            content: Content::Text(text.to_owned()),
        },
        home: PathBuf::from("/home/ada/.autopilot"),
        cwd: PathBuf::from("/srv/here"),
    }
}

fn loaded(text: &str) -> Loaded {
    load(&inputs(text)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Every problem and hint, as the command line shows them, with the file's folder cut off.
fn complaints(result: Result<Loaded, Problems>) -> String {
    let problems = result.expect_err("the settings were accepted");
    assert!(!problems.0.is_empty());
    let mut lines = Vec::new();
    for problem in &problems.0 {
        lines.push(problem.to_string());
        lines.extend(problem.hint().map(|hint| format!("  {hint}")));
    }
    lines.join("\n").replace("/home/ada/.autopilot/daemon.toml", "daemon.toml")
}

#[track_caller]
fn refuses(text: &str, expected: &str) {
    assert_eq!(complaints(load(&inputs(text))), expected, "\nfile:\n{text}");
}
