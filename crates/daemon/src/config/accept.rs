//! Does a value fit its key? The same answer for file, variable and flag.

use super::keys::{Key, Kind, Unit};
use super::paths;
use super::problem::Misfit;
use super::units::{parse_bytes, parse_millis};
use super::value::Value;
use std::ffi::OsStr;
use std::path::Path;

/// A value as it stands at its source, before anything is known about its key.
#[derive(Debug, Clone)]
pub(super) enum Raw<'a> {
    /// `None` if it needs more than 128 bits.
    Integer(Option<i128>),
    Float(f64),
    Text(&'a str),
    Path(&'a OsStr),
    List(Vec<Option<&'a str>>),
    /// A truth value, a date, a table.
    Other,
}

/// Where relative paths and `~` lead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bases<'a> {
    pub(super) relative: &'a Path,
    pub(super) user_home: Option<&'a Path>,
}

/// The kernel passes on 128 KiB in one argument (MAX_ARG_STRLEN, execve(2)), and what the agent is told goes along with it.
pub(super) const MAX_TEXT_BYTES: usize = 100_000;

/// Longest list of names.
pub(super) const MAX_NAMES: usize = 64;

/// The value if it fits.
pub(super) fn accept(key: &Key, raw: &Raw<'_>, bases: Bases<'_>) -> Result<Value, Misfit> {
    match key.kind {
        Kind::Integer { unit, min, max } => integer(raw, unit, min, max),
        Kind::Float { min, max, .. } => float(raw, min, max),
        Kind::Text | Kind::Name | Kind::Choice(_) => text(key.kind, raw),
        Kind::Path => match raw {
            Raw::Text(path) => paths::resolve(OsStr::new(path), bases.relative, bases.user_home),
            Raw::Path(path) => paths::resolve(path, bases.relative, bases.user_home),
            _ => return Err(Misfit::Type { write: None }),
        }
        .map(Value::Path),
        Kind::List => list(raw),
    }
}

fn integer(raw: &Raw<'_>, unit: Unit, min: u64, max: u64) -> Result<Value, Misfit> {
    match raw {
        Raw::Integer(number) => number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| (min..=max).contains(number))
            .map(Value::Integer)
            .ok_or(Misfit::Range),
        Raw::Float(number) if !number.is_finite() => Err(Misfit::Range),
        Raw::Float(number) => Err(Misfit::Type { write: whole(*number, max) }),
        Raw::Text(text) => {
            let meant = match unit {
                Unit::Millis => parse_millis(text),
                Unit::Bytes => parse_bytes(text),
                Unit::Count | Unit::Usd | Unit::Factor => text.trim().parse().ok(),
            };
            let write = meant.filter(|number| (min..=max).contains(number));
            Err(Misfit::Type { write: write.map(|number| number.to_string()) })
        }
        Raw::Path(_) | Raw::List(_) | Raw::Other => Err(Misfit::Type { write: None }),
    }
}

/// `1000.0` is `1000`; `1000.5` is nothing that could be proposed.
fn whole(number: f64, max: u64) -> Option<String> {
    let text = format!("{number:.0}");
    let same = number >= 0.0 && number.fract() == 0.0;
    let fits = text.parse::<u64>().is_ok_and(|number| number <= max);
    (same && fits).then_some(text)
}

fn float(raw: &Raw<'_>, min: f64, max: f64) -> Result<Value, Misfit> {
    let number = match raw {
        Raw::Float(number) => *number,
        #[expect(clippy::cast_precision_loss, reason = "far beyond the range where it matters")]
        Raw::Integer(Some(number)) => *number as f64,
        Raw::Integer(None) => return Err(Misfit::Range),
        Raw::Text(text) => {
            let bare = text.trim().trim_start_matches('$');
            let meant = bare.parse().ok().filter(|number| (min..=max).contains(number));
            return Err(Misfit::Type { write: meant.map(|number| number.to_string()) });
        }
        Raw::Path(_) | Raw::List(_) | Raw::Other => return Err(Misfit::Type { write: None }),
    };
    // A NaN is in no range. Adding zero turns -0.0, which is in range, into 0.0.
    if (min..=max).contains(&number) { Ok(Value::Float(number + 0.0)) } else { Err(Misfit::Range) }
}

fn text(kind: Kind, raw: &Raw<'_>) -> Result<Value, Misfit> {
    let text = match raw {
        Raw::Text(text) => *text,
        Raw::Integer(Some(number)) if !matches!(kind, Kind::Choice(_)) => {
            return Err(Misfit::Type { write: Some(format!("\"{number}\"")) });
        }
        _ => return Err(Misfit::Type { write: None }),
    };
    if let Kind::Choice(names) = kind {
        if names.contains(&text) {
            return Ok(Value::Text(text.to_owned()));
        }
        let meant = super::suggest::nearest(text, names.iter().copied());
        return Err(Misfit::Type { write: meant.map(|name| format!("\"{name}\"")) });
    }
    if text.trim().is_empty() {
        return Err(Misfit::Empty);
    }
    let allowed = |c: char| !c.is_control() || (kind == Kind::Text && matches!(c, '\n' | '\t'));
    if !text.chars().all(allowed) {
        return Err(Misfit::Unprintable);
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(Misfit::TooLong);
    }
    if kind == Kind::Name && text.starts_with('-') {
        return Err(Misfit::LeadingDash);
    }
    Ok(Value::Text(text.to_owned()))
}

fn list(raw: &Raw<'_>) -> Result<Value, Misfit> {
    let names = match raw {
        Raw::List(names) => names,
        Raw::Text(name) => {
            return Err(Misfit::Type { write: Some(format!("[\"{name}\"]")) });
        }
        _ => return Err(Misfit::Type { write: None }),
    };
    let mut accepted = Vec::new();
    for name in names {
        match name {
            None => return Err(Misfit::Type { write: None }),
            Some("") => return Err(Misfit::Empty),
            Some(name) if name.chars().any(char::is_control) => return Err(Misfit::Unprintable),
            Some(name) => accepted.push((*name).to_owned()),
        }
    }
    if accepted.len() > MAX_NAMES { Err(Misfit::Range) } else { Ok(Value::List(accepted)) }
}

/// A variable's text is a bare value: numbers need no quotes to be taken off, paths need not be UTF-8.
pub(super) fn from_bare<'a>(key: &Key, text: &'a OsStr) -> Raw<'a> {
    match (key.kind, text.to_str()) {
        (Kind::Path, _) => Raw::Path(text),
        (Kind::Integer { .. }, Some(text)) => {
            let text = text.trim();
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                Raw::Integer(text.parse().ok())
            } else {
                Raw::Text(text)
            }
        }
        (Kind::Float { .. }, Some(text)) => text.trim().parse().map_or(Raw::Text(text), Raw::Float),
        (_, Some(text)) => Raw::Text(text),
        (_, None) => Raw::Other,
    }
}
