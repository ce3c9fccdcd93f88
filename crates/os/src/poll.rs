//! Waiting for descriptors: a thin epoll with tokens, level-triggered.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};

/// Says which descriptor an event belongs to; chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read, a connection to accept, a process that ended, or the other end gone.
    Readable,
    /// Room to write, or the other end gone.
    Writable,
    /// Only that the other end is gone altogether.
    Nothing,
}

/// What happened to one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Whose event it is.
    pub token: Token,
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The other end is gone, or the descriptor is in error. What it sent before can still be read.
    pub hung_up: bool,
}

/// An epoll instance. Descriptors leave it by themselves when their last copy is closed.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

const MAX_EVENTS: usize = 64;

impl Poller {
    /// # Errors
    /// As of `epoll_create1`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// # Errors
    /// As of `epoll_ctl`; regular files can't be waited for.
    pub fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd.as_fd(), epoll::EventData::new_u64(token.0), flags(interest))?)
    }

    /// # Errors
    /// As of `epoll_ctl`.
    pub fn change(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd.as_fd(), epoll::EventData::new_u64(token.0), flags(interest))?)
    }

    /// # Errors
    /// As of `epoll_ctl`.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd.as_fd())?)
    }

    /// Wait until something is ready or `timeout_ms` is over (`None`: for ever) and put what is ready into `ready`. A
    /// signal ends the wait early, with nothing ready.
    ///
    /// # Errors
    /// As of `epoll_wait`, but for EINTR.
    pub fn wait(&self, timeout_ms: Option<u64>, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.wait_ns(timeout_ms.map(|ms| ms.saturating_mul(1_000_000)), ready)
    }

    /// The same until `due_ms` on the monotonic clock: exact, where the difference of two times in whole milliseconds
    /// would be up to one too long.
    ///
    /// # Errors
    /// As of [`Poller::wait`].
    pub fn wait_until(&self, due_ms: Option<u64>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let now_ns = crate::clock::monotonic_ns();
        self.wait_ns(due_ms.map(|ms| ms.saturating_mul(1_000_000).saturating_sub(now_ns)), ready)
    }

    fn wait_ns(&self, timeout_ns: Option<u64>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let timeout = timeout_ns.map(|ns| Timespec {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
        });
        let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); MAX_EVENTS];
        let events = match epoll::wait(&self.epoll, &mut buffer, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for event in events {
            let set = event.flags;
            ready.push(Ready {
                token: Token(event.data.u64()),
                readable: set.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR),
                writable: set.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR),
                hung_up: set.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR),
            });
        }
        Ok(())
    }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    match interest {
        Interest::Readable => epoll::EventFlags::IN,
        Interest::Writable => epoll::EventFlags::OUT,
        Interest::Nothing => epoll::EventFlags::empty(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_ready_carries_its_token() {
        let poller = Poller::new().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        poller.add(&theirs, Token(7), Interest::Readable).unwrap();
        let mut ready = Vec::new();
        poller.wait(Some(0), &mut ready).unwrap();
        assert_eq!(ready, []);
        ours.write_all(b"x").unwrap();
        poller.wait(Some(5_000), &mut ready).unwrap();
        assert_eq!(ready, [Ready { token: Token(7), readable: true, writable: false, hung_up: false }]);
        poller.change(&theirs, Token(7), Interest::Nothing).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        poller.wait(Some(0), &mut ready).unwrap();
        assert_eq!(ready, [], "it still listens");
        drop(ours);
        poller.wait(Some(5_000), &mut ready).unwrap();
        assert!(ready[0].hung_up);
    }
}
