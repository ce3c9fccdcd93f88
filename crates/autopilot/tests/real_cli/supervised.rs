//! The whole of it: the daemon, the worker and the real CLI. Whoever is killed in the middle of a turn, the job is
//! finished all the same, exactly once.

use serde_json::Value;
use testkit::fake_api::{Answer, FakeApi, Gate, Script};
use testkit::home;
use testkit::home::{Home, Started};
use testkit::netns::isolated;

use crate::job::{
    DEADLINE, FILE, all_done, call, call_that_leaves_a_child, end_reasons, expect_done_once, wait_for_child,
    wait_for_mid_turn, whole_job,
};

const CONFIG: &str = "project = \"demo\"\nprompt = \"Append a line to once.txt.\"\nmax_turns = 50\n\n\
                      [restart]\ninitial_backoff_ms = 50\n";

/// A home with a daemon's configuration for the job, and the API that holds the answer after the tool has run.
fn job_held_in_mid_turn() -> (Home, FakeApi, Gate) {
    let gate = Gate::closed();
    let api = FakeApi::start(Script::steps([call(), all_done().held_by(&gate)]));
    let mut home = home!();
    home.use_real_claude(&api);
    let worker = home.autopilot_path().to_owned();
    home.set_env("AUTOPILOT_WORKER_BINARY", worker);
    home.write_config(CONFIG);
    (home, api, gate)
}

fn worker_pid(status: &Value) -> u64 {
    status["worker_pid"].as_u64().unwrap_or_else(|| panic!("no worker_pid in {status}"))
}

fn kill_pid(home: &Home, pid: u64) {
    home.kill(&home.process(pid).unwrap_or_else(|| panic!("{pid} does not run: {:#?}", home.processes())));
}

fn wait_until_done(home: &Home) {
    home.wait_until("the job is done", DEADLINE, || {
        (end_reasons(home).last().map(String::as_str) == Some("done")).then_some(())
    });
}

/// `stop` ends everything, and says so by coming back.
pub(crate) fn stop(home: &Home, daemon: &mut Started) {
    let output = home.autopilotd(["stop"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(daemon.wait_for_code(DEADLINE), 0, "{}", daemon.stderr());
    assert_eq!(home.processes(), [], "stop comes back when nothing runs any more");
}

#[test]
fn a_worker_killed_in_mid_turn_is_replaced_and_the_job_finished() {
    isolated(|| {
        let (home, mut api, gate) = job_held_in_mid_turn();
        let mut daemon = home.start_daemon::<&str>([]);
        wait_for_mid_turn(&home, &gate);
        api.set_script(whole_job());
        let first = worker_pid(&home.wait_for_status("a worker runs", |status| status["worker_pid"].is_u64()));

        kill_pid(&home, first);

        wait_until_done(&home);
        let status = home.wait_for_status("a worker runs", |status| status["worker_status"] == "running");
        assert_ne!(worker_pid(&status), first);
        assert_eq!(status["total_restarts"], 1, "{status}");
        expect_done_once(&home, &api);
        assert_eq!(end_reasons(&home), ["killed", "done"]);
        stop(&home, &mut daemon);
    });
}

#[test]
fn a_cli_killed_in_mid_turn_is_replaced_by_its_worker() {
    isolated(|| {
        let (home, mut api, gate) = job_held_in_mid_turn();
        let mut daemon = home.start_daemon::<&str>([]);
        wait_for_mid_turn(&home, &gate);
        api.set_script(whole_job());
        // It is the daemon's copy, which no updater knows.
        let agents = home.claude_processes();
        let runs = |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert!(agents.iter().any(|agent| runs(agent.pid).starts_with(home.path().join("bin/agents"))), "{agents:?}");
        let version = home.wait_for_status("it is told", |status| status["agent_version"].is_string());
        assert!(version["agent_version"].as_str().unwrap().ends_with("(Claude Code)"), "{version:#}");

        home.claude_processes().iter().for_each(|agent| home.kill(agent));

        wait_until_done(&home);
        expect_done_once(&home, &api);
        let status = home.wait_for_status("a worker runs", |status| status["worker_status"] == "running");
        assert_eq!(status["total_restarts"], 0, "{status}");
        stop(&home, &mut daemon);
    });
}

#[test]
fn a_daemon_killed_in_mid_turn_is_replaced_and_the_worker_left_alone() {
    isolated(|| {
        let (home, api, gate) = job_held_in_mid_turn();
        let mut first_daemon = home.start_daemon::<&str>([]);
        wait_for_mid_turn(&home, &gate);
        let worker = worker_pid(&home.wait_for_status("a worker runs", |status| status["worker_pid"].is_u64()));

        first_daemon.kill();
        let mut daemon = home.start_daemon::<&str>([]);

        let status = home.wait_for_status("the worker is found", |status| status["worker_pid"].is_u64());
        assert_eq!(worker_pid(&status), worker, "the same worker");
        gate.open();
        wait_until_done(&home);
        expect_done_once(&home, &api);
        assert_eq!(end_reasons(&home), ["done"], "one run, one log");
        stop(&home, &mut daemon);
    });
}

#[test]
fn all_three_killed_at_once_are_replaced_and_the_job_finished() {
    isolated(|| {
        let (home, mut api, gate) = job_held_in_mid_turn();
        let mut first_daemon = home.start_daemon::<&str>([]);
        wait_for_mid_turn(&home, &gate);
        api.set_script(whole_job());
        let worker = worker_pid(&home.wait_for_status("a worker runs", |status| status["worker_pid"].is_u64()));
        let agents = home.claude_processes();

        first_daemon.kill();
        kill_pid(&home, worker);
        agents.iter().for_each(|agent| home.kill(agent));
        let mut daemon = home.start_daemon::<&str>([]);

        wait_until_done(&home);
        expect_done_once(&home, &api);
        assert_eq!(end_reasons(&home), ["killed", "done"]);
        stop(&home, &mut daemon);
    });
}

#[test]
fn a_daemon_stopped_in_mid_turn_leaves_nothing_and_the_next_one_goes_on() {
    isolated(|| {
        let (home, mut api, gate) = job_held_in_mid_turn();
        api.set_script(Script::steps([call_that_leaves_a_child(), all_done().held_by(&gate)]));
        let mut first_daemon = home.start_daemon::<&str>([]);
        wait_for_mid_turn(&home, &gate);
        wait_for_child(&home);
        api.set_script(whole_job());

        stop(&home, &mut first_daemon);
        assert_eq!(end_reasons(&home), ["terminated"]);

        let mut daemon = home.start_daemon::<&str>([]);
        wait_until_done(&home);
        expect_done_once(&home, &api);
        stop(&home, &mut daemon);
    });
}

#[test]
fn a_refused_key_is_waited_out_and_nobody_hammers() {
    isolated(|| {
        let (mut home, mut api, _gate) = job_held_in_mid_turn();
        // By itself the CLI asks ten times, for minutes, before it says so.
        home.set_env("CLAUDE_CODE_MAX_RETRIES", "1");
        api.set_script(Script::always(Answer::unauthorized()));
        let mut daemon = home.start_daemon::<&str>([]);
        home.wait_until("the log says what is needed", DEADLINE, || {
            let rlogs = home.rlogs();
            let text = rlogs.last()?.text.to_lowercase();
            text.lines().any(|line| line.starts_with('#') && line.contains("next attempt")).then_some(())
        });
        let requests = api.agent_requests().len();
        assert!((1..=3).contains(&requests), "{requests} requests");
        let status = home.wait_for_status("a worker waits", |status| status["worker_status"] == "running");
        assert_eq!(status["total_restarts"], 0, "{status}");
        stop(&home, &mut daemon);
        assert_eq!(end_reasons(&home), ["terminated"]);
        assert_eq!(home.read(FILE), "");
    });
}
