//! What the tests, benches and the people who try things out share. Nothing here is part of the product.
//!
//! It stands on rustix and the standard library rather than on `os`, so that a mistake in the product's own process
//! code cannot blind the tests that look for it.
#![expect(clippy::disallowed_methods, reason = "the tests' clock, processes and environment are real ones")]

pub mod fake_api;
