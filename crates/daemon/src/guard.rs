//! Who is there while the daemon becomes another program, for the case that this one dies before it serves: a small copy of
//! the old daemon, which executes the old program again. What it then finds is what `kill -9` leaves, and is adopted as such.
//!
//! Not where systemd starts daemons anew: then there would be two to do it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use os::poll::{Interest, Poller, Token};

use crate::succession::Invoked;

/// How long a new program may take until it serves or dies, in ms. One that knows nothing of the guard (an older version) says
/// nothing, and when it ends later on, it does so for other reasons.
const WAIT_MS: u64 = 10_000;

pub(crate) const NAME: &std::ffi::CStr = c"autopilot-guard";

/// What the new program says when it serves.
const SERVES: &[u8] = b"1";

/// Have somebody wait until [`stand_down`] is called with what this returns. Its other copies may be closed before.
///
/// # Errors
/// As of pipe and fork.
pub(crate) fn stand_by(back: &OwnedFd, invoked: &Invoked) -> io::Result<OwnedFd> {
    os::fail::point("guard.fork")?;
    let (waits, tells) = io::pipe()?;
    let (waits, tells) = (OwnedFd::from(waits), OwnedFd::from(tells));
    os::fork::fork(|| {
        if os::fork::become_guard(NAME, &[waits.as_fd(), back.as_fd()]).is_err() || has_served(waits).unwrap_or(true) {
            return 0;
        }
        os::fork::unblock_signals();
        let program = PathBuf::from(format!("/proc/self/fd/{}", back.as_raw_fd()));
        let mut argv = vec!["autopilotd".into()];
        argv.extend(invoked.arguments.iter().cloned());
        os::exec::replace(&program, &argv, &invoked.environment, &[]);
        1
    })?;
    Ok(tells)
}

/// The new program serves, or the old one goes on.
pub(crate) fn stand_down(guard: OwnedFd) {
    File::from(guard).write_all(SERVES).ok();
}

/// False: it has died before.
fn has_served(waits: OwnedFd) -> io::Result<bool> {
    let poller = Poller::new()?;
    poller.add(&waits, Token(0), Interest::Readable)?;
    let mut ready = Vec::new();
    poller.wait(Some(WAIT_MS), &mut ready)?;
    Ok(ready.is_empty() || File::from(waits).read(&mut [0])? == SERVES.len())
}
