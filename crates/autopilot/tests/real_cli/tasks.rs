//! The queue with the real CLI: its tools, and tasks that are worked off whoever is killed.

use serde_json::{Value, json};
use testkit::fake_api::{Answer, FakeApi, Script, When};
use testkit::home;
use testkit::home::Home;
use testkit::netns::isolated;

use crate::job::{DEADLINE, expect_closed, expect_code};

const DONE: &str = "All of it.\n\nAUTOPILOT: DONE";

/// What a command says on stdout; it has to succeed.
pub(crate) fn said(home: &Home, args: &[&str]) -> String {
    let output = home.autopilot(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

pub(crate) fn states(home: &Home) -> Vec<(u64, String)> {
    let list: Value = serde_json::from_str(&said(home, &["issue", "list", "--all", "--json"])).expect("JSON");
    let tasks = list["tasks"].as_array().expect("tasks");
    let state = |task: &Value| (task["id"].as_u64().expect("id"), task["state"].as_str().expect("state").to_owned());
    let mut states: Vec<_> = tasks.iter().map(state).collect();
    states.sort();
    states
}

#[test]
fn a_session_has_the_queues_tools_and_can_use_them() {
    isolated(|| {
        let create = Answer::tool_use(
            "mcp__autopilot__issue_create",
            json!({ "title": "Found on the way", "priority": "urgent", "needs": [1] }),
        );
        let complete = Answer::tool_use("mcp__autopilot__issue_complete", json!({ "id": 1 }));
        // The second task's session finds neither of them in its conversation.
        let script = Script::new()
            .on_times(1, When::ToolResults(0), create)
            .on(When::ToolResults(1), complete)
            .on(When::Any, Answer::text(DONE));
        let api = FakeApi::start(script);
        let mut home = home!();
        home.use_real_claude(&api);
        said(&home, &["issue", "create", "First"]);
        expect_code(&mut home.start_autopilot(["run", "--full-auto"]), 0);

        assert_eq!(states(&home), [(1, "done".to_owned()), (2, "done".to_owned())]);
        let requests = api.agent_requests();
        // It is told of them by name; their schemas it fetches when it wants to.
        let told = requests[0].body.to_string();
        for tool in ["list", "get", "create", "update", "block", "complete", "ready"] {
            assert!(told.contains(&format!("mcp__autopilot__issue_{tool}")), "{tool}: {told}");
        }
        // What is its own task is not the agent's to complete.
        let texts = requests[2].conversation().user_texts().join("\n");
        assert!(texts.contains("end your last message with the line AUTOPILOT: DONE"), "{texts}");
        home.rlogs().iter().for_each(expect_closed);
        home.wait_until_nothing_runs(DEADLINE);
    });
}
