//! Executing a program as a child.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

/// What to execute, and in what surroundings.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments; the program is looked up in PATH unless it contains a slash.
    pub argv: Vec<OsString>,
    /// Added to this process's environment.
    pub env: Vec<(OsString, OsString)>,
    /// Taken out of it.
    pub env_remove: Vec<OsString>,
}

/// Go to a folder.
///
/// # Errors
/// As of chdir.
pub fn enter(folder: &Path) -> io::Result<()> {
    std::env::set_current_dir(folder)
}

/// Execute it in a process group of its own, stdin from `/dev/null`, stdout and stderr into `output`. Descriptors that
/// are not close-on-exec are inherited. Returns the child's pid; the caller reaps it.
///
/// # Errors
/// As of the execution itself, with its errno: ENOENT, EACCES, ENOEXEC …
pub fn spawn(program: &Program, output: OwnedFd) -> io::Result<u32> {
    let (name, arguments) = program.argv.split_first().ok_or_else(|| io::Error::other("no program"))?;
    let second = output.try_clone()?;
    #[expect(clippy::disallowed_methods, reason = "this is the room for it")]
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(second);
    for name in &program.env_remove {
        command.env_remove(name);
    }
    command.envs(program.env.iter().map(|(name, value)| (name as &OsStr, value as &OsStr)));
    // Process::group and no pre_exec: std then uses posix_spawn, which does not copy the page tables.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Ok(command.spawn()?.id())
}

/// The file is no program for this machine, execve(2).
pub const ENOEXEC: i32 = libc::ENOEXEC;

/// The process, or the machine, has no descriptor left.
pub const OUT_OF_DESCRIPTORS: [i32; 2] = [libc::EMFILE, libc::ENFILE];
