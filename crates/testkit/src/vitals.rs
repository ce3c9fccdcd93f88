//! What the kernel says of one process, read from `/proc` as proc(5) describes it.

use std::fs;
use std::path::Path;

/// Runs; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// `R`, `S`, `T` (stopped), `Z` …; none when there is no such process.
pub fn state(pid: i32) -> Option<char> {
    after_name(pid)?.chars().next()
}

pub fn parent(pid: i32) -> Option<i32> {
    after_name(pid)?.split(' ').nth(1)?.parse().ok()
}

/// Clock ticks on a processor so far, in user and kernel mode.
pub fn cpu_ticks(pid: i32) -> u64 {
    let fields = after_name(pid).unwrap_or_default();
    fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Its share of the memory that it has mapped.
pub fn pss_kib(pid: i32) -> u64 {
    kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// The memory that it has resident.
pub fn rss_kib(pid: i32) -> u64 {
    kib(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The most memory that it ever had resident.
pub fn peak_rss_kib(pid: i32) -> u64 {
    kib(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// The signals of one line of its status, such as `SigBlk`, `SigIgn`, `SigCgt`: bit n-1 is signal n.
pub fn signals(pid: i32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    value.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or(0)
}

/// Has a handler for SIGTERM.
pub fn catches_term(pid: i32) -> bool {
    signals(pid, "SigCgt") & 1 << 14 != 0
}

/// A variable of the environment that it was started with.
pub fn environment(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let entry = String::from_utf8_lossy(entry);
        entry.split_once('=').filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    })
}

/// Its command line.
pub fn arguments(pid: i32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Whether somebody holds a `flock` of the file.
///
/// # Panics
/// When the file cannot be opened.
pub fn is_locked(path: &Path) -> bool {
    use rustix::fs::{FlockOperation, flock};
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

/// The part of `/proc/PID/stat` after the name, which may contain anything.
fn after_name(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
}

fn kib(path: &str, line: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|text| text.strip_prefix(line));
    value.and_then(|value| value.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_as_long_as_it_is_held() {
        let file = tempfile::NamedTempFile::new().unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        assert!(is_locked(file.path()));
        rustix::fs::flock(&file, rustix::fs::FlockOperation::Unlock).unwrap();
        assert!(!is_locked(file.path()));
    }

    #[test]
    fn one_knows_oneself() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(is_alive(own) && pss_kib(own) > 100 && peak_rss_kib(own) > 100);
        assert_eq!(parent(own), Some(i32::try_from(std::os::unix::process::parent_id()).unwrap()));
        assert_eq!(environment(own, "PATH"), std::env::var("PATH").ok());
        assert_eq!(arguments(own).len(), std::env::args().count());
        assert!(!is_alive(0) && state(-1).is_none());
    }
}
