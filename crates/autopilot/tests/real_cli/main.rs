//! The real Claude Code CLI against the fake Messages API, where nothing can leave the machine.
//!
//! `harness` drives the CLI alone; `kills`, `faults` and `ladder` start `autopilot run` by hand; `supervised`, `hung` and `secrets` have the daemon do it.

mod faults;
mod harness;
mod hung;
mod job;
mod kills;
mod ladder;
mod random_kills;
mod secrets;
mod supervised;
mod tasks;
