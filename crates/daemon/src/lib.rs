//! The supervisor daemon around the policy: settings, the worker's binary, the drive loop, the shim, the control socket.
//!
//! **Invariant:** one thread, no async runtime, no HTTP, no SQL, and no decision about the worker: those are in `policy`.

mod activity;
pub mod binary;
pub mod client;
mod clients;
pub mod config;
mod containment;
mod drive;
mod effects;
mod evidence;
mod found;
mod home;
mod launch;
mod notify;
mod repetition;
mod runs;
mod shim;
mod start;
mod state;
pub mod status;
mod survey;
mod text;
mod tools;

pub use containment::{Unavailable, groups_of};
pub use drive::Daemon;
pub use home::Home;
pub use start::{StartError, start};
pub use text::{duration, memory as memory_text};
