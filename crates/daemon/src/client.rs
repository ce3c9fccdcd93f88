//! The other end of the control socket: one request, one reply.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use os::poll::Poller;
use wire::control::{MAX_REPLY_BYTES, Reply, Request, Verb};

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no daemon answers at {}", socket.display())]
    NoDaemon {
        /// Where it would.
        socket: PathBuf,
    },
    /// It is somebody else's.
    #[error("the socket {} belongs to another user", socket.display())]
    NotPermitted {
        /// Where.
        socket: PathBuf,
    },
    /// The way to it is barred: where the home should be is no folder, or none that we may enter.
    #[error("the home {} cannot be used: {reason}", home.display())]
    Unreachable {
        /// The folder.
        home: PathBuf,
        /// Why.
        reason: String,
    },
    /// It ended, or was killed, before it had answered.
    #[error("the daemon at {} ended without an answer", socket.display())]
    Interrupted {
        /// Where.
        socket: PathBuf,
    },
    /// It is there, and silent: it was stopped (SIGSTOP), or hangs.
    #[error("the daemon at {} does not answer within {} s", socket.display(), QUESTION_MS / 1_000)]
    Silent {
        /// Where.
        socket: PathBuf,
    },
    /// Something else went wrong on the way.
    #[error("cannot ask the daemon at {}: {error}", socket.display())]
    Broken {
        /// Where.
        socket: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Ask the daemon that listens at `socket`, and wait for its reply: for a command that ends the worker, until its tree
/// is gone.
///
/// # Errors
/// [`AskError`]
pub fn ask(socket: &Path, verb: Verb) -> Result<Reply, AskError> {
    ask_for(socket, &Request::new(verb))
}

/// The same for a request that has more than a verb. A daemon that is just about to listen is waited for.
///
/// # Errors
/// [`AskError`]
pub fn ask_for(socket: &Path, request: &Request) -> Result<Reply, AskError> {
    let until_ms = os::clock::monotonic_ms().saturating_add(LISTENS_WITHIN_MS);
    loop {
        match ask_once(socket, request) {
            Err(AskError::NoDaemon { .. }) if begins(socket) && os::clock::monotonic_ms() < until_ms => {
                if Poller::new().and_then(|poller| poller.wait(Some(LOOK_EVERY_MS), &mut Vec::new())).is_err() {
                    return ask_once(socket, request);
                }
            }
            done => return done,
        }
    }
}

/// A command may take as long as the worker takes to end: whether anybody is there to hear it is asked before.
fn ask_once(socket: &Path, request: &Request) -> Result<Reply, AskError> {
    let question = Some(Duration::from_millis(QUESTION_MS));
    if request.verb == Verb::Status {
        return exchange(socket, request, question);
    }
    exchange(socket, &Request::new(Verb::Status), question)?;
    exchange(socket, request, None)
}

/// A daemon that begins, or takes another one's place, listens within this time.
const LISTENS_WITHIN_MS: u64 = 1_000;
const LOOK_EVERY_MS: u64 = 2;
/// A question is answered in less than a millisecond, also by a daemon that has much to do.
const QUESTION_MS: u64 = 5_000;

/// Whether the pid file beside the socket names a daemon: it is written before the daemon listens. It is not more than a
/// reason to look again.
fn begins(socket: &Path) -> bool {
    let pid = std::fs::read_to_string(socket.with_extension("pid")).ok().and_then(|text| text.trim().parse().ok());
    let name = pid.and_then(|pid| os::proc::stat(os::proc::root(), pid).ok()).filter(|stat| stat.state != 'Z');
    name.is_some_and(|stat| stat.name.starts_with("autopilotd"))
}

/// The same for a caller that does not wait for longer than so many milliseconds.
///
/// # Errors
/// [`AskError`]; if the time is over, [`AskError::Broken`].
pub fn ask_within(socket: &Path, verb: Verb, within_ms: u64) -> Result<Reply, AskError> {
    exchange(socket, &Request::new(verb), Some(Duration::from_millis(within_ms.max(1))))
}

/// Why not even what there is can be looked at, if that is so.
fn barred(socket: &Path) -> Option<String> {
    let error = std::fs::symlink_metadata(socket).err()?;
    let bars = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory);
    bars.then(|| crate::config::reason(&error))
}

fn exchange(socket: &Path, request: &Request, within: Option<Duration>) -> Result<Reply, AskError> {
    let place = || socket.to_owned();
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NoDaemon { socket: place() },
        // A path that is too long for a socket: nobody listens there.
        io::ErrorKind::InvalidInput => AskError::NoDaemon { socket: place() },
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => match barred(socket) {
            Some(reason) => AskError::Unreachable { home: socket.parent().unwrap_or(socket).to_owned(), reason },
            None => AskError::NotPermitted { socket: place() },
        },
        _ => AskError::Broken { socket: place(), error },
    })?;
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => AskError::Interrupted { socket: place() },
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if within.is_some() => AskError::Silent { socket: place() },
        _ => AskError::Broken { socket: place(), error },
    };
    stream.set_read_timeout(within).map_err(broken)?;
    let mut request = serde_json::to_vec(request).map_err(|e| broken(io::Error::other(e)))?;
    request.push(b'\n');
    stream.write_all(&request).map_err(broken)?;
    let mut line = Vec::new();
    let bounded = stream.take(MAX_REPLY_BYTES as u64);
    BufReader::new(bounded).read_until(b'\n', &mut line).map_err(broken)?;
    if line.last() != Some(&b'\n') {
        return Err(AskError::Interrupted { socket: place() });
    }
    serde_json::from_slice(&line).map_err(|error| broken(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_is_no_folder_is_no_daemon_of_another_user() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        std::fs::write(&home, "").unwrap();
        let error = ask(&home.join("autopilotd.sock"), Verb::Status).unwrap_err();
        assert_eq!(error.to_string(), format!("the home {} cannot be used: not a directory", home.display()));
    }
}
