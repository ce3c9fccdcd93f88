//! The real Claude Code CLI against the fake Messages API, where nothing can leave the machine.
//!
//! `harness` drives the CLI alone; the others start `autopilot run` by hand, as the contract between the CLI's words and
//! the worker's outcomes.

mod faults;
mod harness;
mod job;
mod kills;
