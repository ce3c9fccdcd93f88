//! A script as JSON, for the fake API as a process of its own (`fake-messages-api --script FILE`).
//!
//! ```json
//! {"rules": [
//!   {"when": {"tool_results": 0}, "answer": {"bash": "echo hello >> out.txt"}},
//!   {"when": {"contains": "flaky"}, "times": 2, "answer": {"error": 529}},
//!   {"answer": {"text": "Done.", "delay_ms": 20, "usage": {"input_tokens": 1000, "output_tokens": 50}}}
//! ]}
//! ```
//! `when`: `nth`, `contains`, `last_contains`, `tool_results`, `ends_with_tool_result`; several must all hold; none means any.
//! `answer`: one of `text`, `bash`, `tool` (+ `input`), `error` (a status; + `kind`, `message`, `headers`), `usage_limit` (reset, epoch
//! seconds), `no_credit`, `organisation_disabled`, `prompt_too_long`, `end_turn`, `hang`, `stop_mid_stream`, `cut_mid_stream`.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::script::{Answer, Script, Usage, When};

/// A script that says something unknown, with the part that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    part: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "not understood in the script: {}", self.part)
    }
}

impl std::error::Error for ScriptError {}

impl Script {
    /// Reads a script from its JSON form.
    ///
    /// # Errors
    /// When it is no JSON or says something unknown.
    pub fn from_json(text: &str) -> Result<Self, ScriptError> {
        let script: Value = serde_json::from_str(text).map_err(|error| ScriptError { part: error.to_string() })?;
        let rules = script["rules"].as_array().ok_or_else(|| unknown(&script))?;
        let mut script = Self::new();
        for rule in rules {
            let when = when(&rule["when"])?;
            let answer = answer(&rule["answer"])?;
            script = match rule["times"].as_u64() {
                Some(times) => script.on_times(usize::try_from(times).map_err(|_| unknown(rule))?, when, answer),
                None => script.on(when, answer),
            };
        }
        Ok(script)
    }
}

fn unknown(part: &Value) -> ScriptError {
    ScriptError { part: part.to_string() }
}

fn text_of(value: &Value) -> Result<String, ScriptError> {
    value.as_str().map(str::to_owned).ok_or_else(|| unknown(value))
}

fn count_of(value: &Value) -> Result<usize, ScriptError> {
    value.as_u64().and_then(|count| usize::try_from(count).ok()).ok_or_else(|| unknown(value))
}

fn when(value: &Value) -> Result<When, ScriptError> {
    let Some(conditions) = value.as_object() else {
        return if value.is_null() { Ok(When::Any) } else { Err(unknown(value)) };
    };
    let conditions = conditions.iter().map(|(name, value)| match name.as_str() {
        "nth" => count_of(value).map(When::Nth),
        "contains" => text_of(value).map(When::Contains),
        "last_contains" => text_of(value).map(When::LastContains),
        "tool_results" => count_of(value).map(When::ToolResults),
        "ends_with_tool_result" => {
            Ok(if value == false { When::Not(Box::new(When::EndsWithToolResult)) } else { When::EndsWithToolResult })
        }
        _ => Err(ScriptError { part: format!("when {name}") }),
    });
    Ok(When::All(conditions.collect::<Result<_, _>>()?))
}

fn answer(value: &Value) -> Result<Answer, ScriptError> {
    let parts = value.as_object().ok_or_else(|| unknown(value))?;
    let mut answer = None;
    for (name, part) in parts {
        let this = match name.as_str() {
            "text" => Answer::text(text_of(part)?),
            "bash" => Answer::bash(text_of(part)?),
            "tool" => Answer::tool_use(text_of(part)?, value["input"].clone()),
            "error" => error(part, value)?,
            "usage_limit" => Answer::usage_limit(part.as_u64().ok_or_else(|| unknown(part))?),
            "no_credit" => Answer::no_credit(),
            "organisation_disabled" => Answer::organisation_disabled(),
            "prompt_too_long" => Answer::prompt_too_long(),
            "end_turn" => Answer::end_turn(),
            "hang" => Answer::hang(),
            "stop_mid_stream" => Answer::stop_mid_stream(text_of(part)?),
            "cut_mid_stream" => Answer::cut_mid_stream(text_of(part)?),
            "input" | "kind" | "message" | "headers" | "delay_ms" | "usage" | "saying" | "thinking" => continue,
            _ => {
                return Err(ScriptError { part: format!("answer {name}") });
            }
        };
        answer = Some(this);
    }
    let mut answer = answer.ok_or_else(|| unknown(value))?;
    if let Some(text) = value["saying"].as_str() {
        answer = answer.saying(text);
    }
    if let Some(text) = value["thinking"].as_str() {
        answer = answer.thinking(text);
    }
    if let Some(delay_ms) = value["delay_ms"].as_u64() {
        answer = answer.delay(Duration::from_millis(delay_ms));
    }
    Ok(answer.usage(usage(&value["usage"])))
}

fn error(status: &Value, value: &Value) -> Result<Answer, ScriptError> {
    let code = status.as_u64().and_then(|status| u16::try_from(status).ok()).ok_or_else(|| unknown(status))?;
    let usual = match code {
        401 => Answer::unauthorized(),
        404 => Answer::model_not_found(),
        429 => Answer::rate_limited(),
        529 => Answer::overloaded(),
        _ => Answer::error(code, "api_error", "scripted"),
    };
    let mut answer = match (value["kind"].as_str(), value["message"].as_str()) {
        (None, None) => usual,
        (kind, message) => Answer::error(code, kind.unwrap_or("api_error"), message.unwrap_or("scripted")),
    };
    for (name, value) in value["headers"].as_object().into_iter().flatten() {
        answer = answer.header(name, text_of(value)?);
    }
    Ok(answer)
}

fn usage(value: &Value) -> Usage {
    let usual = Usage::default();
    let count = |name: &str, otherwise| value[name].as_u64().unwrap_or(otherwise);
    Usage {
        input_tokens: count("input_tokens", usual.input_tokens),
        output_tokens: count("output_tokens", usual.output_tokens),
        cache_creation_tokens: count("cache_creation_tokens", usual.cache_creation_tokens),
        cache_read_tokens: count("cache_read_tokens", usual.cache_read_tokens),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_is_read() {
        let text = r#"{"rules": [
            {"when": {"tool_results": 0}, "answer": {"bash": "echo hello >> out.txt"}},
            {"when": {"contains": "flaky"}, "times": 2, "answer": {"error": 529}},
            {"answer": {"text": "Done.", "delay_ms": 20, "usage": {"input_tokens": 1000, "output_tokens": 50}}}
        ]}"#;
        Script::from_json(text).unwrap();
    }

    #[test]
    fn an_unknown_word_is_named() {
        let error = Script::from_json(r#"{"rules": [{"answer": {"txet": "hello"}}]}"#).unwrap_err();
        assert_eq!(error.to_string(), "not understood in the script: answer txet");
    }
}
