//! A daemon dies, another one takes over: nothing is forgotten, nothing is done twice.

use policy::supervisor::{
    Answer, Command, Effect, Event, Exit, Found, Note, Refusal, RunId, Settings, StartFailure, State, Then,
    WorkerStatus,
};

use crate::rig::{HOUR, MINUTE, Rig, SECOND, answers, notes, request, starts, stops};
use crate::states::at;

#[test]
fn a_backoff_continues() {
    let mut rig = Rig::starting(Settings::default());
    for _ in 0..6 {
        rig.started();
        rig.exits(Exit::Code(1));
        rig.until_start();
    }
    rig.started();
    rig.exits(Exit::Code(1));
    assert_eq!(rig.waits_ms(), Some(64 * SECOND));
    rig.pass(10 * SECOND);
    assert_eq!(starts(&rig.reborn(5 * SECOND, Found::Nothing)), []);
    assert_eq!((rig.failures(), rig.waits_ms()), (7, Some(49 * SECOND)));
    rig.until_start();
    rig.started();
    rig.exits(Exit::Code(1));
    assert_eq!(rig.waits_ms(), Some(128 * SECOND));
}

#[test]
fn a_backoff_that_is_over_starts_at_once() {
    let mut rig = at("backing off");
    assert_eq!(starts(&rig.reborn(MINUTE, Found::Nothing)), [RunId(2)]);
    assert_eq!(rig.failures(), 1);
}

#[test]
fn failed_continues() {
    let mut rig = at("cooling down");
    assert_eq!(starts(&rig.reborn(4 * MINUTE, Found::Nothing)), []);
    assert_eq!((rig.status(), rig.waits_ms()), (WorkerStatus::Failed, Some(6 * MINUTE)));
    assert_eq!(rig.until_start(), 6 * MINUTE);
    assert_eq!(rig.failures(), 0);
}

#[test]
fn a_cooldown_that_ends_while_no_daemon_is_there_resets_the_count_too() {
    let mut rig = at("cooling down");
    assert_eq!(starts(&rig.reborn(HOUR, Found::Nothing)).len(), 1);
    assert_eq!(rig.failures(), 0);
    assert_eq!(rig.fail_until_failed(), 10);
}

#[test]
fn stopped_stays_stopped() {
    for found in [Found::Nothing, Found::Ended { run: RunId(1), exit: Exit::Signal(15), lived_ms: 5 }] {
        let mut rig = at("stopped");
        assert_eq!(starts(&rig.reborn(HOUR, found)), []);
        assert_eq!((rig.machine.state(), rig.machine.deadline_ms()), (&State::Stopped, None));
        rig.asks(Command::StartWorker);
        assert_eq!(rig.run, RunId(2));
    }
}

#[test]
fn a_run_that_lives_is_adopted() {
    for place in ["running", "ready", "starting"] {
        let mut rig = at(place);
        let begun_ms = rig.now_ms;
        let effects = rig.reborn(SECOND, Found::Live { run: RunId(1), started_ms: begun_ms });
        assert_eq!((starts(&effects), stops(&effects)), (vec![], vec![]), "{place}");
        assert!(notes(&effects).contains(&Note::Adopted { run: RunId(1) }));
        assert_eq!(rig.machine.view().started_ms, Some(begun_ms), "{place}");
        assert_eq!(rig.machine.view().total_restarts, 0, "{place}");
        rig.exits(Exit::Code(1));
        assert_eq!((rig.run, rig.until_start(), rig.run), (RunId(1), SECOND, RunId(2)), "{place}");
        assert_eq!(rig.machine.view().total_restarts, 1, "{place}");
    }
}

#[test]
fn a_run_that_was_adopted_before_its_program_could_not_be_executed_is_a_failure() {
    let mut rig = at("starting");
    let started_ms = rig.now_ms;
    rig.reborn(1, Found::Live { run: RunId(1), started_ms });
    let effects = rig.play(Event::StartFailed(RunId(1), StartFailure::NotFound));
    assert!(notes(&effects).contains(&Note::CannotStart { run: RunId(1), failure: StartFailure::NotFound }));
    assert_eq!((rig.failures(), rig.waits_ms()), (1, Some(SECOND)));
}

#[test]
fn the_time_without_a_daemon_is_not_silence() {
    let mut rig = Rig::running(Settings::default());
    rig.lively = false;
    rig.pass(4 * MINUTE);
    let started_ms = rig.now_ms - 4 * MINUTE;
    rig.reborn(10 * MINUTE, Found::Live { run: RunId(1), started_ms });
    assert!(rig.is_running());
    rig.pass(5 * MINUTE - 1);
    assert!(rig.is_running());
    rig.pass(1);
    assert_eq!(rig.status(), WorkerStatus::Stopping, "but from now on it is");
}

#[test]
fn a_stop_in_progress_is_finished() {
    let mut rig = at("stopping to stay");
    let started_ms = rig.now_ms;
    let effects = rig.reborn(SECOND, Found::Live { run: RunId(1), started_ms });
    assert_eq!(stops(&effects), [RunId(1)]);
    rig.exits(Exit::Signal(9));
    assert_eq!(rig.machine.state(), &State::Stopped);

    let mut rig = at("stopping to stay");
    rig.reborn(SECOND, Found::Ended { run: RunId(1), exit: Exit::Signal(15), lived_ms: 9 });
    assert_eq!(rig.machine.state(), &State::Stopped);

    let mut rig = at("stopping to stay");
    let effects = rig.reborn(SECOND, Found::Orphaned { run: RunId(1) });
    assert_eq!(stops(&effects), [RunId(1)]);
    rig.exits(Exit::Unseen);
    assert_eq!(rig.machine.state(), &State::Stopped);
}

#[test]
fn a_start_that_overtook_a_stop_is_not_forgotten() {
    for command in [Command::StartWorker, Command::RestartWorker] {
        let mut rig = at("stopping to stay");
        rig.asks(command);
        rig.reborn(SECOND, Found::Nothing);
        assert_eq!(rig.status(), WorkerStatus::Starting, "{command:?}");
    }
}

#[test]
fn an_orphan_is_ended_then_restarted_as_a_failure() {
    let mut rig = at("ready");
    let effects = rig.reborn(SECOND, Found::Orphaned { run: RunId(1) });
    assert_eq!((stops(&effects), starts(&effects)), (vec![RunId(1)], vec![]));
    assert!(matches!(rig.machine.state(), State::Stopping { then: Then::OrphanFailure, .. }));
    assert_eq!(starts(&rig.exits(Exit::Unseen)), []);
    assert_eq!((rig.failures(), rig.waits_ms()), (1, Some(SECOND)));
}

#[test]
fn an_exit_while_no_daemon_was_there_is_judged_like_any_other() {
    let ended = |exit, lived_ms| {
        let mut rig = at("running");
        rig.reborn(SECOND, Found::Ended { run: RunId(1), exit, lived_ms });
        rig
    };
    let rig = ended(Exit::Code(1), 5);
    assert_eq!((rig.failures(), rig.waits_ms()), (1, Some(SECOND)));
    let rig = ended(Exit::Unseen, 5);
    assert_eq!((rig.failures(), rig.waits_ms()), (1, Some(SECOND)));
    let rig = ended(Exit::Code(0), 5);
    assert_eq!((rig.failures(), rig.waits_ms()), (0, Some(SECOND)));
    let rig = ended(Exit::Code(0), HOUR);
    assert_eq!((rig.failures(), rig.status()), (0, WorkerStatus::Starting));
}

#[test]
fn an_exit_whose_successor_runs_already_is_counted_and_no_more() {
    let mut rig = at("running");
    let before = rig.machine.snapshot();
    rig.forget(before);
    let missed = Event::Missed { run: RunId(1), exit: Exit::Code(1), lived_ms: 5 };
    let effects = rig.play(missed.clone());
    assert!(effects.contains(&Effect::Note(Note::Ended {
        run: RunId(1),
        exit: Exit::Code(1),
        told: None,
        lived_ms: 5
    })));
    assert!(effects.contains(&Effect::Save), "the next daemon may die, too");
    assert_eq!(starts(&effects), []);
    rig.play(Event::Boot(Found::Live { run: RunId(2), started_ms: rig.now_ms }));
    assert_eq!((rig.failures(), rig.machine.view().total_restarts, rig.status()), (1, 1, WorkerStatus::Running));
    // Too late to be one of the past.
    assert_eq!(rig.play(missed), []);
    assert_eq!(rig.failures(), 1);
}

#[test]
fn an_exit_that_was_judged_already_is_not_judged_again() {
    // Its record is still there: the shell keeps the newest run's folder.
    let again = Found::Ended { run: RunId(1), exit: Exit::Code(1), lived_ms: 5 };
    let mut rig = at("backing off");
    rig.reborn(200, again);
    assert_eq!((rig.failures(), rig.waits_ms()), (1, Some(800)));

    let mut rig = at("cooling down");
    let again = Found::Ended { run: rig.run, exit: Exit::Code(1), lived_ms: 5 };
    rig.reborn(MINUTE, again);
    assert_eq!((rig.failures(), rig.status(), rig.waits_ms()), (10, WorkerStatus::Failed, Some(9 * MINUTE)));
}

#[test]
fn after_a_halt_it_begins_anew_but_for_the_numbers() {
    let mut rig = at("shutting down");
    rig.exits(Exit::Signal(15));
    assert_eq!(rig.machine.state(), &State::Halted);
    for found in [Found::Nothing, Found::Ended { run: RunId(1), exit: Exit::Signal(15), lived_ms: 5 }] {
        let snapshot = rig.machine.snapshot();
        let mut next = Rig::down(Settings::default());
        assert_eq!(starts(&next.reborn_with(MINUTE, found, snapshot)), [RunId(2)], "{found:?}");
        assert_eq!((next.failures(), next.machine.view().total_restarts), (0, 0), "{found:?}");
    }
}

#[test]
fn a_run_that_was_begun_but_not_recorded_is_counted() {
    let mut rig = at("backing off");
    let before = rig.machine.snapshot();
    rig.until_start();
    // The daemon died between the start and the record of it.
    let started_ms = rig.now_ms;
    rig.reborn_with(SECOND, Found::Live { run: RunId(2), started_ms }, before);
    assert_eq!(rig.machine.view().total_restarts, 1);
    rig.run = RunId(2);
    rig.exits(Exit::Code(1));
    rig.until_start();
    assert_eq!((rig.run, rig.machine.view().total_restarts), (RunId(3), 2));
}

#[test]
fn a_step_is_recorded_once_and_only_after_its_start() {
    let mut rig = Rig::starting(Settings { initial_backoff_ms: 0, ..Settings::default() });
    rig.started();
    rig.exits(Exit::Code(1));
    rig.started();
    // The success that is due, the end, and the next start, all in one.
    rig.now_ms += MINUTE;
    let effects = rig.step(Event::Exited(rig.run, Exit::Code(1)));
    let saves = effects.iter().filter(|e| matches!(e, Effect::Save)).count();
    let saved_at = effects.iter().position(|e| matches!(e, Effect::Save));
    let started_at = effects.iter().position(|e| matches!(e, Effect::Start(_)));
    assert_eq!(saves, 1, "{effects:?}");
    assert!(saved_at > started_at, "{effects:?}");
}

#[test]
fn the_windows_of_the_hour_survive() {
    let mut rig = Rig::starting(Settings { max_restarts_per_hour: 3, ..Settings::default() });
    for _ in 0..2 {
        rig.started();
        rig.pass(61 * SECOND);
        rig.exits(Exit::Code(1));
        rig.until_start();
    }
    let started_ms = rig.now_ms;
    rig.started();
    rig.reborn(61 * SECOND, Found::Live { run: RunId(3), started_ms });
    rig.exits(Exit::Code(1));
    assert_eq!(rig.status(), WorkerStatus::Failed);

    let mut rig = Rig::running(Settings { max_stall_kills_per_hour: 1, ..Settings::default() });
    rig.lively = false;
    rig.pass(5 * MINUTE);
    rig.exits(Exit::Signal(15));
    rig.reborn(MINUTE, Found::Nothing);
    rig.started();
    assert!(
        notes(&rig.pass(5 * MINUTE).into_iter().map(|(_, e)| e).collect::<Vec<_>>())
            .iter()
            .any(|n| matches!(n, Note::StallTolerated { .. }))
    );
}

#[test]
fn clients_of_the_dead_daemon_are_not_answered_by_the_next() {
    let mut rig = at("stopping to start anew");
    rig.reborn(SECOND, Found::Nothing);
    assert_eq!(answers(&rig.play(Event::StartFailed(rig.run, StartFailure::NotFound))), []);
}

/// What can't be told for certain is left alone, whatever time goes by, and its end is seen.
#[test]
fn what_is_unverified_is_neither_ended_nor_doubled() {
    let mut rig = at("running");
    let effects = rig.reborn(SECOND, Found::Unverified { run: RunId(1) });
    assert_eq!((starts(&effects), stops(&effects)), (vec![], vec![]));
    assert!(notes(&effects).contains(&Note::Unverified { run: RunId(1) }));
    assert_eq!(rig.pass(24 * HOUR), []);
    assert_eq!((rig.status(), rig.machine.view().total_restarts), (WorkerStatus::Unknown, 0));
    rig.exits(Exit::Unseen);
    assert_eq!((rig.failures(), rig.until_start(), rig.run), (1, SECOND, RunId(2)));
}

#[test]
fn the_operator_gets_out_of_the_unknown() {
    let unknown = || {
        let mut rig = at("unknown");
        assert_eq!(stops(&rig.asks(Command::RestartWorker)), [RunId(7)]);
        rig
    };
    let mut rig = unknown();
    assert_eq!(starts(&rig.exits(Exit::Unseen)), [RunId(8)]);
    // It does not go: back to where it was, told so, and asked again as often as the operator likes.
    let mut rig = unknown();
    let effects = rig.play(Event::Unverified(RunId(7)));
    assert_eq!(answers(&effects), [(request(1), Answer::Refused(Refusal::Unverified))]);
    assert_eq!((starts(&effects), rig.status()), (vec![], WorkerStatus::Unknown));
    assert_eq!(stops(&rig.asks(Command::StopWorker)), [RunId(7)]);
    rig.play(Event::Unverified(RunId(7)));
    assert_eq!(starts(&rig.exits(Exit::Unseen)), [], "it was told to stay down");
    assert_eq!(rig.status(), WorkerStatus::Stopped);
    // A daemon that is to end does not wait for it.
    let mut rig = at("shutting down");
    let effects = rig.play(Event::Unverified(RunId(1)));
    assert!(effects.contains(&Effect::Halt), "{effects:?}");
}

/// An upgrade in the middle of a silence: it goes on, and so does what was tolerated before.
#[test]
fn what_was_seen_of_a_run_is_recalled() {
    let mut rig = Rig::running(Settings::default());
    rig.play(Event::Announced(RunId(1)));
    rig.lively = false;
    rig.pass(4 * MINUTE);
    let started_ms = rig.now_ms - 4 * MINUTE;
    let (run, recalled) = rig.machine.recall().unwrap();
    rig.reborn(10, Found::Live { run: RunId(1), started_ms });
    rig.play(Event::Recalled(run, recalled));
    assert!(rig.machine.view().ready);
    assert_eq!(rig.machine.recall(), Some((run, recalled)));
    rig.pass(MINUTE - 11);
    assert!(rig.is_running());
    rig.pass(SECOND);
    assert!(!rig.is_running(), "its silence began before this daemon did");
}
