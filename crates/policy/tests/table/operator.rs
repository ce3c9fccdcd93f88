//! What the operator asks for, in every state, and how it is answered: exactly once.

use policy::supervisor::{
    Answer, Command, Effect, Event, Exit, Found, Refusal, RequestId, RunId, Settings, StartFailure, State, WorkerStatus,
};

use crate::matrix::events;
use crate::rig::{HOUR, MINUTE, ROOMY, Rig, answers, request, starts, stops};
use crate::states::{PLACES, at};

/// The answer that comes in the step itself (`None`: it comes later), and where the machine then stands.
type Row = (&'static str, Command, Option<Answer>, WorkerStatus);

#[test]
fn every_command_in_every_state() {
    use Command::{RestartWorker, Shutdown, StartWorker, StopWorker};
    use WorkerStatus::{Running, Starting, Stopped, Stopping, Unknown};
    let already = || Some(Answer::AlreadyRunning(RunId(1)));
    let refused = || Some(Answer::Refused(Refusal::ShuttingDown));
    let table: Vec<Row> = vec![
        ("starting", StartWorker, None, Starting),
        ("starting", RestartWorker, None, Stopping),
        ("starting", StopWorker, None, Stopping),
        ("starting", Shutdown, None, Stopping),
        ("running", StartWorker, already(), Running),
        ("running", RestartWorker, None, Stopping),
        ("running", StopWorker, None, Stopping),
        ("running", Shutdown, None, Stopping),
        ("ready", StartWorker, already(), Running),
        ("ready", RestartWorker, None, Stopping),
        ("ready", StopWorker, None, Stopping),
        ("ready", Shutdown, None, Stopping),
        ("stopping to start anew", StartWorker, None, Stopping),
        ("stopping to start anew", RestartWorker, None, Stopping),
        ("stopping to start anew", StopWorker, None, Stopping),
        ("stopping to start anew", Shutdown, None, Stopping),
        ("stopping for a stall", StartWorker, None, Stopping),
        ("stopping for a stall", RestartWorker, None, Stopping),
        ("stopping for a stall", StopWorker, None, Stopping),
        ("stopping for a stall", Shutdown, None, Stopping),
        ("stopping to stay", StartWorker, None, Stopping),
        ("stopping to stay", RestartWorker, None, Stopping),
        ("stopping to stay", StopWorker, None, Stopping),
        ("stopping to stay", Shutdown, None, Stopping),
        ("unknown", StartWorker, Some(Answer::Refused(Refusal::Unverified)), Unknown),
        ("unknown", RestartWorker, None, Stopping),
        ("unknown", StopWorker, None, Stopping),
        ("unknown", Shutdown, Some(Answer::Halted), Stopped),
        ("backing off", StartWorker, None, Starting),
        ("backing off", RestartWorker, None, Starting),
        ("backing off", StopWorker, Some(Answer::Stopped), Stopped),
        ("backing off", Shutdown, Some(Answer::Halted), Stopped),
        ("cooling down", StartWorker, None, Starting),
        ("cooling down", RestartWorker, None, Starting),
        ("cooling down", StopWorker, Some(Answer::Stopped), Stopped),
        ("cooling down", Shutdown, Some(Answer::Halted), Stopped),
        ("stopped", StartWorker, None, Starting),
        ("stopped", RestartWorker, None, Starting),
        ("stopped", StopWorker, Some(Answer::AlreadyStopped), Stopped),
        ("stopped", Shutdown, Some(Answer::Halted), Stopped),
        ("shutting down", StartWorker, refused(), Stopping),
        ("shutting down", RestartWorker, refused(), Stopping),
        ("shutting down", StopWorker, None, Stopping),
        ("shutting down", Shutdown, None, Stopping),
        ("halted", StartWorker, refused(), Stopped),
        ("halted", RestartWorker, refused(), Stopped),
        ("halted", StopWorker, Some(Answer::AlreadyStopped), Stopped),
        ("halted", Shutdown, Some(Answer::Halted), Stopped),
    ];
    for (place, command, answer, status) in table {
        let mut rig = at(place);
        let effects = rig.play(Event::Operator(RequestId(99), command));
        let got = answers(&effects).into_iter().find(|(id, _)| *id == RequestId(99)).map(|(_, answer)| answer);
        assert_eq!((got, rig.status()), (answer, status), "{place}, {command:?}");
    }
}

/// Let the shell do what was asked of it until nobody waits; every answer on the way.
fn finish(rig: &mut Rig) -> Vec<(RequestId, Answer)> {
    let mut got = Vec::new();
    rig.memory = ROOMY;
    for _ in 0..10 {
        let effects = match rig.machine.state() {
            State::Down => rig.play(Event::Boot(Found::Nothing)),
            State::Starting(_) => rig.started(),
            State::Stopping { .. } | State::ShuttingDown(_) => rig.exits(Exit::Signal(15)),
            State::Running(_)
            | State::Ready(_)
            | State::BackingOff { .. }
            | State::CoolingDown { .. }
            | State::Unknown(_)
            | State::Stopped
            | State::Halted => break,
        };
        got.extend(answers(&effects));
    }
    got
}

#[test]
fn every_request_is_answered_exactly_once() {
    use Command::{RestartWorker, Shutdown, StartWorker, StopWorker};
    let commands = [StartWorker, StopWorker, RestartWorker, Shutdown];
    for (place, build) in PLACES {
        for first in commands {
            for second in commands {
                for third in commands {
                    let mut rig = build();
                    let mut got = Vec::new();
                    for (n, command) in [(101, first), (102, second), (103, third)] {
                        got.extend(answers(&rig.play(Event::Operator(RequestId(n), command))));
                    }
                    got.extend(finish(&mut rig));
                    let mut ids: Vec<u64> = got.iter().map(|(id, _)| id.0).filter(|id| *id > 100).collect();
                    ids.sort_unstable();
                    assert_eq!(ids, [101, 102, 103], "{place}: {first:?}, {second:?}, {third:?}: {got:?}");
                    assert_eq!(rig.waiting_requests(), 0, "{place}: {first:?}, {second:?}, {third:?}");
                }
            }
        }
    }
}

#[test]
fn the_last_word_counts() {
    use Command::{RestartWorker, Shutdown, StartWorker, StopWorker};
    for (place, build) in PLACES {
        for first in [StartWorker, StopWorker, RestartWorker] {
            for (last, expect) in [
                (StartWorker, WorkerStatus::Running),
                (RestartWorker, WorkerStatus::Running),
                (StopWorker, WorkerStatus::Stopped),
                (Shutdown, WorkerStatus::Stopped),
            ] {
                // What may live of a run is not started beside.
                let refused = *place == "unknown" && (first, last) == (StartWorker, StartWorker);
                if refused || matches!(*place, "shutting down" | "halted") {
                    continue;
                }
                let mut rig = build();
                rig.asks(first);
                rig.asks(last);
                finish(&mut rig);
                assert_eq!(rig.status(), expect, "{place}: {first:?}, {last:?}");
                assert_eq!(matches!(rig.machine.state(), State::Halted), last == Shutdown);
            }
        }
    }
}

#[test]
fn a_command_before_the_boot_is_obeyed_after_it() {
    let founds = [Found::Nothing, Found::Live { run: RunId(3), started_ms: 0 }, Found::Orphaned { run: RunId(3) }];
    for found in founds {
        for (command, expect) in [
            (Command::StartWorker, WorkerStatus::Running),
            (Command::RestartWorker, WorkerStatus::Running),
            (Command::StopWorker, WorkerStatus::Stopped),
            (Command::Shutdown, WorkerStatus::Stopped),
        ] {
            let mut rig = Rig::down(Settings::default());
            rig.asks(command);
            rig.run = RunId(3);
            rig.play(Event::Boot(found));
            finish(&mut rig);
            assert_eq!((rig.status(), rig.waiting_requests()), (expect, 0), "{command:?}, {found:?}");
        }
    }
}

#[test]
fn a_stop_that_arrives_while_starting_is_not_lost() {
    for told in [Command::StopWorker, Command::Shutdown] {
        let mut rig = Rig::starting(Settings::default());
        assert_eq!(stops(&rig.asks(told)), [RunId(1)]);
        // Its word that it runs was under way already.
        assert_eq!(rig.started(), []);
        let effects = rig.exits(Exit::Signal(15));
        assert_eq!(answers(&effects).len(), 1);
        assert_eq!((rig.status(), starts(&effects)), (WorkerStatus::Stopped, vec![]));
    }
}

#[test]
fn a_stop_of_a_run_that_then_cannot_start_is_answered() {
    for told in [Command::StopWorker, Command::Shutdown] {
        let mut rig = Rig::starting(Settings::default());
        rig.asks(told);
        let effects = rig.play(Event::StartFailed(RunId(1), StartFailure::NotFound));
        assert_eq!((answers(&effects).len(), rig.status()), (1, WorkerStatus::Stopped));
    }
}

#[test]
fn a_worker_stopped_by_the_operator_stays_stopped_whatever_comes() {
    let begun = at("stopped");
    for event in events(begun.run, 1_000) {
        if matches!(event, Event::Operator(..)) {
            continue;
        }
        for wait_ms in [0, 1, MINUTE, HOUR, 30 * 24 * HOUR] {
            let mut rig = at("stopped");
            rig.now_ms += wait_ms;
            assert_eq!(rig.machine.deadline_ms(), None);
            let effects = rig.step(event.clone());
            let told = effects.iter().all(|e| matches!(e, Effect::Note(_)));
            assert!(told, "{event:?}: {effects:?}");
            assert_eq!(rig.machine.state(), &State::Stopped, "{event:?}");
        }
    }
}

#[test]
fn while_it_is_stopping_to_stay_nothing_but_the_operator_changes_that() {
    let begun = at("stopping to stay");
    for event in events(begun.run, 1_000) {
        if matches!(event, Event::Operator(..)) {
            continue;
        }
        let mut rig = at("stopping to stay");
        assert_eq!(starts(&rig.play(event.clone())), [], "{event:?}");
        if matches!(rig.status(), WorkerStatus::Stopping | WorkerStatus::Unknown) {
            rig.exits(Exit::Signal(9));
        }
        assert_eq!(rig.machine.state(), &State::Stopped, "{event:?}");
    }
}

#[test]
fn restart_worker_waits_for_nothing() {
    for place in ["backing off", "backing off after a clean exit", "cooling down", "stopped"] {
        let mut rig = at(place);
        let effects = rig.asks(Command::RestartWorker);
        assert_eq!((starts(&effects), rig.failures()), (vec![rig.run], 0), "{place}");
        rig.started();
        rig.exits(Exit::Code(1));
        assert_eq!(rig.waits_ms(), Some(1_000), "{place}: the count starts anew");
    }
}

#[test]
fn restart_worker_forgets_the_deaths_of_the_hour() {
    let mut rig = Rig::starting(Settings { max_restarts_per_hour: 5, ..Settings::default() });
    assert_eq!(rig.fail_until_failed(), 5);
    rig.asks(Command::RestartWorker);
    assert_eq!(rig.fail_until_failed(), 5);
}

#[test]
fn restart_of_a_running_worker_is_no_failure() {
    let mut rig = at("running");
    rig.asks(Command::RestartWorker);
    let effects = rig.exits(Exit::Signal(9));
    assert_eq!((starts(&effects), rig.failures()), (vec![RunId(2)], 0));
    let id = request(1);
    assert_eq!(answers(&rig.started()), [(id, Answer::Running(RunId(2)))]);
}

#[test]
fn a_superseded_request_hears_by_what() {
    let mut rig = at("running");
    rig.asks(Command::RestartWorker);
    let effects = rig.asks(Command::StopWorker);
    let by = Answer::Refused(Refusal::Superseded(Command::StopWorker));
    assert_eq!(answers(&effects), [(request(1), by)]);
    let effects = rig.asks(Command::StartWorker);
    let by = Answer::Refused(Refusal::Superseded(Command::StartWorker));
    assert_eq!(answers(&effects), [(request(2), by)]);
    assert_eq!(starts(&rig.exits(Exit::Signal(15))), [RunId(2)]);
    assert_eq!(answers(&rig.started()), [(request(3), Answer::Running(RunId(2)))]);
}

#[test]
fn a_start_that_fails_is_answered_with_why() {
    let mut rig = at("stopped");
    rig.asks(Command::StartWorker);
    let effects = rig.play(Event::StartFailed(rig.run, StartFailure::WorkingDirectory));
    assert_eq!(
        answers(&effects).last().map(|(_, a)| a.clone()),
        Some(Answer::CannotStart(StartFailure::WorkingDirectory))
    );
    assert_eq!(rig.status(), WorkerStatus::Restarting, "and tried again");
}

#[test]
fn a_halted_daemon_says_so_last() {
    let mut rig = at("running");
    rig.asks(Command::StopWorker);
    rig.asks(Command::Shutdown);
    let effects = rig.exits(Exit::Code(0));
    assert_eq!(answers(&effects), [(request(1), Answer::Stopped), (request(2), Answer::Halted)]);
    assert_eq!(effects.last(), Some(&Effect::Halt));
}
