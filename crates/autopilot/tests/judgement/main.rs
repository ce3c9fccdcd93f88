//! The supervisor's judgement, from outside: who is ended and who is not, with real processes, control groups and
//! memory. What is measured here is promised in `PROMISES.md`.
//!
//! What a machine lacks is said out loud and left out; root's tests have a twin as an ordinary user.
#![expect(clippy::disallowed_methods, reason = "the tests' clock and processes are real ones")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stderr, reason = "figures and what was left out, for whoever reads the tests' output")]

#[path = "../daemon/rig.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod rig;

mod idle;
mod jail;
mod leaks;
mod stalls;
mod stranger;
mod survivors;
mod swarm;

/// Says loudly that a test proves nothing here, and why.
fn skip(why: &str) {
    eprintln!("SKIPPED, NOTHING IS PROVEN: {why}");
}

/// Prints a measured figure, for whoever keeps the promises' numbers, and says what the median is: a single one of them may
/// have had to wait for something else on the machine.
fn measured(what: &str, mut samples_ms: Vec<f64>) -> f64 {
    samples_ms.sort_by(f64::total_cmp);
    let (median, worst) = (samples_ms[samples_ms.len() / 2], samples_ms[samples_ms.len() - 1]);
    eprintln!("measured: {what}: median {median:.1} ms, worst {worst:.1} ms of {}", samples_ms.len());
    median
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
fn ms_between(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e6
}
