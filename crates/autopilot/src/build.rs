//! `install --build`: cargo, with what it says for people shown as it comes, and the file that it made.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use daemon::config::{Config, Origin};
use os::child::{Child, Ended, Read};
use os::poll::{Interest, Poller, Token};
use os::spawn::Program;
use serde_json::Value;

use crate::cli::report::{Exit, Failure};

/// Of what it says for people only this much is looked through for the first error.
const MOST_BYTES: usize = 1 << 20;

/// Where to build: as the flag says, else here, else in the worker's working directory.
pub(crate) fn folder(config: Option<&Config>, here: PathBuf) -> PathBuf {
    let Some(working_dir) = config.map(|config| &config.job.working_dir) else { return here };
    let is_source = here.ancestors().any(|folder| folder.join("Cargo.toml").exists());
    if is_source && !matches!(working_dir.origin, Origin::Flag(_)) { here } else { working_dir.value.clone() }
}

/// Build the worker in this folder, and say where it is.
///
/// # Errors
/// It does not build.
pub(crate) fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let failed = |why: String| {
        Failure::new(Exit::Refused, format!("build failed: {why}")).hint("what was installed before is as it was")
    };
    let (ended, messages, said) = cargo(folder).map_err(|error| {
        failed(format!("cannot run cargo: {error}")).hint("is cargo on PATH? a finished build: autopilotd install PATH")
    })?;
    if ended != Ended::Code(0) {
        return Err(failed(daemon::first_error(&said).unwrap_or_else(|| "cargo does not say why".to_owned())));
    }
    executable(&messages).ok_or_else(|| failed("cargo names no program \"autopilot\"".to_owned()))
}

/// The program among the messages of cargo (`--message-format=json`).
fn executable(messages: &[u8]) -> Option<PathBuf> {
    let lines = messages.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let built = lines.filter(|value| value["reason"] == "compiler-artifact" && value["target"]["name"] == "autopilot");
    built.filter_map(|value| value["executable"].as_str().map(PathBuf::from)).next_back()
}

fn cargo(folder: &Path) -> io::Result<(Ended, Vec<u8>, Vec<u8>)> {
    let arguments = ["cargo", "build", "--release", "-p", "autopilot", "--message-format=json-render-diagnostics"];
    let mut env: Vec<(OsString, OsString)> = Vec::new();
    if io::stderr().is_terminal() {
        // Its words come through a pipe, and are shown on a terminal all the same.
        let shown = [("PROGRESS_WHEN", "always"), ("PROGRESS_WIDTH", "80"), ("COLOR", "always")];
        env.extend(shown.map(|(name, value)| (format!("CARGO_TERM_{name}").into(), value.into())));
    }
    let program = Program { argv: arguments.map(Into::into).to_vec(), env, env_remove: Vec::new() };
    let mut child = Child::spawn(&program, folder)?;
    let poller = Poller::new()?;
    poller.add(&child, Token(0), Interest::Readable)?;
    poller.add(&child.stdout, Token(1), Interest::Readable)?;
    poller.add(&child.stderr, Token(2), Interest::Readable)?;
    let (mut messages, mut said) = (Vec::new(), Vec::new());
    let (mut stdout_open, mut stderr_open) = (true, true);
    let mut ready = Vec::new();
    loop {
        poller.wait(None, &mut ready)?;
        if stdout_open && !take(&child.stdout, |bytes| messages.extend_from_slice(bytes))? {
            stdout_open = false;
            poller.remove(&child.stdout)?;
        }
        let show = |bytes: &[u8]| {
            io::stderr().write_all(bytes).ok();
            let room = MOST_BYTES.saturating_sub(said.len());
            said.extend_from_slice(&bytes[..bytes.len().min(room)]);
        };
        if stderr_open && !take(&child.stderr, show)? {
            stderr_open = false;
            poller.remove(&child.stderr)?;
        }
        if !stdout_open
            && !stderr_open
            && let Some(ended) = child.reap()?
        {
            return Ok((ended, messages, said));
        }
    }
}

/// `false`: there will be no more.
fn take(pipe: &OwnedFd, mut with: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut buffer = [0; 8192];
    loop {
        match os::child::read(pipe, &mut buffer)? {
            Read::Bytes(count) => with(&buffer[..count]),
            Read::Empty => return Ok(true),
            Read::Closed => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_what_cargo_says() {
        let messages = br#"{"reason":"compiler-artifact","target":{"name":"os"},"executable":null}
no json
{"reason":"compiler-artifact","target":{"name":"autopilotd"},"executable":"/t/release/autopilotd"}
{"reason":"compiler-artifact","target":{"name":"autopilot"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"autopilot"},"executable":"/t/release/autopilot"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(executable(messages), Some(PathBuf::from("/t/release/autopilot")));
        assert_eq!(executable(b""), None);
    }
}
