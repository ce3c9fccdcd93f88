//! The agent as a pinned copy: what the worker is told of, and when another one takes its place.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use testkit::vitals;

use crate::binaries::{build, copy_over};
use crate::rig::{Rig, write_program};

const FAST: &str = "initial_backoff_ms = 10\nmax_backoff_ms = 3000\nsuccess_threshold_ms = 8000\nprobation_ms = 300\n";
/// A worker whose agent works.
const WELL: &str = "ready phase=model watchdog_ms=20";
/// One that has nothing to say of it.
const QUIET: &str = "ready watchdog_ms=20";
/// One that says that the agent does not.
const NO_AGENT: &str = "exit=13 after_ms=0";

/// A rig whose agent is this file.
fn with_agent(update: &str, plan: &[&str]) -> (Rig, PathBuf) {
    let mut rig = Rig::new(FAST).plan(plan);
    let agent = rig.home.user_home().join("claude");
    copy_over(&agent, &build("agent 1"));
    rig.home.set_env("AUTOPILOT_CLAUDE", &agent);
    let config = rig.config().to_owned();
    let settings = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("agent_update = \"{update}\"\n{settings}")).unwrap();
    (rig, agent)
}

/// As npm does it: another file by the same name.
fn update(agent: &PathBuf, mark: &str) {
    fs::remove_file(agent).unwrap();
    copy_over(agent, &build(mark));
}

/// What the worker that runs was told.
fn told(rig: &Rig) -> PathBuf {
    vitals::environment(rig.ready_worker(), "AUTOPILOT_CLAUDE").unwrap().into()
}

#[test]
fn the_agent_is_a_copy_that_stays_until_the_operator_says_so() {
    let (rig, agent) = with_agent("manual", &[WELL]);
    let daemon = rig.start();
    let first = told(&rig);
    assert!(first.starts_with(rig.home.path().join("bin/agents")), "{}", first.display());
    assert_eq!(fs::read(&first).unwrap(), build("agent 1"));
    // No second copy of its bytes: another name, unless the file system shares blocks.
    let shared = rig.home.user_home().join("shared");
    let clone = rig.home.command("cp").arg("--reflink=always").arg(&agent).arg(&shared).output().unwrap();
    if !clone.status.success() {
        assert_eq!(fs::metadata(&first).unwrap().ino(), fs::metadata(&agent).unwrap().ino());
    }

    update(&agent, "agent 2");
    rig.ask("restart-worker");
    assert_eq!(told(&rig), first);
    assert_eq!(fs::read(&first).unwrap(), build("agent 1"), "whatever became of the file");
    fs::remove_file(&agent).unwrap();
    rig.ask("restart-worker");
    assert_eq!(told(&rig), first);

    copy_over(&agent, &build("agent 3"));
    let said = rig.home.autopilotd(["install", "--agent", "--restart"]);
    assert!(said.status.success(), "{said:?}");
    let third = told(&rig);
    assert_eq!(fs::read(&third).unwrap(), build("agent 3"));
    let status = rig.wait_for("it is proven", |status| status["agent_standing"] == "good");
    assert!(third.to_string_lossy().contains(status["agent_sha256"].as_str().unwrap()));
    let listed = rig.home.autopilotd(["binaries", "--agent"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 3);
    rig.finish(daemon);
}

#[test]
fn a_new_agent_that_does_not_work_is_rolled_back() {
    let (rig, agent) = with_agent("on-new-version", &[WELL, WELL, QUIET, NO_AGENT, NO_AGENT, NO_AGENT, WELL]);
    let daemon = rig.start();
    let first = told(&rig);
    rig.wait_for("it is proven", |status| status["agent_standing"] == "good");
    update(&agent, "agent 2");
    // It is looked into beside the next worker, and is for the one after that.
    rig.ask("restart-worker");
    assert_eq!(told(&rig), first);
    let folder = rig.home.path().join("bin/agents");
    let copies = || fs::read_dir(&folder).unwrap().filter(|item| item.as_ref().unwrap().path().is_dir()).count();
    rig.home.wait_until("it is looked into", testkit::home::DEADLINE, || (copies() == 2).then_some(()));
    let journal = rig.home.path().join("workers/main/journal.jsonl");
    rig.home.wait_until("it is told", testkit::home::DEADLINE, || {
        let text = fs::read_to_string(&journal).unwrap();
        text.lines()
            .any(|line| {
                line.contains("binary-admitted") && line.contains("\"agent\":true") && line.contains("if it fails")
            })
            .then_some(())
    });
    // The worker knows that there is another one.
    let on_trial = || vitals::environment(rig.ready_worker(), "AUTOPILOT_CLAUDE_PROBATION");
    assert_eq!(on_trial(), None);
    rig.ask("restart-worker");
    assert_eq!(on_trial().as_deref(), Some("1"));
    rig.ask("restart-worker");
    let status = rig.wait_for("the first one is back", |status| {
        status["agent_rolled_back"].is_string() && status["worker_ready"] == true
    });
    assert!(status["agent_rolled_back"].as_str().unwrap().contains("exit status 13"), "{status:#}");
    assert_eq!(told(&rig), first);
    assert_eq!(rig.starts(), 7, "three starts with the new one that count");
    assert_eq!(status["rolled_back"], serde_json::Value::Null, "the worker's binary is not to blame");
    rig.ask("restart-worker");
    assert_eq!(told(&rig), first, "the file is still there, and known");
    rig.finish(daemon);
}

#[test]
fn an_agent_that_looks_for_its_place_or_is_switched_off_runs_where_it_is() {
    for (kind, is_script) in [("manual", true), ("off", false)] {
        let (rig, agent) = with_agent(kind, &[WELL]);
        if is_script {
            fs::remove_file(&agent).unwrap();
            write_program(&agent, "#!/bin/sh\nexec \"$(dirname \"$0\")/cli\" \"$@\"\n");
        }
        let daemon = rig.start();
        assert_eq!(told(&rig), agent, "{kind}");
        rig.finish(daemon);
    }
}

/// A shell reads it while it runs: no other name of the user's file will do.
#[test]
fn an_agent_that_is_a_script_is_copied() {
    let (rig, agent) = with_agent("manual", &[WELL]);
    fs::remove_file(&agent).unwrap();
    let script = "#!/bin/sh\nexec node /opt/cli.js \"$@\"\n";
    write_program(&agent, script);
    let daemon = rig.start();
    let first = told(&rig);
    assert!(first.starts_with(rig.home.path().join("bin/agents")), "{}", first.display());
    write_program(&agent, "#!/bin/sh\nexit 1\n");
    rig.ask("restart-worker");
    assert_eq!((told(&rig), fs::read_to_string(&first).unwrap()), (first, script.to_owned()));
    rig.finish(daemon);
}

#[test]
fn a_bad_agent_is_no_reason_not_to_start() {
    let (rig, agent) = with_agent("on-new-version", &[WELL]);
    let daemon = rig.start();
    let first = told(&rig);
    for bytes in [b"just words\n".to_vec(), build("x")[..5_000].to_vec(), Vec::new()] {
        update(&agent, "y");
        copy_over(&agent, &bytes);
        rig.ask("restart-worker");
        assert_eq!(told(&rig), first);
    }
    rig.finish(daemon);
}

/// Where the copy is a link, a write into the user's file reaches it: it is not what its name says any more.
#[test]
fn an_agent_that_is_written_over_in_place_is_a_new_one() {
    for kind in ["manual", "on-new-version"] {
        let (rig, agent) = with_agent(kind, &[WELL]);
        let daemon = rig.start();
        let first = told(&rig);
        rig.wait_for("it is proven", |status| status["agent_standing"] == "good");
        copy_over(&agent, &build("agent 2"));
        rig.ask("restart-worker");
        let second = told(&rig);
        let sum = rig.home.command("sha256sum").arg(&second).output().unwrap();
        let name = second.parent().unwrap().file_name().unwrap().to_str().unwrap();
        assert!(String::from_utf8_lossy(&sum.stdout).starts_with(name), "{kind}: {}", second.display());
        if fs::read(&first).unwrap() != build("agent 1") {
            assert_ne!(second, first, "{kind}");
            let journal = fs::read_to_string(rig.home.path().join("workers/main/journal.jsonl")).unwrap();
            let told =
                journal.lines().any(|line| line.contains("binary-refused") && line.contains("it was changed since"));
            assert!(told, "{kind}");
        }
        rig.finish(daemon);
    }
}
