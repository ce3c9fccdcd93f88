//! What a test has asked for, and that it is done.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::trace::Trace;

/// Of the fault `delay`.
const DELAY_MS: u64 = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Abort,
    Delay,
    Errno(i32),
    Ignore,
}

/// A fault at one place: at every pass, or at the n-th one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    fault: Fault,
    pass: Option<u64>,
}

#[derive(Debug)]
struct Set {
    asked: BTreeMap<String, Asked>,
    hits: Option<PathBuf>,
    trace: Option<Trace>,
    passes: Mutex<BTreeMap<String, u64>>,
}

static SET: OnceLock<Option<Set>> = OnceLock::new();

pub(super) fn pass(name: impl FnOnce() -> String) -> io::Result<()> {
    let Some(set) = SET.get_or_init(from_environment) else { return Ok(()) };
    let name = name();
    set.note(&name);
    set.trace.iter().for_each(Trace::take);
    match set.due(&name) {
        None | Some(Fault::Ignore) => Ok(()),
        Some(Fault::Abort) => {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
            Ok(())
        }
        Some(Fault::Delay) => {
            delay();
            Ok(())
        }
        Some(Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
    }
}

pub(super) fn ignored(name: impl FnOnce() -> String) -> bool {
    let set = SET.get_or_init(from_environment).as_ref();
    set.is_some_and(|set| set.due(&name()) == Some(Fault::Ignore))
}

/// This file or folder was synced.
pub(super) fn synced(file: &std::fs::File) {
    let trace = SET.get_or_init(from_environment).as_ref().and_then(|set| set.trace.as_ref());
    if let (Some(trace), Ok(meta)) = (trace, file.metadata()) {
        trace.synced(std::os::unix::fs::MetadataExt::ino(&meta));
    }
}

/// The boot in which this process is to believe itself.
#[expect(clippy::disallowed_methods, reason = "the daemon does not know of it")]
pub(super) fn boot_id() -> Option<String> {
    std::env::var("AUTOPILOT_FAIL_BOOT_ID").ok()
}

/// Not through the poller: that one has places of its own.
fn delay() {
    let now_ms = crate::clock::monotonic_ms();
    let until_ms = now_ms.saturating_add(DELAY_MS);
    while crate::clock::monotonic_ms() < until_ms {
        let left_ms = until_ms.saturating_sub(crate::clock::monotonic_ms());
        let left = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::try_from(left_ms * 1_000_000).unwrap_or(0) };
        rustix::event::poll(&mut [], Some(&left)).ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "the daemon does not know of it, so that nobody else does either")]
fn from_environment() -> Option<Set> {
    let asked = std::env::var("AUTOPILOT_FAIL").unwrap_or_default();
    let hits = std::env::var_os("AUTOPILOT_FAIL_HITS").map(PathBuf::from);
    let trace = Trace::from_environment();
    if asked.is_empty() && hits.is_none() && trace.is_none() {
        return None;
    }
    Some(Set { asked: parse(&asked), hits, trace, passes: Mutex::default() })
}

/// What is not understood is not done: a test notices that its place was not passed as it wished.
fn parse(text: &str) -> BTreeMap<String, Asked> {
    text.split(';').filter_map(entry).collect()
}

fn entry(text: &str) -> Option<(String, Asked)> {
    let (name, fault) = text.trim().split_once('=')?;
    let (fault, pass) = match fault.split_once('@') {
        Some((fault, pass)) => (fault, Some(pass.parse().ok()?)),
        None => (fault, None),
    };
    let fault = match fault {
        "abort" => Fault::Abort,
        "delay" => Fault::Delay,
        "enospc" => Fault::Errno(libc::ENOSPC),
        "eio" => Fault::Errno(libc::EIO),
        "emfile" => Fault::Errno(libc::EMFILE),
        "ignore" => Fault::Ignore,
        "enomem" => Fault::Errno(libc::ENOMEM),
        _ => return None,
    };
    Some((name.to_owned(), Asked { fault, pass }))
}

impl Set {
    fn due(&self, name: &str) -> Option<Fault> {
        let asked = self.asked.get(name)?;
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = passes.entry(name.to_owned()).or_default();
        *count += 1;
        asked.pass.is_none_or(|pass| pass == *count).then_some(asked.fault)
    }

    fn note(&self, name: &str) {
        let Some(path) = &self.hits else { return };
        let file = OpenOptions::new().create(true).append(true).open(path);
        // A test that misses its line says so.
        file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes())).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_comes_at_its_pass_and_at_its_place_only() {
        let asked = parse("a=enospc@2; b=abort ;c=delay;nonsense;d=unheard-of;e=eio@x");
        assert_eq!(asked.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        let set = Set { asked, hits: None, trace: None, passes: Mutex::default() };
        let due = ["a", "a", "a", "x", "c", "c"].map(|name| set.due(name));
        let enospc = Some(Fault::Errno(libc::ENOSPC));
        assert_eq!(due, [None, enospc, None, None, Some(Fault::Delay), Some(Fault::Delay)]);
    }
}
