//! Which program the worker is, and the immutable copy that runs in place of it.
//!
//! Order: `AUTOPILOT_WORKER_BINARY`, `worker_command` in the file (the settings have merged the two), `bin/autopilot` in
//! the home, and `cargo run` where no binary has ever been installed.
//!
//! **Invariant:** a program in machine code never runs from the place that people copy to. Linux refuses to write to a
//! file that is being executed (`ETXTBSY`), which made the documented update step, a plain `cp`, fail while a worker ran;
//! and a file that is half overwritten would run as it is. Scripts run where they are: the kernel opens them for the
//! interpreter only, and they may look for files beside them.

mod index;
mod program;
mod store;

#[cfg(test)]
mod tests;

pub use program::Unfit;
pub use store::Store;

use crate::config::WorkerCommand;
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
    /// There is no copy, because the store cannot be written.
    NotStored { source: PathBuf, reason: String },
    /// The copy is sound, but the store's index could not be written or old copies could not be removed.
    StoreUntidy { reason: String },
}

/// No program to start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot execute worker binary {}: {unfit}", path.display())]
pub struct Refused {
    pub path: PathBuf,
    pub unfit: Unfit,
    /// The newest copy of the same file that still is in the store.
    pub last_good: Option<Box<Launch>>,
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
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverInstalled { install_to } => {
                write!(f, "no worker binary at {}: building the worker with `cargo run`", install_to.display())
            }
            Self::CargoByChoice => f.write_str("worker_command asks for `cargo run`: a broken build stops the worker"),
            Self::NotStored { source, reason } => {
                write!(f, "running {} where it is, without a copy: {reason}", source.display())
            }
            Self::StoreUntidy { reason } => write!(f, "the store of worker binaries cannot be tidied: {reason}"),
        }
    }
}

impl Note {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NeverInstalled { install_to } => install(install_to),
            Self::CargoByChoice => "type = \"Binary\" survives broken source code".to_owned(),
            Self::NotStored { .. } => {
                "free space in the home; until then `cp` over that file fails while a worker runs".to_owned()
            }
            Self::StoreUntidy { .. } => "see bin/store in the home".to_owned(),
        }
    }
}

impl Refused {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match &self.unfit {
            Unfit::NotExecutable => "chmod +x that file".to_owned(),
            Unfit::InterpreterMissing { .. } => "install it, or correct the file's first line".to_owned(),
            Unfit::Unsettled { .. } | Unfit::Truncated { .. } => {
                "is it still being copied? it is tried again".to_owned()
            }
            Unfit::Unreadable { .. } => "make it and its folders readable".to_owned(),
            Unfit::Missing
            | Unfit::Directory
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

impl Store {
    /// Chooses the program for the next start, and makes sure that its copy is in the store. An unchanged binary costs
    /// two `stat` calls. `in_use` names the copies that are running, which stay.
    ///
    /// # Errors
    /// [`Refused`] if the chosen file cannot be run. There is no falling through to the next candidate: who names a
    /// program means that one.
    pub fn choose(&mut self, command: Option<&WorkerCommand>, in_use: &[&Path]) -> Result<Launch, Refused> {
        let path = match command {
            Some(WorkerCommand::Binary { path }) => path.clone(),
            Some(WorkerCommand::Cargo { manifest_path }) => {
                return Ok(Launch::cargo(manifest_path.as_deref(), Note::CargoByChoice));
            }
            None => install_path(self.home()),
        };
        match self.admit(&path, in_use) {
            Ok(launch) => Ok(launch),
            Err(Unfit::Missing) if command.is_none() && !self.has_history() => {
                Ok(Launch::cargo(None, Note::NeverInstalled { install_to: path }))
            }
            Err(unfit) => {
                let last_good = self.last_good(&path).map(Box::new);
                Err(Refused { path, unfit, last_good })
            }
        }
    }
}
