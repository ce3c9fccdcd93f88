//! What is decided, and nothing else.
//!
//! One worker's supervisor ([`supervisor`]) as a state machine: `step(now, event)` changes the state once and says what
//! is to be done; the shell does it, drains it fully, and then waits until [`supervisor::Supervisor::deadline_ms`]. The
//! worker's own loop ([`work`]) has the same shape. [`probation`] judges the program that it runs.
//!
//! **Invariant:** no clock, no I/O, no randomness, no dependencies; `std` is not even linked. `now` is an argument, so
//! that months of faults fit into a test. All times are milliseconds on one monotonic clock.

#![no_std]

extern crate alloc;

pub mod probation;
pub mod queue;
pub mod supervisor;
pub mod work;
