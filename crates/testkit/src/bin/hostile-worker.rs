//! A worker that does what a supervisor fears; see `testkit::hostile`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: benches measure when a worker's first instruction runs.
    let started_ns = testkit::hostile::monotonic_ns();
    testkit::hostile::main(started_ns)
}
