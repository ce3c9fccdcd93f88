//! A machine on a bench: a clock in the hand, a shell that answers every look with what the test says, and the
//! contract checked after every step.

use policy::supervisor::{
    Answer, Candidate, Command, Effect, Event, Exit, Found, MemoryReading, Note, RequestId, RunId, Settings, Sign,
    Snapshot, State, Supervisor, Survey, WorkerStatus,
};

use crate::contract::Contract;

pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const SECOND: u64 = 1_000;
pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 3_600_000;

/// Plenty of memory.
pub(crate) const ROOMY: MemoryReading =
    MemoryReading { available_bytes: 12 * GIB, total_bytes: 16 * GIB, pressure_percent: 0 };
/// In the middle band.
pub(crate) const LOW: MemoryReading =
    MemoryReading { available_bytes: 3 * GIB / 2, total_bytes: 16 * GIB, pressure_percent: 0 };
/// In the lowest band.
pub(crate) const CRITICAL: MemoryReading =
    MemoryReading { available_bytes: GIB / 2, total_bytes: 16 * GIB, pressure_percent: 0 };

#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) machine: Supervisor,
    pub(crate) now_ms: u64,
    /// What a look finds.
    pub(crate) lively: bool,
    pub(crate) memory: MemoryReading,
    pub(crate) survey: Survey,
    settings: Settings,
    contract: Contract,
    requests: u64,
    /// The newest run that was asked for.
    pub(crate) run: RunId,
}

impl Rig {
    /// Not booted.
    pub(crate) fn down(settings: Settings) -> Self {
        let mut contract = Contract::default();
        contract.begin(None);
        Self {
            machine: Supervisor::new(settings.clone(), None),
            now_ms: 1_000_000_000,
            lively: true,
            memory: ROOMY,
            survey: Survey::default(),
            settings,
            contract,
            requests: 0,
            run: RunId(0),
        }
    }

    /// Booted with nothing found: run 1 was asked for.
    pub(crate) fn starting(settings: Settings) -> Self {
        let mut rig = Self::down(settings);
        rig.play(Event::Boot(Found::Nothing));
        rig
    }

    /// Run 1 runs.
    pub(crate) fn running(settings: Settings) -> Self {
        let mut rig = Self::starting(settings);
        rig.started();
        rig
    }

    /// One step, contract checked.
    pub(crate) fn step(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.machine.step(self.now_ms, event.clone());
        for effect in &effects {
            if let Effect::Start(run) = effect {
                self.run = *run;
            }
        }
        if let Err(broken) = self.contract.check(self.now_ms, &event, &effects, &self.machine) {
            panic!("after {event:?} at {}: {broken}\neffects: {effects:?}", self.now_ms);
        }
        effects
    }

    /// One step, and the looks that it asks for.
    pub(crate) fn play(&mut self, event: Event) -> Vec<Effect> {
        let mut all = self.step(event);
        let mut next = 0;
        while next < all.len() {
            assert!(all.len() < 1_000, "no end: {all:?}");
            let answer = match &all[next] {
                Effect::Sample => Some(Event::Sampled {
                    run: self.machine.view().run,
                    sign: if self.lively { Sign::Progress } else { Sign::Nothing },
                    memory: self.memory,
                }),
                Effect::Survey(run) => Some(Event::Surveyed(*run, self.survey.clone())),
                Effect::Start(_)
                | Effect::Stop(_)
                | Effect::Signal { .. }
                | Effect::Answer(..)
                | Effect::Note(_)
                | Effect::Save
                | Effect::Halt => None,
            };
            if let Some(event) = answer {
                all.extend(self.step(event));
            }
            next += 1;
        }
        all
    }

    /// Let time go by, waking exactly when the machine wants to be woken.
    pub(crate) fn pass(&mut self, ms: u64) -> Vec<(u64, Effect)> {
        let end_ms = self.now_ms + ms;
        let mut all = Vec::new();
        while let Some(at_ms) = self.machine.deadline_ms().filter(|&at_ms| at_ms <= end_ms) {
            self.now_ms = at_ms;
            all.extend(self.play(Event::Tick).into_iter().map(|effect| (at_ms, effect)));
        }
        self.now_ms = end_ms;
        all
    }

    /// Let time go by until the next run is asked for; how long that took.
    pub(crate) fn until_start(&mut self) -> u64 {
        let from_ms = self.now_ms;
        let before = self.run;
        while self.run == before {
            let at_ms = self.machine.deadline_ms().expect("something is due");
            assert!(at_ms - from_ms <= HOUR, "no start within an hour");
            self.now_ms = at_ms;
            self.play(Event::Tick);
        }
        self.now_ms - from_ms
    }

    /// The run that was just asked for is a candidate's; the record of the start, which is still to be written, says so.
    pub(crate) fn begin_probation(&mut self) {
        self.machine.begin_probation();
        self.contract.saved = Some(self.machine.snapshot());
    }

    /// Likewise.
    pub(crate) fn end_probation(&mut self) {
        self.machine.end_probation();
        self.contract.saved = Some(self.machine.snapshot());
    }

    pub(crate) fn started(&mut self) -> Vec<Effect> {
        self.play(Event::Started(self.run))
    }

    pub(crate) fn exits(&mut self, exit: Exit) -> Vec<Effect> {
        self.play(Event::Exited(self.run, exit))
    }

    pub(crate) fn asks(&mut self, command: Command) -> Vec<Effect> {
        self.requests += 1;
        self.play(Event::Operator(RequestId(self.requests), command))
    }

    /// Fail until the machine says `failed`; how often it took.
    pub(crate) fn fail_until_failed(&mut self) -> u32 {
        for failure in 1..=100 {
            self.started();
            self.exits(Exit::Code(1));
            if self.status() == WorkerStatus::Failed {
                return failure;
            }
            self.until_start();
        }
        panic!("never failed");
    }

    /// Kill the daemon now, and begin another one `ms` later that finds this.
    pub(crate) fn reborn(&mut self, ms: u64, found: Found) -> Vec<Effect> {
        let snapshot = self.machine.snapshot();
        self.reborn_with(ms, found, snapshot)
    }

    pub(crate) fn reborn_with(&mut self, ms: u64, found: Found, snapshot: Snapshot) -> Vec<Effect> {
        self.forget(snapshot);
        self.now_ms += ms;
        self.play(Event::Boot(found))
    }

    /// A new daemon that knows no more than this, and has not looked around yet.
    pub(crate) fn forget(&mut self, snapshot: Snapshot) {
        self.contract.begin(Some(&snapshot));
        self.machine = Supervisor::new(self.settings.clone(), Some(snapshot));
    }

    pub(crate) fn waiting_requests(&self) -> usize {
        self.contract.waiting()
    }

    pub(crate) fn status(&self) -> WorkerStatus {
        self.machine.view().status
    }

    pub(crate) fn failures(&self) -> u32 {
        self.machine.view().failures
    }

    /// How long until the next attempt.
    pub(crate) fn waits_ms(&self) -> Option<u64> {
        self.machine.view().next_attempt_ms.map(|at_ms| at_ms - self.now_ms)
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.machine.state(), State::Running(_) | State::Ready(_))
    }
}

/// The first requests have the numbers 1, 2, 3 …
pub(crate) fn request(number: u64) -> RequestId {
    RequestId(number)
}

pub(crate) fn starts(effects: &[Effect]) -> Vec<RunId> {
    effects.iter().filter_map(|e| if let Effect::Start(run) = e { Some(*run) } else { None }).collect()
}

pub(crate) fn stops(effects: &[Effect]) -> Vec<RunId> {
    effects.iter().filter_map(|e| if let Effect::Stop(run) = e { Some(*run) } else { None }).collect()
}

pub(crate) fn answers(effects: &[Effect]) -> Vec<(RequestId, Answer)> {
    effects
        .iter()
        .filter_map(|e| if let Effect::Answer(id, answer) = e { Some((*id, answer.clone())) } else { None })
        .collect()
}

pub(crate) fn notes(effects: &[Effect]) -> Vec<Note> {
    effects.iter().filter_map(|e| if let Effect::Note(note) = e { Some(note.clone()) } else { None }).collect()
}

/// Without their times.
pub(crate) fn plain(effects: Vec<(u64, Effect)>) -> Vec<Effect> {
    effects.into_iter().map(|(_, effect)| effect).collect()
}

pub(crate) fn candidate(pid: u32, bytes: u64) -> Candidate {
    Candidate { pid, parent: None, own_bytes: bytes, bytes }
}
