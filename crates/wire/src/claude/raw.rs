//! The stream's objects as they lie on the wire: every field of every event type in one struct, because `type` may stand
//! anywhere in the line (in a `result` of 2.1.330 it comes last) and a line is to be read once only.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::loose::{self, Flag, List, Number, Object, Shape, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) subtype: Text<'a>,
    #[serde(borrow)]
    pub(super) session_id: Text<'a>,
    #[serde(borrow)]
    pub(super) parent_tool_use_id: Text<'a>,
    #[serde(borrow)]
    pub(super) timestamp: Text<'a>,
    // system/init
    #[serde(borrow)]
    pub(super) model: Text<'a>,
    #[serde(borrow)]
    pub(super) claude_code_version: Text<'a>,
    #[serde(borrow)]
    pub(super) mcp_servers: List<Object<McpServer<'a>>>,
    pub(super) tools: List<IgnoredAny>,
    // system/api_retry
    pub(super) attempt: Number,
    pub(super) max_retries: Number,
    pub(super) retry_delay_ms: Number,
    pub(super) error_status: Number,
    /// A token of `system/api_retry` and of `assistant`.
    #[serde(borrow)]
    pub(super) error: Text<'a>,
    // system/status, system/background_tasks_changed, system/task_*
    #[serde(borrow)]
    pub(super) status: Text<'a>,
    pub(super) tasks: List<IgnoredAny>,
    #[serde(borrow)]
    pub(super) description: Text<'a>,
    // assistant, user
    #[serde(borrow)]
    pub(super) message: Object<Body<'a>>,
    pub(super) api_error_status: Number,
    #[serde(borrow)]
    pub(super) api_error: Text<'a>,
    // stream_event
    #[serde(borrow)]
    pub(super) event: Object<Partial<'a>>,
    #[serde(borrow)]
    pub(super) api_message_id: Text<'a>,
    // rate_limit_event
    #[serde(borrow)]
    pub(super) rate_limit_info: Object<RateLimitInfo<'a>>,
    // tool_progress
    #[serde(borrow)]
    pub(super) tool_name: Text<'a>,
    pub(super) elapsed_time_seconds: Number,
    // result
    pub(super) is_error: Flag,
    #[serde(borrow)]
    pub(super) terminal_reason: Text<'a>,
    #[serde(borrow)]
    pub(super) stop_reason: Text<'a>,
    #[serde(borrow)]
    pub(super) errors: List<Text<'a>>,
    #[serde(borrow)]
    pub(super) result: Text<'a>,
    pub(super) num_turns: Number,
    pub(super) total_cost_usd: Number,
    #[serde(borrow)]
    pub(super) model_usage_since_last_result: ModelUsage<'a>,
    pub(super) permission_denials: List<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct McpServer<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) status: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) model: Text<'a>,
    #[serde(borrow)]
    pub(super) content: Content<'a>,
    #[serde(borrow)]
    pub(super) stop_reason: Text<'a>,
    pub(super) usage: Object<Tokens>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    pub(super) input_tokens: Number,
    pub(super) output_tokens: Number,
    pub(super) cache_creation_input_tokens: Number,
    pub(super) cache_read_input_tokens: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Piece<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) text: Text<'a>,
    #[serde(borrow)]
    pub(super) thinking: Text<'a>,
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) input: Argument<'a>,
    #[serde(borrow)]
    pub(super) tool_use_id: Text<'a>,
    pub(super) is_error: Flag,
    #[serde(borrow)]
    pub(super) content: FirstText<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Partial<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) delta: Object<PartialDelta<'a>>,
    pub(super) usage: Object<Tokens>,
    /// In `message_start`.
    #[serde(borrow)]
    pub(super) message: Object<Opening<'a>>,
}

/// A message that begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Opening<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) model: Text<'a>,
    pub(super) usage: Object<Tokens>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PartialDelta<'a> {
    #[serde(borrow)]
    pub(super) stop_reason: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RateLimitInfo<'a> {
    #[serde(borrow)]
    pub(super) status: Text<'a>,
    #[serde(rename = "resetsAt")]
    pub(super) resets_at: Number,
    #[serde(borrow, rename = "rateLimitType")]
    pub(super) rate_limit_type: Text<'a>,
}

/// Of one model, with names unlike those of a message's usage.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct OneModel {
    pub(super) input_tokens: Number,
    pub(super) output_tokens: Number,
    pub(super) cache_read_input_tokens: Number,
    pub(super) cache_creation_input_tokens: Number,
    #[serde(rename = "costUSD")]
    pub(super) cost_usd: Number,
}

/// `modelUsage`, by model.
#[derive(Debug, Default)]
pub(super) struct ModelUsage<'a> {
    pub(super) models: Vec<(Cow<'a, str>, OneModel)>,
    /// The sum. An empty object is a statement too: nothing was spent.
    pub(super) cost_usd: Option<f64>,
}

impl<'a> Shape<'a> for ModelUsage<'a> {
    fn map<A: MapAccess<'a>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let mut sum = 0.0;
        while let Some((name, model)) = map.next_entry::<Text<'a>, Object<OneModel>>()? {
            let model = model.0.unwrap_or_default();
            sum += model.cost_usd.0.unwrap_or(0.0);
            self.models.push((name.0.unwrap_or_default(), model));
        }
        self.cost_usd = Some(sum);
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ModelUsage<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        loose::read(from)
    }
}

/// A message's content: a plain string or a list of blocks.
#[derive(Debug, Default)]
pub(super) struct Content<'a> {
    pub(super) text: Option<Cow<'a, str>>,
    pub(super) pieces: Vec<Piece<'a>>,
}

impl<'a> Shape<'a> for Content<'a> {
    fn text(&mut self, text: Cow<'a, str>) {
        self.text = Some(text);
    }

    fn list<A: SeqAccess<'a>>(&mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(piece) = list.next_element::<Object<Piece<'a>>>()? {
            self.pieces.extend(piece.0);
        }
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        loose::read(from)
    }
}

/// A tool result's content: a string, or a list of blocks of which the first text is taken.
#[derive(Debug, Default)]
pub(super) struct FirstText<'a>(pub(super) Option<Cow<'a, str>>);

impl<'a> Shape<'a> for FirstText<'a> {
    fn text(&mut self, text: Cow<'a, str>) {
        self.0 = Some(text);
    }

    fn list<A: SeqAccess<'a>>(&mut self, mut list: A) -> Result<(), A::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Block<'a> {
            #[serde(borrow)]
            text: Text<'a>,
        }
        while let Some(block) = list.next_element::<Object<Block<'a>>>()? {
            if self.0.is_none() {
                self.0 = block.0.and_then(|block| block.text.0);
            }
        }
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for FirstText<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        loose::read(from)
    }
}

/// The one argument of a tool call that tells a reader most.
#[derive(Debug, Default)]
pub(super) struct Argument<'a> {
    pub(super) text: Option<Cow<'a, str>>,
    /// Lower tells more.
    rank: usize,
}

/// Keys of the built-in tools' inputs, the most telling first (Claude Code's tool reference).
const TELLING: [&str; 10] =
    ["command", "file_path", "notebook_path", "path", "pattern", "url", "query", "skill", "description", "prompt"];

impl<'a> Shape<'a> for Argument<'a> {
    fn map<A: MapAccess<'a>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<Text<'a>, Text<'a>>()? {
            let key = key.0.unwrap_or_default();
            let rank = TELLING.iter().position(|known| *known == key).unwrap_or(TELLING.len());
            if value.0.is_some() && (self.text.is_none() || rank < self.rank) {
                self.text = value.0;
                self.rank = rank;
            }
        }
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Argument<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        loose::read(from)
    }
}
