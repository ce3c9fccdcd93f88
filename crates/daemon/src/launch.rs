//! How the worker is started: program, arguments, environment; and why it could not be.

use std::ffi::OsString;
use std::path::PathBuf;

use os::output::Bounds;
use os::spawn::Program;
use policy::probation;
use policy::supervisor::{Settings, StartFailure};
use wire::journal::Event;

use crate::agent::Agents;
use crate::binary::{Admission, Asked, Choice, Launch, Note, Refused, Shelf, Trial, Unfit};
use crate::config::{Config, StoreMode};
use crate::containment::Containment;
use crate::home::Home;
use crate::seal::Aside;
use crate::shim::Plan;
use crate::succession::HANDOVER;
use crate::text;

/// Settings of the machine.
pub(crate) fn settings(config: &Config) -> Settings {
    let (memory, restart) = (&config.memory, &config.restart);
    Settings {
        initial_backoff_ms: restart.initial_backoff_ms.value,
        max_backoff_ms: restart.max_backoff_ms.value,
        backoff_multiplier: restart.backoff_multiplier.value,
        success_threshold_ms: restart.success_threshold_ms.value,
        max_consecutive_restarts: restart.max_consecutive_restarts.value,
        max_restarts_per_hour: restart.max_restarts_per_hour.value,
        recovery_cooldown_ms: restart.recovery_cooldown_ms.value,
        stall_timeout_ms: restart.stall_timeout_ms.value,
        stall_grace_ms: restart.stall_grace_ms.value,
        max_stall_kills_per_hour: restart.max_stall_kills_per_hour.value,
        min_available_bytes: memory.min_available_bytes.value,
        critical_threshold_bytes: memory.critical_threshold_bytes.value,
        poll_interval_ms: memory.poll_interval_ms.value,
        node_kill_threshold_bytes: memory.node_kill_threshold_bytes.value,
        swarm_kill_threshold_bytes: memory.swarm_kill_threshold_bytes.value,
    }
}

/// A binary's probation.
fn probation_of(config: &Config) -> probation::Settings {
    probation::Settings {
        probation_ms: config.job.probation_ms.value,
        stall_timeout_ms: config.restart.stall_timeout_ms.value,
    }
}

/// The agents of this home.
pub(crate) fn agents(config: &Config, home: &Home) -> Agents {
    Agents::new(home.root(), probation_of(config), config.job.agent_update.value, config.agent.clone())
}

/// Chooses the worker's program, and remembers why it could not be had.
#[derive(Debug)]
pub(crate) struct Launching {
    pub(crate) shelf: Shelf,
    /// A new file is looked into.
    pub(crate) trial: Option<Trial>,
    /// The run with this number waits for what is looked into.
    pub(crate) awaited: Option<u64>,
    /// So long does it wait, if something else can run.
    pub(crate) patience_ms: Option<u64>,
    looked_into_for: Option<u64>,
    /// What the last choice wants to know.
    asked: Asked,
    config: Config,
    home: Home,
    current: Option<Launch>,
    refused: Option<Refused>,
    told: Option<Note>,
    /// What the journal knows of: source and copy.
    recorded: Option<(String, Option<String>)>,
    containment: Containment,
    /// A hash of what each run is begun with: it may hold what is nobody's business.
    pub(crate) settings_of_runs: String,
}

impl Launching {
    pub(crate) fn new(config: Config, home: Home, containment: Containment, had_binary: bool) -> Self {
        let mut shelf = Shelf::new(home.root(), probation_of(&config));
        shelf.had_binary = had_binary;
        let mut launching = Self {
            shelf,
            trial: None,
            awaited: None,
            patience_ms: None,
            looked_into_for: None,
            asked: Asked::Admit,
            config,
            home,
            current: None,
            refused: None,
            told: None,
            recorded: None,
            containment,
            settings_of_runs: String::new(),
        };
        launching.settings_of_runs = launching.hash_of_settings();
        launching
    }

    pub(crate) fn containment(&self) -> &Containment {
        &self.containment
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The program to run, without its arguments; none if it is to be looked into first: once for each start of a worker
    /// that has another program. Whoever writes to the file all the time must not keep it down.
    pub(crate) fn choose(&mut self, run: u64) -> Result<Option<Vec<OsString>>, StartFailure> {
        let is_stored = self.config.job.store.value == StoreMode::Auto;
        let command = self.config.worker_command.value.as_ref();
        let source = self.shelf.source(command);
        let mut choice = self.shelf.choose(command, is_stored);
        if choice == Choice::Ask(Asked::Admit)
            && self.looked_into_for == Some(run)
            && let Some(launch) = self.shelf.known(Some(&source)).as_deref().and_then(Shelf::launch_of)
        {
            choice = Choice::Run(Launch { source: Some(source), ..launch });
        }
        match choice {
            Choice::Run(launch) => {
                self.refused = None;
                let program = launch.argv.clone();
                self.current = Some(launch);
                Ok(Some(program))
            }
            Choice::Ask(asked) => {
                self.asked = asked;
                Ok(None)
            }
            Choice::Refuse(refused) => {
                let failure = failure(&refused.unfit);
                self.refused = Some(refused);
                Err(failure)
            }
        }
    }

    /// Have what the choice wants to know looked into, for this run. `is_asked_for`: by an operator. None: that is under way.
    pub(crate) fn look_into(&mut self, run: u64, is_asked_for: bool) -> std::io::Result<Option<&Trial>> {
        if self.asked == Asked::Admit {
            self.looked_into_for = Some(run);
            // The first one of a daemon is what whoever started it wants to run.
            let is_asked_for = is_asked_for || self.current.is_none();
            let source = self.source();
            let has_other = self.shelf.known(Some(&source)).is_some();
            let patience_ms = probation::patience_ms(is_asked_for, has_other);
            self.patience_ms = patience_ms.map(|ms| os::clock::monotonic_ms().saturating_add(ms));
        }
        if self.trial.is_some() {
            return Ok(None);
        }
        self.begin_trial().map(Some)
    }

    pub(crate) fn begin_trial(&mut self) -> std::io::Result<&Trial> {
        let trial = Trial::begin(&self.shelf, self.asked, self.config.worker_command.value.as_ref())?;
        Ok(self.trial.insert(trial))
    }

    /// The file is new, and nobody has looked into it.
    pub(crate) fn has_news(&mut self) -> bool {
        let is_stored = self.config.job.store.value == StoreMode::Auto;
        let choice = self.shelf.choose(self.config.worker_command.value.as_ref(), is_stored);
        if choice == Choice::Ask(Asked::Admit) {
            self.asked = Asked::Admit;
        }
        choice == Choice::Ask(Asked::Admit)
    }

    /// It can't be looked into.
    pub(crate) fn not_looked_into(&mut self, reason: String) {
        if self.asked == Asked::Mend {
            return;
        }
        let source = self.source();
        self.shelf.admitted(&source, None, Admission::NotStored { reason });
    }

    /// The file that the settings want.
    pub(crate) fn source(&self) -> PathBuf {
        self.shelf.source(self.config.worker_command.value.as_ref())
    }

    /// What was chosen last.
    pub(crate) fn current(&self) -> Option<&Launch> {
        self.current.as_ref()
    }

    /// Run `number`, all but its program.
    pub(crate) fn plan(&self, number: u64, run_id: String, boot_id: String) -> Plan {
        let env = self.environment(&run_id);
        Plan {
            run: number,
            folder: self.home.run(number),
            program: Program { argv: self.arguments(), env, env_remove: removed(self.stall_timeout_ms()) },
            run_id,
            boot_id,
            working_dir: self.config.job.working_dir.value.clone(),
            output: self.output(),
            stop_timeout_ms: self.config.restart.stop_timeout_ms.value,
            notify: self.home.notify_socket(),
            containment: self.containment.clone(),
        }
    }

    /// Where the worker's output goes.
    pub(crate) fn output(&self) -> Bounds {
        let output = &self.config.output;
        let (max_file_bytes, max_files) = (output.max_file_bytes.value, output.max_files.value);
        Bounds { path: self.home.output_log(), max_file_bytes, max_files }
    }

    fn stall_timeout_ms(&self) -> u64 {
        self.config.restart.stall_timeout_ms.value
    }

    fn hash_of_settings(&self) -> String {
        let mut bytes = self.config.job.working_dir.value.as_os_str().as_encoded_bytes().to_vec();
        for argument in self.arguments() {
            bytes.push(0);
            bytes.extend_from_slice(argument.as_encoded_bytes());
        }
        crate::seal::sha256(&bytes)
    }

    fn arguments(&self) -> Vec<OsString> {
        let job = &self.config.job;
        let mut arguments: Vec<OsString> = vec!["run".into(), "--full-auto".into()];
        arguments.extend(["--model".into(), job.model.value.clone().into()]);
        arguments.extend(["--max-turns".into(), job.max_turns.value.to_string().into()]);
        if job.max_budget.value > 0.0 {
            arguments.extend(["--max-budget".into(), job.max_budget.value.to_string().into()]);
        }
        if let Some(project) = &job.project.value {
            arguments.extend(["--project".into(), project.into()]);
        }
        if let Some(prompt) = &job.prompt.value {
            if prompt.starts_with('-') {
                arguments.push("--".into());
            }
            arguments.push(prompt.into());
        }
        arguments
    }

    fn environment(&self, run_id: &str) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> = vec![
            ("AUTOPILOTD_SUPERVISED".into(), "1".into()),
            ("AUTOPILOT_RUN_ID".into(), run_id.into()),
            ("AUTOPILOT_HOME".into(), self.home.root().into()),
            ("NOTIFY_SOCKET".into(), self.home.notify_socket().into()),
        ];
        if self.stall_timeout_ms() > 0 {
            let usec = self.stall_timeout_ms().saturating_mul(1_000);
            environment.push(("WATCHDOG_USEC".into(), usec.to_string().into()));
        }
        environment
    }

    /// The program that runs, or would: for `status`.
    pub(crate) fn binary(&self) -> String {
        let launch = self.current.as_ref();
        let source =
            launch.and_then(|launch| launch.source.as_deref()).or(self.refused.as_ref().map(|r| r.path.as_path()));
        match (source, launch) {
            (Some(source), _) => source.display().to_string(),
            (None, Some(launch)) => launch.argv.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(" "),
            (None, None) => self.source().display().to_string(),
        }
    }

    /// Something about the program that the operator should know, once.
    pub(crate) fn note(&mut self) -> Option<String> {
        let note = self.current.as_ref()?.note.clone();
        if note == self.told {
            return None;
        }
        self.told.clone_from(&note);
        note.map(|note| format!("warning: {note}\nhint: {}", note.hint()))
    }

    /// Something runs in place of the file that is wanted.
    pub(crate) fn problem(&self) -> Option<String> {
        let note = self.current.as_ref()?.note.as_ref();
        note.filter(|note| matches!(note, Note::SourceUnfit { .. })).map(ToString::to_string)
    }

    /// A file of the store that is not what it should be.
    pub(crate) fn take_aside(&mut self) -> Option<Aside> {
        self.shelf.take_aside()
    }

    /// Which program runs from now on, if that changed.
    pub(crate) fn news(&mut self) -> Option<(Event, String)> {
        let sha256 = self.current.as_ref()?.sha256.clone();
        let source = self.binary();
        let now = Some((source.clone(), sha256.clone()));
        if self.recorded == now {
            return None;
        }
        self.recorded = now;
        let copy =
            sha256.as_deref().map_or_else(String::new, |hash| format!(", copy {}", hash.get(..12).unwrap_or(hash)));
        Some((Event::Binary { source: source.clone(), sha256 }, format!("the worker's program is {source}{copy}")))
    }

    /// Why it can't be started, in a sentence.
    pub(crate) fn sentence(&self, failure: &StartFailure) -> String {
        if let Some(refused) = &self.refused {
            return refused.to_string();
        }
        let what = text::start_failure(failure);
        let dir = self.config.job.working_dir.value.display();
        match failure {
            StartFailure::WorkingDirectory => format!("cannot enter the working directory {dir}"),
            StartFailure::Resources(errno) | StartFailure::Other(errno) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                format!("cannot start worker {}: {what}: {error}", self.binary())
            }
            StartFailure::NotFound | StartFailure::NotExecutable | StartFailure::NotAProgram => {
                format!("cannot execute worker binary {}: {what}", self.binary())
            }
        }
    }

    pub(crate) fn hint(&self, failure: &StartFailure) -> String {
        if let Some(refused) = &self.refused {
            return refused.hint();
        }
        match failure {
            StartFailure::WorkingDirectory => "make that folder, or choose another one with --workdir".to_owned(),
            StartFailure::Resources(_) => "free some room; it is tried again".to_owned(),
            StartFailure::NotFound if self.current.as_ref().is_some_and(|launch| launch.source.is_none()) => {
                "install cargo, or a worker binary at bin/autopilot in the home".to_owned()
            }
            StartFailure::NotFound
            | StartFailure::NotExecutable
            | StartFailure::NotAProgram
            | StartFailure::Other(_) => {
                "try it by hand: that file, with the arguments run --full-auto \"test\"".to_owned()
            }
        }
    }

    pub(crate) fn error(&self, failure: &StartFailure) -> String {
        format!("error: {}\nhint: {}", self.sentence(failure), self.hint(failure))
    }
}

/// What a daemon that itself runs under somebody's watch must not hand on.
fn removed(stall_timeout_ms: u64) -> Vec<OsString> {
    let mut names: Vec<OsString> =
        ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", HANDOVER].map(OsString::from).to_vec();
    if stall_timeout_ms == 0 {
        names.push("WATCHDOG_USEC".into());
    }
    names
}

fn failure(unfit: &Unfit) -> StartFailure {
    match unfit {
        Unfit::Missing | Unfit::StoreGone { .. } | Unfit::InterpreterMissing { .. } => StartFailure::NotFound,
        Unfit::NotExecutable | Unfit::Directory | Unfit::Unreadable { .. } => StartFailure::NotExecutable,
        Unfit::NotAFile
        | Unfit::Empty
        | Unfit::NotAProgram
        | Unfit::WrongMachine { .. }
        | Unfit::Truncated { .. }
        | Unfit::Script
        | Unfit::BeingWritten
        | Unfit::Untried { .. }
        | Unfit::Unsettled { .. } => StartFailure::NotAProgram,
    }
}
