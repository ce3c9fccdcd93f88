//! A job for the worker, and what has to be true of it in the end.

use std::time::Duration;

use crate::faults::epoch_seconds;
use testkit::fake_api::{Answer, FakeApi, Gate, Script, When};
use testkit::home::{Home, Started};
use testkit::rlog::Rlog;

/// For a few sessions of the real CLI on a busy machine with two cores.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What the agent says when nothing is left to be done.
pub(crate) const ALL_DONE: &str = "It is written.\n\nAUTOPILOT: DONE";

/// The file that the job appends a line to: done twice, it has two.
pub(crate) const FILE: &str = "once.txt";

/// The call that does the job.
pub(crate) fn call() -> Answer {
    Answer::bash(format!("echo once >> {FILE}"))
}

/// The same, and a child in a session of its own that is left running, as `nohup server &` leaves it.
pub(crate) fn call_that_leaves_a_child() -> Answer {
    Answer::bash(format!("setsid {CHILD} >/dev/null 2>&1 & echo once >> {FILE}"))
}

const CHILD: &str = "sleep 600";

/// Waits until that child runs; what it was before it became itself does not count.
pub(crate) fn wait_for_child(home: &Home) {
    home.wait_until("the tool's child runs", DEADLINE, || child_runs(home).then_some(()));
}

pub(crate) fn child_runs(home: &Home) -> bool {
    home.processes().iter().any(|process| process.command == CHILD)
}

pub(crate) fn all_done() -> Answer {
    Answer::text(ALL_DONE)
}

/// The tool call, then the end.
pub(crate) fn whole_job() -> Script {
    Script::steps([call(), all_done()])
}

/// Waits until the API holds the answer to the tool's result, and the CLI has written that result down.
///
/// It writes a moment after it asks. Killed before that it has forgotten that the tool ran; a model is then told to check
/// what is done, but the script here cannot.
pub(crate) fn wait_for_mid_turn(home: &Home, gate: &Gate) {
    gate.wait_for_arrival(DEADLINE);
    home.wait_until("the CLI has written the tool's result down", DEADLINE, || {
        home.claude_transcripts().contains("\"tool_result\"").then_some(())
    });
}

/// `autopilot run` for the job, as a person starts it.
pub(crate) fn start_single_session(home: &Home) -> Started {
    home.start_autopilot(["run", "--project", "demo", "--model", "sonnet", "Append a line to once.txt."])
}

/// The same until all is done.
pub(crate) fn start_full_auto(home: &Home) -> Started {
    let args = ["run", "--full-auto", "--project", "demo", "--model", "sonnet", "--max-turns", "50"];
    home.start_autopilot(args.into_iter().chain(["Append a line to once.txt."]))
}

/// A usage limit that ends then, and the job after it.
pub(crate) fn job_after_a_limit(reset_epoch_s: u64) -> Script {
    Script::new()
        .on_times(1, When::Any, Answer::usage_limit(reset_epoch_s))
        .on(When::ToolResults(0), call())
        .on(When::Any, all_done())
}

/// Not one request before the limit was over, one after it, and the job done.
pub(crate) fn expect_done_after_the_limit(home: &Home, api: &FakeApi, worker: &mut Started, reset_epoch_s: u64) {
    api.wait_for_agent_requests(2, DEADLINE);
    assert!(epoch_seconds() >= reset_epoch_s, "asked again before the limit was over");
    expect_code(worker, 0);
    expect_done_once(home, api);
    assert_eq!(api.agent_requests().len(), 3, "one rejection, one call, one end");
}

/// Waits for the worker's end and checks its exit code.
pub(crate) fn expect_code(worker: &mut Started, expected: i32) {
    let code = worker.wait_for_code(DEADLINE);
    assert_eq!(code, expected, "the worker's exit code; it said: {}{}", worker.stdout(), worker.stderr());
}

/// Done exactly once, in one session, and every log closed.
pub(crate) fn expect_done_once(home: &Home, api: &FakeApi) {
    assert_eq!(home.read(FILE), "once\n", "the job is done exactly once");
    let requests = api.agent_requests();
    let sessions: std::collections::BTreeSet<_> = requests.iter().map(|request| request.session_id()).collect();
    assert_eq!(sessions.len(), 1, "one session all along: {sessions:?}");
    let rlogs = home.rlogs();
    rlogs.iter().for_each(expect_closed);
    assert_eq!(rlogs.last().and_then(Rlog::end_reason), Some("done"), "{rlogs:#?}");
    for rlog in &rlogs {
        let session = rlog.field("@start", "id");
        assert!(sessions.contains(&session), "the log names the session: {session:?}, {sessions:?}");
    }
}

/// One `@end`, and it is the last line.
pub(crate) fn expect_closed(rlog: &Rlog) {
    assert_eq!(rlog.ends(), 1, "{}", rlog.text);
    assert!(rlog.last_line().starts_with("@end "), "{}", rlog.text);
    assert!(rlog.text.ends_with('\n'), "{}", rlog.text);
    assert!(rlog.path.with_extension("jsonl").is_file(), "no .jsonl beside {}", rlog.path.display());
}

/// Why each log ended, oldest first.
pub(crate) fn end_reasons(home: &Home) -> Vec<String> {
    home.rlogs().iter().map(|rlog| rlog.end_reason().unwrap_or("none").to_owned()).collect()
}
