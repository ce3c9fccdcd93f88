//! Every command in every state: what is answered, what follows, and that the answer comes as soon as the worker is gone.

use std::time::Duration;

use testkit::control::{Control, Reply, request};
use testkit::home::{DEADLINE, Signal, Started};
use testkit::hostile::{StampKind, monotonic_ns};
use testkit::vitals;

use crate::rig::{Rig, pid, prompt_in_one_of_three};

const COMMANDS: [&str; 4] = ["start-worker", "stop-worker", "restart-worker", "stop"];

/// What a command is expected to answer, and the state after it; `halted`: the daemon is gone.
struct Expected {
    answer: &'static str,
    state: &'static str,
}

/// An answer starts as expected; what comes after it is a pid.
fn check(rig: &Rig, mut daemon: Started, command: &str, reply: &Reply, expected: &Expected) {
    let said = format!("{}{}", reply.done(), reply.failed());
    assert!(said.starts_with(expected.answer), "{command}: {}", reply.value);
    if expected.state == "halted" {
        assert_eq!(daemon.wait_for_code(DEADLINE), 0, "{command}");
        rig.home.wait_until_nothing_runs(DEADLINE);
        assert!(!rig.home.socket().exists() && !rig.home.path().join("autopilotd.pid").exists());
        return;
    }
    let status = rig.status();
    assert_eq!(status["worker_status"], expected.state, "{command}");
    if expected.state == "running" {
        assert_eq!(reply.value["done"]["worker_pid"], status["worker_pid"]);
        assert!(vitals::is_alive(pid(&status)));
        assert_eq!(said, format!("{} (PID {})", expected.answer, pid(&status)));
    } else {
        assert_eq!(said, expected.answer);
        assert_eq!(rig.run_processes(), [], "{command}");
    }
    rig.finish(daemon);
}

/// How long the answer took beyond the request, or beyond the worker's end where that came later.
fn beyond(rig: &Rig, asked_ns: u64, reply: &Reply) -> Duration {
    let ends = rig.stamps().into_iter().filter(|stamp| stamp.kind == StampKind::End).map(|stamp| stamp.at_ns);
    let since = ends.filter(|at_ns| *at_ns < reply.at_ns).max().unwrap_or(0).max(asked_ns);
    Duration::from_nanos(reply.at_ns - since)
}

fn ask_timed(rig: &Rig, command: &str) -> (Reply, Duration) {
    let mut control = rig.connect();
    let asked_ns = monotonic_ns();
    let reply = control.ask(command, DEADLINE);
    let took = beyond(rig, asked_ns, &reply);
    (reply, took)
}

/// One rig for each command, each brought into the state first.
fn each_command(expected: [Expected; 4], reach: impl Fn() -> (Rig, Started)) {
    for (command, expected) in COMMANDS.into_iter().zip(expected) {
        prompt_in_one_of_three(command, || {
            let (rig, daemon) = reach();
            let (reply, took) = ask_timed(&rig, command);
            check(&rig, daemon, command, &reply, &expected);
            took
        });
    }
}

const STARTED: Expected = Expected { answer: "Worker started", state: "running" };
const RUNS_ALREADY: Expected = Expected { answer: "Worker runs already", state: "running" };
const STOPPED: Expected = Expected { answer: "Worker stopped", state: "stopped" };
const STOPPED_ALREADY: Expected = Expected { answer: "Worker was stopped already", state: "stopped" };
const HALTED: Expected = Expected { answer: "Daemon stopped", state: "halted" };

#[test]
fn while_the_worker_runs() {
    each_command([RUNS_ALREADY, STOPPED, STARTED, HALTED], || {
        let rig = Rig::new("").hostile("ready");
        let daemon = rig.start();
        rig.ready_worker();
        (rig, daemon)
    });
}

#[test]
fn in_a_backoff() {
    each_command([STARTED, STOPPED, STARTED, HALTED], || {
        let rig = Rig::new("initial_backoff_ms = 60000").plan(&["exit=3 after_ms=0", "ready"]);
        let daemon = rig.start();
        let status = rig.wait_for_state("restarting");
        assert!((50_000..=60_000).contains(&status["next_attempt_in_ms"].as_u64().unwrap()));
        (rig, daemon)
    });
}

#[test]
fn while_failed() {
    each_command([STARTED, STOPPED, STARTED, HALTED], || {
        let rig = Rig::new("max_consecutive_restarts = 1").plan(&["exit=3 after_ms=0", "ready"]);
        let daemon = rig.start();
        let status = rig.wait_for_state("failed");
        assert!(status["next_attempt_in_ms"].as_u64().unwrap() > 590_000);
        (rig, daemon)
    });
}

#[test]
fn while_stopped() {
    each_command([STARTED, STOPPED_ALREADY, STARTED, HALTED], || {
        let rig = Rig::new("").hostile("ready");
        let daemon = rig.start();
        rig.ready_worker();
        rig.ask("stop-worker");
        (rig, daemon)
    });
}

/// Both commands reach the daemon in one go, so that the second one meets a worker that is being started.
#[test]
fn while_the_worker_is_starting() {
    let overtaken = |by: &str| format!("a later {by} overtook this command");
    let first_answers = ["Worker started", &overtaken("stop-worker"), "Worker started", &overtaken("stop")];
    let expected = [STARTED, STOPPED, STARTED, HALTED];
    for ((command, expected), first_answer) in COMMANDS.into_iter().zip(expected).zip(first_answers) {
        prompt_in_one_of_three(command, || {
            let rig = Rig::new("").hostile("ready");
            let daemon = rig.start();
            rig.ready_worker();
            rig.ask("stop-worker");
            let (mut first, mut second) = (connected(&rig), connected(&rig));
            freeze(&rig, &daemon);
            first.send(&request("start-worker")).unwrap();
            second.send(&request(command)).unwrap();
            let asked_ns = monotonic_ns();
            daemon.signal(Signal::CONT);
            let reply = second.reply(DEADLINE).unwrap();
            let took = beyond(&rig, asked_ns, &reply);
            let first = first.reply(DEADLINE).unwrap();
            assert!(format!("{}{}", first.done(), first.failed()).starts_with(first_answer), "{command}: {first:?}");
            check(&rig, daemon, command, &reply, &expected);
            took
        });
    }
}

/// The worker heeds no SIGTERM: it takes the whole stop timeout to die, and not much longer.
#[test]
fn while_the_worker_is_stopping() {
    const STOP_TIMEOUT: Duration = Duration::from_millis(300);
    let first_answers = [
        "a later start-worker overtook this command",
        "Worker stopped",
        "a later restart-worker overtook this command",
        "Worker stopped",
    ];
    let expected = [STARTED, STOPPED, STARTED, HALTED];
    for ((command, expected), first_answer) in COMMANDS.into_iter().zip(expected).zip(first_answers) {
        prompt_in_one_of_three(command, || {
            let rig = Rig::new("stop_timeout_ms = 300").plan(&["ignore-term ready", "ready"]);
            let daemon = rig.start();
            rig.ready_worker();
            let (mut first, mut second) = (connected(&rig), connected(&rig));
            let asked_ns = monotonic_ns();
            first.send(&request("stop-worker")).unwrap();
            rig.wait_for_state("stopping");
            let reply = second.ask(command, DEADLINE);
            let took = Duration::from_nanos(reply.at_ns - asked_ns);
            assert!(took >= STOP_TIMEOUT, "{command} was answered after {took:?}, while the worker lived");
            let first = first.reply(DEADLINE).unwrap();
            assert_eq!(format!("{}{}", first.done(), first.failed()), first_answer, "{command}");
            check(&rig, daemon, command, &reply, &expected);
            took - STOP_TIMEOUT
        });
    }
}

fn connected(rig: &Rig) -> Control {
    let mut control = rig.connect();
    control.ask("status", DEADLINE);
    control
}

/// Only once it sleeps: what it has just dealt with would be looked at first after the thaw.
fn freeze(rig: &Rig, daemon: &Started) {
    rig.home.wait_until("the daemon sleeps", DEADLINE, || (vitals::state(daemon.pid()) == Some('S')).then_some(()));
    daemon.signal(Signal::STOP);
    rig.home.wait_until("the daemon is frozen", DEADLINE, || (vitals::state(daemon.pid()) == Some('T')).then_some(()));
}

/// The commands as people type them.
#[test]
fn the_command_line_passes_commands_on() {
    let rig = Rig::new("").hostile("ready");
    let daemon = rig.start();
    let first = rig.ready_worker();
    let run = |command: &str| {
        let output = rig.home.autopilotd([command]);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command}");
        assert_eq!(output.status.code(), Some(0), "{command}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("start-worker"), format!("Worker runs already (PID {first})\n"));
    assert_eq!(run("stop-worker"), "Worker stopped\n");
    assert_eq!(run("stop-worker"), "Worker was stopped already\n");
    let said = run("start-worker");
    let second = pid(&rig.status());
    assert_eq!(said, format!("Worker started (PID {second})\n"));
    let said = run("restart-worker");
    let third = pid(&rig.status());
    assert!(third != second && second != first);
    assert_eq!(said, format!("Worker started (PID {third})\n"));
    assert_eq!(run("stop"), "Daemon stopped\n");
    rig.home.wait_until_nothing_runs(DEADLINE);
    drop(daemon);
    let output = rig.home.autopilotd(["stop"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        rig.portable(&String::from_utf8_lossy(&output.stderr)),
        "error: no daemon answers at ~/home/autopilotd.sock\n\
         hint: start it: autopilotd --workdir /path/to/project; or is another AUTOPILOT_HOME meant?\n"
    );
}

#[test]
fn a_worker_that_cannot_be_started_is_reported_to_who_asked() {
    let rig = Rig::new("initial_backoff_ms = 60000").hostile("ready");
    let daemon = rig.start();
    rig.ready_worker();
    rig.ask("stop-worker");
    std::fs::rename(rig.home.repository(), rig.home.user_home().join("away")).unwrap();
    for command in ["start-worker", "restart-worker"] {
        prompt_in_one_of_three(command, || {
            let (reply, took) = ask_timed(&rig, command);
            assert_eq!(reply.value["failed"]["kind"], "cannot-start");
            assert_eq!(rig.portable(reply.failed()), "cannot enter the working directory ~/repo");
            took
        });
    }
    assert_eq!(rig.status()["worker_status"], "restarting");
    std::fs::rename(rig.home.user_home().join("away"), rig.home.repository()).unwrap();
    rig.finish(daemon);
}
