//! From the command line and the disk to the first event.

use std::path::{Path, PathBuf};

use os::files::Durability;
use os::notify::Notifier;
use os::signals::{Signal, SignalPipe};
use policy::work::delay::Growing;
use policy::work::{Found, Rules, Spent};
use wire::redact::Redactor;

use queue::Queue;

use super::desk::Desk;
use super::task::Tasks;
use crate::job::{Entered, Job, Loaded, Project, Status};
use crate::ledger::{Ledger, micros};
use crate::previous::{Orphan, close_log, end_left_behind, end_orphan, was_asking};
use crate::progress::Progress;
use crate::recorder::{About, Echo, Recorder};
use crate::settings::{Isolation, Settings};
use crate::{Environment, Failure, RunArgs, complain, names, repository};

/// The longest time between two heartbeats.
const HEARTBEAT_MS: u64 = 30_000;

/// All that the loop starts with.
pub(super) struct Begun<'a> {
    pub(super) desk: Desk<'a>,
    pub(super) rules: Rules,
    pub(super) found: Found,
    pub(super) spent: Spent,
    /// Signals that came while the past was put in order.
    pub(super) stops: Vec<Signal>,
}

pub(super) fn begin<'a>(args: &'a RunArgs, env: &'a Environment, signals: &SignalPipe) -> Result<Begun<'a>, Failure> {
    let max_cost_micros = micros(args.max_budget_usd).ok_or(Failure::Budget(args.max_budget_usd))?;
    let cwd = args.cwd.canonicalize().and_then(|cwd| cwd.read_dir().map(|_| cwd));
    let cwd = cwd.map_err(|error| Failure::WorkingDirectory { path: args.cwd.clone(), error })?;
    let prompt = args.prompt.as_deref().filter(|prompt| !prompt.trim().is_empty());
    let project_slug = names::project_slug(args.project.as_deref(), &cwd);
    let folder = env.autopilot_home().ok_or(Failure::NoHome)?.join("projects").join(&project_slug);
    let state = |error| Failure::State { path: folder.clone(), error };
    let project = match Project::enter(folder.clone()).map_err(state)? {
        Entered::Ours(project) => project,
        Entered::Busy(holder) => return Err(Failure::Busy(holder)),
    };
    let settings = Settings::read(&cwd)?;
    let notifier = Notifier::new(env.notify_socket.clone()).unwrap_or_else(|error| {
        complain(format_args!("warning: no heartbeats can be sent: {error}"));
        // Without a socket there is nothing that could fail.
        Notifier::silent()
    });

    let loaded = load(&project)?;
    let mut stops = Vec::new();
    if let Some(job) = &loaded {
        put_in_order(&project, job, signals, &mut stops)?;
    }
    let redactor = env.redactor();
    // On disk the prompt is without its secrets: those who start us again give it again.
    let written = prompt.map(|prompt| redactor.text(prompt));
    let wanted = args.full_auto && (env.supervised || args.wait || prompt.is_none());
    let tasks = if wanted { tasks(&project, args.project.as_deref(), &cwd, env, args.wait)? } else { None };
    if tasks.is_some() && settings.git != Isolation::Off && !cwd.ancestors().any(|folder| folder.join(".git").exists())
    {
        return Err(Failure::NoRepository(cwd));
    }
    let (job, found) = choose(&project, loaded, written.as_deref(), env.supervised, tasks.is_some())?;
    let ledger = match &job {
        Some(job) => Some(Ledger::open(project.folder(), job.account())?),
        None => None,
    };
    let about = about(args, cwd, job.as_ref(), &redactor);
    let progress = Progress::new(!env.supervised && env.redraws(), !env.supervised && env.colour());
    let echo = if env.supervised { Echo::Terse } else { Echo::Body };
    let recorder = Recorder::new(about, echo, redactor, progress);
    let rules = Rules {
        queue: tasks.is_some(),
        wait: args.wait,
        max_attempts: settings.max_attempts,
        ..rules(args, env, max_cost_micros)
    };
    let desk = Desk::new(args, env, settings, project, job, ledger, tasks, recorder, notifier);
    let spent = desk.spent();
    Ok(Begun { desk, rules, found, spent, stops })
}

fn load(project: &Project) -> Result<Option<Job>, Failure> {
    let path = project.folder().to_owned();
    match project.load().map_err(|error| Failure::State { path: path.clone(), error })? {
        Loaded::Nothing => Ok(None),
        Loaded::Job(job) => Ok(Some(*job)),
        Loaded::Newer(version) => Err(Failure::Newer { path: path.join("work.json"), version }),
        Loaded::Damaged(aside) => {
            complain(format_args!("warning: the job's state was damaged; it is kept as {}", aside.display()));
            Ok(None)
        }
    }
}

/// Ends what the worker before left running, and its log.
fn put_in_order(
    project: &Project,
    job: &Job,
    signals: &SignalPipe,
    stops: &mut Vec<Signal>,
) -> Result<(), queue::Error> {
    if let Some(cli) = &job.cli {
        match end_orphan(cli, signals, stops) {
            Ok(Orphan::Gone) => {}
            Ok(Orphan::Ended) => complain(format_args!("ended the CLI of a worker that died (pid {})", cli.pid)),
            Ok(Orphan::Stays) => {
                complain(format_args!("warning: the CLI of a worker that died stays (pid {})", cli.pid))
            }
            Err(error) => complain(format_args!("warning: cannot end the CLI of a worker that died: {error}")),
        }
        match end_left_behind(&cli.mark) {
            Ok(0) => {}
            Ok(count) => complain(format_args!("ended {count} processes that it had left behind")),
            Err(error) => complain(format_args!("warning: cannot look for what it has left behind: {error}")),
        }
    }
    if let Some(rlog) = &job.rlog {
        let mut ledger = Ledger::open(project.folder(), job.account())?;
        if job.cli.is_some() && was_asking(Path::new(rlog)) {
            ledger.unanswered()?;
        }
        match close_log(Path::new(rlog), ledger.log_totals()) {
            Ok(_) => {}
            Err(error) => complain(format_args!("warning: cannot close the log {rlog}: {error}")),
        }
    }
    Ok(())
}

/// The queue, if there is one or one is waited for.
fn tasks(
    project: &Project,
    name: Option<&str>,
    cwd: &Path,
    env: &Environment,
    wait: bool,
) -> Result<Option<Tasks>, Failure> {
    let path = project.folder().join("queue.db");
    let queue = if env.supervised || wait {
        let mut queue = Queue::create(&path)?;
        // Whoever makes a task in this folder means the project that is worked on here.
        if let Some(name) = name
            && queue.project()?.is_none()
        {
            queue.make_project(name, cwd.to_str(), os::clock::wall_ms())?;
        }
        queue
    } else {
        match Queue::open(&path) {
            Ok(queue) => queue,
            Err(queue::Error::Missing(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    // By hand a queue that nobody has made is none: the ledger is in the same file.
    let exists = env.supervised || wait || queue.project()?.is_some();
    Ok(exists.then(|| Tasks::new(queue, env)))
}

/// Which job it is, and how far.
fn choose(
    project: &Project,
    loaded: Option<Job>,
    prompt: Option<&str>,
    supervised: bool,
    queue: bool,
) -> Result<(Option<Job>, Found), Failure> {
    let state = |error| Failure::State { path: project.folder().to_owned(), error };
    let same = |job: &Job| prompt.is_none_or(|prompt| prompt == job.prompt);
    let old = match loaded {
        Some(mut job) => {
            // They were put in order; a log or a process is not to be ended twice.
            (job.cli, job.rlog) = (None, None);
            job
        }
        None => {
            return match prompt {
                Some(prompt) => new_job(project, prompt),
                None if supervised || queue => Ok((None, Found::NoJob)),
                None => Err(Failure::NoPrompt),
            };
        }
    };
    if old.task.is_some() {
        return match prompt {
            // Its task stays in the queue.
            Some(prompt) => new_job(project, prompt),
            None if queue => {
                project.save(&old, Durability::Process).map_err(state)?;
                Ok((Some(old), Found::NoJob))
            }
            None if supervised => Ok((None, Found::NoJob)),
            None => Err(Failure::NoPrompt),
        };
    }
    match (old.status, prompt) {
        (Status::Unfinished, _) if same(&old) => {
            let found = if old.session.is_some() { Found::Interrupted } else { Found::NewJob };
            project.save(&old, Durability::Process).map_err(state)?;
            Ok((Some(old), found))
        }
        (Status::Done, _) if same(&old) && supervised => {
            project.save(&old, Durability::Process).map_err(state)?;
            Ok((Some(old), Found::Done))
        }
        (Status::Done, None) if queue => Ok((None, Found::NoJob)),
        (Status::Done, None) => Err(Failure::NoPrompt),
        (status, Some(prompt)) => {
            if status == Status::Unfinished {
                let aside = project.set_aside(&old).map_err(state)?;
                complain(format_args!("an unfinished job with another prompt was set aside: {}", aside.display()));
            }
            new_job(project, prompt)
        }
        (Status::Unfinished, None) => Err(Failure::NoPrompt),
    }
}

fn new_job(project: &Project, prompt: &str) -> Result<(Option<Job>, Found), Failure> {
    let random = os::random::bytes().map_err(|error| Failure::Kernel { what: "no randomness", error })?;
    let job = Job::new(names::uuid_v4(random), prompt.to_owned());
    let state = |error| Failure::State { path: project.folder().to_owned(), error };
    project.save(&job, Durability::Power).map_err(state)?;
    Ok((Some(job), Found::NewJob))
}

fn about(args: &RunArgs, cwd: PathBuf, job: Option<&Job>, redactor: &Redactor) -> About {
    let position = repository::position(&cwd);
    About {
        repo_sha: position.sha,
        branch: position.branch,
        model: args.model.clone(),
        cwd,
        version: args.version.clone(),
        slug: names::log_slug(&redactor.text(job.map_or("", |job| &job.prompt))),
    }
}

fn rules(args: &RunArgs, env: &Environment, max_cost_micros: u64) -> Rules {
    let default = Rules::default();
    let watchdog_ms = env.watchdog_usec.map(|usec| usec / 1_000).filter(|ms| *ms > 0);
    let within_watchdog = watchdog_ms.map_or(u64::MAX, |ms| ms.saturating_mul(4) / 5);
    // A quicker test of one is a quicker test of all.
    let first_ms = env.retry_delay_ms.unwrap_or(default.retry.first_ms).max(1);
    let model_silence_ms = env.model_silence_ms.unwrap_or_else(|| default.model_silence_ms.min(within_watchdog));
    Rules {
        full_auto: args.full_auto,
        supervised: env.supervised,
        agent_on_trial: env.supervised && env.claude_on_trial,
        max_turns: args.max_turns,
        max_cost_micros,
        model_silence_ms: model_silence_ms.max(1),
        heartbeat_ms: watchdog_ms.map_or(HEARTBEAT_MS, |ms| (ms / 4).clamp(1, HEARTBEAT_MS)),
        retry: Growing { first_ms, ..default.retry },
        needs_you: Growing { first_ms: first_ms.saturating_mul(12), ..default.needs_you },
        probe_ms: first_ms.saturating_mul(12).min(default.probe_ms),
        seed: os::random::bytes().map(u64::from_le_bytes).unwrap_or(0),
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_loses_patience_before_its_supervisor_does() {
        let args = RunArgs {
            full_auto: true,
            project: None,
            model: "sonnet".into(),
            max_turns: 0,
            max_budget_usd: 0.0,
            cwd: "/".into(),
            prompt: None,
            wait: false,
            mcp: None,
            version: String::new(),
        };
        for (watchdog_usec, silence_ms, expected) in [
            (None, None, (240_000, 30_000)),
            (Some(300_000_000), None, (240_000, 30_000)),
            (Some(60_000_000), None, (48_000, 15_000)),
            (Some(60_000_000), Some(90_000), (90_000, 15_000)),
            (Some(0), None, (240_000, 30_000)),
        ] {
            let env = Environment { watchdog_usec, model_silence_ms: silence_ms, ..Environment::default() };
            let rules = rules(&args, &env, 0);
            assert_eq!((rules.model_silence_ms, rules.heartbeat_ms), expected, "{watchdog_usec:?}");
        }
    }
}
