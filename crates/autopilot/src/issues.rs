//! `autopilot issue`: the tasks of a project.

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use queue::{Change, Claimant, Document, Draft, Found, Holder, Queue, Standing, Status, Task, Which};
use queue::{priority_word, standing_word};
use serde_json::{Value, json};
use worker::Environment;

use crate::cli::queue::{Format, Issue, IssueCommand};
use crate::cli::report::{Exit, Failure};
use crate::projects::{Known, failed, find, find_or_make, need, say};
use crate::table::{table, terminal_columns};

pub(crate) fn main(issue: &Issue, env: &Environment) -> ExitCode {
    match carry_out(issue, env) {
        Ok(text) => say(&text),
        Err(failure) => failure.report(),
    }
}

fn carry_out(issue: &Issue, env: &Environment) -> Result<String, Failure> {
    let now_ms = os::clock::wall_ms();
    let project = issue.project.as_deref();
    let refused = |error: queue::Error| failed(&error);
    match &issue.command {
        IssueCommand::Create { title, description, priority, kind, needs } => {
            let draft = Draft {
                title: title.clone(),
                description: text_of(description)?,
                priority: *priority,
                kind: *kind,
                needs: needs.clone(),
            };
            if draft.tidied().title.is_empty() {
                return Err(failed(&queue::Error::NoTitle));
            }
            let mut known = find_or_make(env, project)?;
            let id = known.queue.create_task(&draft, now_ms).map_err(refused)?;
            Ok(format!("#{id} {}\n", draft.tidied().title))
        }
        IssueCommand::List { all, json } => list(&need(env, project)?.queue, *all, *json, now_ms),
        IssueCommand::Show { id, json } => {
            let task = need(env, project)?.queue.task(*id).map_err(refused)?;
            Ok(if *json { format!("{:#}\n", queue::task_json(&task, now_ms)) } else { shown(&task, now_ms) })
        }
        IssueCommand::Edit { id, title, description, priority, kind, needs } => {
            let change = Change {
                title: title.clone(),
                description: description.as_deref().map(text_of).transpose()?,
                priority: *priority,
                kind: *kind,
                needs: needs.as_ref().map(|ids| ids.0.clone()),
            };
            if change == Change::default() {
                return Err(Failure::new(Exit::Usage, "nothing to change was given")
                    .hint("--title, --description, --priority, --type or --needs"));
            }
            need(env, project)?.queue.edit(*id, &change, now_ms).map_err(refused)?;
            Ok(format!("#{id} changed\n"))
        }
        IssueCommand::Claim { id, lease } => {
            let which = id.map_or(Which::Next, Which::This);
            let claimant = Claimant { owner: person(), holder: Holder::Person, lease_ms: lease.0, holds_lock: false };
            let mut known = need(env, project)?;
            match known.queue.claim(which, &claimant, now_ms).map_err(refused)? {
                Found::Task(claim) => {
                    let task = known.queue.task(claim.id).map_err(refused)?;
                    Ok(format!("#{} {} is yours until {}\n", task.id, task.title, time(claim.expires_ms)))
                }
                Found::Nothing { .. } => Err(Failure::new(Exit::Refused, "no task is ready")
                    .hint("`autopilot issue list` shows what the others wait for")),
            }
        }
        IssueCommand::Release { id } => {
            let mut known = need(env, project)?;
            known.queue.task(*id).map_err(refused)?;
            let released = known.queue.release(*id, None).map_err(refused)?;
            Ok(if released { format!("#{id} can be claimed again\n") } else { format!("nobody had claimed #{id}\n") })
        }
        IssueCommand::Complete { id, force } => {
            let mut known = need(env, project)?;
            let owner = person();
            let new = if *force {
                known.queue.complete_anyway(*id, now_ms)
            } else {
                known.queue.complete(*id, Some(&owner), now_ms)
            };
            Ok(if new.map_err(refused)? { format!("#{id} done\n") } else { format!("#{id} was done already\n") })
        }
        IssueCommand::Block { reason, .. } if reason.trim().is_empty() => {
            Err(Failure::new(Exit::Usage, "no reason was given").hint("say in a few words what it waits for"))
        }
        IssueCommand::Block { id, reason } => {
            need(env, project)?.queue.block(*id, reason, Some(&person()), now_ms).map_err(refused)?;
            Ok(format!("#{id} blocked\n"))
        }
        IssueCommand::Unblock { id } => open_again(env, project, *id, Status::Blocked, now_ms),
        IssueCommand::Reopen { id } => open_again(env, project, *id, Status::Done, now_ms),
        IssueCommand::Remove { ids } => {
            let mut known = need(env, project)?;
            for id in ids {
                known.queue.remove(*id, now_ms).map_err(refused)?;
            }
            let ids: Vec<String> = ids.iter().map(|id| format!("#{id}")).collect();
            Ok(format!("removed {}\n", ids.join(", ")))
        }
        IssueCommand::Import { file, format } => import(env, project, file, *format, now_ms),
        IssueCommand::Export { file, format, json } => {
            let format = if *json { Some(Format::Json) } else { *format };
            export(&need(env, project)?.queue, file.as_deref(), format)
        }
    }
}

fn open_again(env: &Environment, project: Option<&str>, id: i64, from: Status, now_ms: u64) -> Result<String, Failure> {
    let opened = need(env, project)?.queue.open_again(id, from, now_ms).map_err(|error| failed(&error))?;
    let was = queue::status_word(from);
    Ok(if opened { format!("#{id} is open again\n") } else { format!("#{id} was not {was}; nothing has changed\n") })
}

/// The user's name, whatever the environment says: a claim of one's own can be taken up, and completed, from another terminal.
fn person() -> String {
    os::process::user_name().unwrap_or_else(|| format!("user {}", os::process::effective_uid()))
}

/// `-`: what comes on stdin.
fn text_of(given: &str) -> Result<String, Failure> {
    if given == "-" { read_stdin() } else { Ok(given.to_owned()) }
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read stdin as text: {error}")))?;
    Ok(text)
}

/// A time of day, with the day if it is another one.
pub(crate) fn time(ms: u64) -> String {
    let zone = TimeZone::system();
    let local = |ms: u64| {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX).to_zoned(zone.clone())
    };
    let (then, today) = (local(ms), local(os::clock::wall_ms()).date());
    let format = if then.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" };
    then.strftime(format).to_string()
}

/// The order of a list: what happens, what is next, what waits, what is over.
fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Claimed => 0,
        Standing::Ready => 1,
        Standing::Waiting => 2,
        Standing::Blocked => 3,
        Standing::Done => 4,
    }
}

fn list(queue: &Queue, with_done: bool, as_data: bool, now_ms: u64) -> Result<String, Failure> {
    let mut tasks = queue.tasks().map_err(|error| failed(&error))?;
    let done = tasks.iter().filter(|task| task.status == Status::Done).count();
    if !with_done {
        tasks.retain(|task| task.status != Status::Done);
    }
    tasks.sort_by_key(|task| (rank(task.standing(now_ms)), task.priority, task.created_ms, task.id));
    if as_data {
        let tasks: Vec<Value> = tasks.iter().map(|task| queue::task_json(task, now_ms)).collect();
        return Ok(format!("{:#}\n", json!({ "tasks": tasks })));
    }
    if tasks.is_empty() {
        let none =
            if done == 0 { "no tasks; `autopilot issue create \"…\"` makes one" } else { "nothing left to do" };
        let hidden = if done == 0 { String::new() } else { format!(" ({done} done: --all shows them)") };
        return Ok(format!("{none}{hidden}\n"));
    }
    let rows: Vec<Vec<String>> = tasks.iter().map(|task| row(task, now_ms)).collect();
    Ok(table(&["", "state", "priority", "type", "title"], &rows, terminal_columns()))
}

fn row(task: &Task, now_ms: u64) -> Vec<String> {
    let standing = task.standing(now_ms);
    let remark = match standing {
        Standing::Waiting => format!(" (needs {})", numbers(&task.needs)),
        Standing::Blocked => task.reason.as_deref().map(first_line).map_or_else(String::new, |why| format!(" ({why})")),
        Standing::Claimed => task.lease.as_ref().map_or_else(String::new, |lease| format!(" ({})", lease.owner)),
        Standing::Ready | Standing::Done => String::new(),
    };
    vec![
        format!("#{}", task.id),
        standing_word(standing).to_owned(),
        priority_word(task.priority).to_owned(),
        task.kind.to_string(),
        format!("{}{remark}", task.title),
    ]
}

/// In a list; what a check said follows a line that only announces it.
fn first_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let said = lines.next().filter(|_| first.ends_with(':'));
    said.map_or_else(|| first.to_owned(), |said| format!("{first} {said}"))
}

fn numbers(ids: &[i64]) -> String {
    ids.iter().map(|id| format!("#{id}")).collect::<Vec<_>>().join(", ")
}

fn shown(task: &Task, now_ms: u64) -> String {
    let mut lines = vec![format!("#{} {}", task.id, task.title), String::new()];
    let mut line = |name: &str, value: &str| lines.push(format!("{name:<10}{value}"));
    let standing = task.standing(now_ms);
    line("state", standing_word(standing));
    if let Some(reason) = &task.reason {
        line("reason", &reason.replace('\n', "\n          "));
    }
    if let Some(lease) = task.lease.as_ref().filter(|_| standing == Standing::Claimed) {
        let by_hand = if lease.holder == Holder::Person { " (by hand)" } else { "" };
        line("claimed", &format!("by {}{by_hand}, until {}", lease.owner, time(lease.expires_ms)));
    }
    line("priority", priority_word(task.priority));
    line("type", &task.kind.to_string());
    if !task.needs.is_empty() {
        line("needs", &numbers(&task.needs));
    }
    if task.attempts > 0 {
        line("attempts", &format!("{} not accepted", task.attempts));
    }
    if let Some(branch) = &task.branch {
        line("branch", branch);
    }
    line("created", &time(task.created_ms));
    if let Some(done_ms) = task.done_ms {
        line("done", &time(done_ms));
    }
    if !task.description.is_empty() {
        lines.extend([String::new(), task.description.clone()]);
    }
    let text = lines.join("\n");
    format!("{}\n", crate::cli::report::printable(&text))
}

fn format_of(file: Option<&Path>, given: Option<Format>) -> Format {
    let by_name = || {
        let is_json = file.and_then(Path::extension).is_some_and(|end| end.eq_ignore_ascii_case("json"));
        if is_json { Format::Json } else { Format::Markdown }
    };
    given.unwrap_or_else(by_name)
}

fn import(
    env: &Environment,
    project: Option<&str>,
    file: &Path,
    format: Option<Format>,
    now_ms: u64,
) -> Result<String, Failure> {
    let from_stdin = file == Path::new("-");
    let name = if from_stdin { "stdin".to_owned() } else { file.display().to_string() };
    let text = if from_stdin {
        read_stdin()?
    } else {
        std::fs::read_to_string(file).map_err(|error| unreadable(&name, &error))?
    };
    let documents = match format_of(Some(file), format) {
        Format::Json => queue::read_json(&text),
        Format::Markdown => queue::read_markdown(&text),
    };
    let documents = documents.map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot import {name}: {error}"))
            .hint("nothing was imported; `autopilot issue export` shows the form")
    })?;
    if documents.is_empty() {
        let hint = match format_of(Some(file), format) {
            Format::Json => "each task is an object with a title: {\"tasks\": [{\"title\": \"What is to be done\"}]}",
            Format::Markdown => "each task has a heading of the second level: ## What is to be done",
        };
        return Err(Failure::new(Exit::Usage, format!("{name} has no tasks")).hint(hint));
    }
    let known = find(env, project)?;
    if let Some((document, needed)) = missing(&documents, known.as_ref())? {
        let of = document.id.map(|id| format!("#{id} ")).unwrap_or_default();
        let title = &document.draft.title;
        let what = format!("{of}{title} needs #{needed}, which is neither in the file nor in the queue");
        return Err(Failure::new(Exit::Usage, format!("cannot import {name}: {what}"))
            .hint("nothing was imported; `autopilot issue list --all --json` and `issue export` have those that are done, too"));
    }
    let mut known = match known {
        Some(known) => known,
        None => find_or_make(env, project)?,
    };
    let imported = known.queue.import(&documents, now_ms).map_err(|error| failed(&error))?;
    let lines = documents.iter().zip(&imported.ids).map(|(document, id)| {
        let remark = match (document.status, &document.claimed_by) {
            (Status::Open, None) => String::new(),
            (Status::Open, Some(owner)) => format!(" (was claimed by {owner}; can be claimed again)"),
            (status, _) => format!(" ({})", queue::status_word(status)),
        };
        format!("#{id} {}{remark}\n", document.draft.title)
    });
    Ok(lines.collect())
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    let (what, hint) = match error.kind() {
        io::ErrorKind::NotFound => (format!("there is no file {name}"), "`-` reads stdin"),
        io::ErrorKind::InvalidData => (format!("{name} is no text in UTF-8"), "convert it, for example with iconv"),
        _ => (format!("cannot read {name}: {error}"), "nothing was imported"),
    };
    Failure::new(Exit::Usage, what).hint(hint)
}

/// A task of a file that needs one that is nowhere.
fn missing<'a>(documents: &'a [Document], known: Option<&Known>) -> Result<Option<(&'a Document, i64)>, Failure> {
    for (document, id) in queue::needed_from_elsewhere(documents) {
        match known.map(|known| known.queue.task(id)) {
            Some(Ok(_)) => {}
            None | Some(Err(queue::Error::NoTask(_))) => return Ok(Some((document, id))),
            Some(Err(error)) => return Err(failed(&error)),
        }
    }
    Ok(None)
}

fn export(queue: &Queue, file: Option<&Path>, format: Option<Format>) -> Result<String, Failure> {
    let tasks = queue.tasks().map_err(|error| failed(&error))?;
    let documents: Vec<Document> = tasks.iter().map(Document::from).collect();
    let text = match format_of(file, format) {
        Format::Json => queue::json(&documents),
        Format::Markdown => queue::markdown(&documents),
    };
    let Some(file) = file else { return Ok(text) };
    os::files::write_where_it_is(file, text.as_bytes()).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot write {}: {error}", file.display()))
            .hint("name a file in a folder of yours")
    })?;
    let count = documents.len();
    Ok(format!("wrote {count} {} to {}\n", if count == 1 { "task" } else { "tasks" }, file.display()))
}
