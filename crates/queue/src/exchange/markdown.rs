//! Tasks as Markdown: a heading of the second level for each, `## #3 Title`, then a list of what is known about it (`- priority:
//! high`), then, after a blank line, the description. The number and the list may be missing; `## [x] Title` is done. A line of a
//! description that would be taken for such a heading, or for the beginning of a code block that has no end, gets a backslash in
//! front, as Markdown has it.
//!
//! Headings, code blocks: <https://spec.commonmark.org/0.31.2/>, sections 4.2 and 4.5. A heading that is indented is none here: it
//! belongs to an item of a list.

use std::fmt::Write as _;

use policy::queue::{Priority, Status};

use super::{Document, Unreadable, checked, standing_status, without_mark};
use crate::task::{self, Draft, Kind, UnknownWord, Word, word};

/// The tasks as a Markdown file. Times are left out.
#[must_use]
pub fn markdown(tasks: &[Document]) -> String {
    let mut text = String::from("# Tasks\n");
    for Document { id, draft, status, reason, attempts, branch, .. } in tasks {
        text.push_str("\n## ");
        if let Some(id) = id {
            // Writing into a String can't fail.
            write!(text, "#{id} ").ok();
        }
        if mark(draft.title.trim_start_matches('\\')).is_some() {
            text.push('\\');
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
        // On one line, and every character of it back again: JSON's way of quoting does that.
        let mut quoted = |name: &str, value: &Option<String>| {
            value.as_deref().map(|value| writeln!(text, "- {name}: {}", serde_json::Value::from(value)).ok())
        };
        quoted("reason", reason);
        quoted("branch", branch);
        if *attempts > 0 {
            writeln!(text, "- attempts: {attempts}").ok();
        }
        if !draft.description.is_empty() {
            text.push('\n');
            describe(&mut text, &draft.description);
        }
    }
    text
}

fn describe(text: &mut String, description: &str) {
    let lines: Vec<&str> = description.lines().collect();
    let mut fence: Option<Fence<'_>> = None;
    for (index, line) in lines.iter().enumerate() {
        let is_closed = |fence: &Fence<'_>| lines.iter().skip(index + 1).any(|line| fence.is_closed_by(line));
        let (indent, rest) = indented(line);
        let mut in_code = fence.is_some();
        match &fence {
            Some(open) if open.is_closed_by(line) => fence = None,
            Some(_) => {}
            None => {
                fence = Fence::opened_by(line).filter(is_closed);
                in_code = fence.is_some();
            }
        }
        text.push_str(indent);
        if !in_code && is_special(indent, rest) {
            text.push('\\');
        }
        text.push_str(rest);
        text.push('\n');
    }
}

/// Reads a Markdown file. What stands before the first task is passed over.
///
/// # Errors
/// [`Unreadable`]
pub fn read_markdown(text: &str) -> Result<Vec<Document>, Unreadable> {
    let mut tasks: Vec<Reading> = Vec::new();
    let mut fence: Option<(Fence<'_>, usize)> = None;
    for (index, line) in without_mark(text).split('\n').enumerate() {
        let (number, line) = (index + 1, line.strip_suffix('\r').unwrap_or(line));
        let mut in_code = fence.is_some();
        match &fence {
            Some((open, _)) if open.is_closed_by(line) => fence = None,
            Some(_) => {}
            None => {
                if let Some(heading) = heading(line) {
                    tasks.push(Reading::begin(heading, number)?);
                    continue;
                }
                fence = Fence::opened_by(line).map(|fence| (fence, number));
                in_code = fence.is_some();
            }
        }
        if let Some(task) = tasks.last_mut() {
            if in_code { task.code(line) } else { task.line(line, number)? }
        }
    }
    if let Some((_, line)) = fence {
        return Err(Unreadable::OpenCode { line });
    }
    checked(tasks.into_iter().map(Reading::end).collect())
}

/// The text of a heading of the second level.
fn heading(line: &str) -> Option<&str> {
    let text = line.strip_prefix("##")?;
    (text.is_empty() || text.starts_with([' ', '\t'])).then_some(text)
}

/// Whether the box in front of a text is ticked, and what follows.
fn mark(text: &str) -> Option<(bool, &str)> {
    let marks = [("[x]", true), ("[X]", true), ("[ ]", false)];
    let (rest, ticked) = marks.iter().find_map(|(mark, ticked)| Some((text.strip_prefix(mark)?, *ticked)))?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then_some((ticked, rest.trim_start()))
}

/// Up to three spaces, and what follows. More would be code.
fn indented(line: &str) -> (&str, &str) {
    let spaces = line.len() - line.trim_start_matches(' ').len();
    line.split_at(if spaces <= 3 { spaces } else { 0 })
}

/// Whether a line would not be taken as text but for a backslash; it may have some already.
fn is_special(indent: &str, rest: &str) -> bool {
    let bare = rest.trim_start_matches('\\');
    (indent.is_empty() && heading(bare).is_some()) || Fence::opened_by(bare).is_some()
}

/// The first line of a code block.
#[derive(Debug, Clone, Copy)]
struct Fence<'a>(&'a str);

impl<'a> Fence<'a> {
    fn opened_by(line: &'a str) -> Option<Self> {
        let (_, line) = indented(line);
        let sign = ['`', '~'].into_iter().find(|sign| line.starts_with(*sign))?;
        let info = line.trim_start_matches(sign);
        let (fence, _) = line.split_at(line.len() - info.len());
        (fence.len() >= 3 && !(sign == '`' && info.contains('`'))).then_some(Self(fence))
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let (_, line) = indented(line);
        let line = line.trim_end_matches([' ', '\t']);
        line.starts_with(self.0) && line.chars().all(|char| self.0.starts_with(char))
    }
}

/// A task of which not all lines were read yet.
struct Reading {
    document: Document,
    /// Its box.
    ticked: Option<bool>,
    /// The list of what is known may still come or go on.
    in_list: bool,
    list_began: bool,
    description: String,
}

impl Reading {
    fn begin(heading: &str, line: usize) -> Result<Self, Unreadable> {
        let text = heading.trim();
        let (mut ticked, text) = mark(text).map_or((None, text), |(ticked, rest)| (Some(ticked), rest));
        let numbered = text.strip_prefix('#').and_then(|rest| rest.split_once([' ', '\t']));
        let numbered = numbered.and_then(|(number, title)| Some((number.parse().ok()?, title.trim_start())));
        let (id, mut text) = numbered.map_or((None, text), |(id, title)| (Some(id), title));
        if let Some((is_ticked, rest)) = mark(text).filter(|_| ticked.is_none()) {
            (ticked, text) = (Some(is_ticked), rest);
        }
        let escaped = text.strip_prefix('\\').filter(|rest| mark(rest.trim_start_matches('\\')).is_some());
        let title = task::title(escaped.unwrap_or(text));
        if title.is_empty() {
            return Err(Unreadable::NoTitle { line });
        }
        let status = if ticked == Some(true) { Status::Done } else { Status::Open };
        let document = Document { id, status, ..Document::new(Draft { title, ..Draft::default() }) };
        Ok(Self { document, ticked, in_list: true, list_began: false, description: String::new() })
    }

    /// A line of a code block, its fences included.
    fn code(&mut self, line: &str) {
        self.in_list = false;
        self.description.push_str(line);
        self.description.push('\n');
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
        let (indent, rest) = indented(line);
        let escaped = rest.strip_prefix('\\').filter(|_| is_special(indent, rest));
        self.description.push_str(indent);
        self.description.push_str(escaped.unwrap_or(rest));
        self.description.push('\n');
        Ok(())
    }

    /// `false`: it is none of ours, and so a part of the description.
    fn member(&mut self, line: &str, number: usize) -> Result<bool, Unreadable> {
        let item = ["- ", "* ", "+ "].into_iter().find_map(|bullet| line.strip_prefix(bullet));
        let Some((key, value)) = item.and_then(|item| item.split_once(':')) else {
            return Ok(false);
        };
        let value = value.trim();
        let wrong = |error| Unreadable::Word { line: number, error };
        let quoted = || Some(serde_json::from_str(value).unwrap_or_else(|_| value.to_owned()));
        match key.trim().to_lowercase().as_str() {
            "priority" => self.document.draft.priority = either_case::<Priority>(value).map_err(wrong)?,
            "type" => self.document.draft.kind = either_case::<Kind>(value).map_err(wrong)?,
            "status" => self.status(either_case::<Status>(value).map_err(wrong)?, number)?,
            "state" => self.status(standing_status(&value.to_lowercase()).map_err(wrong)?, number)?,
            "needs" => self.document.draft.needs = numbers(value, number)?,
            "reason" => self.document.reason = quoted(),
            "branch" => self.document.branch = quoted(),
            "attempts" => {
                let attempts = value.parse();
                self.document.attempts =
                    attempts.map_err(|_| Unreadable::Count { line: number, found: value.to_owned() })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn status(&mut self, status: Status, line: usize) -> Result<(), Unreadable> {
        if self.ticked.is_some_and(|ticked| ticked != (status == Status::Done)) {
            return Err(Unreadable::Status { line });
        }
        self.document.status = status;
        Ok(())
    }

    fn end(self) -> Document {
        let mut document = self.document;
        document.draft.description = task::description(&self.description);
        document
    }
}

/// A word as a person writes it.
fn either_case<T: Word>(text: &str) -> Result<T, UnknownWord> {
    T::read(&text.to_lowercase()).map_err(|error| UnknownWord { found: text.to_owned(), ..error })
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
