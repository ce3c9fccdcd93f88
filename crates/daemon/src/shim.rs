//! The small process between the daemon and one run: it outlives the daemon.
//!
//! It adopts whatever the worker's descendants leave behind, drains the worker's output, ends the tree when it is told
//! to or when the worker ends, and leaves a record of the end. It is a fork of the daemon, not a program of its own:
//! executing one would double the time that a restart takes.
//!
//! Told by signals, which reach it through a pidfd, whoever is the daemon by then: SIGTERM, end the tree (TERM, after
//! the stop timeout KILL); SIGUSR1, kill it now.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use os::cgroup::Group;
use os::fail;
use os::files::{Durability, Lock, write_atomic};
use os::notify::Notifier;
use os::output::{Bounds, Drained, Output};
use os::poll::{Interest, Poller, Ready, Token};
use os::process::{Identity, Reap, Reaped, Send};
use os::signals::{Signal, SignalPipe};
use os::spawn::{Placement, Program, SpawnError};
use wire::run::{Ended, Exit, Leaked, Line, Process, StartError, Started, VERSION};

use crate::containment::Containment;
use crate::home::RunFolder;
use crate::notify;

/// What to run, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) run: u64,
    pub(crate) run_id: String,
    pub(crate) boot_id: String,
    pub(crate) folder: RunFolder,
    pub(crate) program: Program,
    pub(crate) working_dir: PathBuf,
    pub(crate) output: Bounds,
    pub(crate) stop_timeout_ms: u64,
    /// Where whoever is the daemon is told of what can't wait for the end.
    pub(crate) notify: PathBuf,
    pub(crate) containment: Containment,
}

/// The name by which `ps` shows it; at most 15 bytes.
pub(crate) const NAME: &std::ffi::CStr = c"autopilot-shim";

/// The worker's tree rather than anything of the user's: half way to "always the first".
const OOM_SCORE_ADJ: i16 = 500;

/// signal(7)
const SIGKILL: i32 = 9;

const SIGNALS: Token = Token(1);
const OUTPUT: Token = Token(2);

/// While a killed tree is not yet gone, look again this often: for what was forked in between, or hangs in the kernel.
const RETRY_MS: u64 = 100;

/// A record that could not be written, for want of room, is tried again this often.
const RECORD_AGAIN_MS: u64 = 1_000;

/// At wake-ups, such as for output, it is looked at most so often whether the kernel has killed somebody for want of memory: nobody is
/// woken for that alone. The look before the last one is what counts, since a big process takes a while to be gone. So a kill of the
/// worker by hand, before it has written twice after one of the kernel's, can't be told from that.
const OOM_LOOK_MS: u64 = 10_000;

/// So long after its start a worker is taken for one that stays: then what only the start needed of the program, and much of the
/// daemon's, is given back. Of one that ends sooner that would make the restart slower.
const SETTLED_AFTER_MS: u64 = 1_000;

/// What is not gone so long after it was killed is reported as leaked, and not waited for any more.
const LEAKED_AFTER_MS: u64 = 5_000;

/// In the forked child: run the plan to its end. Returns the shim's exit status.
pub(crate) fn run(plan: &Plan, lock: &Lock, to_daemon: &OwnedFd) -> i32 {
    let Ok(mut shim) = Shim::set_up(plan, lock, to_daemon) else { return 1 };
    match shim.begin(lock) {
        Ok(worker) => {
            shim.tell(&Line::Started(worker.clone()));
            fail::point("shim.told-start").ok();
            // The daemon knows by the line; the file is for one that comes later.
            shim.record = wire::run::encode(&worker).ok();
            shim.leave_record();
            shim.oom_kills_lately = shim.oom_kills();
            shim.oom_kills_before = shim.oom_kills_lately;
            shim.oom_looked_ms = os::clock::monotonic_ms();
            let exit = shim.watch(worker.worker.pid);
            shim.finish(&worker, exit)
        }
        Err(error) => shim.give_up(error),
    }
}

struct Shim<'a> {
    plan: &'a Plan,
    to_daemon: &'a OwnedFd,
    poller: Poller,
    signals: SignalPipe,
    output: Output,
    /// Tell of lost output when it is more than this.
    loss_told_bytes: u64,
    pipe: Option<OwnedFd>,
    /// Of the start, as long as it could not be written, and when to try again.
    record: Option<Vec<u8>>,
    record_at_ms: u64,
    kill_at_ms: Option<u64>,
    stopping: bool,
    survivors_killed: u64,
    /// The run's group, if it has one.
    group: Option<Group>,
    /// The worker, once it runs: the leader of its process group.
    worker: Option<u32>,
    /// This process killed something itself.
    killed: bool,
    /// How many the kernel had killed for want of memory at the last look, and at the one before it.
    oom_kills_lately: Option<u64>,
    oom_kills_before: Option<u64>,
    oom_looked_ms: u64,
    leaked: Vec<Leaked>,
}

impl<'a> Shim<'a> {
    fn set_up(plan: &'a Plan, lock: &Lock, to_daemon: &'a OwnedFd) -> io::Result<Self> {
        os::signals::forget_inherited();
        fail::point("shim.session")?;
        os::fork::become_shim(NAME, &[lock.as_fd(), to_daemon.as_fd()])?;
        if plan.containment != Containment::ProcessGroup {
            fail::point("shim.subreaper")?;
            os::fork::become_subreaper()?;
        }
        fail::point("shim.signals")?;
        let signals = SignalPipe::new(&[Signal::Term, Signal::User1, Signal::Child])?;
        os::fork::unblock_signals();
        fail::point("shim.poller")?;
        let poller = Poller::new()?;
        poller.add(&signals, SIGNALS, Interest::Readable)?;
        let output = Output::new(plan.output.clone());
        Ok(Self {
            plan,
            to_daemon,
            poller,
            signals,
            output,
            loss_told_bytes: 0,
            pipe: None,
            record: None,
            record_at_ms: 0,
            kill_at_ms: None,
            stopping: false,
            survivors_killed: 0,
            group: None,
            worker: None,
            killed: false,
            oom_kills_lately: None,
            oom_kills_before: None,
            oom_looked_ms: 0,
            leaked: Vec::new(),
        })
    }

    fn begin(&mut self, lock: &Lock) -> Result<Started, StartError> {
        let at = |step: &str| {
            let step = step.to_owned();
            move |error: io::Error| StartError { step, errno: error.raw_os_error().unwrap_or(0) }
        };
        fail::point("shim.working-dir").map_err(at("fork"))?;
        os::spawn::enter(&self.plan.working_dir).map_err(at("working-dir"))?;
        fail::point("shim.lock").map_err(at("lock"))?;
        lock.inherit_on_exec().map_err(at("lock"))?;
        fail::point("shim.output").map_err(at("output"))?;
        let (read, write) = os::output::pipe().map_err(at("output"))?;
        self.poller.add(&read, OUTPUT, Interest::Readable).map_err(at("output"))?;
        let pid = self.execute(&write)?;
        fail::point("shim.spawned").ok();
        self.worker = Some(pid);
        self.pipe = Some(read);
        Ok(Started {
            v: VERSION,
            run: self.plan.run,
            run_id: self.plan.run_id.clone(),
            boot_id: self.plan.boot_id.clone(),
            shim: process(os::process::own_identity()),
            worker: process(identity(pid)),
            at_ms: os::clock::monotonic_ms(),
            at_unix_ms: os::clock::wall_ms(),
            containment: self.rung().to_owned(),
            group: self.group.as_ref().map(|group| group.path().display().to_string()),
            pid_namespace: os::process::pid_namespace(),
        })
    }

    /// In its group if that works, else without: the shim itself keeps the tree together, too.
    fn execute(&mut self, output: &OwnedFd) -> Result<u32, StartError> {
        let failed = |step: &str, error: &io::Error| {
            let errno = error.raw_os_error().unwrap_or(0);
            StartError { step: step.to_owned(), errno }
        };
        self.group = self.plan.containment.for_run(self.plan.run);
        loop {
            let placement = Placement { group: self.group.as_ref(), oom_score_adj: OOM_SCORE_ADJ };
            match os::spawn::spawn(&self.plan.program, output, placement) {
                Ok(pid) => return Ok(pid),
                Err(SpawnError::Group(_)) if self.group.is_some() => self.remove_group(),
                Err(SpawnError::Group(error) | SpawnError::Fork(error)) => return Err(failed("fork", &error)),
                Err(SpawnError::Execute(error)) => {
                    self.remove_group();
                    return Err(failed("execute", &error));
                }
            }
        }
    }

    fn remove_group(&mut self) {
        if let Some(group) = self.group.take() {
            fail::point("groups.remove").and_then(|()| group.remove()).ok();
        }
    }

    /// What keeps the tree together in fact.
    fn rung(&self) -> &'static str {
        match (&self.group, &self.plan.containment) {
            (None, Containment::Groups(_)) => Containment::Subreaper.name(),
            (_, containment) => containment.name(),
        }
    }

    /// Without it the next daemon would end the run: it could not tell whose it is.
    fn leave_record(&mut self) {
        let now_ms = os::clock::monotonic_ms();
        if let Some(json) = self.record.as_ref().filter(|_| self.record_at_ms <= now_ms) {
            match write_atomic(&self.plan.folder.started(), json, Durability::Process) {
                Ok(()) => self.record = None,
                Err(_) => self.record_at_ms = now_ms.saturating_add(RECORD_AGAIN_MS),
            }
        }
    }

    /// Until the worker ends.
    fn watch(&mut self, worker: u32) -> Reaped {
        let mut ready = Vec::new();
        let mut settles_ms = Some(os::clock::monotonic_ms().saturating_add(SETTLED_AFTER_MS));
        loop {
            if let Some(exit) = self.reap(worker) {
                return exit;
            }
            self.leave_record();
            let now_ms = os::clock::monotonic_ms();
            self.look_for_oom_kills(now_ms);
            if settles_ms.take_if(|at_ms| *at_ms <= now_ms).is_some() {
                os::image::give_back_code();
            }
            let settle_ms = settles_ms.map(|at_ms| at_ms.saturating_sub(now_ms));
            let wait_ms = self.kill_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms));
            if wait_ms == Some(0) {
                self.kill(RETRY_MS);
                // The kernel gets a moment; the end of the worker wakes it.
                self.poller.wait(Some(1), &mut ready).ok();
                self.handle(&ready, worker);
                continue;
            }
            let record_ms = self.record.as_ref().map(|_| self.record_at_ms.saturating_sub(now_ms));
            if self.poller.wait(wait_ms.into_iter().chain(record_ms).chain(settle_ms).min(), &mut ready).is_err() {
                self.kill(RETRY_MS);
            }
            self.handle(&ready, worker);
        }
    }

    /// Who had been killed when the worker went on living for long was somebody else.
    fn look_for_oom_kills(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.oom_looked_ms) < OOM_LOOK_MS {
            return;
        }
        self.oom_kills_before = self.oom_kills_lately;
        self.oom_kills_lately = self.oom_kills();
        self.oom_looked_ms = now_ms;
    }

    fn handle(&mut self, ready: &[Ready], worker: u32) {
        for event in ready {
            if event.token == OUTPUT {
                self.drain();
                continue;
            }
            for signal in self.signals.take() {
                match signal {
                    Signal::Term => self.stop(worker),
                    Signal::User1 => {
                        self.kill(RETRY_MS);
                    }
                    Signal::Child
                    | Signal::Int
                    | Signal::Hup
                    | Signal::Quit
                    | Signal::User2
                    | Signal::Alarm
                    | Signal::WindowChange => {}
                }
            }
        }
    }

    fn stop(&mut self, worker: u32) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        fail::point("shim.stop").ok();
        if self.plan.containment == Containment::ProcessGroup {
            os::tree::signal_group(worker, Send::Term).ok();
        } else {
            os::tree::terminate(worker);
        }
        self.kill_at_ms = Some(os::clock::monotonic_ms().saturating_add(self.plan.stop_timeout_ms));
    }

    /// Says how many were killed.
    fn kill(&mut self, again_in_ms: u64) -> u64 {
        self.stopping = true;
        self.kill_at_ms = Some(os::clock::monotonic_ms().saturating_add(again_in_ms));
        self.killed = true;
        fail::point("shim.kill").ok();
        if self.plan.containment == Containment::ProcessGroup {
            let anybody = self.worker.is_some_and(|leader| os::tree::signal_group(leader, Send::Kill).unwrap_or(false));
            let escaped = self.escaped();
            os::tree::kill_each(&escaped);
            return u64::from(anybody) + escaped.len() as u64;
        }
        if let Some(group) = &self.group
            && let members @ 1.. = group.members().map_or(0, |members| members.len())
            && fail::point("groups.kill").and_then(|()| group.kill()).is_ok()
        {
            return members as u64;
        }
        // What the group misses, because it moved itself elsewhere, is still below the shim.
        os::tree::kill_below().unwrap_or(0) as u64
    }

    /// Take some of the output, but return to the signals from time to time.
    fn drain(&mut self) {
        const AT_A_TIME: usize = 16;
        self.drain_pipe(AT_A_TIME);
        self.tell_of_loss();
    }

    /// Each time that it has doubled: soon the first time, and never often.
    fn tell_of_loss(&mut self) {
        let lost_bytes = self.output.lost_bytes();
        if lost_bytes <= self.loss_told_bytes {
            return;
        }
        let message = format!("{}={lost_bytes}", notify::OUTPUT_LOST);
        let notifier = Notifier::new(Some(self.plan.notify.clone().into()));
        if notifier.is_ok_and(|notifier| notifier.send(&message)) {
            self.loss_told_bytes = lost_bytes.saturating_mul(2);
        }
    }

    fn drain_pipe(&mut self, at_a_time: usize) {
        let Some(pipe) = &self.pipe else { return };
        for _ in 0..at_a_time {
            match self.output.drain(pipe) {
                Ok(Drained::Some) => {}
                Ok(Drained::Empty) => return,
                Ok(Drained::End) | Err(_) => {
                    // Nobody can write any more; closing it takes it out of the poller.
                    self.pipe = None;
                    return;
                }
            }
        }
    }

    /// Reap all that ended; the worker's end, if it is among them.
    fn reap(&mut self, worker: u32) -> Option<Reaped> {
        while let Ok(Reap::Ended(reaped)) = os::process::reap_any() {
            if reaped.pid == worker {
                return Some(reaped);
            }
        }
        None
    }

    /// The worker is gone: kill what it left, wait for it, take the rest of its output, leave the record.
    fn finish(&mut self, worker: &Started, exit: Reaped) -> i32 {
        let ended_ms = os::clock::monotonic_ms();
        fail::point("shim.reaped").ok();
        let kills = self.oom_kills_before.zip(self.oom_kills());
        let out_of_memory =
            exit.signal == Some(SIGKILL) && !self.killed && kills.is_some_and(|(before, now)| now > before);
        self.empty_the_tree();
        fail::point("shim.emptied").ok();
        self.remove_group();
        while self.pipe.is_some() {
            let before = self.output.lost_bytes();
            match self.pipe.as_ref().map(|pipe| self.output.drain(pipe)) {
                Some(Ok(Drained::Some)) => debug_assert!(self.output.lost_bytes() >= before),
                // With the tree empty there is no writer left, but for one that was handed the pipe by other means.
                Some(Ok(Drained::Empty | Drained::End) | Err(_)) | None => self.pipe = None,
            }
        }
        let leaked = std::mem::take(&mut self.leaked);
        self.leave(&Ended {
            v: VERSION,
            run: self.plan.run,
            boot_id: self.plan.boot_id.clone(),
            exit: Some(Exit { code: exit.code, signal: exit.signal }),
            start_error: None,
            at_ms: ended_ms,
            at_unix_ms: os::clock::wall_ms(),
            lived_ms: ended_ms.saturating_sub(worker.at_ms),
            survivors_killed: self.survivors_killed,
            output_lost_bytes: self.output.lost_bytes(),
            out_of_memory,
            leaked,
        })
    }

    fn oom_kills(&self) -> Option<u64> {
        os::memory::oom_kills(os::proc::root(), os::memory::cgroup_root())
    }

    fn empty_the_tree(&mut self) {
        let mut ready = Vec::new();
        let begun_ms = os::clock::monotonic_ms();
        let mut kill_due_ms = begun_ms;
        loop {
            if self.is_empty() {
                return;
            }
            let now_ms = os::clock::monotonic_ms();
            if now_ms.saturating_sub(begun_ms) >= LEAKED_AFTER_MS {
                self.leaked = left(self.group.as_ref(), &self.escaped());
                return;
            }
            if now_ms >= kill_due_ms {
                self.survivors_killed = self.survivors_killed.max(self.kill(RETRY_MS));
                kill_due_ms = now_ms.saturating_add(RETRY_MS);
                continue;
            }
            // Each end wakes it; the retry is for what was forked in between.
            self.poller.wait(Some(kill_due_ms - now_ms), &mut ready).ok();
            if ready.iter().any(|event| event.token == OUTPUT) {
                self.drain();
            }
            self.signals.take();
        }
    }

    /// Nobody is left. As the subreaper the shim is the parent of every orphan: no child, no descendant.
    fn is_empty(&self) -> bool {
        loop {
            match os::process::reap_any() {
                Ok(Reap::Ended(_)) => {}
                Ok(Reap::NoChild) => break,
                Ok(Reap::NoneEnded) | Err(_) => return false,
            }
        }
        if self.plan.containment == Containment::ProcessGroup {
            let is_there = |leader| os::tree::signal_group(leader, Send::Continue).unwrap_or(false);
            return !self.worker.is_some_and(is_there) && self.escaped().is_empty();
        }
        self.group.as_ref().is_none_or(Group::is_empty)
    }

    /// Who has left the worker's process group, where there is nothing better to keep the run together: known by the run's
    /// name, which all of it has inherited.
    fn escaped(&self) -> Vec<Identity> {
        crate::runs::marked(&self.plan.run_id).unwrap_or_default()
    }

    fn give_up(&self, error: StartError) -> i32 {
        self.leave(&Ended {
            v: VERSION,
            run: self.plan.run,
            boot_id: self.plan.boot_id.clone(),
            exit: None,
            start_error: Some(error),
            at_ms: os::clock::monotonic_ms(),
            at_unix_ms: os::clock::wall_ms(),
            lived_ms: 0,
            survivors_killed: 0,
            output_lost_bytes: 0,
            out_of_memory: false,
            leaked: Vec::new(),
        })
    }

    fn leave(&self, ended: &Ended) -> i32 {
        fail::point("shim.tell-end").ok();
        self.tell(&Line::Ended(ended.clone()));
        fail::point("shim.told-end").ok();
        let Ok(json) = wire::run::encode(ended) else { return 1 };
        match write_atomic(&self.plan.folder.exit(), &json, Durability::Process) {
            Ok(()) => 0,
            Err(_) => 1,
        }
    }

    fn tell(&self, line: &Line) {
        if let Ok(mut json) = serde_json::to_vec(line) {
            json.push(b'\n');
            os::socket::write_to_wire(self.to_daemon, &json);
        }
    }
}

/// Who is still there.
fn left(group: Option<&Group>, escaped: &[Identity]) -> Vec<Leaked> {
    let mut left: Vec<Leaked> =
        os::tree::left_below().into_iter().map(|(pid, name, state)| Leaked { pid, name, state }).collect();
    let members = group.and_then(|group| group.members().ok()).unwrap_or_default();
    for pid in members.into_iter().chain(escaped.iter().map(|identity| identity.pid)) {
        if left.iter().all(|leaked| leaked.pid != pid)
            && let Ok(stat) = os::proc::stat(os::proc::root(), pid)
        {
            left.push(Leaked { pid, name: stat.name, state: stat.state });
        }
    }
    left
}

fn identity(pid: u32) -> Identity {
    let start_ticks = os::proc::stat(os::proc::root(), pid).map_or(0, |stat| stat.start_ticks);
    Identity { pid, start_ticks }
}

pub(crate) fn process(identity: Identity) -> Process {
    Process { pid: identity.pid, start_ticks: identity.start_ticks }
}
