//! What is tried after a session has failed, and failed again: each rung costs more of what the agent knows than the one
//! before, and is tried a bounded number of times.

use super::outcome::Outcome;
use super::types::{Prompt, Session};

/// So many failures in a row, and the session itself is tried again after each of them: most pass by themselves.
const RESUMED: u32 = 2;
/// So many more, and a copy of the session takes over, under a new id: for one whose record or lock is in the way.
const FORKED: u32 = 2;
/// So many more, and a fresh session takes over, with what the record says was done.
const FRESH: u32 = 3;

/// So many deaths that are not its own speak against a session like one failure of its own: somebody else sent it, or the kernel for want of
/// memory. A session that eats all memory each time is still climbed out of.
const KILLS_A_STRIKE: u32 = 3;

/// What speaks against a session since it last made progress, in parts of a strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strikes(pub u32);

impl Strikes {
    pub(super) fn add(&mut self, outcome: Outcome) {
        let is_kill = matches!(outcome, Outcome::Crashed(exit) if !exit.is_its_own());
        let parts = if is_kill { 1 } else { KILLS_A_STRIKE };
        self.0 = self.0.saturating_add(parts);
    }

    /// At which failure in a row that is, from 1.
    pub(super) fn count(self) -> u32 {
        self.0.div_ceil(KILLS_A_STRIKE)
    }

    /// The session is given up: for a conversation that fits no longer, and would not in a copy either.
    pub(super) fn without_the_session(&mut self) {
        self.0 = self.0.max((RESUMED + FORKED + 1) * KILLS_A_STRIKE);
    }

    /// There is one more attempt, in a fresh session.
    pub(super) fn one_more(&mut self) {
        self.0 = (RESUMED + FORKED + FRESH) * KILLS_A_STRIKE;
    }
}

/// How a failed job is gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Again(Session, Prompt),
    /// All was tried: it is the job.
    Poisoned,
}

/// After the `failures`-th failure in a row (from 1).
pub(super) fn after(failures: u32) -> Step {
    if failures <= RESUMED {
        Step::Again(Session::Resume, Prompt::Interrupted)
    } else if failures <= RESUMED + FORKED {
        Step::Again(Session::Fork, Prompt::Interrupted)
    } else if failures <= RESUMED + FORKED + FRESH {
        Step::Again(Session::Fresh, Prompt::HandOver)
    } else {
        Step::Poisoned
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Exit;
    use super::*;

    #[test]
    fn each_rung_is_bounded_and_none_comes_back() {
        let rungs: alloc::vec::Vec<Step> = (1..=9).map(after).collect();
        let resume = Step::Again(Session::Resume, Prompt::Interrupted);
        let fork = Step::Again(Session::Fork, Prompt::Interrupted);
        let fresh = Step::Again(Session::Fresh, Prompt::HandOver);
        let expected = [resume, resume, fork, fork, fresh, fresh, fresh, Step::Poisoned, Step::Poisoned];
        assert_eq!(rungs, expected);
        let mut strikes = Strikes::default();
        strikes.without_the_session();
        assert_eq!(after(strikes.count()), fresh);
        strikes.one_more();
        assert_eq!(after(strikes.count()), fresh);
        strikes.add(Outcome::Failed);
        assert_eq!(after(strikes.count()), Step::Poisoned);
        strikes.without_the_session();
        assert_eq!(after(strikes.count()), Step::Poisoned, "never back down");
    }

    #[test]
    fn three_kills_weigh_like_one_failure() {
        let mut strikes = Strikes::default();
        let mut counts = alloc::vec::Vec::new();
        for _ in 0..7 {
            strikes.add(Outcome::Crashed(Exit::Signal(9)));
            counts.push(strikes.count());
        }
        assert_eq!(counts, [1, 1, 1, 2, 2, 2, 3]);
        for outcome in
            [Outcome::Crashed(Exit::Code(1)), Outcome::Crashed(Exit::Signal(11)), Outcome::Failed, Outcome::Unfinished]
        {
            let mut strikes = Strikes::default();
            strikes.add(outcome);
            assert_eq!(strikes.count(), 1, "{outcome:?}");
        }
    }
}
