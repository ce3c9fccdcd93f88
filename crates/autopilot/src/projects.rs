//! `autopilot project`, and which project a command is about.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use queue::{Error, Queue, Standing, standing_word};
use serde_json::json;
use worker::{Environment, project_slug};

use crate::cli::queue::Project;
use crate::cli::report::{Exit, Failure, print};
use crate::table::{table, terminal_columns};

/// A project that somebody made.
pub(crate) struct Known {
    /// The folder's name below `projects`.
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) queue: Queue,
}

pub(crate) fn main(command: &Project, env: &Environment) -> ExitCode {
    let result = match command {
        Project::Create { name, path } => create(env, name.as_deref(), path.as_deref()),
        Project::List { json } => list(env, *json),
        Project::Show { name, json } => show(env, name.as_deref(), *json),
        Project::Remove { name, yes } => remove(env, name, *yes),
    };
    match result {
        Ok(text) => say(&text),
        Err(failure) => failure.report(),
    }
}

/// Prints it.
pub(crate) fn say(text: &str) -> ExitCode {
    match print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The folder of all projects.
pub(crate) fn projects_folder(env: &Environment) -> Result<PathBuf, Failure> {
    let home = env.autopilot_home().ok_or_else(|| {
        Failure::new(Exit::Internal, "neither AUTOPILOT_HOME nor HOME is set")
            .hint("set AUTOPILOT_HOME to a directory for autopilot's state")
    })?;
    Ok(home.join("projects"))
}

pub(crate) fn current_folder() -> Result<PathBuf, Failure> {
    std::env::current_dir().and_then(std::fs::canonicalize).map_err(|error| {
        Failure::new(Exit::Internal, format!("cannot tell the current directory: {error}"))
            .hint("change to a folder that exists, or name the project with --project")
    })
}

/// A project by its name, or that of the current directory or the nearest one above it.
pub(crate) fn find(env: &Environment, name: Option<&str>) -> Result<Option<Known>, Failure> {
    let projects = projects_folder(env)?;
    let Some(name) = name else {
        let cwd = current_folder()?;
        return of_folder(&projects, &cwd);
    };
    if let Some(known) = open(&projects, &project_slug(Some(name), Path::new("/")))? {
        return Ok(Some(known));
    }
    // One without a name of its own is known by its folder's, or by that of its files.
    let mut alike: Vec<Known> =
        all(&projects)?.into_iter().filter(|known| known.name == name || known.slug == name).collect();
    Ok(if alike.len() == 1 { alike.pop() } else { None })
}

/// The project that is worked on in this folder, or in the nearest one above it.
pub(crate) fn of_folder(projects: &Path, folder: &Path) -> Result<Option<Known>, Failure> {
    let known = all(projects)?;
    let depth =
        |known: &Known| known.folder.as_ref().filter(|own| folder.starts_with(own)).map(|own| own.components().count());
    let Some(deepest) = known.iter().filter_map(depth).max() else { return Ok(None) };
    let mut nearest: Vec<Known> = known.into_iter().filter(|known| depth(known) == Some(deepest)).collect();
    if nearest.len() > 1 {
        // The one that has no name of its own is what the folder alone stands for.
        let own = |known: &Known| known.folder.as_deref().is_some_and(|own| known.slug == project_slug(None, own));
        if let Some(at) = nearest.iter().position(own) {
            return Ok(Some(nearest.swap_remove(at)));
        }
        let names: Vec<&str> = nearest.iter().map(|known| known.name.as_str()).collect();
        return Err(Failure::new(Exit::Usage, format!("this folder has several projects: {}", names.join(", ")))
            .hint("name one with --project"));
    }
    Ok(nearest.pop())
}

/// What a worker is to be told: a project's name, if it has one of its own, and the folder to work in. `of_queue`: it is to work off
/// a queue, which may be that of the folder or of the nearest one above it. What can't be read is the worker's to tell.
pub(crate) fn for_worker(
    env: &Environment,
    name: Option<String>,
    cwd: PathBuf,
    of_queue: bool,
) -> (Option<String>, PathBuf) {
    let found = match &name {
        Some(name) => find(env, Some(name)),
        None if of_queue => projects_folder(env)
            .and_then(|projects| cwd.canonicalize().map_or(Ok(None), |folder| of_folder(&projects, &folder))),
        None => Ok(None),
    };
    let Ok(Some(Known { slug, name: called, folder: Some(folder), .. })) = found else { return (name, cwd) };
    // Under the daemon it stays where the settings have put it; by hand, where it has a job of its own.
    if name.is_none()
        && let Some(own) = cwd.canonicalize().ok().filter(|own| *own != folder)
        && (env.supervised || has_job(env, &own))
    {
        return (name, cwd);
    }
    let has_name = slug == project_slug(Some(&called), &folder);
    match name {
        // It has a name of its own, which leads to it from anywhere.
        Some(_) if has_name => (name, cwd),
        Some(_) => (None, folder),
        None => (has_name.then_some(called), folder),
    }
}

/// A prompt was worked on in this folder.
fn has_job(env: &Environment, folder: &Path) -> bool {
    projects_folder(env).is_ok_and(|projects| projects.join(project_slug(None, folder)).join("work.json").exists())
}

/// The same, for a command that can't do without.
pub(crate) fn need(env: &Environment, name: Option<&str>) -> Result<Known, Failure> {
    let missing = || match name {
        Some(name) => Failure::new(Exit::Usage, format!("there is no project {name}"))
            .hint("`autopilot project list` shows them; `autopilot project create` makes one"),
        None => Failure::new(Exit::Usage, "there is no project here")
            .hint("`autopilot issue create \"…\"` makes one with its first task; or name one with --project"),
    };
    find(env, name)?.ok_or_else(missing)
}

/// The database of a project, whether or not somebody has made a queue in it: a worker keeps its ledger there.
pub(crate) fn database(env: &Environment, name: Option<&str>) -> Result<Queue, Failure> {
    if let Some(known) = find(env, name)? {
        return Ok(known.queue);
    }
    let slug = project_slug(name, &current_folder()?);
    match Queue::open(&projects_folder(env)?.join(slug).join("queue.db")) {
        Ok(queue) => Ok(queue),
        Err(Error::Missing(_)) => need(env, name).map(|known| known.queue),
        Err(error) => Err(failed(&error)),
    }
}

/// The same, made if there is none.
pub(crate) fn find_or_make(env: &Environment, name: Option<&str>) -> Result<Known, Failure> {
    match find(env, name)? {
        Some(known) => Ok(known),
        None => make(env, name, &current_folder()?).map(|(known, _)| known),
    }
}

fn open(projects: &Path, slug: &str) -> Result<Option<Known>, Failure> {
    let queue = match Queue::open(&projects.join(slug).join("queue.db")) {
        Ok(queue) => queue,
        Err(Error::Missing(_)) => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    // A worker keeps its ledger in the same file, without anybody having made a queue.
    let project = queue.project().map_err(|error| failed(&error))?;
    Ok(project.map(|project| {
        let (name, folder) = (project.name, project.folder.map(PathBuf::from));
        Known { slug: slug.to_owned(), name, folder, queue }
    }))
}

/// All of them, by name. One that can't be opened is told of by the command that wants it.
fn all(projects: &Path) -> Result<Vec<Known>, Failure> {
    Ok(all_and_broken(projects)?.0)
}

/// A folder that can't be opened as a project, and why.
type Broken = (String, Failure);

/// And those that can't be opened.
fn all_and_broken(projects: &Path) -> Result<(Vec<Known>, Vec<Broken>), Failure> {
    let entries = match std::fs::read_dir(projects) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => {
            return Err(Failure::new(Exit::Internal, format!("cannot read {}: {error}", projects.display()))
                .hint("it has to be a folder of yours; AUTOPILOT_HOME names another home"));
        }
    };
    let (mut known, mut broken) = (Vec::new(), Vec::new());
    for slug in entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        match open(projects, &slug) {
            Ok(found) => known.extend(found),
            Err(why) => broken.push((slug, why)),
        }
    }
    known.sort_by(|a, b| (&a.name, &a.slug).cmp(&(&b.name, &b.slug)));
    Ok((known, broken))
}

fn make(env: &Environment, name: Option<&str>, folder: &Path) -> Result<(Known, bool), Failure> {
    let slug = project_slug(name, folder);
    let mut queue =
        Queue::create(&projects_folder(env)?.join(&slug).join("queue.db")).map_err(|error| failed(&error))?;
    let folders_name = || folder.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned());
    let name = name.map_or_else(folders_name, str::to_owned);
    let folder = folder.to_owned();
    let new = queue.make_project(&name, folder.to_str(), os::clock::wall_ms()).map_err(|error| failed(&error))?;
    Ok((Known { slug, name, folder: Some(folder), queue }, new))
}

fn create(env: &Environment, name: Option<&str>, path: Option<&Path>) -> Result<String, Failure> {
    let folder = match path {
        Some(path) => path.canonicalize().map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot use {}: {error}", path.display()))
                .hint("name a folder that exists")
        })?,
        None => current_folder()?,
    };
    let (known, new) = make(env, name, &folder)?;
    if !new {
        return Err(Failure::new(Exit::Refused, format!("the project {} exists already", known.name))
            .hint("`autopilot project show` shows it; `autopilot issue create` adds a task"));
    }
    Ok(format!("made the project {} in {}\n", known.name, folder.display()))
}

/// How many tasks stand how, in the order of [`ORDER`].
fn counts(known: &Known) -> Result<Vec<(Standing, usize)>, Failure> {
    let tasks = known.queue.tasks().map_err(|error| failed(&error))?;
    let now_ms = os::clock::wall_ms();
    let count = |standing| tasks.iter().filter(|task| task.standing(now_ms) == standing).count();
    Ok(ORDER.iter().map(|standing| (*standing, count(*standing))).collect())
}

const ORDER: [Standing; 5] = [Standing::Ready, Standing::Claimed, Standing::Waiting, Standing::Blocked, Standing::Done];

fn as_json(known: &Known) -> Result<serde_json::Value, Failure> {
    let counts: serde_json::Map<String, serde_json::Value> = counts(known)?
        .into_iter()
        .map(|(standing, count)| (standing_word(standing).to_owned(), count.into()))
        .collect();
    Ok(json!({ "name": known.name, "folder": known.folder, "database": known.queue.path(), "tasks": counts }))
}

fn list(env: &Environment, as_data: bool) -> Result<String, Failure> {
    let (known, broken) = all_and_broken(&projects_folder(env)?)?;
    if as_data {
        let projects = known.iter().map(as_json).collect::<Result<Vec<_>, _>>()?;
        return Ok(format!("{:#}\n", json!({ "projects": projects })));
    }
    // What can't be opened is not nothing.
    let told =
        |(slug, why): &(String, Failure)| format!("warning: the project in {slug} cannot be read: {}\n", why.message());
    let broken: String = broken.iter().map(told).collect();
    if known.is_empty() {
        let none = if broken.is_empty() { "no projects; `autopilot project create` makes one\n" } else { "" };
        return Ok(format!("{none}{broken}"));
    }
    let mut rows = Vec::new();
    for project in &known {
        let mut row = vec![project.name.clone()];
        row.extend(counts(project)?.iter().map(|(_, count)| count.to_string()));
        row.push(project.folder.as_ref().map_or_else(String::new, |folder| folder.display().to_string()));
        rows.push(row);
    }
    let mut titles = vec!["project"];
    titles.extend(ORDER.map(standing_word));
    titles.push("folder");
    Ok(format!("{}{broken}", table(&titles, &rows, terminal_columns())))
}

fn show(env: &Environment, name: Option<&str>, as_data: bool) -> Result<String, Failure> {
    let known = need(env, name)?;
    if as_data {
        return Ok(format!("{:#}\n", as_json(&known)?));
    }
    let counts: Vec<String> =
        counts(&known)?.iter().map(|(standing, count)| format!("{count} {}", standing_word(*standing))).collect();
    let folder = known.folder.as_ref().map_or_else(|| "-".to_owned(), |folder| folder.display().to_string());
    let database = known.queue.path().display().to_string();
    Ok(format!("project   {}\nfolder    {folder}\ndatabase  {database}\ntasks     {}\n", known.name, counts.join(", ")))
}

fn remove(env: &Environment, name: &str, yes: bool) -> Result<String, Failure> {
    let known = need(env, Some(name))?;
    let tasks = known.queue.tasks().map_err(|error| failed(&error))?.len();
    let what = if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
    if !yes {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} has {what} and a ledger; nothing was removed", known.name),
        )
        .hint("`--yes` removes them for good; `autopilot issue export` keeps the tasks"));
    }
    let folder = projects_folder(env)?.join(&known.slug);
    match os::files::Lock::try_take(&folder.join("worker.lock")) {
        Ok(os::files::Locked::Taken(_lock)) => {}
        Ok(os::files::Locked::Busy) => {
            return Err(Failure::new(Exit::Refused, format!("a worker is at work on {}", known.name))
                .hint("end it first: `autopilotd stop-worker`"));
        }
        Err(error) => return Err(Failure::new(Exit::Internal, format!("cannot lock {}: {error}", folder.display()))),
    }
    let name = known.name.clone();
    drop(known);
    std::fs::remove_dir_all(&folder)
        .map_err(|error| Failure::new(Exit::Internal, format!("cannot remove {}: {error}", folder.display())))?;
    Ok(format!("removed the project {name} with {what}\n"))
}

/// The sentence and the hint of a database's refusal.
pub(crate) fn failed(error: &Error) -> Failure {
    let exit = match error {
        Error::NoTask(_) | Error::NoTitle | Error::Circle { .. } => Exit::Usage,
        Error::NeededBy { .. } | Error::Held { .. } | Error::NotReady { .. } => Exit::Refused,
        Error::Missing(_)
        | Error::Newer { .. }
        | Error::Damaged { .. }
        | Error::Busy(_)
        | Error::Disk { .. }
        | Error::Sql { .. } => Exit::Internal,
    };
    let failure = Failure::new(exit, error);
    match error {
        Error::NoTask(_) => failure.hint("`autopilot issue list --all` shows all of them"),
        Error::NoTitle => failure.hint("say in a few words what is to be done"),
        Error::Circle { .. } => failure.hint("leave one of these out with --needs"),
        Error::NeededBy { by, .. } => {
            let first = by.first().copied().unwrap_or_default();
            failure.hint(format!("change what #{first} needs: autopilot issue edit {first} --needs …"))
        }
        Error::Held { id, expires_ms, .. } => failure.hint(format!(
            "the claim holds until {}; `autopilot issue complete {id} --force` or `autopilot issue release {id}` end it",
            crate::issues::time(*expires_ms)
        )),
        Error::NotReady { id, .. } => failure.hint(format!("`autopilot issue show {id}` says why")),
        Error::Newer { .. } => failure.hint("use that version"),
        Error::Damaged { path, .. } => failure.hint(format!(
            "the file was not touched; `sqlite3 {} .recover` reads what is left of it",
            path.display()
        )),
        Error::Busy(_) => failure.hint("try again; if it stays so, look for a process that hangs"),
        Error::Disk { path, .. } | Error::Sql { path, .. } => {
            let folder = path.parent().unwrap_or(path).display();
            failure.hint(format!("{folder} has to be yours to write to, with space left; AUTOPILOT_HOME names another home"))
        }
        Error::Missing(_) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_cannot_be_written_to_is_told_with_the_way_out() {
        let path = PathBuf::from("/home/ada/.autopilot/projects/p/queue.db");
        let mut said = Vec::new();
        failed(&Error::Disk { path, error: std::io::ErrorKind::PermissionDenied.into() }).write(&mut said).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("\nhint: /home/ada/.autopilot/projects/p has to be yours"), "{said}");
    }
}
