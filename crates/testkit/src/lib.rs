//! What the tests, benches and the people who try things out share. Nothing here is part of the product.
//!
//! It stands on rustix and the standard library rather than on `os`, so that a mistake in the product's own process
//! code cannot blind the tests that look for it.
#![expect(clippy::disallowed_methods, reason = "the tests' clock, processes and environment are real ones")]
#![expect(clippy::print_stderr, reason = "what is printed here shows up when a test fails")]

pub mod binaries;
pub mod claude;
pub mod control;
pub mod days;
pub mod ends;
pub mod fake_api;
pub mod floor;
pub mod home;
pub mod hostile;
pub mod kill_loop;
pub mod netns;
pub mod processes;
pub mod pty;
pub mod random;
pub mod rlog;
pub mod vitals;
