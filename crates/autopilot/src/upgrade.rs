//! `autopilotd upgrade`: what is tried before a running daemon is told to become another program.
//!
//! First what can be seen of the file, then its `--version`, then a rehearsal: the new program, with the daemon's own
//! arguments, folder and environment, says whether it would serve. Only then does the daemon become it; and if it can't serve
//! all the same, it goes back (see `daemon`, `succession`).

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use os::child::{Child, Ended, Read};
use os::poll::{Interest, Poller, Token};
use os::process::Send;
use os::spawn::Program;

use crate::cli::report::{Exit, Failure};

/// Set: say whether this program would serve, and don't.
pub(crate) const REHEARSAL: &str = "AUTOPILOTD_REHEARSAL";

/// What a program that would serve says then.
pub(crate) const WOULD_SERVE: &str = "autopilotd would serve; it understands handover 1";

/// So long may the new program take for each answer.
const ANSWERS_WITHIN_MS: u64 = 5_000;

/// What it says is not read beyond this.
const MOST_BYTES: usize = 64 << 10;

/// The program that is to be become, by its absolute path.
///
/// # Errors
/// It does not exist, or is no file that can be executed.
pub(crate) fn program(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .map_err(|error| Failure::new(Exit::Internal, format!("cannot tell which program this is: {error}")))?,
    };
    let wrong = |why: &str| Failure::new(Exit::Config, format!("cannot upgrade to {}: {why}", path.display()));
    let unseen =
        |error: io::Error| wrong(&error.to_string()).hint("name a program that is there: autopilotd upgrade PATH");
    let absolute = path.canonicalize().map_err(unseen)?;
    let meta = std::fs::metadata(&absolute).map_err(unseen)?;
    if !meta.is_file() {
        return Err(wrong("it is no file").hint("name the program itself"));
    }
    use std::os::unix::fs::PermissionsExt;
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(wrong("it is not executable").hint(format!("chmod +x {}", path.display())));
    }
    Ok(absolute)
}

/// Try it, as far as that is possible without ending the running daemon, whose pid this is.
///
/// # Errors
/// It would not serve.
pub(crate) fn rehearse(program: &Path, daemon_pid: u32) -> Result<(), Failure> {
    let wrong = |why: String| {
        Failure::new(Exit::Config, format!("cannot upgrade to {}: {why}", program.display()))
            .hint("the running daemon was not touched")
    };
    let version = answer(vec![program.into(), "--version".into()], None).map_err(|why| wrong(why.to_string()))?;
    if !version.stdout.starts_with("autopilotd ") {
        return Err(wrong(format!("it is no autopilotd: to --version it answers {:?}", first_line(&version))));
    }
    let Some((arguments, surroundings)) = surroundings_of(daemon_pid) else {
        // Where /proc is hidden: the daemon still goes back if it can't serve.
        return Ok(());
    };
    let argv = std::iter::once(program.into()).chain(arguments).collect();
    let rehearsal = answer(argv, Some(surroundings)).map_err(|why| wrong(why.to_string()))?;
    if rehearsal.ended != Ended::Code(0) || !rehearsal.stdout.contains(WOULD_SERVE) {
        return Err(wrong(format!("it would not serve: {}", first_line(&rehearsal))));
    }
    Ok(())
}

/// Where and how the running daemon was started.
struct Surroundings {
    folder: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

fn surroundings_of(pid: u32) -> Option<(Vec<OsString>, Surroundings)> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let words = |name: &str| -> Option<Vec<Vec<u8>>> {
        let bytes = std::fs::read(folder.join(name)).ok()?;
        Some(bytes.split(|&b| b == 0).map(<[u8]>::to_vec).collect())
    };
    let mut arguments: Vec<OsString> = words("cmdline")?.into_iter().map(OsString::from_vec).collect();
    // Each word ends with a NUL, the last one, too.
    arguments.pop();
    let pair = |variable: Vec<u8>| {
        let at = variable.iter().position(|&b| b == b'=')?;
        Some((OsString::from_vec(variable[..at].to_vec()), OsString::from_vec(variable[at + 1..].to_vec())))
    };
    // Of the upgrade before this one.
    let environment =
        words("environ")?.into_iter().filter_map(pair).filter(|(name, _)| name != daemon::HANDOVER).collect();
    let cwd = std::fs::read_link(folder.join("cwd")).ok()?;
    Some((arguments.into_iter().skip(1).collect(), Surroundings { folder: cwd, environment }))
}

struct Answer {
    ended: Ended,
    stdout: String,
    stderr: String,
}

fn first_line(answer: &Answer) -> String {
    let line = |text: &str| text.lines().find(|line| !line.trim().is_empty()).map(str::to_owned);
    line(&answer.stderr).or_else(|| line(&answer.stdout)).unwrap_or_else(|| match answer.ended {
        Ended::Code(code) => format!("(nothing; exit status {code})"),
        Ended::Signal(signal) => format!("(nothing; killed by signal {signal})"),
    })
}

fn answer(argv: Vec<OsString>, surroundings: Option<Surroundings>) -> io::Result<Answer> {
    let (folder, env, env_remove) = match surroundings {
        Some(Surroundings { folder, mut environment }) => {
            let own = std::env::vars_os().map(|(name, _)| name);
            let foreign = own.filter(|name| environment.iter().all(|(known, _)| known != name)).collect();
            environment.push((REHEARSAL.into(), "1".into()));
            (folder, environment, foreign)
        }
        None => (PathBuf::from("/"), Vec::new(), Vec::new()),
    };
    let mut child = Child::spawn(&Program { argv, env, env_remove }, &folder)?;
    let poller = Poller::new()?;
    poller.add(&child, Token(0), Interest::Readable)?;
    let until_ms = os::clock::monotonic_ms().saturating_add(ANSWERS_WITHIN_MS);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        poller.wait(Some(10), &mut Vec::new())?;
        take(&child.stdout, &mut stdout)?;
        take(&child.stderr, &mut stderr)?;
        if let Some(ended) = child.reap()? {
            take(&child.stdout, &mut stdout)?;
            take(&child.stderr, &mut stderr)?;
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Answer { ended, stdout: text(stdout), stderr: text(stderr) });
        }
        if os::clock::monotonic_ms() >= until_ms {
            child.send(Send::Kill)?;
            poller.wait(Some(1_000), &mut Vec::new())?;
            child.reap()?;
            return Err(io::Error::other("it does not answer within 5 s"));
        }
    }
}

/// What is there; what is too much is read and dropped, so that it does not block.
fn take(pipe: &OwnedFd, into: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while let Read::Bytes(count) = os::child::read(pipe, &mut buffer)? {
        let room = MOST_BYTES.saturating_sub(into.len());
        into.extend_from_slice(&buffer[..count.min(room)]);
    }
    Ok(())
}
