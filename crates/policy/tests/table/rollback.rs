//! A candidate in place of a proven binary, and the way back.

use policy::supervisor::{Event, Exit, Found, Settings, WorkerStatus};

use crate::rig::{MINUTE, Rig, SECOND, notes, starts};

/// Run 1 is a proven binary's, which has failed so often.
fn proven_that_failed(times: u32) -> Rig {
    let mut rig = Rig::starting(Settings::default());
    for _ in 0..times {
        rig.started();
        rig.exits(Exit::Code(1));
        rig.until_start();
    }
    rig
}

#[test]
fn a_candidate_begins_with_no_failures_and_the_proven_one_gets_its_own_back() {
    let mut rig = proven_that_failed(7);
    assert_eq!(rig.failures(), 7);
    let before = rig.machine.snapshot();
    rig.begin_probation();
    rig.begin_probation();
    let mut down_ms = 0;
    for attempt in 1..=3 {
        rig.started();
        rig.exits(Exit::Code(1));
        assert_eq!(rig.failures(), attempt);
        if attempt < 3 {
            down_ms += rig.until_start();
        }
    }
    assert_eq!(down_ms, 3 * SECOND, "1 s and 2 s, and not the seventh failure's 64 s");
    let effects = rig.play(Event::RolledBack);
    assert_eq!(starts(&effects), [rig.run], "at once");
    let after = rig.machine.snapshot();
    assert_eq!((after.failures, after.failures_ms, after.aside), (7, before.failures_ms, None));
}

#[test]
fn stall_kills_of_the_proven_one_do_not_save_a_candidate_that_hangs() {
    let mut rig = Rig::running(Settings::default());
    rig.lively = false;
    for _ in 0..3 {
        rig.pass(6 * MINUTE);
        rig.exits(Exit::Signal(15));
        rig.until_start();
        rig.started();
    }
    // The fourth would be left alone.
    rig.begin_probation();
    rig.pass(6 * MINUTE);
    assert_eq!(rig.status(), WorkerStatus::Stopping);
}

#[test]
fn a_candidate_is_not_left_alone_in_its_silence() {
    let mut rig = Rig::running(Settings { max_stall_kills_per_hour: 0, ..Settings::default() });
    rig.lively = false;
    rig.begin_probation();
    rig.pass(6 * MINUTE);
    assert_eq!(rig.status(), WorkerStatus::Stopping);
}

#[test]
fn what_waits_for_the_proven_one_outlives_the_daemon() {
    let mut rig = proven_that_failed(4);
    rig.begin_probation();
    rig.started();
    rig.exits(Exit::Code(1));
    rig.reborn(5, Found::Nothing);
    assert_eq!((rig.failures(), rig.machine.is_probation()), (1, true));
    rig.play(Event::RolledBack);
    assert_eq!((rig.failures(), rig.machine.is_probation()), (4, false));
}

#[test]
fn a_roll_back_starts_nothing_that_the_operator_stopped() {
    let mut rig = proven_that_failed(1);
    rig.begin_probation();
    rig.started();
    rig.asks(policy::supervisor::Command::StopWorker);
    rig.exits(Exit::Signal(15));
    let effects = rig.play(Event::RolledBack);
    assert_eq!((starts(&effects), notes(&effects)), (vec![], vec![]));
    assert_eq!(rig.status(), WorkerStatus::Stopped);
}

#[test]
fn a_proven_candidate_keeps_what_it_has_done_itself() {
    let mut rig = proven_that_failed(5);
    rig.begin_probation();
    rig.started();
    rig.exits(Exit::Code(1));
    rig.end_probation();
    rig.play(Event::RolledBack);
    assert_eq!(rig.failures(), 1);
}
