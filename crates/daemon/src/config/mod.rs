//! The settings: where they come from, what they may be, and how to say what is wrong with them.
//!
//! Owns the table of keys ([`SECTIONS`]), the environment variables ([`EnvVars`]) and the precedence flag > environment
//! > file > default. [`load`] is pure: text in, [`Config`] or every [`Problem`] out; only `source` touches the disk.
//!
//! **Invariant:** half a config is no config. One wrong line, also one that a flag would have overridden, and nothing
//! is returned but the problems. An earlier implementation ignored the whole file with a warning instead, and ran for
//! days with settings that nobody had chosen.

mod accept;
mod check;
pub mod env;
mod file;
mod keys;
mod load;
mod paths;
mod problem;
mod reference;
mod render;
mod source;
mod suggest;
mod units;
mod value;

#[cfg(test)]
mod tests;

pub use env::{EnvVars, Environment};
pub use keys::{Job, Key, Kind, Memory, Output, Restart, SECTIONS, Section, Unit, keys};
pub use load::{AgentSearch, Config, Flags, Inputs, Loaded, Warning, WorkerCommand, load};
pub use paths::{config_path, home_path};
pub use problem::{Fault, Misfit, Place, Problem, Problems};
pub use reference::{environment_reference, settings_reference};
pub use render::{to_json, to_text};
pub(crate) use source::reason;
pub use source::{Content, FileSource, check_working_dir, read};
pub use value::{AgentUpdate, Containment, Origin, Setting, StoreMode, Value};
