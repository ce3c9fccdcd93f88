//! The worker's own loop: start the agent, go on, wait, give up.
//!
//! [`Work::step`] takes what happened and says what is to be done; [`Work::deadline_ms`] says when it wants to be woken. The
//! rules of the game are in three other files: [`outcome`] judges how a process ended, [`reply`] is the agreement by which
//! the agent says that it is done, [`delay`] is how waits grow.
//!
//! **Invariants:** at most one process at a time; every wait is bounded; every failure in a row waits longer than the one
//! before, up to the longest; nothing is started that the turns or the budget do not allow; when a supervisor watches, only
//! a stop or an unusable CLI makes the worker leave.

pub mod delay;
pub mod outcome;
mod process;
pub mod reply;
mod types;

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

use delay::Growing;
use outcome::{EndedFor, Exit, Fault, Outcome, judge};
use process::{Due, Process};
use reply::Reply;
pub use types::{
    Code, Effect, Event, Fact, Fate, Found, Idle, Launch, Note, Phase, Prompt, Reason, Rules, Session, Spent, Stop,
};

/// After a usage limit's end we wait so much longer: clocks differ.
const AFTER_RESET_MS: u64 = 1_500;
/// However far away a limit's end is said to be, we look again after so long: limits are raised and credit is bought.
const LONGEST_LIMIT_NAP_MS: u64 = 6 * 3_600_000;
/// So many failures in a row, and a fresh session takes over.
const FAILURES_A_SESSION: u32 = 3;
/// So many failures in a row, and a worker that nobody supervises gives up.
const MAX_FAILURES: u32 = 9;
/// So many times in a row may the CLI end without a word of the protocol.
const MAX_UNUSABLE: u32 = 3;
/// So many answers in a row without a tool call and without the agreed last line count as done.
const MAX_INERT: u32 = 2;
/// Heartbeats for bytes that stream in need not be more frequent than this.
const HEARTBEAT_SPACING_MS: u64 = 1_000;

/// The loop's state.
#[derive(Debug)]
pub struct Work {
    rules: Rules,
    state: State,
    spent: Spent,
    /// In a row, without progress between them.
    failures: u32,
    /// Refusals in a row that only a person can put right.
    needs: u32,
    inert: u32,
    phase: Option<Phase>,
    last_heartbeat_ms: u64,
    stop: Option<Stop>,
}

#[derive(Debug)]
enum State {
    New,
    Running(Box<Process>),
    Waiting { until_ms: u64, session: Session, prompt: Prompt },
    Idle,
    Over,
}

impl Work {
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::New,
            spent: Spent::default(),
            failures: 0,
            needs: 0,
            inert: 0,
            phase: None,
            last_heartbeat_ms: 0,
            stop: None,
        }
    }

    /// When to wake the loop with [`Event::Tick`] if nothing else happens before.
    #[must_use]
    pub fn deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let beat = self.last_heartbeat_ms.saturating_add(self.rules.heartbeat_ms);
        match &self.state {
            State::New | State::Over => None,
            State::Idle => Some(beat),
            State::Waiting { until_ms, .. } => Some(beat.min(*until_ms)),
            State::Running(process) => {
                let own = process.deadline_ms(&self.rules);
                let beat = process.may_be_silent(now_ms).then_some(beat);
                own.into_iter().chain(beat).min()
            }
        }
    }

    /// Takes one event; what is to be done is added to `out`, in order.
    pub fn step(&mut self, now_ms: u64, event: Event<'_>, out: &mut Vec<Effect>) {
        match event {
            Event::Begin { found, spent } => self.begin(now_ms, found, spent, out),
            Event::Started => self.beat(now_ms, out),
            Event::Missing => {
                if matches!(self.state, State::Running(_)) {
                    out.push(Effect::Close(Reason::CliMissing));
                    self.leave(Code::CliUnusable, out);
                }
            }
            Event::Fact(fact) => {
                if let State::Running(process) = &mut self.state {
                    process.learn(now_ms, fact);
                    let spacing = HEARTBEAT_SPACING_MS.min(self.rules.heartbeat_ms);
                    if now_ms >= self.last_heartbeat_ms.saturating_add(spacing) {
                        self.beat(now_ms, out);
                    }
                }
            }
            Event::Spent(spent) => self.spent = spent,
            Event::Exited(exit) => self.exited(now_ms, exit, out),
            Event::Tick => {}
            Event::Stop(stop) => self.stop(now_ms, stop, out),
        }
        self.look_at_the_clock(now_ms, out);
    }

    fn begin(&mut self, now_ms: u64, found: Found, spent: Spent, out: &mut Vec<Effect>) {
        if !matches!(self.state, State::New) {
            return;
        }
        self.spent = spent;
        match found {
            Found::NoJob => self.idle(now_ms, Idle::NoPrompt, out),
            Found::Done => self.idle(now_ms, Idle::Done, out),
            Found::NewJob => self.launch(now_ms, Session::Fresh, Prompt::Task, out),
            Found::Interrupted => self.launch(now_ms, Session::Resume, Prompt::Interrupted, out),
        }
    }

    fn launch(&mut self, now_ms: u64, session: Session, prompt: Prompt, out: &mut Vec<Effect>) {
        let Rules { max_turns, max_cost_micros, .. } = self.rules;
        let Spent { turns, cost_micros } = self.spent;
        if max_turns > 0 && turns >= max_turns {
            return self.used_up(now_ms, Reason::Turns, out);
        }
        if max_cost_micros > 0 && cost_micros >= max_cost_micros {
            return self.used_up(now_ms, Reason::Budget, out);
        }
        let turns_left = (max_turns > 0).then(|| max_turns - turns);
        let cost_left = (max_cost_micros > 0).then(|| max_cost_micros - cost_micros);
        self.state = State::Running(Box::new(Process::new(now_ms, turns_left)));
        self.enter(Phase::Starting, out);
        self.beat(now_ms, out);
        out.push(Effect::Start(Launch { session, prompt, max_turns: turns_left, max_cost_micros: cost_left }));
    }

    fn used_up(&mut self, now_ms: u64, reason: Reason, out: &mut Vec<Effect>) {
        let (code, idle) = if reason == Reason::Turns {
            (Code::Turns, Idle::Turns { used: self.spent.turns, max: self.rules.max_turns })
        } else {
            let (used_micros, max_micros) = (self.spent.cost_micros, self.rules.max_cost_micros);
            (Code::Budget, Idle::Budget { used_micros, max_micros })
        };
        out.push(Effect::Note(Note::Idle(idle)));
        self.finish(now_ms, Fate::Unfinished, reason, code, idle, out);
    }

    fn exited(&mut self, now_ms: u64, exit: Exit, out: &mut Vec<Effect>) {
        let State::Running(process) = core::mem::replace(&mut self.state, State::Over) else { return };
        let outcome = match judge(&process.evidence, exit, process.ended_for) {
            // The CLI handles SIGTERM itself: 143 is a death, not a refusal to run.
            Outcome::Unusable(Exit::Code(129..)) => Outcome::Crashed(exit),
            outcome => outcome,
        };
        if let Some(stop) = self.stop {
            return self.stopped(stop, &process, outcome, out);
        }
        if process.progressed || outcome == Outcome::Done {
            (self.failures, self.needs) = (0, 0);
        }
        match outcome {
            Outcome::NoConversation => self.again(now_ms, outcome, Session::SameId, Prompt::Task, out),
            Outcome::SessionInUse => self.again(now_ms, outcome, Session::Fresh, Prompt::HandOver, out),
            Outcome::Turns if self.may_go_on(&process) => self.launch(now_ms, Session::Resume, Prompt::Continue, out),
            Outcome::Turns => self.used_up(now_ms, Reason::Turns, out),
            Outcome::Budget if self.rules.max_cost_micros > 0 => self.used_up(now_ms, Reason::Budget, out),
            _ if !self.rules.full_auto => self.single_session_ended(outcome, out),
            Outcome::Done => self.turn_done(now_ms, &process, out),
            Outcome::Unfinished if process.progressed => self.launch(now_ms, Session::Resume, Prompt::Continue, out),
            Outcome::NeedsYou(need) if !self.rules.supervised => {
                out.push(Effect::Settle(Fate::Unfinished));
                out.push(Effect::Close(Reason::NeedsYou(need)));
                self.leave(Code::NeedsYou, out);
            }
            Outcome::NeedsYou(_) => {
                self.needs += 1;
                let delay_ms = self.rules.needs_you.after(self.needs, self.rules.seed);
                self.wait(now_ms, outcome, delay_ms, Session::Resume, Prompt::Interrupted, out);
            }
            Outcome::Limit { resets_at_ms: Some(at) } if at > now_ms => {
                let delay_ms = (at - now_ms + AFTER_RESET_MS).min(LONGEST_LIMIT_NAP_MS);
                self.wait(now_ms, outcome, delay_ms, Session::Resume, Prompt::Interrupted, out);
            }
            Outcome::Limit { .. } | Outcome::Api(_) => {
                self.failures += 1;
                let delay_ms = self.rules.retry.after(self.failures, self.rules.seed);
                self.wait(now_ms, outcome, delay_ms, Session::Resume, Prompt::Interrupted, out);
            }
            Outcome::PromptTooLong
            | Outcome::Failed
            | Outcome::Crashed(_)
            | Outcome::Unfinished
            | Outcome::Budget
            | Outcome::Unusable(_)
            | Outcome::Stopped => self.failed(now_ms, outcome, out),
        }
    }

    /// The CLI counts in its own way and stopped before our count says so.
    fn may_go_on(&self, process: &Process) -> bool {
        let left = match self.rules.max_turns {
            0 => true,
            max => self.spent.turns < max,
        };
        self.rules.full_auto && left && process.progressed
    }

    fn single_session_ended(&mut self, outcome: Outcome, out: &mut Vec<Effect>) {
        let (fate, reason, code) = match outcome {
            Outcome::Done => (Fate::Done, Reason::Done, Code::Done),
            Outcome::NeedsYou(need) => (Fate::Unfinished, Reason::NeedsYou(need), Code::NeedsYou),
            Outcome::Limit { .. } => (Fate::Unfinished, Reason::RateLimit, Code::Api),
            Outcome::Api(fault) => (Fate::Unfinished, Reason::Api(fault), Code::Api),
            Outcome::Unusable(_) => (Fate::Unfinished, Reason::CliFailed, Code::CliUnusable),
            Outcome::Unfinished
            | Outcome::Turns
            | Outcome::Budget
            | Outcome::PromptTooLong
            | Outcome::NoConversation
            | Outcome::SessionInUse
            | Outcome::Failed
            | Outcome::Crashed(_)
            | Outcome::Stopped => (Fate::Unfinished, Reason::CliFailed, Code::GaveUp),
        };
        if code == Code::GaveUp || code == Code::CliUnusable {
            out.push(Effect::Note(Note::GaveUp { outcome, failures: 1 }));
        }
        out.push(Effect::Settle(fate));
        out.push(Effect::Close(reason));
        self.leave(code, out);
    }

    fn turn_done(&mut self, now_ms: u64, process: &Process, out: &mut Vec<Effect>) {
        match process.reply() {
            Reply::Done => return self.finish(now_ms, Fate::Done, Reason::Done, Code::Done, Idle::Done, out),
            Reply::Blocked(reason) => {
                out.push(Effect::Note(Note::Blocked { reason: reason.to_string() }));
                return self.finish(now_ms, Fate::Unfinished, Reason::Blocked, Code::GaveUp, Idle::Blocked, out);
            }
            Reply::Open => {}
        }
        self.inert = if process.acted { 0 } else { self.inert + 1 };
        if self.inert >= MAX_INERT {
            out.push(Effect::Note(Note::NothingLeft));
            return self.finish(now_ms, Fate::Done, Reason::Done, Code::Done, Idle::Done, out);
        }
        self.launch(now_ms, Session::Resume, Prompt::Continue, out);
    }

    /// The session could not be entered: at once in another way, but not for ever.
    fn again(&mut self, now_ms: u64, outcome: Outcome, session: Session, prompt: Prompt, out: &mut Vec<Effect>) {
        self.failures += 1;
        if self.failures > FAILURES_A_SESSION {
            return self.failed(now_ms, outcome, out);
        }
        out.push(Effect::Note(Note::FreshSession { outcome }));
        self.launch(now_ms, session, prompt, out);
    }

    fn failed(&mut self, now_ms: u64, outcome: Outcome, out: &mut Vec<Effect>) {
        self.failures += 1;
        let failures = self.failures;
        let unusable = matches!(outcome, Outcome::Unusable(_));
        let give_up = match outcome {
            Outcome::Unusable(_) => failures >= MAX_UNUSABLE,
            // What does not fit a fresh session will not fit the next one.
            Outcome::PromptTooLong => !self.rules.supervised && failures >= FAILURES_A_SESSION,
            _ => !self.rules.supervised && failures >= MAX_FAILURES,
        };
        if give_up || !self.rules.full_auto {
            out.push(Effect::Note(Note::GaveUp { outcome, failures }));
            out.push(Effect::Settle(Fate::Unfinished));
            out.push(Effect::Close(Reason::CliFailed));
            return self.leave(if unusable { Code::CliUnusable } else { Code::GaveUp }, out);
        }
        let poisoned = outcome == Outcome::PromptTooLong || failures.is_multiple_of(FAILURES_A_SESSION);
        // A process that died is back sooner than a service that is overloaded.
        let growing = Growing { first_ms: self.rules.retry.first_ms / 5, ..self.rules.retry };
        let delay_ms = growing.after(failures, self.rules.seed);
        if poisoned {
            self.wait(now_ms, outcome, delay_ms, Session::Fresh, Prompt::HandOver, out);
        } else {
            self.wait(now_ms, outcome, delay_ms, Session::Resume, Prompt::Interrupted, out);
        }
    }

    fn wait(
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
        self.state = State::Waiting { until_ms: now_ms.saturating_add(delay_ms), session, prompt };
        out.push(Effect::Note(Note::Waiting { outcome, delay_ms, session }));
        self.enter(phase, out);
        self.beat(now_ms, out);
    }

    fn finish(&mut self, now_ms: u64, fate: Fate, reason: Reason, code: Code, idle: Idle, out: &mut Vec<Effect>) {
        out.push(Effect::Settle(fate));
        out.push(Effect::Close(reason));
        if self.rules.supervised { self.idle(now_ms, idle, out) } else { self.leave(code, out) }
    }

    fn idle(&mut self, now_ms: u64, idle: Idle, out: &mut Vec<Effect>) {
        self.state = State::Idle;
        self.enter(if idle == Idle::Blocked { Phase::NeedsYou } else { Phase::Idle }, out);
        out.push(Effect::Note(Note::Idle(idle)));
        self.beat(now_ms, out);
    }

    fn leave(&mut self, code: Code, out: &mut Vec<Effect>) {
        self.state = State::Over;
        out.push(Effect::Leave(code));
    }

    fn stop(&mut self, now_ms: u64, stop: Stop, out: &mut Vec<Effect>) {
        let again = self.stop.replace(stop).is_some();
        match &mut self.state {
            State::Over => {}
            State::Running(process) => {
                // What has its result already keeps it.
                let why = if process.has_result() { EndedFor::Lingering } else { EndedFor::Stop };
                if process.terminated(now_ms, why) {
                    out.push(Effect::Terminate);
                }
                if again {
                    process.kill();
                    out.push(Effect::Kill);
                }
            }
            State::New | State::Waiting { .. } | State::Idle => {
                let (reason, code) = ending(stop);
                out.push(Effect::Close(reason));
                self.leave(code, out);
            }
        }
    }

    fn stopped(&mut self, stop: Stop, process: &Process, outcome: Outcome, out: &mut Vec<Effect>) {
        let (reason, code) = ending(stop);
        let done = outcome == Outcome::Done && (!self.rules.full_auto || process.reply() == Reply::Done);
        out.push(Effect::Settle(if done { Fate::Done } else { Fate::Unfinished }));
        out.push(Effect::Close(if done { Reason::Done } else { reason }));
        self.leave(code, out);
    }

    fn look_at_the_clock(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let beat_due = now_ms >= self.last_heartbeat_ms.saturating_add(self.rules.heartbeat_ms);
        match &mut self.state {
            State::New | State::Over => {}
            State::Idle => {
                if beat_due {
                    self.beat(now_ms, out);
                }
            }
            State::Waiting { until_ms, session, prompt } => {
                if now_ms >= *until_ms {
                    let (session, prompt) = (*session, *prompt);
                    self.launch(now_ms, session, prompt, out);
                } else if beat_due {
                    self.beat(now_ms, out);
                }
            }
            State::Running(process) => {
                match process.due(now_ms, &self.rules) {
                    Due::Nothing => {}
                    Due::Kill => {
                        process.kill();
                        out.push(Effect::Kill);
                    }
                    Due::End(why) => {
                        out.push(Effect::Note(match why {
                            EndedFor::Lingering => Note::Lingering,
                            EndedFor::Turns => Note::Overshot { turns: process.answers },
                            EndedFor::Silence | EndedFor::Stop => Note::Silent { silent_ms: process.silent_ms(now_ms) },
                        }));
                        process.terminated(now_ms, why);
                        out.push(Effect::Terminate);
                    }
                }
                let (phase, may_be_silent) = (process.phase(now_ms), process.may_be_silent(now_ms));
                self.enter(phase, out);
                if beat_due && may_be_silent {
                    self.beat(now_ms, out);
                }
            }
        }
    }

    fn enter(&mut self, phase: Phase, out: &mut Vec<Effect>) {
        if self.phase.replace(phase) != Some(phase) {
            out.push(Effect::Phase(phase));
        }
    }

    fn beat(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        self.last_heartbeat_ms = now_ms;
        out.push(Effect::Heartbeat);
    }
}

fn ending(stop: Stop) -> (Reason, Code) {
    match stop {
        Stop::Terminate => (Reason::Terminated, Code::Terminated),
        Stop::Interrupt => (Reason::Interrupted, Code::Interrupted),
    }
}

impl Outcome {
    /// One clause for people.
    #[must_use]
    pub fn clause(self) -> &'static str {
        match self {
            Self::Done => "the session ended well",
            Self::Unfinished => "the session ended in the middle of its work",
            Self::Turns => "the turns are used up",
            Self::Budget => "the budget is used up",
            Self::NeedsYou(outcome::Need::Login) => "the login was refused",
            Self::NeedsYou(outcome::Need::Credit) => "the credit balance is too low",
            Self::NeedsYou(outcome::Need::Organisation) => "the organisation is disabled",
            Self::NeedsYou(outcome::Need::Model) => "the model does not exist or is not available to this account",
            Self::Limit { resets_at_ms: Some(_) } => "the usage limit is reached",
            Self::Limit { resets_at_ms: None } => "the API rejected requests (rate limit)",
            Self::Api(Fault::Overloaded) => "the API is overloaded",
            Self::Api(Fault::Server) => "the API has an internal error",
            Self::Api(Fault::Network) => "the API cannot be reached",
            Self::Api(Fault::Hung) => "the API did not answer",
            Self::Api(Fault::Unknown) => "the API failed",
            Self::PromptTooLong => "the conversation no longer fits the model",
            Self::NoConversation => "the session is not known to the CLI",
            Self::SessionInUse => "the session's id is taken",
            Self::Failed => "the session failed",
            Self::Crashed(_) => "the CLI died",
            Self::Unusable(_) => "the CLI ended without a word",
            Self::Stopped => "the session was stopped",
        }
    }
}

#[cfg(test)]
mod tests;
