//! The worker's program on its way from a file to a proven binary: looked into before a start, counted, judged by each end,
//! and rolled back. What is decided here is decided in `policy::probation`.

use std::ffi::OsString;
use std::io;

use os::poll::Interest;
use policy::probation::{self, Circumstances, Life};
use policy::supervisor::{Band, Command, Effect, Event, Note, RunId, StartFailure, State};
use wire::journal::Event as Happened;

use crate::agent::AgentChoice;
use crate::binary::{Trial, Turn};
use crate::clients::ClientId;
use crate::drive::{Daemon, TRIAL};
use crate::runs::Chosen;
use crate::text;

impl Daemon {
    /// What the next run runs; none: something is being looked into, and the run begins when that is done.
    pub(crate) fn next_program(&mut self, run: RunId) -> Result<Option<Chosen>, StartFailure> {
        self.surveyed = crate::survey::Found::default();
        let chosen = self.choose_program(run.0);
        self.launching.awaited = matches!(chosen, Ok(None)).then_some(run.0);
        Ok(chosen?.map(|Chosen { program, agent, .. }| {
            let is_agent_on_trial = self.count_agent(run, agent.as_deref());
            Chosen { program: self.count_attempt(run, program), agent, is_agent_on_trial }
        }))
    }

    /// Nothing of it is counted yet.
    fn choose_program(&mut self, run: u64) -> Result<Option<Chosen>, StartFailure> {
        // Of a daemon that was killed with its worker, again and again.
        self.launching.shelf.roll_back();
        let program = match self.launching.choose(run)? {
            Some(program) => program,
            None if self.look_into_program(run) => return Ok(None),
            // Without another look into what can't be looked into.
            None => self.launching.choose(run)?.ok_or(StartFailure::Resources(0))?,
        };
        let agent = match self.choose_agent() {
            AgentChoice::Copy(copy) => Some(copy),
            AgentChoice::Own => None,
            AgentChoice::Wait => return Ok(None),
        };
        Ok(Some(Chosen { program, agent, is_agent_on_trial: false }))
    }

    /// `false`: it can't be.
    fn look_into_program(&mut self, run: u64) -> bool {
        let asks = |command: &Command| matches!(command, Command::StartWorker | Command::RestartWorker);
        let is_asked_for = self.requests.values().any(|(_, command)| asks(command));
        let begun = self.launching.look_into(run, is_asked_for).map(|trial| trial.is_some());
        self.watch_trial(begun)
    }

    /// `begun`: there is a new one. `false`: there is none.
    fn watch_trial(&mut self, begun: io::Result<bool>) -> bool {
        let watched = begun.and_then(|is_new| match &self.launching.trial {
            Some(trial) if is_new => self.poller.add(trial, TRIAL, Interest::Readable),
            Some(_) | None => Ok(()),
        });
        if let Err(error) = &watched {
            self.launching.trial = None;
            self.launching.not_looked_into(error.to_string());
        }
        watched.is_ok()
    }

    /// A restart that somebody asks for, of a worker that runs, with a new file: that is looked into first, while the worker
    /// works on. `true`: the request waits for that.
    pub(crate) fn holds_restart(&mut self, id: ClientId) -> bool {
        if self.machine.view().run.is_none() || self.launching.awaited.is_some() {
            return false;
        }
        if self.launching.trial.is_none() {
            let begun = self.launching.has_news() && {
                let begun = self.launching.begin_trial().map(|_| true);
                self.watch_trial(begun)
            };
            if !begun {
                return false;
            }
        }
        self.held_restarts.push(id);
        true
    }

    /// Restarts that waited for a look at the file, or are overtaken.
    pub(crate) fn release_restarts(&mut self) {
        for id in std::mem::take(&mut self.held_restarts) {
            self.command(id, Command::RestartWorker);
        }
    }

    fn count_attempt(&mut self, run: RunId, program: Vec<OsString>) -> Vec<OsString> {
        self.expect_build(run.0);
        if let Some(launch) = self.launching.current().cloned() {
            if self.launching.shelf.begin(run.0, &launch) {
                self.machine.begin_probation();
            } else if self.machine.is_probation() {
                self.events.push_back(Event::RolledBack);
            }
        }
        program
    }

    /// The child that looked into the file has ended.
    pub(crate) fn take_trial(&mut self) {
        let Some(trial) = self.launching.trial.take() else { return };
        self.poller.remove(&trial).ok();
        trial.finish(&mut self.launching.shelf);
        self.release_restarts();
        self.begin_if_waited_for();
        self.tell_turns();
    }

    /// Not if it was told meanwhile to end.
    pub(crate) fn begin_if_waited_for(&mut self) {
        self.launching.patience_ms = None;
        let Some(number) = self.launching.awaited else { return };
        if matches!(self.machine.state(), State::Starting(watch) if watch.run.0 == number) {
            self.begin(RunId(number));
            self.feed(Event::Tick);
            // Only now it counts.
            self.save();
        }
    }

    /// The run that waits for a look at something is not to begin any more. `false`: there was none.
    pub(crate) fn forget_trial(&mut self, run: RunId) -> bool {
        if self.launching.awaited != Some(run.0) {
            return false;
        }
        self.launching.awaited = None;
        self.launching.patience_ms = None;
        if let Some(trial) = self.launching.trial.take() {
            self.poller.remove(&trial).ok();
            trial.cancel();
        }
        true
    }

    /// Whose fault the ends among these effects are; before anything that follows from them.
    pub(crate) fn judge_program(&mut self, effects: &[Effect]) {
        let mut judged = false;
        for effect in effects {
            match effect {
                Effect::Note(Note::Ended { run, exit, told, lived_ms }) => {
                    self.judge_build(run.0, *exit);
                    let blame = probation::blame(*exit, told.as_ref(), self.circumstances(*lived_ms));
                    let why = text::ended(*exit, told.as_ref());
                    self.launching.shelf.ended(run.0, blame, *lived_ms, &why);
                }
                Effect::Note(Note::CannotStart { run, failure }) => {
                    let blame = probation::blame_for_start(failure);
                    let why = text::start_failure(failure).to_owned();
                    self.launching.shelf.ended(run.0, blame, 0, &why);
                }
                Effect::Note(_)
                | Effect::Start(_)
                | Effect::Stop(_)
                | Effect::Sample
                | Effect::Survey(_)
                | Effect::Signal { .. }
                | Effect::Answer(..)
                | Effect::Save
                | Effect::Halt => continue,
            }
            judged = true;
        }
        self.judge_agent(effects);
        if judged && self.launching.shelf.roll_back() {
            self.events.push_back(Event::RolledBack);
        }
    }

    fn circumstances(&self, lived_ms: u64) -> Circumstances {
        let total_bytes = self.memory.0.total_bytes;
        let worker_bytes = self.last_pid.and_then(|pid| self.surveyed.bytes_of(pid)).unwrap_or(0);
        Circumstances {
            lived_ms,
            success_threshold_ms: self.launching.config().restart.success_threshold_ms.value,
            was_ready: self.said.ready,
            was_beating: self.said.heartbeat,
            memory_is_tight: self.machine.band() != Band::Normal,
            worker_is_large: total_bytes > 0 && worker_bytes >= total_bytes / 10,
        }
    }

    /// When something is due here.
    pub(crate) fn program_due_ms(&self) -> Option<u64> {
        let lost = self.launching.trial.as_ref().map(Trial::due_ms);
        [self.launching.shelf.due_ms(), lost, self.launching.patience_ms, self.agents.due_ms()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is due, and what was counted while nothing waits for it.
    pub(crate) fn keep_program(&mut self) {
        let now_ms = os::clock::monotonic_ms();
        if self.launching.trial.as_ref().is_some_and(|trial| trial.due_ms() <= now_ms) {
            self.take_trial();
        }
        if self.launching.patience_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            // With what is known; the look goes on beside it.
            self.begin_if_waited_for();
        }
        let life = self.machine.recall().zip(self.machine.view().started_ms);
        let life = life.map(|((_, recalled), started_ms)| Life {
            started_ms,
            active_ms: recalled.active_ms,
            is_tolerated: recalled.tolerated_ms.is_some(),
        });
        if self.launching.shelf.look(life, now_ms) {
            self.machine.end_probation();
            self.save();
            self.tell_turns();
        }
        self.keep_agent(life, now_ms);
        if let Err(error) = self.launching.shelf.keep_count(Some(now_ms)) {
            self.warn(&format!("cannot write down how often each binary ran: {error}"));
        }
    }

    /// At the end of the daemon.
    pub(crate) fn leave_count(&mut self) {
        // It is only counted.
        self.launching.shelf.keep_count(None).ok();
        self.agents.shelf.keep_count(None).ok();
    }

    pub(crate) fn tell_turns(&mut self) {
        for turn in self.launching.shelf.take_turns() {
            self.tell_turn("worker binary", &turn);
        }
        for turn in self.take_agent_turns() {
            self.tell_turn("agent", &turn);
        }
    }

    /// `what`: whose it is.
    fn tell_turn(&mut self, what: &str, turn: &Turn) {
        let agent = what == "agent";
        let probation = text::duration(self.launching.config().job.probation_ms.value);
        match turn {
            Turn::Admitted { binary, source, proven } => {
                let net = match proven {
                    Some(proven) => format!("if it fails, {proven} is back"),
                    None => "nothing else is proven yet".to_owned(),
                };
                let source = source.display().to_string();
                let text = format!("New {what} {binary}, from {source}; in probation for {probation}: {net}");
                let sha256 = binary.sha256.clone();
                let event = Happened::BinaryAdmitted { source, sha256, version: binary.version.clone(), agent };
                // The first one of a home goes without saying: whoever watches has just installed it.
                if proven.is_some() { self.tell(event, &text) } else { self.record(event, &text) }
            }
            Turn::Refused { source, why, instead } => {
                let runs_on = instead.as_ref().map(|binary| format!("; running on: {binary}")).unwrap_or_default();
                let source = source.display().to_string();
                let text = format!("warning: {source} is not used: {why}{runs_on}");
                self.tell(Happened::BinaryRefused { source, why: why.clone(), agent }, &text);
            }
            Turn::Proven { binary } => {
                let text = format!("The {what} {binary} is proven: it was healthy for {probation}");
                self.tell(Happened::BinaryProven { sha256: binary.sha256.clone(), agent }, &text);
            }
            Turn::RolledBack { from, to, is_out } => {
                let why = from.reason.clone().unwrap_or_default();
                let text = format!(
                    "warning: rolled back to {to}: the {what} {from} {why}\n\
                     hint: install a better one, or give it another chance: autopilotd {} {}{}",
                    if *is_out { "unquarantine" } else { "rollback" },
                    if agent { "--agent " } else { "" },
                    from.short()
                );
                let (from, to) = (from.sha256.clone(), to.sha256.clone());
                self.tell(Happened::RolledBack { from, to, why, agent }, &text);
            }
        }
    }
}
