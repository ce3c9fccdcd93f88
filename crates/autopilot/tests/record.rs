//! The commands that show the record, on logs as the real CLI's recorded streams make them.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage up has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use testkit::home;
use testkit::home::{DEADLINE, Home, Signal};

const END: &str = "@end tokens_in=400 tokens_out=84 cost_usd=0.0015 reason=done\n";

fn rlog(asked: &str, end: &str) -> String {
    format!(
        "---\nformat: rlog/1\nid: x\n---\n@start id=s ts=2026-11-22T15:02:00Z\nu: {asked}\n@init model=claude-sonnet-5-5\n\
         a: Writing the file.\nt!:Bash id=t1 arg=\"echo hi\" → [running]\no: id=t1 → [ok] hi\na: \u{1b}[2JAll finished.\n{end}"
    )
}

fn log(home: &Home, name: &str) -> PathBuf {
    let path = home.repository().join("docs/logs").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

/// Two days with a run each, a log of another tool, and one that was cut off and spoilt.
fn home_with_logs() -> Home {
    let home = home!();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/golden/claude-2.1.330");
    for (name, recorded) in [("20261121/235900-fix-login", "success"), ("20261122/000100-add-docs", "tool_error")] {
        fs::write(log(&home, &format!("{name}.rlog")), rlog("Fix it", END)).unwrap();
        fs::copy(golden.join(recorded).with_extension("jsonl"), log(&home, &format!("{name}.jsonl"))).unwrap();
    }
    fs::write(log(&home, "20261122/010000-foreign.rlog"), rlog("By another tool", "q: and now?\n")).unwrap();
    let spoilt = [&b"a: caf\xc3\n"[..], &b"x".repeat(3 << 20), b"\n\0\xff\nt!:Bash id="].concat();
    fs::write(log(&home, "20261120/000000-spoilt.rlog"), spoilt).unwrap();
    home
}

#[track_caller]
fn said(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    if code == 0 { String::from_utf8(output.stdout.clone()).unwrap() } else { stderr.into_owned() }
}

fn autopilot(home: &Home, args: &[&str]) -> String {
    said(&home.autopilot(args), 0)
}

#[test]
fn a_log_is_found_by_its_name_and_shown_plain_where_there_is_no_terminal() {
    let home = home_with_logs();
    let list = autopilot(&home, &["log", "--list"]);
    let expected =
        ["20261120-000000-spoilt", "20261121-235900-fix-login", "20261122-000100-add-docs", "20261122-010000-foreign"];
    assert_eq!(list.lines().collect::<Vec<_>>(), expected);
    assert!(autopilot(&home, &["log"]).ends_with("q: and now?\n"), "the newest");
    let shown = autopilot(&home, &["log", "login"]);
    assert_eq!(shown, rlog("Fix it", END).replace('\u{1b}', "\u{fffd}"), "nothing drives the terminal");
    assert_eq!(autopilot(&home, &["log", "fix-login", "-n", "1"]), END);
    let spoilt = autopilot(&home, &["log", "spoilt"]);
    assert!(spoilt.contains("\n# a line that is too long to be shown\n") && spoilt.len() < 1_000, "{spoilt}");
    for (args, hint) in [(["log", "nobody"], "--list"), (["replay", "20261122"], "give more of its name")] {
        assert!(said(&home.autopilot(args), 2).contains(hint), "{args:?}");
    }
}

#[test]
fn replay_plays_all_of_it_and_waits_for_nobody_who_does_not_watch() {
    let home = home_with_logs();
    assert_eq!(autopilot(&home, &["replay", "login"]), autopilot(&home, &["log", "login"]));
}

#[test]
fn events_alone_are_shown_replayed_and_counted() {
    let home = home_with_logs();
    let alone = home.repository().join("alone.jsonl");
    fs::copy(log(&home, "20261121/235900-fix-login.jsonl"), &alone).unwrap();
    let alone = alone.to_str().unwrap();
    let shown = autopilot(&home, &["replay", alone]);
    assert!(shown.contains("\nt!:Bash id=") && shown.contains("# result: success, 2 turns"), "{shown}");
    assert_eq!(autopilot(&home, &["log", alone]), shown);
    assert_eq!(autopilot(&home, &["log", alone, "-n", "1"]), shown.lines().last().unwrap().to_owned() + "\n");
    // Written just now, by its date; when it was done is in it.
    let apm: Value = serde_json::from_str(&autopilot(&home, &["apm", alone, "--json"])).unwrap();
    let actions: Vec<_> = apm["windows"].as_array().unwrap().iter().map(|row| &row["actions"]).collect();
    assert!(actions.len() == 4 && actions.iter().all(|actions| actions.is_u64()), "{apm}");
}

#[test]
fn what_is_no_log_is_told_from_what_is_not_there() {
    let home = home_with_logs();
    fs::write(home.repository().join("bin.dat"), b"\0\x01").unwrap();
    for (args, why) in [
        (["analyze", "bin.dat"], "bin.dat is no log: its name ends neither in .rlog nor in .jsonl"),
        (["replay", "bin.dat"], "bin.dat is no log: "),
        (["apm", "bin.dat"], "bin.dat is no log: "),
        (["analyze", "nope"], "error: there is no nope\nhint: name a log, a folder with logs"),
        (["replay", "nope"], "no log is called nope"),
        (["log", "--cwd=/nope"], "there is no folder /nope"),
    ] {
        let told = said(&home.autopilot(args), 2);
        assert!(told.contains(why) && told.contains("hint: "), "{args:?}: {told}");
    }
}

#[test]
fn what_it_took_is_told_for_people_and_as_data() {
    let home = home_with_logs();
    let text = autopilot(&home, &["analyze"]);
    assert!(text.contains("\nunreadable") && text.contains("claude-sonnet-5-5") && text.contains("Bash"), "{text}");
    let one = home.repository().join("docs/logs/20261121/235900-fix-login.rlog");
    let data: Value = serde_json::from_str(&autopilot(&home, &["analyze", "--json", one.to_str().unwrap()])).unwrap();
    assert_eq!(
        (&data["turns"], &data["tool_calls"], &data["ends"]["done"]),
        (&2.into(), &1.into(), &1.into()),
        "{data}"
    );
    assert_eq!((&data["cost_usd"], &data["tokens"]["output"]), (&0.0015.into(), &84.into()), "{data}");
    assert!(data["tools"]["Bash"]["p95_ms"].is_u64(), "{data}");
    let model = &data["models"]["claude-sonnet-5-5"];
    assert_eq!((&model["turns"], &model["tool_calls"], &model["tool_errors"]), (&2.into(), &1.into(), &0.into()));
    assert!(model["tool_p95_ms"].is_u64() && model["api_errors"] == 0, "{data}");
    assert!(text.contains("\nof each model") && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let both: Value = serde_json::from_str(&autopilot(&home, &["compare", "login", "docs", "--json"])).unwrap();
    assert_eq!((&both["a"]["analysis"]["tool_errors"], &both["b"]["analysis"]["tool_errors"]), (&0.into(), &1.into()));
    assert!(autopilot(&home, &["compare", "login", "docs"]).contains("A  20261121-235900-fix-login\n"));
    assert!(autopilot(&home, &["apm", "--window", "1h"]).starts_with("window "));
    let apm: Value = serde_json::from_str(&autopilot(&home, &["apm", "--json"])).unwrap();
    assert_eq!(apm["windows"].as_array().unwrap().len(), 4);
    said(&home.autopilot(["analyze", "--since", "2099-01-01"]), 2);
}

#[test]
fn the_disk_is_given_back_and_nothing_is_lost_by_packing() {
    let home = home_with_logs();
    let before = autopilot(&home, &["log", "login"]);
    let data = autopilot(&home, &["analyze", "--json"]);
    let would = autopilot(&home, &["logs", "archive", "--older-than", "2026-11-22", "--dry-run"]);
    assert!(would.contains("would pack 20261121-235900-fix-login"), "{would}");
    let packed = autopilot(&home, &["logs", "archive", "--older-than", "2026-11-22"]);
    assert!(packed.contains("packed 2 logs, ") && packed.trim_end().ends_with("freed"), "{packed}");
    assert!(home.repository().join("docs/logs/20261121/235900-fix-login.jsonl.gz").is_file());
    assert_eq!(autopilot(&home, &["log", "login"]), before);
    assert_eq!(autopilot(&home, &["analyze", "--json"]), data);
    let removed = autopilot(&home, &["logs", "cleanup", "--older-than", "2026-11-22"]);
    assert!(removed.contains("removed 20261121-235900-fix-login"), "{removed}");
    assert_eq!(autopilot(&home, &["log", "--list"]).lines().count(), 2);
}

#[test]
fn a_follower_hears_the_next_run_and_ends_cleanly() {
    let home = home_with_logs();
    let mut follower = home.start_autopilot(["log", "-f", "-n", "2"]);
    let wait = |what: &str| home.wait_until(what, DEADLINE, || follower.stdout().contains(what).then_some(()));
    wait("q: and now?\n");
    assert!(follower.stdout().lines().count() == 2, "{}", follower.stdout());
    fs::write(log(&home, "20261122/020000-next.rlog"), "a: the next run\n").unwrap();
    wait("== 20261122-020000-next ==\na: the next run\n");
    fs::write(log(&home, "20261123/000000-later.rlog"), "a: after midnight\n").unwrap();
    wait("== 20261123-000000-later ==\na: after midnight\n");
    follower.signal(Signal::INT);
    assert_eq!(follower.wait_for_code(DEADLINE), 0);
}
