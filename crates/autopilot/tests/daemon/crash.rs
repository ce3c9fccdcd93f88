//! SIGKILL to the daemon, to the shim and to both: the worker lives on or ends, never are there two, and no end is lost.

use testkit::home::{DEADLINE, Signal};
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
    assert_eq!(last_exit(&status), "its end was seen by nobody (its shim was killed, or had no room to note it)");
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
        std::fs::remove_file(rig.home.path().join("workers/main/state.json.bad-1")).unwrap();
        assert_eq!(rig.status()["degraded"], serde_json::json!([]), "the operator has seen it");
        assert_never_two(&rig);
        rig.finish(daemon);
    }
}

/// Whatever of it is damaged is kept under another name, is named in the journal, and costs no worker.
#[test]
fn damaged_files_are_set_aside_and_named() {
    let rig = jealous("initial_backoff_ms = 60000").hostile("ready");
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    daemon.kill();
    let main = rig.home.path().join("workers/main");
    for file in ["state.json", "runs/1/exit"] {
        std::fs::write(main.join(file), "{\"v\":").unwrap();
    }
    let daemon = rig.start();
    assert_eq!(pid(&rig.status()), worker);
    let events = String::from_utf8(rig.home.autopilotd(["events", "--json"]).stdout).unwrap();
    for file in ["state.json", "runs/1/exit"] {
        assert_eq!(std::fs::read_to_string(main.join(format!("{file}.bad-1"))).unwrap(), "{\"v\":");
        assert!(events.contains(&format!("{file}.bad-1\"")), "{events}");
    }
    assert!(daemon.stderr().contains("warning: "), "{}", daemon.stderr());
    assert!(daemon.stderr().contains("state.json is not used: it is damaged"), "{}", daemon.stderr());
    assert_never_two(&rig);
    rig.finish(daemon);
}

/// The daemon dies before the operator's stop is on disk: then the worker has not heard of it either.
#[test]
fn a_stop_is_on_disk_before_the_worker_hears_of_it() {
    let rig = Rig::new("initial_backoff_ms = 0").hostile("ready");
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    // A pipe that nobody reads: the daemon gets no further than to the record.
    let main = rig.home.path().join("workers/main");
    let record = main.join(format!("state.json.{}.tmp", daemon.pid()));
    assert!(rig.home.command("mkfifo").arg(&record).status().unwrap().success());
    let mut control = rig.connect();
    control.send(&testkit::control::request("stop-worker")).unwrap();
    rig.home.wait_until("it was asked", DEADLINE, || {
        std::fs::read_to_string(main.join("journal.jsonl")).unwrap().contains("\"verb\":\"stop-worker\"").then_some(())
    });
    daemon.kill();
    std::fs::remove_file(&record).unwrap();
    let daemon = rig.start();
    let status = rig.wait_for_state("running");
    assert_eq!((pid(&status), rig.starts()), (worker, 1));
    assert_eq!(rig.ask("start-worker").done(), format!("Worker runs already (PID {worker})"));
    rig.finish(daemon);
}

/// However the daemon ends: only `start-worker` or `restart-worker` has the worker work again.
#[test]
fn a_stop_and_its_reason_survive_the_daemon() {
    let rig = Rig::new("").hostile("ready");
    let mut daemon = rig.start();
    rig.ready_worker();
    rig.ask("stop-worker");
    for how in ["SIGKILL", "SIGTERM", "stop", "stop --keep-worker"] {
        match how {
            "SIGKILL" => daemon.signal(Signal::KILL),
            "SIGTERM" => daemon.signal(Signal::TERM),
            command => assert!(rig.home.autopilotd(command.split(' ')).status.success()),
        }
        daemon.wait(DEADLINE);
        daemon = rig.start();
        let status = rig.status();
        let told = (status["worker_status"].as_str(), status["reason"].as_str());
        assert_eq!(told, (Some("stopped"), Some("stop-worker by the operator")), "{how}");
        assert!(daemon.stderr().contains("Worker stays stopped"), "{how}: {}", daemon.stderr());
    }
    assert_eq!((last_exit(&rig.status()), rig.starts()), ("ended by stop-worker (exit status 0)", 1));
    rig.ask("start-worker");
    rig.ready_worker();
    rig.finish(daemon);
}

/// The worker asked for time, once, and the daemon that it asked is dead.
#[test]
fn an_extension_outlives_the_daemon() {
    let words = "ready notify=EXTEND_TIMEOUT_USEC=60000000";
    let rig = Rig::new("stall_timeout_ms = 400\nstall_grace_ms = 0").hostile(words);
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    // Longer than it may be silent without: the word has been heard.
    rig.wait_for("it is silent", |status| status["last_activity_ms_ago"].as_u64() > Some(600));
    daemon.kill();
    let daemon = rig.start();
    rig.wait_for("it is silent again", |status| status["last_activity_ms_ago"].as_u64() > Some(1_200));
    assert_eq!((pid(&rig.status()), rig.starts()), (worker, 1));
    rig.finish(daemon);
}

/// The daemon dies when the next worker runs already, and before the end of the one before it is on record.
#[test]
fn an_end_that_was_not_recorded_in_time_is_not_lost() {
    let rig = jealous("initial_backoff_ms = 0").hostile("ready");
    let mut daemon = rig.start();
    let first = rig.ready_worker();
    let main = rig.home.path().join("workers/main");
    // A pipe that nobody reads: the daemon gets no further than to the record.
    let record = main.join(format!("state.json.{}.tmp", daemon.pid()));
    assert!(rig.home.command("mkfifo").arg(&record).status().unwrap().success());
    rig.kill(first);
    rig.home.wait_until("the next worker runs", DEADLINE, || main.join("runs/2/started").exists().then_some(()));
    daemon.kill();
    std::fs::remove_file(&record).unwrap();
    let daemon = rig.start();
    let status = rig.wait_for_state("running");
    assert_eq!((count(&status, "run"), rig.starts(), last_exit(&status)), (2, 2, "killed by SIGKILL"));
    assert_eq!(count(&status, "total_restarts"), 1);
    let events = String::from_utf8(rig.home.autopilotd(["events", "--json"]).stdout).unwrap();
    assert!(events.contains("\"kind\":\"ended\",\"run\":1,"), "{events}");
    assert_never_two(&rig);
    rig.finish(daemon);
}

/// Its shim is killed, and it has neither the run's mark, nor its lock, nor a parent of the run.
#[test]
fn who_escapes_from_a_killed_shim_is_caught_by_the_daemon() {
    // `exec` closes the lock; the two forks leave nobody above it but a subreaper.
    let escape = "test -e \"$HOME/second\" || (setsid env -i TESTKIT_ID=$TESTKIT_ID bash -c \
                  'for fd in /proc/self/fd/*; do fd=${fd##*/}; test $fd -gt 2 && eval \"exec $fd>&-\"; done; \
                  exec sleep 777 </dev/null >/dev/null 2>&1' &)\n: > \"$HOME/second\"\n";
    let rig = Rig::new("initial_backoff_ms = 0");
    let settings = std::fs::read_to_string(rig.config()).unwrap();
    std::fs::write(rig.config(), format!("containment = \"subreaper\"\n{settings}")).unwrap();
    let rig = rig.script(&format!("{escape}exec \"$HOSTILE_WORKER\"")).hostile("ready");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    let escaped = || rig.home.processes().into_iter().find(|process| process.command == "sleep 777");
    let escaper = rig.home.wait_until("it has escaped", DEADLINE, escaped).pid;
    rig.kill(shim_of(worker));
    rig.wait_for("the next worker is ready", |status| status["worker_ready"] == true && status["worker_pid"] != worker);
    assert!(!vitals::is_alive(escaper), "it outlived its run");
    rig.finish(daemon);
}

/// Whoever stops it, once or all the time: what it is told to end is ended.
#[test]
fn a_stopped_shim_is_no_obstacle() {
    for stops in ["kill -STOP $PPID", "(while kill -STOP $PPID; do sleep 0.01; done) & sleep 0.1"] {
        let rig = Rig::new("initial_backoff_ms = 0\nstop_timeout_ms = 100");
        let begun = "while ! test -e \"$AUTOPILOT_HOME/workers/main/runs/1/started\"; do sleep 0.01; done";
        let script = format!("trap '' TERM\n\"$HOSTILE_WORKER\" &\n{begun}\n{stops}\nwait");
        let rig = rig.script(&script).hostile("ready");
        let daemon = rig.start();
        let worker = rig.ready_worker();
        let shim = shim_of(worker);
        rig.home.wait_until("it is stopped", DEADLINE, || {
            let stat = std::fs::read_to_string(format!("/proc/{shim}/stat")).unwrap_or_default();
            stat.contains(") T ").then_some(())
        });
        assert_eq!(rig.ask("stop-worker").done(), "Worker stopped", "{stops}");
        assert!(!vitals::is_alive(worker), "{stops}");
        // It has told of the end, and exits.
        rig.home.wait_until("the shim is gone", DEADLINE, || (!vitals::is_alive(shim)).then_some(()));
        rig.finish(daemon);
    }
}
