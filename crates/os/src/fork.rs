//! A child that is a copy of this process and runs a function, not a program.
//!
//! Executing a program costs most of what a restart takes (measured: about 0.6 of 0.9 ms); a copy of the small,
//! single-threaded daemon costs a tenth of that, and shares its pages.

#![expect(unsafe_code, reason = "fork, signal masks and close_range have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Fork. The child runs `child` and ends with its result as exit status; it never returns into the caller's code.
/// All signals are blocked in the child until it calls [`become_shim`], so that none is delivered to the handlers that
/// it has inherited.
///
/// Only for single-threaded processes: after a fork of several threads the child may find a lock held for ever.
///
/// # Errors
/// As of fork(2): EAGAIN and ENOMEM.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<u32> {
    let before = block_all_signals()?;
    // SAFETY: the process is single-threaded (the caller's duty), so the child's memory is consistent and it may do all
    // that the parent may. It leaves by _exit, so no destructor or atexit handler of the parent runs twice.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => {
            let error = io::Error::last_os_error();
            restore_signals(&before);
            Err(error)
        }
        0 => {
            let status = child();
            // SAFETY: _exit takes any status and does not return.
            unsafe { libc::_exit(status) }
        }
        pid => {
            restore_signals(&before);
            u32::try_from(pid).map_err(io::Error::other)
        }
    }
}

pub(crate) fn block_all_signals() -> io::Result<libc::sigset_t> {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises the set it is given; pthread_sigmask reads the first set and writes the second.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        let errno = libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(before.assume_init())
    }
}

pub(crate) fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: `before` was filled in by pthread_sigmask. It can only fail for an invalid `how`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

/// In the forked child, once its own handlers are registered: let signals come in.
pub fn unblock_signals() {
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set, which pthread_sigmask only reads.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// In the forked child: leave the parent's session and terminal, take a name of one's own for `ps` (so that a search for
/// the daemon's name does not find it), point stdin, stdout and stderr to /dev/null, and close every other descriptor but
/// `keep`.
///
/// # Errors
/// As of setsid, prctl, open, dup2 and close_range.
pub fn become_shim(name: &std::ffi::CStr, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    rustix::process::setsid()?;
    crate::exec::set_name(name);
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    // Before the rest is closed: closing what is closed already is a bug that std watches for.
    drop(null);
    close_all_but(keep)
}

/// In the forked child: leave the parent's session and terminal, take a name of one's own, and close every descriptor but
/// stdin, stdout, stderr and `keep`.
///
/// # Errors
/// As of setsid and close_range.
pub fn become_guard(name: &std::ffi::CStr, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    rustix::process::setsid()?;
    crate::exec::set_name(name);
    close_all_but(keep)
}

/// In the forked child: be killed when the process ends that forked it (prctl(2), `PR_SET_PDEATHSIG`).
///
/// # Errors
/// As of prctl; or that process, whose pid this is, has ended already.
pub fn die_with(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

/// Let this process adopt its orphaned descendants (`PR_SET_CHILD_SUBREAPER`).
///
/// # Errors
/// As of prctl.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).filter(|&fd| fd > 2).collect();
    kept.sort_unstable();
    let mut first: libc::c_uint = 3;
    for fd in kept {
        let fd = libc::c_uint::try_from(fd).map_err(io::Error::other)?;
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: only called in a forked child that owns none of the values whose descriptors are closed here: they belong
    // to the parent's copy of the code, which never runs in this process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
