//! The first question to a program: `--version`, answered within a time limit, before it may run as the worker. A program that
//! does not know the word is not asked: it would begin to work.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use os::child::{Child, Ended, Read};
use os::fail;
use os::poll::{Interest, Poller, Token};
use os::process::Send;
use os::spawn::Program;

use super::program;
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
    /// It can be executed and says nothing of itself: why that is known.
    Silent(String),
    /// It is not fit to run.
    Failed(String),
}

/// What a script that is not asked is called instead.
const SCRIPT: &str = "a script, not asked";
/// What machine code is called that is not asked, or has no answer.
pub(super) const NAMELESS: &str = "a program that does not tell its version";

/// Whether this is an answer, and not what is written in place of one.
pub(super) fn is_answer(version: &str) -> bool {
    ![SCRIPT, NAMELESS].contains(&version)
}

/// Ask `program`; whatever it leaves behind is ended. `must_answer`: there is another one, which has an answer.
///
/// # Errors
/// If the machine has no room for the question: that says nothing about the program.
pub(super) fn test(program: &Path, must_answer: bool) -> io::Result<Smoke> {
    fail::point("smoke.ask")?;
    let script = Script::at(program)?;
    if let Some(check) = script.as_ref().and_then(|script| script.check(program))
        && !matches!(ask(&check)?, Some((Ended::Code(0), _)))
    {
        return Ok(Smoke::Failed("its shell can't read it to the end: is it whole?".to_owned()));
    }
    let smoke = match script {
        Some(script) if !script.knows_version() => Smoke::Version(SCRIPT.to_owned()),
        None if !must_answer && !knows_version(program)? => Smoke::Version(NAMELESS.to_owned()),
        _ => version(program)?,
    };
    fail::point("smoke.answered")?;
    Ok(smoke)
}

/// Whether machine code has the word anywhere but in the names of an ELF file's own sections, `.gnu.version`. Who answers has it.
fn knows_version(program: &Path) -> io::Result<bool> {
    const WORD: &[u8] = b"version";
    const SECTION: &[u8] = b".gnu.";
    // The end of one piece is the beginning of the next.
    const OVERLAP_BYTES: usize = WORD.len() + SECTION.len();
    let file = File::open(program)?;
    let (mut buffer, mut offset) = (vec![0; 1 << 20], 0);
    loop {
        let length = program::read_at(&file, &mut buffer, offset)?;
        let piece = &buffer[..length];
        let found = |at: &usize| piece[*at..].starts_with(WORD) && !piece[..*at].ends_with(SECTION);
        // What stands before the first bytes of a later piece was seen with the piece before.
        let from = if offset == 0 { 0 } else { SECTION.len() };
        if (from..length).any(|at| found(&at)) {
            return Ok(true);
        }
        if length < buffer.len() {
            return Ok(false);
        }
        offset += (length - OVERLAP_BYTES) as u64;
    }
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
    Ok(Smoke::Silent(format!("it does not answer to --version within {within}")))
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
        Ended::Code(0) if shown.is_empty() => Smoke::Silent("it answers nothing to --version".to_owned()),
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
