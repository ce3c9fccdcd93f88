//! The store's memory: which file, at which time stamps, has which hash. Only ever saves work: a lost or garbled index
//! costs one more copy, and what it says is believed only while both files' stamps are as it says.

use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Version of the file's format: 1, the first.
const VERSION: u32 = 1;
/// More sources than anybody alternates between.
const MAX_ENTRIES: usize = 32;
/// A file's identity and last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) size_bytes: u64,
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size_bytes: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// One admitted file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) source: String,
    pub(super) stamp: Stamp,
    pub(super) sha256: String,
    /// Of the copy.
    pub(super) copy: Stamp,
    /// Counts admissions; the newest has the greatest.
    pub(super) order: u64,
}

/// The file `bin/store/index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    entries: Vec<Entry>,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, entries: Vec::new() }
    }
}

impl Index {
    /// What the bytes say; an empty index if they make no sense, or another version's.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).ok().filter(|index: &Self| index.version == VERSION).unwrap_or_default()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers: serialising them cannot fail. If it did, an empty index would cost one copy.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn find(&self, source: &Path, stamp: Stamp) -> Option<&Entry> {
        let source = source.to_str()?;
        self.entries.iter().find(|entry| entry.source == source && entry.stamp == stamp)
    }

    /// Newest first.
    pub(super) fn of_source(&self, source: &Path) -> Vec<&Entry> {
        let mut entries: Vec<_> = self.entries.iter().filter(|entry| source.to_str() == Some(&entry.source)).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.order));
        entries
    }

    /// When a hash was last admitted; 0 if it is unknown.
    pub(super) fn order_of(&self, sha256: &str) -> u64 {
        self.entries.iter().filter(|entry| entry.sha256 == sha256).map(|entry| entry.order).max().unwrap_or(0)
    }

    pub(super) fn next_order(&self) -> u64 {
        self.entries.iter().map(|entry| entry.order).max().unwrap_or(0).saturating_add(1)
    }

    /// Adds an entry in place of the older ones of the same file and content.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.entries.retain(|old| !(old.source == entry.source && old.sha256 == entry.sha256));
        self.entries.push(entry);
        self.entries.sort_by_key(|entry| std::cmp::Reverse(entry.order));
        self.entries.truncate(MAX_ENTRIES);
    }

    pub(super) fn forget(&mut self, sha256: &str) {
        self.entries.retain(|entry| entry.sha256 != sha256);
    }
}
