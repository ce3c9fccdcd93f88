//! The daemon from outside: real processes, a hostile worker, and everything that an operator, a crash or a stranger
//! can do to it.
#![expect(clippy::disallowed_methods, reason = "the tests' clock and processes are real ones")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod rig;

mod agents;
mod binaries;
mod builds;
mod commands;
mod concurrent;
mod crash;
mod events;
mod instance;
mod output;
mod reattach;
mod secrets;
mod service;
mod signals;
mod socket;
mod spoken;
mod stall;
mod start_errors;
mod told;
mod tree;
mod upgrade;
mod worker_errors;
