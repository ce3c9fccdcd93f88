//! Whether a request is under way, as far as the stream tells: what was sent and is not answered yet is charged for all the same.

use super::{Block, Message};

/// Follows one process of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asking {
    under_way: bool,
    /// Calls of the main agent that have not returned: it asks again when all have.
    open_calls: usize,
}

impl Asking {
    /// A request was sent, and no answer has begun.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// The next event.
    pub fn see(&mut self, message: &Message<'_>) {
        match message {
            // The prompt is sent when all is set up.
            Message::Init(_) => *self = Self { under_way: true, open_calls: 0 },
            Message::Partial(partial) if partial.kind == "message_start" => self.under_way = false,
            Message::Assistant(assistant) => {
                self.under_way = false;
                if assistant.parent.is_none() {
                    let calls = assistant.blocks.iter().filter(|block| matches!(block, Block::ToolUse { .. })).count();
                    self.open_calls += calls;
                }
            }
            Message::User(user) => {
                let results = user.blocks.iter().filter(|block| matches!(block, Block::ToolResult { .. })).count();
                if user.parent.is_none() {
                    self.open_calls = self.open_calls.saturating_sub(results);
                }
                // A subagent asks again while the call that started it is open.
                self.under_way |= results > 0 && (self.open_calls == 0 || user.parent.is_some());
            }
            Message::Result(_) => *self = Self::default(),
            Message::ApiRetry(_)
            | Message::BackgroundTasks { .. }
            | Message::Compacting
            | Message::Partial(_)
            | Message::RateLimit(_)
            | Message::System { .. }
            | Message::ToolProgress { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Decoded, decode};
    use super::*;

    fn after(lines: &[&str]) -> bool {
        let mut asking = Asking::default();
        for line in lines {
            let Decoded::Message(message) = decode(line.as_bytes()) else { panic!("not understood: {line}") };
            asking.see(&message);
        }
        asking.is_under_way()
    }

    const INIT: &str = r#"{"type":"system","subtype":"init"}"#;
    const BEGINS: &str = r#"{"type":"stream_event","event":{"type":"message_start","message":{"id":"m"}}}"#;
    const CALL: &str = r#"{"type":"assistant","message":{"id":"m","content":[{"type":"tool_use","id":"a"}]}}"#;
    const CALL_OF_SUBAGENT: &str =
        r#"{"type":"assistant","parent_tool_use_id":"a","message":{"content":[{"type":"tool_use","id":"c"}]}}"#;
    const RETURN: &str = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a"}]}}"#;
    const RETURN_TO_SUBAGENT: &str =
        r#"{"type":"user","parent_tool_use_id":"a","message":{"content":[{"type":"tool_result","tool_use_id":"c"}]}}"#;
    const RESULT: &str = r#"{"type":"result"}"#;

    #[test]
    fn a_request_is_under_way_from_the_prompt_or_the_last_result_to_the_answers_beginning() {
        assert!(!after(&[]));
        assert!(after(&[INIT]));
        assert!(!after(&[INIT, BEGINS]));
        assert!(!after(&[INIT, BEGINS, CALL]));
        assert!(!after(&[INIT, CALL]), "an answer that came whole");
        assert!(after(&[INIT, BEGINS, CALL, RETURN]));
        assert!(!after(&[INIT, BEGINS, CALL, CALL, RETURN]), "the other call is not back");
        assert!(after(&[INIT, BEGINS, CALL, CALL, RETURN, RETURN]));
        assert!(!after(&[INIT, BEGINS, CALL, RETURN, RESULT]));
        // The prompt of a subagent is a user's text, and its own request cannot be told from here: its next one can.
        assert!(!after(&[INIT, BEGINS, CALL, CALL_OF_SUBAGENT]));
        assert!(after(&[INIT, BEGINS, CALL, CALL_OF_SUBAGENT, RETURN_TO_SUBAGENT]));
    }
}
