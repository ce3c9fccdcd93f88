//! What the supervisor is told of what the worker does: one line for people, until something else happens.

use os::process::Send;

use crate::stage::Stage;
use crate::{WORK, assert_code};

/// The only status of a datagram.
#[track_caller]
fn status_of(said: &str) -> &str {
    let all: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("STATUS=")).collect();
    assert_eq!(all.len(), 1, "{said}");
    all[0]
}

#[test]
fn who_is_needed_is_told_for_what_and_until_when() {
    let mut stage = Stage::new("init; refused authentication_failed 401 'Not logged in · Please run /login'");
    stage.supervised = true;
    let worker = stage.start(&["prompt=x"]);
    let said = stage.wait_for("AUTOPILOT_PHASE=needs-you");
    let status = status_of(&said);
    let (need, rest) = status.split_once("; next attempt at ").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(need, "needs you: the login was refused");
    // A time of day, and no span: it is read later.
    assert_eq!(rest.split_once(": "), Some((&rest[..8], "Not logged in · Please run /login")), "{status}");
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
}

#[test]
fn a_wait_is_the_status_until_something_else_happens() {
    let mut stage = Stage::new(WORK);
    stage.supervised = true;
    stage.scene(1, "init; exit 3");
    stage.scene(2, "init; printf '%s\\n' '{\"type\":\"system\",\"subtype\":\"api_retry\",\"attempt\":1,\"max_retries\":9,\"retry_delay_ms\":60000,\"error\":\"overloaded\",\"error_status\":529}'; hang");
    let worker = stage.start(&["prompt=x"]);
    let said = stage.wait_for("; next attempt at ");
    assert!(status_of(&said).starts_with("the CLI died (exit 3); next attempt at "), "{said}");
    let said = stage.wait_for("AUTOPILOT_PHASE=starting");
    assert_eq!(status_of(&said), "starting the CLI; 0 turns, $0.00");
    let said = stage.wait_for("AUTOPILOT_PHASE=limit");
    assert_eq!(status_of(&said), "API: overloaded (529); the CLI tries again in 60000 ms (1 of 9)");
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
}

#[test]
fn the_agents_words_are_the_status_while_a_person_is_needed() {
    let mut stage = Stage::new(&format!(
        "init; say 'AUTOPILOT: BLOCKED {0}'; ok 'AUTOPILOT: BLOCKED {0}'",
        "no key ".repeat(1_000)
    ));
    stage.supervised = true;
    let worker = stage.start(&["prompt=x"]);
    let said = stage.wait_for("AUTOPILOT_PHASE=needs-you");
    assert!(status_of(&said).starts_with("needs you: the agent says that it needs a person: no key no key"), "{said}");
    assert!(status_of(&said).ends_with('…') && status_of(&said).chars().count() <= 500, "{said}");
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
}
