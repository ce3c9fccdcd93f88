//! Promises 16 and 17: what the worker costs beside the real CLI, in memory and in time.
//!
//! The real CLI runs only where nothing can leave the machine: this program starts itself once more in a network namespace.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::fake_api::{Answer, FakeApi, Gate, Script};
use testkit::home::{DEADLINE, Home};
use testkit::{claude, netns};

use super::place::Place;
use super::row::{Limit, Row, Unit};
use crate::claude_code;
use crate::step::Failure;

/// The name by which the second process knows what it is for.
pub(crate) const INSIDE: &str = "bench-overhead-in-namespace";

const PROMPT: &str = "say hello";

pub(crate) fn measure(place: &Place) -> Result<Vec<Row>, Failure> {
    claude_code::install()?;
    let pairs = place.samples(30, 6);
    let own = std::env::current_exe().map_err(|error| Failure::new(format!("cannot find this program: {error}")))?;
    let mut command = netns::command();
    command.arg(own).args([INSIDE, &pairs.to_string()]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| Failure::new(format!("cannot start unshare: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("the measurement in its network namespace failed ({})", output.status)));
    }
    let measured: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(format!("the measurement said something else: {error}")))?;
    let number = |name: &str| measured[name].as_f64().unwrap_or(f64::NAN);
    Ok(vec![
        Row::new(
            17,
            "a session beyond the bare CLI's with the same MCP server, median of pairs",
            Limit::AtMost(20.0),
            number("extra_ms"),
            Unit::Ms,
        ),
        Row::new(17, "the bare CLI's session with that server, median", Limit::Shown, number("bare_ms"), Unit::Ms),
        Row::new(
            17,
            "of that the CLI's own price of having such a server, median of pairs",
            Limit::Shown,
            number("server_ms"),
            Unit::Ms,
        ),
        Row::new(
            16,
            "the worker while the CLI waits for the model: RSS",
            Limit::AtMost(12.0),
            number("worker_mb"),
            Unit::Mb,
        ),
        Row::new(16, "the CLI at the same time: RSS", Limit::Shown, number("cli_mb"), Unit::Mb),
    ])
}

/// In the namespace: measures, and prints what came of it as JSON.
pub(crate) fn inside(args: &[String]) -> Result<(), Failure> {
    netns::raise();
    let pairs: usize = args.first().and_then(|count| count.parse().ok()).unwrap_or(1);
    let place = Place::new(false);
    let api = FakeApi::start(Script::always(Answer::text("Hello.")));
    let mut home = Home::new(place.binaries.clone());
    home.use_real_claude(&api);
    // The first makes the project's database, which the bare CLI's server needs, too.
    timed(&mut ours(&home));
    let mut extra_ms = Vec::new();
    let mut bare_ms = Vec::new();
    let mut server_ms = Vec::new();
    // The first round warms the caches.
    for round in 0..=pairs {
        let (with_server, ours) = if round % 2 == 0 {
            let with_server = timed(&mut with_server(&home));
            (with_server, timed(&mut ours(&home)))
        } else {
            let ours = timed(&mut ours(&home));
            (timed(&mut with_server(&home)), ours)
        };
        let without = timed(&mut bare(&home));
        if round > 0 {
            extra_ms.push(ms(ours) - ms(with_server));
            bare_ms.push(ms(with_server));
            server_ms.push(ms(with_server) - ms(without));
        }
    }
    let (worker_mb, cli_mb) = memory(&place);
    let result = json!({
        "extra_ms": median(&mut extra_ms), "bare_ms": median(&mut bare_ms), "server_ms": median(&mut server_ms),
        "worker_mb": worker_mb, "cli_mb": cli_mb,
    });
    println!("{result}");
    Ok(())
}

/// As the worker calls it.
fn bare(home: &Home) -> Command {
    let mut command = home.command(claude::binary());
    command.args(["-p", PROMPT, "--output-format", "stream-json", "--verbose", "--include-partial-messages"]);
    command.args(["--model", "sonnet", "--dangerously-skip-permissions"]);
    command
}

/// The same with the queue's tools, which every session of ours has. The CLI looks 50 ms after it has told a server to end whether it did.
fn with_server(home: &Home) -> Command {
    let mut command = bare(home);
    let database = home.path().join("projects/bench/queue.db");
    let program = &home.binaries().autopilot;
    let server = json!({ "type": "stdio", "command": program, "args": ["mcp", "--database", database] });
    command.arg("--mcp-config").arg(json!({ "mcpServers": { "autopilot": server } }).to_string());
    command
}

fn ours(home: &Home) -> Command {
    let mut command = home.command(&home.binaries().autopilot);
    command.args(["run", "--project", "bench", "--model", "sonnet", PROMPT]);
    command
}

fn timed(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output().expect("start it");
    let took = begun.elapsed();
    assert!(output.status.success(), "{output:?}");
    took
}

/// RSS in MB of the worker and of the CLI while the model is waited for.
fn memory(place: &Place) -> (f64, f64) {
    let gate = Gate::closed();
    let call = Answer::bash("echo hello");
    let api = FakeApi::start(Script::steps([call, Answer::text("Hello.").held_by(&gate)]));
    let mut home = Home::new(place.binaries.clone());
    home.use_real_claude(&api);
    let mut worker = home.start_autopilot(["run", "--project", "bench", "--model", "sonnet", PROMPT]);
    gate.wait_for_arrival(DEADLINE);
    let cli = home.claude_processes();
    let cli_mb = cli.iter().map(|process| rss_mb(process.pid)).fold(0.0, f64::max);
    let worker_mb = rss_mb(worker.pid());
    gate.open();
    worker.wait(DEADLINE);
    (worker_mb, cli_mb)
}

fn rss_mb(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line with its memory");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib * 1024.0 / 1e6
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
