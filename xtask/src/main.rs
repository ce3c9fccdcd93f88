//! The repository's chores: `cargo xtask COMMAND`. Owns no product code.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it does is shown to whoever started it")]
#![expect(clippy::disallowed_methods, reason = "its clock, processes and environment are real ones")]

mod bench;
mod claude_code;
mod release;
mod soak;
mod step;
mod test;
mod traces;

use std::process::ExitCode;

use step::{Failure, cargo, run};

const HELP: &str = "\
cargo xtask COMMAND

  test [ARG…]   set up all that the tests need (the pinned Claude Code CLI from npm included) and run them all;
                arguments go to `cargo nextest run`, or to `cargo test` where there is no nextest
  tidy          the repository's own rules, which are ordinary tests: xtask/tests/tidy.rs
  bench [--quick] [--json] [NAME…]
                measure the numbers of PROMISES.md against the least that the machine needs; fails when one is missed
  soak kills [COUNT]
                kill -9 of daemons and shims at random instants, 10,000 times: never two workers, no exit lost
  soak days [COUNT]
                seven days of faults, in six minutes: what the daemon holds of the machine must not grow
  soak fuzz [COUNT]
                damaged streams of the agent, 10,000,000 of them: no panic, and no text is spoiled
  release       build the programs for people, and see that nothing for tests is in them
  ci            formatting, clippy, test, release: what has to pass before a change is merged
  claude-code   only install the pinned Claude Code CLI, into target/claude-code
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("test") => test::run_all(&args[1..]),
        Some("tidy") => run(cargo().args(["test", "--package", "xtask", "--test", "tidy"])),
        Some("bench") => bench::main(&args[1..]),
        Some("soak") => soak::main(&args[1..]),
        Some("release") => release::check(),
        Some("ci") => ci(),
        Some("claude-code") => claude_code::install().map(|path| println!("{}", path.display())),
        Some(bench::overhead::INSIDE) => bench::overhead::inside(&args[1..]),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(Failure { what: format!("no such command: {}", args.join(" ")), hint: Some(HELP.to_owned()) }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn ci() -> Result<(), Failure> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"]))?;
    test::run_all(&[])?;
    release::check()
}
