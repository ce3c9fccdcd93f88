//! Why `cargo` did not build: the first line of its complaints that names an error.
//!
//! `cargo run` as the worker ends with 101 then, as a panicking worker does: what it said tells the two apart.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use policy::supervisor::Exit;
use wire::journal::Event;

use crate::drive::Daemon;

/// What cargo ends with when it could not build.
const BUILD_FAILED: i32 = 101;
/// Of a run's output only this much is looked through.
const MOST_BYTES: u64 = 1 << 20;

/// A run of cargo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CargoRun {
    run: u64,
    /// Where its output begins in the file.
    from: u64,
    /// Why it did not build, once that is known.
    pub(crate) error: Option<String>,
}

impl Daemon {
    /// Before a start: if it is one of cargo's, remember where its words will be.
    pub(crate) fn expect_build(&mut self, run: u64) {
        let is_cargo = self.launching.current().is_some_and(|launch| launch.source.is_none());
        let from = || std::fs::metadata(self.home.output_log()).map_or(0, |metadata| metadata.len());
        self.cargo_run = is_cargo.then(|| CargoRun { run, from: from(), error: None });
    }

    /// After an end, before it is told of: whether the build was the reason.
    pub(crate) fn judge_build(&mut self, run: u64, exit: Exit) {
        let Some(cargo) = self.cargo_run.as_mut().filter(|cargo| cargo.run == run) else { return };
        if exit != Exit::Code(BUILD_FAILED) {
            return;
        }
        cargo.error = tail(&self.home.output_log(), cargo.from).ok().and_then(|said| first_error(&said));
        if let Some(error) = cargo.error.clone() {
            let text = format!(
                "warning: build failed: {error}\n\
                 hint: mend it; a binary that was installed survives that: autopilotd install PATH"
            );
            self.tell(Event::BuildFailed { run, error }, &text);
        }
    }

    /// Why the newest run did not build, if that was it.
    pub(crate) fn build_failure(&self) -> Option<String> {
        let error = self.cargo_run.as_ref()?.error.as_ref()?;
        Some(format!("build failed: {error}"))
    }
}

/// The file may have been rotated since: then it begins anew.
fn tail(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() >= from {
        file.seek(SeekFrom::Start(from))?;
    }
    let mut said = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut said)?;
    Ok(said)
}

/// A terminal's colours are left out; a line is never longer than this.
const MOST_CHARS: usize = 200;

/// In what cargo and the compiler say for people.
#[must_use]
pub fn first_error(said: &[u8]) -> Option<String> {
    let text = plain(&String::from_utf8_lossy(said));
    let error = text.lines().map(str::trim).find(|line| line.starts_with("error:") || line.starts_with("error["))?;
    Some(error.chars().take(MOST_CHARS).collect())
}

/// Without escape sequences, and with a line for each carriage return.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                // CSI … up to its final letter.
                characters.by_ref().find(char::is_ascii_alphabetic);
            }
            '\r' => plain.push('\n'),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_named_without_colours() {
        let said = b"\x1b[1m\x1b[32m   Compiling\x1b[0m broken v0.1.0\n\x1b[1m\x1b[91merror[E0308]\x1b[0m: mismatched types\n --> src/main.rs:1\nerror: could not compile\n";
        assert_eq!(first_error(said).as_deref(), Some("error[E0308]: mismatched types"));
        assert_eq!(
            first_error(b"    Building [==> ] 3/9\rerror: no matching package\n").as_deref(),
            Some("error: no matching package")
        );
        assert_eq!(first_error(b"warning: an error: is here\nall is well\n"), None);
        assert_eq!(first_error(format!("error: {}", "x".repeat(5_000)).as_bytes()).map(|line| line.len()), Some(200));
    }
}
