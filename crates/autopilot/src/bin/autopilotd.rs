//! `autopilotd`: see [`autopilot::autopilotd`].

use std::process::ExitCode;

fn main() -> ExitCode {
    autopilot::autopilotd::main(std::env::args_os())
}
