//! Signals as something to wait for: a pipe that becomes readable, and which signals came.
//!
//! Not signalfd: it needs the signals blocked, and `std::process::Command` hands the blocked mask on to the children,
//! which then never receive SIGTERM.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::SigId;

/// The signals that this project handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End, please.
    Term,
    /// Ctrl-C.
    Int,
    /// The terminal went away.
    Hup,
    /// A child changed its state.
    Child,
    /// Ours, between daemon and shim: end the tree at once.
    User1,
    /// The terminal changed its size.
    WindowChange,
    /// Ctrl-\\.
    Quit,
    /// Of no meaning to us, and deadly to who does not catch them.
    User2,
    /// As before.
    Alarm,
}

impl Signal {
    fn number(self) -> i32 {
        match self {
            Self::Term => libc::SIGTERM,
            Self::Int => libc::SIGINT,
            Self::Hup => libc::SIGHUP,
            Self::Child => libc::SIGCHLD,
            Self::User1 => libc::SIGUSR1,
            Self::User2 => libc::SIGUSR2,
            Self::Quit => libc::SIGQUIT,
            Self::Alarm => libc::SIGALRM,
            Self::WindowChange => libc::SIGWINCH,
        }
    }
}

/// What is registered in this process, so that a forked child can undo it: handlers survive fork, and the child would
/// write into its parent's pipe.
static REGISTERED: Mutex<Vec<SigId>> = Mutex::new(Vec::new());

/// A readable descriptor for a set of signals.
#[derive(Debug)]
pub struct SignalPipe {
    read: OwnedFd,
    arrived: Vec<(Signal, Arc<AtomicBool>)>,
}

impl SignalPipe {
    /// Handle these signals from now on.
    ///
    /// # Errors
    /// As of pipe and sigaction.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut arrived = Vec::with_capacity(signals.len());
        let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
        for &signal in signals {
            let flag = Arc::new(AtomicBool::new(false));
            // The flag first: whoever wakes by the pipe must find it set.
            registered.push(signal_hook::flag::register(signal.number(), Arc::clone(&flag))?);
            registered.push(signal_hook::low_level::pipe::register_raw(signal.number(), write.try_clone()?)?);
            arrived.push((signal, flag));
        }
        Ok(Self { read, arrived })
    }

    /// Empty the pipe and say which signals came since the last call, each once.
    pub fn take(&self) -> Vec<Signal> {
        let mut buffer = [0_u8; 64];
        while matches!(rustix::io::read(&self.read, &mut buffer), Ok(1..)) {}
        self.arrived.iter().filter(|(_, flag)| flag.swap(false, Ordering::SeqCst)).map(|&(signal, _)| signal).collect()
    }
}

impl AsFd for SignalPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

/// Whether a signal is ignored, as `nohup` does it with SIGHUP for what it starts. Ask before it is handled.
#[must_use]
pub fn is_ignored(signal: Signal) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    #[expect(unsafe_code, reason = "no safe wrapper asks without changing")]
    // SAFETY: with a null second argument sigaction(2) changes nothing; it writes the whole struct if it returns 0.
    let handler = unsafe {
        if libc::sigaction(signal.number(), std::ptr::null(), now.as_mut_ptr()) != 0 {
            return false;
        }
        now.assume_init().sa_sigaction
    };
    handler == libc::SIG_IGN
}

/// In a child that was forked and not executed: forget all that the parent registered. The signals are then ignored
/// (not back to their default) until they are registered anew.
pub fn forget_inherited() {
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    for id in registered.drain(..) {
        signal_hook::low_level::unregister(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{Interest, Poller, Token};

    #[test]
    fn a_signal_wakes_the_poller_and_is_told_once() {
        let signals = SignalPipe::new(&[Signal::WindowChange, Signal::User1]).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&signals, Token(1), Interest::Readable).unwrap();
        signal_hook::low_level::raise(libc::SIGWINCH).unwrap();
        let mut ready = Vec::new();
        poller.wait(Some(5_000), &mut ready).unwrap();
        assert_eq!(ready.len(), 1);
        assert_eq!(signals.take(), [Signal::WindowChange]);
        assert_eq!(signals.take(), []);
    }
}
