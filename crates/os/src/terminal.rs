//! A terminal: how large it is, and its keys as they are pressed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Columns and rows; `None` if it is no terminal, or does not say.
#[must_use]
pub fn size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let size = tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// A terminal whose keys arrive one by one and unseen, until this is dropped. Ctrl-C stays a signal.
#[derive(Debug)]
pub struct Keys {
    terminal: OwnedFd,
    before: Termios,
}

impl Keys {
    /// # Errors
    /// As of tcgetattr: it is no terminal.
    pub fn new(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut now = before.clone();
        now.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        now.special_codes[SpecialCodeIndex::VMIN] = 0;
        now.special_codes[SpecialCodeIndex::VTIME] = 0;
        let terminal = terminal.try_clone_to_owned()?;
        tcsetattr(&terminal, OptionalActions::Now, &now)?;
        Ok(Self { terminal, before })
    }

    /// What was pressed since the last call.
    ///
    /// # Errors
    /// As of read.
    pub fn pressed(&self) -> io::Result<Vec<u8>> {
        let mut buffer = [0; 64];
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&self.terminal, &mut buffer))?;
        Ok(buffer.get(..count).unwrap_or_default().to_vec())
    }
}

/// Readable when a key was pressed.
impl AsFd for Keys {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone needs no more care.
        tcsetattr(&self.terminal, OptionalActions::Now, &self.before).ok();
    }
}
