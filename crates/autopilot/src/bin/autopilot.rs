//! `autopilot`: see [`autopilot::worker_main`].

use std::process::ExitCode;

fn main() -> ExitCode {
    autopilot::worker_main::main(std::env::args_os())
}
