//! The real Claude Code CLI against the fake Messages API, where nothing can leave the machine.
//!
//! `harness` drives the CLI alone; `kills` and `faults` start `autopilot run` by hand; `supervised` has the daemon do it.

mod faults;
mod harness;
mod job;
mod kills;
mod supervised;
