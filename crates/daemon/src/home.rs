//! The folder that holds everything: where each file lives.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How the names of all that is in a home begin, backups and temporary files included.
const OUR_NAMES: [&str; 8] =
    ["autopilot", ".autopilot", "daemon.toml", "bin", "workers", "projects", "environment", "start-daemon.sh"];

/// inode(7): a folder for everybody.
const STICKY: u32 = 0o1000;

/// `AUTOPILOT_HOME`, usually `~/.autopilot`. Mode 0700: what lies in it is nobody else's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// `root` is absolute.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the folder is for us alone, so that others may be shut out of it: our user's, with nothing in it that is not ours. A
    /// `/tmp` is not, nor a project.
    pub(crate) fn is_for_us_alone(&self) -> io::Result<bool> {
        let metadata = std::fs::metadata(&self.root)?;
        let is_shared = metadata.uid() != os::process::effective_uid() || metadata.mode() & STICKY != 0;
        if is_shared {
            return Ok(false);
        }
        for entry in self.root.read_dir()? {
            let name = entry?.file_name();
            if !OUR_NAMES.iter().any(|ours| name.as_encoded_bytes().starts_with(ours.as_bytes())) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where the daemon listens.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("autopilotd.sock")
    }

    /// The daemon's pid, for people and their scripts. Nothing is decided by it.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.root.join("autopilotd.pid")
    }

    /// Its `flock` says whether a daemon lives. Never removed.
    #[must_use]
    pub fn daemon_lock(&self) -> PathBuf {
        self.root.join("autopilotd.lock")
    }

    /// What belongs to the one worker.
    #[must_use]
    pub fn worker(&self) -> PathBuf {
        self.root.join("workers/main")
    }

    /// Counters and waits that outlive the daemon.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.worker().join("state.json")
    }

    /// What happened, and why: the newest file of the journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.worker().join("journal.jsonl")
    }

    /// Where the worker sends its heartbeats.
    #[must_use]
    pub fn notify_socket(&self) -> PathBuf {
        self.worker().join("notify.sock")
    }

    /// The worker's stdout and stderr.
    #[must_use]
    pub fn output_log(&self) -> PathBuf {
        self.worker().join("output.log")
    }

    /// What was seen just before a worker was ended as stalled or for want of memory, a file each.
    #[must_use]
    pub fn incidents(&self) -> PathBuf {
        self.worker().join("incidents")
    }

    /// The runs, a folder each.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.worker().join("runs")
    }

    /// What is prepared for the next run; it gets the run's name when it begins.
    #[must_use]
    pub fn next_run(&self) -> RunFolder {
        RunFolder { path: self.runs().join("next") }
    }

    /// One run's.
    #[must_use]
    pub fn run(&self, number: u64) -> RunFolder {
        RunFolder { path: self.runs().join(number.to_string()) }
    }
}

/// What a run leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Held by the shim, the worker and all below it: while it is held, something of the run lives. Its content is the
    /// run's unique name.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Written when the worker's program runs.
    #[must_use]
    pub fn started(&self) -> PathBuf {
        self.path.join("started")
    }

    /// What the daemon has seen of it; its own, for the next daemon.
    #[must_use]
    pub fn seen(&self) -> PathBuf {
        self.path.join("seen")
    }

    /// Written when the tree is empty.
    #[must_use]
    pub fn exit(&self) -> PathBuf {
        self.path.join("exit")
    }
}
