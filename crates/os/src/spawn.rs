//! Executing a program as a child: in a group of its own from its first instruction on.
//!
//! Written out, because `std::process::Command` knows no cgroups: a child that is born into its group (clone3(2),
//! `CLONE_INTO_CGROUP`, Linux 5.7) costs nothing, one that is moved there waits for a grace period of the kernel
//! (measured: up to 10 ms). And it shares this process's memory until it executes (`CLONE_VM` and `CLONE_VFORK`, as
//! posix_spawn(3) has it), so that no page table is copied for it and no page afterwards.

#![expect(unsafe_code, reason = "clone3, and what a child does between fork and exec, have no safe wrapper")]

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cgroup::{Group, Version};
use crate::fail;

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

/// Where a child belongs in the eyes of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// Its control group; `None`: its parent's.
    pub group: Option<&'a Group>,
    /// How much sooner than others the kernel may take it when memory is out; see proc_pid_oom_score_adj(5).
    pub oom_score_adj: i16,
}

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// It could not be put into its group; without one it may work.
    #[error("cannot enter the control group: {0}")]
    Group(io::Error),
    /// The program can't be executed: ENOENT, EACCES, ENOEXEC …
    #[error("cannot execute: {0}")]
    Execute(io::Error),
    /// There is no room for another process.
    #[error("cannot fork: {0}")]
    Fork(io::Error),
}

/// The file is no program for this machine, execve(2).
pub const ENOEXEC: i32 = libc::ENOEXEC;

/// The process, or the machine, has no descriptor left.
pub const OUT_OF_DESCRIPTORS: [i32; 2] = [libc::EMFILE, libc::ENFILE];

/// Go to a folder.
///
/// # Errors
/// As of chdir.
pub fn enter(folder: &Path) -> io::Result<()> {
    std::env::set_current_dir(folder)
}

/// Execute it in a process group of its own and where `placement` says, stdin from `/dev/null`, stdout and stderr into `output`.
/// Descriptors that are not close-on-exec are inherited. Returns the child's pid; the caller reaps it.
///
/// Only for single-threaded processes.
///
/// # Errors
/// [`SpawnError`], and then there is no child.
pub fn spawn(program: &Program, output: &OwnedFd, placement: Placement<'_>) -> Result<u32, SpawnError> {
    let group = placement.group;
    let prepared = Prepared::new(program, placement).map_err(SpawnError::Execute)?;
    fail::point("spawn.descriptors").map_err(SpawnError::Fork)?;
    let null = std::fs::File::open("/dev/null").map_err(SpawnError::Fork)?;
    let (errors, child_end) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| SpawnError::Fork(errno.into()))?;
    let fds = Fds { null: null.as_raw_fd(), output: output.as_raw_fd(), errors: child_end.as_raw_fd() };
    let born_into = match group {
        Some(group) if group.version() == Version::Two => Some(group.open().map_err(SpawnError::Group)?),
        Some(_) | None => None,
    };
    fail::point("spawn.enter-group").map_err(SpawnError::Group)?;
    fail::point("spawn.fork").map_err(SpawnError::Fork)?;
    let enter_group = group.is_some() && born_into.is_none();
    let pid = prepared
        .share(&fds, born_into.as_ref(), enter_group)
        // A kernel or a sandbox without clone3.
        .or_else(|_| prepared.fork(&fds, group.is_some()))
        .map_err(SpawnError::Fork)?;
    drop(child_end);
    fail::point("spawn.forked").ok();
    let mut report = [0_u8; REPORT_BYTES];
    // Nothing comes if the program runs: the pipe was closed by its execution.
    match std::fs::File::from(errors).read_exact(&mut report) {
        Err(_) => Ok(pid),
        Ok(()) => {
            reap(pid);
            let [step, errno @ ..] = report;
            let error = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
            Err(if step == STEP_GROUP { SpawnError::Group(error) } else { SpawnError::Execute(error) })
        }
    }
}

/// linux/sched.h; libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

const STEP_GROUP: u8 = 1;
const STEP_EXECUTE: u8 = 2;
/// A step and an errno.
const REPORT_BYTES: usize = 5;

/// All that needs memory, made before the fork.
struct Prepared {
    path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    oom_score_adj: String,
    procs_file: Option<CString>,
}

/// What a child executes, with the final null pointers.
type Pointers = (Vec<*const libc::c_char>, Vec<*const libc::c_char>);

/// Enough for a few system calls.
const STACK_BYTES: usize = 16 << 10;

/// All that this project's processes handle, or the Rust runtime ignores.
const RESET: [i32; 7] =
    [libc::SIGPIPE, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD, libc::SIGUSR1, libc::SIGWINCH];

/// What a child that shares the memory has to do.
struct Job<'a> {
    prepared: &'a Prepared,
    pointers: Pointers,
    fds: Fds,
    enter_group: bool,
}

/// The first and last function of such a child.
extern "C" fn become_program(job: &Job<'_>) -> ! {
    job.prepared.become_program(&job.pointers, &job.fds, job.enter_group)
}

/// clone3(2) with a stack for the child, which calls [`become_program`] there: libc has a function for clone(2) only. The
/// child's pid, or a negative errno.
///
/// # Safety
/// The stack of `arguments` is big enough, aligned to 16 bytes, and nobody else's until the child has executed or ended.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_onto_stack(arguments: &libc::clone_args, job: &Job<'_>) -> i64 {
    let result: i64;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11. The child begins behind the system call with the
    // parent's registers and the new stack, and never comes out of the call.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {job}",
            "call {child}",
            "ud2",
            "2:",
            job = in(reg) std::ptr::from_ref(job),
            child = in(reg) become_program as extern "C" fn(&Job<'_>) -> !,
            inout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_ref(arguments),
            in("rsi") size_of::<libc::clone_args>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// Not written for this processor: the caller forks.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn clone3_onto_stack(_: &libc::clone_args, _: &Job<'_>) -> i64 {
    -i64::from(libc::ENOSYS)
}

#[derive(Clone, Copy)]
struct Fds {
    null: i32,
    output: i32,
    errors: i32,
}

impl Prepared {
    fn new(program: &Program, placement: Placement<'_>) -> io::Result<Self> {
        let name = program.argv.first().ok_or_else(|| io::Error::other("no program"))?;
        let c_string = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let mut env: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        for name in &program.env_remove {
            env.remove(name);
        }
        env.extend(program.env.iter().cloned());
        let path = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let entry = |(name, value): (&OsString, &OsString)| {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            c_string(&entry)
        };
        Ok(Self {
            path: c_string(&find(name, &path)?)?,
            argv: program.argv.iter().map(|argument| c_string(argument)).collect::<io::Result<_>>()?,
            env: env.iter().map(entry).collect::<io::Result<_>>()?,
            oom_score_adj: placement.oom_score_adj.to_string(),
            procs_file: placement.group.map(|group| c_string(group.procs_file().as_os_str())).transpose()?,
        })
    }

    /// A child that shares the memory of this process, which stands still until the child executes or ends.
    fn share(&self, fds: &Fds, born_into: Option<&OwnedFd>, enter_group: bool) -> io::Result<u32> {
        let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
        // SAFETY: all zero is a valid clone_args.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        arguments.flags = u64::try_from(libc::CLONE_VM | libc::CLONE_VFORK).unwrap_or(0);
        arguments.exit_signal = u64::try_from(libc::SIGCHLD).unwrap_or(0);
        arguments.stack = stack.as_mut_ptr() as u64;
        arguments.stack_size = STACK_BYTES as u64;
        if let Some(folder) = born_into {
            arguments.flags |= CLONE_INTO_CGROUP;
            arguments.cgroup = u64::try_from(folder.as_raw_fd()).unwrap_or(0);
        }
        let job = Job { prepared: self, pointers: self.pointers(), fds: *fds, enter_group };
        // No handler of this process may run in the child: it would write into this process's memory.
        let before = crate::fork::block_all_signals()?;
        // SAFETY: `arguments` and `stack` live until the child no longer uses them: this process stands still until then.
        let pid = unsafe { clone3_onto_stack(&arguments, &job) };
        crate::fork::restore_signals(&before);
        match pid {
            ..0 => Err(io::Error::from_raw_os_error(i32::try_from(-pid).unwrap_or(libc::EINVAL))),
            pid => u32::try_from(pid).map_err(io::Error::other),
        }
    }

    fn fork(&self, fds: &Fds, enter_group: bool) -> io::Result<u32> {
        let pointers = self.pointers();
        // SAFETY: the process is single-threaded; the child executes a program or ends by _exit.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => self.become_program(&pointers, fds, enter_group),
            pid => u32::try_from(pid).map_err(io::Error::other),
        }
    }

    fn pointers(&self) -> Pointers {
        let with_end = |strings: &[CString]| {
            strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        (with_end(&self.argv), with_end(&self.env))
    }

    /// In the child. Does not return.
    fn become_program(&self, (argv, env): &Pointers, fds: &Fds, enter_group: bool) -> ! {
        if enter_group
            && let Some(procs) = &self.procs_file
            && let Err(error) = write_file(procs, b"0")
        {
            give_up(fds, STEP_GROUP, &error);
        }
        // More likely to be taken than others: any process may say so of itself. If not, it is as likely as they are.
        write_file(c"/proc/self/oom_score_adj", self.oom_score_adj.as_bytes()).ok();
        // SAFETY: plain system calls on descriptors that are open in this copy of the process; the pointers are to
        // NUL-terminated strings in arrays that end with a null pointer. Handlers would be reset by the execution, but
        // must not run before it, either; what the Rust runtime ignores would stay so. Then the mask is emptied.
        unsafe {
            libc::setpgid(0, 0);
            for signal in RESET {
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
            libc::dup2(fds.null, 0);
            libc::dup2(fds.output, 1);
            libc::dup2(fds.output, 2);
            libc::execve(self.path.as_ptr(), argv.as_ptr(), env.as_ptr());
        }
        give_up(fds, STEP_EXECUTE, &io::Error::last_os_error());
    }
}

/// Tell the parent, and end.
fn give_up(fds: &Fds, step: u8, error: &io::Error) -> ! {
    let mut report = [step; REPORT_BYTES];
    report[1..].copy_from_slice(&error.raw_os_error().unwrap_or(0).to_ne_bytes());
    // SAFETY: writes initialised bytes to an open descriptor, then ends without running destructors of the parent's.
    unsafe {
        libc::write(fds.errors, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}

fn write_file(path: &std::ffi::CStr, bytes: &[u8]) -> io::Result<()> {
    let file =
        rustix::fs::open(path, rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    rustix::io::write(&file, bytes)?;
    Ok(())
}

fn reap(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).ok();
    }
}

/// As execvp(3) would look for it.
fn find(name: &OsStr, path: &OsStr) -> io::Result<OsString> {
    if name.as_bytes().contains(&b'/') {
        return Ok(name.to_owned());
    }
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file())
        .map(Into::into)
        .ok_or_else(|| rustix::io::Errno::NOENT.into())
}
