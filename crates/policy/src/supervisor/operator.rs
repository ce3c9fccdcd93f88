//! The operator's commands, in every state.

use super::command::{Answer, Command, Refusal, RequestId};
use super::step::Supervisor;
use super::types::{Effect, Effects, Reason, State, Then};

impl Supervisor {
    pub(super) fn operator(&mut self, now_ms: u64, id: RequestId, command: Command, effects: &mut Effects) {
        match command {
            Command::StartWorker => self.start_worker(now_ms, id, effects),
            Command::RestartWorker => self.restart_worker(now_ms, id, effects),
            Command::StopWorker => self.stop_worker(id, effects),
            Command::Shutdown => self.shut_down(id, effects),
        }
    }

    pub(super) fn start_worker(&mut self, now_ms: u64, id: RequestId, effects: &mut Effects) {
        match &mut self.state {
            State::Down | State::Starting(_) => self.waiting.push((id, Command::StartWorker)),
            State::Running(watch) | State::Ready(watch) => {
                effects.push(Effect::Answer(id, Answer::AlreadyRunning(watch.run)));
            }
            State::Stopping { then, .. } => {
                *then = Then::StartAnew;
                self.anew(id, Command::StartWorker, effects);
                effects.push(Effect::Save);
            }
            State::BackingOff { .. } | State::CoolingDown { .. } | State::Stopped => {
                self.anew(id, Command::StartWorker, effects);
                self.start(now_ms, effects);
            }
            State::Unknown(_) => effects.push(Effect::Answer(id, Answer::Refused(Refusal::Unverified))),
            State::ShuttingDown(_) | State::Halted => refuse(id, effects),
        }
    }

    pub(super) fn restart_worker(&mut self, now_ms: u64, id: RequestId, effects: &mut Effects) {
        match &mut self.state {
            State::Down => self.waiting.push((id, Command::RestartWorker)),
            // Unknown: whoever asks for it takes what is found of the run for its own.
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) | State::Unknown(watch) => {
                effects.push(Effect::Stop(watch.run));
                self.state = State::Stopping { watch: watch.clone(), then: Then::StartAnew };
                self.anew(id, Command::RestartWorker, effects);
                effects.push(Effect::Save);
            }
            State::Stopping { then, .. } => {
                *then = Then::StartAnew;
                self.anew(id, Command::RestartWorker, effects);
                effects.push(Effect::Save);
            }
            State::BackingOff { .. } | State::CoolingDown { .. } | State::Stopped => {
                self.anew(id, Command::RestartWorker, effects);
                self.start(now_ms, effects);
            }
            State::ShuttingDown(_) | State::Halted => refuse(id, effects),
        }
    }

    /// The operator wants it to run: whatever was counted before counts no more.
    pub(super) fn anew(&mut self, id: RequestId, command: Command, effects: &mut Effects) {
        self.supersede(effects, command, |c| matches!(c, Command::StopWorker));
        self.waiting.push((id, command));
        self.stay_down = false;
        self.failures = 0;
        self.quick_exits = 0;
        self.failures_window.clear();
        self.reason = Some(Reason::Operator(command));
    }

    pub(super) fn stop_worker(&mut self, id: RequestId, effects: &mut Effects) {
        match &mut self.state {
            State::Down => self.waiting.push((id, Command::StopWorker)),
            State::BackingOff { .. } | State::CoolingDown { .. } => {
                self.stay_down(id, effects);
                self.rest(effects);
            }
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) | State::Unknown(watch) => {
                effects.push(Effect::Stop(watch.run));
                self.state = State::Stopping { watch: watch.clone(), then: Then::Stay };
                self.stay_down(id, effects);
                effects.push(Effect::Save);
            }
            State::Stopping { then, .. } => {
                *then = Then::Stay;
                self.stay_down(id, effects);
                effects.push(Effect::Save);
            }
            State::Stopped | State::Halted => effects.push(Effect::Answer(id, Answer::AlreadyStopped)),
            State::ShuttingDown(_) => self.waiting.push((id, Command::StopWorker)),
        }
    }

    pub(super) fn stay_down(&mut self, id: RequestId, effects: &mut Effects) {
        self.supersede(effects, Command::StopWorker, |c| matches!(c, Command::StartWorker | Command::RestartWorker));
        self.waiting.push((id, Command::StopWorker));
        self.stay_down = true;
        self.failures = 0;
        self.quick_exits = 0;
        self.reason = Some(Reason::Operator(Command::StopWorker));
    }

    pub(super) fn shut_down(&mut self, id: RequestId, effects: &mut Effects) {
        if matches!(self.state, State::Down) {
            self.waiting.push((id, Command::Shutdown));
            return;
        }
        let starting = |c| matches!(c, Command::StartWorker | Command::RestartWorker);
        self.supersede(effects, Command::Shutdown, starting);
        match &self.state {
            State::Down => {}
            State::Starting(watch) | State::Running(watch) | State::Ready(watch) => {
                self.waiting.push((id, Command::Shutdown));
                effects.push(Effect::Stop(watch.run));
                self.state = State::ShuttingDown(watch.clone());
                self.reason = Some(Reason::Operator(Command::Shutdown));
            }
            State::Stopping { watch, .. } => {
                self.waiting.push((id, Command::Shutdown));
                self.state = State::ShuttingDown(watch.clone());
                self.reason = Some(Reason::Operator(Command::Shutdown));
            }
            // Unknown: it is left alone.
            State::BackingOff { .. } | State::CoolingDown { .. } | State::Unknown(_) | State::Stopped => {
                self.waiting.push((id, Command::Shutdown));
                self.halt(effects);
            }
            State::ShuttingDown(_) => self.waiting.push((id, Command::Shutdown)),
            State::Halted => effects.push(Effect::Answer(id, Answer::Halted)),
        }
    }

    pub(super) fn answer(&mut self, effects: &mut Effects, answer: Answer, whose: impl Fn(Command) -> bool) {
        self.waiting.retain(|&(id, command)| {
            if whose(command) {
                effects.push(Effect::Answer(id, answer.clone()));
            }
            !whose(command)
        });
    }

    pub(super) fn supersede(&mut self, effects: &mut Effects, by: Command, whose: impl Fn(Command) -> bool) {
        self.answer(effects, Answer::Refused(Refusal::Superseded(by)), whose);
    }
}

fn refuse(id: RequestId, effects: &mut Effects) {
    effects.push(Effect::Answer(id, Answer::Refused(Refusal::ShuttingDown)));
}
