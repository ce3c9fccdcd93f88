//! sd_notify(3): datagrams with `KEY=value` lines to the socket that the supervisor named; and who sent them, as the kernel says.

#![expect(
    unsafe_code,
    reason = "rustix takes a sender's pid for a number that is never 0, and of another namespace it is"
)]

use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::socket::Peer;

/// As long as one `SCM_CREDENTIALS` message, and no longer: descriptors that somebody sends find no room, and the kernel closes them.
const CREDENTIALS_BYTES: usize = 32;

/// Have the kernel say of each datagram who sent it: `SO_PASSCRED`, unix(7).
///
/// # Errors
/// As of setsockopt.
pub fn ask_for_senders(socket: &UnixDatagram) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_passcred(socket, true)?)
}

/// The next datagram, without waiting: its length and who sent it. `None`: the kernel does not say, or it was somebody outside of this
/// namespace of pids. What does not fit into the buffer is lost.
///
/// # Errors
/// As of recvmsg.
pub fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<(usize, Option<Peer>)> {
    let mut space = [0_u64; CREDENTIALS_BYTES / 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all of its members are numbers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    message.msg_controllen = 32;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message points to the buffer and to the space, both as long as it says, and they outlive the call.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let Ok(count) = usize::try_from(count) else { return Err(io::Error::last_os_error()) };
    Ok((count, sender(&message)))
}

fn sender(message: &libc::msghdr) -> Option<Peer> {
    // SAFETY: the kernel has filled it in; null if there is not even a header.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    // SAFETY: it only computes.
    let wanted = unsafe { libc::CMSG_LEN(12) };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
        || u64::try_from(header.cmsg_len).ok()? < u64::from(wanted)
    {
        return None;
    }
    // SAFETY: a message of this type and length carries a `ucred` of 12 bytes.
    let credentials = unsafe { libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned() };
    let pid = u32::try_from(credentials.pid).ok().filter(|&pid| pid != 0)?;
    Some(Peer { uid: credentials.uid, pid })
}

/// A supervisor's socket, or nobody.
#[derive(Debug)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// `socket` is the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name. `None`: nobody wants to know.
    ///
    /// # Errors
    /// A path that is too long for a socket's address, or no descriptor left.
    pub fn new(socket: Option<OsString>) -> io::Result<Self> {
        let Some(name) = socket.filter(|name| !name.is_empty()) else { return Ok(Self::silent()) };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(OsString::from_vec(name.into_vec()))?,
        };
        let from = UnixDatagram::unbound()?;
        from.set_nonblocking(true)?;
        Ok(Self { to: Some((from, address)) })
    }

    /// One that tells nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self { to: None }
    }

    /// Send one datagram. `false` if it did not arrive: nobody listens, or its queue is full. Never waits.
    pub fn send(&self, message: &str) -> bool {
        self.to.as_ref().is_some_and(|(from, address)| from.send_to_addr(message.as_bytes(), address).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_and_a_missing_listener_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.sock");
        let listener = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.clone().into_os_string())).unwrap();
        assert!(notifier.send("READY=1\nSTATUS=up"));
        let mut buffer = [0; 100];
        let bytes = listener.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..bytes], b"READY=1\nSTATUS=up");
        drop(listener);
        assert!(!notifier.send("WATCHDOG=1"));
        assert!(!Notifier::new(None).unwrap().send("WATCHDOG=1"));
        assert!(Notifier::new(Some("/x".repeat(200).into())).is_err());
    }

    #[test]
    fn an_abstract_name_is_understood() {
        let name = format!("autopilot-notify-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notifier = Notifier::new(Some(format!("@{name}").into())).unwrap();
        assert!(notifier.send("WATCHDOG=1"));
        assert_eq!(listener.recv(&mut [0; 100]).unwrap(), 10);
    }

    #[test]
    fn the_kernel_says_who_sent_a_message_and_what_comes_with_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.sock");
        let listener = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.into_os_string())).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(receive(&listener, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        notifier.send("one");
        assert_eq!(receive(&listener, &mut buffer).unwrap(), (3, None), "nobody has asked for it");
        ask_for_senders(&listener).unwrap();
        let own = Peer { uid: crate::process::effective_uid(), pid: std::process::id() };
        notifier.send("seven 7");
        assert_eq!(receive(&listener, &mut buffer).unwrap(), (7, Some(own)));
        assert_eq!(&buffer[..7], b"seven 7");
        // As systemd-notify does, which waits until the other end is closed.
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (from, to) = notifier.to.as_ref().unwrap();
        from.connect_addr(to).unwrap();
        let fds = [std::os::fd::AsFd::as_fd(&write)];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds));
        let bytes = [io::IoSlice::new(b"BARRIER=1")];
        rustix::net::sendmsg(from, &bytes, &mut control, rustix::net::SendFlags::empty()).unwrap();
        drop(write);
        assert_eq!(receive(&listener, &mut buffer).unwrap(), (9, Some(own)));
        assert_eq!(rustix::io::read(&read, &mut [0; 1]), Ok(0), "nobody has it any more");
    }
}
