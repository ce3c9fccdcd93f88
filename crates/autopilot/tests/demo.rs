//! `autopilot demo` as its user has it: it does what it claims, in time, and leaves nothing behind, however it ends.
#![expect(clippy::disallowed_methods, reason = "tests measure real time and start real programs")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::fake_api::{Answer, FakeApi, Script, When};
use testkit::home;
use testkit::home::{DEADLINE, Home, Signal, Started, control_groups_of};
use testkit::netns::isolated;

/// What the demo promises.
const LONGEST: Duration = Duration::from_secs(30);
/// With the real CLI, and a longer stall timeout.
const LONGEST_REAL: Duration = Duration::from_secs(120);

/// `said` is what the demo printed, if it was kept.
fn assert_nothing_left(home: &Home, said: &str) {
    if let Some(stage) = stage(said) {
        let groups = control_groups_of(&stage.join("home"));
        assert!(groups.is_empty(), "left behind: {groups:?}");
    }
    home.wait_until_nothing_runs(Duration::ZERO);
    let files = fs::read_dir(home.temporary()).expect("read the temporary folder").flatten().map(|entry| entry.path());
    let files: Vec<PathBuf> = files.collect();
    assert!(files.is_empty(), "left behind: {files:?}");
    assert!(!home.path().exists(), "the user's own home was used");
}

/// The demo's folder, as it says itself.
fn stage(said: &str) -> Option<PathBuf> {
    said.lines().find_map(|line| line.strip_prefix("Everything happens in ")).map(PathBuf::from)
}

fn wait_for(home: &Home, demo: &mut Started, words: &str) {
    home.wait_until(words, DEADLINE, || {
        assert!(!demo.has_ended(), "it ended before {words:?}: {}{}", demo.stdout(), demo.stderr());
        demo.stdout().contains(words).then_some(())
    });
}

fn assert_all_six_acts(said: &str) {
    for act in ["1/6  Normal work", "2/6  kill -9 of the worker", "3/6  A hang", "4/6  kill -9 of the daemon"] {
        assert!(said.contains(act), "{act}: {said}");
    }
    for act in ["5/6  A leak", "6/6  The work is finished, exactly once"] {
        assert!(said.contains(act), "{act}: {said}");
    }
    assert_eq!(said.lines().filter(|line| line.trim_start().starts_with("ok     ")).count(), 7, "{said}");
    for row in ["worker killed", "worker hung", "daemon killed", "child leaked"] {
        assert!(said.lines().any(|line| line.starts_with(row)), "{row}: {said}");
    }
    assert!(said.contains("Left behind: nothing."), "{said}");
}

/// With nothing but the one binary: no `autopilotd` beside it, and no other program to be found.
#[test]
fn all_six_acts_do_what_they_claim_within_thirty_seconds() {
    let mut home = home!();
    let alone = home.user_home().join("autopilot");
    fs::copy(home.autopilot_path(), &alone).unwrap();
    home.set_env("PATH", home.user_home().join("no-programs"));
    let mut command = home.command(&alone);
    command.arg("demo");
    let started = Instant::now();
    let output = home.start("demo", command).into_output(LONGEST);
    let took = started.elapsed();
    fs::remove_file(alone).unwrap();

    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(took < LONGEST, "{took:?}");
    assert_all_six_acts(&said);
    for expected in ["session", "resumed", "killed by SIGKILL", "stalled", "was running already", "SIGTERM to process"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(said.is_ascii(), "plain where it is no terminal: {said}");
    assert!(!said.contains('\x1b'));
    let longest = said.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80), "{longest:?}: {said}");
    assert_nothing_left(&home, &said);
}

#[test]
fn a_signal_at_any_time_leaves_nothing_behind() {
    for (moment, signal, code) in [
        ("Everything happens in", Signal::INT, 130),
        ("runs ./step 1", Signal::HUP, 129),
        ("kill -9", Signal::INT, 130),
        ("kill -STOP", Signal::TERM, 143),
    ] {
        let home = home!();
        let mut demo = home.start_autopilot(["demo"]);
        wait_for(&home, &mut demo, moment);
        demo.signal(signal);
        assert_eq!(demo.wait_for_code(DEADLINE), code, "{moment}: {}{}", demo.stdout(), demo.stderr());
        assert!(demo.stdout().contains("Left behind: nothing."), "{moment}: {}", demo.stdout());
        assert_nothing_left(&home, &demo.stdout());
    }
}

#[test]
fn a_daemon_that_dies_unasked_is_a_failure_and_is_cleared_away_too() {
    let home = home!();
    let mut demo = home.start_autopilot(["demo"]);
    wait_for(&home, &mut demo, "kill -STOP");
    let is_daemon = |command: &str| command.contains("autopilotd start");
    let processes = home.processes();
    // The shim is a fork of the daemon and has its command line; the daemon is the older one.
    let daemon = processes.iter().filter(|process| is_daemon(&process.command)).min_by_key(|process| process.pid);
    home.kill(daemon.unwrap());
    assert_eq!(demo.wait_for_code(DEADLINE), 1, "{}", demo.stdout());
    assert!(demo.stderr().contains("error: the demo ended early: the daemon ended"), "{}", demo.stderr());
    assert!(demo.stdout().contains("FAILED"), "{}", demo.stdout());
    assert_nothing_left(&home, &demo.stdout());
}

/// Other programs come and go while the demo runs. Here one frees so much that the leak alone makes memory low no more.
#[test]
fn the_leak_is_ended_although_others_free_memory_meanwhile() {
    let home = home!();
    // Ones: a page of zeros would not be there until it is written to.
    let others = vec![1_u8; 500 << 20];
    let mut demo = home.start_autopilot(["demo"]);
    wait_for(&home, &mut demo, "lets the tool start");
    assert_eq!(std::hint::black_box(&others).last(), Some(&1));
    drop(others);
    assert_eq!(demo.wait_for_code(LONGEST), 0, "{}{}", demo.stdout(), demo.stderr());
    assert!(demo.stdout().contains("others took or freed much memory"), "{}", demo.stdout());
    assert_nothing_left(&home, &demo.stdout());
}

/// Files are beyond what a killed process can remove; processes are not.
#[test]
fn kill_9_of_the_demo_leaves_no_process() {
    let home = home!();
    let mut demo = home.start_autopilot(["demo"]);
    wait_for(&home, &mut demo, "runs ./step 1");
    demo.kill();
    home.wait_until_nothing_runs(DEADLINE);
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let home = home!();
    let mut command = home.command("sh");
    command.args(["-c", "\"$0\" demo | head -n 3"]).arg(home.autopilot_path());
    let output = home.start("demo", command).into_output(LONGEST);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3);
    assert_nothing_left(&home, "");
}

#[test]
fn without_the_cli_it_says_how_to_install_it() {
    let mut home = home!();
    home.set_env("PATH", home.user_home());
    let output = home.autopilot(["demo", "--agent", "claude"]);
    assert_eq!(output.status.code(), Some(13));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: the Claude CLI is missing: claude is not in PATH\n\
         hint: npm install -g @anthropic-ai/claude-code, or set AUTOPILOT_CLAUDE to its path\n"
    );
    assert_nothing_left(&home, "");
}

/// A terminal of 80 columns, in which Ctrl-C reaches demo and daemon at once.
#[test]
fn in_a_terminal_it_has_colours_unless_told_otherwise_and_ctrl_c_ends_it() {
    for (setting, has_colours) in [("", true), ("NO_COLOR=1 ", false)] {
        let home = home!();
        let tmux = |args: &[&str]| {
            let mut command: Command = home.command("tmux");
            let socket = home.user_home().join("tmux");
            let output = command.arg("-S").arg(socket).args(args).output().expect("run tmux");
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let program = home.autopilot_path().display().to_string();
        let command = format!("env TERM=xterm {setting}'{program}' demo; echo code $?; read -r _");
        tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "50", &command]);
        let screen = || tmux(&["capture-pane", "-p", "-e"]);
        home.wait_until("the hang", DEADLINE, || screen().contains("kill -STOP").then_some(()));
        tmux(&["send-keys", "C-c"]);
        let end = home.wait_until("its end", DEADLINE, || Some(screen()).filter(|screen| screen.contains("code ")));
        assert!(end.contains("code 130") && end.contains("Left behind: nothing."), "{end}");
        assert_eq!(end.contains("\x1b["), has_colours, "{end}");
        tmux(&["kill-server"]);
        home.wait_until_nothing_runs(DEADLINE);
        assert_nothing_left(&home, &end);
    }
}

#[test]
fn the_real_cli_plays_all_six_acts_and_keeps_no_transcript() {
    isolated(|| {
        let mut home = home!();
        let done = |number: u32| When::Contains(format!("wrote line {number}"));
        let finished = Answer::text("All lines are there.\nAUTOPILOT: DONE");
        // A killed CLI may not have written the last tool result into its transcript: whoever is resumed has to look.
        let look = Answer::bash("echo wrote line $(cat counted.txt | wc -l)");
        let script = Script::new().on(When::LastContains("You were interrupted".to_owned()), look);
        let script = (1..6).rev().fold(script.on(done(6), finished), |script, number| {
            script.on(done(number), Answer::bash(format!("./step {}", number + 1)))
        });
        let api = FakeApi::start(script.on(When::Any, Answer::bash("./step 1")));
        home.use_real_claude(&api);
        let output = home.start_autopilot(["demo", "--agent", "claude"]).into_output(LONGEST_REAL);

        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert_all_six_acts(&said);
        assert!(said.contains("costs a few cents"), "{said}");
        let sessions: Vec<_> = api.agent_requests().iter().filter_map(|r| r.session_id().map(str::to_owned)).collect();
        assert!(sessions.len() >= 7 && sessions.iter().all(|session| *session == sessions[0]), "{sessions:?}");
        let kept = |kind: &str| fs::read_dir(home.user_home().join(".claude").join(kind)).into_iter().flatten().count();
        assert_eq!((kept("projects"), kept("session-env"), kept("sessions")), (0, 0, 0));
        assert_nothing_left(&home, &said);
    });
}
