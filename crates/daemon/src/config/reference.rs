//! The printed reference of settings and environment variables, as Markdown; `cargo xtask gen` writes it down.

use super::env::{EnvVars, SetBy};
use super::keys::{Key, Kind, Preset, SECTIONS, Unit};
use super::render::toml_value;
use super::units::{show_bytes, show_millis};
use super::value::Value;

/// A table for each section of the file.
pub fn settings_reference() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let title = if section.name.is_empty() {
            "Above the first section".to_owned()
        } else {
            format!("`[{}]`", section.name)
        };
        text += &format!("### {title}\n\n{}\n\n", section.doc.trim());
        text += "| key | default | meaning |\n| --- | --- | --- |\n";
        for key in section.keys {
            text += &format!("| `{}` | {} | {} |\n", key.name, default(key), meaning(key));
        }
        text += "\n";
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn default(key: &Key) -> String {
    let shown = |value: Value| format!("`{}`", toml_value(&value));
    let people = |number: u64, unit: Unit| match unit {
        _ if number == 0 => key.zero.map(str::to_owned),
        Unit::Millis => Some(show_millis(number)),
        Unit::Bytes => Some(show_bytes(number)),
        Unit::Count | Unit::Usd | Unit::Factor => None,
    };
    match (key.preset, key.kind) {
        (Preset::Unset, _) => "none".to_owned(),
        (Preset::CurrentDir, _) => "current directory".to_owned(),
        (Preset::Integer(number), Kind::Integer { unit, .. }) => match people(number, unit) {
            Some(people) => format!("`{number}` ({people})"),
            None => format!("`{number}`"),
        },
        (Preset::Integer(number), _) => shown(Value::Integer(number)),
        (Preset::Float(number), _) => shown(Value::Float(number)),
        (Preset::Text(text), _) => shown(Value::Text(text.to_owned())),
        (Preset::List(names), _) => shown(Value::List(names.iter().map(|name| (*name).to_owned()).collect())),
    }
}

fn meaning(key: &Key) -> String {
    let mut text = key.doc.trim().to_owned();
    match key.kind {
        Kind::Choice(names) => {
            let names: Vec<String> = names.iter().map(|name| format!("`\"{name}\"`")).collect();
            text += &format!(" One of {}.", names.join(", "));
        }
        Kind::Integer { min, .. } if min > 0 => text += &format!(" At least {min}."),
        Kind::Float { min, .. } if min > 0.0 => text += &format!(" At least {min}."),
        Kind::Integer { .. } | Kind::Float { .. } | Kind::Text | Kind::Name | Kind::Path | Kind::List => {}
    }
    if let Some(zero) = key.zero {
        text += &format!(" 0: {zero}.");
    }
    let sources: Vec<String> = key.flag.iter().chain(&key.env).map(|name| format!("`{name}`")).collect();
    if !sources.is_empty() {
        text += &format!(" Also {}.", sources.join(", "));
    }
    text
}

/// A table of the variables that people set, and one of those that the daemon sets for the worker.
pub fn environment_reference() -> String {
    let table = |wanted: SetBy| {
        let mut text = "| variable | meaning |\n| --- | --- |\n".to_owned();
        for (name, _, doc) in EnvVars::ALL.iter().filter(|(_, set_by, _)| *set_by == wanted) {
            text += &format!("| `{name}` | {doc} |\n");
        }
        text
    };
    format!("{}\nThe daemon sets for the worker:\n\n{}", table(SetBy::User), table(SetBy::Daemon))
}
