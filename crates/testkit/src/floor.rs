//! The measuring floors of the benches: what the same machine takes for the least that could do the job.
//!
//! - **restart**: a parent in fork, exec, waitpid; from a worker's last instruction to the next one's first;
//! - **cold start**: from the start of that parent to its first worker's first instruction;
//! - **true**: fork, exec and wait of `true`;
//! - **splice**: a worker's output moved from its pipe into one bounded file, and nothing else.
//!
//! The parent is a small process of its own, `bare-supervisor`. It starts workers by `posix_spawn`, as std does, which
//! is not slower than `fork`: a harder floor, in the supervisor's disfavour.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

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

/// The two programs that the floors are measured with.
#[derive(Clone, Debug)]
pub struct Floor {
    /// `bare-supervisor`.
    pub supervisor: PathBuf,
    /// `hostile-worker`, the same file that the subject runs.
    pub worker: PathBuf,
}

impl Floor {
    /// As built beside the calling program.
    pub fn own() -> Self {
        Self { supervisor: binaries::own("bare-supervisor"), worker: binaries::own("hostile-worker") }
    }

    /// From each worker's last instruction to the next one's first, `count` times.
    ///
    /// # Panics
    /// When the programs cannot be run.
    pub fn restart_latencies(&self, count: u32) -> Vec<Duration> {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        let stamp_file = folder.path().join("stamps");
        self.run(count + 1, &stamp_file);
        latencies(&stamps(&stamp_file))
    }

    /// From the start of a bare supervisor to its first worker's first instruction, `count` times.
    ///
    /// # Panics
    /// When the programs cannot be run.
    pub fn cold_starts(&self, count: u32) -> Vec<Duration> {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        let cold_start = |number: u32| {
            let stamp_file = folder.path().join(number.to_string());
            let started_ns = monotonic_ns();
            self.run(1, &stamp_file);
            let first = stamps(&stamp_file).first().expect("the worker has left a stamp").at_ns;
            Duration::from_nanos(first.saturating_sub(started_ns))
        };
        (0..count).map(cold_start).collect()
    }

    /// `bare-supervisor` for so many runs of the worker, not started yet.
    pub fn command(&self, runs: u32) -> Command {
        let mut command = Command::new(&self.supervisor);
        command.arg(runs.to_string()).arg(&self.worker);
        command
    }

    fn run(&self, runs: u32, stamp_file: &Path) {
        let mut command = self.command(runs);
        command.env_clear().env("HOSTILE", "after_ms=0").env("HOSTILE_STAMP", stamp_file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().expect("run bare-supervisor").success(), "bare-supervisor failed");
    }

    /// How long the worker takes to write so many bytes, from its first instruction to its last, into a pipe that is
    /// spliced into one file, which begins anew at `file_bytes`.
    ///
    /// # Panics
    /// When the worker cannot be run, or the file not be written.
    pub fn splice(&self, bytes: u64, file_bytes: u64) -> Duration {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        let stamp_file = folder.path().join("stamps");
        let (reader, writer) = std::io::pipe().expect("make a pipe");
        fcntl_setpipe_size(&reader, PIPE_BYTES).expect("a pipe of that size");
        let mut command = Command::new(&self.worker);
        command.env_clear().env("HOSTILE", format!("spew={bytes} after_ms=0")).env("HOSTILE_STAMP", &stamp_file);
        let mut worker = command.stdin(Stdio::null()).stdout(writer).spawn().expect("run the worker");
        // It still holds the writing end: the pipe would never end.
        drop(command);

        let open = || File::create(folder.path().join("output")).expect("make a file");
        let (mut file, mut room) = (open(), file_bytes);
        loop {
            let most = usize::try_from(room).unwrap_or(PIPE_BYTES).min(PIPE_BYTES);
            let moved = splice(&reader, None, &file, None, most, SpliceFlags::MOVE).expect("splice");
            if moved == 0 {
                break;
            }
            room = room.saturating_sub(moved as u64);
            if room == 0 {
                (file, room) = (open(), file_bytes);
            }
        }
        assert!(worker.wait().expect("wait for the worker").success(), "the worker failed");
        let stamps = stamps(&stamp_file);
        let [first, last] = stamps.as_slice() else { panic!("two stamps, not {stamps:?}") };
        Duration::from_nanos(last.at_ns.saturating_sub(first.at_ns))
    }
}

/// As much as an ordinary user may ask for.
const PIPE_BYTES: usize = 1 << 20;

/// From each `end` to the `start` after it.
pub fn latencies(stamps: &[Stamp]) -> Vec<Duration> {
    let pairs = stamps.windows(2).filter(|pair| pair[0].kind == StampKind::End && pair[1].kind == StampKind::Start);
    pairs.map(|pair| Duration::from_nanos(pair[1].at_ns.saturating_sub(pair[0].at_ns))).collect()
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
