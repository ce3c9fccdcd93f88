//! The sender's side of sd_notify(3): one datagram with `KEY=value` lines to the socket that the supervisor named.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};

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
}
