//! Who is ended as stalled, and who is left alone: with real processes, as root and as an ordinary user.
//!
//! All workers of a test run side by side, each under a daemon of its own: what is waited for is the same time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use testkit::home::{DEADLINE, Signal, Started};
use testkit::vitals;

use crate::measured;
use crate::rig::{Rig, count, last_exit, pid};

const TIMEOUT_MS: u64 = 1_500;
/// The last look before the window closes may be a quarter of the timeout ago; the rest is for a busy machine.
const MARGIN_MS: u64 = TIMEOUT_MS / 4 + 1_000;

fn settings() -> String {
    format!(
        "stall_timeout_ms = {TIMEOUT_MS}\nstall_grace_ms = 0\ninitial_backoff_ms = 600000\nmax_backoff_ms = 600000\n\
         stop_timeout_ms = 200\n[memory]\npoll_interval_ms = 200\nmin_available_bytes = 0\ncritical_threshold_bytes = 0"
    )
}

type Build = fn(&str) -> Rig;

fn script(build: Build, lines: &str) -> Rig {
    build(&settings()).script(lines)
}

fn hostile(build: Build, words: &str) -> Rig {
    build(&settings()).hostile(words)
}

/// What is alive, however little it says.
fn healthy(build: Build) -> Vec<(&'static str, Rig)> {
    let log = "mkdir -p docs/logs/20260101; log=docs/logs/20260101/090000-a.rlog\n";
    let grow = "line=\"${line}x\"; echo \"wrote a file named $line\" >> $log; sleep 0.2";
    vec![
        ("a silent tool that computes", script(build, "sh -c 'while :; do :; done' & wait")),
        (
            "a silent tool that reads",
            script(build, "sh -c 'while :; do head -c 4000000 /dev/zero > /dev/null; sleep 0.5; done' & wait"),
        ),
        (
            "one that says the same while its tool computes",
            script(
                build,
                "sh -c 'while :; do :; done' &\nwhile :; do echo still building, please wait; sleep 0.3; done",
            ),
        ),
        (
            "a silent build of short children",
            script(build, "while :; do awk 'BEGIN { for (i = 0; i < 600000; i++); }'; sleep 0.03; done"),
        ),
        (
            "a log that says much the same",
            script(
                build,
                &format!(
                    "{log}while :; do n=$((n + 1)); echo \"still at step $n\" >> $log; echo tick; sleep 0.2; done"
                ),
            ),
        ),
        ("a wait for the limit", hostile(build, "ready phase=limit watchdog_ms=300")),
        ("a wait for the model, bytes coming", hostile(build, "ready phase=model watchdog_ms=300")),
        ("an extension", hostile(build, "ready notify=EXTEND_TIMEOUT_USEC=60000000")),
        ("a growing log", script(build, &format!("{log}while :; do {grow}; done"))),
        (
            "a growing log from the future",
            script(build, &format!("{log}while :; do {grow}; touch -d 2099-01-01 $log; done")),
        ),
        (
            "a log across midnight",
            script(
                build,
                &format!(
                    "{log}while :; do n=$((n + 1)); day=docs/logs/$((20260101 + n / 5)); mkdir -p $day\n\
                     log=$day/000000-a.rlog; {grow}; done"
                ),
            ),
        ),
    ]
}

fn the_healthy_are_left_alone(build: Build) {
    let cases = healthy(build);
    let daemons: Vec<Started> = cases.iter().map(|(_, rig)| rig.start()).collect();
    let workers: Vec<i32> = cases.iter().map(|(_, rig)| pid(&rig.wait_for_state("running"))).collect();
    let until = Instant::now() + Duration::from_millis(3 * TIMEOUT_MS + MARGIN_MS);
    let (_, first) = &cases[0];
    first.home.wait_until("every window has passed", DEADLINE, || (Instant::now() > until).then_some(()));
    for (((name, rig), daemon), worker) in cases.iter().zip(daemons).zip(workers) {
        let status = rig.status();
        assert_eq!(status["worker_pid"].as_i64(), Some(worker.into()), "{name}: {}", daemon.stderr());
        assert!(!daemon.stderr().contains("stalled"), "{name}: {}", daemon.stderr());
        rig.finish(daemon);
    }
}

#[test]
fn the_healthy_are_left_alone_by_root() {
    the_healthy_are_left_alone(Rig::new);
}

#[test]
fn the_healthy_are_left_alone_by_an_ordinary_user() {
    the_healthy_are_left_alone(Rig::of_ordinary_user);
}

/// What hangs, and the window within which that is to be found out.
fn hangs(build: Build) -> Vec<(&'static str, u64, Rig)> {
    let log = "mkdir -p docs/logs/20260101; log=docs/logs/20260101/090000-a.rlog\n";
    let retry = "echo \"API error 529: overloaded, retrying in $n s (attempt $n)\"";
    // Not counted up in the shell: on a slow machine that alone would outlast the window.
    let chunk = "$(yes 'API error 529: overloaded, retrying in 30 s (attempt 7)' | head -n 3000)";
    vec![
        ("all sleep", TIMEOUT_MS, script(build, "sleep 600 & sleep 600 & wait")),
        ("it spins by itself", TIMEOUT_MS, script(build, "while :; do :; done")),
        (
            "a silent log from the future",
            TIMEOUT_MS,
            script(build, &format!("{log}echo begun > $log; touch -d 2099-01-01 $log; exec sleep 600")),
        ),
        ("a log that is never written", TIMEOUT_MS, script(build, &format!("{log}: > $log; exec sleep 600"))),
        (
            "the same retry for ever",
            TIMEOUT_MS,
            script(build, &format!("{log}while :; do n=$((n + 1)); {retry} >> $log; sleep 0.1; done")),
        ),
        (
            "the same retry, by the thousand",
            TIMEOUT_MS,
            script(build, &format!("{log}many={chunk}\nwhile :; do echo \"$many\" >> $log; sleep 0.1; done")),
        ),
        (
            "the same retry, written over the last",
            TIMEOUT_MS,
            script(
                build,
                &format!("{log}while :; do echo 'API error 529, retrying now again' > $log; sleep 0.2; done"),
            ),
        ),
        (
            "a log that is only touched",
            TIMEOUT_MS,
            script(build, &format!("{log}: > $log; while :; do touch $log; sleep 0.2; done")),
        ),
    ]
}

fn evidence(rig: &Rig) -> Vec<String> {
    let folder = rig.home.path().join("workers/main/incidents");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

/// The verdict in time, counted, and with its evidence. Returns how much later than the window it came.
fn check_verdict(name: &str, window_ms: u64, rig: &Rig) -> u64 {
    let status = rig.wait_for_state("restarting");
    assert!(last_exit(&status).starts_with("ended as stalled"), "{name}: {status:#}");
    assert_eq!((count(&status, "consecutive_failures"), rig.status()["worker_pid"].as_i64()), (1, None), "{name}");
    assert!(status["next_attempt_in_ms"].as_u64().is_some_and(|ms| ms > 500_000), "{name}: {status:#}");
    let kept = evidence(rig);
    assert_eq!(kept.len(), 1, "{name}");
    assert!(kept[0].contains("last activity: ") && kept[0].contains("waits in"), "{name}: {}", kept[0]);
    let source = match name {
        "all sleep" | "it spins by itself" | "a log that is never written" | "a log that is only touched" => {
            " ago (nothing since)"
        }
        _ => "docs/logs/20260101/090000-a.rlog)",
    };
    let last = kept[0].lines().find(|line| line.starts_with("last activity: ")).unwrap_or_default();
    assert!(last.ends_with(source), "{name}: {}", kept[0]);
    // How long it takes to come to life, and to die, is not the verdict's doing.
    let events = rig.home.autopilotd(["events", "--json", "-n", "1000"]);
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    let mut events = events.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let stalled = events.find(|event| event["event"]["kind"] == "stalled");
    let silent_ms = stalled.as_ref().and_then(|event| event["event"]["silent_ms"].as_u64());
    let silent_ms = silent_ms.unwrap_or_else(|| panic!("{name}: {stalled:?}"));
    assert!((window_ms..=window_ms + MARGIN_MS).contains(&silent_ms), "{name}: a verdict after {silent_ms} ms");
    silent_ms - window_ms
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
fn every_hang_is_caught(build: Build) {
    let cases = hangs(build);
    let daemons: Vec<Started> = cases.iter().map(|(_, _, rig)| rig.start()).collect();
    let late_ms = cases.iter().map(|(name, window_ms, rig)| check_verdict(name, *window_ms, rig) as f64).collect();
    measured("a hang is ended so long after its window", late_ms);
    for ((_, _, rig), daemon) in cases.iter().zip(daemons) {
        rig.finish(daemon);
    }
}

#[test]
fn every_hang_is_caught_by_root() {
    every_hang_is_caught(Rig::new);
}

#[test]
fn every_hang_is_caught_by_an_ordinary_user() {
    every_hang_is_caught(Rig::of_ordinary_user);
}

/// It sent heartbeats until then, and stands still now: the evidence says so.
fn one_that_stands_still_is_caught(build: Build) {
    let rig = hostile(build, "ready watchdog_ms=100");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    let seen = rig.home.path().join("workers/main/runs/1/seen");
    let beats = || std::fs::read_to_string(&seen).unwrap_or_default().contains("\"heartbeat\":true").then_some(());
    rig.home.wait_until("it sends heartbeats", DEADLINE, beats);
    let process = rig.home.process(u64::try_from(worker).unwrap()).unwrap();
    rig.home.signal(&process, Signal::STOP);
    let begun = Instant::now();
    rig.home.wait_until("it stands still", DEADLINE, || (vitals::state(worker) == Some('T')).then_some(()));
    let channel = std::fs::read_to_string(format!("/proc/{worker}/wchan")).unwrap_or_default();
    let status = rig.wait_for_state("restarting");
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(TIMEOUT_MS + MARGIN_MS), "{took:?}");
    assert!(last_exit(&status).starts_with("ended as stalled"), "{status:#}");
    let kept = evidence(&rig).pop().expect("evidence");
    let row = kept.lines().find(|line| line.split_whitespace().next() == Some(&worker.to_string())).expect("its row");
    let fields: Vec<&str> = row.split_whitespace().collect();
    assert!(fields.contains(&"T"), "{kept}");
    assert!(channel == "0" || fields.contains(&channel.as_str()), "{channel}: {kept}");
    assert!(kept.contains("heartbeats: yes") && kept.contains(" ago (a heartbeat)\n"), "{kept}");
    rig.finish(daemon);
}

#[test]
fn one_that_stands_still_is_caught_by_root() {
    one_that_stands_still_is_caught(Rig::new);
}

#[test]
fn one_that_stands_still_is_caught_by_an_ordinary_user() {
    one_that_stands_still_is_caught(Rig::of_ordinary_user);
}

/// A judge who is wrong that often does not go on: it warns, keeps the evidence, and leaves the worker alone.
#[test]
fn after_so_many_it_only_warns() {
    let settings = settings().replace("initial_backoff_ms = 600000", "initial_backoff_ms = 1");
    let settings = settings.replacen(&format!("stall_timeout_ms = {TIMEOUT_MS}"), "stall_timeout_ms = 400", 1);
    let rig = Rig::new(&format!("max_stall_kills_per_hour = 1\n{settings}")).script("exec sleep 600");
    let daemon = rig.start();
    let twice = || (daemon.stderr().matches("; leaving it alone\n").count() >= 2).then_some(());
    rig.home.wait_until("it has warned twice", DEADLINE, twice);
    let status = rig.status();
    assert_eq!((&status["worker_status"], count(&status, "total_restarts")), (&"running".into(), 1), "{status:#}");
    assert_eq!(daemon.stderr().matches(" stalled: ").count(), 1, "{}", daemon.stderr());
    let kept = evidence(&rig);
    assert!(kept.len() >= 3, "a kill and two warnings: {kept:#?}");
    rig.finish(daemon);
}
