//! What a starting daemon makes of what it finds: carried on with, judged, ended, or left alone where nobody can tell.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::home::{DEADLINE, is_root};
use testkit::vitals;

use crate::rig::{Rig, count, last_exit, pid, shim_of};

fn run_folder(rig: &Rig, run: u32) -> PathBuf {
    rig.home.path().join(format!("workers/main/runs/{run}"))
}

/// Changes a member of a record, as another version, boot or machine would have written it.
fn forge(rig: &Rig, record: &str, member: &str, value: Value) {
    let path = run_folder(rig, 1).join(record);
    rig.home.wait_until("the record is there", DEADLINE, || path.exists().then_some(()));
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json[member] = value;
    // As a version before the seals wrote it.
    json.as_object_mut().unwrap().remove("sum");
    fs::write(&path, json.to_string()).unwrap();
}

/// All that the operator sees, but for what tells of the daemon itself and of time.
fn seen_by_the_operator(status: &Value) -> Value {
    let mut status = status.clone();
    for member in [
        "daemon_pid",
        "daemon_uptime_seconds",
        "memory_available_bytes",
        "last_activity_ms_ago",
        "last_activity_source",
    ] {
        status[member] = Value::Null;
    }
    // At most a second apart.
    status["uptime_seconds"] = Value::Null;
    status["next_attempt_in_ms"] = Value::Bool(status["next_attempt_in_ms"].is_u64());
    status
}

#[test]
fn the_next_daemon_knows_what_this_one_knew() {
    let rig = Rig::new("initial_backoff_ms = 0\nmax_backoff_ms = 0").plan(&[
        "exit=3 after_ms=0",
        "ready phase=tool status=cargo notify=WATCHDOG=1 notify=AUTOPILOT_RLOG=/nowhere/own.rlog",
    ]);
    let mut daemon = rig.start();
    rig.wait_for("its log is known", |status| status["worker_rlog"] == "/nowhere/own.rlog");
    let seen = run_folder(&rig, 2).join("seen");
    rig.home.wait_until("it is kept", DEADLINE, || {
        fs::read_to_string(&seen).is_ok_and(|text| text.contains("own.rlog")).then_some(())
    });
    let before = rig.status();
    assert_eq!((&before["worker_ready"], count(&before, "total_restarts")), (&json!(true), 1));
    for _ in 0..3 {
        daemon.kill();
        daemon = rig.start();
        let after = rig.status();
        assert_eq!(seen_by_the_operator(&after), seen_by_the_operator(&before));
        let up = |status: &Value| count(status, "uptime_seconds");
        assert!(up(&after) >= up(&before) && up(&after) <= up(&before) + 20, "{after:#}");
    }
    rig.finish(daemon);
}

/// `failed`, `restarting` and `stopped` are states of the home, not of the daemon.
#[test]
fn without_a_worker_the_next_daemon_is_where_this_one_was() {
    let places: [(&str, &str, &str, Option<&str>); 3] = [
        ("max_consecutive_restarts = 2\ninitial_backoff_ms = 0", "exit=3 after_ms=0", "failed", None),
        (
            "max_consecutive_restarts = 0\nmax_restarts_per_hour = 3\ninitial_backoff_ms = 0",
            "die=9 after_ms=0",
            "failed",
            None,
        ),
        ("", "ready", "stopped", Some("stop-worker")),
    ];
    for (settings, words, state, command) in places {
        let rig = Rig::new(settings).hostile(words);
        let mut daemon = rig.start();
        if let Some(command) = command {
            rig.ready_worker();
            rig.ask(command);
        }
        let before = rig.wait_for_state(state);
        let starts = rig.starts();
        for _ in 0..3 {
            daemon.kill();
            daemon = rig.start();
            let after = rig.status();
            for member in ["worker_status", "total_restarts", "consecutive_failures", "last_exits"] {
                assert_eq!(after[member], before[member], "{state}: {member}");
            }
            assert!(after["next_attempt_in_ms"].as_u64() <= before["next_attempt_in_ms"].as_u64());
        }
        assert_eq!(rig.starts(), starts);
        rig.finish(daemon);
    }
}

/// On a full disk, for instance, the shim can't write that it has begun. Its worker is none the worse for it.
#[test]
fn a_shim_without_a_record_is_found_by_its_lock() {
    for user in [Rig::new, Rig::of_ordinary_user] {
        let rig = user("").hostile("ready");
        let mut daemon = rig.start();
        let worker = rig.ready_worker();
        let before = rig.status();
        daemon.kill();
        fs::remove_file(run_folder(&rig, 1).join("started")).unwrap();
        let daemon = rig.start();
        let after = rig.wait_for_state("running");
        assert_eq!((pid(&after), &after["total_restarts"]), (worker, &before["total_restarts"]));
        assert!(count(&after, "uptime_seconds") <= count(&before, "uptime_seconds") + 20, "{after:#}");
        assert!(rig.ask("restart-worker").done().starts_with("Worker started"));
        assert!(!vitals::is_alive(worker));
        rig.finish(daemon);
    }
}

/// Of another boot: what it says of pids means nothing in this one.
#[test]
fn after_a_reboot_everything_is_stale_and_nobody_is_signalled() {
    let rig = Rig::new("initial_backoff_ms = 60000").hostile("ready");
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    daemon.kill();
    rig.kill(worker);
    rig.home.wait_until_nothing_runs(DEADLINE);
    // A stranger has the pid of the worker of then.
    let mut stranger = rig.home.start("stranger", {
        let mut command = rig.home.command(testkit::binaries::own("hostile-worker"));
        command.args(["--hostile", "ignore-term"]);
        command
    });
    forge(&rig, "started", "worker", identity(stranger.pid()));
    for record in ["started", "exit"] {
        forge(&rig, record, "boot_id", json!("another"));
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    forge_state(&rig, boot.trim(), "another");
    let daemon = rig.start();
    rig.wait_for("a worker is ready", |status| status["worker_ready"] == true && status["run"] == 2);
    let status = rig.status();
    assert_eq!((count(&status, "consecutive_failures"), last_exit(&status)), (0, ""));
    assert!(!stranger.has_ended());
    stranger.kill();
    rig.finish(daemon);
}

/// Its seal is that of what is written: a line with the hash of the line before it.
fn forge_state(rig: &Rig, from: &str, to: &str) {
    let state = rig.home.path().join("workers/main/state.json");
    let text = fs::read_to_string(&state).unwrap();
    let line = text.lines().next().unwrap().replace(from, to);
    let forged = rig.home.user_home().join("forged");
    fs::write(&forged, &line).unwrap();
    let output = rig.home.command("sha256sum").arg(&forged).output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap();
    let hash = hash.split(' ').next().unwrap();
    fs::write(&state, format!("{line}\n{{\"sha256\":\"{hash}\"}}\n")).unwrap();
}

fn identity(pid: i32) -> Value {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let start_ticks: u64 = after_name.split_whitespace().nth(19).unwrap().parse().unwrap();
    json!({"pid": pid, "start_ticks": start_ticks})
}

type Forgery = (&'static str, Value, &'static str);

fn forgeries() -> [Forgery; 3] {
    [
        ("v", json!(99), "its record is of version 99, which this daemon does not understand"),
        ("boot_id", json!("another"), "its record is of another boot or machine, but its lock is held"),
        ("pid_namespace", json!(1), "it was started in another container"),
    ]
}

/// Neither ended nor doubled, however long it takes; `status` says why and what to do.
#[test]
fn what_can_t_be_verified_is_left_alone() {
    for (member, value, why) in forgeries() {
        let rig = Rig::new("initial_backoff_ms = 0").hostile("ready");
        let mut daemon = rig.start();
        let worker = rig.ready_worker();
        daemon.kill();
        forge(&rig, "started", member, value);
        let mut daemon = rig.start();
        let status = rig.wait_for_state("unknown");
        let reason = status["reason"].as_str().unwrap_or_default();
        let folder = run_folder(&rig, 1);
        assert!(reason.starts_with(&format!("run 1 may still live, and it can't be verified: {why}. ")), "{reason}");
        assert!(reason.contains("`autopilotd restart-worker`"), "{reason}");
        assert!(reason.ends_with(&format!("rm -r {}", folder.display())), "{reason}");
        assert!(daemon.stderr().contains("Run 1 is left alone, and no worker started beside it\n"));
        let text = String::from_utf8(rig.home.autopilotd(["status"]).stdout).unwrap();
        assert!(text.contains("Worker status:  unknown\n") && text.contains(why), "{text}");

        let refused = rig.ask("start-worker");
        assert!(refused.failed().contains(why), "{refused:?}");
        assert!(refused.value["failed"]["hint"].as_str().unwrap().contains("rm -r"));
        // The next daemon thinks no other.
        daemon.kill();
        let daemon = rig.start();
        rig.wait_for_state("unknown");
        assert!(vitals::is_alive(worker) && rig.starts() == 1);

        // What the operator can do: have it ended.
        assert!(rig.ask("restart-worker").done().starts_with("Worker started"), "{why}");
        assert!(!vitals::is_alive(worker));
        assert_eq!(pid(&rig.wait_for_state("running")), pid(&rig.status()));
        rig.finish(daemon);
    }
}

/// Its end is noticed, and what its shim wrote of it is taken if it can be read.
#[test]
fn the_end_of_what_could_not_be_verified_is_seen() {
    for (member, value, _) in forgeries() {
        let rig = Rig::new("initial_backoff_ms = 60000").hostile("ready");
        let mut daemon = rig.start();
        let worker = rig.ready_worker();
        daemon.kill();
        forge(&rig, "started", member, value);
        let daemon = rig.start();
        rig.wait_for_state("unknown");
        rig.kill(worker);
        let status = rig.wait_for_state("restarting");
        assert_eq!((last_exit(&status), count(&status, "consecutive_failures")), ("killed by SIGKILL", 1), "{member}");
        rig.finish(daemon);
    }
}

/// The last resort: the folder is removed, and with it what was in doubt. `stop` leaves it alone.
#[test]
fn the_folder_of_a_doubtful_run_can_be_removed() {
    let rig = Rig::new("").hostile("ready");
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    daemon.kill();
    forge(&rig, "started", "v", json!(99));
    let mut daemon = rig.start();
    rig.wait_for_state("unknown");
    assert_eq!(rig.ask("stop").done(), "Daemon stopped");
    assert_eq!(daemon.wait_for_code(DEADLINE), 0);
    assert!(vitals::is_alive(worker), "it was left alone");
    let daemon = rig.start();
    rig.wait_for_state("unknown");
    fs::remove_dir_all(run_folder(&rig, 1)).unwrap();
    rig.wait_for("the next worker", |status| status["worker_pid"].is_u64() && status["worker_pid"] != worker);
    assert!(vitals::is_alive(worker), "what lives in it is the operator's own affair");
    rig.kill(shim_of(worker));
    rig.kill(worker);
    rig.finish(daemon);
}

/// A lock that is held by somebody who is not to be seen: a process of root's, for a daemon without rights. Without root
/// there is nobody to play that part; `what_can_t_be_verified_is_left_alone` does the same with forged records.
#[test]
fn a_lock_that_nobody_seems_to_hold_is_respected() {
    if !is_root() {
        eprintln!("SKIPPED: needs root, for a process that the daemon may not look into");
        return;
    }
    let rig = Rig::of_ordinary_user("initial_backoff_ms = 0").hostile("ready");
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    daemon.kill();
    rig.kill(worker);
    rig.home.wait_until_nothing_runs(DEADLINE);
    fs::remove_file(run_folder(&rig, 1).join("exit")).unwrap();
    let mut command = std::process::Command::new("flock");
    let environment = [("TESTKIT_ID", rig.home.id()), ("PATH", "/usr/bin:/bin")];
    command.env_clear().envs(environment).arg(run_folder(&rig, 1).join("lock"));
    command.args(["sh", "-c", "echo held; exec sleep 100"]);
    let mut holder = rig.home.start("holder", command);
    rig.home.wait_until("the lock is held", DEADLINE, || (holder.stdout() == "held\n").then_some(()));
    let daemon = rig.start();
    let status = rig.wait_for_state("unknown");
    assert!(status["reason"].as_str().unwrap().contains("held by somebody who is not to be seen"), "{status:#}");
    // It can't be ended from here: after a while that is said, and nothing is started.
    assert!(rig.ask("restart-worker").failed().contains("it can't be verified"));
    assert_eq!((rig.status()["worker_status"].as_str(), rig.starts()), (Some("unknown"), 1));
    assert!(!holder.has_ended());
    holder.kill();
    // `sleep` holds it on.
    rig.home.processes().iter().filter(|p| p.command.contains("sleep 100")).for_each(|p| rig.home.kill(p));
    rig.ready_worker();
    rig.finish(daemon);
}

/// Somebody tidied up, or put something else there: whoever holds the lock of before still does.
#[test]
fn a_lock_that_was_removed_or_replaced_lets_nobody_in() {
    let ways = [
        "rm \"$0\"",
        "rm \"$0\"; mkfifo \"$0\"",
        "cp \"$0\" \"$0.new\"; mv \"$0.new\" \"$0\"",
        ": > \"$0.new\"; mv \"$0.new\" \"$0\"",
    ];
    for way in ways {
        let rig = Rig::new("initial_backoff_ms = 0").hostile("ready");
        let mut daemon = rig.start();
        let worker = rig.ready_worker();
        daemon.kill();
        let lock = run_folder(&rig, 1).join("lock");
        assert!(rig.home.command("sh").args(["-c", way]).arg(&lock).status().unwrap().success());
        let daemon = rig.start();
        let status = rig.wait_for_state("running");
        assert_eq!((pid(&status), rig.starts()), (worker, 1), "{way}");
        assert!(rig.ask("restart-worker").done().starts_with("Worker started"), "{way}");
        assert!(!vitals::is_alive(worker), "{way}");
        rig.finish(daemon);
    }
}

/// The same with its shim killed: what is left is ended, and only then comes the next one.
#[test]
fn orphans_are_found_without_their_lock() {
    let rig = Rig::new("initial_backoff_ms = 0").hostile("ready");
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    let shim = shim_of(worker);
    daemon.kill();
    rig.kill(shim);
    fs::remove_file(run_folder(&rig, 1).join("lock")).unwrap();
    let daemon = rig.start();
    rig.wait_for("the next worker", |status| status["worker_ready"] == true && status["worker_pid"] != worker);
    assert!(!vitals::is_alive(worker));
    rig.finish(daemon);
}

/// A record that is well-formed and wrong: the shim that holds the lock is believed, not the number.
#[test]
fn a_wrong_value_in_a_record_harms_no_worker() {
    let damages = [("shim", "pid"), ("shim", "start_ticks"), ("worker", "pid"), ("worker", "start_ticks")];
    for (process, member) in damages {
        for is_sealed in [true, false] {
            let rig = Rig::new("initial_backoff_ms = 0").hostile("ready");
            let mut daemon = rig.start();
            let worker = rig.ready_worker();
            let path = run_folder(&rig, 1).join("started");
            rig.home.wait_until("the record is there", DEADLINE, || path.exists().then_some(()));
            daemon.kill();
            if is_sealed {
                let text = fs::read_to_string(&path).unwrap();
                let (before, after) = text.split_once(&format!("\"{process}\":{{")).unwrap();
                let after = after.replacen(&format!("\"{member}\":"), &format!("\"{member}\":9"), 1);
                fs::write(&path, format!("{before}\"{process}\":{{{after}")).unwrap();
            } else {
                let json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                let mut value = json[process].clone();
                value[member] = json!(format!("9{}", value[member]).parse::<u32>().unwrap_or(7));
                forge(&rig, "started", process, value);
            }
            let daemon = rig.start();
            let status = rig.wait_for_state("running");
            assert_eq!((rig.starts(), &status["total_restarts"]), (1, &json!(0)), "{process}.{member}, {is_sealed}");
            assert!(vitals::is_alive(worker), "{process}.{member}, sealed: {is_sealed}");
            if is_sealed {
                assert_eq!(pid(&status), worker, "{process}.{member}");
            }
            rig.finish(daemon);
        }
    }
}

/// Whatever lies where a run, a record or a socket belongs: it is set aside, and nothing waits for it.
#[test]
fn what_is_no_run_and_no_record_is_set_aside() {
    let ways = [
        "touch workers/main/runs/7; mkdir workers/main/runs/18446744073709551615",
        "rm -f workers/main/runs/1/seen; mkfifo workers/main/runs/1/seen",
        "rm -f workers/main/runs/1/started; mkfifo workers/main/runs/1/started",
        "rm workers/main/notify.sock autopilotd.sock; mkdir -p workers/main/notify.sock/x autopilotd.sock/y",
    ];
    for way in ways {
        let rig = Rig::new("initial_backoff_ms = 0").hostile("ready");
        let mut daemon = rig.start();
        let worker = rig.ready_worker();
        daemon.kill();
        let mut command = rig.home.command("sh");
        assert!(command.args(["-c", way]).current_dir(rig.home.path()).status().unwrap().success(), "{way}");
        let daemon = rig.start();
        assert_eq!((pid(&rig.wait_for_state("running")), rig.starts()), (worker, 1), "{way}");
        rig.finish(daemon);
    }
}
