//! Paths in settings: `~/`, and relative ones.
//!
//! A relative path in the file starts from the file's folder; a relative path in a flag or a variable starts from the
//! folder in which the command was given. A daemon's current directory is an accident, so the meaning of a file must
//! not depend on it.

use super::env::Environment;
use super::problem::{Fault, Misfit, Place, Problem};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Makes a path absolute and removes its `.` components; `..` stays, because the folder before it may be a symbolic link.
pub(super) fn resolve(text: &OsStr, base: &Path, user_home: Option<&Path>) -> Result<PathBuf, Misfit> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(Misfit::Empty);
    }
    if bytes.contains(&0) {
        return Err(Misfit::Unprintable);
    }
    let joined = match bytes.strip_prefix(b"~") {
        Some(b"") => user_home.ok_or(Misfit::NoUserHome)?.to_owned(),
        Some(rest) if rest[0] == b'/' => {
            // An absolute rest would replace the home.
            let start = rest.iter().position(|byte| *byte != b'/').unwrap_or(rest.len());
            let rest = OsStr::from_bytes(&rest[start..]);
            user_home.ok_or(Misfit::NoUserHome)?.join(rest)
        }
        Some(_) => return Err(Misfit::OtherUsersHome),
        None => base.join(text),
    };
    Ok(joined.components().collect())
}

/// The daemon's home: `AUTOPILOT_HOME`, else `~/.autopilot`.
///
/// # Errors
/// [`Fault::NoHome`] if neither variable says where; a `~` that cannot be replaced.
pub fn home_path(environment: &Environment, cwd: &Path) -> Result<PathBuf, Problem> {
    let user_home = environment.user_home.as_deref();
    match (&environment.home, user_home) {
        (Some(home), _) => resolve(home, cwd, user_home).map_err(|misfit| Problem {
            place: Place::Env(super::EnvVars::AUTOPILOT_HOME),
            fault: Fault::Home { path: home.into(), misfit },
        }),
        (None, Some(user_home)) => Ok(cwd.join(user_home).join(".autopilot")),
        (None, None) => Err(Problem { place: Place::Nowhere, fault: Fault::NoHome }),
    }
}

/// The file to read, and whether it must exist: the one that `--config` names, else `daemon.toml` in the home.
pub fn config_path(flag: Option<&Path>, home: &Path, cwd: &Path) -> (PathBuf, bool) {
    match flag {
        Some(path) => (cwd.join(path).components().collect(), true),
        None => (home.join("daemon.toml"), false),
    }
}
