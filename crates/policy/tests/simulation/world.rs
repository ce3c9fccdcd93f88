//! A world in virtual time around one machine: it jumps from wake-up to wake-up, plays shell, worker, operator and
//! memory, and kills the daemon.

use std::collections::VecDeque;

use policy::supervisor::{Effect, Event, Exit, Found, Note, RequestId, RunId, Settings, Snapshot, State, Supervisor};

use crate::contract::{Broken, Contract};
use crate::faults::{self, Chance, DAY, HOUR, MINUTE, Mood, SECOND, Weather};
use crate::invariants::{Before, Ought, check_silence};
use crate::tally::Tally;
use crate::worker::{Turn, Worker};

pub(crate) const DAYS: u64 = 30;
pub(crate) const NEVER: u64 = u64::MAX;
/// More steps than this at one moment are a livelock.
const MOST_STEPS_AT_ONCE: u32 = 100;
const TRACE_LINES: usize = 60;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) settings: Settings,
    pub(crate) now_ms: u64,
    daemon: Option<Supervisor>,
    pub(crate) saved: Option<Snapshot>,
    /// An end whose successor was begun by a daemon that did not live to record it.
    pub(crate) unsaved_end: Option<(RunId, Exit, u64, bool)>,
    pub(crate) worker: Option<Worker>,
    /// The record of the newest run's end, and whether a daemon has taken note of it for good.
    pub(crate) ended: Option<(RunId, Exit, u64, bool)>,
    /// This shell reports such a record again all the same.
    forgetful: bool,
    pub(crate) victim: Option<(u32, u64)>,
    pub(crate) mood: (Mood, u64),
    pub(crate) weather: (Weather, u64, u64),
    next_command_ms: u64,
    next_death_ms: u64,
    /// The next death comes in the middle of a step.
    cut_next: bool,
    next_birth_ms: u64,
    next_freeze_ms: u64,
    next_extension_ms: u64,
    requests: u64,
    contract: Contract,
    ought: Ought,
    steps_at: (u64, u32),
    pub(crate) tally: Tally,
    pub(crate) trace: Option<VecDeque<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut chance = Chance::new(seed);
        let settings = faults::settings(&mut chance);
        let start_ms = chance.between(1, 100 * DAY);
        let mood = faults::mood(&mut chance);
        let (_, clears_ms, tree) = faults::weather(&mut chance, Weather::Low);
        Self {
            forgetful: chance.one_in(2),
            next_command_ms: start_ms + chance.after(6 * HOUR),
            next_death_ms: start_ms + chance.after(12 * HOUR),
            next_freeze_ms: start_ms + chance.after(3 * DAY),
            next_extension_ms: start_ms + chance.after(DAY),
            cut_next: false,
            next_birth_ms: start_ms,
            mood: (mood.0, start_ms + mood.1),
            weather: (Weather::Roomy, start_ms + clears_ms, tree),
            chance,
            settings,
            now_ms: start_ms,
            daemon: None,
            saved: None,
            unsaved_end: None,
            worker: None,
            ended: None,
            victim: None,
            requests: 0,
            contract: Contract::within(DAY),
            ought: Ought::default(),
            steps_at: (0, 0),
            tally: Tally::default(),
            trace: traced.then(VecDeque::new),
        }
    }

    /// A month. The error says when and what.
    pub(crate) fn run(&mut self) -> Result<(), Broken> {
        let end_ms = self.now_ms + DAYS * DAY;
        let begun_ms = self.now_ms;
        while self.now_ms < end_ms {
            self.turn().map_err(|broken| {
                let minutes = (self.now_ms - begun_ms) / MINUTE;
                let (day, hour, minute) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
                format!("day {day}, {hour:02}:{minute:02} ({} ms): {broken}\n{:?}", self.now_ms, self.settings)
            })?;
        }
        Ok(())
    }

    /// Jump to what is next, and let it happen.
    fn turn(&mut self) -> Result<(), Broken> {
        let deadline_ms = self.daemon.as_ref().and_then(Supervisor::deadline_ms).unwrap_or(NEVER);
        let worker_ms = self.worker.as_ref().map_or(NEVER, Worker::next_ms);
        let victim_ms = self.victim.map_or(NEVER, |(_, at_ms)| at_ms);
        let fault_ms = self.next_command_ms.min(self.next_freeze_ms).min(self.next_extension_ms);
        let daemon_ms = if self.daemon.is_some() { self.next_death_ms } else { self.next_birth_ms };
        let next_ms = deadline_ms.min(worker_ms).min(victim_ms).min(fault_ms).min(daemon_ms);
        self.now_ms = self.now_ms.max(next_ms);
        self.change_weather();
        // Of what is due at the same moment, each order is possible: whoever is first here varies with the faults' times.
        if self.next_freeze_ms <= self.now_ms {
            self.freeze(deadline_ms);
            return Ok(());
        }
        if self.daemon.is_none() {
            if self.next_birth_ms <= self.now_ms {
                return self.birth();
            }
        } else if self.next_death_ms <= self.now_ms {
            self.next_death_ms = NEVER;
            if self.chance.one_in(3) {
                self.cut_next = true;
            } else {
                self.death(None);
            }
            return Ok(());
        }
        if worker_ms <= self.now_ms {
            return self.worker_turn();
        }
        if victim_ms <= self.now_ms {
            return self.victim_ends();
        }
        if fault_ms <= self.now_ms {
            return self.operator_or_extension();
        }
        if deadline_ms <= self.now_ms {
            // A wake-up is late now and then, never early.
            if self.chance.one_in(64) {
                self.now_ms += self.chance.between(0, 30);
            }
            return self.feed(Event::Tick);
        }
        Ok(())
    }

    fn worker_turn(&mut self) -> Result<(), Broken> {
        let Some(worker) = &mut self.worker else { return Ok(()) };
        let run = worker.run;
        let lived_ms = self.now_ms - worker.begun_ms;
        if run.0 > 1 && self.chance.one_in(20) {
            // The word of an earlier end comes late, and before this.
            return self.feed(Event::Exited(RunId(run.0 - 1), Exit::Signal(9)));
        }
        let Some(turn) = worker.turn(self.now_ms) else { return Ok(()) };
        let event = match turn {
            Turn::Executed => Event::Started(run),
            Turn::Ready => Event::Announced(run),
            Turn::CannotStart(failure) => {
                self.worker = None;
                self.ended = Some((run, Exit::Unseen, lived_ms, false));
                Event::StartFailed(run, failure)
            }
            Turn::Ended(exit) => {
                self.worker = None;
                self.ended = Some((run, exit, lived_ms, false));
                Event::Exited(run, exit)
            }
        };
        self.feed(event)
    }

    fn victim_ends(&mut self) -> Result<(), Broken> {
        let Some((pid, _)) = self.victim.take() else { return Ok(()) };
        if self.chance.one_in(2) {
            self.weather.1 = self.now_ms;
        }
        self.feed(Event::VictimGone(pid))
    }

    fn operator_or_extension(&mut self) -> Result<(), Broken> {
        if self.next_extension_ms <= self.now_ms {
            self.next_extension_ms = self.now_ms + self.chance.after(DAY);
            let until_ms = self.now_ms + self.chance.between(SECOND, HOUR);
            let Some(worker) = self.worker.as_mut().filter(|worker| worker.executed) else { return Ok(()) };
            let run = worker.run;
            if self.daemon.is_none() {
                return Ok(());
            }
            worker.extended_until_ms = worker.extended_until_ms.max(until_ms);
            return self.feed(Event::Extended(run, until_ms));
        }
        self.next_command_ms = self.now_ms + self.chance.after(6 * HOUR);
        self.requests += 1;
        let command = faults::command(&mut self.chance);
        self.feed(Event::Operator(RequestId(self.requests), command))
    }

    fn change_weather(&mut self) {
        if self.weather.1 <= self.now_ms {
            let (weather, lasts_ms, tree_bytes) = faults::weather(&mut self.chance, self.weather.0);
            self.weather = (weather, self.now_ms + lasts_ms, tree_bytes);
        }
    }

    /// Nobody runs for a while. What is due in the meantime is late.
    fn freeze(&mut self, deadline_ms: u64) {
        self.tally.freezes += 1;
        let from_ms = self.now_ms;
        let lasts_ms = self.chance.pick(&[SECOND, 30 * SECOND, 4 * MINUTE, HOUR, 9 * HOUR]);
        self.now_ms += lasts_ms;
        self.next_freeze_ms = self.now_ms + self.chance.after(3 * DAY);
        if let Some(worker) = &mut self.worker {
            let to_look_ms = deadline_ms.saturating_sub(from_ms).saturating_add(SECOND).min(lasts_ms);
            worker.frozen(self.now_ms, lasts_ms, to_look_ms);
        }
        self.victim = self.victim.map(|(pid, at_ms)| (pid, at_ms + lasts_ms));
        self.note(|| format!("frozen for {lasts_ms} ms"));
    }

    fn birth(&mut self) -> Result<(), Broken> {
        self.next_death_ms = self.now_ms + self.chance.after(12 * HOUR);
        self.contract.begin(self.saved.as_ref());
        self.daemon = Some(Supervisor::new(self.settings.clone(), self.saved.clone()));
        if let Some((run, exit, lived_ms, _)) = self.unsaved_end.take() {
            self.tally.missed += 1;
            self.feed(Event::Missed { run, exit, lived_ms })?;
        }
        let found = match (&mut self.worker, &self.ended) {
            (Some(worker), _) => {
                worker.adopted(self.now_ms);
                if worker.orphaned {
                    self.tally.orphans += 1;
                    self.ought.adopt_orphan();
                    Found::Orphaned { run: worker.run }
                } else {
                    self.tally.adopted += 1;
                    self.ought.adopt();
                    Found::Live { run: worker.run, started_ms: worker.begun_ms }
                }
            }
            (None, Some((run, exit, lived_ms, noted))) if self.forgetful || !noted => {
                Found::Ended { run: *run, exit: *exit, lived_ms: *lived_ms }
            }
            (None, _) => Found::Nothing,
        };
        self.feed(Event::Boot(found))
    }

    /// The daemon is gone at once; after a step cut short, `ought` is what it was before.
    fn death(&mut self, ought: Option<Ought>) {
        self.tally.deaths += 1;
        self.note(|| "the daemon dies".into());
        self.daemon = None;
        self.cut_next = false;
        self.victim = None;
        if let Some(ought) = ought {
            self.ought = ought;
        }
        self.ought.bereave();
        self.next_birth_ms = self.now_ms + self.chance.pick(&[1, 5, SECOND, MINUTE, HOUR]);
        let orphan = self.chance.one_in(10);
        if let Some(worker) = self.worker.as_mut().filter(|_| orphan) {
            worker.orphan();
        }
    }

    /// One event, and the looks that follow from it at the same moment.
    fn feed(&mut self, event: Event) -> Result<(), Broken> {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            if self.daemon.is_none() {
                return Ok(());
            }
            next = self.step(event)?;
        }
        Ok(())
    }

    fn step(&mut self, event: Event) -> Result<Option<Event>, Broken> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(None) };
        self.tally.steps += 1;
        if self.steps_at.0 != self.now_ms {
            self.steps_at = (self.now_ms, 0);
        }
        self.steps_at.1 += 1;
        if self.steps_at.1 > MOST_STEPS_AT_ONCE {
            return Err(format!("livelock: {} steps at one moment", self.steps_at.1));
        }
        let before = Before::of(daemon.state());
        let effects = daemon.step(self.now_ms, event.clone());
        self.note(|| format!("{event:?} -> {effects:?}"));
        let undo = self.cut_next.then(|| (self.contract.clone(), self.ought.clone()));
        self.contract.check(self.now_ms, &event, &effects, &daemon)?;
        if let Some(worker) = &self.worker {
            let silence = worker.silence(self.now_ms);
            check_silence(&event, &effects, &daemon, silence, &self.settings)?;
        }
        let routine =
            matches!(event, Event::Tick | Event::Sampled { .. }) && matches!(effects[..], [] | [Effect::Sample]);
        if !routine {
            self.check_ought(before, &event, &effects, &daemon)?;
        }
        let cut_at = match undo {
            Some(_) if effects.len() > 1 => usize::try_from(self.chance.between(0, effects.len() as u64)).unwrap_or(0),
            _ => effects.len(),
        };
        let mut next = None;
        for effect in &effects[..cut_at] {
            next = self.carry_out(effect, &daemon).or(next);
        }
        let halted = matches!(effects[..cut_at].last(), Some(Effect::Halt));
        self.daemon = Some(daemon);
        if cut_at < effects.len() {
            self.cut(undo, &effects[..cut_at]);
            return Ok(None);
        }
        if halted {
            self.tally.halts += 1;
            self.daemon = None;
            self.next_birth_ms = self.now_ms + self.chance.between(1, 2 * HOUR);
            return Ok(None);
        }
        Ok(next)
    }

    /// The daemon dies in the middle of a step.
    fn cut(&mut self, undo: Option<(Contract, Ought)>, carried_out: &[Effect]) {
        self.tally.cut_steps += 1;
        let Some((mut contract, mut ought)) = undo else { return };
        if let Some(daemon) = &self.daemon {
            contract.cut(carried_out, daemon);
        }
        self.contract = contract;
        if carried_out.iter().any(|e| matches!(e, Effect::Save)) {
            if matches!(self.daemon.as_ref().map(Supervisor::state), Some(State::Halted)) {
                self.ought.halted();
            }
            ought = self.ought.clone();
        }
        self.death(Some(ought));
    }

    fn check_ought(
        &mut self,
        before: Before,
        event: &Event,
        effects: &[Effect],
        daemon: &Supervisor,
    ) -> Result<(), Broken> {
        if effects.iter().any(|e| matches!(e, Effect::Note(Note::Succeeded { .. }))) {
            self.ought.succeeded();
        }
        match event {
            Event::Operator(_, command) => self.ought.asked(before, *command),
            Event::Exited(run, exit) => {
                if let Some((_, _, lived_ms, _)) = self.ended.filter(|(ended, ..)| ended == run) {
                    self.ought.ended(self.now_ms, *run, *exit, lived_ms, &self.settings);
                }
            }
            Event::Boot(Found::Ended { run, exit, lived_ms }) => {
                self.ought.ended(self.now_ms, *run, *exit, *lived_ms, &self.settings);
            }
            // No program ran: not even a long wait for it is a success, nor its end a clean one.
            Event::StartFailed(run, _) => self.ought.ended(self.now_ms, *run, Exit::Unseen, 0, &self.settings),
            Event::Missed { run, exit, lived_ms } => {
                self.ought.ended(self.now_ms, *run, *exit, *lived_ms, &self.settings);
            }
            Event::Boot(_)
            | Event::Tick
            | Event::Started(_)
            | Event::Announced(_)
            | Event::Activity(_)
            | Event::Extended(..)
            | Event::Sampled { .. }
            | Event::Surveyed(..)
            | Event::Recalled(..)
            | Event::Unverified(_)
            | Event::VictimGone(_)
            | Event::RolledBack => {}
        }
        let ran = before == Before::Running || matches!(event, Event::Boot(Found::Live { .. }) | Event::Started(_));
        let lived_ms = match (&self.worker, self.ended) {
            (Some(worker), _) if ran => self.now_ms - worker.begun_ms,
            (None, Some((_, _, lived_ms, _))) if ran => lived_ms,
            _ => 0,
        };
        for effect in effects {
            self.ought.decided(self.now_ms, effect, lived_ms, &self.settings)?;
        }
        self.ought.check(daemon)
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_LINES {
                trace.pop_front();
            }
            trace.push_back(format!("{:>12} {}", self.now_ms, line()));
        }
    }
}
