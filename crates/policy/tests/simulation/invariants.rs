//! The rules, told a second time and in another way than the machine tells them: from the ends of runs alone.

use policy::supervisor::{Command, Effect, Event, Exit, Note, RunId, Settings, State, Supervisor};

use crate::contract::Broken;
use crate::faults::HOUR;

/// What the machine ought to know and when it ought to act.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ought {
    failures: u32,
    quick_exits: u32,
    deaths_ms: Vec<u64>,
    stalls_ms: Vec<u64>,
    /// The newest run whose end was judged.
    judged: u64,
    stopped: bool,
    /// The next start is due then, and not sooner; whether the wait is `failed`.
    wait: Option<(u64, bool)>,
    /// The run that was told to end, why, and whether it was a success before.
    told: Option<(Why, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Operator,
    Trouble,
}

/// The state before a step, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Starting,
    Running,
    Stopping,
    Idle,
    Ending,
    Stopped,
}

impl Before {
    pub(crate) fn of(state: &State) -> Self {
        match state {
            State::Starting(_) => Self::Starting,
            State::Running(_) | State::Ready(_) => Self::Running,
            State::Stopping { .. } | State::Unknown(_) => Self::Stopping,
            State::Down | State::BackingOff { .. } | State::CoolingDown { .. } => Self::Idle,
            State::ShuttingDown(_) | State::Halted => Self::Ending,
            State::Stopped => Self::Stopped,
        }
    }
}

impl Ought {
    /// The daemon died: what it had told a run to do is forgotten.
    pub(crate) fn bereave(&mut self) {
        self.told = None;
    }

    /// A daemon found a run that lives.
    pub(crate) fn adopt(&mut self) {
        self.wait = None;
    }

    /// A daemon found an orphan: it ends it, for trouble or because it was stopped.
    pub(crate) fn adopt_orphan(&mut self) {
        self.wait = None;
        self.told = Some((if self.stopped { Why::Operator } else { Why::Trouble }, false));
    }

    /// The operator's word.
    pub(crate) fn asked(&mut self, before: Before, command: Command) {
        let anew = match command {
            Command::StartWorker => matches!(before, Before::Stopping | Before::Idle | Before::Stopped),
            Command::RestartWorker => before != Before::Ending,
            Command::StopWorker => {
                if !matches!(before, Before::Ending | Before::Stopped) {
                    self.stopped = true;
                    self.failures = 0;
                    self.quick_exits = 0;
                    self.wait = None;
                    self.told = Some((Why::Operator, false));
                }
                false
            }
            Command::Shutdown => {
                if matches!(before, Before::Starting | Before::Running | Before::Stopping) {
                    self.told = Some((Why::Operator, false));
                }
                false
            }
        };
        if anew {
            let may_live = matches!(before, Before::Starting | Before::Running | Before::Stopping);
            *self = Self {
                judged: self.judged,
                stalls_ms: std::mem::take(&mut self.stalls_ms),
                told: may_live.then_some((Why::Operator, false)),
                ..Self::default()
            };
        }
    }

    /// The run that lives was seen to be a success.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        self.quick_exits = 0;
    }

    /// A run ended and the machine hears of it.
    pub(crate) fn ended(&mut self, now_ms: u64, run: RunId, exit: Exit, lived_ms: u64, settings: &Settings) {
        if run.0 <= self.judged {
            return;
        }
        self.judged = run.0;
        let told = self.told.take();
        if self.stopped || matches!(told, Some((Why::Operator, _))) {
            self.wait = None;
            return;
        }
        let long = match told {
            Some((_, succeeded)) => succeeded,
            None => lived_ms >= settings.success_threshold_ms,
        };
        if long {
            self.failures = 0;
            self.quick_exits = 0;
        }
        if exit == Exit::Code(0) && told.is_none() {
            if long {
                self.wait = Some((now_ms, false));
            } else {
                self.quick_exits += 1;
                self.wait = Some((now_ms + delay_ms(settings, self.quick_exits), false));
            }
            return;
        }
        self.failures += 1;
        self.deaths_ms.retain(|at_ms| now_ms - at_ms < HOUR);
        self.deaths_ms.push(now_ms);
        let row = settings.max_consecutive_restarts > 0 && self.failures >= settings.max_consecutive_restarts;
        let hour =
            settings.max_restarts_per_hour > 0 && self.deaths_ms.len() >= settings.max_restarts_per_hour as usize;
        let delay_ms = if row || hour { settings.recovery_cooldown_ms } else { delay_ms(settings, self.failures) };
        self.wait = Some((now_ms + delay_ms, row || hour));
    }

    /// What the machine decided. `lived_ms`: of the run that lives.
    pub(crate) fn decided(
        &mut self,
        now_ms: u64,
        effect: &Effect,
        lived_ms: u64,
        settings: &Settings,
    ) -> Result<(), Broken> {
        match effect {
            Effect::Start(run) => {
                if self.stopped {
                    return Err(format!("{run:?} started, but the operator wants it stopped"));
                }
                if let Some((at_ms, failed)) = self.wait.take() {
                    if now_ms < at_ms {
                        return Err(format!("{run:?} started {} ms too soon", at_ms - now_ms));
                    }
                    if failed {
                        self.failures = 0;
                        self.quick_exits = 0;
                    }
                }
                self.told = None;
            }
            Effect::Stop(_) => {
                if self.told.is_none() {
                    self.told = Some((Why::Trouble, lived_ms >= settings.success_threshold_ms));
                }
            }
            Effect::Note(Note::Stalled { .. }) => {
                self.stalls_ms.retain(|at_ms| now_ms - at_ms < HOUR);
                self.stalls_ms.push(now_ms);
                if self.stalls_ms.len() > settings.max_stall_kills_per_hour as usize {
                    return Err(format!("{} ended as stalled within an hour", self.stalls_ms.len()));
                }
            }
            Effect::Note(Note::Succeeded { run }) if lived_ms < settings.success_threshold_ms => {
                return Err(format!("{run:?} called a success after {lived_ms} ms"));
            }
            Effect::Halt => self.halted(),
            Effect::Sample
            | Effect::Survey(_)
            | Effect::Signal { .. }
            | Effect::Answer(..)
            | Effect::Note(_)
            | Effect::Save => {}
        }
        Ok(())
    }

    /// The daemon ended as it was asked to: the next one begins anew.
    pub(crate) fn halted(&mut self) {
        *self = Self { judged: self.judged, stopped: self.stopped, ..Self::default() };
    }

    /// Where the machine stands is where it ought to.
    pub(crate) fn check(&self, machine: &Supervisor) -> Result<(), Broken> {
        let waits = match machine.state() {
            State::BackingOff { until_ms } => Some((*until_ms, false)),
            State::CoolingDown { until_ms } => Some((*until_ms, true)),
            State::Stopped if !self.stopped => return Err("stopped, but nobody wanted it".into()),
            State::Starting(_) | State::Running(_) | State::Ready(_) if self.stopped => {
                return Err(format!("{:?}, but the operator wants it stopped", machine.state()));
            }
            State::Halted => return Ok(()),
            State::Down
            | State::Starting(_)
            | State::Running(_)
            | State::Ready(_)
            | State::Stopping { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::ShuttingDown(_) => None,
        };
        if waits.is_some() && waits != self.wait {
            return Err(format!("waits until (time, failed) {waits:?}, but ought to until {:?}", self.wait));
        }
        Ok(())
    }
}

/// The documented table, by plain multiplication.
fn delay_ms(settings: &Settings, attempt: u32) -> u64 {
    let mut delay = settings.initial_backoff_ms as f64;
    for _ in 1..attempt.min(10_000) {
        delay = (delay * settings.backoff_multiplier).min(1e15);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1e15")]
    let delay = delay as u64;
    delay.min(settings.max_backoff_ms)
}

/// What is true of a run's silence, as the world knows it and the machine can't.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    /// For so long it has shown no life, frozen time left out.
    pub(crate) ms: u64,
    /// The last of: its start, its last life, the boot of this daemon, the last thaw; so long ago.
    pub(crate) watched_ms: u64,
    /// It was started so long ago.
    pub(crate) age_ms: u64,
    /// An extension that it asked for is still good.
    pub(crate) extended: bool,
    /// Frozen time that nobody can tell from silence: of each freeze, the part before the next look was due.
    pub(crate) doubtful_ms: u64,
}

/// Nobody is ended who showed life; nobody who hangs is overlooked.
pub(crate) fn check_silence(
    event: &Event,
    effects: &[Effect],
    machine: &Supervisor,
    silence: Silence,
    settings: &Settings,
) -> Result<(), Broken> {
    let timeout_ms = settings.stall_timeout_ms;
    if let Some(note) = effects.iter().find(|e| matches!(e, Effect::Note(Note::Stalled { .. }))) {
        let heard = silence.ms + silence.doubtful_ms < timeout_ms;
        if timeout_ms == 0 || heard || silence.age_ms < settings.stall_grace_ms || silence.extended {
            return Err(format!("{note:?}, but {silence:?}"));
        }
    }
    let (State::Running(watch) | State::Ready(watch)) = machine.state() else { return Ok(()) };
    if timeout_ms == 0 || silence.extended || !matches!(event, Event::Sampled { .. }) {
        return Ok(());
    }
    // A sign of life is dated by the look that finds it, and the verdict by the next one.
    let looks_ms = 2 * settings.poll_interval_ms.min(timeout_ms / 4) + 10;
    let due_ms = timeout_ms + looks_ms;
    let overlooked = silence.watched_ms > due_ms && silence.age_ms > settings.stall_grace_ms + looks_ms;
    if overlooked && watch.tolerated_ms.is_none() {
        return Err(format!("hangs and nobody notices: {silence:?}"));
    }
    Ok(())
}
