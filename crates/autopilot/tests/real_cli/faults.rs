//! What the API can answer instead of an answer: a typed outcome each, few requests, and a last line that says why.

use std::time::Duration;

use testkit::fake_api::{Answer, FakeApi, Script, When};
use testkit::home::Home;
use testkit::netns::isolated;
use testkit::{home, rlog::Rlog};

use crate::job::{
    DEADLINE, all_done, call, expect_closed, expect_code, expect_done_after_the_limit, expect_done_once,
    job_after_a_limit, start_full_auto, start_single_session, whole_job,
};

/// More than this in a run that ends in a fault is hammering: the first request, the CLI's one retry, and one of grace.
const MANY_REQUESTS: usize = 3;
/// How long the worker lets the model be silent where the API hangs: more than the CLI needs to start, on a busy machine.
const MODEL_SILENCE_MS: &str = "4000";

/// A home whose CLI asks again at most once by itself.
fn home_for(api: &FakeApi) -> Home {
    let mut home = home!();
    home.use_real_claude(api);
    home.set_env("CLAUDE_CODE_MAX_RETRIES", "1");
    home.set_env("AUTOPILOT_RETRY_DELAY_MS", "500");
    home
}

fn the_only_log(home: &Home) -> Rlog {
    let [rlog] = home.rlogs().try_into().unwrap_or_else(|rlogs| panic!("one log, not {rlogs:#?}"));
    rlog
}

/// A single session that meets this answer ends with this exit code and this reason.
fn expect_outcome(answer: Answer, code: i32, reason: &str) {
    let api = FakeApi::start(Script::always(answer));
    let home = home_for(&api);
    expect_outcome_in(&home, &api, code, reason);
}

/// The same of a model that falls silent.
fn expect_hung(answer: Answer) {
    let api = FakeApi::start(Script::always(answer));
    let mut home = home_for(&api);
    home.set_env("AUTOPILOT_MODEL_SILENCE_MS", MODEL_SILENCE_MS);
    expect_outcome_in(&home, &api, 14, "api:hung");
}

fn expect_outcome_in(home: &Home, api: &FakeApi, code: i32, reason: &str) {
    let mut worker = start_single_session(home);
    expect_code(&mut worker, code);

    let rlog = the_only_log(home);
    expect_closed(&rlog);
    assert_eq!(rlog.end_reason(), Some(reason), "{}", rlog.text);
    let requests = api.agent_requests().len();
    assert!((1..=MANY_REQUESTS).contains(&requests), "{requests} requests");
    assert!(!worker.stderr().trim().is_empty(), "a person is told why");
    assert_eq!(home.read(crate::job::FILE), "");
    home.wait_until_nothing_runs(DEADLINE);
}

#[test]
fn a_refused_key_needs_a_person() {
    isolated(|| expect_outcome(Answer::unauthorized(), 12, "needs-you:login"));
}

#[test]
fn an_empty_account_needs_a_person() {
    isolated(|| expect_outcome(Answer::no_credit(), 12, "needs-you:credit"));
}

#[test]
fn a_disabled_organisation_needs_a_person() {
    isolated(|| expect_outcome(Answer::organisation_disabled(), 12, "needs-you:organisation"));
}

#[test]
fn an_unknown_model_needs_a_person() {
    isolated(|| expect_outcome(Answer::model_not_found(), 12, "needs-you:model"));
}

#[test]
fn a_rate_limit_is_told_apart() {
    isolated(|| expect_outcome(Answer::rate_limited(), 14, "rate-limit"));
}

#[test]
fn an_overloaded_api_is_told_apart() {
    isolated(|| expect_outcome(Answer::overloaded(), 14, "api:overloaded"));
}

#[test]
fn a_broken_api_is_told_apart() {
    isolated(|| expect_outcome(Answer::server_error(), 14, "api:server"));
}

#[test]
fn an_api_that_never_answers_is_not_waited_for_forever() {
    isolated(|| expect_hung(Answer::hang()));
}

#[test]
fn an_api_that_stops_in_mid_stream_is_not_waited_for_forever() {
    isolated(|| expect_hung(Answer::stop_mid_stream("I will")));
}

#[test]
fn a_refused_login_needs_a_person() {
    isolated(|| {
        let api = FakeApi::start(Script::always(Answer::unauthorized()));
        let mut home = home_for(&api);
        home.use_login_token();
        expect_code(&mut start_single_session(&home), 12);
        assert_eq!(the_only_log(&home).end_reason(), Some("needs-you:login"));
    });
}

/// Seconds since the epoch, as the API counts them.
pub(crate) fn epoch_seconds() -> u64 {
    let now = since_1970();
    now.as_secs()
}

#[expect(clippy::disallowed_methods, reason = "the API names the end of a limit by the wall clock")]
fn since_1970() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970")
}

#[test]
fn a_usage_limit_is_slept_through_and_the_job_gone_on_with() {
    isolated(|| {
        let reset = epoch_seconds() + 5;
        let api = FakeApi::start(job_after_a_limit(reset));
        let mut home = home_for(&api);
        home.use_login_token();

        let mut worker = start_full_auto(&home);
        expect_done_after_the_limit(&home, &api, &mut worker, reset);
    });
}

#[test]
fn a_usage_limit_ends_a_single_session() {
    isolated(|| {
        let api = FakeApi::start(Script::always(Answer::usage_limit(epoch_seconds() + 3600)));
        let mut home = home_for(&api);
        home.use_login_token();
        expect_code(&mut start_single_session(&home), 14);
        assert_eq!(the_only_log(&home).end_reason(), Some("rate-limit"));
    });
}

/// The fault passes, and full auto has waited for it: nobody was needed, and the API was not hammered.
fn expect_recovery(answer: Answer) {
    let script = Script::new()
        .on_times(2, When::ToolResults(1), answer)
        .on(When::ToolResults(0), call())
        .on(When::Any, all_done());
    let api = FakeApi::start(script);
    let mut home = home_for(&api);
    home.set_env("AUTOPILOT_MODEL_SILENCE_MS", MODEL_SILENCE_MS);
    expect_code(&mut start_full_auto(&home), 0);
    expect_done_once(&home, &api);
    assert!(api.agent_requests().len() <= 2 + MANY_REQUESTS, "{} requests", api.agent_requests().len());
}

#[test]
fn an_overload_in_the_middle_of_a_job_passes() {
    isolated(|| expect_recovery(Answer::overloaded()));
}

#[test]
fn a_hang_in_the_middle_of_a_job_passes() {
    isolated(|| expect_recovery(Answer::hang()));
}

#[test]
fn a_connection_cut_in_the_middle_of_a_job_passes() {
    isolated(|| expect_recovery(Answer::cut_mid_stream("I have ")));
}

/// The plain case, with what the log says about it.
#[test]
fn a_prompt_becomes_a_tool_call_a_file_and_an_orderly_log() {
    isolated(|| {
        let api = FakeApi::start(whole_job());
        let home = home_for(&api);
        expect_code(&mut start_single_session(&home), 0);
        expect_done_once(&home, &api);

        let rlog = the_only_log(&home);
        assert_eq!(rlog.header("format"), Some("rlog/1"));
        assert_eq!(rlog.header("branch"), Some("main"));
        assert_eq!(rlog.header("repo_sha"), Some(home.git(["rev-parse", "HEAD"]).as_str()));
        assert!(rlog.header("version").is_some() && rlog.header("cwd").is_some(), "{}", rlog.text);
        assert_eq!(rlog.field("@init", "model"), Some("claude-sonnet-5-5"));
        for beginning in ["u: Append a line", "t!:Bash id=", "o: id=", "a: It is written."] {
            assert!(rlog.text.lines().any(|line| line.starts_with(beginning)), "no {beginning:?} in\n{}", rlog.text);
        }
        assert_eq!(rlog.field("@end", "tokens_out"), Some("10"), "two answers of 5 tokens each");
    });
}
