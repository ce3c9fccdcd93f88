//! Opening and making a database. A file that is damaged or of a later version is not touched.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use os::files::create_private_folder;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::schema::STEPS;
use crate::{Error, Queue};

/// Changes take milliseconds; who waits longer than this waits for something that hangs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

impl Queue {
    /// Opens one that exists.
    ///
    /// # Errors
    /// [`Error::Missing`], and as of [`Queue::create`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            return Err(Error::Missing(path.to_owned()));
        }
        Self::with_steps(path, STEPS)
    }

    /// Opens it, and makes it first if there is none: the file for its owner only (0600), the folder too (0700).
    ///
    /// # Errors
    /// The folder or file cannot be made or used; it is damaged, or of a later version.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let disk = |error| Error::Disk { path: path.to_owned(), error };
        if let Some(folder) = path.parent() {
            create_private_folder(folder).map_err(disk)?;
        }
        // SQLite gives the files beside it the same rights, but would make this one for everybody.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(disk(error)),
        }
        Self::with_steps(path, STEPS)
    }

    /// Waits until whoever writes just now has finished. Somebody who was woken by a write to the file may be here before what was
    /// written counts: it counts when it is synced, and nothing is written to the file after that.
    ///
    /// # Errors
    /// As of the database.
    pub fn wait_for_writer(&mut self) -> Result<(), Error> {
        self.change(|_| Ok(()))
    }

    pub(crate) fn with_steps(path: &Path, steps: &[&str]) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let sql = |error| failed(path, error);
        let mut db = Connection::open_with_flags(path, flags).map_err(sql)?;
        db.busy_timeout(BUSY_TIMEOUT).map_err(sql)?;
        let version = version(&db).map_err(sql)?;
        let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        if version > known {
            return Err(Error::Newer { path: path.to_owned(), version, known });
        }
        // A page cache of 256 KB: a queue is small, and a worker is left running for weeks.
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -256;",
        )
        .map_err(sql)?;
        if version < known {
            bring_forward(&mut db, steps).map_err(sql)?;
        }
        Ok(Self { db, path: path.to_owned() })
    }
}

fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// All missing steps in one transaction: a death in the middle leaves the old version.
fn bring_forward(db: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Somebody else may have done it while we waited for the lock.
    let from = version(&transaction)?;
    for step in steps.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(steps.len()).unwrap_or(i64::MAX))?;
    transaction.commit()
}

pub(crate) fn failed(path: &Path, error: rusqlite::Error) -> Error {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Damaged { path, detail: error.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy(path),
        _ => Error::Sql { path, error },
    }
}
