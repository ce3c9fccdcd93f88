//! What follows a failure: a wait, another session, a person, or the end.

use alloc::vec::Vec;

use super::delay::Growing;
use super::ladder::{self, Step};
use super::outcome::Outcome;
use super::task::Obstacle;
use super::types::{Code, Effect, Fate, Note, Phase, Prompt, Reason, Session, Standing};
use super::{State, Work};

/// A job that every session failed at is tried again after so long, by a worker that is to be left alone: what was in its way
/// may have been the machine.
const POISONED_MS: u64 = 3_600_000;
/// At so many failures in a row that speak against the session, one without a word of the protocol is the last.
const MAX_UNUSABLE: u32 = 3;
/// So many times in a row may a CLI die that is on trial.
const MAX_DEATHS: u32 = 3;

impl Work {
    pub(super) fn failed(&mut self, now_ms: u64, outcome: Outcome, out: &mut Vec<Effect>) {
        self.failures += 1;
        self.strikes.add(outcome);
        let unusable = matches!(outcome, Outcome::Unusable(_) | Outcome::NoServer);
        if self.rules.agent_on_trial && self.deaths >= MAX_DEATHS {
            return self.give_up(outcome, Fate::Unfinished, Code::GaveUp, out);
        }
        if !self.rules.full_auto || (unusable && self.strikes.count() >= MAX_UNUSABLE) {
            let code = if unusable { Code::CliUnusable } else { Code::GaveUp };
            return self.give_up(outcome, Fate::Unfinished, code, out);
        }
        // A process that died is back sooner than a service that is overloaded.
        let first_ms = self.rules.retry.first_ms;
        let first_ms = if matches!(outcome, Outcome::Api(_)) { first_ms } else { first_ms / 5 };
        let growing = Growing { first_ms, ..self.rules.retry };
        let delay_ms = growing.after(self.failures, self.rules.seed);
        if outcome == Outcome::PromptTooLong {
            self.strikes.without_the_session();
        }
        match ladder::after(self.strikes.count()) {
            Step::Again(session, prompt) => self.wait(now_ms, outcome, delay_ms, session, prompt, out),
            // The next task may have nothing in its way.
            Step::Poisoned if self.held.is_some() => {
                let failures = self.failures;
                out.push(Effect::Note(Note::GaveUp { outcome, failures }));
                self.obstruct(now_ms, Obstacle::Failed { outcome, failures }, out);
            }
            Step::Poisoned if !self.rules.supervised => self.give_up(outcome, Fate::Poisoned, Code::GaveUp, out),
            Step::Poisoned => {
                let note = Note::Poisoned { outcome, failures: self.failures, delay_ms: POISONED_MS };
                out.push(Effect::Settle(Fate::Poisoned));
                self.strikes.one_more();
                self.keep(None, out);
                let until_ms = now_ms.saturating_add(POISONED_MS);
                self.rest(now_ms, Phase::NeedsYou, until_ms, (Session::Fresh, Prompt::HandOver), note, out);
            }
        }
    }

    pub(super) fn give_up(&mut self, outcome: Outcome, fate: Fate, code: Code, out: &mut Vec<Effect>) {
        out.push(Effect::Note(Note::GaveUp { outcome, failures: self.failures }));
        out.push(Effect::Settle(fate));
        out.push(Effect::Close(Reason::CliFailed));
        self.leave(code, out);
    }

    /// One more fault that passes by itself: when to try again.
    pub(super) fn next_retry_ms(&mut self) -> u64 {
        self.failures += 1;
        self.rules.retry.after(self.failures, self.rules.seed)
    }

    /// Somebody has logged in: at once. Nobody has: a session would be refused, as the one before was.
    pub(super) fn probed(&mut self, now_ms: u64, logged_in: bool, changed: bool, out: &mut Vec<Effect>) {
        self.logged_in = logged_in;
        if let (State::Waiting { session, prompt, .. }, Phase::NeedsYou) =
            (&self.state, self.phase.unwrap_or(Phase::Idle))
            && logged_in
            && changed
        {
            let (session, prompt) = (*session, *prompt);
            self.launch(now_ms, session, prompt, out);
        }
    }

    /// What the worker after this one must know, if that has changed.
    pub(super) fn keep(&mut self, limit_until_ms: Option<u64>, out: &mut Vec<Effect>) {
        let standing = Standing { failures: self.failures, strikes: self.strikes, limit_until_ms };
        if self.kept != standing {
            self.kept = standing;
            out.push(Effect::Keep(standing));
        }
    }

    pub(super) fn wait(
        &mut self,
        now_ms: u64,
        outcome: Outcome,
        delay_ms: u64,
        session: Session,
        prompt: Prompt,
        out: &mut Vec<Effect>,
    ) {
        let phase = match outcome {
            Outcome::Limit { .. } | Outcome::Api(_) => Phase::Limit,
            Outcome::NeedsYou(_) => Phase::NeedsYou,
            _ => Phase::Starting,
        };
        let until_ms = now_ms.saturating_add(delay_ms);
        self.keep(matches!(outcome, Outcome::Limit { resets_at_ms: Some(_) }).then_some(until_ms), out);
        self.rest(now_ms, phase, until_ms, (session, prompt), Note::Waiting { outcome, delay_ms, session }, out);
    }

    /// Until then; and then with this session and prompt. The note comes after the phase that it explains.
    fn rest(
        &mut self,
        now_ms: u64,
        phase: Phase,
        until_ms: u64,
        (session, prompt): (Session, Prompt),
        note: Note,
        out: &mut Vec<Effect>,
    ) {
        self.state = State::Waiting { until_ms, session, prompt };
        self.enter(phase, out);
        out.push(Effect::Note(note));
        self.beat(now_ms, out);
    }
}
