//! Tasks as JSON. Read are the file that is exported and what `issue list --json` says alike; a member that neither has is an error, so
//! that nothing gets lost in silence.

use policy::queue::{Standing, Status};
use serde::{Deserialize, Serialize};

use super::{Document, Times, Unreadable, checked, standing_status, without_mark};
use crate::task::{Draft, Task, UnknownWord, Word, word};

/// The JSON file's version. 1: the first.
pub(super) const FORMAT: &str = "autopilot-tasks/1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonFile {
    #[serde(default)]
    format: Option<String>,
    tasks: Vec<JsonTask>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// As a list says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default)]
    needs: Vec<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<JsonClaim>,
    #[serde(default)]
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    updated_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonClaim {
    owner: String,
    /// Not in lists of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    since_ms: u64,
    expires_ms: u64,
}

/// The tasks as a JSON file.
#[must_use]
pub fn json(tasks: &[Document]) -> String {
    let tasks = tasks.iter().map(|document| {
        let Document { id, draft, status, reason, attempts, branch, times, .. } = document.clone();
        JsonTask {
            id,
            title: draft.title,
            description: draft.description,
            priority: Some(word(draft.priority).to_owned()),
            kind: Some(word(draft.kind).to_owned()),
            status: Some(word(status).to_owned()),
            state: None,
            reason,
            needs: draft.needs,
            claim: None,
            attempts,
            branch,
            created_ms: times.created_ms,
            updated_ms: times.updated_ms,
            done_ms: times.done_ms,
        }
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
    let lease = task.lease.as_ref().filter(|_| task.standing(now_ms) == Standing::Claimed);
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
            "owner": lease.owner, "holder": word(lease.holder), "since_ms": lease.since_ms, "expires_ms": lease.expires_ms,
        })),
        "attempts": task.attempts,
        "branch": task.branch,
        "created_ms": task.created_ms,
        "updated_ms": task.updated_ms,
        "done_ms": task.done_ms,
    })
}

/// Reads a JSON file, or a list of tasks alone.
///
/// # Errors
/// [`Unreadable`]
pub fn read_json(text: &str) -> Result<Vec<Document>, Unreadable> {
    let unreadable =
        |error: serde_json::Error| Unreadable::Json(error.to_string().replace("unknown field", "unknown member"));
    let text = without_mark(text);
    // serde would read a list as the object, member by member.
    let file = if text.trim_start().starts_with('[') {
        JsonFile { format: None, tasks: serde_json::from_str(text).map_err(unreadable)? }
    } else {
        serde_json::from_str(text).map_err(unreadable)?
    };
    if let Some(id) = file.tasks.iter().filter_map(|task| task.id).find(|id| *id < 1) {
        return Err(Unreadable::Json(format!("{id} is no task's id; the first one is 1")));
    }
    if let Some(format) = file.format.filter(|format| format != FORMAT) {
        return Err(Unreadable::Format(format));
    }
    let tasks = file.tasks.into_iter().enumerate().map(|(index, task)| read_task(index + 1, task));
    checked(tasks.collect::<Result<_, _>>()?)
}

fn read_task(nth: usize, task: JsonTask) -> Result<Document, Unreadable> {
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
    let status = task.status.as_deref().map(Status::read).transpose().map_err(member)?;
    let state = task.state.as_deref().map(standing_status).transpose().map_err(member)?;
    if status.is_some_and(|status| state.is_some_and(|state| state != status)) {
        return Err(Unreadable::MemberStatus { nth });
    }
    let times = Times { created_ms: task.created_ms, updated_ms: task.updated_ms, done_ms: task.done_ms };
    Ok(Document {
        id: task.id,
        draft,
        status: status.or(state).unwrap_or(Status::Open),
        reason: task.reason,
        claimed_by: task.claim.map(|claim| claim.owner),
        attempts: task.attempts,
        branch: task.branch,
        times,
    })
}

fn read_or_default<T: Word + Default>(text: Option<&str>) -> Result<T, UnknownWord> {
    text.map_or(Ok(T::default()), T::read)
}
