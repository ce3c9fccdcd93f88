//! Tasks of a queue, one after the other: claim, prepare, work, have the result checked, settle, and the next.
//!
//! What the agent is told and how its processes end is as for any job. A task is over when its result was accepted, when it is set
//! aside for a person, or when somebody else has it by now.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::outcome::{EndedFor, Outcome};
use super::{Code, Effect, Fate, Idle, Note, Phase, Prompt, Reason, Session, State, Strikes, Work, ending};
use crate::queue::{AfterRejection, RENEW_MS, after_rejection};

/// If nobody tells that the queue has changed, we look again after so long.
const LOOK_AGAIN_MS: u64 = 60_000;
/// A check of a result may take so long.
const ERRAND_MS: u64 = 3_600_000;

/// Something that is done for a task by another program than the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Make the place for the work.
    Prepare,
    /// Run the project's own check on the result.
    Accept,
    /// Hand the accepted result over.
    Finish,
    /// Keep what there is of a result that was not accepted.
    Abandon,
}

/// How an errand ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrandEnd {
    Passed,
    Failed,
    /// The check failed; so often now for this task.
    Rejected {
        attempts: u32,
    },
}

/// Why a task is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The agent says so.
    Agent(String),
    /// Its result was refused so often.
    Rejected { attempts: u32 },
    /// There is no place to work in.
    NoPlace,
    /// Its sessions fail, so often in a row.
    Failed { outcome: Outcome, failures: u32 },
}

/// The task that is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    renew_at_ms: u64,
    /// Somebody else has it, or it is over.
    lost: bool,
}

/// What follows when an errand is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    Launch(Session, Prompt),
    GoOn,
    Judge,
    Complete,
    Block(Obstacle),
}

impl Work {
    /// Asks for the next task; the answer comes at once.
    pub(super) fn claim(&mut self, out: &mut Vec<Effect>) {
        self.state = State::Claiming;
        self.held = None;
        out.push(Effect::Claim);
    }

    pub(super) fn claimed(&mut self, now_ms: u64, begun: bool, out: &mut Vec<Effect>) {
        if !matches!(self.state, State::Claiming) {
            return;
        }
        self.held = Some(Held { renew_at_ms: now_ms.saturating_add(RENEW_MS), lost: false });
        (self.failures, self.strikes, self.needs, self.inert) = (0, Strikes::default(), 0, 0);
        self.rest = Idle::NoTask;
        let then = if begun { Then::GoOn } else { Then::Launch(Session::Fresh, Prompt::Task) };
        self.errand(now_ms, Errand::Prepare, then, out);
    }

    pub(super) fn no_task(&mut self, now_ms: u64, look_again_ms: Option<u64>, out: &mut Vec<Effect>) {
        if !matches!(self.state, State::Claiming) {
            return;
        }
        if self.rules.stays() {
            let again_ms = look_again_ms.unwrap_or(u64::MAX).min(now_ms.saturating_add(LOOK_AGAIN_MS));
            // Not said again each time that nothing was found.
            if self.phase != Some(Phase::Idle) {
                self.idle(now_ms, self.rest, out);
            }
            let look_again_ms = Some(again_ms.max(now_ms.saturating_add(1)));
            self.state = State::Idle { look_again_ms, for_means: false };
        } else {
            out.push(Effect::Note(Note::Idle(Idle::NoTask)));
            self.leave(if self.obstructed { Code::GaveUp } else { Code::Done }, out);
        }
    }

    /// Somebody has written to the queue.
    pub(super) fn queue_changed(&mut self, out: &mut Vec<Effect>) {
        if matches!(self.state, State::Idle { look_again_ms: Some(_), .. }) {
            self.claim(out);
        }
    }

    fn errand(&mut self, now_ms: u64, errand: Errand, then: Then, out: &mut Vec<Effect>) {
        self.state = State::Errand { then, until_ms: now_ms.saturating_add(ERRAND_MS) };
        match errand {
            Errand::Prepare => self.enter(Phase::Starting, out),
            Errand::Accept => self.enter(Phase::Tool, out),
            Errand::Finish | Errand::Abandon => {}
        }
        self.beat(now_ms, out);
        out.push(Effect::Errand(errand));
    }

    pub(super) fn errand_ended(&mut self, now_ms: u64, end: ErrandEnd, out: &mut Vec<Effect>) {
        let State::Errand { then, .. } = core::mem::replace(&mut self.state, State::Over) else { return };
        if self.held.is_some_and(|held| held.lost) {
            return self.give_away(out);
        }
        match (then, end) {
            (Then::Launch(session, prompt), ErrandEnd::Passed) => self.launch(now_ms, session, prompt, out),
            (Then::GoOn, ErrandEnd::Passed) => {
                self.go_on(now_ms, out);
                // Of the next task that is begun it says nothing.
                self.recalled = super::Standing::default();
            }
            (Then::Launch(..) | Then::GoOn, ErrandEnd::Failed | ErrandEnd::Rejected { .. }) => {
                self.settle(Fate::Unfinished, Some(Obstacle::NoPlace), Reason::Blocked, out);
            }
            (Then::Judge, ErrandEnd::Passed) => self.errand(now_ms, Errand::Finish, Then::Complete, out),
            (Then::Judge, ErrandEnd::Rejected { attempts }) => {
                match after_rejection(attempts, self.rules.max_attempts) {
                    AfterRejection::Again => self.launch(now_ms, Session::Resume, Prompt::Rejected, out),
                    AfterRejection::Block => self.obstruct(now_ms, Obstacle::Rejected { attempts }, out),
                }
            }
            // It could not be counted: the agent is told all the same.
            (Then::Judge, ErrandEnd::Failed) => self.launch(now_ms, Session::Resume, Prompt::Rejected, out),
            // What could not be handed over stays where it is, and was said; it was accepted.
            (Then::Complete, _) => self.settle(Fate::Done, None, Reason::Done, out),
            (Then::Block(obstacle), _) => self.settle(Fate::Unfinished, Some(obstacle), Reason::Blocked, out),
        }
    }

    /// The agent says that it is done.
    pub(super) fn judge_result(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        self.errand(now_ms, Errand::Accept, Then::Judge, out);
    }

    /// This task does not go on without a person; the next one does.
    pub(super) fn obstruct(&mut self, now_ms: u64, obstacle: Obstacle, out: &mut Vec<Effect>) {
        self.errand(now_ms, Errand::Abandon, Then::Block(obstacle), out);
    }

    fn settle(&mut self, fate: Fate, obstacle: Option<Obstacle>, reason: Reason, out: &mut Vec<Effect>) {
        match obstacle {
            Some(obstacle) => {
                self.obstructed = true;
                out.push(Effect::Block(obstacle));
            }
            None => out.push(Effect::Settle(fate)),
        }
        out.push(Effect::Close(reason));
        self.claim(out);
    }

    /// Our claim is not ours any more.
    pub(super) fn task_lost(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(held) = &mut self.held else { return };
        held.lost = true;
        match &mut self.state {
            State::Running(process) => {
                if process.terminated(now_ms, EndedFor::Stop) {
                    out.push(Effect::Terminate);
                }
            }
            State::Errand { .. } => out.push(Effect::Terminate),
            State::Waiting { .. } | State::Saving { .. } => self.give_away(out),
            State::New | State::Claiming | State::Idle { .. } | State::Over => {}
        }
    }

    /// A process has ended; whether that was because the task is somebody else's.
    pub(super) fn is_lost(&self) -> bool {
        self.held.is_some_and(|held| held.lost)
    }

    pub(super) fn give_away(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::Close(Reason::Taken));
        self.claim(out);
    }

    /// While a task is held: renews the claim when it is time.
    pub(super) fn renew_if_due(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        if !self.is_at_work() {
            return;
        }
        if let Some(held) = self.held.as_mut().filter(|held| !held.lost && now_ms >= held.renew_at_ms) {
            held.renew_at_ms = now_ms.saturating_add(RENEW_MS);
            out.push(Effect::Renew);
        }
    }

    pub(super) fn renew_at_ms(&self) -> Option<u64> {
        self.held.filter(|held| !held.lost && self.is_at_work()).map(|held| held.renew_at_ms)
    }

    fn is_at_work(&self) -> bool {
        matches!(self.state, State::Running(_) | State::Waiting { .. } | State::Saving { .. } | State::Errand { .. })
    }

    /// A stop while the place is prepared or the result checked: the next worker does it again.
    pub(super) fn stop_errand(&mut self, stop: super::Stop, out: &mut Vec<Effect>) {
        let (reason, code) = ending(stop);
        out.push(Effect::Terminate);
        out.push(Effect::Settle(Fate::Unfinished));
        out.push(Effect::Close(reason));
        self.leave(code, out);
    }

    /// The agent gave up, or asks for somebody: `true` if that concerns a task, and is dealt with.
    pub(super) fn obstructed(&mut self, now_ms: u64, reason: &str, out: &mut Vec<Effect>) -> bool {
        let on_task = self.held.is_some();
        if on_task {
            self.obstruct(now_ms, Obstacle::Agent(reason.to_string()), out);
        }
        on_task
    }
}

#[cfg(test)]
mod tests;
