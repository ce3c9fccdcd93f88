//! One daemon after another: in place, by a plain stop and start, and by kill -9. The worker does not notice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use testkit::control::{Control, request};
use testkit::home::{DEADLINE, Signal};
use testkit::{floor, vitals};

use crate::rig::{Rig, count, pid, shim_of, write_program};

fn upgrade(rig: &Rig, program: &Path) -> Output {
    rig.home.autopilotd([Path::new("upgrade"), program])
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks again and again, each time by a new connection, until told to end; the longest time between two answers, and how
/// many there were. Every question must be answered.
fn longest_silence(socket: PathBuf, until: &std::sync::atomic::AtomicBool) -> (Duration, usize) {
    let (mut longest, mut answers, mut last) = (Duration::ZERO, 0, Instant::now());
    while !until.load(std::sync::atomic::Ordering::SeqCst) {
        let mut control = Control::connect(&socket).expect("the socket is never away");
        control.send(&request("status")).expect("send a request");
        assert!(control.reply(DEADLINE).is_some(), "a question without an answer");
        longest = longest.max(last.elapsed());
        last = Instant::now();
        answers += 1;
    }
    (longest, answers)
}

/// The promise: 50 rounds, the same worker, the same counters, the socket away for less than 100 ms (median).
#[test]
fn fifty_upgrades_of_a_daemon_with_a_live_worker() {
    const ROUNDS: usize = 50;
    let rig = Rig::new("initial_backoff_ms = 0").plan(&["exit=3 after_ms=0", "ready phase=tool watchdog_ms=20"]);
    let mut daemon = rig.start();
    let worker = pid(&rig.wait_for("ready", |status| status["worker_ready"] == true && status["run"] == 2));
    let before = rig.status();
    let open_before = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let other = rig.home.own_copy(&rig.home.binaries().autopilotd);
    let programs = [other, rig.home.binaries().autopilotd.clone()];
    let mut away: Vec<Duration> = Vec::new();
    for round in 0..ROUNDS {
        let program = &programs[round % 2];
        let ended = std::sync::atomic::AtomicBool::new(false);
        let socket = rig.home.socket();
        let (output, silence) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| longest_silence(socket, &ended));
            let output = upgrade(&rig, program);
            ended.store(true, std::sync::atomic::Ordering::SeqCst);
            (output, asking.join().expect("every question was answered"))
        });
        let expected = format!("Daemon upgraded from 0.1.0 to 0.1.0; the worker (PID {worker}) goes on\n");
        assert_eq!((said(&output.stdout), said(&output.stderr)), (expected, String::new()));
        assert_eq!(fs::read_link(format!("/proc/{}/exe", daemon.pid())).unwrap(), *program);
        let after = rig.status();
        for member in [
            "worker_status",
            "worker_pid",
            "worker_ready",
            "worker_phase",
            "total_restarts",
            "consecutive_failures",
            "last_exits",
            "run",
            "reason",
            "daemon_pid",
            "worker_binary",
            "containment",
        ] {
            assert_eq!(after[member], before[member], "round {round}: {member}");
        }
        away.push(silence.0);
    }
    assert!(!daemon.has_ended() && vitals::is_alive(worker) && rig.starts() == 2);
    away.sort_unstable();
    let (median, worst) = (away[ROUNDS / 2], away[ROUNDS - 1]);
    println!("measured: {ROUNDS} upgrades; longest time without an answer: median {median:?}, worst {worst:?}");
    // The promise, and what the machine is slower just now.
    let bound = Duration::from_millis(100) + 20 * floor::quantile(&floor::true_runs(9), 0.5);
    assert!(median <= bound, "median {median:?}, allowed {bound:?}: {away:?}");

    // It is still its shims' parent: the worker's end is seen, and nothing is left unreaped.
    let shim = shim_of(worker);
    assert_eq!(vitals::parent(shim), Some(daemon.pid()));
    rig.kill(worker);
    rig.wait_for("the next worker", |status| status["worker_ready"] == true && status["worker_pid"] != worker);
    rig.home.wait_until("the shim is reaped", DEADLINE, || vitals::state(shim).is_none().then_some(()));
    // A few more may be of something that is just being ended.
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    assert!(open <= open_before + 3, "{open} descriptors are open, {open_before} were");
    rig.finish(daemon);
}

/// A command that is on its way is carried out and answered: before, after, or on a connection that was there before.
#[test]
fn commands_that_come_meanwhile_are_answered() {
    let rig = Rig::new("").hostile("ready");
    let daemon = rig.start();
    rig.ready_worker();
    let mut early = rig.connect();
    assert!(early.ask("status", DEADLINE).value["status"].is_object());
    let mut restart = rig.connect();
    restart.send(&request("restart-worker")).unwrap();
    let output = upgrade(&rig, &rig.home.binaries().autopilotd);
    assert!(output.status.success(), "{}", said(&output.stderr));
    assert!(restart.reply(DEADLINE).is_some_and(|reply| reply.done().starts_with("Worker started")));
    assert_eq!(early.ask("stop-worker", DEADLINE).done(), "Worker stopped");
    assert_eq!(rig.status()["worker_status"], "stopped");
    let output = upgrade(&rig, &rig.home.binaries().autopilotd);
    assert_eq!(said(&output.stdout), "Daemon upgraded from 0.1.0 to 0.1.0\n");
    assert_eq!(rig.status()["worker_status"], "stopped");
    rig.finish(daemon);
}

/// What is no better autopilotd is found out before anything happens.
#[test]
fn a_bad_program_is_refused_beforehand() {
    let rig = Rig::new("").hostile("ready");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    let folder = rig.home.temporary();
    let script = |name: &str, text: &str| {
        write_program(&folder.join(name), &format!("#!/bin/sh\n{text}\n"));
        folder.join(name)
    };
    let plain = folder.join("plain");
    fs::write(&plain, "x").unwrap();
    let broken = folder.join("broken");
    fs::copy(&rig.home.binaries().autopilotd, &broken).unwrap();
    fs::File::options().write(true).open(&broken).unwrap().set_len(5_000).unwrap();
    let version = "case $1 in --version) echo autopilotd 9.9.9; exit;; esac";
    for (program, why) in [
        (folder.join("missing"), "No such file or directory"),
        (folder.clone(), "it is no file"),
        (plain, "it is not executable"),
        (script("other", "echo something else"), "it is no autopilotd: to --version it answers \"something else\""),
        (script("silent", ""), "it is no autopilotd: to --version it answers \"(nothing; exit status 0)\""),
        (script("slow", "exec sleep 60"), "it does not answer within 5 s"),
        (
            script("old", &format!("{version}; echo error: a daemon already runs >&2; exit 4")),
            "it would not serve: error: a",
        ),
        (
            script("picky", &format!("{version}; echo 'error: unknown key' >&2; exit 5")),
            "not serve: error: unknown key",
        ),
        (script("crashes", &format!("{version}; kill -9 $$")), "it would not serve: (nothing; killed by signal 9)"),
        (broken, ""),
        (rig.home.path().join("missing"), "No such file or directory"),
        (rig.home.autopilot_path().to_owned(), "it is no autopilotd: to --version it answers \"autopilot 0."),
    ] {
        let output = upgrade(&rig, &program);
        let stderr = said(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{program:?}: {stderr}");
        assert!(stderr.starts_with(&format!("error: cannot upgrade to {}: ", program.display())), "{stderr}");
        assert!(stderr.contains("\nhint: "), "{stderr}");
        assert!(stderr.contains(why), "{program:?}: {stderr}");
        let status = rig.status();
        assert_eq!((pid(&status), &status["daemon_pid"]), (worker, &daemon.pid().into()));
    }
    // Its settings are those of the daemon, as they are now.
    fs::write(rig.config(), "nonsense = 1\n").unwrap();
    let output = upgrade(&rig, &rig.home.binaries().autopilotd);
    assert!(said(&output.stderr).contains("it would not serve: error: "), "{}", said(&output.stderr));
    fs::write(rig.config(), "").unwrap();
    rig.finish(daemon);
}

/// It answered well, and then it can't serve: the daemon that was there goes on.
#[test]
fn a_program_that_can_t_serve_gives_way_to_the_old_one() {
    let rig = Rig::new("").hostile("ready phase=tool");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    let real = rig.home.binaries().autopilotd.clone();
    let text = format!(
        "#!/bin/sh\ntest -n \"$AUTOPILOTD_HANDOVER\" && set -- \"$@\" --no-such-option\nexec {} \"$@\"\n",
        real.display()
    );
    let program = rig.home.temporary().join("turncoat");
    write_program(&program, &text);
    for _ in 0..3 {
        let output = upgrade(&rig, &program);
        let stderr = said(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{stderr}");
        assert!(
            stderr.starts_with("error: the new program can't serve, and the old one goes on: error: unexp"),
            "{stderr}"
        );
        let status = rig.status();
        assert_eq!((pid(&status), &status["daemon_pid"]), (worker, &daemon.pid().into()));
        assert_eq!(status["worker_phase"], "tool");
        assert_eq!(fs::read_to_string(format!("/proc/{}/comm", daemon.pid())).unwrap(), "autopilotd\n");
    }
    // Removed after it was tried: it can't even be executed.
    let mut control = rig.connect();
    control.send(b"{\"v\":1,\"verb\":\"upgrade\",\"program\":\"/nonexistent/autopilotd\"}\n").unwrap();
    let reply = control.reply(DEADLINE).unwrap();
    assert!(reply.failed().starts_with("cannot execute /nonexistent/autopilotd: "), "{reply:?}");
    for program in ["\"relative\"", "null", "\"\""] {
        let mut control = rig.connect();
        control.send(format!("{{\"v\":1,\"verb\":\"upgrade\",\"program\":{program}}}\n").as_bytes()).unwrap();
        assert_eq!(control.reply(DEADLINE).unwrap().failed(), "the program's path must be absolute");
    }
    assert_eq!(pid(&rig.status()), worker);
    let output = upgrade(&rig, &real);
    assert!(output.status.success(), "a good one works all the same: {}", said(&output.stderr));
    rig.finish(daemon);
}

/// It answered well, and then it dies before it serves: the old program comes back, as a daemon that finds a worker.
#[test]
fn a_program_that_dies_is_followed_by_the_old_one() {
    let rig = Rig::new("").hostile("ready phase=tool");
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    let real = rig.home.binaries().autopilotd.clone();
    let program = rig.home.temporary().join("short-lived");
    let text = format!("#!/bin/sh\ntest -n \"$AUTOPILOTD_HANDOVER\" && kill -9 $$\nexec {} \"$@\"\n", real.display());
    write_program(&program, &text);
    let output = upgrade(&rig, &program);
    assert!(!output.status.success(), "{}", said(&output.stdout));
    assert!(said(&output.stderr).contains(" ended without an answer"), "{}", said(&output.stderr));
    daemon.wait(DEADLINE);
    let next = rig.home.wait_until("the old program serves", DEADLINE, || rig.serving_daemon());
    let status = rig.status();
    assert_eq!((pid(&status), &status["worker_phase"], count(&status, "total_restarts")), (worker, &"tool".into(), 0));
    assert_ne!(next, daemon.pid());
    assert_eq!(fs::read_link(format!("/proc/{next}/exe")).unwrap(), real);
    rig.home.wait_until("nobody stands guard any more", DEADLINE, || (rig.home.processes().len() == 3).then_some(()));
    assert_eq!(rig.ask("stop").done(), "Daemon stopped");
    rig.home.wait_until_nothing_runs(DEADLINE);
}

/// The plain way: the daemon ends, the worker and its output go on, the next daemon takes over.
#[test]
fn stop_keep_worker_ends_the_daemon_only() {
    for (settings, words) in [("", "ready phase=tool watchdog_ms=20"), ("containment = \"group\"", "ready phase=tool")]
    {
        let rig = Rig::new("").hostile(words);
        let config = fs::read_to_string(rig.config()).unwrap();
        fs::write(rig.config(), format!("{settings}\n{config}")).unwrap();
        let mut daemon = rig.start();
        let worker = rig.ready_worker();
        let before = rig.status();
        for _ in 0..5 {
            let output = rig.home.autopilotd(["stop", "--keep-worker"]);
            assert_eq!(said(&output.stdout), format!("Daemon stopped; the worker (PID {worker}) goes on\n"));
            assert_eq!(daemon.wait_for_code(DEADLINE), 0);
            for file in ["autopilotd.sock", "autopilotd.pid", "workers/main/notify.sock"] {
                assert!(!rig.home.path().join(file).exists(), "{file}");
            }
            let output = rig.home.autopilotd(["status"]);
            assert_eq!(output.status.code(), Some(3));
            assert!(vitals::is_alive(worker) && vitals::is_alive(shim_of(worker)));
            daemon = rig.start();
            let after = rig.status();
            for member in ["worker_pid", "worker_ready", "worker_phase", "worker_status", "total_restarts", "run"] {
                assert_eq!(after[member], before[member], "{member}");
            }
            assert!(count(&after, "uptime_seconds") >= count(&before, "uptime_seconds"));
        }
        assert_eq!(rig.starts(), 1);
        rig.finish(daemon);
    }
}

/// The worker's output is drained by its shim, whoever is the daemon, and also when nobody is.
#[test]
fn output_goes_on_without_a_daemon() {
    let rig = Rig::new("").script("while :; do echo \"line $((n += 1)) ....................................\"; done");
    let mut daemon = rig.start();
    rig.wait_for_state("running");
    assert!(rig.ask("stop-keep-worker").done().starts_with("Daemon stopped; the worker"));
    assert_eq!(daemon.wait_for_code(DEADLINE), 0);
    let log = rig.home.path().join("workers/main/output.log");
    let size = || fs::metadata(&log).map_or(0, |meta| meta.len());
    let before = size();
    rig.home.wait_until("more than a pipe holds is drained", DEADLINE, || (size() > before + 200_000).then_some(()));
    rig.finish(rig.start());
}

/// Where no worker runs, or none yet: what the daemon waited for, the next one waits for.
#[test]
fn a_daemon_without_a_worker_hands_over_its_wait() {
    let rig = Rig::new("initial_backoff_ms = 60000").hostile("exit=3 after_ms=0");
    let mut daemon = rig.start();
    let before = rig.wait_for_state("restarting");
    let output = upgrade(&rig, &rig.home.binaries().autopilotd);
    assert!(output.status.success(), "{}", said(&output.stderr));
    let after = rig.status();
    assert_eq!((&after["worker_status"], &after["reason"]), (&before["worker_status"], &before["reason"]));
    assert!(after["next_attempt_in_ms"].as_u64() <= before["next_attempt_in_ms"].as_u64());
    assert_eq!(rig.ask("stop-keep-worker").done(), "Daemon stopped; no worker runs");
    assert_eq!(daemon.wait_for_code(DEADLINE), 0);
    let daemon = rig.start();
    assert_eq!((rig.status()["worker_status"].as_str(), rig.starts()), (Some("restarting"), 1));
    rig.finish(daemon);
}

/// A daemon that is asked twice, or that is about to end, says so.
#[test]
fn what_can_t_be_handed_over_is_refused() {
    let rig = Rig::new("stop_timeout_ms = 2000").hostile("ready ignore-term");
    let mut daemon = rig.start();
    rig.ready_worker();
    let (mut first, mut second, mut third) = (rig.connect(), rig.connect(), rig.connect());
    first.send(&request("restart-worker")).unwrap();
    rig.wait_for_state("stopping");
    second.send(&request("stop-keep-worker")).unwrap();
    third.send(&request("stop-keep-worker")).unwrap();
    assert_eq!(third.reply(DEADLINE).unwrap().failed(), "another upgrade or stop is on its way");
    assert!(first.reply(DEADLINE).unwrap().done().starts_with("Worker started"), "it is waited for");
    assert!(second.reply(DEADLINE).unwrap().done().starts_with("Daemon stopped; the worker"));
    assert_eq!(daemon.wait_for_code(DEADLINE), 0);
    let mut daemon = rig.start();
    let (mut first, mut second) = (rig.connect(), rig.connect());
    first.send(&request("stop")).unwrap();
    rig.wait_for_state("stopping");
    assert_eq!(second.ask("stop-keep-worker", DEADLINE).failed(), "the daemon is about to end");
    assert_eq!(first.reply(DEADLINE).unwrap().done(), "Daemon stopped");
    assert_eq!(daemon.wait_for_code(DEADLINE), 0);
}

/// A child that inherits the variable by mistake is no heir, and the daemon's own worker never sees it.
#[test]
fn a_handover_is_for_one_process_only() {
    let mut rig = Rig::new("").hostile("ready");
    rig.home.set_env("AUTOPILOTD_HANDOVER", "{\"v\":1,\"pid\":1,\"lock\":0,\"control\":1,\"notify\":2}");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    assert_eq!(vitals::environment(worker, "AUTOPILOTD_HANDOVER"), None);
    let output = rig.home.start("second", rig.command()).into_output(DEADLINE);
    assert_eq!(output.status.code(), Some(4));
    let output = upgrade(&rig, &rig.home.binaries().autopilotd);
    assert!(output.status.success(), "{}", said(&output.stderr));
    rig.ask("restart-worker");
    assert_eq!(vitals::environment(rig.ready_worker(), "AUTOPILOTD_HANDOVER"), None);
    daemon.signal(Signal::HUP);
    rig.finish(daemon);
}
