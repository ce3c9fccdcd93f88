//! Many operators at once, and the operator's will against everything else.

use std::time::{Duration, Instant};

use testkit::control::request;
use testkit::home::DEADLINE;
use testkit::vitals;

use crate::rig::{Rig, count, prompt_in_one_of_three, shim_of};

/// Each request is answered exactly once, in its order, and what comes of them all is a daemon that still serves.
#[test]
fn every_command_is_answered_exactly_once() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 25;
    let rig = Rig::new("stop_timeout_ms = 100").plan(&["ready", "ignore-term ready", "", "exit=1 after_ms=5", "ready"]);
    let daemon = rig.start();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut control = rig.connect();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let verb = ["restart-worker", "stop-worker", "start-worker", "status"][(client * 7 + round) % 4];
                    let reply = control.ask(verb, DEADLINE);
                    let members = ["status", "done", "failed"].map(|name| reply.value.get(name).is_some());
                    assert_eq!(members.iter().filter(|present| **present).count(), 1, "{verb}: {reply:?}");
                    assert_eq!(members[0], verb == "status", "{verb}: {reply:?}");
                    if members[2] {
                        let kind = reply.value["failed"]["kind"].as_str().unwrap();
                        assert!(["refused", "cannot-start"].contains(&kind), "{verb}: {reply:?}");
                    }
                }
                // Nothing comes that was not asked for.
                control.stream().shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(control.reply(DEADLINE), None);
            });
        }
    });
    assert!(rig.ask("stop-worker").done().ends_with("stopped") || rig.status()["worker_status"] == "stopped");
    assert_eq!(rig.run_processes(), []);
    rig.finish(daemon);
}

/// While one client waits for a worker that will not die, others are served.
#[test]
fn nobody_waits_for_somebody_elses_command() {
    let rig = Rig::new("stop_timeout_ms = 3000").hostile("ignore-term ready");
    let daemon = rig.start();
    rig.ready_worker();
    let mut waiting = rig.connect();
    waiting.send(&request("stop-worker")).unwrap();
    rig.wait_for_state("stopping");
    prompt_in_one_of_three("status", || {
        let asked = Instant::now();
        assert_eq!(rig.status()["worker_status"], "stopping");
        asked.elapsed()
    });
    assert_eq!(waiting.reply(DEADLINE).unwrap().done(), "Worker stopped");
    rig.finish(daemon);
}

/// Longer than every wait that could bring it back: a backoff of 50 ms, a look at the memory every 20 ms, which is
/// always critical.
#[test]
fn a_worker_stopped_by_the_operator_stays_stopped() {
    const EAGER: &str = "initial_backoff_ms = 50\nmax_backoff_ms = 50\nmax_restarts_per_hour = 0\n\
                         stall_timeout_ms = 100\nstall_grace_ms = 0\nstop_timeout_ms = 200\n\
                         [memory]\npoll_interval_ms = 20\nmin_available_bytes = 4000000000000\n\
                         critical_threshold_bytes = 4000000000000";
    let rig = Rig::new(EAGER).plan(&["exit=1 after_ms=0", "exit=1 after_ms=0", "exit=1 after_ms=0", "ignore-term"]);
    let mut daemon = rig.start();
    rig.home.wait_until("three workers failed", DEADLINE, || (rig.starts() >= 3).then_some(()));
    assert_eq!(rig.ask("stop-worker").failed(), "");
    let starts = rig.starts();
    let stays_stopped = || {
        let until = Instant::now() + Duration::from_millis(400);
        rig.home.wait_until("time goes by", DEADLINE, || {
            let status = rig.status();
            assert_eq!((&status["worker_status"], &status["next_attempt_in_ms"]), (&"stopped".into(), &().into()));
            (Instant::now() > until).then_some(())
        });
        assert_eq!(rig.starts(), starts);
        assert_eq!(rig.run_processes(), []);
    };
    stays_stopped();
    daemon.kill();
    daemon = rig.start();
    stays_stopped();
    daemon.kill();
    std::fs::write(rig.home.path().join("autopilotd.pid"), "1\n").unwrap();
    daemon = rig.start();
    stays_stopped();
    assert!(rig.ask("start-worker").done().starts_with("Worker started"));
    rig.finish(daemon);
}

/// The daemon is killed while it ends the worker for the operator: the next one must not start another.
#[test]
fn a_stop_survives_the_daemon_that_was_asked() {
    let rig = Rig::new("stop_timeout_ms = 1500").hostile("ignore-term ready");
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    rig.connect().send(&request("stop-worker")).unwrap();
    rig.wait_for_state("stopping");
    daemon.kill();
    assert!(vitals::is_alive(worker), "it still has more than a second");
    let daemon = rig.start();
    rig.wait_for_state("stopped");
    assert!(!vitals::is_alive(worker));
    assert_eq!(rig.starts(), 1);
    assert_eq!(count(&rig.status(), "total_restarts"), 0);
    rig.finish(daemon);
}

/// `stop` ends the worker for good, but is no wish to keep it stopped: who starts the daemon again wants it to work. After
/// `stop-worker` he has to say so.
#[test]
fn after_stop_a_new_daemon_starts_a_worker_that_was_not_stopped_before() {
    let rig = Rig::new("").hostile("ready");
    for starts in 1..=2 {
        let daemon = rig.start();
        rig.ready_worker();
        assert_eq!(rig.starts(), starts);
        rig.finish(daemon);
    }
    let daemon = rig.start();
    rig.ready_worker();
    rig.ask("stop-worker");
    rig.finish(daemon);
    let daemon = rig.start();
    assert_eq!((rig.wait_for_state("stopped")["worker_pid"].as_u64(), rig.starts()), (None, 3));
    rig.ask("restart-worker");
    rig.ready_worker();
    rig.finish(daemon);
}

/// `autopilotd stop && autopilotd start`: by the time that the first is answered, nothing is in the way of the second.
#[test]
fn stop_leaves_the_home_free_for_the_next_daemon() {
    let rig = Rig::new("initial_backoff_ms = 60000").hostile("ready");
    let mut daemon = rig.start();
    for round in 1..=20 {
        rig.ready_worker();
        assert_eq!(rig.starts(), round);
        let mut control = rig.connect();
        let answer = control.ask("stop", DEADLINE);
        let locked = vitals::is_locked(&rig.home.path().join("autopilotd.lock"));
        assert!(!locked && !rig.home.socket().exists(), "answered before the home was free, in round {round}");
        assert_eq!(answer.done(), "Daemon stopped");
        let next = rig.start();
        assert_eq!(daemon.wait_for_code(DEADLINE), 0);
        daemon = next;
        assert!(!daemon.stderr().contains("was running already"), "{}", daemon.stderr());
    }
    let status = rig.status();
    assert_eq!((count(&status, "total_restarts"), count(&status, "consecutive_failures")), (0, 0));
    rig.finish(daemon);
}

/// A shim tells the end of its run, and then takes its time to end itself: nothing is left of the run that the next
/// daemon could take over.
#[test]
fn a_shim_that_outlives_its_run_is_not_adopted() {
    let rig = Rig::new("initial_backoff_ms = 60000").hostile("ready");
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    let shim = shim_of(worker);
    // It waits for a reader of its last record, which is written under this name first.
    let record = rig.home.path().join(format!("workers/main/runs/1/exit.{shim}.tmp"));
    assert!(rig.home.command("mkfifo").arg(&record).status().unwrap().success());
    assert_eq!(rig.ask("stop").done(), "Daemon stopped");
    assert_eq!(daemon.wait_for_code(DEADLINE), 0);
    assert!(vitals::is_alive(shim) && !vitals::is_alive(worker));
    let daemon = rig.start();
    assert_ne!(rig.ready_worker(), worker);
    assert!(std::fs::read_to_string(&record).unwrap().contains("\"run\":1"));
    let status = rig.status();
    assert_eq!((status["last_exits"].as_array().unwrap().len(), count(&status, "consecutive_failures")), (1, 0));
    rig.finish(daemon);
}
