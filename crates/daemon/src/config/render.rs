//! `autopilotd config`: the settings in force and who chose them.
//!
//! The text is itself a valid `daemon.toml`, so that it can be kept as a start for one's own.

use super::keys::{Key, Kind, SECTIONS, Unit, keys};
use super::load::Config;
use super::units::{show_bytes, show_millis};
use super::value::{Origin, Setting, Value};
use serde_json::{Map, Value as Json, json};
use std::fmt::Write;

/// Version of the JSON.
const JSON_VERSION: u32 = 1;

/// A commented file of settings, aligned.
pub fn to_text(config: &Config) -> String {
    let mut rows: Vec<Row> = Vec::new();
    let mut settings = config.effective.iter();
    for section in SECTIONS {
        if !section.name.is_empty() {
            rows.push(Row::Header(section.name));
        }
        for (key, setting) in section.keys.iter().zip(settings.by_ref()) {
            let left = match &setting.value {
                Value::Unset => format!("# {} =", key.name),
                value => format!("{} = {}", key.name, toml_value(value)),
            };
            rows.push(Row::Line(left, remark(key, setting)));
        }
    }
    // A long path must not push every remark out of sight.
    let width = rows.iter().filter_map(Row::left_width).filter(|width| *width <= 60).max().unwrap_or(0);

    let state = if config.file_exists { "" } else { " (absent)" };
    let mut text = format!("# home: {}\n# file: {}{state}\n\n", config.home.display(), config.file.display());
    for row in rows {
        // Writing into a String cannot fail.
        let _ = match row {
            Row::Header(name) => writeln!(text, "\n[{name}]"),
            Row::Line(left, remark) => writeln!(text, "{left:width$}  # {remark}"),
        };
    }
    text
}

enum Row {
    Header(&'static str),
    Line(String, String),
}

impl Row {
    fn left_width(&self) -> Option<usize> {
        match self {
            Self::Header(_) => None,
            Self::Line(left, _) => Some(left.chars().count()),
        }
    }
}

/// `5 min · AUTOPILOT_STALL_TIMEOUT_MS`
fn remark(key: &Key, setting: &Setting<Value>) -> String {
    match meaning(key, &setting.value) {
        Some(meaning) => format!("{meaning} · {}", setting.origin),
        None => setting.origin.to_string(),
    }
}

/// A number for people, where the plain one is hard to read.
fn meaning(key: &Key, value: &Value) -> Option<String> {
    let zero = matches!(value, Value::Integer(0)) || matches!(value, Value::Float(x) if *x == 0.0);
    if let (true, Some(meaning)) = (zero, key.zero) {
        return Some(meaning.to_owned());
    }
    match (key.kind, value) {
        (Kind::Integer { unit: Unit::Millis, .. }, Value::Integer(n)) if *n >= 1_000 => Some(show_millis(*n)),
        (Kind::Integer { unit: Unit::Bytes, .. }, Value::Integer(n)) if *n >= 1_024 => Some(show_bytes(*n)),
        (Kind::Float { unit: Unit::Usd, .. }, Value::Float(x)) => Some(format!("${x:.2}")),
        _ => None,
    }
}

/// The same as data: `settings` by the key's path, each with `value` and `origin`.
pub fn to_json(config: &Config) -> Json {
    let mut settings = Map::new();
    for (key, setting) in keys().zip(&config.effective) {
        settings.insert(
            key.path.to_owned(),
            json!({ "value": json_value(&setting.value), "origin": json_origin(&setting.origin) }),
        );
    }
    json!({
        "version": JSON_VERSION,
        "home": config.home.to_string_lossy(),
        "file": config.file.to_string_lossy(),
        "file_exists": config.file_exists,
        "settings": settings,
    })
}

fn json_value(value: &Value) -> Json {
    match value {
        Value::Unset => Json::Null,
        Value::Integer(n) => json!(n),
        Value::Float(x) => json!(x),
        Value::Text(text) => json!(text),
        Value::Path(path) => json!(path.to_string_lossy()),
        Value::List(names) => json!(names),
    }
}

fn json_origin(origin: &Origin) -> Json {
    match origin {
        Origin::Flag(name) => json!({ "kind": "flag", "name": name }),
        Origin::Env(name) => json!({ "kind": "environment", "name": name }),
        Origin::File { path, line } => {
            json!({ "kind": "file", "path": path.to_string_lossy(), "line": line })
        }
        Origin::Default => json!({ "kind": "default" }),
        Origin::Follows(key) => json!({ "kind": "default", "follows": key }),
    }
}

/// The value as TOML writes it.
pub(super) fn toml_value(value: &Value) -> String {
    match value {
        Value::Unset => String::new(),
        Value::Integer(n) => n.to_string(),
        // `{:?}` always has a point or an exponent, as TOML demands of a float.
        Value::Float(x) => format!("{x:?}"),
        Value::Text(text) => quote(text),
        Value::Path(path) => quote(&path.to_string_lossy()),
        Value::List(names) => {
            let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
            format!("[{}]", names.join(", "))
        }
    }
}

/// A basic string of TOML.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
