//! In a terminal: what is drawn there, and that it is left as it was.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage up has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use testkit::home;
use testkit::home::{DEADLINE, Home};
use testkit::pty::Terminal;

/// A stand-in for the agent: a call that takes until there is a file `go`, then words, and an end if there is `end`.
const AGENT: &str = r#"#!/bin/sh
echo '{"type":"system","subtype":"init","model":"m","tools":[],"mcp_servers":[{"name":"autopilot","status":"connected"}]}'
echo '{"type":"assistant","message":{"id":"m1","model":"m","content":[{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"cargo test --workspace --all-targets"}}],"usage":{}}}'
until [ -e go ]; do sleep 0.02; done
echo '{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":"ok"}]}}'
echo '{"type":"assistant","message":{"id":"m2","model":"m","content":[{"type":"text","text":"Almost there."}],"usage":{}}}'
until [ -e end ]; do sleep 0.02; done
echo '{"type":"result","subtype":"success","is_error":false,"terminal_reason":"completed","stop_reason":"end_turn","num_turns":2,"total_cost_usd":0.0,"result":"x"}'
"#;

const WIPE: &str = "\r\x1b[K";

fn home_with_agent() -> Home {
    let mut home = home!();
    let agent = home.user_home().join("agent");
    fs::write(&agent, AGENT).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    home.set_env("AUTOPILOT_CLAUDE", agent);
    home.set_env("TERM", "xterm-256color");
    home
}

fn command(home: &Home, args: &[&str]) -> Command {
    let mut command = home.command(home.autopilot_path());
    command.current_dir(home.repository()).args(args);
    command
}

/// What stands below the last line of the log: nothing, once all is over.
fn rest(drawn: &str) -> &str {
    drawn.rsplit('\n').next().unwrap()
}

#[test]
fn a_run_shows_live_what_happens_and_leaves_the_terminal_clean() {
    let home = home_with_agent();
    let mut terminal = Terminal::start(&command(&home, &["run", "Fix it"]), 100, 24);
    terminal.wait_for("Bash: cargo test --workspace --all-targets  0:0", DEADLINE);
    terminal.wait_for("| 1 turn | $0.00 | 0:0", DEADLINE);
    terminal.resize(40, 24);
    terminal.wait_for("Bash: …  0:0", DEADLINE);
    fs::write(home.repository().join("go"), "").unwrap();
    terminal.wait_for("Almost there.", DEADLINE);
    terminal.resize(100, 24);
    terminal.wait_for("waiting for the model  0:0", DEADLINE);
    terminal.wait_for("| 2 turns | $", DEADLINE);
    fs::write(home.repository().join("end"), "").unwrap();
    assert_eq!(terminal.end(DEADLINE), Some(0), "{}", terminal.drawn());
    terminal.wait_for("reason=done", DEADLINE);
    let drawn = terminal.drawn();
    assert!(drawn.contains("\x1b[1;32ma:\x1b[0m"), "in colour: {drawn:?}");
    let last = rest(&drawn);
    assert!(last.is_empty() || last.ends_with(WIPE), "{last:?}");
    assert!(terminal.is_as_it_was());
}

#[test]
fn ctrl_c_leaves_the_terminal_clean_and_no_color_is_honoured() {
    let mut home = home_with_agent();
    home.set_env("NO_COLOR", "1");
    let mut terminal = Terminal::start(&command(&home, &["run", "Fix it"]), 100, 24);
    terminal.wait_for("Bash: cargo test", DEADLINE);
    terminal.press("\x03");
    assert_eq!(terminal.end(DEADLINE), Some(130), "{}", terminal.drawn());
    terminal.wait_for("reason=interrupted", DEADLINE);
    let drawn = terminal.drawn();
    let last = rest(&drawn);
    assert!(last.is_empty() || last.ends_with(WIPE), "{last:?}");
    assert!(!drawn.contains("next attempt"), "nothing is tried again: {drawn:?}");
    assert!(!drawn.replace(WIPE, "").contains('\x1b'), "no colours: {drawn:?}");
    assert!(terminal.is_as_it_was());
    home.wait_until_nothing_runs(DEADLINE);
}

#[test]
fn a_terminal_that_cannot_redraw_gets_plain_lines() {
    let mut home = home_with_agent();
    home.set_env("TERM", "dumb");
    fs::write(home.repository().join("go"), "").unwrap();
    fs::write(home.repository().join("end"), "").unwrap();
    let mut terminal = Terminal::start(&command(&home, &["run", "Fix it"]), 100, 24);
    assert_eq!(terminal.end(DEADLINE), Some(0), "{}", terminal.drawn());
    terminal.wait_for("reason=done", DEADLINE);
    assert!(!terminal.drawn().contains('\x1b') && !terminal.drawn().contains("| 0:"), "{:?}", terminal.drawn());
}

#[test]
fn a_replay_obeys_its_keys_and_gives_the_keyboard_back() {
    let home = home_with_agent();
    let day = home.repository().join("docs/logs/20261122");
    fs::create_dir_all(&day).unwrap();
    let lines: String = (1..=50).map(|line| format!("a: line {line}.\n")).collect();
    fs::write(day.join("120000-x.rlog"), format!("{lines}@end reason=done\n")).unwrap();
    let replay = command(&home, &["replay", "--speed", "0.01", "--max-pause", "1000"]);
    let mut terminal = Terminal::start(&replay, 100, 24);
    terminal.wait_for("q: quit", DEADLINE);
    // A hundred seconds a line, unless somebody presses a key.
    terminal.press("\n\n");
    terminal.wait_for("line 2.", DEADLINE);
    assert!(!terminal.drawn().contains("line 4."));
    terminal.press(&"+".repeat(40));
    terminal.wait_for("reason=done", DEADLINE);
    assert_eq!(terminal.end(DEADLINE), Some(0));
    assert!(terminal.is_as_it_was());
    let mut stopped = Terminal::start(&replay, 100, 24);
    stopped.wait_for("q: quit", DEADLINE);
    stopped.press("q");
    assert_eq!(stopped.end(DEADLINE), Some(0));
    assert!(stopped.is_as_it_was());
}
