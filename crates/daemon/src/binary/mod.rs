//! Which program the worker is, and the immutable copy that runs in place of it.
//!
//! Order: `AUTOPILOT_WORKER_BINARY`, `worker_command` in the file (the settings have merged the two), `bin/autopilot` in
//! the home, and `cargo run` where no binary has ever been installed.
//!
//! [`store`] copies, [`smoke`] asks for the `--version`, [`admit`] does both and names the copy in the [`index`]; [`trial`]
//! has that done in a child of the daemon. [`shelf`] is the daemon's view: which copy runs next, and what comes of it
//! (decided in `policy::probation`). [`desk`] is the operator's.
//!
//! **Invariant:** what has a copy never runs from the place that people copy to. Linux refuses to write to a file that is
//! being executed (`ETXTBSY`), which made the documented update step, a plain `cp`, fail while a worker ran; and a file that
//! is half overwritten would run as it is. A shell even reads a script piece by piece while it runs it. Only a [`script`]
//! that looks for its own place runs there.

mod admit;
mod desk;
mod index;
mod lives;
mod mend;
mod program;
mod script;
mod shelf;
mod smoke;
mod store;
mod trial;
mod verdict;

#[cfg(test)]
mod probation_tests;
#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod smoke_tests;
#[cfg(test)]
mod tests;

pub use admit::Admission;
pub use desk::{Desk, Refusal, Shown};
pub use index::{Binary, Standing};
pub use program::Unfit;
pub(crate) use shelf::{Choice, Shelf, Turn};
pub(crate) use trial::{Asked, Trial};

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// How to start the worker. The worker's own arguments follow `argv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program, and its first arguments if it is cargo.
    pub argv: Vec<OsString>,
    /// The file that was asked for; none for cargo.
    pub source: Option<PathBuf>,
    /// Of the stored copy, in hexadecimal; none if the source runs where it is.
    pub sha256: Option<String>,
    pub note: Option<Note>,
}

/// What an operator should know about a [`Launch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// No binary has ever been installed: the worker is built from source.
    NeverInstalled { install_to: PathBuf },
    /// The settings ask for it.
    CargoByChoice,
    /// There is no copy of the file as it is now, because the store cannot be written. `is_run`: it runs all the same.
    NotStored { source: PathBuf, reason: String, is_run: bool },
    /// The file can't be run; what was copied before runs on.
    SourceUnfit { source: PathBuf, unfit: Unfit, runs: String },
}

/// No program to start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot execute worker binary {}: {unfit}", path.display())]
pub struct Refused {
    pub path: PathBuf,
    pub unfit: Unfit,
}

impl Launch {
    fn cargo(manifest_path: Option<&Path>, note: Note) -> Self {
        let mut argv: Vec<OsString> = vec!["cargo".into(), "run".into()];
        if let Some(path) = manifest_path {
            argv.extend(["--manifest-path".into(), path.into()]);
        }
        argv.extend(["-p", "autopilot", "--bin", "autopilot", "--"].map(OsString::from));
        Self { argv, source: None, sha256: None, note: Some(note) }
    }

    /// The file itself. `not_stored`: why there is no copy, if there should be one.
    fn in_place(source: &Path, not_stored: Option<String>) -> Self {
        let note = not_stored.map(|reason| Note::NotStored { source: source.to_owned(), reason, is_run: true });
        Self { argv: vec![source.into()], source: Some(source.to_owned()), sha256: None, note }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverInstalled { install_to } => {
                write!(f, "no worker binary at {}: building the worker with `cargo run`", install_to.display())
            }
            Self::CargoByChoice => f.write_str("worker_command asks for `cargo run`: a broken build stops the worker"),
            Self::NotStored { source, reason, is_run: true } => {
                write!(f, "running {} where it is, without a copy: {reason}", source.display())
            }
            Self::NotStored { source, reason, is_run: false } => {
                write!(f, "{} can't be copied, the binary before it runs on: {reason}", source.display())
            }
            Self::SourceUnfit { source, unfit, runs } => {
                write!(f, "{} can't be run ({unfit}); running on: {runs}", source.display())
            }
        }
    }
}

impl Note {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NeverInstalled { install_to } => install(install_to),
            Self::CargoByChoice => "type = \"Binary\" survives broken source code".to_owned(),
            Self::NotStored { is_run: true, .. } => {
                "free space in the home; until then `cp` over that file fails while a worker runs".to_owned()
            }
            Self::NotStored { is_run: false, .. } => "free space in the home; it is tried again".to_owned(),
            Self::SourceUnfit { source, .. } => install(source),
        }
    }
}

impl Refused {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match &self.unfit {
            Unfit::NotExecutable => "chmod +x that file".to_owned(),
            Unfit::InterpreterMissing { .. } => "install it, or correct the file's first line".to_owned(),
            Unfit::Unsettled { .. } | Unfit::BeingWritten | Unfit::Truncated { .. } => {
                "is it still being copied? it is tried again".to_owned()
            }
            Unfit::Directory => {
                "AUTOPILOT_WORKER_BINARY, or path in [worker_command], has to name the program itself".to_owned()
            }
            Unfit::Unreadable { .. } => "make it and its folders readable".to_owned(),
            Unfit::Untried { .. } => {
                "install a build that works; or, if it is meant to be so, store = \"off\"".to_owned()
            }
            Unfit::Missing
            | Unfit::StoreGone { .. }
            | Unfit::Script
            | Unfit::NotAFile
            | Unfit::Empty
            | Unfit::NotAProgram
            | Unfit::WrongMachine { .. } => install(&self.path),
        }
    }
}

fn install(to: &Path) -> String {
    format!("cargo build --release -p autopilot && cp target/release/autopilot {}", to.display())
}

/// Where the known-good binary is installed.
pub fn install_path(home: &Path) -> PathBuf {
    home.join("bin").join("autopilot")
}
