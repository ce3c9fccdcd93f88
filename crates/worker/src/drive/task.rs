//! The desk's part in the queue: claims, errands, and how a task is settled.

use os::spawn::Program;
use policy::queue::LEASE_MS;
use policy::work::Event;
use policy::work::task::{Errand, ErrandEnd, Obstacle};
use queue::{Claimant, Error, Found, Holder, Queue, Task, Which};

use super::desk::Desk;
use crate::errand::{self, Place, Surroundings, Tail};
use crate::job::{Job, Status, TaskWork};
use crate::ledger::{Ledger, QUEUE_ACCOUNT};
use crate::{Environment, names, words};

/// The queue as one worker sees it.
#[derive(Debug)]
pub(super) struct Tasks {
    db: Queue,
    claimant: Claimant,
    /// The branches on which the results are that the claimed task needs.
    needs: Vec<String>,
    /// What the running errand says.
    tail: Tail,
    /// What the last check said, for the agent.
    pub(super) rejection: String,
}

impl Tasks {
    pub(super) fn new(db: Queue, env: &Environment) -> Self {
        let own = os::process::own_identity();
        let run = env.run_id.as_deref().map(|run| format!(" of run {run}")).unwrap_or_default();
        let owner = format!("worker {}@{}{run}", own.pid, own.start_ticks);
        // Whoever drives has entered the project, and so holds its lock.
        let claimant = Claimant { owner, holder: Holder::Worker, lease_ms: LEASE_MS, holds_lock: true };
        Self { db, claimant, needs: Vec::new(), tail: Tail::default(), rejection: String::new() }
    }

    fn claim(&mut self, which: Which) -> Result<Found, Error> {
        let found = self.db.claim(which, &self.claimant, os::clock::wall_ms())?;
        if let Found::Task(claim) = found {
            self.needs = self.db.branches_needed(claim.id)?;
        }
        Ok(found)
    }
}

impl Desk<'_> {
    pub(super) fn claim(&mut self) -> Event<'static> {
        self.try_claim().unwrap_or_else(|error| {
            self.status(&format!("no task can be claimed: {error}"));
            Event::NoTask { look_again_ms: None }
        })
    }

    fn try_claim(&mut self) -> Result<Event<'static>, Error> {
        let Some(tasks) = &mut self.tasks else { return Ok(Event::NoTask { look_again_ms: None }) };
        let begun = self.job.as_ref().filter(|job| job.status == Status::Unfinished);
        if let Some((id, begun)) = begun.and_then(|job| Some((job.task.as_ref()?.id, job.session.is_some()))) {
            match tasks.claim(Which::This(id)) {
                Ok(_) => return Ok(Event::Claimed { begun }),
                Err(error @ (Error::Held { .. } | Error::NotReady { .. } | Error::NoTask(_))) => {
                    self.job = None;
                    self.status(&format!("the task that was begun is left alone: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        let Some(tasks) = &mut self.tasks else { return Ok(Event::NoTask { look_again_ms: None }) };
        if tasks.db.project()?.is_none() {
            return Ok(Event::NoTask { look_again_ms: None });
        }
        match tasks.claim(Which::Next)? {
            Found::Task(claim) => {
                let task = tasks.db.task(claim.id)?;
                self.take_up(&task)?;
                Ok(Event::Claimed { begun: false })
            }
            Found::Nothing { look_again_ms } => {
                let (wall_ms, loop_ms) = (os::clock::wall_ms(), os::clock::boottime_ms());
                let to_loop = |at_ms: u64| loop_ms.saturating_add(at_ms.saturating_sub(wall_ms));
                Ok(Event::NoTask { look_again_ms: look_again_ms.map(to_loop) })
            }
        }
    }

    /// Makes a claimed task the job. A death before it is on disk leaves a claim that the next worker takes over.
    fn take_up(&mut self, task: &Task) -> Result<(), Error> {
        let id = names::uuid_v4(os::random::bytes().unwrap_or_default());
        let redactor = self.recorder.redactor();
        let mut job = Job::new(id, redactor.text(&text(task)).into_owned());
        // It goes into names of files and branches, and into commits.
        let title = redactor.text(&task.title).into_owned();
        let of = (task.id, title.as_str(), task.branch.as_deref());
        let place = Place::new(self.settings.git, self.recorder.cwd(), of, self.project.folder());
        let slug = names::log_slug(&title);
        job.task = Some(TaskWork { id: task.id, title, place });
        self.job = Some(job);
        self.recorder.set_slug(slug);
        if self.ledger.as_ref().is_none_or(|ledger| ledger.account() != QUEUE_ACCOUNT) {
            self.ledger = Some(Ledger::open(self.project.folder(), QUEUE_ACCOUNT)?);
        }
        self.save(os::files::Durability::Power);
        Ok(())
    }

    /// What the agent is told of the task; the job on disk has it without secrets.
    pub(super) fn task_in_full(&self) -> Option<String> {
        let id = self.task()?.id;
        Some(text(&self.tasks.as_ref()?.db.task(id).ok()?))
    }

    fn task(&self) -> Option<&TaskWork> {
        self.job.as_ref()?.task.as_ref()
    }

    /// After somebody has written to the queue: whether the task is still ours. Nothing is written: that would wake us again.
    pub(super) fn look_after_task(&mut self) -> Option<Event<'static>> {
        let id = self
            .job
            .as_ref()
            .filter(|job| job.status == Status::Unfinished)
            .and_then(|job| Some(job.task.as_ref()?.id))?;
        let tasks = self.tasks.as_mut()?;
        tasks.db.wait_for_writer().ok();
        match tasks.db.is_held_by(id, &tasks.claimant.owner) {
            Ok(true) | Err(_) => None,
            Ok(false) => Some(self.lose_task()),
        }
    }

    fn lose_task(&mut self) -> Event<'static> {
        if let Some(id) = self.task().map(|task| task.id) {
            self.status(&format!("task #{id} is not ours any more"));
        }
        if let Some(job) = &mut self.job {
            // Nothing of it is to be gone on with.
            job.status = Status::Done;
        }
        self.save(os::files::Durability::Process);
        Event::TaskLost
    }

    /// `None`: it is still ours, or that can't be told now.
    pub(super) fn renew(&mut self) -> Option<Event<'static>> {
        let id = self.task()?.id;
        let tasks = self.tasks.as_mut()?;
        match tasks.db.renew(id, &tasks.claimant, os::clock::wall_ms()) {
            Ok(true) => None,
            Ok(false) => Some(self.lose_task()),
            Err(error) => {
                self.status(&format!("the claim of task #{id} cannot be renewed now: {error}"));
                None
            }
        }
    }

    /// The program for an errand; `None`: there is nothing to do.
    pub(super) fn errand(&mut self, errand: Errand) -> Option<Program> {
        self.mark = names::uuid_v4(os::random::bytes().unwrap_or_default());
        let task = self.task()?;
        let needs = self.tasks.as_ref().map_or(&[][..], |tasks| &tasks.needs);
        let program = errand::program(
            errand,
            &Surroundings {
                settings: &self.settings,
                place: &task.place,
                cwd: self.recorder.cwd(),
                folder: self.project.folder(),
                task: &format!("#{} {}", task.id, task.title),
                needs,
                mark: &self.mark,
            },
        );
        if program.is_some() && errand == Errand::Accept {
            let command = self.settings.accept.as_deref().unwrap_or_default();
            let text = format!("checking the result in a clean checkout: {command}");
            self.tell_status(&text);
            self.status(&text);
        }
        program
    }

    pub(super) fn errand_said(&mut self, bytes: &[u8]) {
        if let Some(tasks) = &mut self.tasks {
            tasks.tail.push(bytes);
        }
    }

    /// An errand's program has ended; `None`: by a signal.
    pub(super) fn errand_ended(&mut self, errand: Errand, code: Option<i32>) -> ErrandEnd {
        let (Some(TaskWork { id, place, .. }), Some(tasks)) = (self.task().cloned(), &mut self.tasks) else {
            return ErrandEnd::Failed;
        };
        let passed = code == Some(0);
        // It goes into the queue, and to whoever reads that.
        let output = self.recorder.redactor().text(&tasks.tail.take()).into_owned();
        let said = output.lines().last().unwrap_or("no word").to_owned();
        let end = match errand {
            Errand::Prepare if passed => Ok(ErrandEnd::Passed),
            Errand::Prepare => {
                tasks.rejection.clone_from(&said);
                Err("no place for the task's work")
            }
            Errand::Accept if passed => Ok(ErrandEnd::Passed),
            Errand::Accept => {
                let ended = code.map_or_else(|| "by a signal".to_owned(), |code| format!("with status {code}"));
                tasks.rejection =
                    if output.is_empty() { format!("It said nothing and ended {ended}.") } else { output };
                match tasks.db.reject(id, os::clock::wall_ms()) {
                    Ok(attempts) => {
                        let of = self.settings.max_attempts;
                        self.status(&format!("the check ended {ended}: result {attempts} of {of} not accepted"));
                        return ErrandEnd::Rejected { attempts };
                    }
                    Err(error) => {
                        self.status(&format!("the check ended {ended}; that cannot be counted: {error}"));
                        return ErrandEnd::Failed;
                    }
                }
            }
            Errand::Finish | Errand::Abandon => {
                let merged = errand == Errand::Finish && self.settings.merge && passed;
                let branch = (!merged && !place.branch.is_empty()).then_some(place.branch.as_str());
                if let Err(error) = tasks.db.set_branch(id, branch) {
                    self.status(&format!("the branch of task #{id} cannot be noted: {error}"));
                }
                passed.then_some(ErrandEnd::Passed).ok_or("the task's work is left for review")
            }
        };
        end.unwrap_or_else(|what| {
            self.status(&format!("{what}: {said}"));
            ErrandEnd::Failed
        })
    }

    /// The last word on a task, in the queue; `false`: it could not be said, and the task is gone on with.
    pub(super) fn settle_task(&mut self, obstacle: Option<&Obstacle>) -> bool {
        let Some(id) = self.task().map(|task| task.id) else { return true };
        let Some(tasks) = &mut self.tasks else { return true };
        let (owner, now_ms) = (tasks.claimant.owner.clone(), os::clock::wall_ms());
        let said = match obstacle {
            None => tasks.db.complete(id, Some(&owner), now_ms).map(|new| if new { "done" } else { "done already" }),
            Some(obstacle) => {
                let reason = words::obstacle(obstacle, &tasks.rejection);
                let reason = self.recorder.redactor().text(&reason);
                let blocked = tasks.db.block(id, &reason, Some(&owner), now_ms);
                if blocked.is_ok() {
                    self.set_aside.push((id, reason.into_owned()));
                }
                blocked.map(|()| "blocked")
            }
        };
        match said {
            Ok(word) => {
                self.status(&format!("task #{id} is {word}"));
                true
            }
            // Somebody else has settled it, or has it.
            Err(error @ (Error::Held { .. } | Error::NotReady { .. } | Error::NoTask(_))) => {
                self.status(&format!("task #{id}: {error}"));
                true
            }
            Err(error) => {
                self.status(&format!("the end of task #{id} cannot be noted: {error}"));
                false
            }
        }
    }

    /// An orderly end: the task can be claimed by anybody at once.
    pub(super) fn release_task(&mut self) {
        let Some(id) = self.task().map(|task| task.id) else { return };
        if let Some(tasks) = &mut self.tasks {
            // Without it the claim expires by itself.
            tasks.db.release(id, Some(&tasks.claimant.owner)).ok();
        }
    }
}

/// A task, as an agent is given it.
fn text(task: &Task) -> String {
    let Task { id, title, description, .. } = task;
    if description.is_empty() {
        format!("Task #{id}: {title}")
    } else {
        format!("Task #{id}: {title}\n\n{description}")
    }
}
