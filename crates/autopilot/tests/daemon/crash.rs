//! SIGKILL to the daemon, to the shim and to both: the worker lives on or ends, never are there two, and no end is lost.

use testkit::home::DEADLINE;
use testkit::vitals;

use crate::rig::{Rig, count, last_exit, pid, shim_of};

/// A worker that notes when another one's tree still lives. All of its tree holds the lock, so that two trees can't
/// overlap unseen, however shortly.
const JEALOUS: &str = "exec 9>>\"$HOME/tree\"; flock --nonblock 9 || echo twice >> \"$HOME/overlaps\"\n\
                       exec \"$HOSTILE_WORKER\"";

fn jealous(settings: &str) -> Rig {
    Rig::new(settings).script(JEALOUS)
}

/// Root has control groups to keep a tree together, where there are any; an ordinary user has none.
const USERS: [fn(&str) -> Rig; 2] = [Rig::new, Rig::of_ordinary_user];

fn assert_never_two(rig: &Rig) {
    let overlaps = std::fs::read_to_string(rig.home.user_home().join("overlaps")).unwrap_or_default();
    assert_eq!(overlaps, "", "a worker started while another one's tree lived");
}

#[test]
fn the_next_daemon_adopts_the_worker() {
    let rig = Rig::new("initial_backoff_ms = 0\nmax_backoff_ms = 0").plan(&["exit=3 after_ms=0", "ready phase=model"]);
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    let before = rig.status();
    assert_eq!((count(&before, "total_restarts"), count(&before, "consecutive_failures")), (1, 1));
    daemon.kill();
    assert!(rig.home.socket().exists() && rig.home.path().join("autopilotd.pid").exists(), "nobody cleared up");
    assert!(vitals::is_alive(worker));
    let daemon = rig.start();
    let after = rig.status();
    for member in ["worker_status", "worker_pid", "total_restarts", "consecutive_failures", "last_exits", "run"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    assert_ne!(after["daemon_pid"], before["daemon_pid"]);
    assert_eq!(rig.starts(), 2);
    assert!(daemon.stderr().contains(&format!("Worker {worker} was running already; it goes on\n")));

    // It is a worker like any other: ended when told to, and its end is seen.
    assert!(rig.ask("restart-worker").done().starts_with("Worker started"));
    let status = rig.status();
    assert!(!vitals::is_alive(worker));
    assert_eq!(last_exit(&status), "ended by restart-worker (exit status 0)");
    rig.finish(daemon);
}

#[test]
fn the_end_of_an_adopted_worker_is_seen_at_once() {
    let rig = Rig::new("initial_backoff_ms = 60000").hostile("ready");
    rig.start().kill();
    let daemon = rig.start();
    let worker = pid(&rig.wait_for_state("running"));
    rig.kill(worker);
    let status = rig.wait_for_state("restarting");
    assert_eq!((last_exit(&status), count(&status, "consecutive_failures")), ("killed by SIGKILL", 1));
    rig.finish(daemon);
}

#[test]
fn an_end_that_no_daemon_saw_is_counted_by_the_next_one() {
    for words in ["ready", "ready trap", "ready exit=3 after_ms=300"] {
        let rig = Rig::new("initial_backoff_ms = 60000").hostile(words);
        let mut daemon = rig.start();
        let worker = rig.ready_worker();
        daemon.kill();
        let by_itself = words.contains("exit=3");
        if !by_itself {
            rig.kill(worker);
        }
        rig.home.wait_until_nothing_runs(DEADLINE);
        let cause = if by_itself { "exit status 3" } else { "killed by SIGKILL" };
        // However many daemons come after it, it is counted once.
        for _ in 0..3 {
            let mut daemon = rig.start();
            let status = rig.status();
            assert_eq!(status["worker_status"], "restarting");
            assert_eq!((last_exit(&status), count(&status, "consecutive_failures")), (cause, 1));
            assert_eq!(status["last_exits"].as_array().unwrap().len(), 1);
            daemon.kill();
        }
        rig.finish(rig.start());
        assert_eq!(rig.starts(), 1);
    }
}

#[test]
fn a_backoff_survives_the_daemon() {
    let rig = Rig::new("initial_backoff_ms = 60000").hostile("exit=3 after_ms=0");
    let mut daemon = rig.start();
    let before = rig.wait_for_state("restarting");
    daemon.kill();
    let daemon = rig.start();
    let after = rig.status();
    assert_eq!(after["worker_status"], "restarting");
    assert!(after["next_attempt_in_ms"].as_u64() <= before["next_attempt_in_ms"].as_u64());
    assert_eq!((rig.starts(), count(&after, "consecutive_failures")), (1, 1));
    rig.finish(daemon);
}

/// The tree of a killed shim is ended, whatever it does about it, and only then comes the next one.
#[test]
fn a_killed_shim_takes_its_tree_with_it() {
    USERS.into_iter().for_each(a_killed_shim_takes_its_tree_with_it_of);
}

fn a_killed_shim_takes_its_tree_with_it_of(user: fn(&str) -> Rig) {
    let rig = user("initial_backoff_ms = 0").script(JEALOUS).plan(&["ignore-term ready trap", "ready"]);
    let daemon = rig.start();
    let trap = rig.sprung_trap();
    rig.kill(shim_of(pid(&rig.status())));
    let status = rig
        .wait_for("the next worker is ready", |status| status["worker_ready"] == true && status["total_restarts"] == 1);
    let left: Vec<_> = trap.iter().filter(|process| vitals::is_alive(process.pid)).collect();
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(last_exit(&status), "its end was seen by nobody (its shim was killed)");
    assert_eq!(count(&status, "consecutive_failures"), 1);
    assert_never_two(&rig);
    rig.finish(daemon);
}

#[test]
fn daemon_and_shim_killed_together_leave_no_second_worker() {
    USERS.into_iter().for_each(daemon_and_shim_killed_together_leave_no_second_worker_of);
}

fn daemon_and_shim_killed_together_leave_no_second_worker_of(user: fn(&str) -> Rig) {
    let rig = user("initial_backoff_ms = 0").script(JEALOUS).plan(&["ignore-term ready trap", "ready"]);
    let mut daemon = rig.start();
    let trap = rig.sprung_trap();
    let shim = shim_of(pid(&rig.status()));
    daemon.kill();
    rig.kill(shim);
    let daemon = rig.start();
    rig.wait_for("the next worker is ready", |status| status["worker_ready"] == true);
    let left: Vec<_> = trap.iter().filter(|process| vitals::is_alive(process.pid)).collect();
    assert!(left.is_empty(), "{left:#?}");
    assert_never_two(&rig);
    rig.finish(daemon);
}

/// The shim dies, and what is left of its tree has neither the run's mark in its environment nor the worker above it.
#[test]
fn a_process_that_hides_does_not_outlive_its_shim() {
    USERS.into_iter().for_each(a_process_that_hides_does_not_outlive_its_shim_of);
}

fn a_process_that_hides_does_not_outlive_its_shim_of(user: fn(&str) -> Rig) {
    let hide = "id=$TESTKIT_ID\n\
                test -e \"$HOME/second\" || (setsid env -i TESTKIT_ID=$id sh -c 'trap \"\" TERM; \
                while :; do sleep 5; done' &)\n\
                : > \"$HOME/second\"\n";
    let rig = user("initial_backoff_ms = 0").script(&format!("{hide}{JEALOUS}")).hostile("ready");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    rig.home.wait_until("it hides", DEADLINE, || (rig.home.processes().len() == 5).then_some(()));
    rig.kill(shim_of(worker));
    rig.wait_for("the next worker is ready", |status| status["worker_ready"] == true && status["worker_pid"] != worker);
    assert_eq!(rig.home.processes().len(), 3, "daemon, shim and worker");
    assert_never_two(&rig);
    rig.finish(daemon);
}

/// Any of the three, in any order, again and again.
#[test]
fn whatever_is_killed_there_are_never_two_workers() {
    let rig =
        jealous("initial_backoff_ms = 0\nmax_consecutive_restarts = 0\nmax_restarts_per_hour = 0").hostile("ready");
    let mut daemon = rig.start();
    for round in 0..24_u32 {
        // Not "ready": it may have said so to nobody, in between two daemons.
        let worker = pid(&rig.wait_for_state("running"));
        let shim = shim_of(worker);
        let victims = [vec![worker], vec![shim], vec![], vec![shim, worker], vec![worker, shim]];
        let of_this_round = &victims[round as usize % 5];
        let first = round.is_multiple_of(2);
        let kill_daemon = round.is_multiple_of(3) || of_this_round.is_empty();
        if kill_daemon && first {
            daemon.kill();
        }
        for victim in of_this_round {
            rig.kill_if_alive(*victim);
        }
        if kill_daemon && !first {
            daemon.kill();
        }
        if kill_daemon {
            daemon = rig.start();
        }
        rig.wait_for("a worker is ready", |status| {
            let same = status["worker_pid"] == worker;
            let alive = status["worker_status"] == "running";
            alive && (same == of_this_round.is_empty())
        });
        rig.home.wait_until("one worker runs", DEADLINE, || (rig.run_processes().len() == 1).then_some(()));
    }
    assert_never_two(&rig);
    rig.finish(daemon);
}

/// A state file that says nothing is put aside, and the live worker is adopted all the same.
#[test]
fn a_lost_state_file_costs_no_worker() {
    for garbage in ["", "{\"v\":", "\u{0}\u{0}", "{\"v\":99}"] {
        let rig = jealous("").hostile("ready");
        let mut daemon = rig.start();
        let worker = rig.ready_worker();
        daemon.kill();
        std::fs::write(rig.home.path().join("workers/main/state.json"), garbage).unwrap();
        let daemon = rig.start();
        assert_eq!(pid(&rig.status()), worker);
        assert!(rig.status()["degraded"].to_string().contains("was set aside as"), "{garbage:?}");
        assert_never_two(&rig);
        rig.finish(daemon);
    }
}
