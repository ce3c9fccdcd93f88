//! What `status` says where something is not as one would expect.

use std::fs;

use testkit::home::{DEADLINE, Signal};

use crate::rig::{Rig, write_program};

const WELL: &str = "ready watchdog_ms=20";

fn told(rig: &Rig) -> String {
    rig.status()["degraded"].to_string()
}

#[test]
fn a_silent_worker_that_is_left_alone_is_told_of_until_it_shows_life() {
    let script = "while [ ! -e go ]; do sleep 0.05; done; echo here I am; exec sleep 600";
    let settings =
        "stall_timeout_ms = 300\nstall_grace_ms = 10\nmax_stall_kills_per_hour = 0\n[memory]\npoll_interval_ms = 20";
    let rig = Rig::new(settings).script(script);
    let daemon = rig.start();
    let tells = |status: &serde_json::Value| status["degraded"].to_string().contains("it is left alone");
    rig.wait_for("it is left alone", |status| status["worker_status"] == "running" && tells(status));
    fs::write(rig.home.repository().join("go"), "").unwrap();
    rig.wait_for("it shows life", |status| !tells(status));
    rig.finish(daemon);
}

#[test]
fn failed_says_whether_it_was_too_often_within_an_hour() {
    for (settings, prefix) in [
        (
            "max_restarts_per_hour = 2\nmax_consecutive_restarts = 0",
            "it failed too often within an hour; the last time: ",
        ),
        ("max_restarts_per_hour = 2\nmax_consecutive_restarts = 2", ""),
    ] {
        let rig = Rig::new(&format!("initial_backoff_ms = 0\n{settings}")).hostile("exit=4 after_ms=0");
        let daemon = rig.start();
        let status = rig.wait_for_state("failed");
        assert_eq!(status["reason"], format!("{prefix}the worker ended: exit status 4"));
        rig.finish(daemon);
    }
}

/// The money it may spend among them.
#[test]
fn an_adopted_worker_with_other_settings_is_told_of_until_it_is_restarted() {
    let rig = Rig::new("").hostile(WELL);
    let start = |budget: &str| {
        let mut command = rig.command();
        command.args(["--max-budget", budget]);
        rig.start_by(command)
    };
    let mut daemon = start("100");
    rig.ready_worker();
    for (budget, is_told) in [("100", false), ("1", true), ("1", true), ("100", false), ("2", true)] {
        daemon.kill();
        daemon = start(budget);
        rig.ready_worker();
        assert_eq!(told(&rig).contains("was started with other settings"), is_told, "{budget}: {}", told(&rig));
    }
    rig.ask("restart-worker");
    rig.ready_worker();
    assert_eq!(told(&rig), "[]");
    rig.finish(daemon);
}

#[test]
fn a_file_that_is_gone_is_told_of_while_its_copy_runs() {
    let mut rig = Rig::new("").hostile(WELL);
    let path = rig.home.user_home().join("worker");
    fs::copy(testkit::binaries::own("hostile-worker"), &path).unwrap();
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", &path);
    let daemon = rig.start();
    rig.ready_worker();
    fs::write(&path, b"\x7fELF torn").unwrap();
    rig.ask("restart-worker");
    assert!(told(&rig).contains("incomplete"), "{}", told(&rig));
    fs::remove_file(&path).unwrap();
    rig.ask("restart-worker");
    rig.ready_worker();
    assert!(told(&rig).contains("no such file") && !told(&rig).contains("incomplete"), "{}", told(&rig));
    rig.finish(daemon);
}

/// However long it takes to tell its version: it is what the settings name.
#[test]
fn what_a_daemon_starts_first_is_the_file_that_it_was_given() {
    let mut rig = Rig::new("").hostile(WELL);
    let daemon = rig.start();
    rig.ready_worker();
    rig.finish(daemon);
    let other = rig.home.user_home().join("other");
    write_program(
        &other,
        "#!/bin/sh\nif [ \"$1\" = --version ]; then sleep 1.5; echo other 2; exit; fi\nexec sleep 600\n",
    );
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", &other);
    let daemon = rig.start();
    let status = rig.wait_for_state("starting");
    let shown = (&status["worker_binary"], &status["worker_version"], &status["reason"]);
    assert_eq!(shown, (&other.to_str().unwrap().into(), &serde_json::Value::Null, &serde_json::Value::Null));
    let status = rig.wait_for_state("running");
    assert_eq!(status["worker_version"], "other 2", "{status:#}");
    assert_eq!(rig.starts(), 1, "the one before is not run");
    rig.finish(daemon);
}

#[test]
fn config_says_when_a_daemon_has_settings_of_its_own() {
    let rig = Rig::new("").hostile(WELL);
    let said = || String::from_utf8(rig.home.autopilotd(["config"]).stderr).unwrap();
    assert_eq!(said(), "");
    let daemon = rig.start();
    assert!(said().starts_with(&format!("note: a daemon runs (PID {})", daemon.pid())), "{}", said());
    rig.finish(daemon);
}

/// Nobody waits for ever for a daemon that stands still.
#[test]
fn a_command_to_a_daemon_that_stands_still_is_given_up_and_not_carried_out() {
    let rig = Rig::new("").hostile(WELL);
    let daemon = rig.start();
    let worker = rig.ready_worker();
    daemon.signal(Signal::STOP);
    let asked = ["restart-worker", "stop"].map(|verb| {
        let mut command = rig.home.autopilotd_command();
        command.arg(verb);
        rig.home.start(verb, command)
    });
    for mut asked in asked {
        assert_eq!(asked.wait_for_code(DEADLINE), 3, "{}", asked.stderr());
        assert!(asked.stderr().contains("does not answer within 5 s"), "{}", asked.stderr());
    }
    daemon.signal(Signal::CONT);
    assert_eq!(rig.status()["worker_pid"], worker);
    rig.finish(daemon);
}
