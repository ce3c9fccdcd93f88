//! A project's folder: who works in it, and what the job is. All that a worker must know after the death of the one before.

use std::io;
use std::path::{Path, PathBuf};

use os::files::{Durability, Lock, Locked, create_private_folder, write_atomic};
use serde::{Deserialize, Serialize};

use crate::errand::Place;
use crate::ledger::QUEUE_ACCOUNT;

/// The version of `work.json` that this program writes. 1: the first.
const VERSION: u32 = 1;

/// So many logs of a job are remembered.
pub(crate) const REMEMBERED_LOGS: usize = 3;

/// What is to be done, and how far it is. `work.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) version: u32,
    /// Its name in the ledger.
    pub(crate) id: String,
    /// Without secrets, as everything that is written.
    pub(crate) prompt: String,
    pub(crate) status: Status,
    /// The agent's session: on disk before the agent starts.
    #[serde(default)]
    pub(crate) session: Option<String>,
    /// The log that has no `@end` yet.
    #[serde(default)]
    pub(crate) rlog: Option<String>,
    /// The newest logs, newest first: for a session that can't ask the one before.
    #[serde(default)]
    pub(crate) logs: Vec<String>,
    /// Failures in a row.
    #[serde(default)]
    pub(crate) failures: u32,
    /// What speaks against the session: `policy::work::Strikes`.
    #[serde(default)]
    pub(crate) strikes: u32,
    /// A usage limit ends then, in ms since 1970; nothing is asked before.
    #[serde(default)]
    pub(crate) limit_until_unix_ms: Option<u64>,
    /// The agent's process, or that of an errand, to be ended if we die and it does not.
    #[serde(default)]
    pub(crate) cli: Option<CliProcess>,
    /// The task of the queue that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<TaskWork>,
}

/// What is to be known of a task after a crash; all else is in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskWork {
    pub(crate) id: i64,
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    Unfinished,
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CliProcess {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    pub(crate) boot_id: String,
    /// The value of `AUTOPILOT_AGENT` by which its tools and servers are known.
    #[serde(default)]
    pub(crate) mark: String,
}

impl Job {
    /// Whose money it spends.
    pub(crate) fn account(&self) -> &str {
        if self.task.is_some() { QUEUE_ACCOUNT } else { &self.id }
    }

    pub(crate) fn new(id: String, prompt: String) -> Self {
        Self {
            version: VERSION,
            id,
            prompt,
            status: Status::Unfinished,
            session: None,
            rlog: None,
            logs: Vec::new(),
            failures: 0,
            strikes: 0,
            limit_until_unix_ms: None,
            cli: None,
            task: None,
        }
    }
}

/// What `work.json` held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    Nothing,
    Job(Box<Job>),
    /// It could not be read as a job; it was moved there.
    Damaged(PathBuf),
    /// A later version of this program wrote it.
    Newer(u32),
}

/// A project that is ours alone.
#[derive(Debug)]
pub(crate) struct Project {
    folder: PathBuf,
    _lock: Lock,
}

/// What an attempt to enter a project found.
#[derive(Debug)]
pub(crate) enum Entered {
    Ours(Project),
    /// Another worker is in it; its pid, if it could be read.
    Busy(Option<u32>),
}

impl Project {
    /// Makes the folder and takes its lock.
    pub(crate) fn enter(folder: PathBuf) -> io::Result<Entered> {
        create_private_folder(&folder)?;
        let path = folder.join("worker.lock");
        match Lock::try_take(&path)? {
            Locked::Taken(lock) => {
                // Not atomic, and it need not be: it only tells people who holds the lock.
                std::fs::write(&path, format!("{}\n", os::process::own_pid()))?;
                Ok(Entered::Ours(Self { folder, _lock: lock }))
            }
            Locked::Busy => {
                let holder = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                Ok(Entered::Busy(holder))
            }
        }
    }

    fn job_path(&self) -> PathBuf {
        self.folder.join("work.json")
    }

    pub(crate) fn load(&self) -> io::Result<Loaded> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let bytes = match std::fs::read(self.job_path()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Nothing),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Versioned>(&bytes) {
            Ok(Versioned { version }) if version > VERSION => return Ok(Loaded::Newer(version)),
            Ok(_) | Err(_) => {}
        }
        match serde_json::from_slice(&bytes) {
            Ok(job) => Ok(Loaded::Job(Box::new(job))),
            Err(_) => {
                let aside = self.free_name("work-damaged");
                std::fs::rename(self.job_path(), &aside)?;
                Ok(Loaded::Damaged(aside))
            }
        }
    }

    /// Keeps a job that another one takes the place of.
    pub(crate) fn set_aside(&self, job: &Job) -> io::Result<PathBuf> {
        let aside = self.free_name("work-set-aside");
        write_atomic(&aside, &serde_json::to_vec_pretty(job)?, Durability::Process)?;
        Ok(aside)
    }

    fn free_name(&self, stem: &str) -> PathBuf {
        let names = (1..).map(|n: u32| self.folder.join(format!("{stem}-{n}.json")));
        names.into_iter().find(|path| !path.exists()).unwrap_or_else(|| self.folder.join(stem))
    }

    pub(crate) fn save(&self, job: &Job, durability: Durability) -> io::Result<()> {
        write_atomic(&self.job_path(), &serde_json::to_vec_pretty(job)?, durability)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(folder: &Path) -> Project {
        match Project::enter(folder.join("p")).unwrap() {
            Entered::Ours(project) => project,
            Entered::Busy(holder) => panic!("{holder:?}"),
        }
    }

    #[test]
    fn one_worker_a_project_and_the_second_learns_who_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let first = enter(folder.path());
        let Entered::Busy(holder) = Project::enter(folder.path().join("p")).unwrap() else { panic!() };
        assert_eq!(holder, Some(std::process::id()));
        drop(first);
        enter(folder.path());
    }

    #[test]
    fn a_job_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let project = enter(folder.path());
        assert_eq!(project.load().unwrap(), Loaded::Nothing);
        let mut job = Job::new("j".into(), "do\n\"it\"".into());
        job.cli = Some(CliProcess { pid: 1, start_ticks: 2, boot_id: "b".into(), mark: "m".into() });
        project.save(&job, Durability::Power).unwrap();
        assert_eq!(project.load().unwrap(), Loaded::Job(Box::new(job)));
    }

    #[test]
    fn damage_is_kept_aside_and_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let project = enter(folder.path());
        std::fs::write(project.job_path(), "{\"version\":1,").unwrap();
        let Loaded::Damaged(aside) = project.load().unwrap() else { panic!() };
        assert_eq!(std::fs::read(aside).unwrap(), b"{\"version\":1,");
        std::fs::write(project.job_path(), "{\"version\":2}").unwrap();
        assert_eq!(project.load().unwrap(), Loaded::Newer(2));
        assert!(project.job_path().exists());
    }

    #[test]
    fn version_1_is_read_for_ever() {
        let golden = r#"{"version":1,"id":"j","prompt":"p","status":"done","session":"s","rlog":null,
            "cli":{"pid":7,"start_ticks":8,"boot_id":"b"}}"#;
        let job: Job = serde_json::from_str(golden).unwrap();
        assert_eq!(
            (job.status, job.session.as_deref(), job.cli.map(|cli| cli.pid)),
            (Status::Done, Some("s"), Some(7))
        );
    }
}
