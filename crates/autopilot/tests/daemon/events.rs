//! The incident journal and `autopilotd events`: whatever happened can be explained, with a daemon or without one.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;
use testkit::home::{DEADLINE, is_root};

use crate::rig::{Rig, pid, shim_of};

fn events(rig: &Rig, arguments: &[&str]) -> String {
    let output = rig.home.autopilotd([&["events"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn records(rig: &Rig) -> Vec<Value> {
    events(rig, &["--json", "-n", "1000"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Kinds, but for what the machine's memory adds.
fn kinds(records: &[Value]) -> Vec<&str> {
    let kinds = records.iter().map(|record| record["event"]["kind"].as_str().unwrap());
    kinds.filter(|kind| !kind.starts_with("memory-")).collect()
}

fn event<'a>(records: &'a [Value], kind: &str) -> &'a Value {
    records.iter().map(|record| &record["event"]).find(|event| event["kind"] == kind).unwrap_or_else(|| {
        panic!("{kind} in {records:#?}");
    })
}

fn journal(rig: &Rig) -> std::path::PathBuf {
    rig.home.path().join("workers/main/journal.jsonl")
}

#[test]
fn a_whole_life_can_be_explained_afterwards() {
    let rig = Rig::new("initial_backoff_ms = 60000").plan(&["exit=7 after_ms=0", "ready"]);
    let daemon = rig.start();
    rig.wait_for_state("restarting");
    rig.ask("restart-worker");
    let worker = rig.ready_worker();
    rig.ask("stop-worker");
    rig.finish(daemon);

    let records = records(&rig);
    let expected = [
        "daemon-started",
        "binary",
        "binary-admitted",
        "started",
        "ended",
        "waiting",
        "command",
        "started",
        "answer",
        "command",
        "ended",
        "answer",
        "command",
        "daemon-stopping",
        "answer",
        "daemon-stopped",
    ];
    assert_eq!(kinds(&records), expected, "{records:#?}");
    let ended: Vec<&Value> =
        records.iter().map(|record| &record["event"]).filter(|event| event["kind"] == "ended").collect();
    assert_eq!((&ended[0]["code"], &ended[0]["told"], &ended[0]["run"]), (&7.into(), &Value::Null, &1.into()));
    assert_eq!((&ended[1]["pid"], &ended[1]["told"]), (&worker.into(), &"stop-worker".into()));
    assert_eq!(event(&records, "waiting")["delay_ms"], 60_000);
    let command = event(&records, "command");
    assert_eq!((&command["verb"], &command["pid"]), (&"restart-worker".into(), &std::process::id().into()));
    assert!(event(&records, "binary")["source"].as_str().unwrap().ends_with("/hostile-worker"));
    for (position, record) in records.iter().enumerate() {
        assert_eq!((&record["v"], &record["seq"]), (&1.into(), &(position + 1).into()));
    }

    let text = events(&rig, &["-n", "1000"]);
    assert!(text.contains("  waiting           Restarting worker in 60 s (failure 1 in a row)\n"), "{text}");
    assert_eq!(text.lines().count(), records.len());
    assert_eq!(events(&rig, &["-n", "1"]).lines().count(), 1);
    assert_eq!(events(&rig, &["--since", "1h"]), text);
    assert_eq!(events(&rig, &["--since", "2999-01-01"]), "");
}

#[test]
fn that_a_person_is_needed_is_an_event_once_each_time() {
    let words = "ready status=login phase=needs-you phase=needs-you status=login-still";
    let rig = Rig::new("initial_backoff_ms = 0").plan(&[words, words]);
    let daemon = rig.start();
    rig.wait_for("the worker's words", |status| status["worker_message"] == "login-still");
    rig.ask("restart-worker");
    rig.wait_for("the next one's", |status| status["run"] == 2 && status["worker_message"] == "login-still");
    rig.finish(daemon);
    let records = records(&rig);
    let needs: Vec<&Value> = records.iter().filter(|record| record["event"]["kind"] == "needs-you").collect();
    assert_eq!(needs.len(), 2, "{records:#?}");
    assert_eq!((&needs[0]["event"]["run"], &needs[1]["event"]["run"]), (&1.into(), &2.into()));
    assert_eq!(needs[0]["text"], "The worker needs you: login");
}

#[test]
fn the_next_daemon_goes_on_with_the_same_journal() {
    let rig = Rig::new("initial_backoff_ms = 0").plan(&["ready", "ready", "ready"]);
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    daemon.kill();
    // A line that a loss of power tore.
    let mut torn = std::fs::read(journal(&rig)).unwrap();
    torn.extend_from_slice(b"{\"v\":1,\"seq\":99,\"at_u");
    std::fs::write(journal(&rig), torn).unwrap();
    let mut daemon = rig.start();
    assert_eq!(pid(&rig.status()), worker);
    let shim = shim_of(worker);
    daemon.kill();
    rig.kill(shim);
    let daemon = rig.start();
    rig.wait_for("the next worker is ready", |status| status["worker_ready"] == true && status["run"] == 2);
    rig.finish(daemon);
    let records = records(&rig);
    let seqs: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let all = kinds(&records);
    assert_eq!(all.iter().filter(|kind| **kind == "daemon-started").count(), 3);
    assert_eq!(event(&records, "adopted")["pid"], worker);
    assert_eq!(event(&records, "orphaned")["run"], 1);
}

#[test]
fn events_are_followed_while_they_happen() {
    let rig = Rig::new("").hostile("ready");
    let mut command = rig.home.autopilotd_command();
    let mut follower =
        command.args(["events", "-f", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next =
        move || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["event"]["kind"].clone();
    // The home is not even there.
    let mut daemon = rig.start();
    assert_eq!(next(), "daemon-started");
    rig.ready_worker();
    while next() != "started" {}
    rig.ask("stop-worker");
    while next() != "ended" {}
    rig.ask("stop");
    while next() != "daemon-stopped" {}
    // Nobody reads any more: it ends by itself.
    drop(next);
    rig.home.wait_until("the follower ends", DEADLINE, || follower.try_wait().unwrap());
    assert_eq!(daemon.wait_for_code(DEADLINE), 0);
}

#[test]
fn a_stall_is_told_with_its_evidence() {
    let rig = Rig::new("stall_timeout_ms = 300\nstall_grace_ms = 0\ninitial_backoff_ms = 60000").hostile("ready");
    let daemon = rig.start();
    rig.wait_for_state("restarting");
    let records = records(&rig);
    let evidence = event(&records, "stalled")["evidence"].as_str().unwrap();
    assert!(std::fs::read_to_string(evidence).unwrap().contains("run: 1"));
    assert_eq!(event(&records, "ended")["told"], "stall");
    rig.finish(daemon);
}

/// A journal that can't be written costs its lines and nothing else; the gap is told as soon as it can be.
#[test]
fn without_a_journal_the_worker_works_on() {
    let rig = Rig::new("").hostile("ready");
    std::fs::create_dir_all(journal(&rig)).unwrap();
    std::fs::set_permissions(rig.home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let daemon = rig.start();
    let worker = rig.ready_worker();
    assert!(daemon.stderr().contains("warning: 1 lines of the journal could not be written: cannot write "));
    assert!(rig.status()["degraded"].to_string().contains("lines of the journal could not be written"));
    std::fs::remove_dir(journal(&rig)).unwrap();
    rig.ask("restart-worker");
    assert_ne!(rig.ready_worker(), worker);
    assert_eq!(rig.status()["degraded"], serde_json::json!([]));
    let records = records(&rig);
    assert_eq!(kinds(&records)[0], "lost");
    assert!(records[0]["event"]["lines"].as_u64().unwrap() >= 3, "{records:#?}");
    rig.finish(daemon);
}

#[test]
fn a_home_without_events_is_explained() {
    let rig = Rig::new("");
    let output = rig.home.autopilotd(["events"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b""[..]));
    let expected = "note: no events yet in ~/home/workers/main/journal.jsonl\nhint: is another AUTOPILOT_HOME meant?\n";
    assert_eq!(rig.portable(&String::from_utf8_lossy(&output.stderr)), expected);
    let output = rig.home.autopilotd(["events", "--since", "soon"]);
    assert_eq!(output.status.code(), Some(2));
}

/// As the tests' own user, or as `nobody` where that one is root, who can read everything.
#[test]
fn a_journal_of_another_user_is_a_clear_error() {
    let rig = Rig::of_ordinary_user("");
    std::fs::create_dir_all(journal(&rig).parent().unwrap()).unwrap();
    std::fs::write(journal(&rig), "").unwrap();
    std::fs::set_permissions(journal(&rig), std::fs::Permissions::from_mode(0o000)).unwrap();
    let output = rig.home.autopilotd(["events"]);
    let said = rig.portable(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "root: {}, {said}", is_root());
    assert!(said.starts_with("error: cannot read ~/home/workers/main/journal.jsonl: Permission denied"), "{said}");
    assert!(said.contains("\nhint: "), "{said}");
}
