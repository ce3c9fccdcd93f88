//! Everything that a decision touches but the running CLI: the job's state, the ledger, the logs, the supervisor's ear.

use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};

use os::files::Durability;
use os::notify::Notifier;
use os::process::Identity;
use os::spawn::Program;
use policy::work::budget::Window;
use policy::work::task::Obstacle;
use policy::work::{Event, Fate, Idle, Launch, Note, Phase, Prompt, Reason, Session, Standing, Strikes};
use wire::claude::Asking;
use wire::rlog::Entry;

use super::report::Report;
use super::task::Tasks;
use crate::agent::{self, Call, INSTALL_HINT, SERVER};
use crate::job::{CliProcess, Job, Project, REMEMBERED_LOGS, Status};
use crate::ledger::{Ledger, dollars};
use crate::previous::end_left_behind;
use crate::progress::Progress;
use crate::recorder::{Recorder, local_now};
use crate::settings::{Seen, Settings};
use crate::{Environment, Exit, RunArgs, complain, handover, names, words};

/// The longest text of the CLI that is repeated on stderr and in the status line.
const CLI_WORDS_MAX_CHARS: usize = 300;

#[derive(Debug)]
pub(super) struct Desk<'a> {
    args: &'a RunArgs,
    env: &'a Environment,
    pub(super) settings: Settings,
    pub(super) project: Project,
    pub(super) job: Option<Job>,
    pub(super) ledger: Option<Ledger>,
    pub(super) recorder: Recorder,
    /// Where tasks come from, if that is wanted.
    pub(super) tasks: Option<Tasks>,
    report: Report,
    boot_id: String,
    phase: Phase,
    /// What the CLI said last about itself.
    cli_words: String,
    /// What the CLI waits for by itself.
    cli_wait: String,
    /// Why the agent said last that it needs a person.
    request: String,
    reason: Option<Reason>,
    /// Tasks that this worker has set aside, and why.
    pub(super) set_aside: Vec<(i64, String)>,
    /// The budgets as they stood at the last look.
    pub(super) windows: Cell<[Window; 3]>,
    /// The settings' file as it was when the last program of the task had ended, and at the last look.
    pub(super) file_then: Seen,
    pub(super) file_now: Seen,
    /// Said once each.
    state_failed: bool,
    pub(super) ledger_failed: bool,
    /// Answers without an id get one.
    pub(super) nameless: u64,
    /// Of the CLI's processes.
    pub(super) mark: String,
    /// What the CLI that runs waits for.
    pub(super) asking: Asking,
}

impl<'a> Desk<'a> {
    #[expect(clippy::too_many_arguments, reason = "all that the desk is made of, once")]
    pub(super) fn new(
        args: &'a RunArgs,
        env: &'a Environment,
        settings: Settings,
        project: Project,
        job: Option<Job>,
        ledger: Option<Ledger>,
        tasks: Option<Tasks>,
        recorder: Recorder,
        notifier: Notifier,
    ) -> Self {
        let file = Seen::look(recorder.cwd());
        Self {
            args,
            env,
            settings,
            project,
            job,
            ledger,
            recorder,
            tasks,
            report: Report::new(notifier),
            boot_id: os::clock::boot_id(),
            phase: Phase::Starting,
            cli_words: String::new(),
            cli_wait: String::new(),
            request: String::new(),
            reason: None,
            set_aside: Vec::new(),
            windows: Cell::default(),
            file_then: file.clone(),
            file_now: file,
            state_failed: false,
            ledger_failed: false,
            nameless: 0,
            mark: String::new(),
            asking: Asking::default(),
        }
    }

    /// Where the agent works.
    pub(super) fn cwd(&self) -> PathBuf {
        let place = self.job.as_ref().and_then(|job| job.task.as_ref()?.place.of_agent());
        place.unwrap_or_else(|| self.recorder.cwd().to_owned())
    }

    /// Where we work.
    pub(super) fn own_cwd(&self) -> &Path {
        self.recorder.cwd()
    }

    // ---- the supervisor's ear

    pub(super) fn ready(&mut self) {
        let run = self.env.run_id.as_deref().unwrap_or_default();
        self.report.at_once(&format!("READY=1\nSTATUS=ready {run}"));
    }

    pub(super) fn stopping(&mut self) {
        self.report.at_once("STOPPING=1\nSTATUS=ending the CLI");
    }

    pub(super) fn begin_round(&mut self) {
        self.report.begin();
    }

    /// Sends what the step had to tell.
    pub(super) fn end_round(&mut self) {
        self.report.send();
    }

    /// What a person sees.
    pub(super) fn progress(&mut self) -> &mut Progress {
        self.recorder.progress()
    }

    /// The supervisor shows it and writes it down.
    pub(super) fn tell_status(&mut self, text: &str) {
        self.report.status(&self.recorder.redactor().text(text));
    }

    pub(super) fn heartbeat(&mut self) {
        self.report.add("WATCHDOG", "1");
    }

    pub(super) fn phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.report.add("AUTOPILOT_PHASE", words::phase_token(phase));
        let spent = self.spent();
        self.recorder.progress().phase(words::phase(phase), spent);
        let wait = std::mem::take(&mut self.cli_wait);
        if phase == Phase::Limit && !wait.is_empty() {
            return self.tell_status(&wait);
        }
        let turns = if spent.turns == 1 { "turn" } else { "turns" };
        let cost = dollars(spent.cost_micros);
        let used = format!("{}; {} {turns}, ${cost:.2}", words::phase(phase), spent.turns);
        self.tell_status(&used);
    }

    pub(super) fn note(&mut self, note: &Note) {
        let with_cli_words = |text: String| match note {
            Note::Waiting { .. } if self.phase == Phase::NeedsYou && !self.cli_words.is_empty() => {
                format!("{text}: {}", self.cli_words)
            }
            _ => text,
        };
        let wall_ms = os::clock::wall_ms();
        let (line, status) = (words::note(note, wall_ms), words::doing(note, wall_ms, self.phase, &self.request));
        let (line, status) = (with_cli_words(line), with_cli_words(status));
        if let Note::Blocked { reason } = note {
            self.request.clone_from(reason);
        }
        self.tell_status(&status);
        let only_for_the_status_line = matches!(note, Note::Idle(Idle::Done)) && !self.env.supervised;
        if !only_for_the_status_line {
            self.recorder.status(&line);
        }
    }

    // ---- the agent's process

    /// Puts on disk what must be there before the CLI starts; `None` if there is no CLI.
    pub(super) fn prepare(&mut self, launch: Launch) -> Option<Program> {
        if !self.recorder.is_open() {
            self.open_log();
        }
        let (session, copied) = self.session_for(launch.session);
        let record = if launch.prompt == Prompt::HandOver { self.record_of_job() } else { String::new() };
        let number = self.job.as_ref().and_then(|job| Some(job.task.as_ref()?.id));
        let given = self.args.prompt.as_deref().filter(|prompt| number.is_none() && !prompt.trim().is_empty());
        let task = match given {
            Some(prompt) => prompt.to_owned(),
            None => self.task_in_full().or_else(|| Some(self.job.as_ref()?.prompt.clone())).unwrap_or_default(),
        };
        self.save(Durability::Power);
        if let Some(ledger) = &mut self.ledger {
            let written = ledger.starting(&session, number);
            self.ledger_result(written);
        }
        let rejection = self.tasks.as_ref().map_or("", |tasks| &tasks.rejection);
        let prompt = agent::prompt(launch.prompt, &task, &record, self.args.full_auto, rejection);
        let now = local_now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        self.recorder.entry(&Entry::Start { session: &session, ts: &now });
        self.recorder.entry(&Entry::User(&prompt));
        self.cli_words.clear();
        self.asking = Asking::default();
        let cli = match agent::find(self.env) {
            Ok(cli) => cli,
            Err(missing) => {
                self.missing(&missing.to_string());
                return None;
            }
        };
        self.mark = names::uuid_v4(os::random::bytes().unwrap_or_default());
        let database = self.project.folder().join("queue.db");
        let mcp_config = self.args.mcp.as_deref().map(|program| agent::mcp_config(program, &database, number));
        Some(agent::program(&Call {
            cli: &cli,
            launch,
            session: &session,
            copied: copied.as_deref(),
            prompt: &prompt,
            model: &self.args.model,
            full_auto: self.args.full_auto,
            mark: &self.mark,
            retries: self.env.cli_retries.as_deref(),
            mcp_config: mcp_config.as_deref(),
        }))
    }

    fn open_log(&mut self) {
        self.recorder.open();
        let path = self.recorder.path().map(Path::to_owned);
        if let Some(job) = &mut self.job {
            job.rlog = path.as_ref().map(|path| path.to_string_lossy().into_owned());
            job.logs.splice(0..0, job.rlog.clone());
            job.logs.truncate(REMEMBERED_LOGS);
        }
        let Some(path) = path else { return };
        self.report.add("AUTOPILOT_RLOG", &self.recorder.redactor().text(&path.to_string_lossy()));
        if let Some(ledger) = &mut self.ledger {
            let written = ledger.log_opened(&path);
            self.ledger_result(written);
        }
    }

    /// Its id, and of which it is a copy.
    fn session_for(&mut self, session: Session) -> (String, Option<String>) {
        let Some(job) = &mut self.job else { return (String::new(), None) };
        let known = match session {
            Session::Fresh | Session::Fork => None,
            Session::SameId | Session::Resume => job.session.clone(),
        };
        let copied = job.session.take().filter(|_| session == Session::Fork);
        let session = known.unwrap_or_else(|| names::uuid_v4(os::random::bytes().unwrap_or_default()));
        job.session = Some(session.clone());
        (session, copied)
    }

    pub(super) fn session(&self) -> Option<String> {
        self.job.as_ref()?.session.clone()
    }

    /// The CLI never ran: a session that was to be begun with it is none that the next worker could enter.
    pub(super) fn no_session_but(&mut self, before: Option<String>) {
        if let Some(job) = &mut self.job {
            job.session = before;
        }
        self.save(Durability::Process);
    }

    fn record_of_job(&self) -> String {
        handover::summary(self.job.iter().flat_map(|job| job.logs.iter().map(String::as_str)))
    }

    /// What asks whether somebody is logged in; `None` if there is no CLI.
    pub(super) fn probe(&mut self) -> Option<Program> {
        self.mark = names::uuid_v4(os::random::bytes().unwrap_or_default());
        agent::find(self.env).ok().map(|cli| agent::probe(&cli, &self.mark))
    }

    /// The CLI could not be executed.
    pub(super) fn not_started(&mut self, error: &io::Error) -> Event<'static> {
        use io::ErrorKind::{NotFound, PermissionDenied};
        let executable_format = 8;
        let for_good = matches!(error.kind(), NotFound | PermissionDenied);
        if !self.cwd().is_dir() {
            // The same errno, for another reason, and a folder may come back.
            self.status(&format!("the working directory {} is gone", self.cwd().display()));
            return Event::Exited(policy::work::outcome::Exit::Code(127));
        }
        if for_good || error.raw_os_error() == Some(executable_format) {
            self.missing(&format!("it cannot be executed: {error}"));
            return Event::Missing;
        }
        // No memory, no process slot: that passes.
        self.status(&format!("the CLI cannot be started: {error}"));
        self.cli_said(&error.to_string());
        Event::Exited(policy::work::outcome::Exit::Code(127))
    }

    fn missing(&mut self, why: &str) {
        self.recorder.status(&format!("the Claude CLI is missing: {why}"));
        complain(format_args!("error: the Claude CLI is missing: {why}"));
        complain(format_args!("hint: {INSTALL_HINT}"));
    }

    pub(super) fn started(&mut self, cli: Identity) {
        let (boot_id, mark) = (self.boot_id.clone(), self.mark.clone());
        if let Some(job) = &mut self.job {
            job.cli = Some(CliProcess { pid: cli.pid, start_ticks: cli.start_ticks, boot_id, mark });
        }
        self.save(Durability::Process);
    }

    /// The CLI has ended; if not `in_order`, its tools and servers may not have.
    pub(super) fn ended(&mut self, in_order: bool) {
        if !in_order {
            match end_left_behind(&self.mark) {
                Ok(0) => {}
                Ok(count) => self.status(&format!("ended {count} processes that the CLI left behind")),
                Err(error) => self.status(&format!("cannot look for what the CLI left behind: {error}")),
            }
        }
        if std::mem::take(&mut self.asking).is_under_way()
            && let Some(ledger) = &mut self.ledger
        {
            let written = ledger.unanswered();
            self.ledger_result(written);
        }
        // What it has written is not a person's word.
        self.file_then = Seen::look(self.recorder.cwd());
        self.file_now = self.file_then.clone();
        if let Some(job) = &mut self.job {
            job.cli = None;
        }
        self.save(Durability::Process);
    }

    // ---- the job and its log

    pub(super) fn settle(&mut self, fate: Fate) {
        if fate == Fate::Done && !self.settle_task(None) {
            return;
        }
        if let Some(job) = &mut self.job {
            job.status = match fate {
                Fate::Done => Status::Done,
                Fate::Unfinished | Fate::Poisoned => Status::Unfinished,
            };
        }
        self.save(Durability::Power);
    }

    /// Sets the task aside. It is over for us.
    pub(super) fn block(&mut self, obstacle: &Obstacle) {
        if !self.settle_task(Some(obstacle)) {
            return;
        }
        if let Some(job) = &mut self.job {
            job.status = Status::Done;
        }
        self.save(Durability::Power);
    }

    /// For the worker after this one. The loop's clock ends with the machine.
    pub(super) fn keep(&mut self, standing: Standing) {
        let (wall_ms, now_ms) = (os::clock::wall_ms(), os::clock::boottime_ms());
        if let Some(job) = &mut self.job {
            (job.failures, job.strikes) = (standing.failures, standing.strikes.0);
            job.limit_until_unix_ms =
                standing.limit_until_ms.map(|at_ms| wall_ms.saturating_add(at_ms.saturating_sub(now_ms)));
        }
        self.save(Durability::Process);
    }

    /// What the worker before this one has kept.
    pub(super) fn standing(&self) -> Standing {
        let (wall_ms, now_ms) = (os::clock::wall_ms(), os::clock::boottime_ms());
        let Some(job) = &self.job else { return Standing::default() };
        let left_ms = job.limit_until_unix_ms.and_then(|at_ms| at_ms.checked_sub(wall_ms));
        let limit_until_ms = left_ms.map(|left_ms| now_ms.saturating_add(left_ms));
        Standing { failures: job.failures, strikes: Strikes(job.strikes), limit_until_ms }
    }

    pub(super) fn close(&mut self, reason: Reason) {
        self.reason = Some(reason);
        if !self.recorder.is_open() {
            return;
        }
        let totals = self.ledger.as_ref().map(Ledger::log_totals).unwrap_or_default();
        self.recorder.close(&Entry::End {
            tokens_in: totals.tokens_in,
            tokens_out: totals.tokens_out,
            cost_usd: dollars(totals.cost_micros),
            reason: &words::reason(reason),
        });
        if let Some(job) = &mut self.job {
            job.rlog = None;
        }
        self.save(Durability::Process);
    }

    pub(super) fn save(&mut self, durability: Durability) {
        let Some(job) = &self.job else { return };
        match self.project.save(job, durability) {
            Ok(()) => self.state_failed = false,
            Err(error) if !self.state_failed => {
                self.state_failed = true;
                let folder = self.project.folder().display();
                complain(format_args!("warning: cannot keep the job's state in {folder}: {error}"));
                complain(format_args!("hint: the work goes on; after a crash it may begin with an older state"));
            }
            Err(_) => {}
        }
    }

    pub(super) fn entry(&mut self, entry: &Entry<'_>) {
        self.recorder.entry(entry);
    }

    pub(super) fn status(&mut self, text: &str) {
        self.recorder.status(text);
    }

    /// Until it does something else, that is what we do.
    pub(super) fn waits(&mut self, text: &str) {
        self.recorder.status(text);
        text.clone_into(&mut self.cli_wait);
    }

    pub(super) fn event(&mut self, line: &[u8]) {
        self.recorder.event(line);
    }

    /// What the CLI says of its servers as it comes up: `false` if ours is not among those that it has, and has to be.
    pub(super) fn has_server(&mut self, servers: &[(Cow<'_, str>, Cow<'_, str>)]) -> bool {
        if self.args.mcp.is_none() {
            return true;
        }
        let ours = servers.iter().find(|(name, _)| name == SERVER).map_or("missing", |(_, status)| &**status);
        // `pending`: it is started while the session goes on.
        if matches!(ours, "connected" | "pending") {
            return true;
        }
        // A prompt of its own can do without the queue's tools.
        let is_task = self.job.as_ref().is_some_and(|job| job.task.is_some());
        if is_task {
            self.cli_said(&format!("MCP server {SERVER}: {ours}"));
        } else if ours == "missing" {
            self.status(&format!("MCP server {SERVER}: {ours}"));
        }
        !is_task
    }

    pub(super) fn cli_said(&mut self, text: &str) {
        let text = self.recorder.redactor().text(text);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        self.cli_words = line.chars().filter(|char| !char.is_control()).take(CLI_WORDS_MAX_CHARS).collect();
    }

    /// Where the database is.
    pub(super) fn folder(&self) -> &Path {
        self.project.folder()
    }

    /// The last words, for whoever started us.
    pub(super) fn farewell(&mut self, exit: Exit) {
        self.recorder.progress().end();
        self.report.at_once(&format!("STOPPING=1\nSTATUS=ended: {}", exit.meaning()));
        if !self.env.supervised {
            for (id, why) in &self.set_aside {
                let (sentence, hint) = words::set_aside(*id, why);
                complain(format_args!("error: {sentence}"));
                complain(format_args!("hint: {hint}"));
            }
        }
        let last = self.reason.filter(|reason| *reason != Reason::Blocked || self.set_aside.is_empty());
        let Some((sentence, hint)) = last.and_then(|reason| words::farewell(reason, exit, &self.cli_words)) else {
            return;
        };
        complain(format_args!("error: {sentence}"));
        if let Some(hint) = hint {
            complain(format_args!("hint: {hint}"));
        }
    }
}
