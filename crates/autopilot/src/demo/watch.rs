//! The eyes of the demo: the daemon's words, its status, the records of the runs, the worker's logs; and its patience.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::{fs, io};

use os::child::{self, Child};
use os::poll::{Interest, Poller, Ready, Token};
use os::process::{Identity, Send};
use os::signals::{Signal, SignalPipe};
use os::spawn::Program;
use wire::control::{Status, Verb};
use wire::run::{Ended, Process, Started};

use super::agents::Casting;
use super::logs::{Logs, Said};
use super::plot::LeakPlan;
use super::screen::{Screen, Who};
use super::stage::{Stage, VARIABLE};

const SIGNALS: Token = Token(0);
const DAEMON: Token = Token(1);
const WORDS: Token = Token(2);

/// Between two looks at what gives no notice.
const LOOK_EVERY_MS: u64 = 5;
/// A daemon that lives answers at once.
const ANSWER_WITHIN_MS: u64 = 2_000;

/// What would change the demo if it came from the user's surroundings.
const NOT_FOR_THE_DEMO: [&str; 15] = [
    "CLAUDE_CODE_TMPDIR",
    "AUTOPILOT_WORKER_BINARY",
    "AUTOPILOT_STALL_TIMEOUT_MS",
    "AUTOPILOT_RECOVERY_COOLDOWN_MS",
    "AUTOPILOT_MODEL_SILENCE_MS",
    "AUTOPILOT_RETRY_DELAY_MS",
    "AUTOPILOTD_SUPERVISED",
    "AUTOPILOT_RUN_ID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
];

/// Why the demo does not go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The user ends it.
    Told(Signal),
    /// Nobody reads any more.
    NoReader,
    /// Something did not happen, or otherwise than claimed.
    Failed(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Told(Signal::Int) => to.write_str("interrupted"),
            Self::Told(_) => to.write_str("told to end"),
            Self::NoReader => to.write_str("nobody reads its output"),
            Self::Failed(what) => to.write_str(what),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Trouble {
    pub(super) fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }

    /// 128 + the signal's number, as a shell says it; 1.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Told(Signal::Int) => 130,
            Self::Told(Signal::Hup) => 129,
            Self::Told(_) => 143,
            Self::NoReader | Self::Failed(_) => 1,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) stage: Stage,
    pub(super) casting: Casting,
    pub(super) screen: Screen,
    pub(super) logs: Logs,
    pub(super) daemon: Option<Child>,
    /// The thresholds that the daemon has.
    pub(super) leak: Option<LeakPlan>,
    /// What the daemon said, and when.
    pub(super) words: Vec<(u64, String)>,
    /// The beginning of a line of the daemon.
    partial: Vec<u8>,
    signals: SignalPipe,
    poller: Poller,
}

impl Watch {
    pub(super) fn new(stage: Stage, casting: Casting, screen: Screen, signals: SignalPipe) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&signals, SIGNALS, Interest::Readable)?;
        let logs = Logs::new(&stage.repository());
        let (words, partial) = (Vec::new(), Vec::new());
        Ok(Self { stage, casting, screen, logs, daemon: None, leak: None, words, partial, signals, poller })
    }

    /// Its words are shown from now on. Says when it was started.
    fn execute_daemon(&mut self) -> Result<u64, Trouble> {
        let program = self.stage.program("autopilotd");
        let claude = self.casting.claude.clone().unwrap_or_else(|| self.stage.program("claude"));
        let env: Vec<(OsString, OsString)> = vec![
            ("AUTOPILOT_HOME".into(), self.stage.home().root().into()),
            (VARIABLE.into(), self.stage.root().into()),
            ("AUTOPILOT_CLAUDE".into(), claude.into()),
            ("TMPDIR".into(), self.stage.temporary().into()),
        ];
        let env_remove = NOT_FOR_THE_DEMO.map(OsString::from).to_vec();
        let at_ms = os::clock::monotonic_ms();
        let program = Program { argv: vec![program.into(), "start".into()], env, env_remove };
        let daemon = Child::spawn(&program, &self.stage.repository()).map_err(|error| {
            let folder = self.stage.root().parent().unwrap_or(self.stage.root()).display();
            Trouble::failed(format!("cannot execute a program in {folder}: {error} (TMPDIR names another folder)"))
        })?;
        self.poller.add(&daemon, DAEMON, Interest::Readable)?;
        self.poller.add(&daemon.stderr, WORDS, Interest::Readable)?;
        self.daemon = Some(daemon);
        Ok(at_ms)
    }

    /// Starts a daemon with the settings of this plan.
    pub(super) fn start_daemon(&mut self, leak: LeakPlan) -> Result<u64, Trouble> {
        self.stage.configure(&self.casting, leak)?;
        self.leak = Some(leak);
        self.execute_daemon()
    }

    /// SIGKILL. Returns its pid when it is dead.
    pub(super) fn kill_daemon(&mut self) -> Result<u32, Trouble> {
        let Some(mut daemon) = self.daemon.take() else { return Err(Trouble::failed("there is no daemon")) };
        daemon.send(Send::Kill)?;
        self.until("the daemon is dead", |_| Ok(daemon.reap()?))?;
        self.partial.clear();
        Ok(daemon.identity().pid)
    }

    /// Waits until `look` finds something; shows meanwhile what is said. `what` completes "waited in vain until …".
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Result<Option<T>, Trouble>,
    ) -> Result<T, Trouble> {
        let until_ms = os::clock::monotonic_ms() + self.casting.patience_ms;
        loop {
            self.look_around()?;
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            if os::clock::monotonic_ms() >= until_ms {
                let seconds = self.casting.patience_ms / 1_000;
                return Err(Trouble::failed(format!("waited {seconds} s in vain until {what}")));
            }
            self.wait(LOOK_EVERY_MS)?;
        }
    }

    /// So that a person can follow.
    pub(super) fn pause(&mut self, ms: u64) -> Result<(), Trouble> {
        let until_ms = os::clock::monotonic_ms() + if self.screen.is_paced() { ms } else { 0 };
        while os::clock::monotonic_ms() < until_ms {
            self.wait(until_ms.saturating_sub(os::clock::monotonic_ms()).min(50))?;
            self.look_around()?;
        }
        Ok(())
    }

    fn wait(&mut self, ms: u64) -> Result<(), Trouble> {
        let mut ready: Vec<Ready> = Vec::new();
        self.poller.wait(Some(ms), &mut ready)?;
        Ok(())
    }

    /// Shows what is new.
    fn look_around(&mut self) -> Result<(), Trouble> {
        if let Some(signal) = self.signals.take().first() {
            return Err(Trouble::Told(*signal));
        }
        self.hear_daemon();
        for said in self.logs.news() {
            self.show(&said);
        }
        if self.screen.is_gone() {
            return Err(Trouble::NoReader);
        }
        match self.daemon.as_mut().map(Child::reap).transpose()?.flatten() {
            None => Ok(()),
            Some(ended) => {
                self.hear_daemon();
                self.daemon = None;
                Err(Trouble::failed(format!("the daemon ended, and nobody told it to ({ended:?})")))
            }
        }
    }

    fn show(&mut self, said: &Said) {
        let text = match said {
            Said::Start { session } => {
                let first = session.split('-').next().unwrap_or_default();
                let again = self.logs.sessions.iter().filter(|known| *known == session).count() > 1;
                format!("session {first} {}", if again { "resumed" } else { "begun" })
            }
            Said::Call(command) => format!("runs {}", shortened(command)),
            Said::Output(output) => shortened(output),
            Said::Words(words) => format!("\"{}\"", shortened(words)),
            Said::End { .. } => return,
        };
        self.screen.event(Who::Agent, &text);
    }

    /// Takes what the daemon said.
    pub(super) fn hear_daemon(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let closed = take(&daemon.stderr, &mut self.partial);
        if closed {
            // It would be ready for ever.
            self.poller.remove(&daemon.stderr).ok();
        }
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            // Its introduction and its hints are for operators.
            let shown =
                !line.starts_with("Starting autopilotd") && !line.starts_with(' ') && !line.starts_with("hint:");
            if shown {
                let root = self.stage.root().to_string_lossy();
                self.screen.event(Who::Daemon, &line.replace(&*root, "..."));
            }
            self.words.push((os::clock::monotonic_ms(), line));
        }
    }

    /// When the daemon first said, after `since_ms`, a line of which this is a part.
    pub(super) fn heard(&self, since_ms: u64, part: &str) -> Option<u64> {
        self.words.iter().find(|(at_ms, line)| *at_ms >= since_ms && line.contains(part)).map(|(at_ms, _)| *at_ms)
    }

    /// What the daemon answers; none while none does.
    pub(super) fn status(&self) -> Option<Status> {
        let socket = self.stage.home().control_socket();
        let reply = daemon::client::ask_within(&socket, Verb::Status, ANSWER_WITHIN_MS).ok()?;
        reply.status.map(|status| *status)
    }

    /// The run that began last.
    pub(super) fn newest_run(&self) -> Option<Started> {
        let entries = fs::read_dir(self.stage.home().runs()).ok()?.flatten();
        let newest = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max()?;
        self.started(newest)
    }

    /// The record of a run's start.
    pub(super) fn started(&self, run: u64) -> Option<Started> {
        read(&self.stage.home().run(run).started())
    }

    /// The record of a run's end.
    pub(super) fn ended(&self, run: u64) -> Option<Ended> {
        read(&self.stage.home().run(run).exit())
    }

    /// What somebody who looks for a fault wants to see.
    pub(super) fn circumstances(&mut self) -> Vec<String> {
        let mut hints = Vec::new();
        if let Some(status) = self.status() {
            let doing =
                [status.worker_phase, status.worker_message].into_iter().flatten().collect::<Vec<_>>().join(", ");
            hints.push(format!(
                "the worker was {} ({doing}); restarts: {}",
                status.worker_status, status.total_restarts
            ));
            hints.extend(status.last_exits.first().map(|exit| format!("its last exit: {}", exit.cause)));
        }
        let output = fs::read_to_string(self.stage.home().output_log()).unwrap_or_default();
        let mut errors = output.lines().filter(|line| line.starts_with("error") || line.contains("claude:"));
        hints.extend(errors.next_back().map(|line| format!("it said: {line}")));
        hints
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Reads what is there; `true` when nothing will come any more.
fn take(pipe: &OwnedFd, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4_096];
    loop {
        match child::read(pipe, &mut buffer) {
            Ok(child::Read::Bytes(count)) => into.extend_from_slice(&buffer[..count]),
            Ok(child::Read::Empty) => return false,
            Ok(child::Read::Closed) | Err(_) => return true,
        }
    }
}

fn shortened(words: &str) -> String {
    const MOST: usize = 100;
    // The log's sign for a line's end, which not every terminal has.
    let words = words.replace('⏎', "");
    if words.chars().count() <= MOST { words } else { words.chars().take(MOST).chain("...".chars()).collect() }
}

/// A process of a record.
pub(super) fn identity(process: Process) -> Identity {
    Identity { pid: process.pid, start_ticks: process.start_ticks }
}
