//! What is only for tests must not be in the programs that people get, and what is for the worker not in the daemon.

use std::fs;

use crate::step::{Failure, cargo, run};

/// By which SQLite and an async runtime are known in a program: the first words of each database file, and the name in its panics.
const NOT_FOR_THE_DAEMON: [&str; 2] = ["SQLite format 3", "tokio"];

/// Builds the release programs and looks at what is in them.
pub(crate) fn check() -> Result<(), Failure> {
    run(cargo().args(["build", "--release", "--package", "autopilot", "--bins", "--locked"]))?;
    for program in ["autopilot", "autopilotd"] {
        let path = testkit::binaries::target_folder().join("release").join(program);
        let bytes =
            fs::read(&path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
        let found = fail_points_in(&bytes);
        if !found.is_empty() {
            return Err(Failure::new(format!("{} contains fail points: {}", path.display(), found.join(", "))));
        }
        let foreign: Vec<&str> =
            NOT_FOR_THE_DAEMON.into_iter().filter(|mark| contains(&bytes, mark.as_bytes())).collect();
        // The worker's is the proof that the look can find it.
        let expected: &[&str] = if program == "autopilot" { &NOT_FOR_THE_DAEMON } else { &[] };
        if foreign != expected {
            return Err(Failure::new(format!("{} contains {foreign:?}, expected {expected:?}", path.display())));
        }
        println!("{program}: {} bytes, no fail points", bytes.len());
    }
    Ok(())
}

/// What of them is in a program.
fn fail_points_in(program: &[u8]) -> Vec<&'static str> {
    let names = os::fail::POINTS.iter().map(|point| point.name);
    names.chain(["AUTOPILOT_FAIL"]).filter(|name| contains(program, name.as_bytes())).collect()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return true };
    bytes.iter().enumerate().any(|(at, byte)| byte == first && bytes[at + 1..].starts_with(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This is the check's proof that it can fail: the program of the tests has them all but those of the daemon's own.
    #[test]
    fn a_build_for_tests_has_fail_points() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(fail_points_in(&own).len() > 40);
        assert_eq!(fail_points_in(b"a program with home.lockers in it"), ["home.lock"]);
    }
}
