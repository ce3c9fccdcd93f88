//! The daemon may die at any instant, and be refused anything at any place: what the next one makes of it.
//!
//! Only builds with debug assertions have fail points.
#![cfg(debug_assertions)]
#![expect(clippy::disallowed_methods, reason = "the tests' clock and processes are real ones")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stderr, reason = "figures, for whoever reads the tests' output")]

#[path = "../daemon/rig.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod rig;

mod degraded;
mod install;
mod matrix;
mod power;
mod race;
mod recorded;
mod room;
mod scene;
mod witness;
