//! How the worker is started: program, arguments, environment; and why it could not be.

use std::ffi::OsString;
use std::path::Path;

use os::output::Bounds;
use os::spawn::Program;
use policy::supervisor::{Settings, StartFailure};

use crate::binary::{Launch, Note, Refused, Store, Unfit};
use crate::config::Config;
use crate::containment::Containment;
use crate::home::Home;
use crate::shim::Plan;
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

/// Chooses the worker's program, and remembers why it could not be had.
#[derive(Debug)]
pub(crate) struct Launching {
    store: Store,
    config: Config,
    home: Home,
    current: Option<Launch>,
    refused: Option<Refused>,
    told: Option<Note>,
    containment: Containment,
}

impl Launching {
    pub(crate) fn new(config: Config, home: Home, containment: Containment) -> Self {
        let store = Store::new(home.root());
        Self { store, config, home, current: None, refused: None, told: None, containment }
    }

    pub(crate) fn containment(&self) -> &Containment {
        &self.containment
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What to run as run `number`.
    pub(crate) fn plan(&mut self, number: u64, run_id: String, boot_id: String) -> Result<Plan, StartFailure> {
        let in_use = self.current.as_ref().and_then(|launch| launch.argv.first()).cloned();
        let in_use: Vec<&Path> = in_use.iter().map(Path::new).collect();
        let command = self.config.worker_command.value.as_ref();
        let launch = match self.store.choose(command, &in_use) {
            Ok(launch) => launch,
            Err(refused) => {
                let failure = failure(&refused.unfit);
                self.refused = Some(refused);
                return Err(failure);
            }
        };
        self.refused = None;
        let mut argv = launch.argv.clone();
        argv.extend(self.arguments());
        self.current = Some(launch);
        Ok(Plan {
            run: number,
            folder: self.home.run(number),
            program: Program { argv, env: self.environment(&run_id), env_remove: removed(self.stall_timeout_ms()) },
            run_id,
            boot_id,
            working_dir: self.config.job.working_dir.value.clone(),
            output: Bounds {
                path: self.home.output_log(),
                max_file_bytes: self.config.output.max_file_bytes.value,
                max_files: self.config.output.max_files.value,
            },
            stop_timeout_ms: self.config.restart.stop_timeout_ms.value,
            notify: self.home.notify_socket(),
            containment: self.containment.clone(),
        })
    }

    fn stall_timeout_ms(&self) -> u64 {
        self.config.restart.stall_timeout_ms.value
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
            (None, None) => crate::binary::install_path(self.home.root()).display().to_string(),
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
    let mut names: Vec<OsString> = vec!["WATCHDOG_PID".into()];
    if stall_timeout_ms == 0 {
        names.push("WATCHDOG_USEC".into());
    }
    names
}

fn failure(unfit: &Unfit) -> StartFailure {
    match unfit {
        Unfit::Missing | Unfit::InterpreterMissing { .. } => StartFailure::NotFound,
        Unfit::NotExecutable | Unfit::Directory | Unfit::Unreadable { .. } => StartFailure::NotExecutable,
        Unfit::NotAFile
        | Unfit::Empty
        | Unfit::NotAProgram
        | Unfit::WrongMachine { .. }
        | Unfit::Truncated { .. }
        | Unfit::Unsettled { .. } => StartFailure::NotAProgram,
    }
}
