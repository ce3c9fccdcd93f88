//! The worker's own loop: start the agent, go on, wait, give up.
//!
//! [`Work::step`] takes what happened and says what is to be done; [`Work::deadline_ms`] says when it wants to be woken. The
//! rules of the game are in three other files: [`outcome`] judges how a process ended, [`reply`] is the agreement by which
//! the agent says that it is done, [`delay`] is how waits grow.
//!
//! **Invariants:** at most one process at a time; every wait is bounded; every failure in a row waits longer than the one
//! before, up to the longest; nothing is started that the turns or the budget do not allow; when a supervisor watches, only
//! a stop or an unusable CLI makes the worker leave.

pub mod budget;
pub mod delay;
mod ladder;
mod limit;
mod money;
pub mod outcome;
mod process;
pub mod reply;
pub mod task;
mod types;
mod waiting;

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

pub use ladder::Strikes;
use outcome::{EndedFor, Exit, Fault, Outcome, judge};
use process::{Due, Process};
use reply::Reply;
use task::{Held, Then};
pub use types::{
    Code, Effect, Event, Fact, Fate, Found, Idle, Launch, Note, Phase, Prompt, Reason, Rules, Session, Spent, Standing,
    Stop,
};

/// So many times in a row is a session that can't be entered begun in another way at once.
const MAX_ENTRIES: u32 = 3;
/// A process of the agent that ends well sooner than this has hardly asked a model.
const BRISK_MS: u64 = 1_000;
/// So many of them in a row are followed by the next one at once; then each waits longer than the one before.
const MAX_BRISK: u32 = 5;
/// So many faults in a row may pass by themselves that nothing explains; then they speak against the session.
const MAX_UNEXPLAINED: u32 = 4;
/// Progress over so long a time makes up for the failures before it.
const LASTING_MS: u64 = 60_000;
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
    /// Of any kind in a row, without progress between them: the delays grow with them.
    failures: u32,
    /// Those of them that speak against the session.
    strikes: Strikes,
    /// Sessions in a row that could not be entered.
    entries: u32,
    /// Processes in a row that ended almost at once.
    brisk: u32,
    /// Faults in a row that nothing explains.
    unexplained: u32,
    /// Deaths of the CLI in a row that nobody else caused.
    deaths: u32,
    /// Refusals in a row that only a person can put right.
    needs: u32,
    inert: u32,
    phase: Option<Phase>,
    last_heartbeat_ms: u64,
    stop: Option<Stop>,
    /// Of the worker before, until it is begun.
    recalled: Standing,
    /// What was kept last.
    kept: Standing,
    /// When to ask whether somebody has logged in.
    probe_due_ms: Option<u64>,
    /// What was answered last.
    logged_in: bool,
    /// The task that the job is, if it is one.
    held: Option<Held>,
    /// A task that was begun here waits for a person.
    obstructed: bool,
    /// Why there is nothing to do when the queue has nothing either.
    rest: Idle,
}

#[derive(Debug)]
enum State {
    New,
    Running(Box<Process>),
    Waiting {
        until_ms: u64,
        session: Session,
        prompt: Prompt,
    },
    /// For a budget of a stretch of time.
    Saving {
        until_ms: u64,
        session: Session,
        prompt: Prompt,
    },
    /// Asked for a task; the answer is the next event.
    Claiming,
    /// Another program than the agent does something for the task.
    Errand {
        then: Then,
        until_ms: u64,
    },
    /// A task is looked for at this time, or when the queue has changed; `None`: not at all. `for_means`: the task that is begun goes on
    /// when there are turns and money for it.
    Idle {
        look_again_ms: Option<u64>,
        for_means: bool,
    },
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
            strikes: Strikes::default(),
            entries: 0,
            brisk: 0,
            unexplained: 0,
            deaths: 0,
            needs: 0,
            inert: 0,
            phase: None,
            last_heartbeat_ms: 0,
            stop: None,
            recalled: Standing::default(),
            kept: Standing::default(),
            probe_due_ms: None,
            logged_in: true,
            held: None,
            obstructed: false,
            rest: Idle::NoPrompt,
        }
    }

    /// When to wake the loop with [`Event::Tick`] if nothing else happens before.
    #[must_use]
    pub fn deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let beat = self.last_heartbeat_ms.saturating_add(self.rules.heartbeat_ms);
        let own = match &self.state {
            State::New | State::Claiming | State::Over => None,
            State::Idle { look_again_ms, .. } => Some(look_again_ms.map_or(beat, |again| again.min(beat))),
            State::Errand { until_ms, .. } | State::Saving { until_ms, .. } => Some(beat.min(*until_ms)),
            State::Waiting { until_ms, .. } => {
                [Some(beat), Some(*until_ms), self.probe_due_ms].into_iter().flatten().min()
            }
            State::Running(process) => {
                let own = process.deadline_ms(&self.rules);
                let beat = process.may_be_silent(now_ms).then_some(beat);
                own.into_iter().chain(beat).min()
            }
        };
        own.into_iter().chain(self.renew_at_ms()).min()
    }

    /// Takes one event; what is to be done is added to `out`, in order.
    pub fn step(&mut self, now_ms: u64, event: Event<'_>, out: &mut Vec<Effect>) {
        match event {
            Event::Recall(standing) => self.recalled = standing,
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
            Event::Spent(spent) => {
                self.spent = spent;
                self.save_no_longer_than_needed(now_ms, out);
            }
            Event::Probed { logged_in, changed } => self.probed(now_ms, logged_in, changed, out),
            Event::Exited(exit) => self.exited(now_ms, exit, out),
            Event::Claimed { begun } => self.claimed(now_ms, begun, out),
            Event::NoTask { look_again_ms } => self.no_task(now_ms, look_again_ms, out),
            Event::QueueChanged => self.queue_changed(out),
            Event::TaskLost => self.task_lost(now_ms, out),
            Event::ErrandEnded(end) => self.errand_ended(now_ms, end, out),
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
            Found::NoJob | Found::Done if self.rules.queue => {
                self.rest = if found == Found::Done { Idle::Done } else { Idle::NoPrompt };
                self.claim(out);
            }
            Found::NoJob => self.idle(now_ms, Idle::NoPrompt, out),
            Found::Done => self.idle(now_ms, Idle::Done, out),
            Found::NewJob => self.launch(now_ms, Session::Fresh, Prompt::Task, out),
            Found::Interrupted => self.go_on(now_ms, out),
        }
    }

    /// From where the worker before this one was.
    pub(super) fn go_on(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        (self.failures, self.strikes, self.kept) = (self.recalled.failures, self.recalled.strikes, self.recalled);
        match self.recalled.limit_until_ms {
            Some(until_ms) if until_ms > now_ms => {
                let outcome = Outcome::Limit { resets_at_ms: Some(until_ms) };
                self.wait(now_ms, outcome, until_ms - now_ms, Session::Resume, Prompt::Interrupted, out);
            }
            Some(_) | None => self.launch(now_ms, Session::Resume, Prompt::Interrupted, out),
        }
    }

    fn launch(&mut self, now_ms: u64, session: Session, prompt: Prompt, out: &mut Vec<Effect>) {
        let Rules { max_turns, max_cost_micros, .. } = self.rules;
        let Spent { turns, cost_micros, windows } = self.spent;
        if max_turns > 0 && turns >= max_turns {
            return self.used_up(now_ms, Reason::Turns, out);
        }
        if max_cost_micros > 0 && cost_micros >= max_cost_micros {
            return self.used_up(now_ms, Reason::Budget, out);
        }
        if let Some(window) = budget::used_up(&windows, now_ms) {
            return self.pause(now_ms, window, session, prompt, out);
        }
        let turns_left = (max_turns > 0).then(|| max_turns - turns);
        let job_left = (max_cost_micros > 0).then(|| max_cost_micros - cost_micros);
        let cost_left = job_left.into_iter().chain(budget::left_micros(&windows, now_ms)).min();
        self.keep(None, out);
        (self.probe_due_ms, self.logged_in) = (None, true);
        self.state = State::Running(Box::new(Process::new(now_ms, turns_left)));
        // Told in any case: what was waited for is over.
        self.phase = None;
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
        if self.is_lost() {
            return self.give_away(out);
        }
        match outcome {
            Outcome::Crashed(exit) if exit.is_its_own() => self.deaths += 1,
            // What a death may leave behind, and somebody's kill: they say nothing of the next one.
            Outcome::Crashed(_) | Outcome::NoConversation | Outcome::SessionInUse => {}
            _ => self.deaths = 0,
        }
        let lived_ms = now_ms.saturating_sub(process.began_ms);
        let goes_on = matches!(outcome, Outcome::Done | Outcome::Turns | Outcome::Unfinished);
        self.brisk = if goes_on && lived_ms < BRISK_MS { self.brisk + 1 } else { 0 };
        // A session that does a little and fails again and again costs money each time.
        let lasted = lived_ms >= LASTING_MS || !outcome.speaks_against_the_session();
        if outcome == Outcome::Done || (process.progressed && lasted) {
            (self.failures, self.strikes, self.needs, self.unexplained) = (0, Strikes::default(), 0, 0);
        }
        if !matches!(outcome, Outcome::NoConversation | Outcome::SessionInUse) {
            self.entries = 0;
        }
        match outcome {
            Outcome::NoConversation => self.again(now_ms, outcome, Session::SameId, Prompt::Task, out),
            Outcome::SessionInUse => self.again(now_ms, outcome, Session::Fresh, Prompt::HandOver, out),
            Outcome::Turns if self.may_go_on(&process) => self.carry_on(now_ms, outcome, out),
            Outcome::Turns => self.used_up(now_ms, Reason::Turns, out),
            Outcome::Budget if self.has_budget(now_ms) => self.money_ended(now_ms, out),
            // By a limit of its own, which we know nothing of.
            Outcome::Budget => self.used_up(now_ms, Reason::Budget, out),
            _ if !self.rules.full_auto => self.single_session_ended(outcome, out),
            Outcome::Done => self.turn_done(now_ms, &process, out),
            Outcome::Unfinished if process.progressed => self.carry_on(now_ms, outcome, out),
            Outcome::NeedsYou(need) if !self.rules.supervised => {
                out.push(Effect::Settle(Fate::Unfinished));
                out.push(Effect::Close(Reason::NeedsYou(need)));
                self.leave(Code::NeedsYou, out);
            }
            Outcome::NeedsYou(_) => {
                self.needs += 1;
                let delay_ms = self.rules.needs_you.after(self.needs, self.rules.seed);
                self.probe_due_ms = Some(now_ms.saturating_add(self.rules.probe_ms.min(delay_ms / 2)));
                self.wait(now_ms, outcome, delay_ms, Session::Resume, Prompt::Interrupted, out);
            }
            Outcome::Limit { resets_at_ms } => {
                let told = limit::delay_ms(now_ms, resets_at_ms, self.rules.seed);
                let delay_ms = told.unwrap_or_else(|| self.next_retry_ms());
                self.wait(now_ms, outcome, delay_ms, Session::Resume, Prompt::Interrupted, out);
            }
            Outcome::Api(Fault::Unknown) if self.unexplained >= MAX_UNEXPLAINED => self.failed(now_ms, outcome, out),
            Outcome::Api(fault) => {
                self.unexplained += u32::from(fault == Fault::Unknown);
                let delay_ms = self.next_retry_ms();
                self.wait(now_ms, outcome, delay_ms, Session::Resume, Prompt::Interrupted, out);
            }
            Outcome::PromptTooLong
            | Outcome::Failed
            | Outcome::Crashed(_)
            | Outcome::Unfinished
            | Outcome::Unusable(_)
            | Outcome::NoServer
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
            Outcome::Unusable(_) | Outcome::NoServer => (Fate::Unfinished, Reason::CliFailed, Code::CliUnusable),
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
            Reply::Done => return self.job_done(now_ms, out),
            Reply::Blocked(reason) => {
                out.push(Effect::Note(Note::Blocked { reason: reason.to_string() }));
                if self.obstructed(now_ms, reason, out) {
                    return;
                }
                return self.finish(now_ms, Fate::Unfinished, Reason::Blocked, Code::GaveUp, Idle::Blocked, out);
            }
            Reply::Open => {}
        }
        self.inert = if process.acted { 0 } else { self.inert + 1 };
        if self.inert >= MAX_INERT {
            out.push(Effect::Note(Note::NothingLeft));
            return self.job_done(now_ms, out);
        }
        self.carry_on(now_ms, Outcome::Done, out);
    }

    /// In the same session, at once; unless that has come to nothing several times in no time.
    fn carry_on(&mut self, now_ms: u64, outcome: Outcome, out: &mut Vec<Effect>) {
        let excess = self.brisk.saturating_sub(MAX_BRISK);
        if excess == 0 {
            return self.launch(now_ms, Session::Resume, Prompt::Continue, out);
        }
        let delay_ms = self.rules.retry.after(excess, self.rules.seed);
        self.wait(now_ms, outcome, delay_ms, Session::Resume, Prompt::Continue, out);
    }

    fn job_done(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        if self.held.is_some() {
            return self.judge_result(now_ms, out);
        }
        if !self.rules.queue {
            return self.finish(now_ms, Fate::Done, Reason::Done, Code::Done, Idle::Done, out);
        }
        out.push(Effect::Settle(Fate::Done));
        out.push(Effect::Close(Reason::Done));
        self.rest = Idle::Done;
        self.claim(out);
    }

    /// The session could not be entered: at once in another way, but not for ever.
    fn again(&mut self, now_ms: u64, outcome: Outcome, session: Session, prompt: Prompt, out: &mut Vec<Effect>) {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return self.failed(now_ms, outcome, out);
        }
        out.push(Effect::Note(Note::FreshSession { outcome }));
        self.launch(now_ms, session, prompt, out);
    }

    fn finish(&mut self, now_ms: u64, fate: Fate, reason: Reason, code: Code, idle: Idle, out: &mut Vec<Effect>) {
        out.push(Effect::Settle(fate));
        out.push(Effect::Close(reason));
        if self.rules.supervised { self.idle(now_ms, idle, out) } else { self.leave(code, out) }
    }

    fn idle(&mut self, now_ms: u64, idle: Idle, out: &mut Vec<Effect>) {
        let for_means = self.held.is_some() && matches!(idle, Idle::Turns { .. } | Idle::Budget { .. });
        self.state = State::Idle { look_again_ms: None, for_means };
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
            State::Errand { .. } => self.stop_errand(stop, out),
            State::New | State::Claiming | State::Waiting { .. } | State::Saving { .. } | State::Idle { .. } => {
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
        self.renew_if_due(now_ms, out);
        let beat_due = now_ms >= self.last_heartbeat_ms.saturating_add(self.rules.heartbeat_ms);
        let may_try = self.logged_in || self.phase != Some(Phase::NeedsYou);
        match &mut self.state {
            State::New | State::Claiming | State::Over => {}
            State::Idle { look_again_ms, .. } => {
                if look_again_ms.is_some_and(|again| now_ms >= again) {
                    self.claim(out);
                }
                if beat_due {
                    self.beat(now_ms, out);
                }
            }
            State::Errand { until_ms, .. } => {
                if now_ms >= *until_ms {
                    // Its end is told like any other.
                    *until_ms = u64::MAX;
                    out.push(Effect::Kill);
                }
                if beat_due {
                    self.beat(now_ms, out);
                }
            }
            State::Saving { until_ms, session, prompt } => {
                if now_ms >= *until_ms {
                    let (session, prompt) = (*session, *prompt);
                    return self.launch(now_ms, session, prompt, out);
                }
                if beat_due {
                    out.push(Effect::LookAtBudget);
                    self.beat(now_ms, out);
                }
            }
            State::Waiting { until_ms, session, prompt } => {
                let (session, prompt) = (*session, *prompt);
                let is_over = now_ms >= *until_ms;
                if is_over && may_try {
                    return self.launch(now_ms, session, prompt, out);
                }
                if is_over {
                    // Nobody is logged in, and that is asked again and again.
                    *until_ms = now_ms.saturating_add(self.rules.needs_you.longest_ms);
                    self.logged_in = true;
                    out.push(Effect::Note(Note::LoggedOut));
                }
                if self.probe_due_ms.is_some_and(|due_ms| now_ms >= due_ms) {
                    self.probe_due_ms = Some(now_ms.saturating_add(self.rules.probe_ms));
                    out.push(Effect::Probe);
                }
                if beat_due {
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
                            EndedFor::NoServer => Note::NoServer,
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

#[cfg(test)]
mod tests;
