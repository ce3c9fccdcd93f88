//! Claude Code's `--output-format stream-json`, one line at a time.
//!
//! Owns: what a line means. May not: fail, panic, or judge (what an ending means for the job is `policy`'s to say).
//! Facts: recorded from `@anthropic-ai/claude-code` 2.1.330 against a stand-in Messages API; the recordings are `golden/`.

mod asking;
mod complaint;
mod limit;
mod lines;
mod loose;
mod raw;
mod time;

use std::borrow::Cow;

pub use asking::Asking;
pub use complaint::{Complaint, complaint};
pub use limit::{Clock, Resets, limit};
pub use lines::{Line, LineSplitter, MAX_LINE_BYTES};

/// What one line turned out to be.
#[expect(clippy::large_enum_variant, reason = "nearly every line is a message, and none is kept")]
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded<'a> {
    Message(Message<'a>),
    /// JSON of a `type` that we do not know; it is named.
    Unknown(Cow<'a, str>),
    /// No JSON object with a `type`: a plain line of the CLI, or damage.
    Garbled,
}

/// One event of the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Message<'a> {
    /// `system/init`. Not always the first event, and there may be several.
    Init(Init<'a>),
    /// `system/api_retry`: the CLI waits by itself and asks again.
    ApiRetry(ApiRetry<'a>),
    /// `system/background_tasks_changed`: so many shells and agents run in the background.
    BackgroundTasks {
        running: usize,
    },
    /// `system/status` with `compacting`: one long request without partial messages.
    Compacting,
    /// Any other `system` event: progress.
    System {
        subtype: Cow<'a, str>,
        description: Option<Cow<'a, str>>,
    },
    /// `tool_progress`: a tool is still at work.
    ToolProgress {
        tool: Option<Cow<'a, str>>,
        elapsed_s: u64,
    },
    /// `stream_event`.
    Partial(Partial<'a>),
    Assistant(Assistant<'a>),
    User(User<'a>),
    RateLimit(RateLimit<'a>),
    Result(Ending<'a>),
}

impl Message<'_> {
    /// When it was written, in milliseconds since the epoch; few events tell it.
    #[must_use]
    pub fn at_unix_ms(&self) -> Option<u64> {
        match self {
            Self::Assistant(assistant) => assistant.at_unix_ms,
            Self::User(user) => user.at_unix_ms,
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Init<'a> {
    pub session_id: Option<Cow<'a, str>>,
    pub model: Option<Cow<'a, str>>,
    pub version: Option<Cow<'a, str>>,
    pub tools: usize,
    /// Name and status of each server; `connected` is the good one.
    pub mcp_servers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ApiRetry<'a> {
    pub attempt: u64,
    pub max_retries: u64,
    pub retry_delay_ms: u64,
    pub status: Option<u16>,
    /// `authentication_failed`, `rate_limit`, `overloaded`, `server_error`, `unknown`.
    pub error: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Partial<'a> {
    /// `message_start`, `content_block_delta`, `message_delta`, …
    pub kind: Cow<'a, str>,
    pub message_id: Option<Cow<'a, str>>,
    pub stop_reason: Option<Cow<'a, str>>,
    /// In `message_delta`: the message's final counts. Those of `assistant` events stem from `message_start`, where
    /// `output_tokens` is 1.
    pub usage: Option<Usage>,
    /// In `message_start`.
    pub model: Option<Cow<'a, str>>,
    /// Set in what a subagent says: the call that started it.
    pub parent: Option<Cow<'a, str>>,
}

impl Partial<'_> {
    /// A piece of a block, which a later event repeats whole.
    #[must_use]
    pub fn is_repeated_later(&self) -> bool {
        self.kind.starts_with("content_block")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_write_tokens: u64,
    pub cache_read_tokens: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Assistant<'a> {
    /// Several events share one id: its usage counts once.
    pub id: Option<Cow<'a, str>>,
    /// `<synthetic>` for a message that the CLI made itself.
    pub model: Option<Cow<'a, str>>,
    pub blocks: Vec<Block<'a>>,
    pub usage: Option<Usage>,
    pub stop_reason: Option<Cow<'a, str>>,
    /// Set in what a subagent says: the call that started it.
    pub parent: Option<Cow<'a, str>>,
    /// Why the API call failed: `authentication_failed`, `rate_limit`, `server_error`, `billing_error`, …
    pub error: Option<Cow<'a, str>>,
    /// A finer reason: `usage_limit_reached`, `org_disabled_credential`, `connection_failed`, `max_output_tokens`, …
    pub api_error: Option<Cow<'a, str>>,
    pub api_error_status: Option<u16>,
    /// When it was written, in milliseconds since the epoch.
    pub at_unix_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct User<'a> {
    pub blocks: Vec<Block<'a>>,
    pub parent: Option<Cow<'a, str>>,
    /// When it was written, in milliseconds since the epoch.
    pub at_unix_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Block<'a> {
    Text(Cow<'a, str>),
    Thinking(Cow<'a, str>),
    /// `arg` is the most telling string of the input.
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        arg: Option<Cow<'a, str>>,
    },
    ToolResult {
        id: Cow<'a, str>,
        is_error: bool,
        text: Option<Cow<'a, str>>,
    },
    /// A block of a type that we do not know.
    Other(Cow<'a, str>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit<'a> {
    /// Only `rejected` blocks.
    pub status: Cow<'a, str>,
    pub resets_at_epoch_s: Option<u64>,
    /// `five_hour`, `seven_day`, …
    pub kind: Option<Cow<'a, str>>,
}

/// `result`: the end of a turn. A process with tasks in the background can have several.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending<'a> {
    /// Says nothing: a refused login is a `success`.
    pub subtype: Cow<'a, str>,
    pub is_error: bool,
    pub terminal_reason: Option<Cow<'a, str>>,
    pub stop_reason: Option<Cow<'a, str>>,
    pub api_error: Option<Cow<'a, str>>,
    pub api_error_status: Option<u16>,
    pub errors: Vec<Cow<'a, str>>,
    pub text: Option<Cow<'a, str>>,
    pub num_turns: u64,
    /// Cumulative over the whole session, resumes included.
    pub total_cost_usd: Option<f64>,
    /// What this result alone cost, where the CLI says so (`model_usage_since_last_result`).
    pub cost_usd: Option<f64>,
    /// The same by model.
    pub models: Vec<ModelCost<'a>>,
    pub permission_denials: usize,
}

/// What one model's answers cost together, in the CLI's own reckoning.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCost<'a> {
    pub model: Cow<'a, str>,
    pub usage: Usage,
    pub cost_usd: Option<f64>,
}

/// Reads one line (without its end).
#[must_use]
pub fn decode(line: &[u8]) -> Decoded<'_> {
    // serde would read an array as a struct, field by field.
    if line.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Decoded::Garbled;
    }
    // Looked at once as a whole it costs a tenth of what it does string by string.
    let Some(raw) = std::str::from_utf8(line).ok().and_then(|line| serde_json::from_str::<raw::Line<'_>>(line).ok())
    else {
        return Decoded::Garbled;
    };
    let Some(kind) = raw.kind.0.clone() else {
        return Decoded::Garbled;
    };
    let at_unix_ms = raw.timestamp.0.as_deref().and_then(time::unix_ms);
    let message = match &*kind {
        "system" => system(raw),
        "tool_progress" => {
            Message::ToolProgress { tool: raw.tool_name.0, elapsed_s: raw.elapsed_time_seconds.count().unwrap_or(0) }
        }
        "stream_event" => {
            let event = raw.event.0.unwrap_or_default();
            let opening = event.message.0.unwrap_or_default();
            Message::Partial(Partial {
                kind: event.kind.0.unwrap_or_default(),
                message_id: raw.api_message_id.0.or(opening.id.0),
                stop_reason: event.delta.0.and_then(|delta| delta.stop_reason.0),
                usage: event.usage.0.or(opening.usage.0).map(usage),
                model: opening.model.0,
                parent: raw.parent_tool_use_id.0,
            })
        }
        "assistant" => {
            let body = raw.message.0.unwrap_or_default();
            Message::Assistant(Assistant {
                id: body.id.0,
                model: body.model.0,
                blocks: blocks(body.content),
                usage: body.usage.0.map(usage),
                stop_reason: body.stop_reason.0,
                parent: raw.parent_tool_use_id.0,
                error: raw.error.0,
                api_error: raw.api_error.0,
                api_error_status: status(raw.api_error_status),
                at_unix_ms,
            })
        }
        "user" => Message::User(User {
            blocks: raw.message.0.map(|body| blocks(body.content)).unwrap_or_default(),
            parent: raw.parent_tool_use_id.0,
            at_unix_ms,
        }),
        "rate_limit_event" => {
            let info = raw.rate_limit_info.0.unwrap_or_default();
            Message::RateLimit(RateLimit {
                status: info.status.0.unwrap_or_default(),
                resets_at_epoch_s: info.resets_at.count(),
                kind: info.rate_limit_type.0,
            })
        }
        "result" => Message::Result(Ending {
            subtype: raw.subtype.0.unwrap_or_default(),
            is_error: raw.is_error.0.unwrap_or(false),
            terminal_reason: raw.terminal_reason.0,
            stop_reason: raw.stop_reason.0,
            api_error: raw.api_error.0,
            api_error_status: status(raw.api_error_status),
            errors: raw.errors.0.into_iter().filter_map(|error| error.0).collect(),
            text: raw.result.0,
            num_turns: raw.num_turns.count().unwrap_or(0),
            total_cost_usd: raw.total_cost_usd.0,
            cost_usd: raw.model_usage_since_last_result.cost_usd,
            models: raw.model_usage_since_last_result.models.into_iter().map(model_cost).collect(),
            permission_denials: raw.permission_denials.0.len(),
        }),
        _ => return Decoded::Unknown(kind),
    };
    Decoded::Message(message)
}

fn system(raw: raw::Line<'_>) -> Message<'_> {
    let subtype = raw.subtype.0.unwrap_or_default();
    match &*subtype {
        "init" => Message::Init(Init {
            session_id: raw.session_id.0,
            model: raw.model.0,
            version: raw.claude_code_version.0,
            tools: raw.tools.0.len(),
            mcp_servers: raw
                .mcp_servers
                .0
                .into_iter()
                .filter_map(|server| server.0)
                .map(|server| (server.name.0.unwrap_or_default(), server.status.0.unwrap_or_default()))
                .collect(),
        }),
        "api_retry" => Message::ApiRetry(ApiRetry {
            attempt: raw.attempt.count().unwrap_or(0),
            max_retries: raw.max_retries.count().unwrap_or(0),
            retry_delay_ms: raw.retry_delay_ms.count().unwrap_or(0),
            status: status(raw.error_status),
            error: raw.error.0,
        }),
        "background_tasks_changed" => Message::BackgroundTasks { running: raw.tasks.0.len() },
        "status" if raw.status.0.as_deref() == Some("compacting") => Message::Compacting,
        _ => Message::System { subtype, description: raw.description.0 },
    }
}

fn blocks(content: raw::Content<'_>) -> Vec<Block<'_>> {
    let text = content.text.map(Block::Text);
    let pieces = content.pieces.into_iter().map(|piece| {
        let kind = piece.kind.0.unwrap_or_default();
        match &*kind {
            "text" => Block::Text(piece.text.0.unwrap_or_default()),
            "thinking" => Block::Thinking(piece.thinking.0.unwrap_or_default()),
            // Tools that run at the API's side give their results in the same message.
            "tool_use" => Block::ToolUse {
                id: piece.id.0.unwrap_or_default(),
                name: piece.name.0.unwrap_or_default(),
                arg: piece.input.text,
            },
            "tool_result" => Block::ToolResult {
                id: piece.tool_use_id.0.unwrap_or_default(),
                is_error: piece.is_error.0.unwrap_or(false),
                text: piece.content.0,
            },
            _ => Block::Other(kind),
        }
    });
    text.into_iter().chain(pieces).collect()
}

fn usage(tokens: raw::Tokens) -> Usage {
    Usage {
        input_tokens: tokens.input_tokens.count().unwrap_or(0),
        output_tokens: tokens.output_tokens.count().unwrap_or(0),
        cache_write_tokens: tokens.cache_creation_input_tokens.count().unwrap_or(0),
        cache_read_tokens: tokens.cache_read_input_tokens.count().unwrap_or(0),
    }
}

fn model_cost((model, told): (Cow<'_, str>, raw::OneModel)) -> ModelCost<'_> {
    let usage = Usage {
        input_tokens: told.input_tokens.count().unwrap_or(0),
        output_tokens: told.output_tokens.count().unwrap_or(0),
        cache_write_tokens: told.cache_creation_input_tokens.count().unwrap_or(0),
        cache_read_tokens: told.cache_read_input_tokens.count().unwrap_or(0),
    };
    ModelCost { model, usage, cost_usd: told.cost_usd.0 }
}

fn status(number: loose::Number) -> Option<u16> {
    u16::try_from(number.count()?).ok()
}
