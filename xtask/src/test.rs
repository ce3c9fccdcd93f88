//! `cargo xtask test`: all set-up of the tests, then all tests, then a look at what they left behind.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use testkit::{binaries, claude, processes};

use crate::claude_code;
use crate::step::{Failure, cargo, run, shown};
use crate::traces::Traces;

/// How tests are counted, from the runner's own words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
    filtered_out: u64,
}

/// What the runner said of the tests.
#[derive(Debug, Default)]
struct Said {
    count: Count,
    /// Passed, but not at once.
    flaky: Vec<String>,
}

pub(crate) fn run_all(args: &[String]) -> Result<(), Failure> {
    let started = Instant::now();
    let claude_binary = claude_code::install()?;
    // Integration tests start these; cargo would not build them for a selection of tests.
    run(cargo().args(["build", "--workspace", "--bins", "--locked"]))?;

    let traces = Traces::before()?;
    let with_nextest = has_nextest();
    let mut command = runner(with_nextest, args);
    command.env(processes::SCOPE_VARIABLE, &traces.scope);
    command.env(binaries::BUILT_VARIABLE, "1").env("TMPDIR", &traces.temporary);
    let result = run_counting(&mut command);
    let left = traces.after();

    let (Said { count, flaky }, succeeded) = result?;
    let seconds = started.elapsed().as_secs_f64();
    let verdict = if succeeded && left.is_empty() && count.failed == 0 { "ok" } else { "FAILED" };
    println!("── summary");
    println!("Claude Code {} at {}", claude::version(), claude_binary.display());
    println!("runner: {}", if with_nextest { "cargo nextest" } else { "cargo test" });
    if !flaky.is_empty() {
        println!("passed at the second attempt only: {}", flaky.join("\n                                  "));
    }
    println!("left behind: {}", if left.is_empty() { "nothing".to_owned() } else { left.join("\n             ") });
    println!(
        "test result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {seconds:.2}s",
        count.passed, count.failed, count.ignored, count.filtered_out,
    );
    match (verdict, succeeded) {
        ("ok", _) => Ok(()),
        (_, false) if count == Count::default() => Err(Failure::new("no test ran, see above")),
        (_, false) => Err(Failure::new("not every test passed, see above")),
        _ => Err(Failure::new("the tests left something behind, see the summary")),
    }
}

fn has_nextest() -> bool {
    let version = cargo().args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

fn runner(with_nextest: bool, args: &[String]) -> Command {
    let mut command = cargo();
    if with_nextest {
        command.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]).args(args);
    } else {
        command.args(["test", "--workspace", "--locked", "--no-fail-fast"]).args(args);
    }
    command
}

/// Runs it, passes on all that it says, and counts from its result lines. Says, too, whether it succeeded.
fn run_counting(command: &mut Command) -> Result<(Said, bool), Failure> {
    println!("── {}", shown(command));
    let failure = |error: std::io::Error| Failure::new(format!("cannot run the tests: {error}"));
    // One pipe for both: nextest reports on stderr, libtest on stdout.
    let (reader, writer) = std::io::pipe().map_err(failure)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(failure)?).stderr(writer);
    let mut child = command.spawn().map_err(failure)?;
    // The command still holds the writing ends: the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut said = Said::default();
    for line in BufReader::new(reader).lines() {
        let line = line.map_err(failure)?;
        println!("{line}");
        said.count.add(&line);
        said.flaky.extend(flaky(&line).map(str::to_owned));
    }
    let status = child.wait().map_err(failure)?;
    Ok((said, status.success()))
}

/// Whom nextest's last words call flaky: `FLAKY 2/2 [   0.230s] (1/9) package::binary name`.
fn flaky(line: &str) -> Option<&str> {
    let (_, named) = line.trim_start().strip_prefix("FLAKY ")?.split_once(']')?;
    let named = named.trim_start();
    Some(match named.split_once(") ") {
        Some((place, name)) if place.starts_with('(') => name,
        _ => named,
    })
}

impl Count {
    /// Adds what a result line says; any other line says nothing.
    fn add(&mut self, line: &str) {
        let is_nextests = line.trim_start().starts_with("Summary [") && line.contains(" run: ");
        if !is_nextests && !line.starts_with("test result:") {
            return;
        }
        let numbered = line.split([':', ';', ',', '.']).filter_map(|part| {
            let mut words = part.split_ascii_whitespace();
            Some((words.next()?.parse::<u64>().ok()?, words.next()?))
        });
        for (number, what) in numbered {
            match what {
                "passed" => self.passed += number,
                "failed" | "timed" => self.failed += number,
                "ignored" => self.ignored += number,
                "filtered" | "skipped" => self.filtered_out += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needed_a_second_attempt_is_named() {
        assert_eq!(flaky("   FLAKY 2/2 [   0.286s] (730/917) testkit::home a_name"), Some("testkit::home a_name"));
        assert_eq!(flaky("   FLAKY 2/2 [   0.286s] testkit::home a_name"), Some("testkit::home a_name"));
        assert_eq!(flaky("        PASS [   0.286s] (730/917) testkit::home FLAKY "), None);
    }

    #[test]
    fn result_lines_of_both_runners_are_counted() {
        let mut count = Count::default();
        count.add("test result: ok. 12 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.50s");
        count.add("     Summary [   0.203s] 34 tests run: 30 passed (2 slow), 3 failed, 1 timed out, 4 skipped");
        count.add("test a_test ... ok");
        // nextest shows, indented, what libtest said of a test that failed.
        count.add("    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 9 filtered out");
        assert_eq!(count, Count { passed: 42, failed: 5, ignored: 2, filtered_out: 7 });
    }
}
