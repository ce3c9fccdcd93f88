//! What the daemon tells whoever supervises it (systemd), sd_notify(3): that it serves, that it lives, how its worker is.
//!
//! Where nobody asks for it, nothing is sent and nothing wakes the daemon. The variables are the daemon's own: its worker
//! gets others by the same names.

use std::ffi::OsString;

use os::notify::Notifier;
use policy::supervisor::WorkerStatus;

use crate::drive::Daemon;

/// Of the environment, `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supervisor {
    /// Where it listens.
    pub notify_socket: Option<OsString>,
    /// It wants a sign of life at least this often.
    pub watchdog_usec: Option<u64>,
    /// From this process only.
    pub watchdog_pid: Option<u32>,
}

/// The way to it.
#[derive(Debug)]
pub(crate) struct Upward {
    notifier: Notifier,
    /// Half of the time that it waits for a sign of life.
    every_ms: Option<u64>,
    next_ms: u64,
    /// What it was told last of the worker.
    told: String,
    listens: bool,
}

impl Upward {
    pub(crate) fn new(to: &Supervisor) -> Self {
        let listens = to.notify_socket.is_some();
        let is_ours = to.watchdog_pid.is_none_or(|pid| pid == os::process::own_pid());
        let every_ms =
            to.watchdog_usec.filter(|&usec| usec > 0 && is_ours && listens).map(|usec| (usec / 2_000).max(1));
        let notifier = Notifier::new(to.notify_socket.clone()).unwrap_or_else(|_| Notifier::silent());
        Self { notifier, every_ms, next_ms: 0, told: String::new(), listens }
    }

    /// When the next sign of life is due.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.every_ms.map(|_| self.next_ms)
    }

    /// Whether there is one that would start a daemon anew.
    pub(crate) fn listens(&self) -> bool {
        self.listens
    }

    pub(crate) fn say(&self, message: &str) {
        self.notifier.send(message);
    }

    fn sign_of_life(&mut self, now_ms: u64) {
        let Some(every_ms) = self.every_ms else { return };
        // At a wake-up for another reason, too, if the next one by itself would be close.
        if now_ms.saturating_add(every_ms / 4) >= self.next_ms {
            self.notifier.send("WATCHDOG=1");
            self.next_ms = now_ms.saturating_add(every_ms);
        }
    }

    fn tell(&mut self, line: String) {
        if line != self.told && self.notifier.send(&format!("STATUS={}", crate::secrets::without(&line))) {
            self.told = line;
        }
    }
}

impl Daemon {
    /// After each turn of the loop.
    pub(crate) fn tell_upward(&mut self) {
        if !self.upward.listens {
            return;
        }
        self.upward.sign_of_life(os::clock::monotonic_ms());
        let line = self.line_upward();
        self.upward.tell(line);
    }

    /// It serves, with the pid that it has: also after it has become another program.
    pub(crate) fn ready_upward(&mut self) {
        if self.upward.listens {
            let pid = os::process::own_pid();
            let line = self.line_upward();
            self.upward.say(&format!("READY=1\nMAINPID={pid}\nSTATUS={line}"));
            self.upward.told = line;
        }
    }

    /// One line about the worker, without what changes all the time.
    fn line_upward(&self) -> String {
        let view = self.machine.view();
        let mut line = format!("Worker {}", view.status.as_str());
        if let (WorkerStatus::Running | WorkerStatus::Stopping | WorkerStatus::Unknown, Some(worker)) =
            (view.status, self.run.as_ref().and_then(|run| run.worker))
        {
            line.push_str(&format!(", PID {}", worker.pid));
        }
        line.push_str(&format!(", {} restarts", view.total_restarts));
        if !matches!(view.status, WorkerStatus::Running | WorkerStatus::Starting)
            && let Some(reason) = self.reason()
        {
            line.push_str(": ");
            line.extend(reason.chars().filter(|c| !c.is_control()).take(300));
        }
        line
    }
}
