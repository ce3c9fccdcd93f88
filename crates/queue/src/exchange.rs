//! Tasks in files: JSON for programs, Markdown for people. What is written can be read again.
//!
//! Markdown: a heading of the second level for each task, `## #3 Title`, then a list of what is known about it (`- priority: high`),
//! then, after a blank line, the description. The number and the list may be missing. A line of a description that would be taken
//! for such a heading gets a backslash in front, as Markdown has it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy::queue::Status;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use crate::task::{self, Draft, Kind, Task, UnknownWord, Word, priority, word};
use crate::tasks::{insert, set_needs};
use crate::{Error, Queue};

/// The JSON file's version. 1: the first.
const FORMAT: &str = "autopilot-tasks/1";
/// The numbers of new tasks go on from the highest: a file must not use them up.
const MOST_ID: i64 = 1 << 31;

/// A task of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its number there. It is kept where it is free.
    pub id: Option<i64>,
    pub draft: Draft,
    pub status: Status,
    pub reason: Option<String>,
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
    #[error("line {line}: a task needs a title")]
    NoTitle { line: usize },
    #[error("task {nth}: {error}")]
    Member { nth: usize, error: UnknownWord },
    #[error("task {nth} has no title")]
    MemberTitle { nth: usize },
    #[error("#{0} is too high for a task's number; the highest is {MOST_ID}")]
    TooHigh(i64),
    #[error("it has two tasks #{0}")]
    Twice(i64),
}

impl From<&Task> for Document {
    fn from(task: &Task) -> Self {
        let Task { id, title, description, priority, kind, status, reason, needs, .. } = task.clone();
        Self { id: Some(id), draft: Draft { title, description, priority, kind, needs }, status, reason }
    }
}

#[derive(Serialize, Deserialize)]
struct JsonFile {
    #[serde(default)]
    format: Option<String>,
    tasks: Vec<JsonTask>,
}

#[derive(Serialize, Deserialize)]
struct JsonTask {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<i64>,
    title: String,
    #[serde(default)]
    description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default)]
    needs: Vec<i64>,
}

/// The tasks as a JSON file.
#[must_use]
pub fn json(tasks: &[Document]) -> String {
    let tasks = tasks.iter().map(|Document { id, draft, status, reason }| JsonTask {
        id: *id,
        title: draft.title.clone(),
        description: draft.description.clone(),
        priority: Some(word(draft.priority).to_owned()),
        kind: Some(word(draft.kind).to_owned()),
        status: Some(word(*status).to_owned()),
        reason: reason.clone(),
        needs: draft.needs.clone(),
    });
    let file = JsonFile { format: Some(FORMAT.to_owned()), tasks: tasks.collect() };
    // Strings and numbers only: nothing in it can fail.
    let mut text = serde_json::to_string_pretty(&file).unwrap_or_default();
    text.push('\n');
    text
}

/// All about a task, as data: for programs and for agents.
#[must_use]
pub fn task_json(task: &Task, now_ms: u64) -> serde_json::Value {
    let lease = task.lease.as_ref().filter(|_| task.standing(now_ms) == policy::queue::Standing::Claimed);
    serde_json::json!({
        "id": task.id,
        "title": task.title,
        "description": task.description,
        "priority": word(task.priority),
        "type": task.kind.to_string(),
        "state": crate::standing_word(task.standing(now_ms)),
        "reason": task.reason,
        "needs": task.needs,
        "claim": lease.map(|lease| serde_json::json!({
            "owner": lease.owner, "since_ms": lease.since_ms, "expires_ms": lease.expires_ms,
        })),
        "attempts": task.attempts,
        "branch": task.branch,
        "created_ms": task.created_ms,
        "updated_ms": task.updated_ms,
        "done_ms": task.done_ms,
    })
}

/// Reads a JSON file.
///
/// # Errors
/// [`Unreadable`]
pub fn read_json(text: &str) -> Result<Vec<Document>, Unreadable> {
    let file: JsonFile = serde_json::from_str(text).map_err(|error| Unreadable::Json(error.to_string()))?;
    if let Some(format) = file.format.filter(|format| format != FORMAT) {
        return Err(Unreadable::Format(format));
    }
    let tasks = file.tasks.into_iter().enumerate().map(|(index, task)| {
        let nth = index + 1;
        let member = |error| Unreadable::Member { nth, error };
        let draft = Draft {
            title: task.title,
            description: task.description,
            priority: read_or_default(task.priority.as_deref()).map_err(member)?,
            kind: read_or_default(task.kind.as_deref()).map_err(member)?,
            needs: task.needs,
        };
        let draft = draft.tidied();
        if draft.title.is_empty() {
            return Err(Unreadable::MemberTitle { nth });
        }
        let status = task.status.as_deref().map_or(Ok(Status::Open), Status::read).map_err(member)?;
        Ok(Document { id: task.id, draft, status, reason: task.reason })
    });
    no_number_twice(tasks.collect::<Result<_, _>>()?)
}

fn read_or_default<T: Word + Default>(text: Option<&str>) -> Result<T, UnknownWord> {
    text.map_or(Ok(T::default()), T::read)
}

fn no_number_twice(tasks: Vec<Document>) -> Result<Vec<Document>, Unreadable> {
    let mut ids: Vec<i64> = tasks.iter().filter_map(|task| task.id).collect();
    ids.sort_unstable();
    if let Some(id) = ids.last().filter(|id| **id > MOST_ID) {
        return Err(Unreadable::TooHigh(*id));
    }
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Unreadable::Twice(pair[0])),
        None => Ok(tasks),
    }
}

/// The tasks as a Markdown file.
#[must_use]
pub fn markdown(tasks: &[Document]) -> String {
    let mut text = String::from("# Tasks\n");
    for Document { id, draft, status, reason } in tasks {
        text.push_str("\n## ");
        if let Some(id) = id {
            // Writing into a String can't fail.
            write!(text, "#{id} ").ok();
        }
        let (priority, kind) = (word(draft.priority), word(draft.kind));
        write!(text, "{}\n\n- priority: {priority}\n- type: {kind}\n", draft.title).ok();
        if !draft.needs.is_empty() {
            let needs: Vec<String> = draft.needs.iter().map(|id| format!("#{id}")).collect();
            writeln!(text, "- needs: {}", needs.join(", ")).ok();
        }
        if *status != Status::Open {
            writeln!(text, "- status: {}", word(*status)).ok();
        }
        if let Some(reason) = reason {
            // On one line, and every character of it back again: JSON's way of quoting does that.
            writeln!(text, "- reason: {}", serde_json::Value::from(reason.as_str())).ok();
        }
        if !draft.description.is_empty() {
            text.push('\n');
            for line in draft.description.lines() {
                if line.trim_start_matches('\\').starts_with("## ") {
                    text.push('\\');
                }
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// Reads a Markdown file. What stands before the first task is passed over.
///
/// # Errors
/// [`Unreadable`]
pub fn read_markdown(text: &str) -> Result<Vec<Document>, Unreadable> {
    let mut tasks: Vec<Reading> = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let (number, line) = (index + 1, line.strip_suffix('\r').unwrap_or(line));
        if let Some(heading) = line.strip_prefix("## ") {
            tasks.push(Reading::begin(heading, number)?);
        } else if let Some(task) = tasks.last_mut() {
            task.line(line, number)?;
        }
    }
    no_number_twice(tasks.into_iter().map(Reading::end).collect())
}

/// A task of which not all lines were read yet.
struct Reading {
    document: Document,
    /// The list of what is known may still come or go on.
    in_list: bool,
    list_began: bool,
    description: String,
}

impl Reading {
    fn begin(heading: &str, line: usize) -> Result<Self, Unreadable> {
        let numbered = heading.trim_start().strip_prefix('#').and_then(|rest| rest.split_once(' '));
        let numbered = numbered.and_then(|(number, title)| Some((number.parse().ok()?, title)));
        let (id, title) = numbered.map_or((None, heading), |(id, title)| (Some(id), title));
        let title = task::title(title);
        if title.is_empty() {
            return Err(Unreadable::NoTitle { line });
        }
        let draft = Draft { title, ..Draft::default() };
        let document = Document { id, draft, status: Status::Open, reason: None };
        Ok(Self { document, in_list: true, list_began: false, description: String::new() })
    }

    fn line(&mut self, line: &str, number: usize) -> Result<(), Unreadable> {
        if self.in_list {
            if line.trim().is_empty() {
                self.in_list = !self.list_began;
                return Ok(());
            }
            if self.member(line, number)? {
                self.list_began = true;
                return Ok(());
            }
            self.in_list = false;
        }
        let escaped = line.strip_prefix('\\').filter(|rest| rest.trim_start_matches('\\').starts_with("## "));
        self.description.push_str(escaped.unwrap_or(line));
        self.description.push('\n');
        Ok(())
    }

    /// `false`: it is none of ours, and so a part of the description.
    fn member(&mut self, line: &str, number: usize) -> Result<bool, Unreadable> {
        let Some((key, value)) = line.strip_prefix("- ").and_then(|line| line.split_once(':')) else {
            return Ok(false);
        };
        let value = value.trim();
        let wrong = |error| Unreadable::Word { line: number, error };
        match key.trim() {
            "priority" => self.document.draft.priority = priority(value).map_err(wrong)?,
            "type" => self.document.draft.kind = value.parse::<Kind>().map_err(wrong)?,
            "status" => self.document.status = Status::read(value).map_err(wrong)?,
            "needs" => self.document.draft.needs = numbers(value, number)?,
            "reason" => {
                self.document.reason = Some(serde_json::from_str(value).unwrap_or_else(|_| value.to_owned()));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn end(self) -> Document {
        let mut document = self.document;
        document.draft.description = task::description(&self.description);
        document
    }
}

fn numbers(text: &str, line: usize) -> Result<Vec<i64>, Unreadable> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let number = word.trim_start_matches('#').parse();
            number.map_err(|_| Unreadable::Number { line, found: word.to_owned() })
        })
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
                let id = insert(tx, wanted, &document.draft, now_ms)?;
                let status = &document.status;
                let reason = document.reason.as_deref().map(task::description);
                let done_ms = (*status == Status::Done).then_some(now_ms);
                let sql = "UPDATE task SET status = ?2, reason = ?3, done_ms = ?4 WHERE id = ?1";
                tx.execute(sql, params![id, word(*status), reason, done_ms])?;
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
