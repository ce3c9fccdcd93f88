//! What is only counted: how often each copy ran, and how long. `bin/store/lives.json`, written by the daemon alone, when
//! nothing waits for it; what a crash takes of it nobody misses.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use os::files::{Durability, write_atomic};
use serde::{Deserialize, Serialize};

use crate::seal;

const VERSION: u32 = 1;

/// Of one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lives {
    /// Starts.
    pub runs: u64,
    /// Ends that were seen.
    pub ends: u64,
    /// The sum of their lives.
    pub lived_ms: u64,
    /// It has shown life. From here it comes into the index with the next change of that: a start does not wait for a disk
    /// because of it, nor does whatever else there is to watch.
    pub(super) shown: bool,
}

impl Lives {
    /// None before the first end.
    pub fn mean_ms(&self) -> Option<u64> {
        self.lived_ms.checked_div(self.ends)
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counted {
    v: u32,
    /// The copy of the newest run.
    pub(super) running: Option<String>,
    of: BTreeMap<String, Lives>,
}

impl Counted {
    /// As good as none, if it can't be read.
    pub(super) fn load(folder: &Path) -> Self {
        let bytes = seal::read(&path(folder)).unwrap_or_default();
        seal::open(&bytes).and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default()
    }

    pub(super) fn of(&self, sha256: &str) -> Lives {
        self.of.get(sha256).copied().unwrap_or_default()
    }

    /// It does not know anything.
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    pub(super) fn began(&mut self, sha256: &str) {
        self.running = Some(sha256.to_owned());
        self.of.entry(sha256.to_owned()).or_default().runs += 1;
    }

    pub(super) fn ended(&mut self, sha256: &str, lived_ms: u64) {
        let lives = self.of.entry(sha256.to_owned()).or_default();
        lives.ends += 1;
        lives.lived_ms = lives.lived_ms.saturating_add(lived_ms);
    }

    pub(super) fn showed_life(&mut self, sha256: &str) {
        self.of.entry(sha256.to_owned()).or_default().shown = true;
    }

    /// Forget copies that are no more.
    pub(super) fn save(&mut self, folder: &Path, is_kept: impl Fn(&str) -> bool) -> io::Result<()> {
        self.v = VERSION;
        self.of.retain(|sha256, _| is_kept(sha256));
        os::fail::point("store.count")?;
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        write_atomic(&path(folder), &seal::seal(&json), Durability::Process)
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("lives.json")
}
