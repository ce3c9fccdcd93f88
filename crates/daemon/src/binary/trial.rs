//! A child of the daemon that admits a file, or looks at copies again, so that the loop does not wait for a disk or for a
//! program's `--version`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use os::fail;
use os::process::{Pidfd, Send};
use os::socket::{WireEnd, WireRead};

use super::admit::{Admission, admit};
use super::index::{self, Stamp};
use super::mend::mend;
use super::shelf::Shelf;
use crate::config::WorkerCommand;

/// Copying and asking take seconds at most. Who takes longer waits for a disk that does not answer.
const WITHIN_MS: u64 = 60_000;

/// What the child is to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Whether the file may run.
    Admit,
    /// Whether copies are what they were.
    Mend,
}

/// The child, and what is asked of it.
#[derive(Debug)]
pub(crate) struct Trial {
    asked: Asked,
    source: PathBuf,
    stamp: Option<Stamp>,
    pidfd: Pidfd,
    wire: WireEnd,
    due_ms: u64,
}

impl Trial {
    /// Begin it.
    ///
    /// # Errors
    /// As of pipe and fork.
    pub(crate) fn begin(shelf: &Shelf, asked: Asked, command: Option<&WorkerCommand>) -> io::Result<Self> {
        let (store, wish) = (shelf.store().clone(), shelf.wish(command));
        let (source, stamp) = (wish.source.clone(), index::stamp_of(&wish.source));
        let (wire, to_daemon) = os::socket::wire()?;
        let parent = os::process::own_pid();
        let held = shelf.held();
        let mut kept = vec![to_daemon.as_fd()];
        kept.extend(held.map(|(_, file)| file.as_fd()));
        fail::point("trial.fork")?;
        let pid = os::fork::fork(|| {
            let alone = os::fork::die_with(parent).and_then(|()| os::fork::become_shim(c"autopilot-try", &kept));
            if alone.is_err() {
                return 1;
            }
            os::fork::unblock_signals();
            let mut line = match asked {
                Asked::Admit => serde_json::to_vec(&admit(&store, &wish)).unwrap_or_default(),
                // What came of it is in the index.
                Asked::Mend => return i32::from(mend(&store, held).is_err()),
            };
            fail::point("trial.report").ok();
            line.push(b'\n');
            os::socket::write_to_wire(&to_daemon, &line);
            0
        })?;
        let pidfd = Pidfd::open_child(pid)?.ok_or_else(|| io::Error::other("no such child"))?;
        let due_ms = os::clock::monotonic_ms().saturating_add(WITHIN_MS);
        Ok(Self { asked, source, stamp, pidfd, wire, due_ms })
    }

    /// When it is taken for lost.
    pub(crate) fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Tell the shelf. It has ended, or is ended now.
    pub(crate) fn finish(mut self, shelf: &mut Shelf) {
        match self.asked {
            Asked::Admit => {
                let admission = self.admission();
                shelf.admitted(&self.source, self.stamp, admission);
            }
            Asked::Mend => {
                self.cancel();
                shelf.mended();
            }
        }
    }

    fn admission(&mut self) -> Admission {
        let mut said = None;
        while let Ok(WireRead::Lines(lines)) = self.wire.read() {
            match lines.first() {
                Some(line) => said = serde_json::from_slice(line).ok(),
                None => break,
            }
        }
        said.unwrap_or_else(|| {
            self.cancel();
            Admission::NotStored { reason: "the process that looked into it was killed, or did not end".to_owned() }
        })
    }

    /// Nobody wants to know any more.
    pub(crate) fn cancel(&self) {
        // One that has ended needs no signal.
        self.pidfd.send(Send::Kill).ok();
    }
}

/// Readable when it has ended.
impl AsFd for Trial {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
