//! Doing what the policy says.

use std::io;

use os::fail;
use policy::supervisor::{Answer, Effect, Event, MemoryReading, Note, Refusal, RequestId, RunId, Sign, StartFailure};
use wire::control::{FailedKind, Reply, Status};
use wire::journal::Event as Happened;

use crate::activity::Source;
use crate::drive::Daemon;
use crate::runs::{self, Chosen, LiveRun, Prepared};
use crate::{survey, text};

/// A reading of memory is good for this long when somebody only wants to know.
const MEMORY_FRESH_MS: u64 = 1_000;

impl Daemon {
    /// In order, but first what the worker waits for.
    pub(crate) fn perform(&mut self, mut effects: Vec<Effect>) {
        self.save_stop_first(&mut effects);
        self.judge_program(&effects);
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
        self.tell_turns();
    }

    pub(crate) fn begin(&mut self, run: RunId) {
        let chosen = match self.next_program(run) {
            Ok(Some(chosen)) => chosen,
            // It is begun when it is known what may run.
            Ok(None) => return,
            Err(failure) => return self.events.push_back(Event::StartFailed(run, failure)),
        };
        // Before the run begins: a log that it makes in its first millisecond is its own.
        self.watch_activity();
        let prepared = self.prepared.take().filter(|prepared| prepared.number() == run.0);
        // What was prepared may be gone.
        let begun = match prepared.map(|prepared| prepared.begin(chosen.clone())) {
            Some(Ok(live)) => Ok(live),
            Some(Err(_)) | None => self.begin_unprepared(run, &chosen),
        };
        match begun {
            Ok(live) => {
                self.watch_run(live);
                self.launching.shelf.began();
            }
            Err(error) => {
                self.forget_activity();
                self.cannot_begin(run, error.raw_os_error().unwrap_or(0));
                return;
            }
        }
        if let Some((event, text)) = self.launching.news() {
            self.record(event, &text);
        }
        if let Some(aside) = self.launching.take_aside() {
            self.tell_of_aside(&aside);
        }
        if let Some(note) = self.launching.note() {
            self.tell(Happened::Degraded, &note);
        }
    }

    fn begin_unprepared(&mut self, run: RunId, chosen: &Chosen) -> io::Result<LiveRun> {
        let begin = |daemon: &Self| daemon.prepare(run)?.begin(chosen.clone());
        let mut begun = begin(self);
        // The worker's old output is worth less than its work.
        while begun.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
            && self.launching.output().give_up_oldest()
        {
            self.warn("the disk is full: the oldest output was removed to start the worker");
            begun = begin(self);
        }
        begun
    }

    fn prepare(&self, run: RunId) -> io::Result<Prepared> {
        let run_id = format!("{}-{:016x}", run.0, u64::from_ne_bytes(os::random::bytes::<8>()?));
        fail::point("run.prepare")?;
        Prepared::new(&self.home, self.launching.plan(run.0, run_id, self.boot_id.clone()))
    }

    /// While there is nothing else to do: get ready what the next start would otherwise wait for.
    pub(crate) fn keep_prepared(&mut self) {
        let next = self.machine.next_run();
        if self.prepared.as_ref().is_some_and(|prepared| next == Some(RunId(prepared.number()))) {
            return;
        }
        let starting = self.launching.awaited.is_some() || self.run.as_ref().is_some_and(|run| run.worker.is_none());
        let Some(next) = next.filter(|next| !starting && self.unprepared != Some(*next)) else { return };
        match self.prepare(next) {
            Ok(prepared) => self.prepared = Some(prepared),
            // It is tried again when the run begins, and then it counts.
            Err(_) => self.unprepared = Some(next),
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
        if self.forget_trial(run) {
            return self.events.push_back(Event::StartFailed(run, StartFailure::Other(0)));
        }
        let Some(live) = self.run.as_ref().filter(|live| live.number == run.0) else { return };
        fail::point("run.end").ok();
        if live.tell_to_end(false) {
            self.await_shim();
        } else {
            self.end_orphans();
        }
    }

    fn sample(&mut self) {
        let memory = self.read_memory();
        let sign = self.look_for_life();
        let run = self.run.as_ref().map(|run| RunId(run.number));
        self.events.push_back(Event::Sampled { run, sign, memory });
    }

    /// Its own words first; where it has said nothing new for long, and never sends heartbeats, also those in an older log that
    /// it has open, and what its tools do.
    fn look_for_life(&mut self) -> Sign {
        let Some(activity) = &mut self.activity else { return Sign::Nothing };
        let sign = activity.look();
        if sign == Sign::Progress {
            return sign;
        }
        if self.silent_worker().is_some() {
            let pids: Vec<u32> = self.run.iter().flat_map(LiveRun::tree).map(|(identity, _)| identity.pid).collect();
            self.activity.iter_mut().for_each(|activity| activity.look_for_open_logs(pids.iter().copied()));
        }
        let worked = self.look_at_tools();
        if worked > sign {
            self.activity.iter_mut().for_each(|activity| activity.noted(worked, Source::Tools));
        }
        worked.max(sign)
    }

    /// Nothing, as long as it is not looked at them.
    pub(crate) fn look_at_tools(&mut self) -> Sign {
        let now_ms = os::clock::monotonic_ms();
        self.silent_worker().map_or(Sign::Nothing, |worker| self.tools.look(worker, now_ms))
    }

    /// The worker, if it never sends heartbeats, and has said nothing new for half of the time that it may be silent.
    fn silent_worker(&self) -> Option<u32> {
        let worker = self.run.as_ref()?.worker.filter(|_| !self.said.heartbeat)?;
        let timeout_ms = self.launching.config().restart.stall_timeout_ms.value;
        let now_ms = os::clock::monotonic_ms();
        let silent_ms = self.machine.view().progress_ms.map_or(0, |at_ms| now_ms.saturating_sub(at_ms));
        (timeout_ms > 0 && silent_ms >= timeout_ms / 2).then_some(worker.pid)
    }

    fn read_memory(&mut self) -> MemoryReading {
        let now_ms = os::clock::monotonic_ms();
        let reading = self.gauge.read(now_ms).unwrap_or_default();
        self.memory = (reading, now_ms);
        reading
    }

    fn survey(&mut self, run: RunId) {
        let Some(live) = self.run.as_ref().filter(|live| live.number == run.0) else { return };
        let names = &self.launching.config().memory.kill_names.value;
        let worker = live.worker.map(|worker| worker.pid);
        // Where it can't be looked through, it is tried again soon.
        self.surveyed = live.top().map(|top| survey::look(top, worker, names)).unwrap_or_default();
        self.events.push_back(Event::Surveyed(run, self.surveyed.survey.clone()));
    }

    fn answer(&mut self, id: RequestId, answer: &Answer) {
        self.sync_operators_word();
        // No client: the daemon's own, for a signal.
        let Some((client, command)) = self.requests.remove(&id) else { return };
        let reply = self.reply_to(answer);
        self.record_answer(command, &reply);
        if *answer == Answer::Halted {
            self.farewells.push((client, reply));
            return;
        }
        // What the client asks next is read when it is heard of next; it was not read yet.
        if let Some(next) = self.clients.reply(client, &reply, &self.poller) {
            self.later.push_back((client, next));
        }
    }

    fn reply_to(&self, answer: &Answer) -> Reply {
        let pid = self.run.as_ref().and_then(|run| run.worker).map(|worker| worker.pid);
        let shown = pid.map_or_else(String::new, |pid| format!(" (PID {pid})"));
        match answer {
            Answer::Running(_) => Reply::done(format!("Worker started{shown}"), pid),
            Answer::AlreadyRunning(_) => Reply::done(format!("Worker runs already{shown}"), pid),
            Answer::Stopped => {
                let unsaved = self.state_unsaved.as_ref().map(|why| {
                    format!("\nwarning: {why}: a daemon that is started before it can will not know of this stop")
                });
                Reply::done(format!("Worker stopped{}", unsaved.unwrap_or_default()), None)
            }
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
            Answer::Refused(Refusal::Unverified) => {
                let (why, hint) = self.run.as_ref().and_then(LiveRun::doubts).unwrap_or_default();
                Reply::failed(FailedKind::Refused, why, Some(hint))
            }
            Answer::Refused(Refusal::Superseded(by)) => {
                let message = format!("a later {} overtook this command", text::command_name(*by));
                Reply::failed(FailedKind::Refused, message, None)
            }
        }
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
        let (agent, agent_given_up) = self.agents.shelf.shown(None);
        let (copy, given_up) = self.launching.shelf.shown(Some(&self.launching.source()));
        let given_up = given_up.map(|binary| format!("{binary}: {}", binary.reason.as_deref().unwrap_or_default()));
        let rlog = self.said.rlog.as_deref().or(newest_log);
        let source = self.activity.as_ref().filter(|_| alive).and_then(|activity| activity.sources().0);
        Status {
            worker_status: view.status.as_str().to_owned(),
            worker_pid: self.run.as_ref().and_then(|run| run.worker).map(|worker| worker.pid),
            uptime_seconds: since(view.started_ms).unwrap_or(0) / 1_000,
            total_restarts: view.total_restarts,
            consecutive_failures: view.failures,
            memory_available_bytes: memory.available_bytes,
            memory_total_bytes: memory.total_bytes,
            memory_band: text::band(view.band).to_owned(),
            worker_binary: self.binary(),
            worker_version: copy.map(|binary| binary.version.clone()),
            worker_sha256: copy.map(|binary| binary.sha256.clone()),
            worker_standing: copy.map(|binary| binary.standing.name().to_owned()),
            worker_attempts: copy.map_or(0, |binary| binary.attempts),
            rolled_back: given_up,
            agent_version: agent.map(|binary| binary.version.clone()),
            agent_sha256: agent.map(|binary| binary.sha256.clone()),
            agent_standing: agent.map(|binary| binary.standing.name().to_owned()),
            agent_rolled_back: agent_given_up
                .map(|binary| format!("{binary}: {}", binary.reason.as_deref().unwrap_or_default())),
            last_exits: self.exits.clone(),
            next_attempt_in_ms: view.next_attempt_ms.map(|at_ms| at_ms.saturating_sub(now_ms)),
            reason: self.reason(),
            run: view.run.map(|run| run.0),
            worker_ready: view.ready,
            worker_phase: self.said.phase.clone().filter(|_| alive),
            worker_message: self.said.message.clone().filter(|_| alive),
            worker_rlog: rlog.map(|path| path.display().to_string()),
            last_activity_ms_ago: since(view.active_ms).filter(|_| alive),
            last_activity_source: source.map(ToString::to_string),
            containment: self.rung.clone().unwrap_or_else(|| self.launching.containment().name().to_owned()),
            daemon_pid: os::process::own_pid(),
            daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
            daemon_uptime_seconds: now_ms.saturating_sub(self.started_ms) / 1_000,
            working_dir: job.working_dir.value.display().to_string(),
            project: job.project.value.clone(),
            model: job.model.value.clone(),
            output_log: self.home.output_log().display().to_string(),
            degraded: self.problems(),
        }
    }
}

/// What is to be done first: what the worker waits for goes before what is only told, but evidence before it is lost.
fn rank(effect: &Effect) -> u8 {
    match effect {
        Effect::Note(Note::Stalled { .. } | Note::StallTolerated { .. } | Note::MemoryRestart { .. }) => 0,
        Effect::Stop(_) | Effect::Signal { .. } | Effect::Start(_) => 0,
        Effect::Sample | Effect::Survey(_) => 1,
        Effect::Note(_) => 2,
        Effect::Save => 3,
        Effect::Answer(..) => 4,
        Effect::Halt => 5,
    }
}
