//! A project's database: its tasks, who works on them, and what that has cost. `<home>/projects/<project>/queue.db`.
//!
//! Several processes use it at once: workers, people's commands, the agent's tools. Each change is one transaction that begins
//! `IMMEDIATE`, so that two who read the same state never both act on it; the disk has it when the call returns (WAL with
//! `synchronous = FULL`). What is ready, when a claim is over and what follows a rejection is decided by `policy::queue`; `now` is an
//! argument.
//!
//! **Invariant:** this is the only room that speaks SQL. It prints nothing and looks at no clock.

mod claims;
mod exchange;
mod ledger;
mod open;
mod schema;
mod task;
mod tasks;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use claims::{Claim, Claimant, Found, Which};
pub use exchange::{Document, Imported, Times, Unreadable};
pub use exchange::{json, markdown, needed_from_elsewhere, read_json, read_markdown, task_json};
pub use ledger::{Account, Entry, Price, Tokens, Totals, told};
pub use policy::queue::{Priority, Standing, Status};
pub use task::{Change, Draft, Holder, Kind, Lease, Project, Task, UnknownWord, priority, priority_word, status_word};

/// An open database.
#[derive(Debug)]
pub struct Queue {
    db: Connection,
    path: PathBuf,
}

/// Why something was not done. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no {0}")]
    Missing(PathBuf),
    #[error("{path} was written by a later version (schema {version}, this program knows {known})")]
    Newer { path: PathBuf, version: u32, known: u32 },
    #[error("{path} is damaged: {detail}")]
    Damaged { path: PathBuf, detail: String },
    #[error("{0} is in use by another process for too long")]
    Busy(PathBuf),
    #[error("cannot use {path}: {error}")]
    Disk { path: PathBuf, error: io::Error },
    #[error("cannot use {path}: {error}")]
    Sql { path: PathBuf, error: rusqlite::Error },
    #[error("there is no task #{0}")]
    NoTask(i64),
    #[error("a task needs a title")]
    NoTitle,
    #[error("#{id} would wait for itself: {}", arrows(.circle))]
    Circle { id: i64, circle: Vec<i64> },
    #[error("#{id} is needed by {}", list(.by))]
    NeededBy { id: i64, by: Vec<i64> },
    #[error("#{id} is being worked on by {owner}")]
    Held { id: i64, owner: String, expires_ms: u64 },
    #[error("#{id} is {}", standing_word(*.standing))]
    NotReady { id: i64, standing: Standing },
}

fn arrows(ids: &[i64]) -> String {
    ids.iter().map(|id| format!("#{id}")).collect::<Vec<_>>().join(" → ")
}

fn list(ids: &[i64]) -> String {
    ids.iter().map(|id| format!("#{id}")).collect::<Vec<_>>().join(", ")
}

/// One word for people.
#[must_use]
pub fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Ready => "ready",
        Standing::Claimed => "claimed",
        Standing::Waiting => "waiting",
        Standing::Blocked => "blocked",
        Standing::Done => "done",
    }
}

impl Queue {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        open::failed(&self.path, error)
    }

    /// Reads, with nobody's changes in between.
    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        query(&self.db).map_err(|error| self.failed(error))
    }

    /// One change: all of it or nothing.
    fn change<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Stop>) -> Result<T, Error> {
        let path = self.path.clone();
        let inner = || {
            let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        inner().map_err(|stop| match stop {
            Stop::Sql(error) => open::failed(&path, error),
            Stop::Refused(error) => error,
        })
    }
}

/// Why a transaction was given up.
#[derive(Debug)]
enum Stop {
    Sql(rusqlite::Error),
    Refused(Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}
