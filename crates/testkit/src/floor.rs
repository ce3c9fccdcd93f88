//! The measuring floors of the benches: what the same machine takes for the least that could do the job.
//!
//! - **restart**: a parent in fork, exec, waitpid; from a worker's last instruction to the next one's first;
//! - **cold start**: from the start of that parent to its first worker's first instruction;
//! - **true**: fork, exec and wait of `true`.
//!
//! The parent is a small process of its own, `bare-supervisor`. It starts workers by `posix_spawn`, as std does, which
//! is not slower than `fork`: a harder floor, in the supervisor's disfavour.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::binaries;
use crate::hostile::{Stamp, StampKind, monotonic_ns, stamps};

/// `bare-supervisor RUNS PROGRAM [ARG…]`: runs the program so often, one after the other.
pub fn supervise(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let runs = args.next().and_then(|runs| runs.to_str()?.parse::<u32>().ok());
    let (Some(runs), Some(program)) = (runs, args.next()) else { return ExitCode::from(2) };
    let mut command = Command::new(program);
    command.args(args);
    for _ in 0..runs {
        if command.status().is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// From each worker's last instruction to the next one's first, `count` times.
///
/// # Panics
/// When the programs cannot be run.
pub fn restart_latencies(count: u32) -> Vec<Duration> {
    let folder = tempfile::tempdir().expect("make a temporary folder");
    let stamp_file = folder.path().join("stamps");
    run_bare(count + 1, &stamp_file);
    latencies(&stamps(&stamp_file))
}

/// From each `end` to the `start` after it.
pub fn latencies(stamps: &[Stamp]) -> Vec<Duration> {
    let pairs = stamps.windows(2).filter(|pair| pair[0].kind == StampKind::End && pair[1].kind == StampKind::Start);
    pairs.map(|pair| Duration::from_nanos(pair[1].at_ns.saturating_sub(pair[0].at_ns))).collect()
}

/// From the start of a bare supervisor to its first worker's first instruction, `count` times.
///
/// # Panics
/// When the programs cannot be run.
pub fn cold_starts(count: u32) -> Vec<Duration> {
    let folder = tempfile::tempdir().expect("make a temporary folder");
    let cold_start = |number: u32| {
        let stamp_file = folder.path().join(number.to_string());
        let started_ns = monotonic_ns();
        run_bare(1, &stamp_file);
        let first = stamps(&stamp_file).first().expect("the worker has left a stamp").at_ns;
        Duration::from_nanos(first.saturating_sub(started_ns))
    };
    (0..count).map(cold_start).collect()
}

/// Fork, exec and wait of `true`, `count` times.
///
/// # Panics
/// When there is no `true`.
pub fn true_runs(count: u32) -> Vec<Duration> {
    let path = ["/bin/true", "/usr/bin/true"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let mut command = Command::new(path.expect("a `true` in /bin or /usr/bin"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let run = |_| {
        let started = Instant::now();
        assert!(command.status().expect("run true").success(), "true said no");
        started.elapsed()
    };
    (0..count).map(run).collect()
}

/// The q-quantile of some durations, by nearest rank: 0.5 is the median.
///
/// # Panics
/// When there are none.
pub fn quantile(samples: &[Duration], q: f64) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (q * (sorted.len() as f64 - 1.0)).round() as usize;
    *sorted.get(index).expect("a quantile of at least one sample")
}

fn run_bare(runs: u32, stamp_file: &Path) {
    let mut command = Command::new(binaries::own("bare-supervisor"));
    command.arg(runs.to_string()).arg(binaries::own("hostile-worker"));
    command.env_clear().env("HOSTILE", "after_ms=0").env("HOSTILE_STAMP", stamp_file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().expect("run bare-supervisor").success(), "bare-supervisor failed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<Duration> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&samples, 0.5), Duration::from_millis(51));
        assert_eq!(quantile(&samples, 1.0), Duration::from_millis(101));
    }
}
