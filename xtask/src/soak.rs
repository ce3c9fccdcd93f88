//! `cargo xtask soak`: what the tests do for a minute, for as long as somebody has the patience.

use std::time::{Duration, Instant};

use testkit::home::Binaries;
use testkit::{binaries, days, kill_loop};

use crate::step::{Failure, cargo, run};

const KILLS: usize = 10_000;
const FUZZ_INPUTS: usize = 10_000_000;
const DAYS: usize = 7;
/// A week takes five minutes and a half.
const DAY: Duration = Duration::from_secs(48);

pub(crate) fn main(args: &[String]) -> Result<(), Failure> {
    let (what, count) = match args {
        [what] => (what.as_str(), None),
        [what, count] => (what.as_str(), Some(count.parse().map_err(|_| wrong(count))?)),
        _ => return Err(wrong("")),
    };
    let soak = match what {
        "fuzz" => return fuzz(count),
        "kills" => kills,
        "days" => week,
        other => return Err(wrong(other)),
    };
    run(cargo().args(["build", "--release", "--locked", "--package", "autopilot", "--package", "testkit", "--bins"]))?;
    let begun = Instant::now();
    let broken = soak(count);
    println!("{:.0} s", begun.elapsed().as_secs_f64());
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(broken.join("\n")))
}

fn wrong(what: &str) -> Failure {
    Failure::new(format!("not understood: {what:?}")).hint("cargo xtask soak kills|days|fuzz [COUNT]")
}

/// A test of `wire`, optimised, and with more to do than it has by itself.
fn fuzz(count: Option<usize>) -> Result<(), Failure> {
    let mut command = cargo();
    command.args(["test", "--release", "--locked", "--package", "wire", "--test", "fuzz", "--", "--nocapture"]);
    command.env("FUZZ_INPUTS", count.unwrap_or(FUZZ_INPUTS).to_string());
    command.env("FUZZ_SEED", std::process::id().to_string());
    run(&mut command)
}

fn kills(count: Option<usize>) -> Vec<String> {
    let seed = u64::from(std::process::id());
    let plan = kill_loop::Plan {
        binaries: built(),
        worker: binaries::target_folder().join("release/hostile-worker"),
        homes: 16,
        kills: count.unwrap_or(KILLS),
        seed,
        environment: Vec::new(),
    };
    let report = kill_loop::run(&plan);
    println!("seed {seed}: {report:#?}");
    report.broken
}

fn week(count: Option<usize>) -> Vec<String> {
    let plan = days::Plan {
        binaries: built(),
        worker: binaries::target_folder().join("release/hostile-worker"),
        days: count.unwrap_or(DAYS),
        day: DAY,
        seed: u64::from(std::process::id()),
    };
    let report = days::run(&plan);
    report.looks.iter().for_each(|look| println!("{look:?}"));
    report.broken
}

fn built() -> Binaries {
    let release = binaries::target_folder().join("release");
    Binaries { autopilot: release.join("autopilot"), autopilotd: release.join("autopilotd") }
}
