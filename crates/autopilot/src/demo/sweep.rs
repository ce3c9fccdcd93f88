//! What demos have left that were killed before they could clear their stage.
//!
//! A demo holds the lock of its folder while it lives, and the kernel lets go of it when it dies. A folder without one is not touched.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use os::files::{Lock, Locked};

use super::stage::{PREFIX, Stage};
use super::strike::{end_all, remove};

const LOCK: &str = "demo.lock";

/// Takes the lock of a new stage.
pub(super) fn hold(root: &Path) -> std::io::Result<Arc<Lock>> {
    let unseen = root.join("demo.lock.new");
    let Locked::Taken(lock) = Lock::try_take(&unseen)? else {
        return Err(std::io::Error::other("the folder's lock is taken"));
    };
    // By its name it is found only once it is held.
    fs::rename(unseen, root.join(LOCK))?;
    Ok(Arc::new(lock))
}

/// Ends and removes what dead demos of this user have left in `temporary`. What can't be removed is left for the next one.
pub(super) fn sweep(temporary: &Path) {
    let Ok(entries) = temporary.read_dir() else { return };
    for root in entries.flatten().map(|entry| entry.path()).filter(|path| is_stage_of_ours(path)) {
        let Some(_lock) = lock_of_dead(&root) else { continue };
        let stage = Stage::at(root);
        if end_all(&stage.mark(), &stage.home()).is_empty() {
            remove(stage.root()).ok();
        }
    }
}

fn is_stage_of_ours(path: &Path) -> bool {
    let is_named = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    let is_ours = |metadata: fs::Metadata| metadata.is_dir() && metadata.uid() == os::process::effective_uid();
    is_named && fs::symlink_metadata(path).is_ok_and(is_ours)
}

fn lock_of_dead(root: &Path) -> Option<Lock> {
    let path: PathBuf = root.join(LOCK);
    if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
        return None;
    }
    match Lock::try_take(&path) {
        Ok(Locked::Taken(lock)) => Some(lock),
        Ok(Locked::Busy) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_demos_have_left_is_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let root = temporary.path().join(name);
            fs::create_dir_all(root.join("home")).unwrap();
            root
        };
        let (dead, living) = (folder("ap-demo-0000000001"), folder("ap-demo-0000000002"));
        drop(hold(&dead).unwrap());
        let lock = hold(&living).unwrap();
        let (beginning, strange) = (folder("ap-demo-0000000003"), folder("other"));
        fs::write(strange.join(LOCK), "").unwrap();
        sweep(temporary.path());
        let there = [&dead, &living, &beginning, &strange].map(|root| root.exists());
        assert_eq!(there, [false, true, true, true]);
        drop(lock);
        sweep(temporary.path());
        assert!(!living.exists());
    }
}
