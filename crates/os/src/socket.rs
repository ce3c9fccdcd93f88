//! Local sockets: the control socket, the notify socket, and who is at the other end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use crate::fail;

/// The longest path that a socket can have: `sun_path` of unix(7) less the final NUL.
pub const MAX_PATH_BYTES: usize = 107;

/// Listen at `path`, non-blocking, for the owner only (0600). A socket file that a dead process left is replaced; the
/// caller must hold the lock that says that no live one uses it.
///
/// # Errors
/// As of unlink, bind and chmod.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    remove_if_there(path)?;
    fail::point("control.bind")?;
    let listener = UnixListener::bind(path)?;
    fail::point("control.make-private")?;
    make_own(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Receive datagrams at `path`, likewise, and hear who sends them.
///
/// # Errors
/// As of [`listen`].
pub fn receive_at(path: &Path) -> io::Result<UnixDatagram> {
    remove_if_there(path)?;
    fail::point("notify.bind")?;
    let socket = UnixDatagram::bind(path)?;
    crate::notify::ask_for_senders(&socket)?;
    make_own(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    fail::point_at("socket.replace", path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn make_own(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The process; it may have ended since.
    pub pid: u32,
}

/// As the kernel noted it at connect.
///
/// # Errors
/// As of getsockopt.
pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(Peer { uid: credentials.uid.as_raw(), pid: credentials.pid.as_raw_nonzero().get().unsigned_abs() })
}

/// A one-way pair of descriptors, both close-on-exec, the reading end non-blocking.
///
/// # Errors
/// As of pipe2.
pub fn wire() -> io::Result<(WireEnd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK)?;
    Ok((WireEnd { fd: read, pending: Vec::new() }, write))
}

/// The reading end of [`wire`]: whole lines, bounded.
#[derive(Debug)]
pub struct WireEnd {
    fd: OwnedFd,
    pending: Vec<u8>,
}

/// What a look at the wire found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireRead {
    /// These lines, without their newlines.
    Lines(Vec<Vec<u8>>),
    /// The last writer is gone. What came before was returned before.
    End,
}

/// A line on the wire is never longer; a longer one is cut.
const MAX_WIRE_LINE_BYTES: usize = 4096;

impl WireEnd {
    /// What has come, without waiting.
    ///
    /// # Errors
    /// As of read.
    pub fn read(&mut self) -> io::Result<WireRead> {
        let mut buffer = [0_u8; MAX_WIRE_LINE_BYTES];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(0) => return Ok(WireRead::End),
            Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut lines = Vec::new();
        while let Some(end) = self.pending.iter().position(|&b| b == b'\n') {
            let rest = self.pending.split_off(end + 1);
            self.pending.pop();
            lines.push(std::mem::replace(&mut self.pending, rest));
        }
        self.pending.truncate(MAX_WIRE_LINE_BYTES);
        Ok(WireRead::Lines(lines))
    }
}

impl AsFd for WireEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Write all of it to the writing end of a [`wire`]. A reader that is gone is not an error: nobody has to know.
pub fn write_to_wire(wire: &OwnedFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(wire, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Write to a descriptor that may be a pipe which nobody reads or a full terminal: what it can't take at once is
/// dropped, so that the writer never blocks. Says whether all was written.
pub fn write_if_room(fd: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let own = own_end_of_pipe(fd);
    let fd = own.as_ref().map_or(fd, AsFd::as_fd);
    // A pipe with room has room for a page (pipe(7)); more than that in one write could block.
    for chunk in bytes.chunks(4096) {
        let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let room = matches!(poll(&mut fds, Some(&now)), Ok(1..)) && fds[0].revents().contains(PollFlags::OUT);
        if !room || rustix::io::write(fd, chunk) != Ok(chunk.len()) {
            return false;
        }
    }
    true
}

/// A pipe's writing end that is non-blocking: somebody else may write to the same pipe, and take the room that was there
/// a moment ago. The one that was given can't be made so, because others share it. None where it is no pipe, or belongs
/// to another user.
fn own_end_of_pipe(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    use rustix::fs::{FileType, Mode, OFlags};
    let mode = rustix::fs::fstat(fd).ok()?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::Fifo {
        return None;
    }
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    rustix::fs::open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_dead_socket_file_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(listen(&path).unwrap());
        assert!(path.exists(), "closing does not unlink");
        let listener = listen(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(peer(&server).unwrap(), Peer { uid: crate::process::effective_uid(), pid: std::process::id() });
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(client);
    }

    #[test]
    fn a_wire_gives_whole_lines_then_its_end() {
        let (mut read, write) = wire().unwrap();
        write_to_wire(&write, b"one\ntw");
        assert_eq!(read.read().unwrap(), WireRead::Lines(vec![b"one".to_vec()]));
        write_to_wire(&write, b"o\n");
        assert_eq!(read.read().unwrap(), WireRead::Lines(vec![b"two".to_vec()]));
        assert_eq!(read.read().unwrap(), WireRead::Lines(vec![]));
        drop(write);
        assert_eq!(read.read().unwrap(), WireRead::End);
    }

    #[test]
    fn a_pipe_that_nobody_reads_does_not_block_the_writer() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut written = 0;
        while write_if_room(write.as_fd(), &[b'x'; 1000]) {
            written += 1000;
            assert!(written < 10_000_000, "a pipe is not that large");
        }
        assert!(written > 0);
        // What is free for one is not free for two: without room, a write says so at once.
        let own = own_end_of_pipe(write.as_fd()).unwrap();
        assert_eq!(rustix::io::write(&own, &[b'x'; 4096]), Err(rustix::io::Errno::AGAIN));
        drop(read);
    }
}
