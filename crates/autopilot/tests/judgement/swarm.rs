//! Who is ended when memory is low and many are to blame, or seem to be; and that a pid alone is nobody.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use testkit::home::{DEADLINE, Started, is_root};
use testkit::processes::Process;
use testkit::vitals;

use crate::jail::Jail;
use crate::rig::{Rig, count, pid, shim_of};
use crate::stranger::{self, Stranger};

const MIB: u64 = 1 << 20;
const ROOMY_BYTES: u64 = 8 << 30;
const LOW_BYTES: u64 = 400 * MIB;

/// A daemon in a jail that is wide at first, and its worker.
struct Scene {
    rig: Rig,
    daemon: Started,
    worker: i32,
    jail: Jail,
}

impl Scene {
    fn start(rig: Rig, jail: Jail) -> Self {
        let daemon = rig.start_by(jail.command(&rig.home, &rig.command()));
        let worker = pid(&rig.wait_for_state("running"));
        Self { rig, daemon, worker, jail }
    }

    fn named(&self, name: &str) -> Vec<Process> {
        self.rig.run_processes().into_iter().filter(|process| name_of(process.pid) == name).collect()
    }

    fn make_memory_low(&self) {
        self.jail.set_limit(self.jail.working_set_bytes() + LOW_BYTES - 50 * MIB);
    }

    /// Those who were signalled, once there is one.
    fn victims(&self) -> Vec<i32> {
        self.rig.home.wait_until("there is a victim", DEADLINE, || {
            let said = self.daemon.stderr();
            let pids =
                said.split("SIGTERM to process ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse().ok());
            let pids: Vec<i32> = pids.collect();
            (!pids.is_empty() && pids.iter().all(|pid| !vitals::is_alive(*pid))).then_some(pids)
        })
    }

    fn finish(self) {
        let status = self.rig.status();
        assert_eq!((pid(&status), count(&status, "total_restarts")), (self.worker, 0), "{}", self.daemon.stderr());
        assert_eq!(self.jail.oom_kills(), 0);
        self.rig.finish(self.daemon);
    }
}

fn name_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

fn settings(more: &str) -> String {
    format!(
        "stall_timeout_ms = 0\n[memory]\npoll_interval_ms = 100\nmin_available_bytes = {LOW_BYTES}\n\
         critical_threshold_bytes = 0\n{more}"
    )
}

const SWARM: usize = 115;
const SWARM_LIMIT_BYTES: u64 = 250 * MIB;

fn a_swarm_is_thinned_out_and_its_agent_lives(build: fn(&str) -> Rig) {
    let Some(jail) = Jail::new(ROOMY_BYTES) else { return };
    let rig = build(&settings(&format!("swarm_kill_threshold_bytes = {SWARM_LIMIT_BYTES}")));
    let stranger = Stranger::start(&rig.home);
    let node = stranger::program(&rig.home, "node");
    let agent = stranger::shell(&rig.home, "claude");
    let one = format!("'{}' --hostile leak={}:{}", node.display(), 400 * MIB, 4 * MIB);
    let rig = rig.script(&format!(
        "'{}' -c \"n=0; while [ \\$n -lt {SWARM} ]; do n=\\$((n + 1)); {one} & done; wait\" & wait",
        agent.display()
    ));
    let scene = Scene::start(rig, jail);
    let grown = || {
        let nodes = scene.named("node");
        (nodes.len() == SWARM && nodes.iter().all(|node| vitals::pss_kib(node.pid) >= 4 * 1024)).then_some(nodes)
    };
    let swarm = scene.rig.home.wait_until("the swarm has grown", DEADLINE, grown);
    let agent = scene.named("claude").pop().expect("the agent").pid;
    scene.make_memory_low();
    // Fewer share what they have in common: they weigh a little more than they did.
    let (victims, left_bytes) = scene.rig.home.wait_until("the swarm is as small as it may be", DEADLINE, || {
        let (victims, left) = (scene.victims(), scene.named("node"));
        let left_bytes: u64 = left.iter().map(|node| vitals::pss_kib(node.pid) * 1024).sum();
        let is_over = left.len() + victims.len() == SWARM && left_bytes < SWARM_LIMIT_BYTES * 5 / 4;
        is_over.then_some((victims, left_bytes))
    });
    assert!(victims.iter().all(|victim| swarm.iter().any(|node| node.pid == *victim)), "{}", scene.daemon.stderr());
    assert!(left_bytes >= SWARM_LIMIT_BYTES / 2, "{left_bytes} bytes are left");
    assert!(vitals::is_alive(agent), "the agent is gone");
    eprintln!("measured: of {SWARM} processes {} were ended, {} MB are left", victims.len(), left_bytes / MIB);
    stranger.lives_on();
    scene.finish();
}

#[test]
fn a_swarm_is_thinned_out_by_root() {
    a_swarm_is_thinned_out_and_its_agent_lives(Rig::new);
}

#[test]
fn a_swarm_is_thinned_out_by_an_ordinary_user() {
    a_swarm_is_thinned_out_and_its_agent_lives(Rig::of_ordinary_user);
}

/// Five forks of a process of 256 MB: each has them all by RSS, and next to nothing of its own.
fn forks(with_private: bool) -> Option<(Scene, i32, Vec<Process>)> {
    let jail = Jail::new(ROOMY_BYTES)?;
    let rig = Rig::new(&settings(&format!("node_kill_threshold_bytes = {}", 100 * MIB)));
    let node = stranger::program(&rig.home, "node");
    // The shell goes by the same name, in a folder of its own.
    let forker = stranger::shell(&rig.home, "forker").with_file_name("shell");
    std::fs::create_dir_all(&forker).unwrap();
    let forker = forker.join("node");
    std::fs::copy("/bin/sh", &forker).unwrap();
    let lines = "x=0123456789abcdef; n=0\nwhile [ $n -lt 24 ]; do x=$x$x; n=$((n + 1)); done\n\
                 for n in 1 2 3 4 5; do (while :; do sleep 5; done) & done\nwait\n";
    let program = rig.home.user_home().join("forks");
    std::fs::write(&program, lines).unwrap();
    let private = if with_private {
        format!("'{}' --hostile leak={}:{} &\n", node.display(), 4_000 * MIB, 400 * MIB)
    } else {
        String::new()
    };
    let rig = rig.script(&format!("{private}'{}' '{}' & wait\nexec sleep 600", forker.display(), program.display()));
    let scene = Scene::start(rig, jail);
    let wanted = 6 + usize::from(with_private);
    let (parent, all) = scene.rig.home.wait_until("all have their memory", DEADLINE, || {
        let all = scene.named("node");
        let parent =
            all.iter().find(|process| vitals::parent(process.pid) == Some(scene.worker) && is_forker(process))?;
        let private =
            all.iter().filter(|process| !is_forker(process)).all(|one| vitals::pss_kib(one.pid) >= 400 * 1024);
        (all.len() == wanted && private).then(|| (parent.pid, all.clone()))
    });
    Some((scene, parent, all))
}

fn is_forker(process: &Process) -> bool {
    process.command.contains("/forks")
}

#[test]
fn forks_that_share_their_memory_go_with_their_parent() {
    let Some((scene, parent, all)) = forks(false) else { return };
    scene.make_memory_low();
    assert_eq!(scene.victims(), [parent]);
    let gone = || all.iter().all(|process| !vitals::is_alive(process.pid)).then_some(());
    scene.rig.home.wait_until("all of them are gone", DEADLINE, gone);
    scene.finish();
}

/// By RSS the six forks have 1.6 GB, and each of them nearly as much as the one that is truly to blame.
#[test]
fn one_that_has_more_of_its_own_goes_before_forks_that_share() {
    let Some((scene, _, all)) = forks(true) else { return };
    scene.make_memory_low();
    let private = all.iter().find(|process| !is_forker(process)).expect("the private one").pid;
    assert_eq!(scene.victims(), [private]);
    assert_eq!(scene.named("node").len(), 6);
    scene.finish();
}

/// The agent goes when it is asked; its child, which is on no list and holds the memory, heeds nothing.
fn a_child_that_outlives_its_victim_goes_too(build: fn(&str) -> Rig) {
    let settings = format!(
        "stall_timeout_ms = 0\n[memory]\npoll_interval_ms = 100\nmin_available_bytes = {}\n\
         critical_threshold_bytes = 0\nnode_kill_threshold_bytes = {}",
        1_u64 << 50,
        60 * MIB
    );
    let rig = build(&settings);
    let holder = stranger::program(&rig.home, "holder");
    let agent = stranger::shell(&rig.home, "claude");
    let words = format!("ignore-term leak={}:{}", 400 * MIB, 80 * MIB);
    let rig = rig.script(&format!(
        "'{}' -c \"'{}' --hostile '{words}' & wait\" &\nwhile :; do wait; sleep 1; done",
        agent.display(),
        holder.display()
    ));
    let daemon = rig.start();
    let worker = pid(&rig.wait_for_state("running"));
    let named =
        |name: &str| rig.run_processes().into_iter().find(|process| name_of(process.pid) == name).map(|p| p.pid);
    let (agent, holder) =
        rig.home.wait_until("both are there", DEADLINE, || Some((named("claude")?, named("holder")?)));
    rig.home.wait_until("the agent is gone", DEADLINE, || (!vitals::is_alive(agent)).then_some(()));
    rig.home.wait_until("its child is gone, too", DEADLINE, || (!vitals::is_alive(holder)).then_some(()));
    let said = daemon.stderr();
    assert!(said.contains(&format!("sent SIGTERM to process {agent} ")), "{said}");
    assert!(said.contains(&format!("sent SIGKILL to process {agent} ")), "{said}");
    assert_eq!(pid(&rig.status()), worker, "the worker goes on");
    rig.finish(daemon);
}

#[test]
fn a_child_that_outlives_its_victim_goes_too_by_root() {
    a_child_that_outlives_its_victim_goes_too(Rig::new);
}

#[test]
fn a_child_that_outlives_its_victim_goes_too_by_an_ordinary_user() {
    a_child_that_outlives_its_victim_goes_too(Rig::of_ordinary_user);
}

/// proc_pid_stat(5), field 6.
fn session_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

/// A process of ours with this very pid; tried again when somebody else on this machine was quicker.
fn with_pid(rig: &Rig, program: &Path, wanted: i32) -> Child {
    for _ in 0..2_000 {
        let mut command: Command = rig.home.command(program);
        command.args(["--hostile", ""]);
        std::fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string()).expect("set the last pid");
        let mut child = command.spawn().unwrap();
        if i32::try_from(child.id()) == Ok(wanted) {
            return child;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("the pid {wanted} cannot be had");
}

/// Daemon, shim and worker are killed, the rest of the run lives on, and strangers have the pids of the last two when the next daemon comes. The twin
/// for an ordinary user, who can't choose a pid, is in `os`: `a_reused_pid_is_not_taken_for_the_process`.
#[test]
fn whoever_has_a_dead_workers_pid_is_left_alone() {
    if !is_root() {
        crate::skip("only root can choose the next process's pid");
        return;
    }
    for containment in ["cgroup2", "cgroup1", "subreaper", "group"] {
        let rig = Rig::new("initial_backoff_ms = 1\nstop_timeout_ms = 200").plan(&["ignore-term ready trap", "ready"]);
        let text = std::fs::read_to_string(rig.config()).unwrap();
        std::fs::write(rig.config(), format!("containment = \"{containment}\"\n{text}")).unwrap();
        let node = stranger::program(&rig.home, "node");
        let mut daemon = rig.start();
        let worker = rig.ready_worker();
        let shim = shim_of(worker);
        let trap = rig.sprung_trap();
        daemon.kill();
        rig.kill(shim);
        rig.kill_if_alive(worker);
        // As long as anybody is in its group or session, the kernel does not give a pid to another.
        let (near, far): (Vec<_>, Vec<_>) = trap.into_iter().partition(|process| session_of(process.pid) == Some(shim));
        near.iter().for_each(|process| rig.kill_if_alive(process.pid));
        assert_eq!(far.len(), 14);
        let free = || (vitals::state(worker).is_none() && vitals::state(shim).is_none()).then_some(());
        rig.home.wait_until("their pids are free", DEADLINE, free);
        let mut strangers = [with_pid(&rig, &node, worker), with_pid(&rig, &node, shim)];
        for stranger in &strangers {
            let pid = i32::try_from(stranger.id()).unwrap();
            rig.home.wait_until("the stranger listens", DEADLINE, || vitals::catches_term(pid).then_some(()));
        }
        let daemon = rig.start();
        let next = rig.ready_worker();
        assert_ne!(next, worker);
        // What lived on of the run, and kept its lock, is gone.
        let left = far.iter().filter(|process| vitals::is_alive(process.pid)).count();
        assert_eq!(left, 0, "{containment}");
        assert_eq!(rig.ask("stop-worker").done(), "Worker stopped");
        for stranger in &mut strangers {
            assert!(stranger.try_wait().unwrap().is_none(), "{containment}: a stranger was ended");
            stranger.kill().unwrap();
            stranger.wait().unwrap();
        }
        rig.home.wait_until("they are gone", Duration::from_secs(5), || (rig.run_processes().is_empty()).then_some(()));
        rig.finish(daemon);
    }
}
