//! A setting's value, and where it came from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A value and its origin: `autopilotd config` shows both.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting<T> {
    pub value: T,
    pub origin: Origin,
}

impl<T> Setting<T> {
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}

/// Who chose a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The flag's name, with its dashes.
    Flag(&'static str),
    /// The variable's name.
    Env(&'static str),
    /// Lines count from 1.
    File {
        path: Arc<Path>,
        line: usize,
    },
    Default,
    /// A default that moved with the named key, which was set beyond it.
    Follows(&'static str),
}

impl Origin {
    /// Whether a person chose the value.
    pub fn is_chosen(&self) -> bool {
        match self {
            Self::Flag(_) | Self::Env(_) | Self::File { .. } => true,
            Self::Default | Self::Follows(_) => false,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Env(name) => f.write_str(name),
            Self::File { path, line } => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                write!(f, "{}:{line}", name.to_string_lossy())
            }
            Self::Default => f.write_str("default"),
            Self::Follows(key) => write!(f, "default, follows {key}"),
        }
    }
}

/// A value of any key, as the table sees it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Optional, and nobody set it.
    Unset,
    Integer(u64),
    Float(f64),
    Text(String),
    Path(PathBuf),
    List(Vec<String>),
}

/// How a field's type is made from a value of its key's kind.
pub(super) trait FromValue: Sized {
    /// `None` if the table pairs a field with a kind of another type: a bug, which the tests of the table catch.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for u64 {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Integer(n) = value { Some(*n) } else { None }
    }
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        u64::from_value(value).and_then(|n| n.try_into().ok())
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Float(x) = value { Some(*x) } else { None }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.clone()) } else { None }
    }
}

impl FromValue for PathBuf {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Path(path) = value { Some(path.clone()) } else { None }
    }
}

impl FromValue for Vec<String> {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::List(list) = value { Some(list.clone()) } else { None }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        if *value == Value::Unset { Some(None) } else { T::from_value(value).map(Some) }
    }
}

/// Which rung of the containment ladder to use; `Auto` takes the highest that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containment {
    Auto,
    Cgroup2,
    Cgroup1,
    Subreaper,
    Group,
}

impl Containment {
    pub const NAMES: &'static [&'static str] = &["auto", "cgroup2", "cgroup1", "subreaper", "group"];

    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cgroup2 => "cgroup2",
            Self::Cgroup1 => "cgroup1",
            Self::Subreaper => "subreaper",
            Self::Group => "group",
        }
    }
}

impl FromValue for Containment {
    fn from_value(value: &Value) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        [Self::Auto, Self::Cgroup2, Self::Cgroup1, Self::Subreaper, Self::Group]
            .into_iter()
            .find(|rung| rung.name() == text)
    }
}

/// Whether copies of the worker's program are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    Auto,
    Off,
}

impl StoreMode {
    pub const NAMES: &'static [&'static str] = &["auto", "off"];
}

impl FromValue for StoreMode {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) if text == "auto" => Some(Self::Auto),
            Value::Text(text) if text == "off" => Some(Self::Off),
            Value::Text(_) | Value::Unset | Value::Integer(_) | Value::Float(_) | Value::Path(_) | Value::List(_) => {
                None
            }
        }
    }
}

/// When the copy of the agent is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentUpdate {
    Manual,
    OnNewVersion,
    Off,
}

impl AgentUpdate {
    pub const NAMES: &'static [&'static str] = &["manual", "on-new-version", "off"];
}

impl FromValue for AgentUpdate {
    fn from_value(value: &Value) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        let all = [Self::Manual, Self::OnNewVersion, Self::Off];
        Self::NAMES.iter().zip(all).find(|(name, _)| *name == text).map(|(_, update)| update)
    }
}
