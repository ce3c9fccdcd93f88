//! What can be wrong with the settings: values and places. Each problem reads as one line, with a hint that says what
//! to do.

use super::accept::{MAX_NAMES, MAX_TEXT_BYTES};
use super::keys::{Key, Kind, Unit};
use super::units::{show_bytes, show_millis};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Lines count from 1; none if it concerns the file as a whole.
    File {
        path: Arc<Path>,
        line: Option<usize>,
    },
    Env(&'static str),
    Flag(&'static str),
    Nowhere,
}

/// What does not fit about a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// Another type; perhaps what was meant is known.
    Type {
        write: Option<String>,
    },
    /// Outside the key's range, or not a finite number.
    Range,
    Empty,
    /// Contains a control character, or starts with a dash.
    Unprintable,
    LeadingDash,
    /// More than the kernel passes on in one argument.
    TooLong,
    /// `~` without a home to put in its place.
    NoUserHome,
    /// `~name`, which only a shell knows.
    OtherUsersHome,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("{message}")]
    Syntax { message: String },
    #[error("not UTF-8 text")]
    NotUtf8,
    #[error("no such file")]
    Missing,
    #[error("cannot read it: {reason}")]
    Unreadable { reason: String },
    #[error("larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("unknown key {key}{}", if section.is_empty() { String::new() } else { format!(" in [{section}]") })]
    UnknownKey { section: &'static str, key: String, meant: Option<Meant> },
    #[error("unknown section [{name}]")]
    UnknownSection { name: String, meant: Option<&'static str> },
    #[error("{name} is a section, found {found}")]
    NotASection { name: &'static str, found: String },
    #[error("{} wants {}, found {found}", key.name, wanted(key, misfit))]
    Value { key: &'static Key, found: String, misfit: Misfit },
    #[error("{} is set twice: {} and, on line {other_line}, {other}", key.name, this)]
    Twice { key: &'static Key, this: String, other: String, other_line: usize },
    #[error("{low} ({low_value}) is greater than {high} ({high_value})")]
    Disordered { low: &'static str, low_value: u64, high: &'static str, high_value: u64 },
    #[error("worker_command of type \"Binary\" has no path")]
    BinaryWithoutPath,
    #[error("worker_command: {key} does not go with type {kind:?}")]
    WrongForType { key: &'static str, kind: &'static str },
    #[error("worker_command has both path and manifest_path, and no type")]
    Ambiguous,
    #[error("working directory {}: {reason}", path.display())]
    WorkingDir { path: PathBuf, reason: String },
    #[error("{} names no folder", path.display())]
    Home { path: PathBuf, misfit: Misfit },
    #[error("the home {} cannot be used: {reason}", path.display())]
    ClosedHome { path: PathBuf, reason: String },
    #[error("neither AUTOPILOT_HOME nor HOME is set: no place for the daemon's files")]
    NoHome,
}

/// A better place or name for an unknown key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    Key(&'static str),
    Section { name: &'static str, key: &'static str },
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub place: Place,
    pub fault: Fault,
}

/// All that is wrong. Never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line: Some(line) } => write!(f, "{}:{line}: ", path.display())?,
            Place::File { path, line: None } => write!(f, "{}: ", path.display())?,
            // The variable's name takes the place of the key's: nobody who sets it needs to know the key.
            Place::Env(name) | Place::Flag(name) => {
                if let Fault::Value { key, found, misfit } = &self.fault {
                    return write!(f, "{name} wants {}, found {found}", wanted(key, misfit));
                }
                write!(f, "{name}: ")?;
            }
            Place::Nowhere => {}
        }
        self.fault.fmt(f)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl Problem {
    /// What to do about it: a line without an end.
    pub fn hint(&self) -> Option<String> {
        Some(match &self.fault {
            Fault::Syntax { message } if message.contains("quoted") => {
                "put text between double quotes: key = \"text\"".to_owned()
            }
            Fault::Missing => "create it, or leave --config out".to_owned(),
            Fault::Unreadable { .. } => "make it a file that you may read".to_owned(),
            Fault::UnknownKey { meant: Some(Meant::Key(name)), .. } => format!("write {name}"),
            Fault::UnknownKey { meant: Some(Meant::Section { name: "", key }), .. } => {
                format!("{key} belongs above the first [section]")
            }
            Fault::UnknownKey { meant: Some(Meant::Section { name, key }), .. } => {
                format!("{key} belongs under [{name}]")
            }
            Fault::UnknownKey { meant: None, .. } | Fault::UnknownSection { meant: None, .. } => {
                "`autopilotd config` shows every key".to_owned()
            }
            Fault::UnknownSection { meant: Some(name), .. } => format!("write [{name}]"),
            Fault::NotASection { name, .. } => {
                format!("write [{name}] on a line of its own and its keys below it")
            }
            Fault::Value { key, misfit, .. } => return value_hint(key, misfit, &self.place),
            Fault::Twice { .. } => "keep one of them".to_owned(),
            Fault::Syntax { message } if message.contains("duplicate") => "keep one of them".to_owned(),
            Fault::NotUtf8 => "save it as UTF-8".to_owned(),
            Fault::Disordered { low, high, high_value, .. } => {
                format!("raise {high}, or lower {low} to at most {high_value}")
            }
            Fault::BinaryWithoutPath => "write path = \"~/.autopilot/bin/autopilot\" below it".to_owned(),
            Fault::WrongForType { key: "path", .. } => "write type = \"Binary\", or remove path".to_owned(),
            Fault::WrongForType { key, .. } => format!("write type = \"Cargo\", or remove {key}"),
            Fault::Ambiguous => "write type = \"Binary\" and remove manifest_path".to_owned(),
            Fault::WorkingDir { .. } => "create it, or name another with --workdir or working_dir".to_owned(),
            Fault::NoHome | Fault::Home { .. } | Fault::ClosedHome { .. } => {
                "set AUTOPILOT_HOME to a folder of yours".to_owned()
            }
            Fault::Syntax { .. } | Fault::TooLarge { .. } => return None,
        })
    }
}

fn value_hint(key: &Key, misfit: &Misfit, place: &Place) -> Option<String> {
    Some(match misfit {
        Misfit::Type { write: Some(write) } => match place {
            Place::Env(name) => format!("{name}={write}"),
            Place::File { .. } | Place::Flag(_) | Place::Nowhere => format!("write {write}"),
        },
        Misfit::Unprintable | Misfit::LeadingDash => return None,
        Misfit::TooLong => "put the details into a file of the project, and name that file in the prompt".to_owned(),
        Misfit::Type { write: None } => default_of(key, place)?,
        Misfit::Range => match key.zero {
            Some(meaning) => format!("0 means {meaning}"),
            None => default_of(key, place)?,
        },
        Misfit::Empty => match place {
            Place::File { .. } => "remove the line to have the default".to_owned(),
            Place::Env(_) | Place::Flag(_) | Place::Nowhere => "leave it out to have the default".to_owned(),
        },
        Misfit::NoUserHome => "HOME is not set: write the whole path".to_owned(),
        Misfit::OtherUsersHome => "only ~/ is understood: write the whole path".to_owned(),
    })
}

fn default_of(key: &Key, place: &Place) -> Option<String> {
    let written = key.preset.written()?;
    Some(match place {
        Place::Env(name) => format!("{name}={written} is the default"),
        Place::File { .. } | Place::Flag(_) | Place::Nowhere => format!("the default is {written}"),
    })
}

/// What a key wants, as a fragment; the range only where the range is the trouble.
fn wanted(key: &Key, misfit: &Misfit) -> String {
    let with_range = *misfit == Misfit::Range;
    match key.kind {
        Kind::Integer { unit, min, max } if with_range => {
            let highest = match unit {
                Unit::Millis => format!("{max} ({})", show_millis(max)),
                Unit::Bytes if max < 1 << 50 => format!("{max} ({})", show_bytes(max)),
                Unit::Bytes | Unit::Count | Unit::Usd | Unit::Factor => max.to_string(),
            };
            format!("{} from {min} to {highest}", unit_noun(unit))
        }
        Kind::Float { unit, min, max } if with_range => {
            format!("{} from {min} to {max}", unit_noun(unit))
        }
        Kind::Integer { unit, .. } | Kind::Float { unit, .. } => unit_noun(unit).to_owned(),
        Kind::Text | Kind::Name => match misfit {
            Misfit::Unprintable => "text without control characters".to_owned(),
            Misfit::LeadingDash => "text that does not start with a dash".to_owned(),
            Misfit::TooLong => format!("text of at most {MAX_TEXT_BYTES} bytes"),
            _ => "text".to_owned(),
        },
        Kind::Path => "a path".to_owned(),
        Kind::List if with_range => format!("a list of at most {MAX_NAMES} names"),
        Kind::List => "a list of names".to_owned(),
        Kind::Choice(names) => {
            let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
            match quoted.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => quoted.concat(),
            }
        }
    }
}

fn unit_noun(unit: Unit) -> &'static str {
    match unit {
        Unit::Millis => "milliseconds",
        Unit::Bytes => "bytes",
        Unit::Count => "a whole number",
        Unit::Usd => "dollars",
        Unit::Factor => "a number",
    }
}
