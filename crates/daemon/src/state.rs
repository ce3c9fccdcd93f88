//! What outlives the daemon, in `workers/main/state.json`.
//!
//! A file that can't be read is set aside, never trusted and never fatal. Times in it mean something in the same boot
//! only.

use std::io;
use std::path::{Path, PathBuf};

use os::files::{Durability, write_atomic};
use policy::supervisor::Snapshot;
use serde::{Deserialize, Serialize};
use wire::control::LastExit;

const VERSION: u32 = 1;

/// So many ends of runs are remembered.
pub(crate) const MOST_EXITS: usize = 10;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    v: u32,
    pub(crate) boot_id: String,
    last_run: u64,
    starts: u64,
    failures: u32,
    quick_exits: u32,
    failures_ms: Vec<u64>,
    stall_kills_ms: Vec<u64>,
    stopped: bool,
    next_attempt_ms: Option<u64>,
    failed: bool,
    /// The newest run whose end has been dealt with.
    pub(crate) ended_run: u64,
    /// Newest first.
    pub(crate) last_exits: Vec<LastExit>,
}

impl State {
    pub(crate) fn new(boot_id: String, snapshot: Snapshot, ended_run: u64, last_exits: Vec<LastExit>) -> Self {
        Self {
            v: VERSION,
            boot_id,
            last_run: snapshot.last_run,
            starts: snapshot.starts,
            failures: snapshot.failures,
            quick_exits: snapshot.quick_exits,
            failures_ms: snapshot.failures_ms,
            stall_kills_ms: snapshot.stall_kills_ms,
            stopped: snapshot.stopped,
            next_attempt_ms: snapshot.next_attempt_ms,
            failed: snapshot.failed,
            ended_run,
            last_exits,
        }
    }

    /// What the machine carries on with. Of another boot only what has no time in it.
    pub(crate) fn snapshot(&self, boot_id: &str) -> Snapshot {
        let same_boot = self.boot_id == boot_id;
        let times = |times: &[u64]| if same_boot { times.to_vec() } else { Vec::new() };
        Snapshot {
            last_run: self.last_run,
            starts: self.starts,
            failures: if same_boot { self.failures } else { 0 },
            quick_exits: if same_boot { self.quick_exits } else { 0 },
            failures_ms: times(&self.failures_ms),
            stall_kills_ms: times(&self.stall_kills_ms),
            stopped: self.stopped,
            next_attempt_ms: self.next_attempt_ms.filter(|_| same_boot),
            failed: self.failed && same_boot,
        }
    }

    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        write_atomic(path, &json, Durability::Process)
    }
}

/// What a look at the state file found.
#[derive(Debug, PartialEq)]
pub(crate) enum Loaded {
    /// None: a new home.
    Absent,
    /// This.
    State(Box<State>),
    /// Something else, which now lies there.
    SetAside(PathBuf),
}

/// # Errors
/// As of read and rename.
pub(crate) fn load(path: &Path) -> io::Result<Loaded> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Absent),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice::<State>(&bytes) {
        Ok(state) if state.v == VERSION => Ok(Loaded::State(Box::new(state))),
        Ok(_) | Err(_) => {
            let mut name = path.as_os_str().to_os_string();
            name.push(format!(".unreadable-{}", os::clock::wall_ms()));
            let aside = PathBuf::from(name);
            std::fs::rename(path, &aside)?;
            Ok(Loaded::SetAside(aside))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_set_aside_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(load(&path).unwrap(), Loaded::Absent);
        for garbage in ["", "{", "{\"v\":99}", "\0\0\0\0"] {
            std::fs::write(&path, garbage).unwrap();
            let Loaded::SetAside(aside) = load(&path).unwrap() else { panic!("{garbage:?} is no state") };
            assert_eq!(std::fs::read_to_string(aside).unwrap(), garbage);
            assert_eq!(load(&path).unwrap(), Loaded::Absent);
        }
    }

    #[test]
    fn times_of_another_boot_mean_nothing() {
        let state = State {
            v: VERSION,
            boot_id: "a".to_owned(),
            starts: 7,
            failures: 3,
            next_attempt_ms: Some(5),
            stopped: true,
            ..State::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        state.save(&path).unwrap();
        assert_eq!(load(&path).unwrap(), Loaded::State(Box::new(state.clone())));
        assert_eq!(state.snapshot("a").next_attempt_ms, Some(5));
        let other = state.snapshot("b");
        assert_eq!((other.next_attempt_ms, other.failures, other.starts, other.stopped), (None, 0, 7, true));
    }
}
