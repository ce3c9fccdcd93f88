//! `autopilot`: see [`autopilot::worker_main`]. Under another name it is another program: see [`autopilot::demo::part`].

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match autopilot::demo::part(&arguments) {
        Some(part) => part.play(arguments),
        None => autopilot::worker_main::main(arguments),
    }
}
