//! What has to happen so that a fail point is passed.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::control::{Control, request};
use testkit::home::DEADLINE;
use testkit::processes::Process;
use testkit::vitals;

use crate::rig::{Rig, shim_of};
use crate::witness::{HASTY, running_worker};

/// A course of events in which the daemon with the fault takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A new home.
    Start,
    /// The worker ends by itself, and the next one comes.
    Ends,
    /// The operator restarts it.
    Restart,
    /// The same with one that heeds no signal, and a child of its own that lives on.
    Kill,
    /// The operator ends the daemon.
    Stop,
    /// The daemon before was killed; its worker lives.
    Adopt,
    /// Its shim was killed, too: the worker lives without one.
    Orphan,
    /// Its worker has ended when nobody was there.
    Dead,
    /// The shim is killed.
    ShimDies,
    /// The worker is silent.
    Stall,
    /// The control socket is removed.
    Mend,
    /// The worker says more than is kept.
    Spew,
    /// There are more old runs than are kept.
    Prune,
    /// The operator stops the worker and starts it again.
    StandDown,
    /// The daemon becomes another program.
    Upgrade,
    /// The state is no state.
    Damaged,
    /// The journal is as long as it may be.
    FullJournal,
}

/// When the daemon is killed, if it has not died of the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// When what follows from the fault has followed.
    Settled,
    /// When the place is passed.
    AtOnce,
}

impl Scene {
    /// The one in which this place is passed.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "run.is-free" | "record.read:started" | "seen.read" | "adopt.pidfd" | "adopt.watch" => Self::Adopt,
            "record.read:exit" => Self::Dead,
            "orphans.find" | "run.lives" => Self::Orphan,
            "run.end" | "shim.stop" => Self::Restart,
            "shim.kill" | "groups.kill" => Self::Kill,
            "news.ended" | "shim.reaped" | "shim.emptied" | "shim.tell-end" | "shim.told-end" | "groups.remove" => {
                Self::Ends
            }
            "shim-end.last-words" => Self::ShimDies,
            "evidence.folder" => Self::Stall,
            "control.mend" => Self::Mend,
            "output.splice" | "output.rotate" => Self::Spew,
            "runs.prune" => Self::Prune,
            "file.sync:state.json" | "file.sync-folder:state.json" | "state.reach" => Self::StandDown,
            "upgrade.settled" | "upgrade.execute" | "guard.fork" => Self::Upgrade,
            name if name.starts_with("heir.") => Self::Upgrade,
            "file.set-aside" => Self::Damaged,
            "journal.rotate" => Self::FullJournal,
            name if name.starts_with("leave.") => Self::Stop,
            name if name.ends_with(":exit") => Self::Ends,
            _ => Self::Start,
        }
    }

    /// In its course the operator wants no worker: then the next daemon has none, either, until it is told.
    pub(crate) fn may_leave_it_stopped(self) -> bool {
        self == Self::StandDown
    }

    fn rig(self) -> Rig {
        let settings = match self {
            Self::Stall => {
                format!("{HASTY}stall_timeout_ms = 60\nstall_grace_ms = 1\n[memory]\npoll_interval_ms = 20\n")
            }
            Self::Spew => format!("{HASTY}[output]\nmax_file_bytes = 65536\nmax_files = 2\n"),
            _ => HASTY.to_owned(),
        };
        let rig = Rig::new(&settings);
        match self {
            Self::Ends => rig.plan(&["alone ready exit=3 after_ms=30", "alone ready"]),
            Self::Kill => rig.plan(&["alone ignore-term ready trap", "alone ready"]),
            Self::Stall => rig.plan(&["alone watchdog_ms=600000", "alone ready watchdog_ms=10"]),
            Self::Spew => rig.hostile("alone ready spew=300000"),
            _ => rig.hostile("alone ready"),
        }
    }

    /// What there is before the daemon with the fault comes.
    fn prepare(self, rig: &Rig) {
        match self {
            Self::Adopt | Self::Orphan | Self::Dead => {
                let mut daemon = rig.start();
                let worker = rig.ready_worker();
                // The record is written when the daemon knows already.
                let started = rig.home.path().join("workers/main/runs/1/started");
                rig.home.wait_until("the record is written", DEADLINE, || started.exists().then_some(()));
                daemon.kill();
                match self {
                    Self::Orphan => rig.kill(shim_of(worker)),
                    Self::Dead => {
                        rig.kill(worker);
                        rig.home.wait_until_nothing_runs(DEADLINE);
                    }
                    _ => {}
                }
            }
            Self::Prune => {
                for number in 1..=25 {
                    let folder = rig.home.path().join(format!("workers/main/runs/{number}"));
                    fs::create_dir_all(&folder).unwrap();
                    fs::write(folder.join("lock"), format!("{number}-x")).unwrap();
                }
            }
            Self::Damaged | Self::FullJournal => {
                let folder = rig.home.path().join("workers/main");
                fs::create_dir_all(&folder).unwrap();
                let (name, bytes) = if self == Self::Damaged { ("state.json", 10) } else { ("journal.jsonl", 1 << 20) };
                fs::write(folder.join(name), "damaged!\n".repeat(bytes / 9)).unwrap();
            }
            _ => {}
        }
    }

    /// What is done to the daemon with the fault, once it has a worker.
    fn act(self, rig: &Rig, worker: i32) {
        match self {
            Self::StandDown => {
                tell(rig, "stop-worker");
                tell(rig, "start-worker");
            }
            Self::Upgrade => upgrade(rig),
            Self::Restart | Self::Kill => tell(rig, "restart-worker"),
            Self::Stop => tell(rig, "stop"),
            Self::ShimDies => rig.kill_if_alive(shim_of(worker)),
            Self::Mend => drop(fs::remove_file(rig.home.socket())),
            Self::Start
            | Self::Ends
            | Self::Adopt
            | Self::Orphan
            | Self::Dead
            | Self::Stall
            | Self::Spew
            | Self::Prune
            | Self::Damaged
            | Self::FullJournal => {}
        }
    }

    /// Plays it with this fault, until the place was passed and what follows from it has followed.
    pub(crate) fn play(self, name: &str, fault: &str, after: After) -> Rig {
        let rig = self.rig();
        self.prepare(&rig);
        let hits = rig.home.user_home().join("hits");
        let mut command: Command = rig.command();
        command.env("AUTOPILOT_FAIL", format!("{name}={fault}")).env("AUTOPILOT_FAIL_HITS", &hits);
        let mut daemon = rig.home.start("faulty", command);
        let was_passed = || fs::read_to_string(&hits).unwrap_or_default().lines().any(|line| line == name);

        let began = Instant::now();
        let mut acted = false;
        let mut passed_at = None;
        loop {
            // Its status takes time, which the daemon would use.
            let worker = if after == After::AtOnce && acted { None } else { running_worker(&rig) };
            if let Some(worker) = worker.filter(|_| !acted && self.may_act(&rig)) {
                self.act(&rig, worker);
                acted = true;
            }
            if passed_at.is_none() && was_passed() {
                passed_at = Some(Instant::now());
            }
            let settled = passed_at
                .is_some_and(|at| after == After::AtOnce || at.elapsed() > SETTLING || worker.is_some() && acted);
            if daemon.has_ended() || settled {
                break;
            }
            assert!(began.elapsed() < DEADLINE, "{name} was never passed: {}", daemon.stderr());
            std::thread::park_timeout(Duration::from_millis(2));
        }
        assert!(was_passed(), "{name} was not passed: {}", daemon.stderr());
        daemon.kill();
        if self == Self::Upgrade {
            kill_all_daemons(&rig);
        }
        rig
    }

    /// The trap takes a moment to be sprung.
    fn may_act(self, rig: &Rig) -> bool {
        let sprung = |all: &[Process]| all.len() == 22 && all.iter().all(|process| vitals::catches_term(process.pid));
        self != Self::Kill || sprung(&rig.run_processes())
    }
}

/// After a fault was met, so long is given to what follows from it; most of it happens at once.
const SETTLING: Duration = Duration::from_millis(120);

/// Asks, and does not insist on an answer.
fn tell(rig: &Rig, verb: &str) {
    send(rig, &request(verb));
}

fn upgrade(rig: &Rig) {
    let program = rig.home.binaries().autopilotd.display().to_string();
    send(rig, format!("{{\"v\":1,\"verb\":\"upgrade\",\"program\":\"{program}\"}}\n").as_bytes());
}

fn send(rig: &Rig, request: &[u8]) {
    let Ok(mut control) = Control::connect(&rig.home.socket()) else { return };
    if control.send(request).is_ok() {
        control.try_reply(Duration::from_millis(300)).ok();
    }
}

/// More than a guard takes to execute the next daemon.
const EXEC_TIME: Duration = Duration::from_millis(150);

/// The one that the guard of a failed upgrade may have started, and the guard before it has: what is tested is the next.
fn kill_all_daemons(rig: &Rig) {
    let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    // In the middle of its exec(2) a process has no environment, by which it is known: none is there when none was for a while.
    let mut none_since = Instant::now();
    rig.home.wait_until("no daemon is left", DEADLINE, || {
        let daemons: Vec<i32> = rig
            .home
            .processes()
            .iter()
            .map(|process| process.pid)
            .filter(|&pid| matches!(name(pid).as_str(), "autopilotd\n" | "autopilot-guard\n"))
            .collect();
        daemons.iter().for_each(|&pid| rig.kill_if_alive(pid));
        if !daemons.is_empty() {
            none_since = Instant::now();
        }
        (none_since.elapsed() > EXEC_TIME).then_some(())
    });
}
