//! What a task is.

use std::fmt;
use std::str::FromStr;

use policy::queue::{Candidate, Priority, Standing, Status};

/// What sort of work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    #[default]
    Task,
    Bug,
    Feature,
}

/// A task as it stands in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: i64,
    /// One line, never empty.
    pub title: String,
    pub description: String,
    pub priority: Priority,
    pub kind: Kind,
    pub status: Status,
    /// Why it is blocked.
    pub reason: Option<String>,
    /// The tasks that have to be done before, in ascending order.
    pub needs: Vec<i64>,
    /// So many of them are not done.
    pub unmet: usize,
    pub lease: Option<Lease>,
    /// Results that were not accepted.
    pub attempts: u32,
    /// Where the result is, if not in the working directory.
    pub branch: Option<String>,
    pub created_ms: u64,
    pub updated_ms: u64,
    pub done_ms: Option<u64>,
}

/// Who works on a task, and until when that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub owner: String,
    pub holder: Holder,
    pub since_ms: u64,
    pub expires_ms: u64,
}

/// What the owner of a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A worker: it holds the project's lock while it lives.
    Worker,
    Person,
}

/// A task to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    pub title: String,
    pub description: String,
    pub priority: Priority,
    pub kind: Kind,
    pub needs: Vec<i64>,
}

/// What is to be different about a task; `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    pub title: Option<String>,
    pub description: Option<String>,
    pub priority: Option<Priority>,
    pub kind: Option<Kind>,
    pub needs: Option<Vec<i64>>,
}

/// Whose queue it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    pub name: String,
    /// Where it is worked on.
    pub folder: Option<String>,
    pub created_ms: u64,
}

impl Task {
    /// For the decisions of `policy::queue`. `holder_is_dead` says of a claim's owner what only the asker can know.
    #[must_use]
    pub fn candidate(&self, holder_is_dead: impl FnOnce(&Lease) -> bool) -> Candidate {
        let lease = self
            .lease
            .as_ref()
            .map(|lease| policy::queue::Lease { expires_ms: lease.expires_ms, holder_is_dead: holder_is_dead(lease) });
        let Self { id, priority, created_ms, status, unmet, .. } = *self;
        Candidate { id, priority, created_ms, status, unmet, lease }
    }

    /// As everybody sees it.
    #[must_use]
    pub fn standing(&self, now_ms: u64) -> Standing {
        self.candidate(|_| false).standing(now_ms)
    }
}

impl Draft {
    /// One line for a title; no blank lines around a description.
    #[must_use]
    pub fn tidied(&self) -> Self {
        Self { title: title(&self.title), description: description(&self.description), ..self.clone() }
    }
}

/// One line without control characters.
pub(crate) fn title(text: &str) -> String {
    let spaced: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines that end with a newline character alone, without blank ones around them.
pub(crate) fn description(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace(['\r', '\0'], "\n");
    let text = text.trim_end();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if !line.trim().is_empty() {
            break;
        }
        start += line.len();
    }
    text.get(start..).unwrap_or_default().to_owned()
}

/// A word that is none of those that are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is none of {}", known.join(", "))]
pub struct UnknownWord {
    pub found: String,
    pub known: &'static [&'static str],
}

/// An enumeration and its words, in the database, the files and the command lines alike.
pub(crate) trait Word: Copy + 'static {
    const ALL: &'static [(Self, &'static str)];
    const WORDS: &'static [&'static str];

    fn read(text: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.iter().find(|(_, word)| *word == text);
        found.map(|(value, _)| *value).ok_or_else(|| UnknownWord { found: text.to_owned(), known: Self::WORDS })
    }
}

macro_rules! words {
    ($type:ty, $($value:path => $word:literal),+) => {
        impl Word for $type {
            const ALL: &'static [(Self, &'static str)] = &[$(($value, $word)),+];
            const WORDS: &'static [&'static str] = &[$($word),+];
        }
    };
}

words!(Priority, Priority::Urgent => "urgent", Priority::High => "high", Priority::Medium => "medium", Priority::Low => "low");
words!(Kind, Kind::Task => "task", Kind::Bug => "bug", Kind::Feature => "feature");
words!(Status, Status::Open => "open", Status::Blocked => "blocked", Status::Done => "done");
words!(Holder, Holder::Worker => "worker", Holder::Person => "person");

/// Reads a priority's word; the type itself is `policy`'s.
///
/// # Errors
/// [`UnknownWord`]
pub fn priority(text: &str) -> Result<Priority, UnknownWord> {
    Word::read(text)
}

/// A priority's word.
#[must_use]
pub fn priority_word(priority: Priority) -> &'static str {
    word(priority)
}

/// A status' word.
#[must_use]
pub fn status_word(status: Status) -> &'static str {
    word(status)
}

impl FromStr for Kind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Word::read(text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(word(*self))
    }
}

pub(crate) fn word<T: Word + PartialEq>(value: T) -> &'static str {
    // Each value is in its list: the macro's use above names them all.
    T::ALL.iter().find(|(known, _)| *known == value).map_or("", |(_, word)| word)
}
