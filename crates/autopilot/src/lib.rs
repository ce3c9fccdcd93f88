//! The command lines of `autopilotd` and `autopilot`: what they accept, and how they speak.
//!
//! **Invariant:** no logic. A command line becomes a value here, and a failure becomes sentences; what happens in between
//! is `daemon`'s and `worker`'s.

pub mod autopilotd;
pub mod cli;
pub mod demo;
pub mod worker_main;
