//! Where something of the system is missing: the daemon says what it does without, or refuses and says why.
//!
//! What is missing is so in a mount namespace (and for limits in a user namespace), for real. Each test is played as root,
//! where the tests are, and as an ordinary user, who makes these namespaces in a user namespace of his own.

use testkit::home::{DEADLINE, is_root};
use testkit::vitals;

use crate::rig::{Rig, count, last_exit, pid, shim_of};
use crate::room::Room;
use crate::witness::{HASTY, assert_never_two};

const USERS: [fn(&str) -> Rig; 2] = [Rig::new, Rig::of_ordinary_user];

const SMALL_DISK: &str = "mkdir -p -m 700 \"$0\"; mount -t tmpfs -o size=1m,mode=700 none \"$0\"";

/// A file as large as there is room, and its end.
const FILL: &str = "cat /dev/zero > \"$0/filler\" 2> /dev/null || true";
const MAKE_ROOM: &str = "rm \"$0/filler\"";

#[test]
fn on_a_disk_that_is_full_from_the_start_it_serves_and_has_a_worker_as_soon_as_there_is_room() {
    for user in USERS {
        let rig = user(HASTY).hostile("alone ready");
        let room = Room::new(&rig, SMALL_DISK);
        room.run(&rig, FILL);
        let daemon = room.start(&rig);
        let status =
            room.wait_for(&rig, "a worker is wanted in vain", |status| count(status, "consecutive_failures") > 0);
        assert!(status["reason"].to_string().contains("No space left on device"), "{status:#}");
        room.assert_degraded(&rig, "no pid file: cannot write ");
        room.assert_degraded(&rig, "state.json: No space left on device");
        assert_eq!(rig.starts(), 0);
        room.run(&rig, MAKE_ROOM);
        let status = room.wait_for(&rig, "the worker is ready", |status| status["worker_ready"] == true);
        assert!(!status["degraded"].to_string().contains("state.json"), "{status:#}");
        room.finish(&rig, daemon);
    }
}

/// A worker that is alive is not given up because the disk is full when the daemon comes back.
#[test]
fn on_a_disk_that_became_full_the_worker_lives_on_and_the_next_daemon_adopts_it() {
    for user in USERS {
        let rig = user(HASTY).hostile("alone ready");
        let room = Room::new(&rig, SMALL_DISK);
        let mut daemon = room.start(&rig);
        let worker = pid(&room.wait_for(&rig, "the worker is ready", |status| status["worker_ready"] == true));
        room.run(&rig, FILL);
        for _ in 0..3 {
            daemon.kill();
            daemon = room.start(&rig);
            let status = room.wait_for(&rig, "it is adopted", |status| status["worker_status"] == "running");
            assert_eq!((pid(&status), rig.starts()), (worker, 1));
            room.assert_degraded(&rig, "No space left on device");
        }
        // Its end is seen, and followed by the next one as soon as there is room.
        rig.kill(worker);
        room.wait_for(&rig, "its end was seen", |status| last_exit(status).contains("SIGKILL"));
        room.run(&rig, MAKE_ROOM);
        room.wait_for(&rig, "the next one is ready", |status| {
            status["worker_ready"] == true && status["worker_pid"] != worker
        });
        assert_never_two(&rig);
        room.finish(&rig, daemon);
    }
}

/// The operator hears that it can't be written, and it is as soon as that is possible.
#[test]
fn a_stop_on_a_full_disk_is_remembered_once_there_is_room() {
    for user in USERS {
        let rig = user(HASTY).hostile("alone ready");
        let room = Room::new(&rig, SMALL_DISK);
        let mut daemon = room.start(&rig);
        room.wait_for(&rig, "the worker is ready", |status| status["worker_ready"] == true);
        room.run(&rig, FILL);
        let answer = String::from_utf8(room.ask(&rig, &["stop-worker"])).unwrap();
        assert!(answer.contains("Worker stopped\nwarning: cannot write "), "{answer}");
        room.run(&rig, MAKE_ROOM);
        room.wait_for(&rig, "it is written", |status| !status["degraded"].to_string().contains("state.json"));
        daemon.kill();
        daemon = room.start(&rig);
        let status = room.wait_for(&rig, "an answer", |_| true);
        assert_eq!((status["worker_status"].as_str(), rig.starts()), (Some("stopped"), 1), "{status:#}");
        room.finish(&rig, daemon);
    }
}

/// The record by which the next daemon knows the run could not be written, and is when there is room.
#[test]
fn a_run_that_began_on_a_full_disk_is_known_to_the_next_daemon_once_there_is_room() {
    let rig = Rig::new(HASTY).hostile("alone ready");
    let mut command = rig.command();
    command.env("AUTOPILOT_FAIL", "file.write:started=enospc@1");
    let mut daemon = rig.start_by(command);
    let worker = rig.ready_worker();
    let record = rig.home.path().join("workers/main/runs/1/started");
    rig.home.wait_until("the record is written", DEADLINE, || record.exists().then_some(()));
    daemon.kill();
    let daemon = rig.start();
    assert_eq!(pid(&rig.wait_for_state("running")), worker);
    rig.finish(daemon);
}

#[test]
fn without_room_for_a_folder_it_is_refused_and_said_what_to_do() {
    for user in USERS {
        let rig = user("");
        let script = "mkdir -p -m 700 \"$0\"; mount -t tmpfs -o size=1m,nr_inodes=2,mode=700 none \"$0\"";
        let room = Room::new(&rig, script);
        let output = rig.home.start("refused", room.daemon(&rig)).into_output(DEADLINE);
        let said = rig.portable(&String::from_utf8_lossy(&output.stderr));
        let expected = "error: cannot use the home ~/home/workers/main: No space left on device (os error 28)\n\
                        hint: free some space (or inodes: df -i) there, or move the home: AUTOPILOT_HOME=/path/to/folder\n";
        assert_eq!((output.status.code(), said.as_str()), (Some(5), expected));
    }
}

#[test]
fn a_home_that_becomes_read_only_costs_no_worker() {
    for user in USERS {
        let rig = user(HASTY).hostile("alone ready");
        let room = Room::new(&rig, SMALL_DISK);
        let daemon = room.start(&rig);
        let worker = pid(&room.wait_for(&rig, "the worker is ready", |status| status["worker_ready"] == true));
        // What is open for writing keeps a file system writable: another mount of it, which is not, is put over it.
        room.run(&rig, "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"");
        assert!(vitals::is_alive(worker));
        rig.kill(worker);
        let status =
            room.wait_for(&rig, "a worker is wanted in vain", |status| count(status, "consecutive_failures") > 1);
        assert!(status["reason"].to_string().contains("Read-only file system"), "{status:#}");
        room.assert_degraded(&rig, "state.json: Read-only file system");
        room.run(&rig, "umount \"$0\"");
        room.wait_for(&rig, "the next worker is ready", |status| status["worker_ready"] == true);
        assert_never_two(&rig);
        room.finish(&rig, daemon);
    }
}

/// An ordinary user who sees nobody's processes but his own. Only root can mount such a `/proc` over everybody's.
#[test]
fn where_proc_hides_the_others_all_is_as_ever() {
    if !is_root() {
        eprintln!("SKIPPED, NOTHING IS PROVEN: only root can hide processes from others");
        return;
    }
    let rig = Rig::of_ordinary_user(HASTY).plan(&["alone ignore-term ready trap", "alone ready"]);
    let keeper = rig.home.user().expect("an ordinary user").to_string();
    let script = "mount -t proc -o hidepid=2 proc /proc; test \"$(stat -f -c %T /proc)\" = proc; exec \"$@\"";
    let start = || {
        let mut command = rig.command();
        std::os::unix::process::CommandExt::uid(&mut command, 0);
        let mut outer = rig.home.command("unshare");
        std::os::unix::process::CommandExt::uid(&mut outer, 0);
        std::os::unix::process::CommandExt::gid(&mut outer, 0);
        outer.args(["--mount", "--", "sh", "-e", "-c", script, "sh", "setpriv", "--clear-groups"]);
        outer.args(["--reuid", &keeper, "--regid", &keeper, "--"]);
        outer.arg(command.get_program()).args(command.get_args());
        rig.start_by(outer)
    };
    let mut daemon = start();
    let trap = rig.sprung_trap();
    let worker = pid(&rig.wait_for_state("running"));
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", daemon.pid())).unwrap();
    assert!(mounts.contains("hidepid="), "{mounts}");
    daemon.kill();
    daemon = start();
    assert_eq!(pid(&rig.wait_for_state("running")), worker, "it is adopted");
    // Without its shim, too, the whole tree is found and ended.
    rig.kill(shim_of(worker));
    rig.wait_for("the next worker is ready", |status| status["worker_ready"] == true && status["worker_pid"] != worker);
    let left: Vec<_> = trap.iter().filter(|process| vitals::is_alive(process.pid)).collect();
    assert!(left.is_empty(), "{left:#?}");
    assert_never_two(&rig);
    rig.finish(daemon);
}

#[test]
fn without_control_groups_the_shim_keeps_the_tree_together_and_status_says_so() {
    for user in USERS {
        let rig = user(HASTY).plan(&["alone ignore-term ready trap", "alone ready"]);
        let room = Room::new(&rig, "mount -t tmpfs none /sys/fs/cgroup");
        let daemon = room.start(&rig);
        let trap = rig.sprung_trap();
        let status = room.status(&rig).unwrap();
        assert_eq!(status["containment"], "subreaper");
        let text = String::from_utf8(room.ask(&rig, &["status"])).unwrap();
        assert!(text.contains("\nContainment:    subreaper\n"), "{text}");
        assert!(String::from_utf8(room.ask(&rig, &["restart-worker"])).unwrap().starts_with("Worker started"));
        let left: Vec<_> = trap.iter().filter(|process| vitals::is_alive(process.pid)).collect();
        assert!(left.is_empty(), "{left:#?}");
        assert_never_two(&rig);
        room.finish(&rig, daemon);
    }
}

#[test]
fn without_user_namespaces_all_is_as_ever() {
    for user in USERS {
        let rig = user(HASTY).hostile("alone ready");
        let script = "echo 0 > /proc/sys/user/max_user_namespaces; if unshare --user true; then exit 1; fi";
        let room = Room::with_limits(&rig, script);
        let daemon = room.start(&rig);
        let status = room.wait_for(&rig, "the worker is ready", |status| status["worker_ready"] == true);
        assert_eq!(status["degraded"].to_string(), "[]");
        room.finish(&rig, daemon);
    }
}

#[test]
fn without_pressure_figures_memory_is_read_all_the_same() {
    for user in USERS {
        let rig = user(HASTY).hostile("alone ready");
        let room = Room::new(&rig, "mount -t tmpfs none /proc/pressure; test ! -e /proc/pressure/memory");
        let daemon = room.start(&rig);
        let status = room.wait_for(&rig, "the worker is ready", |status| status["worker_ready"] == true);
        assert!(count(&status, "memory_total_bytes") > count(&status, "memory_available_bytes"));
        assert!(count(&status, "memory_available_bytes") > 0);
        assert_eq!(status["memory_band"], "normal");
        room.finish(&rig, daemon);
    }
}

/// A worker that writes its log, and nothing else, is not taken for a silent one.
#[test]
fn without_inotify_logs_are_found_and_status_says_so() {
    for user in USERS {
        let settings =
            format!("{HASTY}stall_timeout_ms = 1000\nstall_grace_ms = 1\n[memory]\npoll_interval_ms = 100\n");
        let rig = user(&settings);
        let day = rig.home.repository().join("docs/logs/20260101");
        std::fs::create_dir_all(&day).unwrap();
        if let Some(user) = rig.home.user() {
            std::os::unix::fs::chown(&day, Some(user), Some(user)).unwrap();
        }
        let rig = rig.hostile(&format!("alone ready rlog={} rlog_ms=200", day.join("090000-own.rlog").display()));
        let room = Room::with_limits(&rig, "echo 0 > /proc/sys/user/max_inotify_instances");
        let daemon = room.start(&rig);
        room.wait_for(&rig, "it has lived for three stall timeouts", |status| count(status, "uptime_seconds") >= 3);
        room.assert_degraded(&rig, "no inotify: a removed control socket is not made again");
        room.assert_degraded(&rig, "no inotify: the worker's new logs are looked for at every poll");
        assert_eq!(rig.starts(), 1, "{}", daemon.stderr());
        room.finish(&rig, daemon);
    }
}

/// With however few descriptors: it serves, or it says what is wrong.
#[test]
fn with_few_descriptors_it_serves_or_says_what_is_wrong() {
    let mut served = 0;
    // Fewer than 8 are too few to execute a program with.
    for most in [8, 12, 24, 39, 40, 41, 48, 64] {
        let rig = Rig::new(HASTY).hostile("alone ready");
        let mut command = rig.home.command("sh");
        let autopilotd = rig.command();
        command.args(["-c", &format!("ulimit -n {most}; exec \"$@\""), "sh"]);
        command.arg(autopilotd.get_program()).args(autopilotd.get_args());
        let mut daemon = rig.start_by(command);
        if daemon.has_ended() {
            let said = daemon.stderr();
            assert_ne!(daemon.wait_for_code(DEADLINE), 0);
            let last = said.trim_end().lines().rev().take(2).collect::<Vec<_>>();
            let expected = format!("error: 40 open files are needed, and {most} are allowed (ulimit -n)");
            assert_eq!(last, ["hint: ulimit -n 1024, or LimitNOFILE= of its service", &expected], "{most}");
            rig.home.wait_until_nothing_runs(DEADLINE);
            assert_eq!(served, 0, "{most} are too few, though fewer are enough");
            continue;
        }
        served += 1;
        let status = rig.wait_for("it has a worker, or says why not", |status| {
            status["worker_ready"] == true || count(status, "consecutive_failures") > 1
        });
        if status["worker_ready"] != true {
            assert!(status["reason"].to_string().contains("Too many open files"), "{most}: {status:#}");
        }
        let before = vitals::cpu_ticks(daemon.pid());
        rig.home.wait_for_status("a second is over", |status| count(status, "daemon_uptime_seconds") >= 1);
        let ticks = vitals::cpu_ticks(daemon.pid()) - before;
        assert!(ticks < 50, "{most}: it spins: {ticks} ticks in a second");
        rig.finish(daemon);
    }
    assert!(served > 3, "{served} served");
}
