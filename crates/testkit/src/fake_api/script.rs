//! What the fake API answers, as plain values: a list of rules, the first that fits answers.
//!
//! A rule looks at the conversation in the request, so a script keeps making sense when a session is killed and
//! resumed: `Script::steps` answers by how many tools have already run, not by how many requests were seen.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::conversation::Conversation;

/// Which requests a rule answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum When {
    Any,
    /// The n-th request of the agent itself, from 0. Side requests (titles, token counts) are not counted.
    Nth(usize),
    /// The text occurs in a prompt or tool result of the conversation.
    Contains(String),
    /// The text occurs in the newest prompt or tool result.
    LastContains(String),
    /// The newest message carries the result of a tool.
    EndsWithToolResult,
    /// So many tools have run in this conversation.
    ToolResults(usize),
    Not(Box<When>),
    All(Vec<When>),
}

impl When {
    pub(super) fn fits(&self, index: usize, conversation: &Conversation) -> bool {
        match self {
            Self::Any => true,
            Self::Nth(wanted) => index == *wanted,
            Self::Contains(text) => conversation.contains(text),
            Self::LastContains(text) => conversation.last_contains(text),
            Self::EndsWithToolResult => conversation.ends_with_tool_result(),
            Self::ToolResults(wanted) => conversation.tool_results() == *wanted,
            Self::Not(inner) => !inner.fits(index, conversation),
            Self::All(all) => all.iter().all(|when| when.fits(index, conversation)),
        }
    }
}

/// A piece of an assistant's message.
#[derive(Clone, Debug)]
pub(super) enum Block {
    Text(String),
    Thinking(String),
    ToolUse { name: String, input: Value },
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Message {
        blocks: Vec<Block>,
        stop_reason: &'static str,
    },
    /// Takes the request and never says a word.
    Hang,
    /// Begins the stream with some text, then silence on an open connection.
    StopMidStream {
        text: String,
    },
    /// Begins the stream with some text, then closes the connection.
    CutMidStream {
        text: String,
    },
    Error {
        status: u16,
        kind: String,
        message: String,
        headers: Vec<(String, String)>,
    },
}

/// The four counters that a message is billed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_creation_tokens: u64,
    pub cache_read_tokens: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { input_tokens: 10, output_tokens: 5, cache_creation_tokens: 0, cache_read_tokens: 0 }
    }
}

/// One answer, with its price and what it waits for.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) outcome: Outcome,
    pub(super) usage: Usage,
    pub(super) delay: Duration,
    pub(super) gate: Option<Gate>,
}

impl Answer {
    fn new(outcome: Outcome) -> Self {
        Self { outcome, usage: Usage::default(), delay: Duration::ZERO, gate: None }
    }

    /// Text, and the turn is over.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Outcome::Message { blocks: vec![Block::Text(text.into())], stop_reason: "end_turn" })
    }

    /// The call of a tool; the CLI runs it and comes back with its result.
    pub fn tool_use(name: impl Into<String>, input: Value) -> Self {
        let block = Block::ToolUse { name: name.into(), input };
        Self::new(Outcome::Message { blocks: vec![block], stop_reason: "tool_use" })
    }

    /// The call of the Bash tool, really run by the CLI.
    pub fn bash(command: impl Into<String>) -> Self {
        Self::tool_use("Bash", json!({"command": command.into(), "description": "scripted by the test"}))
    }

    /// The call of the Write tool. `path` has to be absolute.
    pub fn write_file(path: impl AsRef<std::path::Path>, content: &str) -> Self {
        Self::tool_use("Write", json!({"file_path": path.as_ref(), "content": content}))
    }

    /// Nothing to say, and the turn is over.
    pub fn end_turn() -> Self {
        Self::new(Outcome::Message { blocks: Vec::new(), stop_reason: "end_turn" })
    }

    /// Takes the request and never answers.
    pub fn hang() -> Self {
        Self::new(Outcome::Hang)
    }

    /// Sends the beginning of an answer, then nothing more on an open connection.
    pub fn stop_mid_stream(text: impl Into<String>) -> Self {
        Self::new(Outcome::StopMidStream { text: text.into() })
    }

    /// Sends the beginning of an answer, then closes the connection.
    pub fn cut_mid_stream(text: impl Into<String>) -> Self {
        Self::new(Outcome::CutMidStream { text: text.into() })
    }

    /// An HTTP error in the API's form.
    pub fn error(status: u16, kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Outcome::Error { status, kind: kind.into(), message: message.into(), headers: Vec::new() })
    }

    /// 401: the key or login is refused.
    pub fn unauthorized() -> Self {
        Self::error(401, "authentication_error", "invalid x-api-key")
    }

    /// 429 of an API key. The CLI is told not to wait.
    pub fn rate_limited() -> Self {
        Self::error(429, "rate_limit_error", "This request would exceed your rate limit.")
    }

    /// 429 of a subscription: the window is used up until `reset_epoch_seconds`.
    pub fn usage_limit(reset_epoch_seconds: u64) -> Self {
        Self::error(429, "rate_limit_error", "This request would exceed your account's rate limit.")
            .header("anthropic-ratelimit-unified-status", "rejected")
            .header("anthropic-ratelimit-unified-reset", reset_epoch_seconds.to_string())
            .header("anthropic-ratelimit-unified-representative-claim", "five_hour")
    }

    /// 529: the API is overloaded.
    pub fn overloaded() -> Self {
        Self::error(529, "overloaded_error", "Overloaded")
    }

    /// 500: the API is broken.
    pub fn server_error() -> Self {
        Self::error(500, "api_error", "Internal server error")
    }

    /// 400: the account has no credit left.
    pub fn no_credit() -> Self {
        let message = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to \
                       upgrade or purchase credits.";
        Self::error(400, "invalid_request_error", message)
    }

    /// 400: the conversation does not fit into the model's context.
    pub fn prompt_too_long() -> Self {
        Self::error(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
    }

    /// 404: no such model.
    pub fn model_not_found() -> Self {
        Self::error(404, "not_found_error", "model: no-such-model")
    }

    /// 400: the organisation was disabled.
    pub fn organisation_disabled() -> Self {
        Self::error(400, "invalid_request_error", "This organization has been disabled.")
    }

    /// Another header; only errors have any of their own.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Outcome::Error { headers, .. } = &mut self.outcome {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// Text before the rest of the message, as a model talks before it calls a tool.
    #[must_use]
    pub fn saying(mut self, text: impl Into<String>) -> Self {
        if let Outcome::Message { blocks, .. } = &mut self.outcome {
            blocks.insert(0, Block::Text(text.into()));
        }
        self
    }

    /// A thought before the rest of the message.
    #[must_use]
    pub fn thinking(mut self, text: impl Into<String>) -> Self {
        if let Outcome::Message { blocks, .. } = &mut self.outcome {
            blocks.insert(0, Block::Thinking(text.into()));
        }
        self
    }

    #[must_use]
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// Waits so long before it answers.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits until the gate is opened before it answers.
    #[must_use]
    pub fn held_by(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }
}

/// Holds answers back until a test has done what it wants to do in the middle of a turn.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    shared: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    arrived: usize,
}

impl Gate {
    pub fn closed() -> Self {
        Self::default()
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.lock().open = true;
        self.shared.1.notify_all();
    }

    /// Waits until a request has arrived at the gate.
    ///
    /// # Panics
    /// When none has arrived within the deadline.
    pub fn wait_for_arrival(&self, deadline: Duration) {
        let (state, timeout) = self
            .shared
            .1
            .wait_timeout_while(self.lock(), deadline, |state| state.arrived == 0)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "no request reached the gate within {deadline:?}");
        drop(state);
    }

    pub(super) fn pass(&self) {
        let mut state = self.lock();
        state.arrived += 1;
        self.shared.1.notify_all();
        let open = self.shared.1.wait_while(state, |state| !state.open).unwrap_or_else(PoisonError::into_inner);
        drop(open);
    }

    /// Waits until the gate is opened, at most so long.
    pub(super) fn pass_within(&self, longest: Duration) {
        let passed = self.shared.1.wait_timeout_while(self.lock(), longest, |state| !state.open);
        drop(passed);
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug)]
struct Rule {
    when: When,
    answer: Answer,
    uses_left: Option<usize>,
}

/// The rules, in order; the first that fits and is not used up answers.
#[derive(Clone, Debug, Default)]
pub struct Script {
    rules: Vec<Rule>,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    /// One answer to everything.
    pub fn always(answer: Answer) -> Self {
        Self::new().on(When::Any, answer)
    }

    /// The k-th answer while k tools have run in the conversation, and the last one from there on.
    pub fn steps(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut script = Self::new();
        let mut answers = answers.into_iter().enumerate().peekable();
        while let Some((index, answer)) = answers.next() {
            let when = if answers.peek().is_some() { When::ToolResults(index) } else { When::Any };
            script = script.on(when, answer);
        }
        script
    }

    /// Another rule, after those that are there.
    #[must_use]
    pub fn on(mut self, when: When, answer: Answer) -> Self {
        self.rules.push(Rule { when, answer, uses_left: None });
        self
    }

    /// Another rule, used up after `times` answers.
    #[must_use]
    pub fn on_times(mut self, times: usize, when: When, answer: Answer) -> Self {
        self.rules.push(Rule { when, answer, uses_left: Some(times) });
        self
    }

    /// The gates of all rules: opened when the API ends, so that no thread is left waiting.
    pub(super) fn gates(&self) -> Vec<Gate> {
        self.rules.iter().filter_map(|rule| rule.answer.gate.clone()).collect()
    }

    pub(super) fn answer(&mut self, index: usize, conversation: &Conversation) -> Answer {
        let fitting =
            self.rules.iter_mut().find(|rule| rule.uses_left != Some(0) && rule.when.fits(index, conversation));
        match fitting {
            Some(rule) => {
                rule.uses_left = rule.uses_left.map(|left| left - 1);
                rule.answer.clone()
            }
            None => Answer::error(500, "api_error", "the test's script has no rule for this request"),
        }
    }
}
