//! What a request to `/v1/messages` says, read from its JSON. No decisions.
//!
//! Shapes as sent by Claude Code 2.1.330 (measured): `messages` holds `user`, `assistant` and, between them, `system`
//! messages with reminders; `content` is a string or a list of blocks. The agent's own requests carry tools; the
//! requests that the CLI makes on the side (titles, summaries) carry none.

use serde_json::Value;

/// A view of one request.
#[derive(Clone, Debug)]
pub struct Conversation {
    body: Value,
}

impl Conversation {
    pub(super) fn new(body: Value) -> Self {
        Self { body }
    }

    /// The agent's own request, as opposed to one for a title or the like.
    pub fn is_agents(&self) -> bool {
        self.body["tools"].as_array().is_some_and(|tools| !tools.is_empty())
    }

    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or("")
    }

    pub fn streams(&self) -> bool {
        self.body["stream"].as_bool().unwrap_or(false)
    }

    /// Texts of the user's messages and of the results of tools, oldest first.
    pub fn user_texts(&self) -> Vec<&str> {
        self.user_blocks().filter_map(block_text).collect()
    }

    /// The newest text that is not one of the CLI's own reminders.
    pub fn last_prompt(&self) -> Option<&str> {
        self.user_blocks()
            .filter(|block| block["type"] != "tool_result")
            .filter_map(block_text)
            .filter(|text| !text.trim_start().starts_with("<system-reminder>"))
            .last()
    }

    pub fn tool_results(&self) -> usize {
        self.user_blocks().filter(|block| block["type"] == "tool_result").count()
    }

    /// The text occurs in a prompt or a tool result.
    pub fn contains(&self, text: &str) -> bool {
        self.user_texts().iter().any(|candidate| candidate.contains(text))
    }

    pub(super) fn last_contains(&self, text: &str) -> bool {
        self.last_user_message()
            .is_some_and(|message| blocks(message).filter_map(block_text).any(|candidate| candidate.contains(text)))
    }

    pub(super) fn ends_with_tool_result(&self) -> bool {
        self.last_user_message().is_some_and(|message| blocks(message).any(|block| block["type"] == "tool_result"))
    }

    fn last_user_message(&self) -> Option<&Value> {
        self.user_messages().last()
    }

    fn user_messages(&self) -> impl Iterator<Item = &Value> {
        self.body["messages"].as_array().into_iter().flatten().filter(|message| message["role"] == "user")
    }

    fn user_blocks(&self) -> impl Iterator<Item = &Value> {
        self.user_messages().flat_map(blocks)
    }
}

/// The blocks of a message; a message that is one string is its own only block.
fn blocks(message: &Value) -> impl Iterator<Item = &Value> {
    let content = &message["content"];
    let lone = content.is_string().then_some(content);
    content.as_array().into_iter().flatten().chain(lone)
}

fn block_text(block: &Value) -> Option<&str> {
    block
        .as_str()
        .or_else(|| block["text"].as_str())
        .or_else(|| block["content"].as_str())
        .or_else(|| block["content"][0]["text"].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reminders_and_system_messages_are_not_prompts() {
        let conversation = Conversation::new(json!({"tools": [{"name": "Bash"}], "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "<system-reminder>x</system-reminder>"}, {"type": "text", "text": "do it"}]},
            {"role": "system", "content": "# Environment"},
        ]}));
        assert!(conversation.is_agents());
        assert_eq!(conversation.last_prompt(), Some("do it"));
        assert!(conversation.last_contains("do it") && !conversation.contains("# Environment"));
    }

    #[test]
    fn a_tool_result_is_seen_behind_a_system_message() {
        let conversation = Conversation::new(json!({"messages": [
            {"role": "user", "content": "do it"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "out"}]},
            {"role": "system", "content": "reminder"},
        ]}));
        assert!(!conversation.is_agents());
        assert!(conversation.ends_with_tool_result() && conversation.contains("out"));
        assert_eq!(conversation.tool_results(), 1);
    }
}
