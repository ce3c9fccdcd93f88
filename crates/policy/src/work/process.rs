//! One process of the agent while it runs: what it is at, how long it may be silent, and what it leaves as evidence.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};

use super::outcome::{EndedFor, Evidence, Limit};
use super::reply::Reply;
use super::types::{Fact, Phase, Rules};

/// A model calls a few tools at once; a stream that never returns from one must not fill our memory.
const MAX_CALLS: usize = 256;

/// A compaction may take so long without a byte.
const COMPACTION_MS: u64 = 600_000;

#[derive(Debug)]
pub(super) struct Process {
    /// What it was given.
    pub(super) max_turns: Option<u64>,
    pub(super) began_ms: u64,
    pub(super) evidence: Evidence,
    /// Answers of the main agent.
    pub(super) answers: u64,
    /// It called a tool.
    pub(super) acted: bool,
    /// A tool gave its result: there was progress.
    pub(super) progressed: bool,
    /// The last thing that the main agent said.
    pub(super) said: String,
    pub(super) ended_for: Option<EndedFor>,
    heard: bool,
    last_life_ms: u64,
    /// Silence is expected until then.
    quiet_until_ms: u64,
    calls: BTreeSet<String>,
    background: usize,
    result_at_ms: Option<u64>,
    terminated_at_ms: Option<u64>,
    killed: bool,
    no_server: bool,
}

/// What the clock says about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// End it for this reason.
    End(EndedFor),
    /// It was asked to end and did not.
    Kill,
}

impl Process {
    pub(super) fn new(now_ms: u64, max_turns: Option<u64>) -> Self {
        Self {
            max_turns,
            began_ms: now_ms,
            evidence: Evidence::default(),
            answers: 0,
            acted: false,
            progressed: false,
            said: String::new(),
            ended_for: None,
            heard: false,
            last_life_ms: now_ms,
            quiet_until_ms: 0,
            calls: BTreeSet::new(),
            background: 0,
            result_at_ms: None,
            terminated_at_ms: None,
            killed: false,
            no_server: false,
        }
    }

    pub(super) fn learn(&mut self, now_ms: u64, fact: Fact<'_>) {
        self.last_life_ms = now_ms;
        match fact {
            Fact::Life => self.heard = true,
            Fact::Protocol => self.evidence.any_event = true,
            Fact::Call(id) => {
                self.acted = true;
                self.result_at_ms = None;
                if self.calls.len() < MAX_CALLS {
                    self.calls.insert(id.to_string());
                }
            }
            Fact::Return(id) => {
                self.calls.remove(id);
                self.progressed = true;
            }
            Fact::Background(running) => self.background = running,
            Fact::Retry { delay_ms } => self.quiet_until_ms = now_ms.saturating_add(delay_ms),
            Fact::Compacting => self.quiet_until_ms = now_ms.saturating_add(COMPACTION_MS),
            Fact::Answer => {
                self.answers += 1;
                self.quiet_until_ms = 0;
                self.result_at_ms = None;
                // The main agent answers only when every call of its own has returned.
                self.calls.clear();
                self.evidence.api_error = None;
                self.evidence.complaint = None;
                self.evidence.limit = None;
                self.evidence.stopped_for_tool = false;
            }
            Fact::StopReason { tool_use } => self.evidence.stopped_for_tool = tool_use,
            Fact::Said(text) => self.said = text.to_string(),
            Fact::ApiError(error) => self.evidence.api_error = Some(error),
            Fact::Complaint(error) => self.evidence.complaint = Some(error),
            Fact::NoServer => self.no_server = true,
            Fact::Limit { resets_at_ms } => {
                // Said twice, by an event and in words, it is the event that knows when.
                let known = self.evidence.limit.and_then(|limit| limit.resets_at_ms);
                self.evidence.limit = Some(Limit { resets_at_ms: known.or(resets_at_ms) });
            }
            Fact::Refusal(refusal) => self.evidence.refusal = Some(refusal),
            Fact::Result { ended, text } => {
                self.calls.clear();
                self.quiet_until_ms = 0;
                self.result_at_ms = Some(now_ms);
                self.evidence.result = Some(ended);
                if let Some(text) = text {
                    self.said = text.to_string();
                }
            }
        }
    }

    /// A tool runs, or a task in the background.
    pub(super) fn is_busy(&self) -> bool {
        !self.calls.is_empty() || self.background > 0
    }

    /// Silence is known to be harmless now.
    pub(super) fn may_be_silent(&self, now_ms: u64) -> bool {
        self.is_busy() || now_ms < self.quiet_until_ms
    }

    pub(super) fn phase(&self, now_ms: u64) -> Phase {
        if self.is_busy() {
            Phase::Tool
        } else if now_ms < self.quiet_until_ms {
            Phase::Limit
        } else if self.heard {
            Phase::Model
        } else {
            Phase::Starting
        }
    }

    pub(super) fn reply(&self) -> Reply<'_> {
        Reply::read(&self.said)
    }

    pub(super) fn has_result(&self) -> bool {
        self.result_at_ms.is_some()
    }

    pub(super) fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.last_life_ms)
    }

    /// SIGTERM was sent.
    pub(super) fn terminated(&mut self, now_ms: u64, why: EndedFor) -> bool {
        self.ended_for = Some(why);
        let first = self.terminated_at_ms.is_none();
        self.terminated_at_ms.get_or_insert(now_ms);
        first
    }

    pub(super) fn kill(&mut self) {
        self.killed = true;
    }

    pub(super) fn due(&self, now_ms: u64, rules: &Rules) -> Due {
        if self.no_server && self.terminated_at_ms.is_none() {
            return Due::End(EndedFor::NoServer);
        }
        let overshot = self.max_turns.is_some_and(|max| self.answers > max.saturating_add(1));
        if overshot && self.terminated_at_ms.is_none() {
            return Due::End(EndedFor::Turns);
        }
        match self.deadline_ms(rules) {
            Some(deadline) if now_ms >= deadline => {
                if self.terminated_at_ms.is_some() {
                    Due::Kill
                } else if self.result_at_ms.is_some() {
                    Due::End(EndedFor::Lingering)
                } else {
                    Due::End(EndedFor::Silence)
                }
            }
            Some(_) | None => Due::Nothing,
        }
    }

    pub(super) fn deadline_ms(&self, rules: &Rules) -> Option<u64> {
        if self.killed {
            return None;
        }
        if let Some(at) = self.terminated_at_ms {
            return Some(at.saturating_add(rules.kill_after_ms));
        }
        if let Some(at) = self.result_at_ms {
            let waits = self.background > 0 && self.reply() == Reply::Open;
            return Some(at.saturating_add(if waits { rules.background_linger_ms } else { rules.linger_ms }));
        }
        let from = self.last_life_ms.max(self.quiet_until_ms);
        Some(from.saturating_add(if self.is_busy() { rules.tool_silence_ms } else { rules.model_silence_ms }))
    }
}
