//! What outlives the daemon, in `workers/main/state.json`.
//!
//! A file that can't be read is set aside, never trusted and never fatal. Times in it mean something in the same boot
//! only.

use std::io;
use std::path::Path;

use os::files::{Durability, write_atomic};
use policy::supervisor::{Counters, Snapshot};
use serde::{Deserialize, Serialize};
use wire::control::LastExit;

use crate::reason;
use crate::seal::{self, Aside};

/// 2: with a seal and a reason. Nothing was released that wrote 1.
const VERSION: u32 = 2;

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
    reason: Option<reason::Stored>,
    /// Of a proven binary, while a candidate runs in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<Proven>,
    /// The newest run whose end has been dealt with.
    pub(crate) ended_run: u64,
    /// Newest first.
    pub(crate) last_exits: Vec<LastExit>,
    /// A worker binary was run here once: it is not built from source any more, whatever became of it.
    pub(crate) had_binary: bool,
}

/// Counters that wait for a proven binary.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Proven {
    failures: u32,
    quick_exits: u32,
    failures_ms: Vec<u64>,
    stall_kills_ms: Vec<u64>,
}

impl From<Counters> for Proven {
    fn from(counters: Counters) -> Self {
        let Counters { failures, quick_exits, failures_ms, stall_kills_ms } = counters;
        Self { failures, quick_exits, failures_ms, stall_kills_ms }
    }
}

impl From<Proven> for Counters {
    fn from(proven: Proven) -> Self {
        let Proven { failures, quick_exits, failures_ms, stall_kills_ms } = proven;
        Self { failures, quick_exits, failures_ms, stall_kills_ms }
    }
}

impl State {
    pub(crate) fn new(
        boot_id: String,
        snapshot: Snapshot,
        ended_run: u64,
        last_exits: Vec<LastExit>,
        had_binary: bool,
    ) -> Self {
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
            reason: snapshot.reason.as_ref().map(reason::Stored::from),
            proven: snapshot.aside.map(Proven::from),
            ended_run,
            last_exits,
            had_binary,
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
            // Still in force where it is the operator's.
            reason: self.reason.as_ref().filter(|_| same_boot || self.stopped).and_then(reason::Stored::reason),
            aside: self.proven.clone().filter(|_| same_boot).map(Counters::from),
        }
    }

    pub(crate) fn save(&self, path: &Path, durability: Durability) -> io::Result<()> {
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        write_atomic(path, &seal::seal(&json), durability)
    }
}

/// What a look at the state file found.
#[derive(Debug, PartialEq)]
pub(crate) enum Loaded {
    /// None: a new home.
    Absent,
    /// This.
    State(Box<State>),
    /// Something else, which is out of the way now.
    SetAside(Aside),
}

/// # Errors
/// As of open and read: whoever can't read it now must not forget what is in it.
pub(crate) fn load(path: &Path) -> io::Result<Loaded> {
    let found = match seal::read(path) {
        Ok(bytes) => parse(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Absent),
        Err(error) if error.raw_os_error().is_some() => return Err(error),
        Err(error) => Err(error.to_string()),
    };
    Ok(match found {
        Ok(state) => Loaded::State(Box::new(state)),
        Err(why) => Loaded::SetAside(seal::set_aside(path, why)),
    })
}

fn parse(bytes: &[u8]) -> Result<State, String> {
    let json = seal::open(bytes).ok_or_else(|| "it is damaged, or of another program".to_owned())?;
    let state: State = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    // The next version, too: an upgrade must have a way back.
    if (VERSION..=VERSION + 1).contains(&state.v) {
        Ok(state)
    } else {
        Err(format!("its version is {}, not {VERSION}", state.v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> State {
        State {
            v: VERSION,
            boot_id: "a".to_owned(),
            starts: 7,
            failures: 3,
            failures_ms: vec![1, 2, 3],
            next_attempt_ms: Some(5),
            stopped: true,
            reason: Some(reason::Stored::Operator { verb: "stop-worker".to_owned() }),
            had_binary: true,
            last_exits: vec![LastExit { run: 6, cause: "exit status 3".to_owned(), at_unix_ms: 9, lived_ms: 8 }],
            ..State::default()
        }
    }

    #[test]
    fn garbage_is_set_aside_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(load(&path).unwrap(), Loaded::Absent);
        let newer = seal::seal(b"{\"v\":99}");
        let older = b"{\"v\":1,\"stopped\":true}".to_vec();
        for garbage in [b"".to_vec(), b"{".to_vec(), b"\0\0\0\0".to_vec(), vec![b'x'; 5 << 20], newer, older] {
            std::fs::write(&path, &garbage).unwrap();
            let Loaded::SetAside(aside) = load(&path).unwrap() else { panic!("{garbage:?} is no state") };
            assert_eq!(std::fs::read(aside.to.unwrap()).unwrap(), garbage);
            assert_eq!(load(&path).unwrap(), Loaded::Absent);
        }
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(load(&path).unwrap(), Loaded::SetAside(aside) if aside.to.is_some()));
    }

    /// Either exactly the old value, or none.
    #[test]
    fn no_damage_is_taken_for_a_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        some().save(&path, Durability::Process).unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(parse(&whole), Ok(some()));
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "cut to {length} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn times_of_another_boot_mean_nothing() {
        let state = some();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        state.save(&path, Durability::Power).unwrap();
        assert_eq!(load(&path).unwrap(), Loaded::State(Box::new(state.clone())));
        assert_eq!(state.snapshot("a").next_attempt_ms, Some(5));
        let other = state.snapshot("b");
        assert_eq!((other.next_attempt_ms, other.failures, other.starts, other.stopped), (None, 0, 7, true));
        let stopped = Some(policy::supervisor::Reason::Operator(policy::supervisor::Command::StopWorker));
        assert_eq!(other.reason, stopped, "it is still stopped, and for the same reason");
        assert_eq!(State { stopped: false, ..state }.snapshot("b").reason, None);
    }
}
