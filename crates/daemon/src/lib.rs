//! The supervisor daemon around the policy: settings, the worker's binary, the drive loop, the shim, the control socket.
//!
//! **Invariant:** one thread, no async runtime, no HTTP, no SQL, and no decision about the worker: those are in `policy`.

mod activity;
mod agent;
pub mod binary;
pub mod client;
mod clients;
mod compile;
pub mod config;
mod containment;
mod degraded;
mod doubt;
mod drive;
mod effects;
pub mod events;
mod evidence;
mod found;
mod guard;
mod home;
mod journal;
mod launch;
mod notify;
mod probation;
mod reason;
mod repetition;
mod runs;
mod said;
mod save;
mod seal;
mod secrets;
mod seen;
mod settle;
mod shim;
mod start;
mod state;
#[cfg(test)]
mod state_golden;
pub mod status;
mod succession;
mod survey;
mod tell;
mod text;
mod tools;
mod upward;
mod victims;

pub use agent::agent_source;
pub use compile::first_error;
pub use containment::{Unavailable, groups_of};
pub use drive::Daemon;
pub use home::Home;
pub use secrets::keep_secret;
pub use start::{StartError, start};
pub use succession::{HANDOVER, Heir, Invoked};
pub use text::{duration, memory as memory_text};
pub use upward::Supervisor;
