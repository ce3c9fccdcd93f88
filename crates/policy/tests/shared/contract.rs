//! What must hold after every step of the machine, whatever happened before.
//!
//! Knows only what a shell knows: the events that went in and the effects that came out.

use policy::supervisor::{Command, Effect, Event, Found, RequestId, RunId, Snapshot, State, Supervisor, VictimSignal};

/// A broken promise, in words.
pub(crate) type Broken = String;

/// The shell's side of the contract.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contract {
    /// The run that may live: from its start until it is known to be gone.
    pub(crate) live: Option<RunId>,
    /// The longest that an operator may wait for an answer, where the world keeps its side.
    longest_wait_ms: Option<u64>,
    /// It was told to end.
    told: bool,
    newest: u64,
    booted: bool,
    candidates: Vec<u32>,
    termed: Option<u32>,
    asked: Vec<(RequestId, u64, Command)>,
    restarts: u64,
    halted: bool,
    pub(crate) saved: Option<Snapshot>,
    /// Nobody knows what lives of it: a daemon may end beside it, and never start one.
    unverified: bool,
}

impl Contract {
    /// In a world that keeps its side: no operator waits longer than this.
    #[allow(dead_code, reason = "the tables have no such world")]
    pub(crate) fn within(longest_wait_ms: u64) -> Self {
        Self { longest_wait_ms: Some(longest_wait_ms), ..Self::default() }
    }

    /// For the first daemon, or for the one after a death; `saved` is what that one is given.
    pub(crate) fn begin(&mut self, saved: Option<&Snapshot>) {
        self.saved = Some(saved.cloned().unwrap_or_else(nothing));
        self.live = None;
        self.unverified = false;
        self.told = false;
        self.booted = false;
        self.candidates.clear();
        self.termed = None;
        // Their clients saw the connection end.
        self.asked.clear();
        if self.halted {
            self.halted = false;
            self.restarts = 0;
        }
    }

    /// The daemon died in the middle of a step: only these of its effects were carried out. `self`: before the step.
    #[allow(dead_code, reason = "only the simulation's daemons die")]
    pub(crate) fn cut(&mut self, carried_out: &[Effect], machine: &Supervisor) {
        for effect in carried_out {
            match effect {
                Effect::Start(run) => self.newest = self.newest.max(run.0),
                Effect::Save => self.halted |= matches!(machine.state(), State::Halted),
                Effect::Stop(_)
                | Effect::Sample
                | Effect::Survey(_)
                | Effect::Signal { .. }
                | Effect::Answer(..)
                | Effect::Note(_)
                | Effect::Halt => {}
            }
        }
    }

    /// The requests that wait for their answer.
    #[allow(dead_code, reason = "the simulation does not ask")]
    pub(crate) fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// Check one step.
    pub(crate) fn check(
        &mut self,
        now_ms: u64,
        event: &Event,
        effects: &[Effect],
        machine: &Supervisor,
    ) -> Result<(), Broken> {
        if machine.deadline_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            return Err(format!("the deadline {:?} is not after {now_ms}", machine.deadline_ms()));
        }
        if matches!(event, Event::Tick | Event::Sampled { .. }) && matches!(effects, [] | [Effect::Sample]) {
            return self.check_state(machine);
        }
        self.take(now_ms, event);
        for effect in effects {
            self.check_effect(effect)?;
        }
        let starts = effects.iter().filter(|e| matches!(e, Effect::Start(_))).count();
        if starts > 1 {
            return Err(format!("{starts} starts in one step"));
        }
        let saves = effects.iter().filter(|e| matches!(e, Effect::Save)).count();
        let saved_at = effects.iter().position(|e| matches!(e, Effect::Save));
        let started_at = effects.iter().position(|e| matches!(e, Effect::Start(_)));
        if saves > 1 || (started_at.is_some() && saved_at < started_at) {
            // A daemon that dies between the two leaves a record of a start that never was.
            return Err(format!("{saves} saves, the first at {saved_at:?}, the start at {started_at:?}"));
        }
        self.check_state(machine)?;
        self.check_requests(now_ms, machine)?;
        self.check_counters(machine)?;
        self.check_saved(effects, machine)
    }

    fn take(&mut self, now_ms: u64, event: &Event) {
        match event {
            Event::Missed { run, .. } if !self.booted => self.newest = self.newest.max(run.0),
            Event::Boot(found) => {
                let first = !self.booted;
                self.booted = true;
                match found {
                    Found::Live { run, .. } | Found::Orphaned { run } | Found::Unverified { run } if first => {
                        self.unverified = matches!(found, Found::Unverified { .. });
                        self.live = Some(*run);
                        self.newest = self.newest.max(run.0);
                    }
                    Found::Ended { run, .. } if first => self.newest = self.newest.max(run.0),
                    Found::Nothing
                    | Found::Live { .. }
                    | Found::Orphaned { .. }
                    | Found::Unverified { .. }
                    | Found::Ended { .. } => {}
                }
            }
            Event::StartFailed(run, _) | Event::Exited(run, _) if self.live == Some(*run) => {
                self.live = None;
                self.termed = None;
                self.candidates.clear();
            }
            Event::Surveyed(run, survey) if self.live == Some(*run) => {
                self.candidates.clear();
                self.candidates.extend(survey.candidates.iter().map(|c| c.pid));
            }
            // A shell says so of a run that it was told to end, or that lost its shim, and that it can't end.
            Event::Unverified(run) if self.live == Some(*run) => {
                self.unverified = true;
                self.told = false;
            }
            Event::Operator(id, command) => self.asked.push((*id, now_ms, *command)),
            Event::Missed { .. }
            | Event::Tick
            | Event::Started(_)
            | Event::StartFailed(..)
            | Event::Announced(_)
            | Event::Activity(_)
            | Event::Extended(..)
            | Event::Recalled(..)
            | Event::Unverified(_)
            | Event::Sampled { .. }
            | Event::Surveyed(..)
            | Event::VictimGone(_)
            | Event::RolledBack
            | Event::Exited(..) => {}
        }
    }

    fn check_effect(&mut self, effect: &Effect) -> Result<(), Broken> {
        match effect {
            Effect::Start(run) => {
                if let Some(live) = self.live {
                    return Err(format!("{run:?} started beside {live:?}"));
                }
                if run.0 <= self.newest {
                    return Err(format!("{run:?} started, but {} was the newest already", self.newest));
                }
                self.newest = run.0;
                self.live = Some(*run);
                self.unverified = false;
                self.told = false;
            }
            Effect::Stop(run) => {
                if self.live != Some(*run) {
                    return Err(format!("stop of {run:?}, but {:?} lives", self.live));
                }
                if self.told {
                    return Err(format!("{run:?} told to end twice"));
                }
                self.told = true;
            }
            Effect::Sample if self.live.is_none() => return Err("sample without a run".into()),
            Effect::Survey(run) if self.live != Some(*run) || self.told => {
                return Err(format!("survey of {run:?}, but {:?} lives (told to end: {})", self.live, self.told));
            }
            Effect::Signal { pid, signal } => {
                if self.live.is_none() || self.told {
                    return Err(format!("signal to {pid} of a run that ends or is gone"));
                }
                match signal {
                    VictimSignal::Term if !self.candidates.contains(pid) => {
                        return Err(format!("TERM to {pid}, which is no candidate"));
                    }
                    VictimSignal::Kill if self.termed != Some(*pid) => {
                        return Err(format!("KILL to {pid} without TERM"));
                    }
                    VictimSignal::Term | VictimSignal::Kill => self.termed = Some(*pid),
                }
            }
            Effect::Answer(id, answer) => {
                let Some(at) = self.asked.iter().position(|(asked, ..)| asked == id) else {
                    return Err(format!("{id:?} answered with {answer:?}, but nobody waits for that"));
                };
                self.asked.swap_remove(at);
            }
            Effect::Halt => {
                self.halted = true;
                if self.unverified {
                    self.live = None;
                }
            }
            Effect::Sample | Effect::Survey(_) | Effect::Note(_) | Effect::Save => {}
        }
        Ok(())
    }

    /// A run exists exactly if the state says so, and a deadline exactly where time alone can change something.
    fn check_state(&self, machine: &Supervisor) -> Result<(), Broken> {
        let state = machine.state();
        let (runs, waits) = match state {
            State::Starting(_) | State::Running(_) | State::Ready(_) => (true, true),
            State::Stopping { .. } | State::Unknown(_) | State::ShuttingDown(_) => (true, false),
            State::BackingOff { .. } | State::CoolingDown { .. } => (false, true),
            State::Down | State::Stopped | State::Halted => (false, false),
        };
        if runs != self.live.is_some() {
            return Err(format!("{state:?}, but {:?} lives", self.live));
        }
        if waits != machine.deadline_ms().is_some() {
            return Err(format!("{state:?} with deadline {:?}", machine.deadline_ms()));
        }
        Ok(())
    }

    fn check_requests(&self, now_ms: u64, machine: &Supervisor) -> Result<(), Broken> {
        for (id, asked_ms, command) in &self.asked {
            let starts = matches!(command, Command::StartWorker | Command::RestartWorker);
            let may_wait = match machine.state() {
                State::Down => true,
                State::Starting(_) | State::BackingOff { .. } | State::CoolingDown { .. } => starts,
                State::Stopping { .. } => !matches!(command, Command::Shutdown),
                State::ShuttingDown(_) => !starts,
                State::Running(_) | State::Ready(_) | State::Unknown(_) | State::Stopped | State::Halted => false,
            };
            let too_long = self.longest_wait_ms.is_some_and(|most_ms| now_ms.saturating_sub(*asked_ms) > most_ms);
            if !may_wait || too_long {
                return Err(format!("{id:?} ({command:?}) still waits in {:?}", machine.state()));
            }
        }
        Ok(())
    }

    fn check_counters(&mut self, machine: &Supervisor) -> Result<(), Broken> {
        let restarts = machine.view().total_restarts;
        if restarts < self.restarts {
            return Err(format!("total_restarts went from {} to {restarts}", self.restarts));
        }
        self.restarts = restarts;
        Ok(())
    }

    /// A daemon that dies now must find what this one knew.
    fn check_saved(&mut self, effects: &[Effect], machine: &Supervisor) -> Result<(), Broken> {
        let is = machine.snapshot();
        if effects.iter().any(|e| matches!(e, Effect::Save)) {
            self.saved = Some(is);
            return Ok(());
        }
        let Some(was) = &self.saved else { return Err("never begun".into()) };
        // Times that fell out of the hour need no saving.
        let same =
            (was.last_run, was.starts, was.failures, was.quick_exits, was.stopped, was.next_attempt_ms, was.failed)
                == (is.last_run, is.starts, is.failures, is.quick_exits, is.stopped, is.next_attempt_ms, is.failed)
                && was.failures_ms.ends_with(&is.failures_ms)
                && was.stall_kills_ms.ends_with(&is.stall_kills_ms);
        if !same && !matches!(machine.state(), State::Down) {
            return Err(format!("changed without being saved:\n  was {was:?}\n  is  {is:?}"));
        }
        Ok(())
    }
}

fn nothing() -> Snapshot {
    Snapshot {
        last_run: 0,
        starts: 0,
        failures: 0,
        quick_exits: 0,
        failures_ms: Vec::new(),
        stall_kills_ms: Vec::new(),
        stopped: false,
        next_attempt_ms: None,
        failed: false,
        reason: None,
        aside: None,
    }
}
