//! Worker binaries from outside: what is copied over, tried, proven, rolled back, and what the operator does about it.
//!
//! The binaries are the hostile worker with a few bytes behind it, which change the hash and not the program; the plan says
//! what each start does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::binaries;
use testkit::home::{DEADLINE, Started};

use crate::rig::{Rig, count};

/// Short delays and times; but who ends at once has not lived long, on a machine that others keep busy, too.
const FAST: &str = "initial_backoff_ms = 10\nmax_backoff_ms = 3000\nsuccess_threshold_ms = 8000\nprobation_ms = 1000\n";
/// A worker that is well.
pub(crate) const WELL: &str = "ready watchdog_ms=20";

pub(crate) fn build(mark: &str) -> Vec<u8> {
    let mut bytes = fs::read(binaries::own("hostile-worker")).unwrap();
    bytes.extend(mark.as_bytes());
    bytes
}

/// As `cp` does it: into the file that is there.
pub(crate) fn copy_over(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A rig whose worker is a proven one at this path, and runs.
pub(crate) fn proven(settings: &str, plan: &[&str]) -> (Rig, PathBuf, Started, String) {
    let lines: Vec<&str> = std::iter::once(WELL).chain(plan.iter().copied()).collect();
    // A setting stands but once.
    let name = |line: &str| line.split(' ').next().unwrap().to_owned();
    let fast: String = FAST.split_inclusive('\n').filter(|line| !settings.contains(&name(line))).collect();
    let mut rig = Rig::new(&format!("{fast}{settings}")).plan(&lines);
    let path = rig.home.user_home().join("worker");
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", &path);
    copy_over(&path, &build("good"));
    let daemon = rig.start();
    let status = rig.wait_for("the first one is proven", |status| status["worker_standing"] == "good");
    let good = status["worker_sha256"].as_str().unwrap().to_owned();
    (rig, path, daemon, good)
}

pub(crate) fn events(rig: &Rig, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(rig.home.path().join("workers/main/journal.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"]["kind"] == kind).collect()
}

pub(crate) fn binaries_of(rig: &Rig) -> Vec<Value> {
    let output = rig.home.autopilotd(["binaries", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A candidate that behaves like this in each of its starts is rolled back within three.
fn is_rolled_back(settings: &str, bad: &str, cause: &str) {
    let (rig, path, daemon, good) = proven(settings, &[bad, bad, bad, WELL]);
    let runs_before = rig.starts();
    copy_over(&path, &build("bad"));
    rig.ask("restart-worker");
    let status = rig.wait_for("the good one is back", |status| {
        status["worker_sha256"] == good.as_str() && status["worker_ready"] == true && status["rolled_back"].is_string()
    });
    assert_eq!(rig.starts() - runs_before, 4, "three starts, and the good one's");
    let told = status["rolled_back"].as_str().unwrap();
    assert!(told.contains("failed 3 times in probation") && told.contains(cause), "{told}");
    assert_eq!(count(&status, "consecutive_failures"), 0, "the good one's own");
    let events = events(&rig, "rolled-back");
    assert_eq!((events.len(), &events[0]["event"]["to"]), (1, &good.clone().into()));
    let bad = binaries_of(&rig).into_iter().find(|binary| binary["sha256"] != good.as_str()).unwrap();
    assert_eq!(bad["state"], "quarantined");

    // The file is still there, and stays away; also when the store is deleted under the daemon.
    rig.ask("restart-worker");
    assert_eq!(rig.status()["worker_sha256"], good.as_str());
    fs::remove_dir_all(rig.home.path().join("bin")).unwrap();
    rig.ask("restart-worker");
    assert_eq!(rig.status()["worker_sha256"], good.as_str());
    let text = rig.home.autopilotd(["status"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("\nRolled back:    autopilot 0.0.0"), "{text:?}");
    rig.finish(daemon);
}

#[test]
fn a_candidate_that_dies_at_once_is_rolled_back() {
    is_rolled_back("", "exit=1 after_ms=0", "exit status 1");
}

#[test]
fn a_candidate_that_crashes_is_rolled_back() {
    is_rolled_back("", "die=11 after_ms=0", "SIGSEGV");
}

#[test]
fn a_candidate_that_exits_with_0_at_once_is_rolled_back() {
    is_rolled_back("", "exit=0 after_ms=0", "exit status 0");
}

/// It lives almost long enough, once for the backoff and once for the probation: 59 s and 9 min, but faster.
#[test]
fn a_candidate_that_dies_just_before_it_would_be_a_success_is_rolled_back() {
    is_rolled_back("", "ready watchdog_ms=20 exit=1 after_ms=150", "exit status 1");
}

#[test]
fn a_candidate_that_dies_just_before_it_would_be_proven_is_rolled_back() {
    // Far apart, for a machine that others keep busy.
    is_rolled_back(
        "probation_ms = 4000\nsuccess_threshold_ms = 500\n",
        "ready watchdog_ms=20 exit=3 after_ms=1500",
        "exit status 3",
    );
}

#[test]
fn a_candidate_that_hangs_silently_is_rolled_back() {
    let stall =
        "stall_timeout_ms = 600\nstall_grace_ms = 10\nmax_stall_kills_per_hour = 1\n[memory]\npoll_interval_ms = 20\n";
    is_rolled_back(stall, "ready", "ended as stalled");
}

#[test]
fn a_script_that_fails_gives_way_to_the_proven_binary() {
    let (rig, path, daemon, good) = proven("", &[WELL]);
    copy_over(&path, b"#!/bin/sh\nexit 1\n");
    rig.ask("restart-worker");
    let status = rig.wait_for("the good one is back", |status| {
        status["worker_sha256"] == good.as_str() && status["worker_ready"] == true && status["rolled_back"].is_string()
    });
    assert!(status["rolled_back"].as_str().unwrap().contains("failed 3 times in probation"), "{status:#}");
    rig.finish(daemon);
}

/// Nothing is proven yet, but the one before was alive.
#[test]
fn a_bad_candidate_gives_way_to_one_that_is_still_in_probation() {
    let bad = "exit=1 after_ms=0";
    let mut rig =
        Rig::new(&FAST.replace("probation_ms = 1000", "probation_ms = 600000")).plan(&[WELL, bad, bad, bad, WELL]);
    let path = rig.home.user_home().join("worker");
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", &path);
    copy_over(&path, &build("first"));
    let daemon = rig.start();
    rig.ready_worker();
    let first = rig.status()["worker_sha256"].clone();
    copy_over(&path, &build("bad"));
    rig.ask("restart-worker");
    let status = rig.wait_for("the first one is back", |status| {
        status["worker_sha256"] == first && status["worker_ready"] == true && status["rolled_back"].is_string()
    });
    assert_eq!((rig.starts(), &status["worker_standing"]), (5, &"candidate".into()));
    rig.finish(daemon);
}

/// The loop waits for nobody's `--version`.
#[test]
fn while_a_binary_is_looked_into_the_daemon_answers_and_can_be_stopped() {
    let mut rig = Rig::new(FAST).hostile(WELL);
    let path = rig.home.user_home().join("worker");
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", &path);
    rig.home.set_env("HOSTILE_VERSION", "after_ms=60000 ignore-term");
    copy_over(&path, &build("silent"));
    let daemon = rig.start();
    let asked = || rig.home.processes().into_iter().any(|process| process.command.ends_with("--version"));
    rig.home.wait_until("it is asked for its version", DEADLINE, || asked().then_some(()));
    assert_eq!(rig.status()["worker_status"], "starting");
    assert_eq!(rig.ask("stop-worker").done(), "Worker stopped");
    rig.home.wait_until("nobody is asked any more", DEADLINE, || (!asked()).then_some(()));
    assert_eq!(rig.status()["worker_status"], "stopped");
    assert_eq!(rig.starts(), 0);
    rig.finish(daemon);
}

/// It never answers to `--version`.
const HANGS: &[u8] = b"#!/bin/sh\n# --version\nexec sleep 60\n";

fn is_asked(rig: &Rig) -> bool {
    rig.home.processes().iter().any(|process| process.command == "sleep 60")
}

/// Nobody has asked for the new file.
#[test]
fn a_worker_that_dies_is_back_while_the_new_file_is_still_looked_into() {
    let (rig, path, daemon, good) = proven("", &[WELL]);
    copy_over(&path, HANGS);
    let first = rig.ready_worker();
    rig.kill(first);
    let status = rig.wait_for("the next one", |status| status["worker_ready"] == true && status["worker_pid"] != first);
    assert!(is_asked(&rig), "it did not wait for the answer");
    assert_eq!(status["worker_sha256"], good.as_str());
    rig.wait_for("it is refused", |status| status["degraded"].to_string().contains("does not answer to --version"));
    assert_eq!(rig.starts(), 2);
    rig.finish(daemon);
    // The next daemon knows the answer.
    let daemon = rig.start();
    let status = rig.wait_for("it runs", |status| status["worker_ready"] == true);
    assert!(status["degraded"].to_string().contains("does not answer to --version"), "{status:#}");
    assert_eq!((events(&rig, "binary-refused").len(), is_asked(&rig)), (1, false));
    rig.finish(daemon);
}

/// The worker works on until it is known what takes its place.
#[test]
fn a_restart_with_a_new_file_looks_first_and_stops_then() {
    let (rig, path, daemon, good) = proven("", &[WELL]);
    copy_over(&path, HANGS);
    let first = rig.ready_worker();
    let mut operator = rig.connect();
    operator.send(&testkit::control::request("restart-worker")).unwrap();
    rig.home.wait_until("it is asked", DEADLINE, || is_asked(&rig).then_some(()));
    assert_eq!(rig.ready_worker(), first);
    let reply = operator.reply(DEADLINE).unwrap();
    assert!(reply.done().starts_with("Worker started"), "{}", reply.done());
    assert_ne!(rig.ready_worker(), first);
    assert_eq!((&rig.status()["worker_sha256"], rig.starts()), (&good.clone().into(), 2));

    // Who says something else meanwhile is heard at once, and both are answered.
    copy_over(&path, &[HANGS, b"\n"].concat());
    operator.send(&testkit::control::request("restart-worker")).unwrap();
    rig.home.wait_until("it is asked again", DEADLINE, || is_asked(&rig).then_some(()));
    assert_eq!(rig.ask("stop-worker").done(), "Worker stopped");
    assert!(operator.reply(DEADLINE).is_some());
    assert_eq!(rig.status()["worker_status"], "stopped");
    rig.finish(daemon);
}

/// With the delays of the default settings: 1 s and 2 s, and then the proven one at once.
#[test]
fn a_candidate_that_dies_at_once_costs_seconds_and_not_minutes() {
    let bad = "exit=1 after_ms=0";
    let mut rig = Rig::new("probation_ms = 400").plan(&[WELL, bad, bad, bad, WELL]);
    let path = rig.home.user_home().join("worker");
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", &path);
    copy_over(&path, &build("good"));
    let daemon = rig.start();
    rig.wait_for("the first one is proven", |status| status["worker_standing"] == "good");
    copy_over(&path, &build("bad"));
    let began = std::time::Instant::now();
    rig.ask("restart-worker");
    rig.wait_for("the good one is back", |status| status["rolled_back"].is_string() && status["worker_ready"] == true);
    let took = began.elapsed();
    assert!(took.as_secs() >= 3 && took.as_secs() < 60, "down for {took:?}");
    rig.finish(daemon);
}

/// Turns, budget, login, the CLI, the API, another worker, an agent that gave up; somebody's kill.
#[test]
fn what_is_not_its_fault_wears_no_candidate_out() {
    let others = ["10", "11", "12", "13", "14", "15", "16", "130", "143"];
    let lines: Vec<String> = others.iter().map(|code| format!("ready exit={code} after_ms=200")).collect();
    let mut plan: Vec<&str> = lines.iter().map(String::as_str).collect();
    plan.extend(["ready die=15 after_ms=200", WELL]);
    let (rig, path, daemon, good) = proven("max_consecutive_restarts = 0\n", &plan);
    copy_over(&path, &build("new"));
    rig.ask("restart-worker");
    let status = rig.wait_for("the new one is proven", |status| {
        status["worker_standing"] == "good" && status["worker_sha256"] != good.as_str()
    });
    assert_eq!(status["rolled_back"], Value::Null);
    assert_eq!(rig.starts(), 12);
    rig.finish(daemon);
}

/// Before it can know anything of the network: it may be the binary, after all.
#[test]
fn a_candidate_that_ends_at_once_and_blames_others_is_set_aside() {
    let (rig, path, daemon, good) =
        proven("", &["exit=14 after_ms=0", "exit=12 after_ms=0", "die=15 after_ms=0", WELL]);
    copy_over(&path, &build("new"));
    rig.ask("restart-worker");
    let status = rig.wait_for("the good one is back", |status| {
        status["worker_sha256"] == good.as_str() && status["worker_ready"] == true && status["rolled_back"].is_string()
    });
    assert!(status["rolled_back"].as_str().unwrap().contains("ended 3 times at once"), "{status:#}");
    let known = binaries_of(&rig);
    assert!(known.iter().any(|binary| binary["state"] == "candidate"), "it is not in quarantine: {known:#?}");
    rig.finish(daemon);
}

/// What is no fit program is never started at all.
#[test]
fn a_candidate_that_is_no_fit_program_is_refused_and_the_proven_one_runs_on() {
    let (mut rig, path, mut daemon, good) = proven("", &[WELL]);
    let whole = build("bad");
    let mut foreign = whole.clone();
    foreign[18..20].copy_from_slice(&[0x16, 0]);
    for (what, bytes, why) in [
        ("garbage", b"\x7fELF garbage".to_vec(), "incomplete"),
        ("not a program", b"just words\n".to_vec(), "not a program"),
        ("another processor's", foreign, "another kind of processor"),
        ("torn", whole[..whole.len() / 2].to_vec(), "incomplete"),
        ("empty", Vec::new(), "empty"),
    ] {
        copy_over(&path, &bytes);
        rig.ask("restart-worker");
        let status = rig.status();
        assert_eq!(status["worker_sha256"], good.as_str(), "{what}");
        let degraded = status["degraded"].to_string();
        assert!(degraded.contains("is not used") && degraded.contains(why), "{what}: {degraded}");
    }
    // Those that can be executed, but answer badly: only the daemon's environment says how.
    for (version, why) in [
        ("after_ms=60000 ignore-term", "does not answer to --version"),
        ("exit=4 after_ms=0", "exit status 4"),
        ("exit=0 after_ms=0", "answers nothing"),
        ("die=11 after_ms=0", "signal 11"),
    ] {
        rig.finish(daemon);
        rig.home.set_env("HOSTILE_VERSION", version);
        copy_over(&path, &build(version));
        daemon = rig.start();
        // It may run before the answer is there.
        let status =
            rig.wait_for(why, |status| status["worker_ready"] == true && status["degraded"].to_string().contains(why));
        assert_eq!(status["worker_sha256"], good.as_str(), "{version}");
    }
    assert_eq!(binaries_of(&rig).len(), 1, "none of them is kept");
    rig.finish(daemon);
}

/// It may be anybody's program: nothing else is there to run.
#[test]
fn a_first_binary_that_does_not_tell_its_version_runs() {
    let mut rig = Rig::new(FAST).plan(&[WELL]);
    let path = rig.home.user_home().join("worker");
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", &path);
    rig.home.set_env("HOSTILE_VERSION", "exit=0 after_ms=0");
    copy_over(&path, &build("only"));
    let daemon = rig.start();
    let status = rig.wait_for("it runs", |status| status["worker_ready"] == true);
    assert_eq!(binaries_of(&rig)[0]["version"], "a program that does not tell its version", "{status:#}");
    rig.finish(daemon);
}

/// Nothing is proven: there is nothing to go back to, and the delays are those of any worker.
#[test]
fn the_first_binary_is_tried_again_and_again() {
    let mut rig = Rig::new(FAST).plan(&[
        "exit=1 after_ms=0",
        "exit=1 after_ms=0",
        "exit=1 after_ms=0",
        "exit=1 after_ms=0",
        "exit=1 after_ms=0",
        WELL,
    ]);
    let path = rig.home.user_home().join("worker");
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", &path);
    copy_over(&path, &build("only"));
    let daemon = rig.start();
    rig.wait_for("it is proven in the end", |status| status["worker_standing"] == "good");
    assert_eq!(rig.starts(), 6);
    rig.finish(daemon);
}

/// The operator's restarts, any number of them, are not held against a candidate; nor are daemons that come and go.
#[test]
fn an_operator_wears_no_candidate_out() {
    let (rig, path, daemon, good) = proven("", &[WELL]);
    copy_over(&path, &build("new"));
    for _ in 0..6 {
        rig.ask("restart-worker");
    }
    rig.finish(daemon);
    let daemon = rig.start();
    let status = rig.wait_for("the new one is proven", |status| {
        status["worker_standing"] == "good" && status["worker_sha256"] != good.as_str()
    });
    assert_eq!(status["rolled_back"], Value::Null);
    assert_eq!(events(&rig, "binary-proven").len(), 2);
    rig.finish(daemon);
}

/// The daemon is killed with its worker and its shim, three times: nobody saw an end, and the attempts were counted before.
#[test]
fn attempts_outlive_daemons_that_are_killed() {
    let (rig, path, mut daemon, good) = proven("", &["ready", WELL]);
    copy_over(&path, &build("new"));
    rig.ask("restart-worker");
    let mut ran = Vec::new();
    for _ in 0..4 {
        let status = rig.wait_for("it is ready", |status| status["worker_ready"] == true);
        ran.push(status["worker_sha256"].as_str().unwrap().to_owned());
        let worker = crate::rig::pid(&status);
        daemon.kill();
        rig.kill_if_alive(crate::rig::shim_of(worker));
        rig.kill_if_alive(worker);
        daemon = rig.start();
    }
    assert!(ran[..3].iter().all(|sha256| *sha256 == ran[0] && *sha256 != good), "{ran:?}");
    assert_eq!(ran[3], good);
    rig.ready_worker();
    rig.finish(daemon);
}

/// `cp` over the binary while the worker is restarted.
#[test]
fn what_runs_is_whole_and_in_the_store_however_often_it_is_copied_over() {
    let mut rig = Rig::new(FAST).hostile("ready");
    let path = rig.home.user_home().join("worker");
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", &path);
    let variants = [build("a"), build("bb")];
    copy_over(&path, &variants[0]);
    let daemon = rig.start();
    rig.ready_worker();
    let enough = std::sync::atomic::AtomicBool::new(false);
    let copies = std::thread::scope(|scope| {
        let copier = scope.spawn(|| {
            let mut copies = 0;
            while !enough.load(std::sync::atomic::Ordering::Relaxed) {
                // An error would be `Text file busy`.
                fs::write(&path, &variants[copies % 2]).unwrap();
                copies += 1;
            }
            copies
        });
        for round in 0..ROUNDS {
            let done = rig.ask("restart-worker");
            assert!(done.done().starts_with("Worker started"), "round {round}");
            let status = rig.status();
            let exe = fs::read_link(format!("/proc/{}/exe", status["worker_pid"])).unwrap();
            let hash = status["worker_sha256"].as_str().unwrap();
            assert_eq!(exe, rig.home.path().join("bin/store").join(hash).join("autopilot"), "round {round}");
        }
        enough.store(true, std::sync::atomic::Ordering::Relaxed);
        copier.join().unwrap()
    });
    assert!(copies > 0);
    // All that ever ran is one of the two.
    let known: Vec<String> = binaries_of(&rig).iter().map(|b| b["size_bytes"].to_string()).collect();
    let sizes: Vec<String> = variants.iter().map(|bytes| bytes.len().to_string()).collect();
    assert!(known.iter().all(|size| sizes.contains(size)), "{known:?}");
    rig.finish(daemon);
}

/// As many as are worth their time here; the soak has more.
const ROUNDS: usize = 500;

#[test]
fn install_and_rollback_reach_a_running_daemon() {
    let (rig, path, daemon, good) = proven("", &[WELL]);
    let newer = rig.home.user_home().join("newer");
    copy_over(&newer, &build("newer"));
    let said = rig.home.autopilotd(["install", newer.to_str().unwrap(), "--restart"]);
    assert!(said.status.success(), "{said:?}");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.starts_with("Installed autopilot 0.0.0 (hostile), copy "), "{text}");
    let status = rig.status();
    let new = status["worker_sha256"].as_str().unwrap().to_owned();
    assert_ne!(new, good);
    assert_eq!(fs::read(&path).unwrap(), build("good"), "the user's file is the user's");

    assert!(rig.home.autopilotd(["rollback"]).status.success());
    rig.ask("restart-worker");
    assert_eq!(rig.status()["worker_sha256"], good.as_str());
    assert!(rig.home.autopilotd(["unquarantine", &new[..10]]).status.success());
    assert!(rig.home.autopilotd(["pin", &good]).status.success());
    rig.ask("restart-worker");
    assert_eq!(rig.status()["worker_sha256"], good.as_str(), "it is pinned");
    assert!(rig.home.autopilotd(["pin", "none"]).status.success());
    rig.ask("restart-worker");
    assert_eq!(rig.status()["worker_sha256"], new.as_str());
    let listed = rig.home.autopilotd(["binaries"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    rig.finish(daemon);
}

/// Its next start would be after the cooldown.
#[test]
fn whoever_mends_a_failed_worker_is_told_how_to_start_it() {
    let (rig, _, daemon, good) = proven("max_consecutive_restarts = 1\n", &["exit=1 after_ms=0"]);
    rig.kill(rig.ready_worker());
    rig.wait_for_state("failed");
    for command in [["pin", &good], ["pin", "none"]] {
        let said = rig.home.autopilotd(command);
        assert!(String::from_utf8_lossy(&said.stderr).contains("autopilotd restart-worker"), "{said:?}");
    }
    rig.finish(daemon);
}

#[test]
fn a_store_that_is_deleted_under_the_daemon_is_made_again() {
    let (rig, _, daemon, good) = proven("", &[WELL]);
    for _ in 0..3 {
        fs::remove_dir_all(rig.home.path().join("bin")).unwrap();
        rig.ask("restart-worker");
        let status = rig.wait_for("it runs", |status| status["worker_ready"] == true);
        assert_eq!(status["worker_sha256"], good.as_str());
    }
    rig.finish(daemon);
}

#[test]
fn two_installs_at_once_leave_a_store_that_is_whole() {
    let rig = Rig::new(FAST).hostile(WELL);
    let files: Vec<PathBuf> = (0..4).map(|n| rig.home.user_home().join(format!("build-{n}"))).collect();
    for (n, file) in files.iter().enumerate() {
        // The last two are the same.
        copy_over(file, &build(&"x".repeat(n.min(2))));
    }
    let installs: Vec<Started> = files
        .iter()
        .map(|file| {
            let mut command = rig.home.autopilotd_command();
            command.arg("install").arg(file);
            rig.home.start("install", command)
        })
        .collect();
    for install in installs {
        let output = install.into_output(DEADLINE);
        assert!(output.status.success(), "{output:?}");
    }
    let known = binaries_of(&rig);
    assert_eq!(known.len(), 3);
    assert_eq!(known.iter().filter(|binary| binary["current"] == true).count(), 1);
    for binary in known {
        let copy = rig.home.path().join("bin/store").join(binary["sha256"].as_str().unwrap()).join("autopilot");
        assert_eq!(fs::metadata(copy).unwrap().len(), binary["size_bytes"].as_u64().unwrap());
    }
}
