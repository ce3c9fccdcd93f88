//! What a test needs to simulate the loss of power: the home as it is at each place, and what was synced in between.
//!
//! In the folder that `AUTOPILOT_FS_TRACE` names: `NANOSECONDS-home`, a copy of the home with a list of inodes, and
//! `NANOSECONDS-synced`, the inode of a file or folder that is on the disk from then on, as it is.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Larger files are linked, not copied: those of the store, which do not change.
const COPIED_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Trace {
    home: PathBuf,
    to: PathBuf,
}

impl Trace {
    #[expect(clippy::disallowed_methods, reason = "the daemon does not know of it")]
    pub(super) fn from_environment() -> Option<Self> {
        let to = std::env::var_os("AUTOPILOT_FS_TRACE")?.into();
        Some(Self { home: std::env::var_os("AUTOPILOT_HOME")?.into(), to })
    }

    pub(super) fn take(&self) {
        let at = self.to.join(format!("{:020}-home", crate::clock::monotonic_ns()));
        // The home's own has no name in it.
        let mut inodes = fs::metadata(&self.home).map(|meta| format!("{} \n", meta.ino())).unwrap_or_default();
        // What goes away meanwhile is of the next one.
        copy(&self.home, Path::new(""), &at.join("tree"), &mut inodes).ok();
        fs::write(at.join("inodes"), inodes).ok();
    }

    pub(super) fn synced(&self, inode: u64) {
        let name = format!("{:020}-synced", crate::clock::monotonic_ns());
        fs::write(self.to.join(name), inode.to_string()).ok();
    }
}

fn copy(root: &Path, below: &Path, to: &Path, inodes: &mut String) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(root.join(below))?.flatten() {
        let (path, to) = (below.join(entry.file_name()), to.join(entry.file_name()));
        let Ok(meta) = entry.metadata() else { continue };
        inodes.push_str(&format!("{} {}\n", meta.ino(), path.display()));
        if meta.is_dir() {
            copy(root, &path, &to, inodes).ok();
        } else if meta.is_file() && meta.len() > COPIED_BYTES {
            fs::hard_link(entry.path(), to).ok();
        } else if meta.is_file() {
            fs::copy(entry.path(), to).ok();
        }
    }
    Ok(())
}
