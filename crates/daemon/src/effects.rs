//! Doing what the policy says.

use std::io;

use os::poll::Interest;
use os::process::{Pidfd, Send};
use policy::supervisor::{
    Answer, Command, Effect, Event, MemoryReading, Note, Refusal, RequestId, RunId, Sign, StartFailure, VictimSignal,
};
use wire::control::{FailedKind, LastExit, Reply, Status};

use crate::drive::{Daemon, KEPT_RUNS, Victim, rank};
use crate::runs::{self, LiveRun};
use crate::state::{MOST_EXITS, State};
use crate::{survey, text};

/// A reading of memory is good for this long when somebody only wants to know.
const MEMORY_FRESH_MS: u64 = 1_000;

impl Daemon {
    /// In order, but first what the worker waits for.
    pub(crate) fn perform(&mut self, mut effects: Vec<Effect>) {
        effects.sort_by_key(rank);
        for effect in effects {
            match effect {
                Effect::Start(run) => self.begin(run),
                Effect::Stop(run) => self.end(run),
                Effect::Sample => self.sample(),
                Effect::Survey(run) => self.survey(run),
                Effect::Signal { pid, signal } => self.signal(pid, signal),
                Effect::Answer(id, answer) => self.answer(id, &answer),
                Effect::Note(note) => self.note(&note),
                Effect::Save => self.save(),
                Effect::Halt => self.halted = true,
            }
        }
    }

    fn begin(&mut self, run: RunId) {
        let run_id = match os::random::bytes::<8>() {
            Ok(random) => format!("{}-{:016x}", run.0, u64::from_ne_bytes(random)),
            Err(error) => return self.cannot_begin(run, error.raw_os_error().unwrap_or(0)),
        };
        let plan = match self.launching.plan(run.0, run_id, self.boot_id.clone()) {
            Ok(plan) => plan,
            Err(failure) => return self.events.push_back(Event::StartFailed(run, failure)),
        };
        // Before the run begins: a log that it makes in its first millisecond is its own.
        self.watch_activity();
        let mut begun = LiveRun::begin(&plan);
        // The worker's old output is worth less than its work.
        while begun.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
            && plan.output.give_up_oldest()
        {
            self.say("warning: the disk is full: the oldest output was removed to start the worker");
            begun = LiveRun::begin(&plan);
        }
        if let Err(error) = begun.and_then(|live| self.watch_run(live)) {
            self.forget_activity();
            self.cannot_begin(run, error.raw_os_error().unwrap_or(0));
            return;
        }
        if let Some(note) = self.launching.note() {
            self.say(&note);
        }
    }

    fn cannot_begin(&mut self, run: RunId, errno: i32) {
        let failure = match runs::by_errno(errno) {
            StartFailure::Resources(errno) => StartFailure::Resources(errno),
            // Not the program is missing or forbidden, but a file of the home.
            StartFailure::NotFound
            | StartFailure::NotExecutable
            | StartFailure::NotAProgram
            | StartFailure::WorkingDirectory
            | StartFailure::Other(_) => StartFailure::Other(errno),
        };
        self.events.push_back(Event::StartFailed(run, failure));
    }

    fn end(&mut self, run: RunId) {
        let Some(live) = self.run.as_ref().filter(|live| live.number == run.0) else { return };
        if !live.tell_to_end(false) {
            self.end_orphans();
        }
    }

    fn sample(&mut self) {
        let memory = self.read_memory();
        let sign = self.look_for_life();
        let run = self.run.as_ref().map(|run| RunId(run.number));
        self.events.push_back(Event::Sampled { run, sign, memory });
    }

    /// Its own words first; where it has said nothing new for long, and never sends heartbeats, what its tools do.
    fn look_for_life(&mut self) -> Sign {
        let Some(activity) = &mut self.activity else { return Sign::Nothing };
        let sign = activity.look();
        if sign == Sign::Progress || self.said.heartbeat {
            return sign;
        }
        let now_ms = os::clock::monotonic_ms();
        let silent_ms = self.machine.view().progress_ms.map_or(0, |at_ms| now_ms.saturating_sub(at_ms));
        let timeout_ms = self.launching.config().restart.stall_timeout_ms.value;
        let worker = self.run.as_ref().and_then(|run| run.worker).map(|worker| worker.pid);
        match worker {
            Some(worker) if timeout_ms > 0 && silent_ms >= timeout_ms / 2 => self.tools.look(worker, now_ms).max(sign),
            Some(_) | None => sign,
        }
    }

    fn read_memory(&mut self) -> MemoryReading {
        let reading = os::memory::reading(os::proc::root(), os::memory::cgroup_root()).unwrap_or_default();
        self.memory = (reading, os::clock::monotonic_ms());
        reading
    }

    fn survey(&mut self, run: RunId) {
        let Some(live) = self.run.as_ref().filter(|live| live.number == run.0) else { return };
        let names = &self.launching.config().memory.kill_names.value;
        let worker = live.worker.map(|worker| worker.pid);
        // Below the worker, and what its dead children left to the shim: both are below the shim.
        let shim = worker.and_then(|pid| os::proc::stat(os::proc::root(), pid).ok()).map(|stat| stat.parent);
        let Some(shim) = shim else { return };
        self.surveyed = survey::look(shim, worker, names);
        self.events.push_back(Event::Surveyed(run, self.surveyed.survey.clone()));
    }

    fn signal(&mut self, pid: u32, signal: VictimSignal) {
        if !self.victims.iter().any(|victim| victim.pid == pid) && !self.catch_victim(pid) {
            self.events.push_back(Event::VictimGone(pid));
            return;
        }
        let signal = match signal {
            VictimSignal::Term => Send::Term,
            VictimSignal::Kill => Send::Kill,
        };
        for victim in self.victims.iter().filter(|victim| victim.pid == pid) {
            for pidfd in std::iter::once(&victim.pidfd).chain(&victim.below) {
                // One that is gone needs no signal, and one that belongs to another user now can't be sent any.
                pidfd.send(signal).ok();
            }
        }
    }

    /// Take hold of a candidate and all below it; `false` if it is gone.
    fn catch_victim(&mut self, pid: u32) -> bool {
        let token = self.victim_token();
        let mut caught = None;
        let mut below = Vec::new();
        for identity in self.surveyed.subtree(pid) {
            match Pidfd::open(identity) {
                Ok(Some(pidfd)) if identity.pid == pid => caught = Some(pidfd),
                Ok(Some(pidfd)) => below.push(pidfd),
                Ok(None) | Err(_) => {}
            }
        }
        let Some(pidfd) = caught else { return false };
        if self.poller.add(&pidfd, token, Interest::Readable).is_err() {
            return false;
        }
        self.victims.push(Victim { pid, pidfd, below, token });
        true
    }

    fn answer(&mut self, id: RequestId, answer: &Answer) {
        // No client: the daemon's own, for a signal.
        let Some(client) = self.requests.remove(&id) else { return };
        let reply = self.reply(answer);
        if *answer == Answer::Halted {
            self.farewells.push((client, reply));
            return;
        }
        // What the client asks next is read when it is heard of next; it was not read yet.
        if let Some(next) = self.clients.reply(client, &reply, &self.poller) {
            self.later.push_back((client, next));
        }
    }

    fn reply(&self, answer: &Answer) -> Reply {
        let pid = self.run.as_ref().and_then(|run| run.worker).map(|worker| worker.pid);
        let shown = pid.map_or_else(String::new, |pid| format!(" (PID {pid})"));
        match answer {
            Answer::Running(_) => Reply::done(format!("Worker started{shown}"), pid),
            Answer::AlreadyRunning(_) => Reply::done(format!("Worker runs already{shown}"), pid),
            Answer::Stopped => Reply::done("Worker stopped".to_owned(), None),
            Answer::AlreadyStopped => Reply::done("Worker was stopped already".to_owned(), None),
            Answer::Halted => Reply::done("Daemon stopped".to_owned(), None),
            Answer::CannotStart(failure) => {
                let hint = Some(self.launching.hint(failure));
                Reply::failed(FailedKind::CannotStart, self.launching.sentence(failure), hint)
            }
            Answer::EndedAtOnce(exit) => {
                let message = format!("the worker ended as soon as it was started: {}", text::exit(*exit));
                Reply::failed(FailedKind::CannotStart, message, Some("autopilotd status".to_owned()))
            }
            Answer::Refused(Refusal::ShuttingDown) => {
                Reply::failed(FailedKind::Refused, "the daemon is about to end".to_owned(), None)
            }
            Answer::Refused(Refusal::Superseded(by)) => {
                let message = format!("a later {} overtook this command", text::command_name(*by));
                Reply::failed(FailedKind::Refused, message, None)
            }
        }
    }

    fn note(&mut self, note: &Note) {
        let pid = self.run.as_ref().and_then(|run| run.worker).map(|worker| worker.pid).or(self.last_pid);
        if let Note::Started { .. } = note {
            self.last_pid = pid;
        }
        if let Note::Ended { run, exit, told, lived_ms } = note {
            let cause = text::ended(*exit, told.as_ref());
            let at_unix_ms = os::clock::wall_ms();
            self.exits.insert(0, LastExit { run: run.0, cause, at_unix_ms, lived_ms: *lived_ms });
            self.exits.truncate(MOST_EXITS);
        }
        if let Note::Stalled { .. } | Note::StallTolerated { .. } | Note::MemoryRestart { .. } = note {
            let what = text::note(note, pid, &self.launching).unwrap_or_default();
            self.keep_evidence(&what);
        }
        if let Note::CannotStart { run, failure } = note {
            let cause = self.launching.sentence(failure);
            self.exits.insert(0, LastExit { run: run.0, cause, at_unix_ms: os::clock::wall_ms(), lived_ms: 0 });
            self.exits.truncate(MOST_EXITS);
            self.ended_run = self.ended_run.max(run.0);
        }
        if let Note::Asked { command: Command::Shutdown } = note {
            self.say("Stopping autopilotd...");
        }
        if let Some(text) = text::note(note, pid, &self.launching) {
            self.say(&text);
        }
    }

    fn save(&mut self) {
        let snapshot = self.machine.snapshot();
        let state = State::new(self.boot_id.clone(), snapshot, self.ended_run, self.exits.clone());
        match state.save(&self.home.state_file()) {
            Ok(()) => self.state_unsaved = None,
            Err(error) => {
                let problem = format!("cannot write {}: {error}", self.home.state_file().display());
                if self.state_unsaved.as_ref() != Some(&problem) {
                    self.say(&format!("warning: {problem}"));
                }
                self.state_unsaved = Some(problem);
            }
        }
        runs::prune(&self.home, KEPT_RUNS);
    }

    pub(crate) fn status(&mut self) -> Status {
        let now_ms = os::clock::monotonic_ms();
        if now_ms.saturating_sub(self.memory.1) >= MEMORY_FRESH_MS || self.memory.1 == 0 {
            self.read_memory();
        }
        let memory = self.memory.0;
        let view = self.machine.view();
        let job = &self.launching.config().job;
        let since = |at_ms: Option<u64>| at_ms.map(|at_ms| now_ms.saturating_sub(at_ms));
        let alive = view.run.is_some();
        let newest_log = self.activity.as_ref().and_then(crate::activity::Activity::newest_log);
        let rlog = self.said.rlog.as_deref().or(newest_log);
        Status {
            worker_status: view.status.as_str().to_owned(),
            worker_pid: self.run.as_ref().and_then(|run| run.worker).map(|worker| worker.pid),
            uptime_seconds: since(view.started_ms).unwrap_or(0) / 1_000,
            total_restarts: view.total_restarts,
            consecutive_failures: view.failures,
            memory_available_bytes: memory.available_bytes,
            memory_total_bytes: memory.total_bytes,
            memory_band: text::band(view.band).to_owned(),
            worker_binary: self.launching.binary(),
            last_exits: self.exits.clone(),
            next_attempt_in_ms: view.next_attempt_ms.map(|at_ms| at_ms.saturating_sub(now_ms)),
            reason: view.reason.as_ref().map(|reason| text::reason(reason, &self.launching)),
            run: view.run.map(|run| run.0),
            worker_ready: view.ready,
            worker_phase: self.said.phase.clone().filter(|_| alive),
            worker_message: self.said.message.clone().filter(|_| alive),
            worker_rlog: rlog.map(|path| path.display().to_string()),
            last_activity_ms_ago: since(view.active_ms).filter(|_| alive),
            containment: self.rung.clone().unwrap_or_else(|| self.launching.containment().name().to_owned()),
            daemon_pid: os::process::own_pid(),
            daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
            daemon_uptime_seconds: now_ms.saturating_sub(self.started_ms) / 1_000,
            working_dir: job.working_dir.value.display().to_string(),
            project: job.project.value.clone(),
            model: job.model.value.clone(),
            output_log: self.home.output_log().display().to_string(),
            degraded: self.degraded.iter().cloned().chain(self.state_unsaved.clone()).chain(self.loss()).collect(),
        }
    }
}
