//! The control socket, spoken by hand: what no well-behaved client would send can be sent, and answers can be timed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::hostile::monotonic_ns;

/// One connection.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<UnixStream>,
}

/// A reply, and when its last byte was here (CLOCK_MONOTONIC).
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub value: Value,
    pub at_ns: u64,
}

impl Reply {
    /// What a carried out command says to people; empty when it was not carried out.
    pub fn done(&self) -> &str {
        self.value["done"]["message"].as_str().unwrap_or_default()
    }

    /// What a refused or failed command says to people; empty when it was carried out.
    pub fn failed(&self) -> &str {
        self.value["failed"]["message"].as_str().unwrap_or_default()
    }
}

/// A request as it goes over the wire, its newline included.
pub fn request(verb: &str) -> Vec<u8> {
    format!("{{\"v\":1,\"verb\":\"{verb}\"}}\n").into_bytes()
}

impl Control {
    /// # Errors
    /// As of connect.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket)?) })
    }

    /// The connection itself, for what has no name here.
    pub fn stream(&self) -> &UnixStream {
        self.stream.get_ref()
    }

    /// # Errors
    /// As of write: a daemon that has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next reply; none when the connection is closed instead.
    ///
    /// # Panics
    /// When neither happens within the deadline, and when what comes is no JSON.
    pub fn reply(&mut self, deadline: Duration) -> Option<Reply> {
        self.try_reply(deadline).unwrap_or_else(|error| panic!("no reply within {deadline:?}: {error}"))
    }

    /// The same from a daemon that may be unable to answer.
    ///
    /// # Errors
    /// There is neither a reply nor an end within the deadline.
    ///
    /// # Panics
    /// When what comes is no JSON.
    pub fn try_reply(&mut self, deadline: Duration) -> io::Result<Option<Reply>> {
        self.stream.get_ref().set_read_timeout(Some(deadline))?;
        let mut line = String::new();
        Ok(match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => {
                let at_ns = monotonic_ns();
                let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
                Some(Reply { value, at_ns })
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Err(error) => return Err(error),
        })
    }

    /// Asks, and waits for the reply.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask(&mut self, verb: &str, deadline: Duration) -> Reply {
        self.send(&request(verb)).expect("send a request");
        self.reply(deadline).unwrap_or_else(|| panic!("closed without a reply to {verb}"))
    }

    /// Whether the other end closes the connection within the deadline, whatever it says before.
    pub fn is_closed_within(mut self, deadline: Duration) -> bool {
        self.stream.get_ref().set_read_timeout(Some(deadline)).expect("set the deadline");
        match self.stream.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
