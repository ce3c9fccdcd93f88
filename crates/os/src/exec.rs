//! Becoming another program in place, execve(2): the pid stays, children stay children, and so do the descriptors that are
//! named. Nothing is lost if it fails: the caller goes on.

#![expect(unsafe_code, reason = "execve, and descriptors that come from before it, have no safe wrapper")]

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::FdFlags;

/// Execute `program` in place of this one, with `argv` (its first is only a name), this environment and no other; of the
/// descriptors, `keep` are passed on. Only returns if that fails, and then with all as it was.
///
/// Not by `std`, which resets SIGPIPE before it tries: a caller that goes on would die of the next closed pipe.
pub fn replace(program: &Path, argv: &[OsString], env: &[(OsString, OsString)], keep: &[BorrowedFd<'_>]) -> io::Error {
    match try_replace(program, argv, env, keep) {
        Ok(never) => match never {},
        Err(error) => {
            for fd in keep {
                rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC).ok();
            }
            error
        }
    }
}

fn try_replace(
    program: &Path,
    argv: &[OsString],
    env: &[(OsString, OsString)],
    keep: &[BorrowedFd<'_>],
) -> io::Result<std::convert::Infallible> {
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
    let program = text(program.as_os_str())?;
    let argv = argv.iter().map(|word| text(word)).collect::<io::Result<Vec<_>>>()?;
    let env = env
        .iter()
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).map_err(io::Error::other))
        .collect::<io::Result<Vec<_>>>()?;
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (argv_pointers, env_pointers) = (pointers(&argv), pointers(&env));
    for fd in keep {
        rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
    }
    // SAFETY: the three point to NUL-terminated strings, and to arrays of such with a null at the end, that live until
    // the call returns; it returns only if it failed.
    unsafe { libc::execve(program.as_ptr(), argv_pointers.as_ptr(), env_pointers.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// A copy, closed at the next execution, of a descriptor that was passed on by [`replace`].
///
/// # Errors
/// EBADF: there is none of that number.
pub fn passed_on(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: the descriptor is only borrowed for the call, which fails for a number that is none.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?)
}

/// Close a descriptor that was passed on by [`replace`], and of which there may be copies. Nothing happens if there is none.
pub fn close_passed_on(fd: RawFd) {
    if passed_on(fd).is_ok() {
        // SAFETY: it was open before this program began, so that none of its values owns it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// The file of the program that this process executes, also when it was removed or replaced: to come back to it.
///
/// # Errors
/// As of open; `/proc` may be hidden.
pub fn own_program() -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// The name by which `ps` and `pgrep` know this process; at most 15 bytes.
pub fn set_name(name: &std::ffi::CStr) {
    rustix::thread::set_name(name).ok();
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use super::*;

    #[test]
    fn what_can_t_be_executed_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("file")).unwrap();
        let error = replace(Path::new("/nonexistent/program"), &["x".into()], &[], &[file.as_fd()]);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(rustix::io::fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
        let nul = replace(Path::new("/bin/true"), &["a\0b".into()], &[], &[]);
        assert_eq!(nul.kind(), io::ErrorKind::Other);
        // A closed pipe is still an error and no death.
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(read);
        assert_eq!(rustix::io::write(&write, b"x"), Err(rustix::io::Errno::PIPE));
    }

    #[test]
    fn a_number_that_is_no_descriptor_is_refused() {
        assert!(passed_on(-1).is_err() && passed_on(1_000_000).is_err());
        let (_read, write) = rustix::pipe::pipe().unwrap();
        let copy = passed_on(write.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), write.as_raw_fd());
        assert_eq!(rustix::io::write(&copy, b"x"), Ok(1));
    }
}
