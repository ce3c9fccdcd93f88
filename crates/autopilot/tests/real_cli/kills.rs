//! `kill -9` in the middle of a turn: the same session goes on, and the job is done exactly once.

use testkit::fake_api::{FakeApi, Gate, Script};
use testkit::home;
use testkit::netns::isolated;

use crate::job::{
    DEADLINE, all_done, call, call_that_leaves_a_child, child_runs, end_reasons, expect_code, expect_done_once,
    start_full_auto, wait_for_child, wait_for_mid_turn, whole_job,
};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Worker,
    Cli,
    Both,
}

/// When: the API holds its answer until it has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The model is asked for the first time; no tool has run.
    BeforeTheTool,
    /// The tool has run, its result is on its way to the model.
    AfterTheTool,
}

fn the_job_survives(victim: Victim, moment: Moment) {
    let mut home = home!();
    let gate = Gate::closed();
    let held = match moment {
        Moment::BeforeTheTool => Script::steps([call().held_by(&gate), all_done()]),
        Moment::AfterTheTool => Script::steps([call(), all_done().held_by(&gate)]),
    };
    let mut api = FakeApi::start(held);
    home.use_real_claude(&api);
    let mut worker = start_full_auto(&home);
    match moment {
        Moment::BeforeTheTool => gate.wait_for_arrival(DEADLINE),
        Moment::AfterTheTool => wait_for_mid_turn(&home, &gate),
    }
    // What comes after the kill is answered at once; the answer held now never arrives.
    api.set_script(whole_job());

    let agents = home.claude_processes();
    assert!(!agents.is_empty(), "the CLI runs: {:?}", home.processes());
    if victim != Victim::Cli {
        worker.kill();
    }
    if victim != Victim::Worker {
        agents.iter().for_each(|agent| home.kill(agent));
    }
    if victim != Victim::Cli {
        worker = start_full_auto(&home);
    }

    expect_code(&mut worker, 0);
    expect_done_once(&home, &api);
    if victim == Victim::Cli {
        assert_eq!(end_reasons(&home).last().map(String::as_str), Some("done"));
    } else {
        assert_eq!(end_reasons(&home), ["killed", "done"], "one log for each run of the worker");
    }
    home.wait_until_nothing_runs(DEADLINE);
}

#[test]
fn the_worker_is_killed_before_the_tool_runs() {
    isolated(|| the_job_survives(Victim::Worker, Moment::BeforeTheTool));
}

#[test]
fn the_worker_is_killed_after_the_tool_has_run() {
    isolated(|| the_job_survives(Victim::Worker, Moment::AfterTheTool));
}

#[test]
fn the_cli_is_killed_before_the_tool_runs() {
    isolated(|| the_job_survives(Victim::Cli, Moment::BeforeTheTool));
}

#[test]
fn the_cli_is_killed_after_the_tool_has_run() {
    isolated(|| the_job_survives(Victim::Cli, Moment::AfterTheTool));
}

#[test]
fn both_are_killed_before_the_tool_runs() {
    isolated(|| the_job_survives(Victim::Both, Moment::BeforeTheTool));
}

#[test]
fn both_are_killed_after_the_tool_has_run() {
    isolated(|| the_job_survives(Victim::Both, Moment::AfterTheTool));
}

/// What the tools of a killed CLI had started is ended before another CLI works in the same place.
fn what_was_left_behind_is_ended(victim: Victim) {
    let mut home = home!();
    let gate = Gate::closed();
    let mut api = FakeApi::start(Script::steps([call_that_leaves_a_child(), all_done().held_by(&gate)]));
    home.use_real_claude(&api);
    let mut worker = start_full_auto(&home);
    wait_for_mid_turn(&home, &gate);
    wait_for_child(&home);
    api.set_script(whole_job());
    let agents = home.claude_processes();
    if victim != Victim::Cli {
        worker.kill();
    }
    agents.iter().for_each(|agent| home.kill(agent));
    if victim != Victim::Cli {
        worker = start_full_auto(&home);
    }
    expect_code(&mut worker, 0);
    expect_done_once(&home, &api);
    assert!(!child_runs(&home), "{:#?}", home.processes());
}

#[test]
fn what_a_killed_cli_left_behind_is_ended() {
    isolated(|| what_was_left_behind_is_ended(Victim::Cli));
}

#[test]
fn what_a_killed_worker_and_its_cli_left_behind_is_ended() {
    isolated(|| what_was_left_behind_is_ended(Victim::Both));
}

/// Death at SIGTERM is orderly: the log says so, the CLI and its children are gone, and the job can be gone on with.
#[test]
fn a_terminated_worker_ends_its_cli_and_the_next_one_goes_on() {
    isolated(|| {
        let mut home = home!();
        let gate = Gate::closed();
        let mut api = FakeApi::start(Script::steps([call(), all_done().held_by(&gate)]));
        home.use_real_claude(&api);
        let mut worker = start_full_auto(&home);
        wait_for_mid_turn(&home, &gate);
        api.set_script(whole_job());

        worker.signal(testkit::home::Signal::TERM);
        expect_code(&mut worker, 143);
        assert_eq!(home.processes(), [], "nothing outlives an orderly end");
        assert_eq!(end_reasons(&home), ["terminated"]);

        expect_code(&mut start_full_auto(&home), 0);
        expect_done_once(&home, &api);
        assert_eq!(end_reasons(&home), ["terminated", "done"]);
    });
}
