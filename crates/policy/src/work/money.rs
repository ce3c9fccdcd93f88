//! What follows when a budget is used up, and when it is not any more.

use alloc::vec::Vec;

use super::budget::{self, Window};
use super::{Code, Effect, Fate, Note, Phase, Prompt, Reason, Rules, Session, Spent, State, Work};

impl Work {
    /// The budget of a day, a week or a month is used up: nothing is started before the next one.
    pub(super) fn pause(
        &mut self,
        now_ms: u64,
        window: Window,
        session: Session,
        prompt: Prompt,
        out: &mut Vec<Effect>,
    ) {
        let delay_ms = window.ends_at_ms.saturating_sub(now_ms);
        if !self.rules.full_auto {
            out.push(Effect::Note(Note::BudgetPause { window, delay_ms }));
            out.push(Effect::Settle(Fate::Unfinished));
            out.push(Effect::Close(Reason::Window));
            return self.leave(Code::Budget, out);
        }
        self.state = State::Saving { until_ms: window.ends_at_ms, session, prompt };
        self.enter(Phase::Limit, out);
        out.push(Effect::Note(Note::BudgetPause { window, delay_ms }));
        self.beat(now_ms, out);
    }

    /// A budget was raised or reset.
    pub(super) fn save_no_longer_than_needed(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        if matches!(self.state, State::Idle { for_means: true, .. }) && self.has_means(now_ms) {
            return self.claim(out);
        }
        if let State::Saving { session, prompt, .. } = &self.state
            && budget::used_up(&self.spent.windows, now_ms).is_none()
        {
            let (session, prompt) = (*session, *prompt);
            self.launch(now_ms, session, prompt, out);
        }
    }

    /// Neither turns nor money keep the next process from being started.
    fn has_means(&self, now_ms: u64) -> bool {
        let Rules { max_turns, max_cost_micros, .. } = self.rules;
        let Spent { turns, cost_micros, windows } = self.spent;
        (max_turns == 0 || turns < max_turns)
            && (max_cost_micros == 0 || cost_micros < max_cost_micros)
            && budget::used_up(&windows, now_ms).is_none()
    }

    pub(super) fn has_budget(&self, now_ms: u64) -> bool {
        self.rules.max_cost_micros > 0 || self.tightest(now_ms).is_some()
    }

    /// The CLI counts in its own way: what it was given is used up, whatever our books say is left.
    pub(super) fn money_ended(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let max = self.rules.max_cost_micros;
        let job_left = (max > 0).then(|| max.saturating_sub(self.spent.cost_micros));
        let tighter =
            |window: &Window| job_left.is_none_or(|job| window.left_micros(now_ms).is_some_and(|left| left < job));
        match self.tightest(now_ms).filter(tighter) {
            Some(window) => self.pause(now_ms, window, Session::Resume, Prompt::Continue, out),
            None => self.used_up(now_ms, Reason::Budget, out),
        }
    }

    /// The window of which the least is left.
    fn tightest(&self, now_ms: u64) -> Option<Window> {
        let limited = self.spent.windows.iter().filter(|window| window.left_micros(now_ms).is_some());
        limited.min_by_key(|window| window.left_micros(now_ms)).copied()
    }
}
