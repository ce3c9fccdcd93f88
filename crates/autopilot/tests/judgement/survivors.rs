//! Nothing of a run outlives it: whatever ends it, whatever its processes do to get away, on every rung of the
//! containment ladder but the last, as root and as an ordinary user.

use std::path::PathBuf;
use std::time::Duration;

use testkit::control::request;
use testkit::ends::Ends;
use testkit::home::{DEADLINE, Started, is_root};
use testkit::hostile::monotonic_ns;
use testkit::processes::Process;
use testkit::vitals;

use crate::jail::Jail;
use crate::rig::{Rig, pid, promptly, shim_of};
use crate::stranger::Stranger;
use crate::{measured, ms_between, skip};

const TRAPS: usize = 10;
const BOMBS: usize = 3;

/// Whoever heeds no SIGTERM is killed after 50 ms.
const SETTINGS: &str = "\
stop_timeout_ms = 50
initial_backoff_ms = 600000
max_backoff_ms = 600000
max_consecutive_restarts = 0
max_restarts_per_hour = 0
max_stall_kills_per_hour = 1000
stall_grace_ms = 0
";

/// Long enough for a test to be heard in between, short enough to wait for.
const STALL_TIMEOUT_MS: u64 = 1_500;

const ROOMY_BYTES: u64 = 8 << 30;
const CRITICAL_BYTES: u64 = 192 << 20;
/// What is left when a trap is sprung: critical, and the trap is a tenth of all there is.
const ROOM_OF_TRAP_BYTES: u64 = 32 << 20;
/// What is left when a bomb begins: critical, too, but all of it (90 MB) has room, so that the kernel kills nobody.
const ROOM_OF_BOMB_BYTES: u64 = 160 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Cgroup2,
    Cgroup1,
    Subreaper,
    /// What `auto` comes to for a user whose control groups belong to somebody else.
    OrdinaryUser,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    StopWorker,
    Crash,
    Stall,
    Memory,
}

impl Rung {
    fn setting(self) -> &'static str {
        match self {
            Self::Cgroup2 => "cgroup2",
            Self::Cgroup1 => "cgroup1",
            Self::Subreaper => "subreaper",
            Self::OrdinaryUser => "auto",
        }
    }

    fn shown(self) -> &'static str {
        if self == Self::OrdinaryUser { "subreaper" } else { self.setting() }
    }

    /// From the death of the leader to that of the last.
    fn promise(self) -> Duration {
        match self {
            Self::Cgroup2 | Self::Cgroup1 => promptly(),
            Self::Subreaper | Self::OrdinaryUser => Duration::from_secs(3),
        }
    }

    /// Whether the machine has it and lets us: then it must bear.
    fn is_there(self) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounted = match self {
            Self::Cgroup2 => mounts.contains(" - cgroup2 "),
            Self::Cgroup1 => {
                mounts.lines().any(|line| line.contains(" - cgroup ") && line.split([',', ' ']).any(|o| o == "freezer"))
            }
            Self::Subreaper | Self::OrdinaryUser => return true,
        };
        if !mounted {
            skip(&format!("{}: no such control groups are mounted", self.setting()));
        } else if !is_root() {
            skip(&format!("{}: control groups are root's to make", self.setting()));
        }
        mounted && is_root()
    }
}

/// A daemon on one rung, and a worker that will not go.
struct Scene {
    rig: Rig,
    rung: Rung,
    ending: Ending,
    jail: Option<Jail>,
}

impl Scene {
    fn new(rung: Rung, ending: Ending, jail: Option<Jail>) -> Self {
        let build = if rung == Rung::OrdinaryUser { Rig::of_ordinary_user } else { Rig::new };
        let stall_timeout_ms = if ending == Ending::Stall { STALL_TIMEOUT_MS } else { 0 };
        let critical = if ending == Ending::Memory { CRITICAL_BYTES } else { 0 };
        let rig = build(SETTINGS);
        let text = format!(
            "containment = \"{}\"\n[restart]\n{SETTINGS}stall_timeout_ms = {stall_timeout_ms}\n[memory]\n\
             poll_interval_ms = 50\nmin_available_bytes = 0\ncritical_threshold_bytes = {critical}\n",
            rung.setting()
        );
        std::fs::write(rig.config(), text).unwrap();
        let alive = alive_file(&rig);
        std::fs::write(&alive, "").unwrap();
        // Until the test has seen what it waits for, however long that takes here.
        let beats = if ending == Ending::Stall { format!(" beats_while={}", alive.display()) } else { String::new() };
        let (trap, bomb) = (format!("ignore-term{beats} ready trap"), format!("ignore-term{beats} ready bomb=300"));
        let mut lines = vec![trap.as_str(); TRAPS];
        lines.extend([bomb.as_str(); BOMBS]);
        let rig = rig.plan(&lines);
        Self { rig, rung, ending, jail }
    }

    fn start(&self) -> Started {
        let command = self.rig.command();
        match &self.jail {
            Some(jail) => self.rig.start_by(jail.command(&self.rig.home, &command)),
            None => self.rig.start_by(command),
        }
    }

    fn wait_for_crowd(&self, is_bomb: bool) -> Vec<Process> {
        self.rig.home.wait_until("the trap is sprung", DEADLINE, || {
            let all = self.rig.run_processes();
            let sprung = if is_bomb {
                all.len() > 20
            } else {
                all.len() == 22 && all.iter().all(|process| vitals::catches_term(process.pid))
            };
            sprung.then_some(all)
        })
    }

    fn end_the_run(&self, leader: i32, is_bomb: bool) {
        match self.ending {
            // The reply is of no interest: it comes when all is over.
            Ending::StopWorker => self.rig.connect().send(&request("stop-worker")).unwrap(),
            Ending::Crash => self.rig.kill_if_alive(leader),
            // It is silent from now on.
            Ending::Stall => std::fs::remove_file(alive_file(&self.rig)).unwrap(),
            Ending::Memory => {
                let jail = self.jail.as_ref().expect("a jail for the memory's sake");
                let room_bytes = if is_bomb { ROOM_OF_BOMB_BYTES } else { ROOM_OF_TRAP_BYTES };
                jail.set_limit(jail.working_set_bytes() + room_bytes);
            }
        }
    }

    /// Ends the run once; how long it took from its leader's death until its tree was found empty.
    fn run_once(&self, is_bomb: bool) -> f64 {
        let crowd = self.wait_for_crowd(is_bomb);
        let status = self.rig.status();
        assert_eq!(status["containment"], self.rung.shown());
        let leader = pid(&status);
        // The shim ends when the tree is empty, and not before.
        let shim = shim_of(leader);
        let mut ends = Ends::of(crowd.iter().map(|process| process.pid).chain([shim]));
        let begun_ns = monotonic_ns();
        self.end_the_run(leader, is_bomb);
        let left = ends.wait(DEADLINE);
        assert!(left.is_empty(), "{:?} {:?}: still there: {left:?}", self.rung, self.ending);
        assert_eq!(self.rig.run_processes(), [], "{:?} {:?}: survivors", self.rung, self.ending);
        let state = if self.ending == Ending::StopWorker { "stopped" } else { "restarting" };
        let status = self.rig.wait_for_state(state);
        assert_eq!(status["degraded"].as_array().map(Vec::len), Some(0), "{status:#}");
        if let Some(jail) = &self.jail {
            jail.set_limit(ROOMY_BYTES);
        }
        let dead_ns = if self.ending == Ending::Crash { begun_ns } else { ends.at_ns(leader).unwrap() };
        ms_between(dead_ns, ends.at_ns(shim).unwrap())
    }
}

/// The worker beats while it is there.
fn alive_file(rig: &Rig) -> PathBuf {
    rig.home.user_home().join("alive")
}

fn nothing_survives(rung: Rung, ending: Ending) {
    if !rung.is_there() {
        return;
    }
    let jail = if ending == Ending::Memory { Jail::new(ROOMY_BYTES) } else { None };
    if ending == Ending::Memory && jail.is_none() {
        return;
    }
    let scene = Scene::new(rung, ending, jail);
    let stranger = Stranger::start(&scene.rig.home);
    let daemon = scene.start();
    let mut traps_ms = Vec::new();
    let mut bombs_ms = Vec::new();
    for number in 0..TRAPS + BOMBS {
        if number > 0 {
            std::fs::write(alive_file(&scene.rig), "").unwrap();
            assert!(scene.rig.ask("restart-worker").done().starts_with("Worker started"));
        }
        let is_bomb = number >= TRAPS;
        let times = if is_bomb { &mut bombs_ms } else { &mut traps_ms };
        times.push(scene.run_once(is_bomb));
    }
    check_verdict(&scene, &daemon);
    stranger.lives_on();
    let trap_ms = measured(&format!("{rung:?}, {ending:?}: leader dead to trap empty"), traps_ms);
    let bomb_ms = measured(&format!("{rung:?}, {ending:?}: leader dead to bomb empty"), bombs_ms);
    let promise_ms = scene.rung.promise().as_secs_f64() * 1e3;
    assert!(trap_ms.max(bomb_ms) <= promise_ms, "{trap_ms} and {bomb_ms} ms, promised are {promise_ms} ms");
    scene.rig.finish(daemon);
    // The home before its jail: only an empty one can be removed.
    let Scene { rig, jail, .. } = scene;
    drop(rig);
    drop(jail);
}

/// The runs ended for the reason that the test is about.
fn check_verdict(scene: &Scene, daemon: &Started) {
    let said = daemon.stderr();
    let wanted = match scene.ending {
        Ending::StopWorker => "ended by stop-worker",
        Ending::Crash => "killed by SIGKILL",
        Ending::Stall => "ended as stalled",
        Ending::Memory => "ended for want of memory",
    };
    let ended = said.lines().filter(|line| line.contains(" ended after ")).collect::<Vec<_>>();
    assert_eq!(ended.len(), TRAPS + BOMBS, "{said}");
    assert!(ended.iter().all(|line| line.contains(wanted)), "{said}");
}

macro_rules! matrix {
    ($($rung:ident: $($name:ident $ending:ident),+;)+) => { $($(
        #[test]
        fn $name() {
            nothing_survives(Rung::$rung, Ending::$ending);
        }
    )+)+ };
}

matrix! {
    Cgroup2: cgroup2_stop StopWorker, cgroup2_crash Crash, cgroup2_stall Stall, cgroup2_memory Memory;
    Cgroup1: cgroup1_stop StopWorker, cgroup1_crash Crash, cgroup1_stall Stall, cgroup1_memory Memory;
    Subreaper: subreaper_stop StopWorker, subreaper_crash Crash, subreaper_stall Stall, subreaper_memory Memory;
    OrdinaryUser: ordinary_user_stop StopWorker, ordinary_user_crash Crash, ordinary_user_stall Stall,
        ordinary_user_memory Memory;
}
