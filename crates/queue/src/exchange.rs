//! Tasks in files: JSON for programs, Markdown for people. What is written can be read again; what can't be understood is an error, and
//! nothing of the file is made then.

mod json;
mod markdown;

use std::collections::{BTreeMap, BTreeSet};

use policy::queue::Status;
use rusqlite::params;

use crate::task::{self, Draft, Task, UnknownWord, word};
use crate::tasks::{insert, set_needs};
use crate::{Error, Queue};
use json::FORMAT;
pub use json::{json, read_json, task_json};
pub use markdown::{markdown, read_markdown};

/// The numbers of new tasks go on from the highest: a file must not use them up.
const MOST_ID: i64 = 1 << 31;
/// The year 9999, in milliseconds since 1970.
const MOST_MS: u64 = 253_402_300_799_999;

/// A task of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its number there. It is kept where it is free.
    pub id: Option<i64>,
    pub draft: Draft,
    pub status: Status,
    pub reason: Option<String>,
    /// Who worked on it there. A claim is not handed on.
    pub claimed_by: Option<String>,
    pub attempts: u32,
    pub branch: Option<String>,
    pub times: Times,
}

/// Milliseconds since 1970, as far as the file has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    pub created_ms: Option<u64>,
    pub updated_ms: Option<u64>,
    pub done_ms: Option<u64>,
}

/// What an import made: the numbers that the tasks have now, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub ids: Vec<i64>,
}

/// Why a file can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it is no list of tasks: {0}")]
    Json(String),
    #[error("it has the format `{0}`; known is {FORMAT}")]
    Format(String),
    #[error("line {line}: {error}")]
    Word { line: usize, error: UnknownWord },
    #[error("line {line}: `{found}` is no task's number")]
    Number { line: usize, found: String },
    #[error("line {line}: `{found}` is no number")]
    Count { line: usize, found: String },
    #[error("line {line}: a task needs a title")]
    NoTitle { line: usize },
    #[error("line {line}: this says otherwise than the box in the heading")]
    Status { line: usize },
    #[error("line {line}: this code block has no end")]
    OpenCode { line: usize },
    #[error("task {nth}: {error}")]
    Member { nth: usize, error: UnknownWord },
    #[error("task {nth} has no title")]
    MemberTitle { nth: usize },
    #[error("task {nth} has a state and a status that contradict each other")]
    MemberStatus { nth: usize },
    #[error("task {nth} has a time after the year 9999")]
    MemberTime { nth: usize },
    #[error("#{0} is too high for a task's number; the highest is {MOST_ID}")]
    TooHigh(i64),
    #[error("it has two tasks #{0}")]
    Twice(i64),
    /// In the file's own numbers: those that the tasks would get here nobody knows.
    #[error("#{id} would wait for itself: {}", crate::arrows(.circle))]
    Circle { id: i64, circle: Vec<i64> },
}

impl Document {
    fn new(draft: Draft) -> Self {
        Self {
            id: None,
            draft,
            status: Status::Open,
            reason: None,
            claimed_by: None,
            attempts: 0,
            branch: None,
            times: Times::default(),
        }
    }
}

impl From<&Task> for Document {
    fn from(task: &Task) -> Self {
        let Task { id, title, description, priority, kind, status, reason, needs, attempts, branch, .. } = task.clone();
        let times =
            Times { created_ms: Some(task.created_ms), updated_ms: Some(task.updated_ms), done_ms: task.done_ms };
        let draft = Draft { title, description, priority, kind, needs };
        Self { id: Some(id), status, reason, attempts, branch, times, ..Self::new(draft) }
    }
}

/// What a list calls it. That a task waits or is claimed follows from other things than its status.
fn standing_status(text: &str) -> Result<Status, UnknownWord> {
    match text {
        "ready" | "claimed" | "waiting" => Ok(Status::Open),
        "blocked" => Ok(Status::Blocked),
        "done" => Ok(Status::Done),
        _ => Err(UnknownWord { found: text.to_owned(), known: &["ready", "claimed", "waiting", "blocked", "done"] }),
    }
}

/// Some editors put a byte order mark in front.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn checked(tasks: Vec<Document>) -> Result<Vec<Document>, Unreadable> {
    let mut ids: Vec<i64> = tasks.iter().filter_map(|task| task.id).collect();
    ids.sort_unstable();
    if let Some(id) = ids.last().filter(|id| **id > MOST_ID) {
        return Err(Unreadable::TooHigh(*id));
    }
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Unreadable::Twice(pair[0]));
    }
    let mut edges: Vec<(i64, i64)> = Vec::new();
    for task in &tasks {
        for (id, needed) in task.id.iter().flat_map(|id| task.draft.needs.iter().map(|needed| (*id, *needed))) {
            if let Some(circle) = policy::queue::circle(&edges, id, needed) {
                return Err(Unreadable::Circle { id, circle });
            }
            edges.push((id, needed));
        }
    }
    let late = tasks.iter().position(|Document { times: Times { created_ms, updated_ms, done_ms }, .. }| {
        [created_ms, updated_ms, done_ms].into_iter().flatten().any(|ms| *ms > MOST_MS)
    });
    match late {
        Some(index) => Err(Unreadable::MemberTime { nth: index + 1 }),
        None => Ok(tasks),
    }
}

/// A task of a file and the number of one that it needs and that the file does not have.
#[must_use]
pub fn needed_from_elsewhere(documents: &[Document]) -> Vec<(&Document, i64)> {
    let own: BTreeSet<i64> = documents.iter().filter_map(|document| document.id).collect();
    let elsewhere = |id: &&i64| !own.contains(*id);
    documents
        .iter()
        .flat_map(|document| document.draft.needs.iter().filter(elsewhere).map(move |id| (document, *id)))
        .collect()
}

impl Queue {
    /// Makes the tasks of a file, all or none. A number that is free is kept, another one is replaced wherever the file names it;
    /// a number that the file has not is that of a task that was here before.
    ///
    /// # Errors
    /// [`Error::NoTask`], [`Error::Circle`], and as of the database.
    pub fn import(&mut self, documents: &[Document], now_ms: u64) -> Result<Imported, Error> {
        self.change(|tx| {
            let mut ids = Vec::with_capacity(documents.len());
            let mut renamed = BTreeMap::new();
            for document in documents {
                let free = |id: &i64| -> rusqlite::Result<bool> {
                    tx.query_row("SELECT NOT EXISTS (SELECT 1 FROM task WHERE id = ?1)", [id], |row| row.get(0))
                };
                let wanted = match document.id.filter(|id| *id > 0) {
                    Some(id) if free(&id)? => Some(id),
                    _ => None,
                };
                let Document { status, times, attempts, .. } = document;
                let created_ms = times.created_ms.unwrap_or(now_ms);
                let id = insert(tx, wanted, &document.draft, created_ms)?;
                let reason = document.reason.as_deref().map(task::description);
                let branch = document.branch.as_deref().map(task::title).filter(|branch| !branch.is_empty());
                let done_ms = (*status == Status::Done).then_some(times.done_ms.unwrap_or(now_ms));
                let updated_ms = times.updated_ms.unwrap_or(now_ms);
                let sql = "UPDATE task SET status = ?2, reason = ?3, done_ms = ?4, updated_ms = ?5, attempts = ?6, branch = ?7
                    WHERE id = ?1";
                tx.execute(sql, params![id, word(*status), reason, done_ms, updated_ms, attempts, branch])?;
                renamed.extend(document.id.map(|old| (old, id)));
                ids.push(id);
            }
            for (document, id) in documents.iter().zip(&ids) {
                let needs = document.draft.needs.iter().map(|old| renamed.get(old).copied().unwrap_or(*old));
                set_needs(tx, *id, &needs.collect::<Vec<_>>())?;
            }
            Ok(Imported { ids })
        })
    }
}
