//! A child whose words are listened to: stdin from `/dev/null`, stdout and stderr as pipes that never block the reader, and
//! a SIGTERM when its parent dies, however that dies.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use crate::proc;
use crate::process::{Identity, Pidfd, Send};
use crate::spawn::Program;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A running child, or one that was not reaped yet.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    pidfd: Pidfd,
    /// What it says; non-blocking.
    pub stdout: OwnedFd,
    /// What it complains about; non-blocking.
    pub stderr: OwnedFd,
}

impl Child {
    /// Execute a program in `folder`. It gets SIGTERM when the calling *thread* ends (prctl(2), `PR_SET_PDEATHSIG`).
    ///
    /// # Errors
    /// As of the execution itself, with its errno: ENOENT, EACCES, ENOEXEC …
    pub fn spawn(program: &Program, folder: &Path) -> io::Result<Self> {
        Self::spawn_bound(program, folder, Signal::TERM)
    }

    /// The same for a program that nobody trusts yet: it gets SIGKILL.
    ///
    /// # Errors
    /// As of [`Self::spawn`].
    pub fn spawn_untrusted(program: &Program, folder: &Path) -> io::Result<Self> {
        Self::spawn_bound(program, folder, Signal::KILL)
    }

    fn spawn_bound(program: &Program, folder: &Path, at_parents_end: Signal) -> io::Result<Self> {
        let (name, arguments) = program.argv.split_first().ok_or_else(|| io::Error::other("no program"))?;
        #[expect(clippy::disallowed_methods, reason = "this is the room for it")]
        let mut command = Command::new(name);
        command.args(arguments).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in &program.env_remove {
            command.env_remove(name);
        }
        command.envs(program.env.iter().map(|(name, value)| (name as &OsStr, value as &OsStr)));
        let parent = getpid();
        #[expect(unsafe_code, reason = "pre_exec")]
        // SAFETY: between fork and exec only async-signal-safe functions may be called: these are two system calls, and
        // an error without allocation.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(at_parents_end))?;
                // The parent may have died before the call above: then nobody would ever send the signal.
                if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
            });
        }
        let mut process = command.spawn()?;
        let (Some(stdout), Some(stderr)) = (process.stdout.take(), process.stderr.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        let (stdout, stderr) = (OwnedFd::from(stdout), OwnedFd::from(stderr));
        for pipe in [&stdout, &stderr] {
            let flags = rustix::fs::fcntl_getfl(pipe)?;
            rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK)?;
        }
        let pidfd = Pidfd::open_child(process.id())?.ok_or_else(|| io::Error::other("no such child"))?;
        Ok(Self { process, pidfd, stdout, stderr })
    }

    /// Its pid and start time; the start time is 0 where `/proc` is hidden.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let pid = self.process.id();
        Identity { pid, start_ticks: proc::stat(proc::root(), pid).map_or(0, |stat| stat.start_ticks) }
    }

    /// Send a signal; `false` if it has ended.
    ///
    /// # Errors
    /// EPERM, if it has changed its user.
    pub fn send(&self, signal: Send) -> io::Result<bool> {
        self.pidfd.send(signal)
    }

    /// Reap it if it has ended.
    ///
    /// # Errors
    /// As of waitpid.
    pub fn reap(&mut self) -> io::Result<Option<Ended>> {
        Ok(self.process.try_wait()?.map(|status| match status.code() {
            Some(code) => Ended::Code(code),
            None => Ended::Signal(status.signal().unwrap_or(0)),
        }))
    }
}

/// Readable when the child has ended.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// What a look into a pipe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Empty,
    /// Nothing any more.
    Closed,
}

/// Read what is there.
///
/// # Errors
/// As of read(2), but for EAGAIN and EINTR.
pub fn read(pipe: &OwnedFd, buffer: &mut [u8]) -> io::Result<Read> {
    loop {
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => return Ok(Read::Closed),
            Ok(bytes) => return Ok(Read::Bytes(bytes)),
            Err(rustix::io::Errno::AGAIN) => return Ok(Read::Empty),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{Interest, Poller, Token};

    fn shell(script: &str) -> Program {
        Program {
            argv: ["sh", "-c", script].map(Into::into).to_vec(),
            env: vec![("ADDED".into(), "yes".into())],
            env_remove: vec!["HOME".into()],
        }
    }

    fn wait(child: &mut Child) -> Ended {
        let poller = Poller::new().unwrap();
        poller.add(&*child, Token(0), Interest::Readable).unwrap();
        let mut ready = Vec::new();
        poller.wait(Some(10_000), &mut ready).unwrap();
        child.reap().unwrap().expect("it ended within 10 s")
    }

    #[test]
    fn a_child_is_heard_and_its_status_known() {
        let script = "cat; echo \"$ADDED ${HOME-unset} $PWD\"; echo bad >&2; exit 7";
        let mut child = Child::spawn(&shell(script), Path::new("/")).unwrap();
        assert_eq!(wait(&mut child), Ended::Code(7));
        let mut buffer = [0; 100];
        assert_eq!(read(&child.stdout, &mut buffer).unwrap(), Read::Bytes(12));
        assert_eq!(&buffer[..12], b"yes unset /\n");
        assert_eq!(read(&child.stdout, &mut buffer).unwrap(), Read::Closed);
        assert_eq!(read(&child.stderr, &mut buffer).unwrap(), Read::Bytes(4));
    }

    #[test]
    fn a_signal_reaches_it() {
        let mut child = Child::spawn(&shell("exec sleep 60"), Path::new("/")).unwrap();
        let mut buffer = [0; 1];
        assert_eq!(read(&child.stdout, &mut buffer).unwrap(), Read::Empty);
        assert!(child.send(Send::Term).unwrap());
        assert_eq!(wait(&mut child), Ended::Signal(15));
    }

    #[test]
    fn a_child_is_told_when_its_parent_thread_ends() {
        let mut child =
            std::thread::spawn(|| Child::spawn(&shell("exec sleep 60"), Path::new("/")).unwrap()).join().unwrap();
        assert_eq!(wait(&mut child), Ended::Signal(15));
    }

    #[test]
    fn a_missing_program_is_an_error_of_its_own() {
        let program = Program { argv: vec!["/nonexistent/claude".into()], env: vec![], env_remove: vec![] };
        let error = Child::spawn(&program, Path::new("/")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
