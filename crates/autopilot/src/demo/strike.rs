//! The end of the demo, however it came: end all that was started, remove all that was written, and look whether that
//! is so.

use std::path::Path;
use std::{fs, io};

use daemon::Home;
use os::child::Child;
use os::poll::{Interest, Poller, Token};
use os::process::{Reap, Send};

use super::plot::STOP_TIMEOUT_MS;
use super::screen::Screen;
use super::traces;
use super::watch::Watch;

/// Until what was killed is gone, and its files can be removed.
const PATIENCE_MS: u64 = 5_000;
const LOOK_EVERY_MS: u64 = 10;

impl Watch {
    /// Clears the stage. Returns what could not be cleared.
    pub(super) fn strike(mut self) -> (Screen, Vec<String>) {
        if let Some(daemon) = self.daemon.take() {
            // Its last words would only repeat that it ends.
            end(daemon).ok();
        }
        let mut left = end_all(&self.stage.mark(), &self.stage.home());
        if let Err(error) = remove(self.stage.root()) {
            left.push(format!("{}: {error}", self.stage.root().display()));
        }
        let traces = self.casting.claude_folder().map(|folder| traces::of(&folder, &self.stage, &self.logs.sessions));
        for path in traces.unwrap_or_default() {
            if let Err(error) = remove(&path) {
                left.push(format!("{}: {error}", path.display()));
            }
        }
        (self.screen, left)
    }
}

/// SIGTERM, by which a daemon ends its worker and then itself; SIGKILL, if it doesn't.
fn end(mut daemon: Child) -> io::Result<()> {
    let poller = Poller::new()?;
    poller.add(&daemon, Token(0), Interest::Readable)?;
    for (signal, patience_ms) in [(Send::Term, STOP_TIMEOUT_MS + 1_000), (Send::Kill, PATIENCE_MS)] {
        daemon.send(signal)?;
        let until_ms = os::clock::monotonic_ms() + patience_ms;
        while os::clock::monotonic_ms() < until_ms {
            if daemon.reap()?.is_some() {
                return Ok(());
            }
            poller.wait_until(Some(until_ms), &mut Vec::new())?;
        }
    }
    Ok(())
}

/// Kills whatever carries the mark, or is in a control group of the home, or has become this process's child because its
/// parent died; reaps it, and removes the groups.
pub(super) fn end_all(mark: &[u8], home: &Home) -> Vec<String> {
    let until_ms = os::clock::monotonic_ms() + PATIENCE_MS;
    loop {
        let groups = daemon::groups_of(home);
        for group in &groups {
            group.kill().ok();
        }
        os::tree::kill_below().ok();
        let marked = os::tree::started_with(mark).unwrap_or_default();
        os::tree::kill_each(&marked);
        let childless = reap_all();
        // As long as somebody is in a group, it can't be removed.
        let groups_left: Vec<_> = groups.iter().filter(|group| group.remove().is_err()).collect();
        if marked.is_empty() && childless && groups_left.is_empty() {
            return Vec::new();
        }
        if os::clock::monotonic_ms() >= until_ms {
            let mut left: Vec<String> = marked.iter().map(|process| format!("process {}", process.pid)).collect();
            left.extend(groups_left.iter().map(|group| group.path().display().to_string()));
            if left.is_empty() {
                left.push("a child that does not end".to_owned());
            }
            return left;
        }
        let waited = Poller::new().and_then(|poller| poller.wait(Some(LOOK_EVERY_MS), &mut Vec::new()));
        if let Err(error) = waited {
            return vec![format!("processes, perhaps: {error}")];
        }
    }
}

/// `true` when there is no child any more.
fn reap_all() -> bool {
    loop {
        match os::process::reap_any() {
            Ok(Reap::Ended(_)) => {}
            Ok(Reap::NoneEnded) => return false,
            Ok(Reap::NoChild) | Err(_) => return true,
        }
    }
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) if path.exists() => Err(io::Error::other("it is still there")),
        Ok(()) | Err(_) => Ok(()),
    }
}
