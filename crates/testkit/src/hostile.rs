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
//! | `beats_while=FILE` | a heartbeat every 100 ms from a thread of its own, as long as the file is there |
//! | `watchdog_ms=N`, `rlog=FILE` (+ `rlog_ms=N`) | a heartbeat, or a line in a file, every so often |
//! | `after_ms=N` | lives so long; without it until SIGTERM |
//! | `alone` | stamps `beside` if another one with this word and the same stamp file lives |
//! | `exit=CODE`, `exit=pid`, `die=SIGNAL` | how it ends; else code 0. `pid`: [`code_of`] its pid |
//!
//! No words at all: it does nothing, and exits with 0 at SIGTERM. With `HOSTILE_STAMP=FILE` it appends
//! `start NANOSECONDS PID RUN`, the monotonic clock at its first instruction, and `end NANOSECONDS PID RUN` right before it exits.
//! Whatever it starts ends by itself after two minutes.

mod crowd;
mod life;
mod words;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::FlockOperation;
pub use words::Words;

/// One line of a stamp file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub kind: StampKind,
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    pub pid: i32,
    /// The number of its run; 0 without a supervisor that gives one.
    pub run: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampKind {
    Start,
    End,
    /// It was not the only one.
    Beside,
}

/// The exit code that tells which process it was.
pub fn code_of(pid: i32) -> u8 {
    u8::try_from(pid.rem_euclid(256)).unwrap_or(0)
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
            "beside" => StampKind::Beside,
            _ => return None,
        };
        let (at_ns, pid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Stamp { kind, at_ns, pid, run: words.next().and_then(|run| run.parse().ok()).unwrap_or(0) })
    };
    // A line that is still being written has no newline yet.
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter_map(|line| stamp(line.trim_end())).collect()
}

/// The whole program. `started_ns` is the time of its first instruction.
pub fn main(started_ns: u64) -> ExitCode {
    // Whoever asks is no start. `HOSTILE_VERSION`: what is done instead, in the same words.
    if std::env::args().nth(1).is_some_and(|arg| arg == "--version") {
        let Ok(words) = std::env::var("HOSTILE_VERSION") else {
            let said = std::io::stdout().write_all(b"autopilot 0.0.0 (hostile)\n");
            return ExitCode::from(u8::from(said.is_err()));
        };
        return ExitCode::from(Words::parse(&words).map_or(2, |words| life::live(&words)));
    }
    stamp("start", started_ns);
    let words = match read_words() {
        Ok(words) => words,
        Err(error) => {
            eprintln!("hostile-worker: {error}");
            return ExitCode::from(2);
        }
    };
    // Held until it ends.
    let _alone = words.alone.then(be_alone);
    let code = life::live(&words);
    stamp("end", monotonic_ns());
    ExitCode::from(code)
}

fn stamp(kind: &str, at_ns: u64) {
    let Some(path) = std::env::var_os("HOSTILE_STAMP") else { return };
    let run_id = std::env::var("AUTOPILOT_RUN_ID").unwrap_or_default();
    let run = run_id.split('-').next().filter(|run| !run.is_empty()).unwrap_or("0");
    let line = format!("{kind} {at_ns} {} {run}\n", std::process::id());
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("write the stamp");
}

/// A lock of our own: whoever starts two workers at once is not believed on the strength of its own locks.
fn be_alone() -> Option<File> {
    let mut path = std::env::var_os("HOSTILE_STAMP")?;
    path.push(".alone");
    let file = OpenOptions::new().create(true).append(true).open(path).expect("open the lock");
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        stamp("beside", monotonic_ns());
    }
    Some(file)
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
