//! The Messages API's events (`message_start` … `message_stop`) and its whole, not streamed, answer.

use serde_json::{Value, json};

use super::script::{Block, Usage};

/// Text is sent in pieces of so many characters, so that a client has to put it together.
const PIECE_CHARS: usize = 24;

/// Names one answer, and the model it pretends to be.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) number: usize,
    pub(super) model: String,
}

/// One event in wire form.
fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("unknown"))
}

/// A whole message as events.
pub(super) fn message(label: &Label, blocks: &[Block], stop_reason: &str, usage: Usage) -> String {
    let mut stream = start(label, usage);
    for (index, block) in blocks.iter().enumerate() {
        stream.push_str(&block_events(label, index, block));
    }
    stream.push_str(&event(&json!({
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, "stop_sequence": null},
        "usage": {"output_tokens": usage.output_tokens},
    })));
    stream.push_str(&event(&json!({"type": "message_stop"})));
    stream
}

/// The beginning of a message with some text, and nothing after it.
pub(super) fn beginning(label: &Label, text: &str, usage: Usage) -> String {
    let mut stream = start(label, usage);
    stream.push_str(&event(&block_start(0, json!({"type": "text", "text": ""}))));
    stream.push_str(&event(&delta(0, json!({"type": "text_delta", "text": text}))));
    stream
}

/// A message as one JSON value, for a client that does not stream.
pub(super) fn whole(label: &Label, blocks: &[Block], stop_reason: &str, usage: Usage) -> Value {
    let content: Vec<Value> = blocks
        .iter()
        .enumerate()
        .map(|(index, block)| match block {
            Block::Text(text) => json!({"type": "text", "text": text}),
            Block::Thinking(text) => json!({"type": "thinking", "thinking": text, "signature": "c2lnbmVk"}),
            Block::ToolUse { name, input } => {
                json!({"type": "tool_use", "id": tool_id(label, index), "name": name, "input": input})
            }
        })
        .collect();
    let mut message = envelope(label, usage);
    message["content"] = Value::Array(content);
    message["stop_reason"] = Value::from(stop_reason);
    message["usage"]["output_tokens"] = Value::from(usage.output_tokens);
    message
}

fn envelope(label: &Label, usage: Usage) -> Value {
    json!({
        "id": format!("msg_{:06}", label.number),
        "type": "message",
        "role": "assistant",
        "model": label.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {
            "input_tokens": usage.input_tokens,
            "cache_creation_input_tokens": usage.cache_creation_tokens,
            "cache_read_input_tokens": usage.cache_read_tokens,
            "output_tokens": 1,
        },
    })
}

fn start(label: &Label, usage: Usage) -> String {
    event(&json!({"type": "message_start", "message": envelope(label, usage)}))
}

fn block_events(label: &Label, index: usize, block: &Block) -> String {
    let (start, deltas) = match block {
        Block::Text(text) => {
            let deltas = pieces(text).map(|text| json!({"type": "text_delta", "text": text})).collect();
            (json!({"type": "text", "text": ""}), deltas)
        }
        Block::Thinking(text) => {
            let mut deltas: Vec<Value> =
                pieces(text).map(|text| json!({"type": "thinking_delta", "thinking": text})).collect();
            deltas.push(json!({"type": "signature_delta", "signature": "c2lnbmVk"}));
            (json!({"type": "thinking", "thinking": "", "signature": ""}), deltas)
        }
        Block::ToolUse { name, input } => {
            let input = input.to_string();
            let deltas = pieces(&input).map(|json| json!({"type": "input_json_delta", "partial_json": json})).collect();
            (json!({"type": "tool_use", "id": tool_id(label, index), "name": name, "input": {}}), deltas)
        }
    };
    let mut stream = event(&block_start(index, start));
    let deltas: Vec<Value> = deltas;
    for piece in deltas {
        stream.push_str(&event(&delta(index, piece)));
    }
    stream.push_str(&event(&json!({"type": "content_block_stop", "index": index})));
    stream
}

fn block_start(index: usize, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: usize, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn tool_id(label: &Label, index: usize) -> String {
    format!("toolu_{:06}_{index}", label.number)
}

/// Pieces of a text, cut between characters.
fn pieces(text: &str) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = chars.chunks(PIECE_CHARS).map(|piece| piece.iter().collect()).collect();
    pieces.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_call_in_pieces_is_whole_again_when_put_together() {
        let label = Label { number: 1, model: "m".to_owned() };
        let input = json!({"command": "echo 'a text of more than one piece, with ümläuts' >> out.txt"});
        let blocks = [Block::ToolUse { name: "Bash".to_owned(), input: input.clone() }];
        let stream = message(&label, &blocks, "tool_use", Usage::default());
        let joined: String = stream
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter_map(|data| data["delta"]["partial_json"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(serde_json::from_str::<Value>(&joined).unwrap(), input);
        assert!(stream.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    }
}
