//! The agent, the Claude Code CLI, as the daemon sees it: a pinned copy with the same life as the worker's binary, which the
//! worker is told of by `AUTOPILOT_CLAUDE`.
//!
//! A start waits for a copy only if there is none yet; a new version is looked into beside the worker that runs, and is for
//! the start after that. Scripts that look for their own place are not copied.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use os::poll::Interest;
use policy::probation::{self, Life, Settings};
use policy::supervisor::{Effect, Event, Note, RunId};

use crate::binary::{Admission, Asked, Choice, Shelf, Trial, Turn};
use crate::config::{AgentSearch, AgentUpdate, Config, WorkerCommand};
use crate::drive::{AGENT_TRIAL, Daemon};
use crate::text;

/// The agents of a home.
#[derive(Debug)]
pub(crate) struct Agents {
    pub(crate) shelf: Shelf,
    update: AgentUpdate,
    search: AgentSearch,
    trial: Option<Trial>,
    /// It was nowhere to be found: it is not looked for again before then.
    missing_until_ms: u64,
    /// What the newest run was given.
    given: Option<PathBuf>,
}

/// What a start is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AgentChoice {
    /// Use this copy.
    Copy(PathBuf),
    /// There is none: the worker looks for itself.
    Own,
    /// There will be one in a moment.
    Wait,
}

impl Agents {
    pub(crate) fn new(home: &Path, probation: Settings, update: AgentUpdate, search: AgentSearch) -> Self {
        Self { shelf: Shelf::of_agents(home, probation), update, search, trial: None, missing_until_ms: 0, given: None }
    }

    /// When a look at it is taken for lost.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        [self.shelf.due_ms(), self.trial.as_ref().map(Trial::due_ms)].into_iter().flatten().min()
    }
}

/// Where the worker would find it.
fn find(search: &AgentSearch) -> Option<PathBuf> {
    let name = search.named.as_deref().unwrap_or(OsStr::new("claude"));
    let path = Path::new(name);
    if path.components().count() > 1 {
        // What a relative one means is the worker's business: it knows its folder.
        return path.is_absolute().then(|| path.to_owned());
    }
    let folders = search.path.as_deref().map(std::env::split_paths).into_iter().flatten();
    folders.map(|folder| folder.join(name)).find(|path| is_program(path))
}

/// The same for a command of the operator.
#[must_use]
pub fn agent_source(config: Option<&Config>) -> Option<PathBuf> {
    find(&config?.agent)
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

impl Daemon {
    /// Which agent the next run uses.
    pub(crate) fn choose_agent(&mut self) -> AgentChoice {
        let agents = &mut self.agents;
        if agents.update == AgentUpdate::Off {
            return AgentChoice::Own;
        }
        agents.shelf.roll_back();
        if agents.shelf.is_in_doubt() && (agents.trial.is_some() || self.ask_about_agent(Asked::Mend, None)) {
            return AgentChoice::Wait;
        }
        let agents = &mut self.agents;
        let known = agents.shelf.known(None).map_or(AgentChoice::Own, AgentChoice::Copy);
        if known != AgentChoice::Own && agents.update == AgentUpdate::Manual {
            return known;
        }
        let now_ms = os::clock::monotonic_ms();
        if now_ms < agents.missing_until_ms {
            return known;
        }
        let Some(source) = find(&agents.search) else {
            agents.missing_until_ms = now_ms.saturating_add(LOOK_AGAIN_MS);
            return known;
        };
        let command = WorkerCommand::Binary { path: source };
        match agents.shelf.choose(Some(&command), true) {
            Choice::Run(launch) => match (launch.sha256, launch.argv.into_iter().next()) {
                (Some(_), Some(copy)) => AgentChoice::Copy(copy.into()),
                (Some(_) | None, _) => known,
            },
            Choice::Refuse(_) => known,
            // A copy that can't be looked at now.
            Choice::Ask(Asked::Mend) => known,
            Choice::Ask(Asked::Admit) => {
                let waits = known == AgentChoice::Own;
                let is_tried = agents.trial.is_some() || self.ask_about_agent(Asked::Admit, Some(&command));
                if waits && is_tried { AgentChoice::Wait } else { known }
            }
        }
    }

    /// Have it found out. `false`: it can't be.
    fn ask_about_agent(&mut self, asked: Asked, command: Option<&WorkerCommand>) -> bool {
        let trial = Trial::begin(&self.agents.shelf, asked, command).and_then(|trial| {
            self.poller.add(&trial, AGENT_TRIAL, Interest::Readable)?;
            Ok(trial)
        });
        match trial {
            Ok(trial) => {
                self.agents.trial = Some(trial);
                true
            }
            Err(error) => {
                if asked == Asked::Admit {
                    let source = self.agents.shelf.source(command);
                    self.agents.shelf.admitted(&source, None, Admission::NotStored { reason: error.to_string() });
                }
                false
            }
        }
    }

    /// The child that looked into it has ended.
    pub(crate) fn take_agent_trial(&mut self) {
        let Some(trial) = self.agents.trial.take() else { return };
        self.poller.remove(&trial).ok();
        trial.finish(&mut self.agents.shelf);
        self.begin_if_waited_for();
        self.tell_turns();
    }

    /// Before a start with this agent. `true`: it is a candidate, in place of another one.
    pub(crate) fn count_agent(&mut self, run: RunId, copy: Option<&Path>) -> bool {
        self.agents.given = copy.map(Path::to_owned);
        let Some(launch) = copy.and_then(Shelf::launch_of) else { return false };
        let is_on_trial = self.agents.shelf.begin(run.0, &launch);
        self.agents.shelf.began();
        is_on_trial
    }

    /// Whose fault the ends among these effects are.
    pub(crate) fn judge_agent(&mut self, effects: &[Effect]) {
        if self.agents.given.is_none() {
            return;
        }
        for effect in effects {
            if let Effect::Note(Note::Ended { run, exit, told, lived_ms }) = effect {
                let blame = probation::blame_agent(*exit, told.as_ref());
                let why = text::ended(*exit, told.as_ref());
                self.agents.shelf.ended(run.0, blame, *lived_ms, &why);
                if self.agents.shelf.roll_back() {
                    self.events.push_back(Event::RolledBack);
                }
            }
        }
    }

    /// What is due, and what was counted while nothing waits for it. An agent is well when the worker says that it works with
    /// it: a worker that waits for an agent that fails shows life, too.
    pub(crate) fn keep_agent(&mut self, life: Option<Life>, now_ms: u64) {
        if self.agents.trial.as_ref().is_some_and(|trial| trial.due_ms() <= now_ms) {
            self.take_agent_trial();
        }
        let works = self.said.phase.as_deref().is_some_and(|phase| WORKS.contains(&phase));
        let life = life.map(|life| if works { life } else { Life { active_ms: life.started_ms, ..life } });
        if self.agents.shelf.look(life, now_ms) {
            self.tell_turns();
        }
        // It is only counted.
        self.agents.shelf.keep_count(Some(now_ms)).ok();
    }

    pub(crate) fn take_agent_turns(&mut self) -> Vec<Turn> {
        self.agents.shelf.take_turns()
    }
}

/// A look through all of `PATH` is not for every start.
const LOOK_AGAIN_MS: u64 = 60_000;
/// Phases that a worker with a bad agent never comes to, or does not stay in.
const WORKS: [&str; 3] = ["model", "tool", "idle"];
