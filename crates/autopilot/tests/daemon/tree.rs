//! The whole tree dies, however its processes got away; nothing else does.

use testkit::home::{DEADLINE, Signal, Started};
use testkit::{binaries, vitals};

use crate::rig::{Rig, count, last_exit};

const SETTINGS: &str = "stop_timeout_ms = 200\ninitial_backoff_ms = 60000";

/// A process of the user's own that the daemon has no business with, by a name that it looks for.
fn stranger(rig: &Rig) -> Started {
    let node = rig.home.user_home().join("node");
    std::fs::copy(binaries::own("hostile-worker"), &node).unwrap();
    let mut command = rig.home.command(&node);
    command.args(["--hostile", ""]);
    let stranger = rig.home.start("stranger", command);
    rig.home.wait_until("the stranger runs", DEADLINE, || vitals::catches_term(stranger.pid()).then_some(()));
    stranger
}

fn end(mut stranger: Started) {
    assert!(!stranger.has_ended(), "the stranger was ended");
    stranger.signal(Signal::TERM);
    assert_eq!(stranger.wait_for_code(DEADLINE), 0);
}

/// All of the trap, none of it, and the stranger untouched: by a stop, a restart, and a shutdown.
fn no_command_leaves_survivors(build: fn(&str) -> Rig) {
    for command in ["stop-worker", "restart-worker", "stop"] {
        let rig = build(SETTINGS).plan(&["ignore-term ready trap", "ready"]);
        let stranger = stranger(&rig);
        let mut daemon = rig.start();
        let trap = rig.sprung_trap();
        let reply = rig.ask(command);
        assert_eq!(reply.failed(), "", "{command}");
        let left: Vec<_> = trap.iter().filter(|process| vitals::is_alive(process.pid)).collect();
        assert!(left.is_empty(), "{command} left {left:#?}");
        if command == "restart-worker" {
            rig.ready_worker();
            assert_eq!(rig.run_processes().len(), 1);
        }
        if command == "stop" {
            assert_eq!(daemon.wait_for_code(DEADLINE), 0);
        } else {
            rig.ask("stop");
        }
        end(stranger);
        rig.home.wait_until_nothing_runs(DEADLINE);
    }
}

#[test]
fn no_command_leaves_survivors_of_root() {
    no_command_leaves_survivors(Rig::new);
}

#[test]
fn no_command_leaves_survivors_of_an_ordinary_user() {
    no_command_leaves_survivors(Rig::of_ordinary_user);
}

/// The worker dies by itself; what it leaves is ended before the next one starts.
fn no_crash_leaves_survivors(build: fn(&str) -> Rig) {
    let ends = [
        ("die=9", "killed by SIGKILL"),
        ("die=11", "killed by SIGSEGV"),
        ("exit=0", "exit status 0"),
        ("exit=3", "exit status 3"),
    ];
    for (how, cause) in ends {
        let rig = build(SETTINGS).plan(&[&format!("ignore-term ready trap after_ms=300 {how}"), "ready"]);
        let stranger = stranger(&rig);
        let daemon = rig.start();
        let status = rig.wait_for_state("restarting");
        assert_eq!(last_exit(&status), cause);
        assert_eq!(rig.run_processes(), [], "{how}");
        rig.home.wait_until("the daemon and the stranger are left", DEADLINE, || {
            (rig.home.processes().len() == 2).then_some(())
        });
        end(stranger);
        rig.finish(daemon);
    }
}

#[test]
fn no_crash_leaves_survivors_of_root() {
    no_crash_leaves_survivors(Rig::new);
}

#[test]
fn no_crash_leaves_survivors_of_an_ordinary_user() {
    no_crash_leaves_survivors(Rig::of_ordinary_user);
}

/// Processes that start processes while they are being killed.
#[test]
fn a_fork_bomb_is_ended() {
    let rig = Rig::new(SETTINGS).plan(&["ignore-term ready bomb=400", "ready"]);
    let daemon = rig.start();
    rig.home.wait_until("the bomb goes off", DEADLINE, || (rig.run_processes().len() > 40).then_some(()));
    assert_eq!(rig.ask("stop-worker").done(), "Worker stopped");
    assert_eq!(rig.run_processes(), []);
    rig.finish(daemon);
}

/// A process that has given up its environment, its session and every descriptor is of the tree all the same.
#[test]
fn a_process_that_hides_is_found() {
    for user in [Rig::new, Rig::of_ordinary_user] {
        a_process_that_hides_is_found_of(user);
    }
}

fn a_process_that_hides_is_found_of(user: fn(&str) -> Rig) {
    let script = "id=$TESTKIT_ID\n\
                  (setsid env -i TESTKIT_ID=$id sh -c 'exec 3>&- 4>&- >/dev/null 2>&1; trap \"\" TERM; \
                  while :; do sleep 5; done' &)\n\
                  exec \"$HOSTILE_WORKER\"";
    let rig = user(SETTINGS).script(script).hostile("ready");
    let daemon = rig.start();
    rig.ready_worker();
    // Daemon, shim, worker, the hidden shell and its sleep.
    rig.home.wait_until("it hides", DEADLINE, || (rig.home.processes().len() == 5).then_some(()));
    assert_eq!(rig.ask("stop-worker").done(), "Worker stopped");
    rig.home.wait_until("only the daemon is left", DEADLINE, || (rig.home.processes().len() == 1).then_some(()));
    rig.finish(daemon);
}

/// Where nothing better is wanted than a process group: whoever leaves it is known by the run's name.
#[test]
fn a_process_that_leaves_the_group_is_found() {
    for user in [Rig::new, Rig::of_ordinary_user] {
        let script = "for n in 1 2; do (setsid sh -c 'trap \"\" TERM; while :; do sleep 5; done' &); done\nexec \"$HOSTILE_WORKER\"";
        let rig = user(SETTINGS).script(script).hostile("ready");
        std::fs::write(rig.config(), format!("containment = \"group\"\n[restart]\n{SETTINGS}\n")).unwrap();
        let daemon = rig.start();
        assert_eq!(rig.status()["containment"], "group");
        rig.ready_worker();
        // Daemon, shim, worker, and two shells with a sleep each.
        rig.home.wait_until("they have left", DEADLINE, || (rig.home.processes().len() == 7).then_some(()));
        assert_eq!(rig.ask("stop-worker").done(), "Worker stopped");
        rig.home.wait_until("only the daemon is left", DEADLINE, || (rig.home.processes().len() == 1).then_some(()));
        rig.finish(daemon);
    }
}

/// One that has stopped itself cannot be asked, only woken or killed.
#[test]
fn a_worker_that_stands_still_is_ended() {
    for words in ["ready", "ignore-term ready"] {
        let rig = Rig::new(SETTINGS).hostile(words);
        let daemon = rig.start();
        let worker = rig.ready_worker();
        let process = rig.run_processes().into_iter().find(|process| process.pid == worker).unwrap();
        rig.home.signal(&process, Signal::STOP);
        rig.home.wait_until("it stands still", DEADLINE, || (vitals::state(worker) == Some('T')).then_some(()));
        assert_eq!(rig.ask("stop-worker").done(), "Worker stopped");
        assert!(!vitals::is_alive(worker));
        rig.finish(daemon);
    }
}

/// The worker gets SIGTERM first, and the stop timeout to end in order; only then is it killed.
#[test]
fn a_worker_may_end_in_order() {
    let script = "trap 'sleep 0.3; echo in order; exit 5' TERM\n\"$HOSTILE_WORKER\" & wait";
    let rig = Rig::new("stop_timeout_ms = 20000").script(script).hostile("ready");
    let daemon = rig.start();
    rig.ready_worker();
    assert_eq!(rig.ask("stop-worker").done(), "Worker stopped");
    assert_eq!(last_exit(&rig.status()), "ended by stop-worker (exit status 5)");
    let output = std::fs::read_to_string(rig.home.path().join("workers/main/output.log")).unwrap();
    assert_eq!(output, "in order\n");
    rig.finish(daemon);
}

/// Restarts do not add up to anything: as many processes after fifty of them as after one.
#[test]
fn restarts_leave_nothing_behind() {
    let rig = Rig::new(SETTINGS).hostile("ready");
    let daemon = rig.start();
    rig.ready_worker();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let before = (rig.home.processes().len(), descriptors());
    for _ in 0..50 {
        assert!(rig.ask("restart-worker").done().starts_with("Worker started"));
    }
    rig.ready_worker();
    rig.home.wait_until("old shims are gone", DEADLINE, || (rig.home.processes().len() == before.0).then_some(()));
    rig.home.wait_until("descriptors are closed", DEADLINE, || (descriptors() <= before.1).then_some(()));
    assert_eq!(count(&rig.status(), "total_restarts"), 50);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid())).unwrap();
    assert_eq!(children.split_whitespace().count(), 1, "zombies: {children}");
    let runs = std::fs::read_dir(rig.home.path().join("workers/main/runs")).unwrap().count();
    assert!(runs <= 21, "{runs} folders of runs");
    rig.finish(daemon);
}
