//! The hostile worker: everything that a supervised program can do to its supervisor, on request.
//!
//! It is told what to do in words, because the daemon decides on its arguments: in `HOSTILE`, or in the file that
//! `HOSTILE_PLAN` names, where the n-th start follows the n-th line and the last line holds from there on. By hand:
//! `hostile-worker --hostile WORDS`. Words, in the order in which they take effect:
//!
//! | word | what it does |
//! | --- | --- |
//! | `ignore-term` | SIGTERM, SIGINT and SIGHUP have no effect |
//! | `ready`, `phase=NAME`, `status=TEXT`, `notify=NAME=VALUE` | one notify datagram each |
//! | `spew=BYTES` | writes so much to stdout, as fast as it is taken |
//! | `leak=BYTES_PER_S:CAP_BYTES` | takes memory, and touches it, up to the cap |
//! | `trap` | 21 more processes: in its group, in sessions of their own, double-forked; none heeds SIGTERM |
//! | `bomb=COUNT` | processes that start processes, COUNT in all |
//! | `watchdog_ms=N`, `rlog=FILE` (+ `rlog_ms=N`) | a heartbeat, or a line in a file, every so often |
//! | `after_ms=N` | lives so long; without it until SIGTERM |
//! | `exit=CODE`, `die=SIGNAL` | how it ends; else code 0 |
//!
//! No words at all: it does nothing, and exits with 0 at SIGTERM. With `HOSTILE_STAMP=FILE` it appends
//! `start NANOSECONDS PID`, the monotonic clock at its first instruction, and `end NANOSECONDS PID` right before it exits.
//! Whatever it starts ends by itself after two minutes.

mod crowd;
mod life;
mod words;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

pub use words::Words;

/// One line of a stamp file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub kind: StampKind,
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    pub pid: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampKind {
    Start,
    End,
}

/// CLOCK_MONOTONIC in nanoseconds, the clock that all stamps are made with.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}

/// The stamps in a file, oldest first; none when it is not there.
pub fn stamps(path: &Path) -> Vec<Stamp> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let stamp = |line: &str| {
        let mut words = line.split(' ');
        let kind = match words.next()? {
            "start" => StampKind::Start,
            "end" => StampKind::End,
            _ => return None,
        };
        Some(Stamp { kind, at_ns: words.next()?.parse().ok()?, pid: words.next()?.parse().ok()? })
    };
    // A line that is still being written has no newline yet.
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter_map(|line| stamp(line.trim_end())).collect()
}

/// The whole program. `started_ns` is the time of its first instruction.
pub fn main(started_ns: u64) -> ExitCode {
    stamp("start", started_ns);
    let words = match read_words() {
        Ok(words) => words,
        Err(error) => {
            eprintln!("hostile-worker: {error}");
            return ExitCode::from(2);
        }
    };
    let code = life::live(&words);
    stamp("end", monotonic_ns());
    ExitCode::from(code)
}

fn stamp(kind: &str, at_ns: u64) {
    let Some(path) = std::env::var_os("HOSTILE_STAMP") else { return };
    let line = format!("{kind} {at_ns} {}\n", std::process::id());
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("write the stamp");
}

fn read_words() -> Result<Words, String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--hostile") => return Words::parse(&args[1..].join(" ")),
        Some("--escape") => {
            let [_, how, words] = args.as_slice() else { return Err("--escape HOW WORDS".to_owned()) };
            crowd::get_away(how, words);
            return Words::parse(words);
        }
        // Whatever else the supervisor says is meant for a real worker.
        _ => {}
    }
    match std::env::var_os("HOSTILE_PLAN") {
        Some(plan) => Words::parse(&next_line(Path::new(&plan))?),
        None => Words::parse(&std::env::var("HOSTILE").unwrap_or_default()),
    }
}

/// The line for this start. Starts are counted in a file beside the plan, a byte each.
fn next_line(plan: &Path) -> Result<String, String> {
    let describe = |error: std::io::Error| format!("{}: {error}", plan.display());
    let lines = std::fs::read_to_string(plan).map_err(describe)?;
    let mut count = plan.as_os_str().to_owned();
    count.push(".starts");
    let mut file = OpenOptions::new().create(true).append(true).open(count).map_err(describe)?;
    let starts = usize::try_from(file.metadata().map_err(describe)?.len()).unwrap_or(usize::MAX);
    file.write_all(b".").map_err(describe)?;
    Ok(lines.lines().nth(starts).or_else(|| lines.lines().next_back()).unwrap_or_default().to_owned())
}
