//! Fail points: named places at which a test can have this process die, dawdle, or be told of an error that the kernel
//! did not have.
//!
//! `AUTOPILOT_FAIL`, read once by a process and shared by its forks, is a list of `name=fault` or `name=fault@n` (the
//! n-th pass only), separated by `;`. Faults: `abort` (SIGKILL to itself), `delay` (50 ms), `enospc`, `eio`, `emfile`,
//! `enomem`. A place that many files pass has their names appended: `file.write:state.json`. Each pass is noted as a
//! line in the file that `AUTOPILOT_FAIL_HITS` names.
//!
//! **Invariant:** builds without debug assertions contain nothing of this, neither code nor names (`cargo xtask release`
//! looks). [`POINTS`] lists every place; a tidy test compares it with the source.

use std::io;
use std::path::Path;

mod points;
#[cfg(debug_assertions)]
mod set;
#[cfg(debug_assertions)]
mod trace;

pub use points::{POINTS, Point};

/// This place is passed.
///
/// # Errors
/// The one that a test asks for.
#[cfg(debug_assertions)]
pub fn point(name: &'static str) -> io::Result<()> {
    set::pass(|| name.to_owned())
}

/// This place is passed with that file.
///
/// # Errors
/// The one that a test asks for.
#[cfg(debug_assertions)]
pub fn point_at(name: &'static str, path: &Path) -> io::Result<()> {
    set::pass(|| format!("{name}:{}", path.file_name().unwrap_or_default().to_string_lossy()))
}

/// Whether a test wants this fact about that file not to be noticed (`name:file=ignore`): to see that what relies on it
/// would fail without it.
#[cfg(debug_assertions)]
pub(crate) fn ignored(name: &'static str, path: &Path) -> bool {
    set::ignored(|| format!("{name}:{}", path.file_name().unwrap_or_default().to_string_lossy()))
}

/// Never: this is no build for tests.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn ignored(_: &'static str, _: &Path) -> bool {
    false
}

/// This file or folder is on the disk now, as it is: for a test that takes the power away.
#[cfg(debug_assertions)]
pub fn synced(file: &std::fs::File) {
    set::synced(file);
}

/// `AUTOPILOT_FAIL_BOOT_ID`: what a process of another boot would have left.
#[cfg(debug_assertions)]
pub(crate) fn boot_id() -> Option<String> {
    set::boot_id()
}

/// Nothing, likewise.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn synced(_: &std::fs::File) {}

/// Nothing, likewise.
#[cfg(not(debug_assertions))]
pub(crate) fn boot_id() -> Option<String> {
    None
}

/// Nothing: this is no build for tests.
///
/// # Errors
/// None.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: &'static str) -> io::Result<()> {
    Ok(())
}

/// Nothing, likewise.
///
/// # Errors
/// None.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point_at(_: &'static str, _: &Path) -> io::Result<()> {
    Ok(())
}
