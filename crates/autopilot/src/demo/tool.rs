//! What the agent's tool call runs: `./step N` writes line N, once the demo lets it; and the child of it that leaks.
//!
//! It appends and does not look: if a line is there twice, then the agent had it written twice.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::ExitCode;

use os::child::{Child, Ended};
use os::poll::{Interest, Poller, Token};
use os::spawn::Program;
use os::watch::CreationWatch;

use super::stage::Stage;

/// A demo that is gone gives no cue.
const PATIENCE_MS: u64 = 180_000;
/// A leak that nobody ends ends by itself.
const LEAK_PATIENCE_MS: u64 = 15_000;
const LEAK_EVERY_MS: u64 = 10;

/// `./step N`
pub(super) fn step(stage: &Stage, arguments: &[OsString]) -> ExitCode {
    let number = arguments.get(1).and_then(|word| word.to_str()).and_then(|word| word.parse().ok());
    let said = number.ok_or_else(|| io::Error::other("usage: ./step N")).and_then(|number| write_line(stage, number));
    let (text, code) = match said {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (format!("error: {error}"), ExitCode::FAILURE),
    };
    // A caller that does not listen has its exit code.
    writeln!(io::stdout().lock(), "{text}").ok();
    code
}

fn write_line(stage: &Stage, number: u32) -> io::Result<String> {
    let words = wait_for_cue(stage, number)?;
    let note = if words.is_empty() { String::new() } else { leak_below(stage, &words)? };
    let mut file = OpenOptions::new().append(true).create(true).open(stage.counted())?;
    file.write_all(format!("{number}\n").as_bytes())?;
    Ok(format!("{note}wrote line {number}"))
}

fn wait_for_cue(stage: &Stage, number: u32) -> io::Result<String> {
    let cue = stage.cues().join(number.to_string());
    let mut watch = CreationWatch::new()?;
    watch.add(&stage.cues())?;
    let poller = Poller::new()?;
    poller.add(&watch, Token(0), Interest::Readable)?;
    let until_ms = os::clock::monotonic_ms() + PATIENCE_MS;
    let mut ready = Vec::new();
    loop {
        match std::fs::read_to_string(&cue) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
        if os::clock::monotonic_ms() >= until_ms {
            return Err(io::ErrorKind::TimedOut.into());
        }
        poller.wait_until(Some(until_ms), &mut ready)?;
        watch.take();
    }
}

/// Starts the child that leaks, and waits for its end.
fn leak_below(stage: &Stage, words: &str) -> io::Result<String> {
    let mut argv = vec![stage.program("node").into_os_string()];
    argv.extend(words.split(' ').map(OsString::from));
    let mut child = Child::spawn(&Program { argv, env: Vec::new(), env_remove: Vec::new() }, &stage.repository())?;
    let poller = Poller::new()?;
    poller.add(&child, Token(0), Interest::Readable)?;
    let ended = loop {
        poller.wait(None, &mut Vec::new())?;
        if let Some(ended) = child.reap()? {
            break ended;
        }
    };
    match ended {
        Ended::Signal(signal) => Ok(format!("node was ended by signal {signal}; ")),
        Ended::Code(code) => Err(io::Error::other(format!("node ended by itself, status {code}"))),
    }
}

/// `node CAP BYTES_PER_SECOND`
pub(super) fn leak(arguments: &[OsString]) -> ExitCode {
    let number = |position: usize| arguments.get(position)?.to_str()?.parse::<usize>().ok();
    let (Some(cap_bytes), Some(bytes_per_second)) = (number(1), number(2)) else { return ExitCode::from(2) };
    let Ok(poller) = Poller::new() else { return ExitCode::FAILURE };
    let began_ms = os::clock::monotonic_ms();
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut held_bytes = 0;
    let mut ready = Vec::new();
    loop {
        let age_ms = os::clock::monotonic_ms().saturating_sub(began_ms);
        if age_ms > LEAK_PATIENCE_MS {
            return ExitCode::SUCCESS;
        }
        let age_ms = usize::try_from(age_ms).unwrap_or(usize::MAX);
        let wanted_bytes = (bytes_per_second / 1_000).saturating_mul(age_ms).min(cap_bytes);
        if wanted_bytes > held_bytes {
            // Ones: a page of zeros would not be there until it is written to.
            held.push(vec![1; wanted_bytes - held_bytes]);
            held_bytes = wanted_bytes;
        }
        if poller.wait(Some(LEAK_EVERY_MS), &mut ready).is_err() {
            return ExitCode::FAILURE;
        }
    }
}
