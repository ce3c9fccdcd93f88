//! Where it is measured: release builds, private homes, the hostile worker and its stamps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::binaries;
use testkit::floor::Floor;
use testkit::home::{Binaries, DEADLINE, Home};
use testkit::hostile::{Stamp, StampKind, stamps};

use os::process::{Identity, Pidfd};

/// The programs, and how much effort is wanted.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) binaries: Binaries,
    pub(crate) floor: Floor,
    pub(crate) quick: bool,
}

impl Place {
    pub(crate) fn new(quick: bool) -> Self {
        let release = binaries::target_folder().join("release");
        let binaries = Binaries { autopilot: release.join("autopilot"), autopilotd: release.join("autopilotd") };
        let (supervisor, worker) = (release.join("bare-supervisor"), release.join("hostile-worker"));
        Self { binaries, floor: Floor { supervisor, worker }, quick }
    }

    /// `full` samples, or `quick` ones.
    pub(crate) fn samples(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// A home whose worker is the hostile one, with these settings.
    pub(crate) fn home(&self, settings: &str, words: &str) -> Home {
        let mut home = Home::new(self.binaries.clone());
        home.set_env("AUTOPILOT_WORKER_BINARY", &self.floor.worker);
        home.set_env("HOSTILE", words);
        home.set_env("HOSTILE_STAMP", stamp_file(&home));
        std::fs::create_dir(home.path()).expect("make the home's folder");
        std::fs::write(home.path().join("daemon.toml"), settings).expect("write the settings");
        home
    }
}

/// No pause and no growing delay: every death is followed by a start.
pub(crate) fn restarts_after(delay_ms: u64) -> String {
    format!(
        "[restart]\ninitial_backoff_ms = {delay_ms}\nmax_backoff_ms = {delay_ms}\nbackoff_multiplier = 1.0\n\
         max_consecutive_restarts = 0\nmax_restarts_per_hour = 0\n"
    )
}

pub(crate) fn stamp_file(home: &Home) -> PathBuf {
    home.user_home().join("stamps")
}

/// A stamp file that is read on.
#[derive(Debug)]
pub(crate) struct Starts {
    path: PathBuf,
    seen: usize,
}

impl Starts {
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: 0 }
    }

    /// Waits for the next start that was not returned before.
    pub(crate) fn next(&mut self, home: &Home) -> Stamp {
        let start = home.wait_until("a worker's first instruction", DEADLINE, || {
            let found = stamps(&self.path);
            let position = found.iter().skip(self.seen).position(|stamp| stamp.kind == StampKind::Start)?;
            self.seen += position + 1;
            found.into_iter().nth(self.seen - 1)
        });
        // Whoever started it has something to write down, and it has to settle.
        std::thread::sleep(Duration::from_millis(3));
        start
    }
}

/// A handle on a process that runs now.
pub(crate) fn pidfd(pid: i32) -> Pidfd {
    let pid = u32::try_from(pid).expect("pids are positive");
    let stat =
        os::proc::stat(os::proc::root(), pid).unwrap_or_else(|error| panic!("process {pid} does not run: {error}"));
    let identity = Identity { pid, start_ticks: stat.start_ticks };
    Pidfd::open(identity).expect("open a pidfd").expect("the process runs")
}

/// The daemon's shims.
pub(crate) fn shims(daemon: i32) -> Vec<u32> {
    let daemon = u32::try_from(daemon).expect("pids are positive");
    let children = os::proc::children(os::proc::root(), daemon).expect("read the daemon's children");
    let is_shim = |pid: &u32| os::proc::stat(os::proc::root(), *pid).is_ok_and(|stat| stat.name == "autopilot-shim");
    children.into_iter().filter(is_shim).collect()
}
