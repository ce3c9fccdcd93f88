//! From the sources to the settings.

use super::accept::{Bases, Raw, accept, from_bare};
use super::check;
use super::env::Environment;
use super::file::{self, Reading};
use super::keys::{Command, Job, Key, Memory, Output, Preset, Restart, keys};
use super::problem::{Fault, Misfit, Place, Problem, Problems};
use super::source::{Content, FileSource};
use super::value::{Origin, Setting, Value};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The flags that give settings; `--config` is the caller's, see [`super::config_path`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags {
    pub workdir: Option<PathBuf>,
    pub project: Option<String>,
    pub model: Option<String>,
    pub prompt: Option<String>,
    pub max_budget: Option<f64>,
    pub max_turns: Option<u64>,
}

/// All that the settings are made of.
#[derive(Debug, Clone)]
pub struct Inputs {
    pub flags: Flags,
    pub environment: Environment,
    pub file: FileSource,
    /// See [`super::home_path`].
    pub home: PathBuf,
    pub cwd: PathBuf,
}

/// The worker's program, where somebody chose one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerCommand {
    Binary { path: PathBuf },
    Cargo { manifest_path: Option<PathBuf> },
}

/// The settings in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub home: PathBuf,
    /// The file that was read, or that was looked for and is absent.
    pub file: Arc<Path>,
    pub file_exists: bool,
    pub job: Job,
    /// `None`: `bin/autopilot` in the home.
    pub worker_command: Setting<Option<WorkerCommand>>,
    pub memory: Memory,
    pub restart: Restart,
    pub output: Output,
    /// Where the agent is looked for.
    pub agent: AgentSearch,
    /// By key, in the table's order.
    pub(super) effective: Vec<Setting<Value>>,
}

/// `AUTOPILOT_CLAUDE` and `PATH`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentSearch {
    pub named: Option<std::ffi::OsString>,
    pub path: Option<std::ffi::OsString>,
}

/// The settings, and what is odd but legal about their file.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Warning>,
}

/// Legal, but better said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub path: Arc<Path>,
    pub line: usize,
    pub section: &'static str,
    pub keys: Vec<&'static str>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, line, section) = (self.path.display(), self.line, self.section);
        let verb = if self.keys.len() == 1 { "stands" } else { "stand" };
        write!(f, "{path}:{line}: {} {verb} below [{section}]", self.keys.join(", "))
    }
}

impl Warning {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let them = if self.keys.len() == 1 { "it" } else { "them" };
        format!("accepted; better move {them} above the first [section]")
    }
}

/// Merges flags, environment, file and defaults.
///
/// # Errors
/// Everything that is wrong with any of them, also where another source has the last word.
pub fn load(inputs: &Inputs) -> Result<Loaded, Problems> {
    let path: Arc<Path> = Arc::from(inputs.file.path.as_path());
    let user_home = inputs.environment.user_home.as_deref();
    let mut problems = Vec::new();

    let text = match &inputs.file.content {
        Content::Text(text) => Some(text.as_str()),
        Content::Absent if !inputs.file.required => None,
        Content::Absent => return Err(whole_file(path, Fault::Missing)),
        Content::Unusable(fault @ Fault::ClosedHome { .. }) => {
            return Err(Problem { place: Place::Nowhere, fault: fault.clone() }.into());
        }
        Content::Unusable(fault) => return Err(whole_file(path, fault.clone())),
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let reading = file::read(text.unwrap_or_default(), Bases { relative: folder, user_home });
    let Reading { entries, faults, faulty, nested } = reading;
    for (line, fault) in faults {
        let place = Place::File { path: path.clone(), line: Some(line) };
        problems.push(Problem { place, fault });
    }

    let bases = Bases { relative: &inputs.cwd, user_home };
    let mut effective = Vec::new();
    for (index, key) in keys().enumerate() {
        let (flag, env) = (flag(key, &inputs.flags, bases), env(key, &inputs.environment, bases));
        let mut chosen = None;
        for source in [flag, env].into_iter().flatten() {
            match source {
                Ok(setting) => chosen = chosen.or(Some(setting)),
                Err(problem) => problems.push(problem),
            }
        }
        let entry = entries
            .get(index)
            .cloned()
            .flatten()
            .map(|entry| Setting::new(entry.value, Origin::File { path: path.clone(), line: entry.line }));
        effective.push(chosen.or(entry).unwrap_or_else(|| preset(key, &inputs.cwd)));
    }

    let worker_command = check::worker_command(&mut effective, &faulty, &mut problems);
    check::orders(&mut effective, &faulty, &mut problems);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }

    let mut values = effective.clone().into_iter();
    let config = (|| {
        let job = Job::take(&mut values)?;
        Command::take(&mut values)?;
        Some(Config {
            home: inputs.home.clone(),
            file: path.clone(),
            file_exists: text.is_some(),
            job,
            worker_command,
            memory: Memory::take(&mut values)?,
            restart: Restart::take(&mut values)?,
            output: Output::take(&mut values)?,
            agent: inputs.environment.agent.clone(),
            effective,
        })
    })();
    let warnings = nested.map(|nested| Warning { path, line: nested.line, section: nested.section, keys: nested.keys });
    Ok(Loaded {
        config: config.expect("the table's kinds fit the fields' types"),
        warnings: warnings.into_iter().collect(),
    })
}

fn whole_file(path: Arc<Path>, fault: Fault) -> Problems {
    Problem { place: Place::File { path, line: None }, fault }.into()
}

type Source = Option<Result<Setting<Value>, Problem>>;

fn flag(key: &'static Key, flags: &Flags, bases: Bases<'_>) -> Source {
    let name = key.flag?;
    let text = |text: &Option<String>| text.clone().map(|text| (format!("{text:?}"), text));
    let (found, raw) = match name {
        "--workdir" => {
            let path = flags.workdir.as_ref()?;
            (format!("{path:?}"), Raw::Path(path.as_os_str()))
        }
        "--max-budget" => (flags.max_budget?.to_string(), Raw::Float(flags.max_budget?)),
        "--max-turns" => (flags.max_turns?.to_string(), Raw::Integer(Some(flags.max_turns?.into()))),
        "--project" => return Some(text_flag(key, name, text(&flags.project)?, bases)),
        "--model" => return Some(text_flag(key, name, text(&flags.model)?, bases)),
        "--prompt" => return Some(text_flag(key, name, text(&flags.prompt)?, bases)),
        _ => return None,
    };
    Some(settle(key, &raw, bases, Origin::Flag(name), Place::Flag(name), found))
}

fn text_flag(
    key: &'static Key,
    name: &'static str,
    (found, text): (String, String),
    bases: Bases<'_>,
) -> Result<Setting<Value>, Problem> {
    settle(key, &Raw::Text(&text), bases, Origin::Flag(name), Place::Flag(name), found)
}

fn env(key: &'static Key, environment: &Environment, bases: Bases<'_>) -> Source {
    let name = key.env?;
    let text: &OsStr = environment.setting(name)?;
    let raw = from_bare(key, text);
    let found = match raw {
        Raw::Integer(_) | Raw::Float(_) => text.to_string_lossy().into_owned(),
        _ => format!("{text:?}"),
    };
    Some(settle(key, &raw, bases, Origin::Env(name), Place::Env(name), found))
}

fn settle(
    key: &'static Key,
    raw: &Raw<'_>,
    bases: Bases<'_>,
    origin: Origin,
    place: Place,
    found: String,
) -> Result<Setting<Value>, Problem> {
    match accept(key, raw, bases) {
        Ok(value) => Ok(Setting::new(value, origin)),
        Err(misfit) => {
            let found = if misfit == Misfit::Empty { "nothing".to_owned() } else { found };
            Err(Problem { place, fault: Fault::Value { key, found, misfit } })
        }
    }
}

fn preset(key: &Key, cwd: &Path) -> Setting<Value> {
    let value = match key.preset {
        Preset::Unset => Value::Unset,
        Preset::CurrentDir => Value::Path(cwd.to_owned()),
        Preset::Integer(number) => Value::Integer(number),
        Preset::Float(number) => Value::Float(number),
        Preset::Text(text) => Value::Text(text.to_owned()),
        Preset::List(names) => Value::List(names.iter().map(|name| (*name).to_owned()).collect()),
    };
    Setting::new(value, Origin::Default)
}
