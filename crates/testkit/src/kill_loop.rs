//! Kills daemons, and now and then a shim, at any instant, and holds them to what they promise all the same: never two
//! workers, no worker harmed whose own shim lives, and every exit accounted for.
//!
//! The witness is the worker: it stamps its start, its end, and whether another one was there; and its exit code says
//! which one it was. What the daemon says afterwards has to agree.

use std::collections::VecDeque;
use std::time::Duration;

use crate::home::{Binaries, DEADLINE, Home, Started};
use crate::hostile::{Stamp, StampKind, code_of, stamps};
use crate::random::Random;

/// No delay and no pause: there is always something to get wrong.
const SETTINGS: &str = "[restart]\ninitial_backoff_ms = 0\nmax_backoff_ms = 0\nmax_consecutive_restarts = 0\n\
                        max_restarts_per_hour = 0\n";
/// The daemon names as many of the last exits.
const NAMED_EXITS: usize = 10;
/// After so many kills of one home its books are checked; few enough for the daemon to name the exits since.
const CHECK_AFTER: usize = 6;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub binaries: Binaries,
    /// The hostile worker.
    pub worker: std::path::PathBuf,
    pub homes: usize,
    /// Of daemons and shims, in all homes together.
    pub kills: usize,
    pub seed: u64,
    /// More environment for the daemons.
    pub environment: Vec<(String, String)>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub daemons_killed: usize,
    pub shims_killed: usize,
    pub workers: usize,
    /// Workers that ended while no daemon was there to see it.
    pub unseen_ends: usize,
    pub checks: usize,
    pub duplicates: usize,
    pub broken: Vec<String>,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.daemons_killed += other.daemons_killed;
        self.shims_killed += other.shims_killed;
        self.workers += other.workers;
        self.unseen_ends += other.unseen_ends;
        self.checks += other.checks;
        self.duplicates += other.duplicates;
        self.broken.extend(other.broken);
    }
}

/// Two homes at a time for each processor: some waits are for the clock only.
pub fn run(plan: &Plan) -> Report {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) * 2;
    let threads = threads.min(plan.homes).max(1);
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let turns: Vec<_> = (0..threads).map(|first| scope.spawn(move || one_thread(plan, first, threads))).collect();
        for turn in turns {
            report.add(turn.join().expect("a thread of the loop ends"));
        }
    });
    report
}

fn one_thread(plan: &Plan, first: usize, threads: usize) -> Report {
    let homes = (first..plan.homes).step_by(threads);
    let mut subjects: VecDeque<Subject> = homes.map(|number| Subject::new(plan, number as u64)).collect();
    let kills_each = plan.kills.div_ceil(plan.homes);
    let mut report = Report::default();
    while let Some(mut subject) = subjects.pop_front() {
        subject.turn();
        if subject.kills() < kills_each && subject.report.broken.is_empty() {
            subjects.push_back(subject);
        } else {
            subject.check();
            report.add(subject.end());
        }
    }
    report
}

/// One home and its daemon, if one lives just now.
struct Subject {
    home: Home,
    daemon: Option<Started>,
    random: Random,
    unchecked_kills: usize,
    shims_killed_before_check: usize,
    /// Workers whose end the daemon has been asked about.
    ends_checked: usize,
    report: Report,
}

impl Subject {
    fn new(plan: &Plan, number: u64) -> Self {
        let mut random = Random::new(plan.seed ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut home = Home::new(plan.binaries.clone());
        home.set_env("AUTOPILOT_WORKER_BINARY", &plan.worker);
        home.set_env("HOSTILE_STAMP", home.user_home().join("stamps"));
        home.set_env("HOSTILE_PLAN", home.user_home().join("plan"));
        for (name, value) in &plan.environment {
            home.set_env(name, value);
        }
        home.write_config(SETTINGS);
        // Many that end soon, some that outlive a few daemons.
        let mut line = || {
            let after_ms = if random.below(3) == 0 { 100 + random.below(400) } else { random.below(40) };
            format!("alone after_ms={after_ms} exit=pid\n")
        };
        let lines: String = (0..1000).map(|_| line()).collect();
        std::fs::write(home.user_home().join("plan"), lines).expect("write the workers' plan");
        let report = Report::default();
        Self { home, daemon: None, random, unchecked_kills: 0, shims_killed_before_check: 0, ends_checked: 0, report }
    }

    fn kills(&self) -> usize {
        self.report.daemons_killed + self.report.shims_killed
    }

    fn stamps(&self) -> Vec<Stamp> {
        stamps(&self.home.user_home().join("stamps"))
    }

    fn turn(&mut self) {
        if self.daemon.is_none() {
            self.start();
        }
        if self.unchecked_kills >= CHECK_AFTER {
            self.check();
        }
        match self.random.below(20) {
            0..=2 => self.kill_shim(),
            3..=5 => self.kill_at_the_workers_end(),
            _ => {}
        }
        let dead_ms = [0, 0, 5, 40][usize::try_from(self.random.below(4)).unwrap_or(0)];
        self.kill_daemon();
        std::thread::park_timeout(Duration::from_millis(dead_ms));
    }

    /// And come back at a random instant of its youth.
    fn start(&mut self) {
        let mut command = self.home.autopilotd_command();
        command.args(["start", "--prompt", "go on"]);
        self.daemon = Some(self.home.start("daemon", command));
        let us = match self.random.below(4) {
            0 => self.random.below(3_000),
            1 => self.random.below(20_000),
            _ => {
                self.wait_for_answer();
                self.random.below(40_000)
            }
        };
        std::thread::park_timeout(Duration::from_micros(us));
    }

    fn wait_for_answer(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let socket = self.home.socket();
        self.home.wait_until("the daemon answers", DEADLINE, || {
            (std::os::unix::net::UnixStream::connect(&socket).is_ok() || daemon.has_ended()).then_some(())
        });
    }

    fn kill_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        if daemon.has_ended() {
            let (code, stderr) = (daemon.wait_for_code(DEADLINE), daemon.stderr());
            self.report.broken.push(format!("the daemon ended by itself, with {code}: {stderr}"));
        }
        let ends = || self.stamps().iter().filter(|stamp| stamp.kind == StampKind::End).count();
        let before = ends();
        daemon.kill();
        self.report.unseen_ends += ends() - before;
        self.report.daemons_killed += 1;
        self.unchecked_kills += 1;
    }

    /// Most likely in the middle of what follows from a worker's end.
    fn kill_at_the_workers_end(&mut self) {
        let ends = || self.stamps().iter().filter(|stamp| stamp.kind == StampKind::End).count();
        let before = ends();
        let waited = std::time::Instant::now();
        while ends() == before && waited.elapsed() < Duration::from_millis(100) {
            std::thread::park_timeout(Duration::from_micros(200));
        }
        std::thread::park_timeout(Duration::from_micros(self.random.below(2_000)));
    }

    fn kill_shim(&mut self) {
        let shim = self.home.processes().into_iter().find(|process| {
            std::fs::read_to_string(format!("/proc/{}/comm", process.pid)).is_ok_and(|name| name == "autopilot-shim\n")
        });
        if let Some(shim) = shim {
            self.home.kill(&shim);
            self.report.shims_killed += 1;
            self.shims_killed_before_check += 1;
            self.unchecked_kills += 1;
        }
    }

    /// Let it come to rest, and compare the books.
    fn check(&mut self) {
        if self.daemon.is_none() {
            self.start();
        }
        let settled = self.settled();
        let Some((stamps, status)) = settled else { return };
        let mut broken = Vec::new();
        let of = |kind: StampKind| stamps.iter().filter(move |stamp| stamp.kind == kind);
        let (started, ended) = (of(StampKind::Start).count(), of(StampKind::End).count());
        self.report.duplicates += of(StampKind::Beside).count();
        if of(StampKind::Beside).count() > 0 {
            broken.push("two workers at once".to_owned());
        }
        // All but the one that lives have ended by themselves, or their shim was killed.
        let harmed = (started - 1).saturating_sub(ended);
        if harmed > self.report.shims_killed {
            broken.push(format!("{harmed} workers harmed, {} shims killed", self.report.shims_killed));
        }
        let restarts = status["total_restarts"].as_u64().unwrap_or(0);
        // A shim that is killed before its record leaves a run without a worker, or a worker that nobody knows of.
        let (wanted, shims) = (started as u64 - 1, self.report.shims_killed);
        if restarts.abs_diff(wanted) > shims as u64 {
            broken.push(format!("{restarts} restarts counted, {started} workers, {shims} shims killed"));
        }
        let exits: Vec<(u64, &str)> = status["last_exits"].as_array().map_or_else(Vec::new, |exits| {
            exits.iter().map(|exit| (exit["run"].as_u64().unwrap_or(0), exit["cause"].as_str().unwrap_or(""))).collect()
        });
        // A run without a worker: its shim was killed before it executed one.
        let gaps = exits.windows(2).filter(|pair| pair[0].0 != pair[1].0 + 1).count();
        if gaps > self.report.shims_killed {
            broken.push(format!("runs without an exit among {exits:?}, {} shims killed", self.report.shims_killed));
        }
        // Newest first, as the daemon names them.
        let expected = of(StampKind::End).rev().map(|stamp| cause_of(code_of(stamp.pid)));
        let killed = self.shims_killed_before_check;
        let new = (ended - self.ends_checked).min(NAMED_EXITS.saturating_sub(killed));
        let ended_as: Vec<String> = expected.take(new).collect();
        let named: Vec<&str> = exits.iter().map(|(_, cause)| *cause).collect();
        let lost = new - common(&ended_as, &named);
        // A shim may be killed between its worker's end and its record of it.
        if lost > killed {
            broken.push(format!("{lost} of the ends {ended_as:?} are lost, {killed} shims killed: {exits:?}"));
        }
        self.report.checks += 1;
        self.ends_checked = ended;
        self.unchecked_kills = 0;
        self.shims_killed_before_check = 0;
        let name = self.home.path();
        self.report.broken.extend(broken.into_iter().map(|what| format!("{}: {what}", name.display())));
    }

    /// A worker that has started and not ended, and a daemon that names the same one.
    fn settled(&mut self) -> Option<(Vec<Stamp>, serde_json::Value)> {
        self.wait_for_answer();
        let begun = std::time::Instant::now();
        while begun.elapsed() < DEADLINE {
            let status = self.home.status();
            let stamps = self.stamps();
            if let (Some(status), Some(last)) = (status, stamps.iter().rfind(|stamp| stamp.kind != StampKind::Beside))
                && last.kind == StampKind::Start
                && status["worker_pid"].as_i64() == Some(i64::from(last.pid))
            {
                return Some((stamps, status));
            }
        }
        let what = format!("no worker within {DEADLINE:?}: {:?}, {:?}", self.home.status(), self.stamps().last());
        self.report.broken.push(what);
        None
    }

    fn end(mut self) -> Report {
        self.report.workers = self.stamps().iter().filter(|stamp| stamp.kind == StampKind::Start).count();
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
        self.report
    }
}

/// How many of these are named, in this order.
fn common(ended_as: &[String], named: &[&str]) -> usize {
    match (ended_as, named) {
        ([], _) | (_, []) => 0,
        ([end, ends @ ..], [name, names @ ..]) if end == name => 1 + common(ends, names),
        ([_, ends @ ..], [_, names @ ..]) => common(ends, named).max(common(ended_as, names)),
    }
}

/// As the daemon words it.
fn cause_of(code: u8) -> String {
    format!("exit status {code}")
}
