//! How one process of the agent ended, judged by the typed fields of its stream.
//!
//! **Invariant:** nothing that a model wrote or a tool printed takes part in the judgement: a tool result can hold any words.
//! Facts: `wire`'s recordings of Claude Code 2.1.330. `subtype: success` says nothing: a refused login has it, too.

use alloc::string::{String, ToString};

/// What is known about a process when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Any event at all came.
    pub any_event: bool,
    /// The last failed API call, unless a good answer came after it.
    pub api_error: Option<ApiError>,
    /// The same in words of the CLI's own: where no token says what it was.
    pub complaint: Option<ApiError>,
    /// A usage limit refused us; it ends in so many milliseconds, if that was said.
    pub limit: Option<Limit>,
    /// The last `result`.
    pub result: Option<Ended>,
    /// The CLI refused in plain words of its own (not the model's).
    pub refusal: Option<Refusal>,
    /// The stop reason of the last answer.
    pub stopped_for_tool: bool,
}

/// A rejected usage limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// On the clock of `now`.
    pub resets_at_ms: Option<u64>,
}

/// The tokens of a failed API call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiError {
    /// `authentication_failed`, `rate_limit`, `server_error`, `billing_error`, `invalid_request`, …
    pub kind: String,
    /// `usage_limit_reached`, `org_disabled_credential`, `connection_failed`, …
    pub detail: Option<String>,
    pub status: Option<u16>,
}

/// The tokens of a `result`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ended {
    pub is_error: bool,
    pub subtype: String,
    pub terminal_reason: Option<String>,
    pub stop_reason: Option<String>,
    pub api_error: Option<String>,
    pub api_error_status: Option<u16>,
}

/// What the CLI says in plain lines, before any model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `No conversation found with session ID: …`
    NoConversation,
    /// `Session ID … is already in use.`
    SessionInUse,
}

/// How the process itself ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// Nobody else has ended it, as far as can be told: by SIGHUP, SIGINT, SIGTERM or SIGKILL, or with what is made of these.
    pub(super) fn is_its_own(self) -> bool {
        !matches!(self, Self::Signal(1 | 2 | 9 | 15) | Self::Code(129 | 130 | 137 | 143))
    }
}

/// Why we ended it, if we did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedFor {
    /// No sign of life for too long.
    Silence,
    /// It was done and did not go.
    Lingering,
    /// It took more turns than it was given.
    Turns,
    /// The server with the queue's tools, which it was told to have, is missing.
    NoServer,
    /// We are to end ourselves.
    Stop,
}

/// What only a person can put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Login,
    Credit,
    Organisation,
    Model,
}

impl Need {
    /// The word of `@end reason=needs-you:…`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Credit => "credit",
            Self::Organisation => "organisation",
            Self::Model => "model",
        }
    }
}

/// A fault of the API, or on the way to it, that passes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// HTTP 529 or 503.
    Overloaded,
    /// Any other 5xx.
    Server,
    /// No answer at all: refused, cut, no name.
    Network,
    /// It accepted and never answered.
    Hung,
    /// Something else.
    Unknown,
}

impl Fault {
    /// The word of `@end reason=api:…`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::Network => "network",
            Self::Hung => "hung",
            Self::Unknown => "unknown",
        }
    }
}

/// How a process of the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A turn ended well. Whether the work is done is another question.
    Done,
    /// It ended well in the middle of something: after a tool call, or cut at the longest answer.
    Unfinished,
    /// `--max-turns` reached.
    Turns,
    /// `--max-budget-usd` reached.
    Budget,
    NeedsYou(Need),
    /// A usage limit or plain rate limit; the time at which it is over, if that was said.
    Limit {
        resets_at_ms: Option<u64>,
    },
    Api(Fault),
    /// The conversation no longer fits the model.
    PromptTooLong,
    NoConversation,
    SessionInUse,
    /// It reported an error of another kind.
    Failed,
    /// It died without a result.
    Crashed(Exit),
    /// It never said a word of the protocol: a wrong option, not this program, a refusal to run.
    Unusable(Exit),
    /// It came up without the server with the queue's tools.
    NoServer,
    /// Ended because we are to end.
    Stopped,
}

/// Judges a process that has ended and whose output was read to the end.
#[must_use]
pub fn judge(evidence: &Evidence, exit: Exit, ended_for: Option<EndedFor>) -> Outcome {
    match ended_for {
        Some(EndedFor::Stop) => return Outcome::Stopped,
        Some(EndedFor::NoServer) if evidence.result.is_none() => return Outcome::NoServer,
        Some(EndedFor::Turns) => return Outcome::Turns,
        Some(EndedFor::Silence) => return at_a_limit(evidence).unwrap_or(Outcome::Api(Fault::Hung)),
        // It gave its result; that counts.
        Some(EndedFor::Lingering | EndedFor::NoServer) | None => {}
    }
    match evidence.refusal {
        Some(Refusal::NoConversation) => return Outcome::NoConversation,
        Some(Refusal::SessionInUse) => return Outcome::SessionInUse,
        None => {}
    }
    let Some(result) = &evidence.result else {
        if let Some(limit) = at_a_limit(evidence) {
            return limit;
        }
        return match exit {
            Exit::Code(_) if !evidence.any_event => Outcome::Unusable(exit),
            Exit::Code(_) | Exit::Signal(_) => Outcome::Crashed(exit),
        };
    };
    match (result.terminal_reason.as_deref(), &*result.subtype) {
        (Some("max_turns"), _) | (_, "error_max_turns") => return Outcome::Turns,
        (Some("budget_exhausted"), _) | (_, "error_max_budget_usd") => return Outcome::Budget,
        (Some("prompt_too_long"), _) => return Outcome::PromptTooLong,
        _ => {}
    }
    if result.is_error {
        return failure(evidence, result);
    }
    if let Some(limit) = at_a_limit(evidence) {
        return limit;
    }
    let unfinished = match result.stop_reason.as_deref() {
        Some(reason) => reason == "tool_use",
        None => evidence.stopped_for_tool,
    };
    if unfinished { Outcome::Unfinished } else { Outcome::Done }
}

/// A limit was told of, and no answer came after it.
fn at_a_limit(evidence: &Evidence) -> Option<Outcome> {
    evidence.limit.map(|limit| Outcome::Limit { resets_at_ms: limit.resets_at_ms })
}

fn failure(evidence: &Evidence, result: &Ended) -> Outcome {
    let tokens = evidence.api_error.is_some() || result.api_error_status.is_some() || result.api_error.is_some();
    let error = evidence.api_error.as_ref().or(evidence.complaint.as_ref().filter(|_| !tokens));
    let status = error.and_then(|error| error.status).or(result.api_error_status);
    let kind = error.map_or("", |error| &*error.kind);
    let detail = error.and_then(|error| error.detail.as_deref()).or(result.api_error.as_deref());
    match detail {
        Some("org_disabled_credential") => return Outcome::NeedsYou(Need::Organisation),
        Some("connection_failed") => return Outcome::Api(Fault::Network),
        Some("max_output_tokens") => return Outcome::Unfinished,
        _ => {}
    }
    match (kind, status) {
        ("authentication_failed" | "oauth_org_not_allowed", _) | ("" | "unknown", Some(401 | 403)) => {
            Outcome::NeedsYou(Need::Login)
        }
        ("billing_error", _) | ("" | "unknown", Some(402)) => Outcome::NeedsYou(Need::Credit),
        ("model_not_found", _) => Outcome::NeedsYou(Need::Model),
        ("prompt_too_long", _) => Outcome::PromptTooLong,
        ("rate_limit", _) | (_, Some(429)) => {
            Outcome::Limit { resets_at_ms: evidence.limit.and_then(|limit| limit.resets_at_ms) }
        }
        ("max_output_tokens", _) => Outcome::Unfinished,
        // In the CLI's own words, where no token says it.
        ("" | "unknown", None) if evidence.limit.is_some() => {
            Outcome::Limit { resets_at_ms: evidence.limit.and_then(|limit| limit.resets_at_ms) }
        }
        ("overloaded", _) | (_, Some(503 | 529)) => Outcome::Api(Fault::Overloaded),
        ("server_error", None) => Outcome::Api(Fault::Network),
        ("server_error", _) | (_, Some(500..=599)) => Outcome::Api(Fault::Server),
        _ if result.terminal_reason.as_deref() == Some("api_error") && status.is_none() => Outcome::Api(Fault::Unknown),
        // Not a token says what it was.
        ("", None) if result.terminal_reason.is_none() => Outcome::Api(Fault::Unknown),
        _ => Outcome::Failed,
    }
}

impl ApiError {
    /// From the tokens as they stand in the stream.
    #[must_use]
    pub fn new(kind: &str, detail: Option<&str>, status: Option<u16>) -> Self {
        Self { kind: kind.to_string(), detail: detail.map(ToString::to_string), status }
    }
}

impl Outcome {
    /// It is this session that fails, and not the service, a limit or somebody's kill.
    pub(super) fn speaks_against_the_session(self) -> bool {
        match self {
            Self::PromptTooLong | Self::Failed | Self::Unusable(_) | Self::NoServer => true,
            Self::Crashed(exit) => exit.is_its_own(),
            Self::Done
            | Self::Unfinished
            | Self::Turns
            | Self::Budget
            | Self::NeedsYou(_)
            | Self::Limit { .. }
            | Self::Api(_)
            | Self::NoConversation
            | Self::SessionInUse
            | Self::Stopped => false,
        }
    }

    /// One clause for people.
    #[must_use]
    pub fn clause(self) -> &'static str {
        match self {
            Self::Done => "the session ended well",
            Self::Unfinished => "the session ended in the middle of its work",
            Self::Turns => "the turns are used up",
            Self::Budget => "the budget is used up",
            Self::NeedsYou(Need::Login) => "the login was refused",
            Self::NeedsYou(Need::Credit) => "the credit balance is too low",
            Self::NeedsYou(Need::Organisation) => "the organisation is disabled",
            Self::NeedsYou(Need::Model) => "the model does not exist or is not available to this account",
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
            Self::NoServer => "the CLI has not connected to autopilot's MCP server",
            Self::Stopped => "the session was stopped",
        }
    }
}
