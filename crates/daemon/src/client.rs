//! The other end of the control socket: one request, one reply.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wire::control::{MAX_REPLY_BYTES, Reply, Request, VERSION, Verb};

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
    /// It ended, or was killed, before it had answered.
    #[error("the daemon at {} ended without an answer", socket.display())]
    Interrupted {
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
    exchange(socket, verb, None)
}

/// The same for a caller that does not wait for longer than so many milliseconds.
///
/// # Errors
/// [`AskError`]; if the time is over, [`AskError::Broken`].
pub fn ask_within(socket: &Path, verb: Verb, within_ms: u64) -> Result<Reply, AskError> {
    exchange(socket, verb, Some(Duration::from_millis(within_ms.max(1))))
}

fn exchange(socket: &Path, verb: Verb, within: Option<Duration>) -> Result<Reply, AskError> {
    let place = || socket.to_owned();
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
            AskError::NoDaemon { socket: place() }
        }
        io::ErrorKind::PermissionDenied => AskError::NotPermitted { socket: place() },
        _ => AskError::Broken { socket: place(), error },
    })?;
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => AskError::Interrupted { socket: place() },
        _ => AskError::Broken { socket: place(), error },
    };
    stream.set_read_timeout(within).map_err(broken)?;
    let mut request = serde_json::to_vec(&Request { v: VERSION, verb }).map_err(|e| broken(io::Error::other(e)))?;
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
