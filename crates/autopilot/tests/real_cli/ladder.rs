//! Sessions that fail again and again, limits that outlive a worker, and a login that comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use testkit::fake_api::{Answer, FakeApi, Request, Script, When};
use testkit::home;
use testkit::home::Home;
use testkit::netns::isolated;

use crate::faults::epoch_seconds;
use crate::job::{
    DEADLINE, FILE, all_done, call, end_reasons, expect_closed, expect_code, expect_done_after_the_limit,
    job_after_a_limit, start_full_auto,
};

/// What the fresh session is told.
const HAND_OVER: &str = "An earlier session worked on this";

fn home_for(api: &FakeApi) -> Home {
    let mut home = home!();
    home.use_real_claude(api);
    home.set_env("CLAUDE_CODE_MAX_RETRIES", "0");
    home.set_env("AUTOPILOT_RETRY_DELAY_MS", "250");
    home
}

/// Not a fault that passes by itself, nor one that a person must see to.
fn refused() -> Answer {
    Answer::error(400, "invalid_request_error", "messages.3: this conversation is poisoned")
}

/// The sessions in the order in which they asked first.
fn sessions(requests: &[Request]) -> Vec<String> {
    let mut sessions = Vec::new();
    for session in requests.iter().filter_map(Request::session_id) {
        if !sessions.iter().any(|known| known == session) {
            sessions.push(session.to_owned());
        }
    }
    sessions
}

fn work_json(home: &Home) -> serde_json::Value {
    let text = std::fs::read_to_string(home.path().join("projects/demo/work.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[test]
fn a_session_that_fails_is_resumed_then_copied_then_replaced() {
    isolated(|| {
        // The record of the session is refused, whoever asks with it: only one without it can go on.
        let script = Script::new()
            .on(When::Contains(HAND_OVER.into()), all_done())
            .on(When::ToolResults(0), call())
            .on(When::Any, refused());
        let api = FakeApi::start(script);
        let home = home_for(&api);
        expect_code(&mut start_full_auto(&home), 0);

        assert_eq!(home.read(FILE), "once\n");
        let requests = api.agent_requests();
        let sessions = sessions(&requests);
        // The first one and its two resumptions, two copies, and the fresh one.
        assert_eq!(sessions.len(), 4, "{sessions:?}");
        let last = requests.last().unwrap().conversation();
        for told in ["Append a line to once.txt.", HAND_OVER, "- Bash \"echo once >> once.txt\" → [ok]"] {
            assert!(last.contains(told), "the fresh session is told: {told}");
        }
        let [rlog] = home.rlogs().try_into().unwrap();
        expect_closed(&rlog);
        assert!(rlog.text.contains("a copy of the session takes over"), "{}", rlog.text);
        assert!(rlog.text.contains("a fresh session takes over"), "{}", rlog.text);
    });
}

#[test]
fn a_job_that_no_session_can_do_is_given_up_and_can_be_gone_on_with() {
    isolated(|| {
        let mut api = FakeApi::start(Script::always(refused()));
        let home = home_for(&api);
        let mut worker = start_full_auto(&home);
        expect_code(&mut worker, 16);
        // The first one, two copies, three fresh ones. For each refusal the CLI itself asks in several ways.
        assert_eq!(sessions(&api.agent_requests()).len(), 6);
        let [rlog] = home.rlogs().try_into().unwrap();
        assert!(rlog.text.contains("given up after 8 failures in a row"), "{}", rlog.text);
        assert_eq!(work_json(&home)["failures"], 7, "one more attempt");
        api.set_script(Script::steps([call(), all_done()]));
        expect_code(&mut start_full_auto(&home), 0);
        assert_eq!(home.read(FILE), "once\n");
        assert_eq!(end_reasons(&home), ["cli-failed", "done"]);
    });
}

/// Whatever happens to workers meanwhile: not one request before the limit ends, and one after.
#[test]
fn a_usage_limit_is_kept_by_the_workers_that_come_after() {
    isolated(|| {
        let reset = epoch_seconds() + 12;
        let api = FakeApi::start(job_after_a_limit(reset));
        let mut home = home_for(&api);
        home.use_login_token();
        let mut worker = start_full_auto(&home);
        for _ in 0..3 {
            home.wait_until("the worker waits for the limit", DEADLINE, || {
                work_json(&home)["limit_until_unix_ms"].is_u64().then_some(())
            });
            worker.kill();
            worker = start_full_auto(&home);
            home.wait_until("it has begun", DEADLINE, || worker.stdout().contains("usage limit").then_some(()));
        }
        assert_eq!(api.agent_requests().len(), 1, "the one that was refused");
        assert!(epoch_seconds() < reset, "this test has taken longer than the limit");
        expect_done_after_the_limit(&home, &api, &mut worker, reset);
        assert!(work_json(&home)["limit_until_unix_ms"].is_null());
    });
}

/// Under a supervisor: nobody is asked but the CLI itself, until somebody logs in.
#[test]
fn a_login_that_comes_back_is_noticed_without_a_request() {
    isolated(|| {
        let api = FakeApi::start(Script::steps([call(), all_done()]));
        let mut home = home_for(&api);
        home.set_env("AUTOPILOTD_SUPERVISED", "1");
        home.log_out();
        let mut worker = start_full_auto(&home);
        home.wait_until("it needs a login", DEADLINE, || worker.stdout().contains("login").then_some(()));
        assert!(!worker.ends_within(Duration::from_secs(2)), "{}", worker.stderr());
        assert_eq!(api.agent_requests().len(), 0);
        home.log_in();
        api.wait_for_agent_requests(2, DEADLINE);
        home.wait_until("the job is done", DEADLINE, || (work_json(&home)["status"] == "done").then_some(()));
        assert_eq!(home.read(FILE), "once\n");
        let sessions: BTreeSet<_> =
            api.agent_requests().iter().filter_map(|r| r.session_id().map(str::to_owned)).collect();
        assert_eq!(sessions.len(), 1);
        worker.signal(testkit::home::Signal::TERM);
        expect_code(&mut worker, 143);
    });
}
