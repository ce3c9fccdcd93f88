//! The queue of tasks: which one is next, when a claim is over, what follows from a result that was not accepted.
//!
//! All times are milliseconds since the Unix epoch: they are compared by several processes, and must mean something after a
//! restart of the machine.

use alloc::vec;
use alloc::vec::Vec;

/// A worker's claim holds so long without a sign of life.
pub const LEASE_MS: u64 = 300_000;
/// A worker renews its claim so often. Four renewals may be missed.
pub const RENEW_MS: u64 = 60_000;

/// How soon a task is wanted. The order is that of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    Urgent,
    High,
    #[default]
    Medium,
    Low,
}

/// What is known for good about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    Open,
    /// Somebody has to do something first.
    Blocked,
    Done,
}

/// Somebody works on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub expires_ms: u64,
    /// Whoever asks has proof that the holder is dead: it holds the lock that the holder would hold.
    pub holder_is_dead: bool,
}

impl Lease {
    /// Whether it keeps others away.
    #[must_use]
    pub fn is_live(self, now_ms: u64) -> bool {
        !self.holder_is_dead && now_ms < self.expires_ms
    }
}

/// A task as far as the decision needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub id: i64,
    pub priority: Priority,
    pub created_ms: u64,
    pub status: Status,
    /// So many of the tasks that it depends on are not done.
    pub unmet: usize,
    pub lease: Option<Lease>,
}

/// Where a task stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It can be claimed.
    Ready,
    /// Somebody works on it.
    Claimed,
    /// It depends on tasks that are not done.
    Waiting,
    Blocked,
    Done,
}

impl Candidate {
    #[must_use]
    pub fn standing(&self, now_ms: u64) -> Standing {
        match self.status {
            Status::Done => Standing::Done,
            Status::Blocked => Standing::Blocked,
            Status::Open if self.lease.is_some_and(|lease| lease.is_live(now_ms)) => Standing::Claimed,
            Status::Open if self.unmet > 0 => Standing::Waiting,
            Status::Open => Standing::Ready,
        }
    }
}

/// The task to be worked on next: the most urgent, of these the oldest.
#[must_use]
pub fn next(candidates: &[Candidate], now_ms: u64) -> Option<i64> {
    let ready = candidates.iter().filter(|candidate| candidate.standing(now_ms) == Standing::Ready);
    ready.min_by_key(|candidate| (candidate.priority, candidate.created_ms, candidate.id)).map(|candidate| candidate.id)
}

/// When a task may become ready although nobody changes anything: the first end of a claim.
#[must_use]
pub fn look_again_ms(candidates: &[Candidate], now_ms: u64) -> Option<u64> {
    let claimed = candidates.iter().filter(|candidate| candidate.standing(now_ms) == Standing::Claimed);
    claimed.filter_map(|candidate| Some(candidate.lease?.expires_ms)).min()
}

/// Whether `task` may depend on `needs`, given who depends on whom: if not, the circle that this would close, from `task` back to
/// `task`.
#[must_use]
pub fn circle(edges: &[(i64, i64)], task: i64, needs: i64) -> Option<Vec<i64>> {
    let mut paths = vec![vec![task, needs]];
    let mut seen = vec![needs];
    while let Some(path) = paths.pop() {
        let end = *path.last()?;
        if end == task {
            return Some(path);
        }
        for (_, further) in edges.iter().filter(|(from, _)| *from == end) {
            if *further == task || !seen.contains(further) {
                seen.push(*further);
                let mut longer = path.clone();
                longer.push(*further);
                paths.push(longer);
            }
        }
    }
    None
}

/// What follows from a result that the project's own check refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRejection {
    /// The agent is told, and goes on.
    Again,
    /// A person has to look.
    Block,
}

/// After so many refusals of one task, this one included. `max_attempts` of 0 counts as 1.
#[must_use]
pub fn after_rejection(attempts: u32, max_attempts: u32) -> AfterRejection {
    if attempts >= max_attempts { AfterRejection::Block } else { AfterRejection::Again }
}

#[cfg(test)]
mod tests;
