//! What is to be seen of a worker just before it is ended for a reason of the daemon's own: kept, so that the decision
//! can be judged later.

use std::fmt::Write;
use std::path::PathBuf;

use crate::activity::{Activity, Source};
use crate::drive::Daemon;
use crate::runs::LiveRun;
use crate::secrets;
use crate::text;

/// So many are kept.
const MOST_INCIDENTS: usize = 50;

impl Daemon {
    /// Write it down. If that can't be done, the error has it.
    pub(crate) fn keep_evidence(&mut self, what: &str) -> Result<PathBuf, String> {
        let path = self.home.incidents().join(format!("{}.txt", os::clock::wall_ms()));
        let text = self.evidence(what);
        let text = secrets::without(&text);
        let written = os::fail::point("evidence.folder")
            .and_then(|()| os::files::create_private_folder(&self.home.incidents()))
            .and_then(|()| os::files::write_atomic(&path, text.as_bytes(), os::files::Durability::Process));
        self.prune_incidents();
        match written {
            Ok(()) => Ok(path),
            Err(error) => Err(format!("no evidence kept: cannot write {}: {error}\n{text}", path.display())),
        }
    }

    fn evidence(&self, what: &str) -> String {
        let view = self.machine.view();
        let now_ms = os::clock::monotonic_ms();
        let ago = |at_ms: Option<u64>| {
            at_ms.map_or_else(
                || "never".to_owned(),
                |at_ms| format!("{} ago", text::duration(now_ms.saturating_sub(at_ms))),
            )
        };
        let mut text = format!("{what}\n\nrun: {}\n", view.run.map_or(0, |run| run.0));
        // Writing to a String can't fail.
        writeln!(text, "started: {}", ago(view.started_ms)).ok();
        // A daemon before this one may have seen more.
        let by = |source: Option<&Source>| source.map_or_else(|| "nothing since".to_owned(), ToString::to_string);
        let (last, last_new) = self.activity.as_ref().map(Activity::sources).unwrap_or_default();
        writeln!(text, "last activity: {} ({})", ago(view.active_ms), by(last)).ok();
        writeln!(text, "last new activity: {} ({})", ago(view.progress_ms), by(last_new)).ok();
        let or_none = |value: Option<&str>| value.unwrap_or("-").to_owned();
        writeln!(text, "phase: {}", or_none(self.said.phase.as_deref())).ok();
        writeln!(text, "in its words: {}", or_none(self.said.message.as_deref())).ok();
        writeln!(text, "heartbeats: {}", if self.said.heartbeat { "yes" } else { "none ever" }).ok();
        let log = self.activity.as_ref().and_then(Activity::newest_log);
        writeln!(text, "log: {}", log.map_or_else(|| "-".to_owned(), |path| path.display().to_string())).ok();
        writeln!(text, "memory: {}\n", text::memory(view.memory)).ok();
        writeln!(
            text,
            "{:>8} {:>8} {:<16} {:<5} {:>10} {:<24} {:>10}",
            "pid", "parent", "name", "state", "cpu ms", "waits in", "PSS MB"
        )
        .ok();
        for (identity, stat) in self.run.iter().flat_map(LiveRun::tree) {
            let root = os::proc::root();
            let cpu_ms = stat.cpu_ticks.saturating_mul(1_000 / os::proc::ticks_per_second().max(1));
            let waits = os::proc::wait_channel(root, identity.pid);
            let pss = os::proc::pss_bytes(root, identity.pid).unwrap_or(0) >> 20;
            let (pid, parent, name, state) = (identity.pid, stat.parent, &stat.name, stat.state);
            writeln!(text, "{pid:>8} {parent:>8} {name:<16} {state:<5} {cpu_ms:>10} {waits:<24} {pss:>10}").ok();
        }
        text
    }

    fn prune_incidents(&self) {
        let entries = std::fs::read_dir(self.home.incidents()).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        // Their names are times of one length: they sort by age.
        paths.sort_unstable();
        let surplus = paths.len().saturating_sub(MOST_INCIDENTS);
        for path in paths.into_iter().take(surplus) {
            std::fs::remove_file(path).ok();
        }
    }
}
