//! The programs that are asked: systemctl, crontab. Each gets a few seconds.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use os::child::{Child, Ended, Read};
use os::poll::{Interest, Poller, Token};
use os::process::Send;
use os::spawn::Program;

/// A stop of the unit waits for the worker's end.
const ENDS_WITHIN_MS: u64 = 90_000;

#[derive(Debug)]
pub(super) struct Said {
    pub(super) ok: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// # Errors
/// It can't be executed, or does not end in time.
pub(super) fn run(words: &[&str]) -> io::Result<Said> {
    let argv = words.iter().map(OsString::from).collect();
    let mut child = Child::spawn(&Program { argv, env: Vec::new(), env_remove: Vec::new() }, Path::new("/"))?;
    let poller = Poller::new()?;
    poller.add(&child, Token(0), Interest::Readable)?;
    let until_ms = os::clock::monotonic_ms().saturating_add(ENDS_WITHIN_MS);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        poller.wait(Some(10), &mut Vec::new())?;
        let ended = child.reap()?;
        for (pipe, into) in [(&child.stdout, &mut stdout), (&child.stderr, &mut stderr)] {
            let mut buffer = [0; 4096];
            while let Read::Bytes(count) = os::child::read(pipe, &mut buffer)? {
                into.extend_from_slice(&buffer[..count]);
            }
        }
        if let Some(ended) = ended {
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Said { ok: ended == Ended::Code(0), stdout: text(stdout), stderr: text(stderr) });
        }
        if os::clock::monotonic_ms() >= until_ms {
            child.send(Send::Kill)?;
            return Err(io::Error::other(format!("{} does not end", words.join(" "))));
        }
    }
}
