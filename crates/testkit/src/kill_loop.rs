//! Kills daemons, and now and then a shim, at any instant, and holds them to what they promise all the same: never two
//! workers, no worker harmed whose own shim lives, and every exit accounted for.
//!
//! The witness is the worker: it stamps its start, its end, and whether another one was there; and its exit code says
//! which one it was. What the daemon says afterwards has to agree.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::Value;

use crate::home::{Binaries, DEADLINE, Home, Started};
use crate::hostile::{Stamp, StampKind, stamps};
use crate::random::Random;

mod books;

use books::Books;

/// No delay and no pause: there is always something to get wrong.
const SETTINGS: &str = "[restart]\ninitial_backoff_ms = 0\nmax_backoff_ms = 0\nmax_consecutive_restarts = 0\n\
                        max_restarts_per_hour = 0\n";
/// After so many kills of one home its books are checked; few enough for the daemon to name most exits since.
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
    /// Exits that the daemon was asked for.
    pub exits_checked: usize,
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
        self.exits_checked += other.exits_checked;
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
    /// The runs whose shim was killed. Nothing but these may be without a worker, or without its exit.
    shims_killed_of: BTreeSet<u64>,
    /// The run that lived at the last check.
    exits_checked_to: u64,
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
        let shims_killed_of = BTreeSet::new();
        Self { home, daemon: None, random, unchecked_kills: 0, shims_killed_of, exits_checked_to: 0, report }
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
        // Where the machine is slow there is often none to be found: then it is made up for.
        if self.report.shims_killed * 16 < self.kills() {
            self.kill_shim();
        }
        match self.random.below(20) {
            0..=5 => self.kill_shim(),
            6..=8 => self.kill_at_the_workers_end(),
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
        let shim = self.home.processes().into_iter().find_map(|process| Some((run_of_shim(process.pid)?, process)));
        if let Some((run, shim)) = shim {
            self.home.kill(&shim);
            self.report.shims_killed += 1;
            self.shims_killed_of.insert(run);
            self.unchecked_kills += 1;
        }
    }

    /// Let it come to rest, and compare the books.
    fn check(&mut self) {
        if self.daemon.is_none() {
            self.start();
        }
        let Some((stamps, status)) = self.settled() else { return };
        let books = Books::new(&stamps, &self.shims_killed_of);
        let beside = stamps.iter().filter(|stamp| stamp.kind == StampKind::Beside).count();
        let mut broken = Vec::new();
        if beside > 0 {
            broken.push("two workers at once".to_owned());
        }
        broken.extend(books.broken(&status));
        self.report.duplicates += beside;
        self.report.checks += 1;
        self.report.exits_checked += books.exits_since(self.exits_checked_to, &status);
        self.exits_checked_to = status["run"].as_u64().unwrap_or(0);
        self.unchecked_kills = 0;
        let name = self.home.path();
        self.report.broken.extend(broken.into_iter().map(|what| format!("{}: {what}", name.display())));
    }

    /// A worker that has started and not ended, whose shim lives, and a daemon that names the same one.
    fn settled(&mut self) -> Option<(Vec<Stamp>, Value)> {
        self.wait_for_answer();
        let begun = std::time::Instant::now();
        while begun.elapsed() < DEADLINE {
            let status = self.home.status();
            let stamps = self.stamps();
            if let (Some(status), Some(last)) = (status, stamps.iter().rfind(|stamp| stamp.kind != StampKind::Beside))
                && last.kind == StampKind::Start
                && !self.shims_killed_of.contains(&last.run)
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

/// The run of a shim, by the lock that it holds; none, if this is no shim.
fn run_of_shim(pid: i32) -> Option<u64> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if name != "autopilot-shim\n" {
        return None;
    }
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok()).find_map(|path| {
        (path.file_name()? == "lock").then_some(())?;
        path.parent()?.file_name()?.to_str()?.parse().ok()
    })
}
