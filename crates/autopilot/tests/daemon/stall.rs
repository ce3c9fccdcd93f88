//! A worker that shows no life is ended and counted; whatever is life keeps it.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use testkit::home::DEADLINE;

use crate::rig::{Rig, count, last_exit, pid};

const TIMEOUT_MS: u64 = 500;
const GRACE_MS: u64 = 700;

fn settings() -> String {
    format!(
        "stall_timeout_ms = {TIMEOUT_MS}\nstall_grace_ms = {GRACE_MS}\ninitial_backoff_ms = 60000\n\
         stop_timeout_ms = 200\n[memory]\npoll_interval_ms = 50"
    )
}

#[test]
fn a_silent_worker_is_ended_after_grace_and_timeout_and_counted() {
    let rig = Rig::new(&settings()).hostile("ignore-term");
    let daemon = rig.start();
    let status = rig.wait_for_state("restarting");
    assert_eq!(last_exit(&status), "ended as stalled (killed by SIGKILL)");
    assert_eq!((count(&status, "consecutive_failures"), rig.starts()), (1, 1));
    assert_eq!(status["reason"], "the worker was stalled");
    let lived_ms = status["last_exits"][0]["lived_ms"].as_u64().unwrap();
    assert!(lived_ms >= GRACE_MS, "ended after {lived_ms} ms, within the grace period");
    let stderr = daemon.stderr();
    assert!(stderr.contains(" stalled: no activity for 0."), "{stderr}");
    assert!(stderr.contains(" s; sending SIGTERM, later SIGKILL\n"), "{stderr}");
    assert!(stderr.contains("\nhint: long builds? raise restart.stall_timeout_ms\n"), "{stderr}");
    rig.finish(daemon);
}

/// The timeout counts from the last sign of life, not from the start.
#[test]
fn a_worker_that_falls_silent_later_is_ended_too() {
    let rig = Rig::new(&settings()).script("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.1; done; exec sleep 60");
    let daemon = rig.start();
    let status = rig.wait_for_state("restarting");
    assert_eq!(last_exit(&status), "ended as stalled (killed by SIGTERM)");
    let lived_ms = status["last_exits"][0]["lived_ms"].as_u64().unwrap();
    assert!(lived_ms >= 900 + TIMEOUT_MS, "ended after {lived_ms} ms");
    rig.finish(daemon);
}

/// Watches a worker for several timeouts: it is left alone.
fn lives(rig: &Rig) {
    lives_for(rig, GRACE_MS + 4 * TIMEOUT_MS);
}

fn lives_for(rig: &Rig, ms: u64) {
    let daemon = rig.start();
    let first = pid(&rig.wait_for_state("running"));
    let until = Instant::now() + Duration::from_millis(ms);
    rig.home.wait_until("time goes by", DEADLINE, || {
        let status = rig.status();
        assert_eq!((status["worker_pid"].as_i64(), &status["worker_status"]), (Some(first.into()), &"running".into()));
        (Instant::now() > until).then_some(())
    });
    assert!(!daemon.stderr().contains("stalled"), "{}", daemon.stderr());
    rig.finish(daemon);
}

#[test]
fn a_heartbeat_is_life() {
    lives(&Rig::new(&settings()).hostile("watchdog_ms=50"));
}

#[test]
fn output_is_life() {
    lives(&Rig::new(&settings()).script("while :; do i=$((i+1)); echo step $i; sleep 0.05; done"));
}

#[test]
fn a_growing_log_is_life() {
    let script = "mkdir -p docs/logs/20260101\n\
                  while :; do i=$((i+1)); echo a: step $i >> docs/logs/20260101/000000-a.rlog; sleep 0.05; done";
    lives(&Rig::new(&settings()).script(script));
}

#[test]
fn without_a_timeout_silence_is_no_matter() {
    lives(&Rig::new("stall_timeout_ms = 0\nstall_grace_ms = 0\n[memory]\npoll_interval_ms = 50").hostile("ready"));
}

#[test]
fn the_environment_turns_the_rule_off_too() {
    let mut rig = Rig::new("stall_timeout_ms = 100\nstall_grace_ms = 0\n[memory]\npoll_interval_ms = 50");
    rig.home.set_env("AUTOPILOT_STALL_TIMEOUT_MS", "0");
    lives(&rig);
}

/// A log that was there before the run, and grows by another's hand, says nothing of this worker.
#[test]
fn a_log_from_before_the_run_is_no_life() {
    let rig = Rig::new(&settings()).hostile("");
    let log = rig.home.repository().join("docs/logs/20260101/000000-old.rlog");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(&log, "old\n").unwrap();
    let daemon = rig.start();
    let status = rig.wait_for("the stall is noticed", |status| {
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::write(&log, text + "more\n").unwrap();
        status["worker_status"] == "restarting"
    });
    assert!(last_exit(&status).starts_with("ended as stalled"), "{status}");
    rig.finish(daemon);
}

/// Two logs from before the run, as words in a script.
const OLD_LOG: &str = "docs/logs/20260101/090000-old.rlog";
const QUIET_LOG: &str = "docs/logs/20260101/090001-quiet.rlog";

fn with_old_logs(rig: Rig) -> Rig {
    for log in [OLD_LOG, QUIET_LOG].map(|log| rig.home.repository().join(log)) {
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        std::fs::write(&log, "old\n").unwrap();
    }
    rig
}

/// It has the log open for writing: it is its own, however old it is. One process, so that nothing is a tool's work.
#[test]
fn a_log_from_before_the_run_that_it_writes_into_is_life() {
    let script = format!("exec \"$HOSTILE_WORKER\" --hostile 'rlog=/proc/self/fd/1 rlog_ms=100' >>{OLD_LOG}");
    lives_for(&with_old_logs(Rig::new(&long_settings()).script(&script)), 3 * LONG_TIMEOUT_MS);
}

/// Nor is one that it has open for writing, and does not write into.
#[test]
fn a_log_from_before_the_run_that_it_only_reads_is_no_life() {
    let script = format!("exec tail -n 0 -f {OLD_LOG} >/dev/null 3>>{QUIET_LOG}");
    let rig = with_old_logs(Rig::new(&long_settings()).script(&script));
    let log = rig.home.repository().join(OLD_LOG);
    let daemon = rig.start();
    let status = rig.wait_for("the stall is noticed", |status| {
        let mut log = std::fs::File::options().append(true).open(&log).unwrap();
        log.write_all(b"more\n").unwrap();
        status["worker_status"] == "restarting"
    });
    assert!(last_exit(&status).starts_with("ended as stalled"), "{status}");
    rig.finish(daemon);
}

/// Whoever may write to the socket, but is not of the run, does not speak for it.
#[test]
fn a_strangers_heartbeat_is_no_life() {
    let rig = Rig::new(&settings()).hostile("");
    let daemon = rig.start();
    let socket = rig.home.path().join("workers/main/notify.sock");
    let stranger = UnixDatagram::unbound().unwrap();
    let status = rig.wait_for("the stall is noticed", |status| {
        // It is refused when too many wait to be read.
        stranger.send_to(b"READY=1\nSTATUS=all is well\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=3600000000", &socket).ok();
        assert!(status["worker_message"].is_null() && status["worker_ready"] == false, "{status:#}");
        status["worker_status"] == "restarting"
    });
    assert!(last_exit(&status).starts_with("ended as stalled"), "{status}");
    rig.finish(daemon);
}

/// As of `systemd-notify` in a script: who sent it may have ended by the time that it is read.
#[test]
fn a_heartbeat_of_a_short_command_of_the_run_is_life() {
    lives(
        &Rig::new(&settings())
            .script("while :; do \"$HOSTILE_WORKER\" --hostile 'notify=WATCHDOG=1 after_ms=0'; sleep 0.05; done"),
    );
}

/// One that is in no session and below no parent of the run's any more.
#[test]
fn a_heartbeat_of_a_daemonized_part_of_the_run_is_life() {
    lives(&Rig::new(&settings()).script("\"$HOSTILE_WORKER\" --escape double-fork 'watchdog_ms=50' &\nexec sleep 600"));
}

/// Much longer than a busy machine makes a worker wait for its turn.
const LONG_TIMEOUT_MS: u64 = 2_000;

/// The daemon is killed each half of the stall timeout.
fn under_kills(rig: &Rig, mut is_over: impl FnMut(&Rig) -> bool) {
    let begun = Instant::now();
    loop {
        let mut daemon = rig.start();
        let until = Instant::now() + Duration::from_millis(LONG_TIMEOUT_MS / 2);
        while Instant::now() < until {
            if is_over(rig) {
                return rig.finish(daemon);
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        daemon.kill();
        assert!(begun.elapsed() < DEADLINE, "{}", rig.status());
    }
}

fn long_settings() -> String {
    format!(
        "stall_timeout_ms = {LONG_TIMEOUT_MS}\nstall_grace_ms = 1\ninitial_backoff_ms = 60000\n\
         stop_timeout_ms = 200\n[memory]\npoll_interval_ms = 50"
    )
}

#[test]
fn a_silent_worker_is_ended_however_often_the_daemon_is_killed() {
    let rig = Rig::new(&long_settings()).hostile("ready");
    under_kills(&rig, |rig| rig.status()["worker_status"] == "restarting");
    assert_eq!(rig.starts(), 1);
}

/// A worker that only complains is ended, too: what the daemon before has read is known to the next one.
#[test]
fn a_worker_that_repeats_itself_is_ended_however_often_the_daemon_is_killed() {
    // Seldom looked at: what a shell needs for its loop is no work.
    let rig = Rig::new(&long_settings().replace("poll_interval_ms = 50", "poll_interval_ms = 400"));
    let rig = rig.script("while :; do echo error: no answer, trying again; sleep 0.5; done");
    under_kills(&rig, |rig| rig.status()["worker_status"] == "restarting");
}

#[test]
fn a_worker_that_writes_is_left_alone_however_often_the_daemon_is_killed() {
    let rig = Rig::new(&long_settings()).script("while :; do i=$((i+1)); echo step $i; sleep 0.1; done");
    let until = Instant::now() + Duration::from_millis(4 * LONG_TIMEOUT_MS);
    let mut worker = None;
    under_kills(&rig, |rig| {
        let now = rig.wait_for_state("running")["worker_pid"].as_i64();
        assert_eq!(now, *worker.get_or_insert(now));
        Instant::now() > until
    });
}

/// What a daemon leaves when it ends on purpose is out of date as soon as the next one has seen more.
#[test]
fn a_silence_that_is_over_is_not_held_against_a_worker_whose_daemon_is_killed() {
    // Its first word comes after its start, from which on alone the next daemon counts what was silent before it.
    let script = "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo here I am; exec sleep 600";
    let rig = Rig::new("stall_timeout_ms = 600000\n[memory]\npoll_interval_ms = 50").script(script);
    let mut daemon = rig.start();
    let silent_ms = |status: &serde_json::Value| status["last_activity_ms_ago"].as_u64().unwrap_or(0);
    let log = rig.home.path().join("workers/main/output.log");
    let has_begun = || std::fs::metadata(&log).is_ok_and(|meta| meta.len() > 0).then_some(());
    rig.home.wait_until("its first word", DEADLINE, has_begun);
    rig.wait_for("it is silent", |status| silent_ms(status) > 1_500);
    assert!(rig.home.autopilotd(["stop", "--keep-worker"]).status.success());
    daemon.wait(DEADLINE);
    daemon = rig.start();
    let still_ms = silent_ms(&rig.status());
    assert!(still_ms > 1_500, "that is still so: {still_ms}");
    assert_eq!(rig.status()["last_activity_source"], serde_json::Value::Null, "this daemon has seen none");
    let told = Instant::now();
    std::fs::write(rig.home.repository().join("go"), "").unwrap();
    rig.wait_for("its second word", |status| status["last_activity_source"] == "its output");
    let told_ms = || u64::try_from(told.elapsed().as_millis()).unwrap();
    rig.wait_for("it shows life", |status| silent_ms(status) <= told_ms());
    daemon.kill();
    let daemon = rig.start();
    let status = rig.status();
    assert!(silent_ms(&status) <= told_ms(), "{status:#}");
    rig.finish(daemon);
}
