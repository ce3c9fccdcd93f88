//! The least that restarts a process, the benches' measuring floor; see `testkit::floor`.

use std::process::ExitCode;

fn main() -> ExitCode {
    testkit::floor::supervise(std::env::args_os().skip(1))
}
