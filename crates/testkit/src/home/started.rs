//! A program that a test has started, and what it said.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::processes::wait_for_exit;

/// A started program. Dropping it leaves it running: the home ends it.
#[derive(Debug)]
pub struct Started {
    child: Child,
    pidfd: OwnedFd,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Started {
    /// Its output goes to files rather than pipes: nobody has to read while it runs, and a grandchild that outlives it
    /// cannot hold a pipe open.
    pub(super) fn start(mut command: Command, said: &Path) -> Self {
        let (stdout, stderr) = (said.with_extension("out"), said.with_extension("err"));
        command.stdout(File::create(&stdout).expect("make a file for stdout"));
        command.stderr(File::create(&stderr).expect("make a file for stderr"));
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("open a pidfd of our own child");
        Self { child, pidfd, stdout, stderr }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are positive")
    }

    /// # Panics
    /// When the signal cannot be sent for another reason than that the program has ended.
    pub fn signal(&self, signal: Signal) {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("cannot signal {}: {error}", self.pid()),
        }
    }

    /// SIGKILL, and the exit collected. What it has started lives on.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait(super::DEADLINE)
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait for our own child").is_some()
    }

    /// Whether it ends in time.
    pub fn ends_within(&self, longest: Duration) -> bool {
        wait_for_exit(&self.pidfd, longest)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs at the deadline.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        assert!(wait_for_exit(&self.pidfd, deadline), "process {} still runs after {deadline:?}", self.pid());
        self.child.wait().expect("wait for our own child")
    }

    /// Waits for its end and returns its exit code, or 128 + the signal that ended it, as a shell says it.
    ///
    /// # Panics
    /// When it still runs at the deadline.
    pub fn wait_for_code(&mut self, deadline: Duration) -> i32 {
        let status = self.wait(deadline);
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("an exit code or a signal")
    }

    pub fn stdout(&self) -> String {
        text_of(&self.stdout)
    }

    pub fn stderr(&self) -> String {
        text_of(&self.stderr)
    }

    /// Waits for its end and returns all that it said.
    ///
    /// # Panics
    /// When it still runs at the deadline.
    pub fn into_output(mut self, deadline: Duration) -> Output {
        let status = self.wait(deadline);
        let bytes = |path: &Path| fs::read(path).unwrap_or_default();
        Output { status, stdout: bytes(&self.stdout), stderr: bytes(&self.stderr) }
    }
}

fn text_of(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
