//! What the worker says of itself: heartbeats and words over `NOTIFY_SOCKET`, sd_notify(3).
//!
//! Only who is of the run speaks for it. The socket is in the home, and whoever has inherited `NOTIFY_SOCKET` knows where: what a
//! worker of before has left, another project's worker, a person's shell.

use std::path::PathBuf;

use os::fail;
use os::socket::Peer;
use policy::supervisor::{Event, RunId, Sign};
use wire::journal::Event as Incident;

use crate::activity::Source;
use crate::drive::Daemon;
use crate::notify::{self, Said};
use crate::runs::{self, LiveRun};

/// What the worker said of itself.
#[derive(Debug, Default)]
pub(crate) struct Doing {
    pub(crate) phase: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) rlog: Option<PathBuf>,
    pub(crate) ready: bool,
    /// It sends heartbeats: then those count, and not what its tools do.
    pub(crate) heartbeat: bool,
    /// When it was told last that a person is needed.
    pub(crate) need_told_ms: Option<u64>,
}

/// A worker that changes its mind all the time does not fill the journal.
const NEED_SPACING_MS: u64 = 10_000;

impl Doing {
    fn needs_you(&self) -> bool {
        self.phase.as_deref() == Some("needs-you")
    }
}

impl Daemon {
    /// Take what has come.
    pub(crate) fn take_notifications(&mut self) {
        let mut buffer = [0_u8; 4096];
        if fail::point("notify.receive").is_err() {
            return;
        }
        // A bound: others must get their turn.
        for _ in 0..64 {
            let Ok((count, sender)) = os::notify::receive(&self.notify, &mut buffer) else { return };
            let is_of = |run: &&LiveRun| sender.is_some_and(|sender| is_of_run(run, sender));
            let Some(run) = self.run.as_ref().filter(is_of).map(|run| RunId(run.number)) else { continue };
            let needed = self.said.needs_you();
            for said in notify::parse(&buffer[..count]) {
                self.hear(run, said);
            }
            if !needed && self.said.needs_you() {
                self.tell_of_need(run);
            }
        }
    }

    fn hear(&mut self, run: RunId, said: Said) {
        match said {
            Said::Ready => {
                self.said.ready = true;
                self.feed(Event::Announced(run));
            }
            Said::Alive => {
                self.said.heartbeat = true;
                self.activity.iter_mut().for_each(|activity| activity.noted(Sign::Progress, Source::Heartbeat));
                self.feed(Event::Activity(run));
            }
            Said::Extend { ms } => {
                let until_ms = os::clock::monotonic_ms().saturating_add(ms);
                self.feed(Event::Extended(run, until_ms));
            }
            Said::Message(message) => self.said.message = Some(message),
            Said::Phase(phase) => self.said.phase = Some(phase),
            Said::OutputLost { bytes } => self.output_lost(bytes),
            Said::Stopping => self.said.phase = Some("stopping".to_owned()),
            Said::Log(path) => {
                if let Some(activity) = &mut self.activity {
                    activity.told(path.clone());
                }
                self.said.rlog = Some(path);
            }
        }
    }

    /// Its phase has become `needs-you`.
    fn tell_of_need(&mut self, run: RunId) {
        let now_ms = os::clock::monotonic_ms();
        if self.said.need_told_ms.is_some_and(|told_ms| now_ms < told_ms.saturating_add(NEED_SPACING_MS)) {
            return;
        }
        self.said.need_told_ms = Some(now_ms);
        let message = self.said.message.as_deref().unwrap_or_default();
        let need = message.strip_prefix("needs you: ").unwrap_or(message);
        let text = format!("The worker needs you: {need}");
        let pid = self.run.as_ref().and_then(|run| run.worker).map(|worker| worker.pid);
        self.tell(Incident::NeedsYou { run: run.0, pid }, text.trim_end_matches(": "));
    }
}

/// Nobody is so far below the shim.
const DEEPEST: usize = 1_000;

/// Worker or shim, started with the run's mark, or below the shim.
///
/// Who has ended already is believed if he had this process's rights: a short command says one word and goes, and nobody can tell any
/// more whose it was. `systemd-notify` waits until it was heard, and strangers who beat on are still there to be asked.
fn is_of_run(run: &LiveRun, sender: Peer) -> bool {
    let root = os::proc::root();
    if sender.pid == run.shim_pid || run.worker.is_some_and(|worker| worker.pid == sender.pid) {
        return true;
    }
    let parent = match os::proc::stat(root, sender.pid) {
        Ok(stat) => stat.parent,
        Err(_) => return sender.uid == os::process::effective_uid(),
    };
    if os::proc::was_started_with(root, sender.pid, &runs::mark(&run.run_id)).unwrap_or(false) {
        return true;
    }
    let above = std::iter::successors(Some(parent), |&pid| os::proc::stat(root, pid).ok().map(|stat| stat.parent));
    run.shim_pid != 0 && above.take(DEEPEST).any(|pid| pid == run.shim_pid)
}
