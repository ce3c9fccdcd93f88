//! One line of the CLI: what it means for the log, for the ledger, and for the loop.

use std::borrow::Cow;

use policy::work::Fact;
use policy::work::outcome::{ApiError, Ended, Refusal};
use wire::claude::{Assistant, Block, Complaint, Decoded, Ending, Line, Message, Partial, Resets, User, decode};
use wire::rlog::Entry;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pipe {
    Stdout,
    Stderr,
}

/// Who wants to know.
pub(crate) trait Listener {
    fn fact(&mut self, fact: Fact<'_>);
    fn entry(&mut self, entry: &Entry<'_>);
    fn status(&mut self, text: &str);
    /// The CLI waits for the API by itself.
    fn waits(&mut self, text: &str) {
        self.status(text);
    }
    /// For the full log.
    fn event(&mut self, line: &[u8]);
    /// The CLI's own words about what went wrong.
    fn cli_said(&mut self, text: &str);
    /// Whether a plain line is of a private key that a line before it began.
    fn is_of_key(&mut self, line: &[u8]) -> bool;
    /// Each event, before what it means is told.
    fn seen(&mut self, message: &Message<'_>);
    /// An answer begins.
    fn begun(&mut self, id: &str, opening: &Partial<'_>);
    /// An answer's event; says whether it is the answer's first.
    fn answered(&mut self, assistant: &Assistant<'_>) -> bool;
    /// An answer's final counts.
    fn finished(&mut self, id: &str, usage: wire::claude::Usage);
    fn is_main(&self, id: &str) -> bool;
    fn cost(&mut self, ending: &Ending<'_>);
    /// Whether the server with the queue's tools is among them, if it has to be.
    fn has_server(&mut self, servers: &[(Cow<'_, str>, Cow<'_, str>)]) -> bool;
    /// A time of day as a time of the loop's clock.
    fn at_ms(&self, epoch_s: u64) -> u64;
    /// The time that is meant, in seconds since 1970.
    fn epoch_s(&self, resets: Resets<'_>) -> Option<u64>;
}

/// Tells what a line says.
pub(crate) fn hear(line: Line<'_>, pipe: Pipe, to: &mut impl Listener) {
    let bytes = match line {
        Line::Whole(bytes) => bytes,
        Line::TooLong(bytes) => return to.status(&format!("a line of {bytes} bytes from the CLI was dropped")),
    };
    let decoded = if pipe == Pipe::Stdout { decode(bytes) } else { Decoded::Garbled };
    match decoded {
        Decoded::Garbled => plain(bytes, pipe, to),
        Decoded::Unknown(_) => {
            to.event(bytes);
            to.fact(Fact::Protocol);
        }
        Decoded::Message(message) => {
            let repeated = matches!(&message, Message::Partial(partial) if partial.is_repeated_later());
            if !repeated {
                to.event(bytes);
            }
            to.seen(&message);
            to.fact(Fact::Protocol);
            self::message(message, to);
        }
    }
}

/// A line that is no event: the CLI's own words, before any model is asked.
fn plain(bytes: &[u8], pipe: Pipe, to: &mut impl Listener) {
    let text = String::from_utf8_lossy(bytes);
    let mut text = text.trim();
    if to.is_of_key(bytes) {
        text = "[redacted:private-key]";
    }
    if text.is_empty() {
        return;
    }
    let stream = if pipe == Pipe::Stdout { "stdout" } else { "stderr" };
    let event = serde_json::json!({ "type": "autopilot_plain", "stream": stream, "text": text });
    to.event(event.to_string().as_bytes());
    to.status(&format!("claude: {text}"));
    to.cli_said(text);
    if let Some(refusal) = refusal(text) {
        to.fact(Fact::Refusal(refusal));
    }
}

/// The two refusals that the CLI puts into plain words only. They come from the CLI itself and never from a model or a tool,
/// whose words are always wrapped in events.
fn refusal(text: &str) -> Option<Refusal> {
    let text = text.strip_prefix("Error: ").unwrap_or(text);
    if text.starts_with("No conversation found with session ID") {
        Some(Refusal::NoConversation)
    } else if text.starts_with("Session ID ") && text.trim_end_matches('.').ends_with("is already in use") {
        Some(Refusal::SessionInUse)
    } else {
        None
    }
}

fn message(message: Message<'_>, to: &mut impl Listener) {
    match message {
        Message::Init(init) => {
            to.entry(&Entry::Init { model: init.model.as_deref().unwrap_or("-") });
            for (name, status) in init.mcp_servers.iter().filter(|(_, status)| status != "connected") {
                to.status(&format!("MCP server {name}: {status}"));
            }
            if !to.has_server(&init.mcp_servers) {
                to.fact(Fact::NoServer);
            }
        }
        Message::ApiRetry(retry) => {
            let status = retry.status.map(|status| format!(" ({status})")).unwrap_or_default();
            let error = retry.error.as_deref().unwrap_or("unknown");
            let (attempt, of, delay_ms) = (retry.attempt, retry.max_retries, retry.retry_delay_ms);
            to.waits(&format!("API: {error}{status}; the CLI tries again in {delay_ms} ms ({attempt} of {of})"));
            to.fact(Fact::Retry { delay_ms });
        }
        Message::BackgroundTasks { running } => to.fact(Fact::Background(running)),
        Message::Compacting => {
            to.status("the conversation is compacted");
            to.fact(Fact::Compacting);
        }
        Message::System { subtype, description } => {
            if subtype == "task_started" {
                to.status(&format!("task started: {}", description.as_deref().unwrap_or("-")));
            }
        }
        Message::ToolProgress { .. } => {}
        Message::Partial(partial) => {
            let Some(id) = partial.message_id.as_deref() else { return };
            if partial.kind == "message_start" {
                to.begun(id, &partial);
            }
            if let Some(usage) = partial.usage.filter(|_| partial.kind == "message_delta") {
                to.finished(id, usage);
            }
            if let Some(reason) = partial.stop_reason.filter(|_| to.is_main(id)) {
                to.fact(Fact::StopReason { tool_use: reason == "tool_use" });
            }
        }
        Message::Assistant(assistant) => self::assistant(&assistant, to),
        Message::User(user) => self::user(&user, to),
        Message::RateLimit(limit) => {
            if limit.status == "rejected" {
                let kind = limit.kind.as_deref().unwrap_or("usage limit");
                to.status(&format!("usage limit reached ({kind})"));
                let resets_at_ms = limit.resets_at_epoch_s.map(|at| to.at_ms(at));
                to.fact(Fact::Limit { resets_at_ms });
            }
        }
        Message::Result(ending) => result(&ending, to),
    }
}

/// Instead of a model's name, in what the CLI itself puts into the conversation.
pub(crate) const SYNTHETIC: &str = "<synthetic>";

fn assistant(assistant: &Assistant<'_>, to: &mut impl Listener) {
    let main = assistant.parent.is_none();
    if let Some(kind) = &assistant.error {
        for block in &assistant.blocks {
            if let Block::Text(text) = block {
                to.status(&format!("claude: {text}"));
                to.cli_said(text);
                limit_in_words(text, to);
            }
        }
        if main {
            let error = ApiError::new(kind, assistant.api_error.as_deref(), assistant.api_error_status);
            to.fact(Fact::ApiError(error));
        }
        return;
    }
    if assistant.model.as_deref() == Some(SYNTHETIC) {
        // No model said it: the CLI did.
        for block in &assistant.blocks {
            if let Block::Text(text) = block {
                to.cli_said(text);
                limit_in_words(text, to);
            }
        }
    }
    if to.answered(assistant) && main {
        to.fact(Fact::Answer);
    }
    for block in &assistant.blocks {
        match block {
            Block::Text(text) => {
                tell(assistant.parent.as_deref(), Entry::Assistant(text), to);
                if main {
                    to.fact(Fact::Said(text));
                }
            }
            // A model may think without showing it.
            Block::Thinking(text) if text.trim().is_empty() => {}
            Block::Thinking(text) => tell(assistant.parent.as_deref(), Entry::Thinking(text), to),
            Block::ToolUse { id, name, arg } => {
                let call = Entry::Call { id, tool: name, arg: arg.as_deref().unwrap_or_default() };
                tell(assistant.parent.as_deref(), call, to);
                to.fact(Fact::Call(id));
            }
            Block::ToolResult { .. } | Block::Other(_) => {}
        }
    }
    if let Some(reason) = assistant.stop_reason.as_deref().filter(|_| main) {
        to.fact(Fact::StopReason { tool_use: reason == "tool_use" });
    }
}

fn user(user: &User<'_>, to: &mut impl Listener) {
    for block in &user.blocks {
        match block {
            Block::ToolResult { id, is_error, text } => {
                let output = Entry::Output { id, is_error: *is_error, text: text.as_deref().unwrap_or_default() };
                tell(user.parent.as_deref(), output, to);
                to.fact(Fact::Return(id));
            }
            Block::Text(text) => tell(user.parent.as_deref(), Entry::User(text), to),
            Block::Thinking(_) | Block::ToolUse { .. } | Block::Other(_) => {}
        }
    }
}

fn tell(parent: Option<&str>, entry: Entry<'_>, to: &mut impl Listener) {
    match parent {
        Some(parent) => to.entry(&Entry::Subagent { parent, entry: &entry }),
        None => to.entry(&entry),
    }
}

/// What a version of the CLI that has no event for it says. Only the CLI's own words are to come here.
fn limit_in_words(text: &str, to: &mut impl Listener) {
    if let Some(resets) = wire::claude::limit(text) {
        let resets_at_ms = resets.and_then(|resets| to.epoch_s(resets)).map(|at| to.at_ms(at));
        to.fact(Fact::Limit { resets_at_ms });
    }
}

fn result(ending: &Ending<'_>, to: &mut impl Listener) {
    to.cost(ending);
    if ending.is_error {
        for text in ending.text.iter().chain(&ending.errors) {
            limit_in_words(text, to);
            if let Some(Complaint { kind, detail, status }) = wire::claude::complaint(text) {
                to.fact(Fact::Complaint(ApiError::new(kind, detail, status)));
            }
        }
    }
    for error in &ending.errors {
        match refusal(error) {
            // The CLI said it in a plain line, too.
            Some(refusal) => to.fact(Fact::Refusal(refusal)),
            None => to.status(&format!("claude: {error}")),
        }
        to.cli_said(error);
    }
    if ending.permission_denials > 0 {
        to.status(&format!("{} tool calls were denied", ending.permission_denials));
    }
    let ended = Ended {
        is_error: ending.is_error,
        subtype: ending.subtype.clone().into_owned(),
        terminal_reason: ending.terminal_reason.as_deref().map(str::to_owned),
        stop_reason: ending.stop_reason.as_deref().map(str::to_owned),
        api_error: ending.api_error.as_deref().map(str::to_owned),
        api_error_status: ending.api_error_status,
    };
    let text = ending.text.as_deref().filter(|text| !text.is_empty());
    to.fact(Fact::Result { ended, text });
}
