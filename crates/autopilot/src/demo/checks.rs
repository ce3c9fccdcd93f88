//! Looks at the worker, its tree and its job, with which the acts prove what they claim.

use os::process::{Identity, Pidfd};
use wire::run::Started;

use super::plot::STEPS;
use super::watch::{Trouble, Watch, identity};

/// A worker in the middle of a turn: its agent's tool runs.
#[derive(Debug)]
pub(super) struct AtWork {
    pub(super) run: u64,
    pub(super) worker: Identity,
    /// Worker, agent, tool.
    pub(super) tree: Vec<Identity>,
    pub(super) session: String,
}

impl AtWork {
    pub(super) fn pid(&self) -> u32 {
        self.worker.pid
    }

    /// The worker, to be signalled.
    pub(super) fn handle(&self) -> Result<Pidfd, Trouble> {
        let gone = || Trouble::failed(format!("worker {} is gone, and nobody ended it", self.pid()));
        Pidfd::open(self.worker)?.ok_or_else(gone)
    }

    /// Those of the tree that still run.
    pub(super) fn alive(&self) -> Vec<Identity> {
        self.tree.iter().copied().filter(|&process| runs(process)).collect()
    }

    pub(super) fn check_worker_lives(&self) -> Result<(), Trouble> {
        if runs(self.worker) { Ok(()) } else { Err(Trouble::failed(format!("worker {} is gone", self.pid()))) }
    }

    /// All of the tree still runs.
    pub(super) fn check_untouched(&self) -> Result<(), Trouble> {
        let (alive, all) = (self.alive().len(), self.tree.len());
        if alive == all { Ok(()) } else { Err(Trouble::failed(format!("only {alive} of {all} processes are left"))) }
    }
}

/// Neither gone nor a zombie.
pub(super) fn runs(process: Identity) -> bool {
    os::proc::stat(os::proc::root(), process.pid)
        .is_ok_and(|stat| stat.start_ticks == process.start_ticks && stat.state != 'Z')
}

impl Watch {
    /// Waits until the worker's agent has the tool at step `number`.
    pub(super) fn at_work(&mut self, number: u32) -> Result<AtWork, Trouble> {
        let command = format!("./step {number}");
        self.until(&format!("the agent runs {command}"), |watch| {
            if let Some(status) = watch.status()
                && status.worker_phase.as_deref() == Some("needs-you")
            {
                let message = status.worker_message.unwrap_or_default();
                return Err(Trouble::failed(format!("the agent cannot work: {message}")));
            }
            let there = watch.stage.lines().len();
            if there >= number as usize {
                return Err(Trouble::failed(format!("counted.txt has {there} lines before step {number} was allowed")));
            }
            if watch.logs.running.as_ref().is_none_or(|running| !running.contains(&command)) {
                return Ok(None);
            }
            Ok(watch.newest_run().and_then(|started| watch.in_the_tool(&started)))
        })
    }

    fn in_the_tool(&self, started: &Started) -> Option<AtWork> {
        let below = os::proc::descendants(os::proc::root(), started.shim.pid).ok()?;
        // The log knows of the call before the tool is there.
        below.iter().find(|(_, stat)| stat.name == "step")?;
        Some(AtWork {
            run: started.run,
            worker: identity(started.worker),
            tree: below.into_iter().map(|(process, _)| process).collect(),
            session: self.logs.sessions.last()?.clone(),
        })
    }

    /// Gives the cue and waits for the line.
    pub(super) fn let_write(&mut self, number: u32, words: &str) -> Result<(), Trouble> {
        self.stage.give_cue(number, words)?;
        self.line_written(number)
    }

    pub(super) fn line_written(&mut self, number: u32) -> Result<(), Trouble> {
        self.until(&format!("line {number} is written"), |watch| {
            let lines = watch.stage.lines();
            let expected: Vec<String> = (1..=number).map(|line| line.to_string()).collect();
            if lines.len() >= expected.len() && lines != expected {
                return Err(Trouble::failed(format!("counted.txt has the lines {}", lines.join(", "))));
            }
            Ok((lines == expected).then_some(()))
        })?;
        // What comes after its result in the log belongs to the next step, and may be there already.
        let command = format!("./step {number}");
        let done = |running: Option<&String>| running.is_none_or(|running| !running.contains(&command));
        self.until("the tool's result is in the log", |watch| Ok(done(watch.logs.running.as_ref()).then_some(())))
    }

    /// Waits for the run after `run`.
    pub(super) fn next_run(&mut self, run: u64) -> Result<Started, Trouble> {
        self.until("the daemon has started another worker", |watch| {
            let started = watch.started(run + 1);
            // The record is written after the daemon was told; its words belong before ours.
            Ok(started
                .filter(|started| watch.status().is_some_and(|status| status.worker_pid == Some(started.worker.pid))))
        })
    }

    /// The old tree is gone, and the new worker goes on where the old one was.
    pub(super) fn check_resumed(&mut self, before: &AtWork, number: u32) -> Result<AtWork, Trouble> {
        let left = before.alive().len();
        if left > 0 {
            return Err(Trouble::failed(format!("{left} processes of worker {}'s tree live on", before.pid())));
        }
        let now = self.at_work(number)?;
        if now.session != before.session {
            return Err(Trouble::failed(format!("session {} was not resumed", before.session)));
        }
        Ok(now)
    }

    /// The whole job, from its traces.
    pub(super) fn check_job(&mut self, last: &AtWork) -> Result<String, Trouble> {
        self.until("the worker says that the job is done", |watch| {
            let idle = watch.status().is_some_and(|status| status.worker_phase.as_deref() == Some("idle"));
            Ok((idle && watch.logs.ends.len() == watch.logs.count()).then_some(()))
        })?;
        last.handle()?;
        let expected: Vec<String> = (1..=STEPS).map(|line| line.to_string()).collect();
        let lines = self.stage.lines();
        if lines != expected {
            return Err(Trouble::failed(format!("counted.txt has the lines {}", lines.join(", "))));
        }
        let sessions = &self.logs.sessions;
        if sessions.iter().any(|session| session != &sessions[0]) {
            return Err(Trouble::failed(format!("the work was done in several sessions: {}", sessions.join(", "))));
        }
        let (logs, ends) = (self.logs.count() as u64, &self.logs.ends);
        if logs != last.run || ends.iter().filter(|reason| *reason == "done").count() != 1 {
            return Err(Trouble::failed(format!("{} workers left {logs} logs, ended: {}", last.run, ends.join(", "))));
        }
        Ok(format!(
            "lines 1 to {STEPS} are there, each exactly once; {} workers, one session, one log for each worker, each \
             closed ({})",
            last.run,
            ends.join(", ")
        ))
    }
}
