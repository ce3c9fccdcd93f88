//! The command lines of `autopilotd` and `autopilot`: what they accept, and how they speak.
//!
//! **Invariant:** no logic. A command line becomes a value here, and a failure becomes sentences; what happens in between
//! is `daemon`'s and `worker`'s.

pub mod autopilotd;
mod binaries;
mod budget;
mod build;
pub mod cli;
pub mod demo;
mod events;
mod issues;
mod projects;
mod record;
mod service;
mod table;
mod tools;
mod upgrade;
pub mod worker_main;
