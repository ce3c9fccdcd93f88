//! The daemon from outside: real processes, a hostile worker, and everything that an operator, a crash or a stranger
//! can do to it.
#![expect(clippy::disallowed_methods, reason = "the tests' clock and processes are real ones")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod rig;

mod commands;
mod concurrent;
mod crash;
mod instance;
mod output;
mod signals;
mod socket;
mod spoken;
mod stall;
mod start_errors;
mod tree;
mod worker_errors;
