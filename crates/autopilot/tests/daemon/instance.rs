//! One daemon for each home, and the home for its owner only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use testkit::control::{Control, request};
use testkit::home::{DEADLINE, Started, is_root};
use testkit::vitals;

use crate::rig::Rig;

#[test]
fn of_twelve_daemons_one_serves() {
    let rig = Rig::new("").hostile("ready");
    for round in 0..4 {
        let mut all: Vec<Started> = (0..12).map(|_| rig.home.start("daemon", rig.command())).collect();
        let mut ended = Vec::new();
        rig.home.wait_until("eleven have ended", DEADLINE, || {
            let (over, running): (Vec<_>, Vec<_>) = all.drain(..).partition_mut(Started::has_ended);
            ended.extend(over);
            all = running;
            assert!(!all.is_empty(), "none is left in round {round}");
            (all.len() == 1).then_some(())
        });
        for loser in &mut ended {
            assert_eq!(loser.wait_for_code(DEADLINE), 4);
            let stderr = loser.stderr();
            assert!(stderr.starts_with("error: autopilotd already runs for this home (pid "), "{stderr}");
            assert!(stderr.ends_with("hint: `autopilotd status` shows it; `autopilotd stop` ends it\n"), "{stderr}");
        }
        let daemon = all.pop().unwrap();
        rig.ready_worker();
        assert_eq!(rig.status()["daemon_pid"], daemon.pid());
        assert_eq!(pid_file(&rig), format!("{}\n", daemon.pid()));
        assert_eq!(rig.starts(), round + 1);
        rig.finish(daemon);
    }
}

/// `Iterator::partition` over values that have to be asked by `&mut`.
trait PartitionMut<T> {
    fn partition_mut(self, is_first: fn(&mut T) -> bool) -> (Vec<T>, Vec<T>);
}

impl<T, I: Iterator<Item = T>> PartitionMut<T> for I {
    fn partition_mut(self, is_first: fn(&mut T) -> bool) -> (Vec<T>, Vec<T>) {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for mut item in self {
            if is_first(&mut item) { first.push(item) } else { second.push(item) }
        }
        (first, second)
    }
}

fn pid_file(rig: &Rig) -> String {
    fs::read_to_string(rig.home.path().join("autopilotd.pid")).unwrap_or_default()
}

#[test]
fn a_second_daemon_is_told_about_the_first() {
    let rig = Rig::new("").hostile("ready");
    let daemon = rig.start();
    let output = rig.home.start("second", rig.command()).into_output(DEADLINE);
    assert_eq!(output.status.code(), Some(4));
    let expected = format!(
        "error: autopilotd already runs for this home (pid {}, up 0 s)\n\
         hint: `autopilotd status` shows it; `autopilotd stop` ends it\n",
        daemon.pid()
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    let up = |text: &str| text.split_once(", up ").map(|(before, rest)| (before.to_owned(), rest.len()));
    assert_eq!(up(&stderr), up(&expected), "{stderr}");
    assert_eq!(pid_file(&rig), format!("{}\n", daemon.pid()));
    rig.finish(daemon);
}

/// Nobody waits for the death of the one that was killed: it may still hold its lock.
#[test]
fn a_daemon_that_was_just_killed_is_followed_at_once() {
    let rig = Rig::new("").hostile("ready");
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    for _ in 0..10 {
        assert!(rig.home.command("kill").args(["-9", &daemon.pid().to_string()]).status().unwrap().success());
        let next = rig.start();
        daemon.wait(DEADLINE);
        daemon = next;
        assert_eq!(rig.status()["worker_pid"], worker);
    }
    rig.finish(daemon);
}

#[test]
fn foreign_things_among_the_runs_stop_nothing() {
    let rig = Rig::new("").hostile("ready");
    let runs = rig.home.path().join("workers/main/runs");
    fs::create_dir_all(runs.join("18446744073709551615")).unwrap();
    fs::write(runs.join("7"), "").unwrap();
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    daemon.kill();
    // A reader of a pipe waits for a writer.
    fs::remove_file(runs.join("1/seen")).ok();
    assert!(rig.home.command("mkfifo").arg(runs.join("1/seen")).status().unwrap().success());
    let daemon = rig.start();
    assert_eq!(rig.status()["worker_pid"], worker);
    rig.finish(daemon);
}

#[test]
fn a_stale_pid_file_that_names_a_stranger_is_no_obstacle() {
    let rig = Rig::new("").hostile("ready");
    let mut stranger = rig.home.start_autopilot(["--version"]);
    assert_eq!(stranger.wait_for_code(DEADLINE), 0);
    let mut stranger = rig.home.start("stranger", {
        let mut command = rig.home.command(testkit::binaries::own("hostile-worker"));
        command.args(["--hostile", "ignore-term"]);
        command
    });
    fs::create_dir(rig.home.path()).unwrap();
    for content in [format!("{}\n", stranger.pid()), "1\n".to_owned(), "nonsense".to_owned(), String::new()] {
        fs::write(rig.home.path().join("autopilotd.pid"), content).unwrap();
        let daemon = rig.start();
        assert_eq!(rig.status()["daemon_pid"], daemon.pid());
        assert_eq!(pid_file(&rig), format!("{}\n", daemon.pid()));
        rig.ask("stop");
    }
    assert!(!stranger.has_ended());
    stranger.kill();
}

#[test]
fn a_stale_socket_file_is_no_obstacle() {
    let rig = Rig::new("").hostile("ready");
    fs::create_dir_all(rig.home.path().join("workers/main")).unwrap();
    let notify = rig.home.path().join("workers/main/notify.sock");
    drop(UnixListener::bind(rig.home.socket()).unwrap());
    drop(UnixListener::bind(&notify).unwrap());
    assert!(rig.home.socket().exists() && notify.exists());
    let daemon = rig.start();
    rig.ready_worker();
    rig.finish(daemon);
    fs::write(rig.home.socket(), "a file").unwrap();
    let daemon = rig.start();
    rig.ready_worker();
    rig.finish(daemon);
}

#[test]
fn a_removed_socket_is_made_again() {
    let rig = Rig::new("").hostile("ready");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    for _ in 0..3 {
        fs::remove_file(rig.home.socket()).unwrap();
        rig.home.wait_until("status answers again", DEADLINE, || {
            Control::connect(&rig.home.socket()).is_ok().then_some(())
        });
        assert_eq!(rig.status()["worker_pid"], worker);
        assert_eq!(mode(&rig.home.socket()), 0o600);
    }
    fs::rename(rig.home.socket(), rig.home.path().join("elsewhere")).unwrap();
    rig.home
        .wait_until("status answers again", DEADLINE, || Control::connect(&rig.home.socket()).is_ok().then_some(()));
    rig.finish(daemon);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Everything below the home that others may touch in any way; programs may be executed by nobody else either.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if mode(&path) & 0o077 != 0 {
            found.push(format!("{:o} {}", mode(&path), path.display()));
        }
        if path.is_dir() {
            found.extend(open_to_others(&path));
        }
    }
    found
}

/// Whatever the umask is.
#[test]
fn the_home_is_its_owners_alone() {
    for umask in ["000", "022", "077"] {
        let rig = Rig::new("").hostile("ready spew=1000");
        let mut command = rig.home.command("sh");
        let autopilotd = rig.command();
        command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        command.arg(autopilotd.get_program()).args(autopilotd.get_args());
        let daemon = rig.start_by(command);
        rig.ready_worker();
        assert_eq!(mode(&rig.home.path()), 0o700, "umask {umask}");
        for file in ["autopilotd.sock", "autopilotd.pid", "autopilotd.lock", "workers/main/output.log"] {
            assert_eq!(mode(&rig.home.path().join(file)), 0o600, "{file}, umask {umask}");
        }
        assert_eq!(open_to_others(&rig.home.path().join("workers")), [""; 0], "umask {umask}");
        rig.finish(daemon);
    }
}

#[test]
fn a_home_that_others_can_enter_is_closed() {
    for before in [0o755, 0o777, 0o770] {
        let rig = Rig::new("").hostile("ready");
        fs::create_dir(rig.home.path()).unwrap();
        fs::set_permissions(rig.home.path(), fs::Permissions::from_mode(before)).unwrap();
        let daemon = rig.start();
        assert_eq!(mode(&rig.home.path()), 0o700);
        rig.finish(daemon);
    }
}

#[test]
fn the_mode_of_a_folder_that_has_other_files_is_left_alone() {
    for (before, file) in [(0o1777, None), (0o755, Some("notes.txt"))] {
        let rig = Rig::new("").hostile("ready");
        fs::create_dir(rig.home.path()).unwrap();
        file.map(|name| fs::write(rig.home.path().join(name), "mine"));
        fs::set_permissions(rig.home.path(), fs::Permissions::from_mode(before)).unwrap();
        for _ in 0..2 {
            let daemon = rig.start();
            assert_eq!(mode(&rig.home.path()), before & 0o777);
            let degraded = rig.status()["degraded"].to_string();
            assert!(degraded.contains("is left as it is"), "{degraded}");
            fs::set_permissions(rig.home.path(), fs::Permissions::from_mode(0o700)).unwrap();
            assert_eq!(rig.status()["degraded"], serde_json::json!([]), "it is private now");
            fs::set_permissions(rig.home.path(), fs::Permissions::from_mode(before)).unwrap();
            rig.finish(daemon);
        }
    }
}

/// The folder keeps others out. As root the test opens it, and the daemon still serves nobody but its owner and root.
#[test]
fn another_user_is_refused() {
    const SOMEBODY: u32 = 65_533;
    let rig = Rig::of_ordinary_user("").hostile("ready");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    assert_eq!((mode(&rig.home.path()), mode(&rig.home.socket())), (0o700, 0o600));
    if is_root() {
        let run = |user: u32, command: &str| {
            let mut command_line = rig.home.autopilotd_command();
            std::os::unix::process::CommandExt::uid(&mut command_line, user);
            command_line.arg(command);
            rig.home.start("client", command_line).into_output(DEADLINE)
        };
        let output = run(SOMEBODY, "status");
        assert_eq!(output.status.code(), Some(3));
        let root = rig.home.user_home().parent().unwrap().to_owned();
        for (path, mode) in [(root, 0o755), (rig.home.path(), 0o755), (rig.home.socket(), 0o666)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        for command in ["status", "restart-worker", "stop-worker", "stop"] {
            let output = run(SOMEBODY, command);
            assert_eq!(output.status.code(), Some(6), "{command}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "error: this daemon belongs to another user\n");
            assert_eq!(output.stdout, b"");
        }
    }
    // Root may, and the owner.
    let status = rig.status();
    assert_eq!((&status["worker_pid"], &status["worker_status"]), (&worker.into(), &"running".into()));
    let output = rig.home.autopilotd(["status"]);
    assert_eq!(output.status.code(), Some(0));
    rig.finish(daemon);
}

/// Killed at any moment, the one in which it has just forked a shim included: the next daemon starts all the same.
#[test]
fn a_daemon_that_was_just_killed_is_not_in_the_way() {
    let rig = Rig::new("initial_backoff_ms = 0\nmax_consecutive_restarts = 0\nmax_restarts_per_hour = 0")
        .hostile("exit=1 after_ms=0");
    for round in 0..30 {
        let mut daemon = rig.start();
        assert!(!daemon.has_ended(), "round {round}: {}", daemon.stderr());
        daemon.kill();
    }
    rig.finish(rig.start());
}

/// The same on purpose: the lock is held, for a moment, by somebody who is no daemon.
#[test]
fn a_lock_that_is_about_to_be_free_is_waited_for() {
    let rig = Rig::new("").hostile("ready");
    rig.start().kill();
    let held = format!("flock {} sh -c 'echo held; sleep 0.3'", rig.home.path().join("autopilotd.lock").display());
    let mut command = rig.home.command("sh");
    command.args(["-c", &held]);
    let mut holder = rig.home.start("holder", command);
    rig.home.wait_until("the lock is held", DEADLINE, || (holder.stdout() == "held\n").then_some(()));
    let daemon = rig.start();
    assert_eq!(rig.status()["daemon_pid"], daemon.pid());
    assert_eq!(holder.wait_for_code(DEADLINE), 0);
    rig.finish(daemon);
}

/// A daemon that was killed leaves its lock file, but not the lock.
#[test]
fn a_lock_left_by_a_dead_daemon_is_free() {
    let rig = Rig::new("").hostile("ready");
    for _ in 0..5 {
        let mut daemon = rig.start();
        daemon.kill();
    }
    let daemon = rig.start();
    assert!(vitals::is_alive(daemon.pid()));
    rig.home.wait_until("the worker runs", DEADLINE, || (rig.starts() > 0).then_some(()));
    assert_eq!((rig.starts(), rig.run_processes().len()), (1, 1));
    let mut control = rig.connect();
    control.send(&request("status")).unwrap();
    assert!(control.reply(DEADLINE).is_some());
    rig.finish(daemon);
}

/// `kill -9` of a daemon and the next one's start in one breath: the pid of the one that dies is there a moment longer.
#[test]
fn a_dying_daemon_is_waited_for() {
    let rig = Rig::new("").hostile("ready");
    let mut command = rig.home.command("sh");
    let autopilotd = rig.command();
    let script = "\"$@\" & first=$!; while ! test -S \"$AUTOPILOT_HOME/autopilotd.sock\"; do sleep 0.01; done; \
                  kill -9 $first; exec \"$@\"";
    command.env("AUTOPILOT_HOME", rig.home.path());
    command.args(["-c", script, "sh"]).arg(autopilotd.get_program()).args(autopilotd.get_args());
    let mut daemon = rig.start_by(command);
    assert!(!daemon.has_ended(), "{}", daemon.stderr());
    rig.ready_worker();
    rig.finish(daemon);
}

/// Somebody removes the lock of a daemon that lives: the next one is told about it all the same.
#[test]
fn a_removed_lock_lets_no_second_daemon_in() {
    let rig = Rig::new("").hostile("ready");
    let daemon = rig.start();
    let lock = rig.home.path().join("autopilotd.lock");
    for _ in 0..2 {
        fs::remove_file(&lock).unwrap();
        let output = rig.home.start("second", rig.command()).into_output(DEADLINE);
        assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
        let is_held = || os::tree::lock_holders(&lock).is_ok_and(|holders| !holders.is_empty());
        rig.home.wait_until("it is held again", DEADLINE, || is_held().then_some(()));
    }
    assert_eq!(rig.status()["daemon_pid"], daemon.pid());
    let held = rig.home.command("flock").arg("-n").arg(&lock).arg("true").status().unwrap();
    assert!(!held.success(), "the daemon holds it again");
    rig.finish(daemon);
}
