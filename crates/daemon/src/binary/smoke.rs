//! The first question to a program: `--version`, answered within a time limit, before it may run as the worker. A script that
//! does not know the word is not asked: it would begin to work.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use os::child::{Child, Ended, Read};
use os::fail;
use os::poll::{Interest, Poller, Token};
use os::process::Send;
use os::spawn::Program;

use super::script::Script;

/// By which what it starts is found again.
const MARK: &str = "AUTOPILOT_RUN_ID";
/// Who starts processes faster than they are ended is not waited for.
const MOST_ROUNDS: u32 = 100;
/// So long may an answer take.
const WITHIN_MS: u64 = 5_000;
/// A machine that stood still meanwhile is given another chance.
const TRIES: u32 = 2;
/// What it says is not read beyond this.
const MOST_BYTES: usize = 4 << 10;
/// What is kept of it.
const MOST_CHARS: usize = 100;

/// What became of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Smoke {
    /// The first line of the answer.
    Version(String),
    /// It is not fit to run.
    Failed(String),
}

/// What a script that is not asked is called instead.
pub(super) const NOT_ASKED: &str = "a script, not asked";

/// Ask `program`; whatever it leaves behind is ended.
///
/// # Errors
/// If the machine has no room for the question: that says nothing about the program.
pub(super) fn test(program: &Path) -> io::Result<Smoke> {
    fail::point("smoke.ask")?;
    let script = Script::at(program)?;
    if let Some(check) = script.as_ref().and_then(|script| script.check(program))
        && !matches!(ask(&check)?, Some((Ended::Code(0), _)))
    {
        return Ok(Smoke::Failed("its shell can't read it to the end: is it whole?".to_owned()));
    }
    let is_asked = script.is_none_or(|script| script.knows_version());
    let smoke = if is_asked { version(program)? } else { Smoke::Version(NOT_ASKED.to_owned()) };
    fail::point("smoke.answered")?;
    Ok(smoke)
}

fn version(program: &Path) -> io::Result<Smoke> {
    let argv = [program.into(), "--version".into()];
    for _ in 0..TRIES {
        match ask(&argv) {
            Ok(Some((ended, said))) => return Ok(judge(ended, &said)),
            Ok(None) => {}
            Err(error) if is_verdict(&error) => return Ok(Smoke::Failed(format!("it can't be executed: {error}"))),
            Err(error) => return Err(error),
        }
    }
    let within = crate::text::duration(WITHIN_MS);
    Ok(Smoke::Failed(format!("it does not answer to --version within {within}")))
}

/// `None`: there was no end within the time.
fn ask(argv: &[OsString]) -> io::Result<Option<(Ended, Vec<u8>)>> {
    let foreign = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "AUTOPILOTD_SUPERVISED"];
    let name = format!("try-{:016x}", u64::from_ne_bytes(os::random::bytes::<8>()?));
    let asked = Program {
        argv: argv.to_vec(),
        env: vec![(MARK.into(), name.clone().into())],
        env_remove: foreign.map(Into::into).to_vec(),
    };
    let mut child = Child::spawn_untrusted(&asked, Path::new("/"))?;
    let answer = listen(&mut child);
    // What it has started, if anything.
    for _ in 0..MOST_ROUNDS {
        let left = os::tree::started_with(format!("{MARK}={name}").as_bytes())?;
        if left.is_empty() {
            break;
        }
        os::tree::kill_each(&left);
    }
    let (ended, said) = answer?;
    Ok(ended.map(|ended| (ended, said)))
}

fn listen(child: &mut Child) -> io::Result<(Option<Ended>, Vec<u8>)> {
    let poller = Poller::new()?;
    poller.add(&*child, Token(0), Interest::Readable)?;
    poller.add(&child.stdout, Token(1), Interest::Readable)?;
    poller.add(&child.stderr, Token(2), Interest::Readable)?;
    let until_ms = os::clock::monotonic_ms().saturating_add(WITHIN_MS);
    let mut said = Vec::new();
    let (mut stdout_open, mut stderr_open) = (true, true);
    let mut ready = Vec::new();
    loop {
        poller.wait_until(Some(until_ms), &mut ready)?;
        if stdout_open && !take(&child.stdout, &mut said)? {
            stdout_open = false;
            poller.remove(&child.stdout)?;
        }
        // Its complaints are nobody's business, but must not block it.
        if stderr_open && !take(&child.stderr, &mut vec![0; MOST_BYTES])? {
            stderr_open = false;
            poller.remove(&child.stderr)?;
        }
        if let Some(ended) = child.reap()? {
            take(&child.stdout, &mut said)?;
            return Ok((Some(ended), said));
        }
        if os::clock::monotonic_ms() >= until_ms {
            child.send(Send::Kill)?;
            poller.wait(Some(WITHIN_MS), &mut ready)?;
            child.reap()?;
            return Ok((None, said));
        }
    }
}

/// `false`: there will be no more. What is too much is read and dropped, so that it does not block.
fn take(pipe: &OwnedFd, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 1024];
    loop {
        match os::child::read(pipe, &mut buffer)? {
            Read::Bytes(count) => {
                let room = MOST_BYTES.saturating_sub(into.len());
                into.extend_from_slice(&buffer[..count.min(room)]);
            }
            Read::Empty => return Ok(true),
            Read::Closed => return Ok(false),
        }
    }
}

fn judge(ended: Ended, said: &[u8]) -> Smoke {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let shown: String = line.chars().filter(|c| !c.is_control()).take(MOST_CHARS).collect();
    match ended {
        Ended::Code(0) if shown.is_empty() => Smoke::Failed("it answers nothing to --version".to_owned()),
        Ended::Code(0) => Smoke::Version(shown),
        Ended::Code(code) => Smoke::Failed(format!("to --version it ends with exit status {code}")),
        Ended::Signal(signal) => Smoke::Failed(format!("at --version it dies of signal {signal}")),
    }
}

/// Whether execve(2) says this of the program, and not of the machine.
fn is_verdict(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
        || error.raw_os_error().is_some_and(|errno| VERDICTS.contains(&errno))
}

/// ENOEXEC, ELIBACC, ELIBBAD.
const VERDICTS: [i32; 3] = [os::spawn::ENOEXEC, 79, 80];
