//! What the daemon says: the only way to the terminal and into the journal.

use std::io;
use std::path::Path;

use policy::supervisor::{Command, Exit, Found, Note, Reason, RunId, VictimSignal, Waiting};
use wire::control::{LastExit, Reply};
use wire::journal::Event;
use wire::run::Ended;

use crate::degraded::Problem;
use crate::drive::Daemon;
use crate::runs::LiveRun;
use crate::seal::Aside;
use crate::secrets;
use crate::state::MOST_EXITS;
use crate::text;

/// More pids of leaked processes than anybody reads.
const MOST_PIDS: usize = 100;

/// More problems than anybody reads in a status.
const MOST_PROBLEMS: usize = 20;

impl Daemon {
    /// To the terminal, and into the journal. The text may end with a line `hint: …`.
    pub(crate) fn tell(&mut self, event: Event, text: &str) {
        say(text);
        self.record(event, text);
    }

    /// Into the journal alone: of who was told otherwise, or knows it already.
    pub(crate) fn record(&mut self, event: Event, text: &str) {
        let (text, hint) = match text.split_once("\nhint: ") {
            Some((text, hint)) => (text, Some(hint)),
            None => (text, None),
        };
        let plain = ["warning: ", "error: "].iter().find_map(|severity| text.strip_prefix(severity)).unwrap_or(text);
        let before = self.journal.problem().is_some();
        self.journal.add(event, plain, hint);
        if !before && let Some(problem) = self.journal.problem() {
            say(&format!("warning: {problem}"));
        }
    }

    /// A warning: something does not work as it should, and the daemon goes on.
    pub(crate) fn warn(&mut self, problem: &str) {
        self.tell(Event::Degraded, &format!("warning: {problem}"));
    }

    /// A note of the machine.
    pub(crate) fn note(&mut self, note: &Note) {
        let pid = self.run.as_ref().and_then(|run| run.worker).map(|worker| worker.pid).or(self.last_pid);
        if let Note::Started { .. } = note {
            self.last_pid = pid;
        }
        if let Note::Ended { run, exit, told, lived_ms } = note {
            let cause = self.build_failure().unwrap_or_else(|| text::ended(*exit, told.as_ref()));
            self.remember_exit(run.0, cause, *lived_ms);
            self.ended_run = self.ended_run.max(run.0);
        }
        if let Note::CannotStart { run, failure } = note {
            self.remember_exit(run.0, self.launching.sentence(failure), 0);
            self.ended_run = self.ended_run.max(run.0);
        }
        let words = text::note(note, pid, &self.launching);
        if let (Note::Unverified { run }, Some((why, hint))) = (note, self.run.as_ref().and_then(LiveRun::doubts)) {
            say(&format!("{}\nwarning: {why}\nhint: {hint}", words.unwrap_or_default()));
            let text = format!("run {} is left alone: {why}\nhint: {hint}", run.0);
            return self.record(Event::Unverified { run: run.0 }, &text);
        }
        let mut evidence = None;
        if let Note::Stalled { .. } | Note::StallTolerated { .. } | Note::MemoryRestart { .. } = note {
            match self.keep_evidence(words.as_deref().unwrap_or_default()) {
                Ok(path) => {
                    say(&format!("Evidence: {}", path.display()));
                    evidence = Some(path);
                }
                Err(problem) => self.warn(&problem),
            }
        }
        let evidence = evidence.map(|path| path.display().to_string());
        let seen = evidence.as_ref().map(|path| format!("; evidence in {path}"));
        match (event(note, pid, evidence), words) {
            (Some(event), Some(words)) => {
                say(&words);
                let (what, hint) = words.split_at(words.find("\nhint: ").unwrap_or(words.len()));
                self.record(event, &format!("{what}{}{hint}", seen.unwrap_or_default()));
            }
            (None, Some(words)) => say(&words),
            (_, None) => {}
        }
    }

    fn remember_exit(&mut self, run: u64, cause: String, lived_ms: u64) {
        // It is kept on disk, too.
        let cause = secrets::without(&cause).into_owned();
        self.exits.insert(0, LastExit { run, cause, at_unix_ms: os::clock::wall_ms(), lived_ms });
        self.exits.truncate(MOST_EXITS);
    }

    /// Somebody asks for something that changes something; nobody at a socket, if it was a signal.
    pub(crate) fn record_command(&mut self, command: Command, peer: Option<os::socket::Peer>) {
        let verb = text::command_name(command);
        let who = peer.map_or_else(
            || "a signal asks for it".to_owned(),
            |peer| format!("process {} of user {} asks for it", peer.pid, peer.uid),
        );
        let (uid, pid) = (peer.map(|peer| peer.uid), peer.map(|peer| peer.pid));
        self.record(Event::Command { verb: verb.to_owned(), uid, pid }, &format!("{verb}: {who}"));
    }

    pub(crate) fn record_answer(&mut self, command: Command, reply: &Reply) {
        let verb = text::command_name(command);
        let said = match (&reply.done, &reply.failed) {
            (Some(done), _) => done.message.as_str(),
            (None, Some(failed)) => failed.message.as_str(),
            (None, None) => "",
        };
        let done = reply.done.is_some();
        let answer = if done { "" } else { "not done: " };
        self.record(Event::Answer { verb: verb.to_owned(), done }, &format!("{verb}: {answer}{said}"));
    }

    /// Who this is, and what is wrong from the beginning.
    pub(crate) fn tell_of_start(&mut self) {
        let (version, containment) = (env!("CARGO_PKG_VERSION"), self.launching.containment().name());
        let rebooted = if self.rebooted { "; the machine was started anew since the last one" } else { "" };
        let pid = os::process::own_pid();
        let text = format!("autopilotd {version} (PID {pid}) serves; containment {containment}{rebooted}");
        let event = Event::DaemonStarted {
            version: version.to_owned(),
            containment: containment.to_owned(),
            rebooted: self.rebooted,
        };
        self.record(event, &text);
        for problem in self.degraded.clone() {
            self.record(Event::Degraded, &problem.text);
        }
        for aside in std::mem::take(&mut self.asides) {
            self.tell_of_aside(&aside);
            self.remember_problem(Problem::set_aside(aside.to_string(), aside.to));
        }
    }

    /// What the daemon before this one left. A run that lives, or has ended since, is told of by the machine.
    pub(crate) fn tell_of_find(&mut self, found: &Found) {
        if let Found::Orphaned { run } = found {
            self.tell_of_orphans(*run);
        }
    }

    /// A run's shim is gone without a word.
    pub(crate) fn tell_of_orphans(&mut self, run: RunId) {
        let text = format!("run {} is without its shim: ending what is left of it", run.0);
        self.record(Event::Orphaned { run: run.0 }, &text);
    }

    /// A file is not what it should be.
    pub(crate) fn tell_of_aside(&mut self, aside: &Aside) {
        let name = |path: &Path| path.display().to_string();
        let event = Event::SetAside { file: name(&aside.file), to: aside.to.as_deref().map(name) };
        self.tell(event, &format!("warning: {aside}"));
    }

    /// What does not work as it should.
    pub(crate) fn problems(&self) -> Vec<String> {
        let looked_for = self.activity.as_ref().is_some_and(|activity| !activity.is_told());
        let unwatched = looked_for.then(|| "no inotify: the worker's new logs are looked for at every poll".to_owned());
        let unwritten = self.state_unsaved.iter().cloned().chain(self.journal.problem());
        let of_program = self.launching.shelf.problems().into_iter().chain(self.launching.problem());
        let left_alone = self.machine.view().left_alone.then(|| {
            "the worker shows no activity, but was ended for that too often within an hour: it is left alone".to_owned()
        });
        let other = self.has_other_settings().then(|| {
            "the worker was started with other settings than this daemon's (folder, project, model, limits or prompt); \
             autopilotd restart-worker applies these"
                .to_owned()
        });
        let of_worker = left_alone.into_iter().chain(other);
        let lasting = self.degraded.iter().filter(|problem| problem.lasts(&self.home));
        let lasting = lasting.map(|problem| problem.text.clone()).chain(unwritten);
        lasting.chain(of_program).chain(of_worker).chain(self.loss()).chain(unwatched).collect()
    }

    /// The newest ones; the journal has them all.
    fn remember_problem(&mut self, problem: Problem) {
        self.degraded.retain(|known| known.text != problem.text);
        self.degraded.push(problem);
        let too_many = self.degraded.len().saturating_sub(MOST_PROBLEMS);
        self.degraded.drain(..too_many);
    }

    /// What a run's shim says of its end beyond how the worker ended.
    pub(crate) fn tell_of_rest(&mut self, ended: &Ended) {
        let run = ended.run;
        if ended.survivors_killed > 0 {
            let killed = ended.survivors_killed;
            let text = format!("run {run}: the worker left {killed} processes; they were killed");
            self.record(Event::Survivors { run, killed }, &text);
        }
        if !ended.leaked.is_empty() {
            let who: Vec<String> =
                ended.leaked.iter().map(|left| format!("{} ({}, state {})", left.pid, left.name, left.state)).collect();
            let count = who.len();
            let problem = format!("run {run} left {count} processes that could not be killed: {}", who.join(", "));
            let pids = ended.leaked.iter().take(MOST_PIDS).map(|left| left.pid).collect();
            self.tell(Event::Leaked { run, pids }, &format!("warning: {problem}"));
            self.remember_problem(Problem::leaked(problem, ended.leaked.clone()));
        }
        self.output_lost(ended.output_lost_bytes);
        if let Some(problem) = self.loss() {
            let event = Event::OutputLost { run: Some(run), bytes: self.lost_bytes };
            self.tell(event, &format!("warning: {problem}"));
        }
    }

    pub(crate) fn output_lost(&mut self, bytes: u64) {
        if self.lost_bytes == 0 && bytes > 0 {
            let log = self.home.output_log();
            let run = self.run.as_ref().map(|run| run.number);
            let text = format!("warning: cannot write {}: output of the worker is lost", log.display());
            self.tell(Event::OutputLost { run, bytes }, &text);
        }
        self.lost_bytes = self.lost_bytes.max(bytes);
    }

    /// What the newest run has lost of its output, if anything.
    pub(crate) fn loss(&self) -> Option<String> {
        (self.lost_bytes > 0).then(|| format!("{} bytes of the worker's output could not be kept", self.lost_bytes))
    }
}

/// A line for whoever watches the terminal. Nobody may be there, or somebody who does not read: then it is dropped.
fn say(text: &str) {
    os::socket::write_if_room(
        std::os::fd::AsFd::as_fd(&io::stderr()),
        format!("{}\n", secrets::without(text)).as_bytes(),
    );
}

/// A note as the journal has it; none for what goes without saying there.
fn event(note: &Note, pid: Option<u32>, evidence: Option<String>) -> Option<Event> {
    Some(match note {
        // It starts, or can't be started, or ends at once: that is told.
        Note::Starting { .. } | Note::StaysStopped => return None,
        // Who asked is known where it was asked.
        Note::Asked { command } => match command {
            Command::Shutdown => Event::DaemonStopping,
            Command::StartWorker | Command::StopWorker | Command::RestartWorker => return None,
        },
        Note::Started { run } => Event::Started { run: run.0, pid },
        Note::Adopted { run } => Event::Adopted { run: run.0, pid },
        Note::Unverified { run } => Event::Unverified { run: run.0 },
        Note::Ended { run, exit, told, lived_ms } => {
            let (code, signal) = match exit {
                Exit::Code(code) => (Some(*code), None),
                Exit::Signal(signal) => (None, Some(*signal)),
                // Only ever by SIGKILL.
                Exit::OutOfMemory => (None, Some(9)),
                Exit::Unseen => (None, None),
            };
            let told = told.as_ref().and_then(who_told);
            Event::Ended { run: run.0, pid, code, signal, told, lived_ms: *lived_ms }
        }
        Note::CannotStart { run, .. } => Event::CannotStart { run: run.0 },
        Note::Waiting { delay_ms, failures, kind } => {
            let why = match kind {
                Waiting::Backoff => "backoff",
                Waiting::QuickExit => "quick-exit",
                Waiting::Consecutive => "consecutive",
                Waiting::PerHour => "per-hour",
            };
            Event::Waiting { delay_ms: *delay_ms, failures: *failures, why: why.to_owned() }
        }
        Note::Succeeded { run } => Event::Succeeded { run: run.0 },
        Note::Stalled { run, silent_ms, repeats_itself } => {
            Event::Stalled { run: run.0, silent_ms: *silent_ms, repeats_itself: *repeats_itself, evidence }
        }
        Note::StallTolerated { run, silent_ms } => {
            Event::StallTolerated { run: run.0, silent_ms: *silent_ms, evidence }
        }
        Note::MemoryBand { band, reading } => Event::MemoryBand {
            band: text::band(*band).to_owned(),
            available_bytes: reading.available_bytes,
            total_bytes: reading.total_bytes,
        },
        Note::MemoryPressure { percent } => Event::MemoryPressure { percent: *percent },
        Note::Victim { run, pid, bytes, signal } => {
            let signal = match signal {
                VictimSignal::Term => "SIGTERM",
                VictimSignal::Kill => "SIGKILL",
            };
            Event::Victim { run: run.0, pid: *pid, bytes: *bytes, signal: signal.to_owned() }
        }
        Note::MemoryRestart { run, tree_bytes } => {
            Event::MemoryRestart { run: run.0, tree_bytes: *tree_bytes, evidence }
        }
        Note::MemoryElsewhere { run, tree_bytes } => Event::MemoryElsewhere { run: run.0, tree_bytes: *tree_bytes },
    })
}

/// Who told a run to end.
fn who_told(reason: &Reason) -> Option<String> {
    match reason {
        Reason::Exited(_) | Reason::CannotStart(_) => None,
        Reason::Stalled => Some("stall".to_owned()),
        Reason::Memory => Some("memory".to_owned()),
        Reason::Operator(command) => Some(text::command_name(*command).to_owned()),
    }
}
