//! When a silent worker is ended, and when it is left alone.

use policy::supervisor::{Answer, Command, Effect, Event, Exit, Note, Settings, Sign, StartFailure, WorkerStatus};

use crate::rig::{HOUR, MINUTE, ROOMY, Rig, SECOND, answers, notes, plain, stops};
use crate::states::stalled;

fn silent(settings: Settings) -> Rig {
    let mut rig = Rig::running(settings);
    rig.lively = false;
    rig
}

/// After how long the worker is told to end; `None`: not within the time.
fn ended_after(rig: &mut Rig, within_ms: u64) -> Option<u64> {
    let from_ms = rig.now_ms;
    rig.pass(within_ms).iter().find(|(_, e)| matches!(e, Effect::Stop(_))).map(|(at_ms, _)| at_ms - from_ms)
}

#[test]
fn a_silent_worker_is_ended_just_when_the_time_is_over() {
    let mut rig = silent(Settings::default());
    assert_eq!(ended_after(&mut rig, HOUR), Some(5 * MINUTE));
}

#[test]
fn the_grace_counts_where_it_is_longer() {
    let mut rig = silent(Settings { stall_timeout_ms: 10 * SECOND, ..Settings::default() });
    assert_eq!(ended_after(&mut rig, HOUR), Some(2 * MINUTE));
    let mut rig = silent(Settings { stall_timeout_ms: 10 * SECOND, stall_grace_ms: 0, ..Settings::default() });
    assert_eq!(ended_after(&mut rig, HOUR), Some(10 * SECOND));
}

#[test]
fn a_long_poll_interval_does_not_delay_the_verdict() {
    let mut rig = silent(Settings { poll_interval_ms: HOUR, ..Settings::default() });
    assert_eq!(ended_after(&mut rig, 2 * HOUR), Some(5 * MINUTE));
}

#[test]
fn zero_means_off() {
    let mut rig = silent(Settings { stall_timeout_ms: 0, ..Settings::default() });
    assert_eq!(ended_after(&mut rig, 24 * HOUR), None);
}

#[test]
fn a_lively_worker_is_left_alone() {
    let mut rig = Rig::running(Settings::default());
    assert_eq!(ended_after(&mut rig, 24 * HOUR), None);
}

#[test]
fn a_heartbeat_is_life_even_if_the_log_is_silent() {
    let mut rig = silent(Settings::default());
    for _ in 0..100 {
        assert_eq!(ended_after(&mut rig, 5 * MINUTE - 1), None);
        rig.play(Event::Activity(rig.run));
    }
    assert_eq!(ended_after(&mut rig, HOUR), Some(5 * MINUTE));
}

#[test]
fn an_extension_holds_the_verdict_off_until_it_is_over() {
    let mut rig = silent(Settings::default());
    rig.play(Event::Extended(rig.run, rig.now_ms + 40 * MINUTE));
    // A shorter one that comes later takes nothing back.
    rig.play(Event::Extended(rig.run, rig.now_ms + MINUTE));
    assert_eq!(ended_after(&mut rig, HOUR), Some(40 * MINUTE));
}

/// As with systemd, more time is asked for again and again: one message can't switch the rule off.
#[test]
fn one_extension_lasts_no_longer_than_an_hour_and_can_be_renewed() {
    let mut rig = silent(Settings::default());
    rig.play(Event::Extended(rig.run, u64::MAX));
    assert_eq!(ended_after(&mut rig, 50 * MINUTE), None);
    rig.play(Event::Extended(rig.run, u64::MAX));
    assert_eq!(ended_after(&mut rig, 2 * HOUR), Some(HOUR));
}

#[test]
fn a_stall_is_a_failure_and_backs_off() {
    let mut rig = stalled();
    assert_eq!(rig.status(), WorkerStatus::Stopping);
    rig.exits(Exit::Signal(15));
    assert_eq!((rig.status(), rig.failures(), rig.waits_ms()), (WorkerStatus::Restarting, 1, Some(SECOND)));
}

#[test]
fn a_worker_that_hangs_once_it_is_ready_is_caught() {
    let mut rig = silent(Settings::default());
    rig.play(Event::Announced(rig.run));
    assert_eq!(ended_after(&mut rig, HOUR), Some(5 * MINUTE));
}

#[test]
fn a_worker_that_hangs_while_starting_is_caught_too() {
    let mut rig = Rig::starting(Settings::default());
    rig.lively = false;
    assert_eq!(ended_after(&mut rig, HOUR), Some(5 * MINUTE));
}

/// Else the command would hang until the next attempt, which may be minutes away.
#[test]
fn who_waits_for_a_start_that_stalls_is_told_when_it_is_over() {
    let mut rig = silent(Settings::default());
    assert_eq!(answers(&rig.asks(Command::RestartWorker)), []);
    rig.exits(Exit::Signal(15));
    assert_eq!(ended_after(&mut rig, HOUR), Some(5 * MINUTE));
    let told: Vec<Answer> = answers(&rig.exits(Exit::Signal(9))).into_iter().map(|(_, answer)| answer).collect();
    assert_eq!((told, rig.waiting_requests()), (vec![Answer::EndedAtOnce(Exit::Signal(9))], 0));

    rig.asks(Command::RestartWorker);
    assert_eq!(ended_after(&mut rig, HOUR), Some(5 * MINUTE));
    let failure = StartFailure::Resources(11);
    let told = answers(&rig.play(Event::StartFailed(rig.run, failure.clone())));
    assert_eq!(told.into_iter().map(|(_, answer)| answer).collect::<Vec<_>>(), [Answer::CannotStart(failure)]);
}

#[test]
fn after_three_within_an_hour_it_only_warns() {
    let mut rig = silent(Settings::default());
    for _ in 0..3 {
        assert_eq!(ended_after(&mut rig, 5 * MINUTE), Some(5 * MINUTE));
        rig.exits(Exit::Signal(15));
        rig.until_start();
        rig.started();
    }
    let begun_ms = rig.now_ms;
    let mut warned = Vec::new();
    let mut ended_ms = None;
    for (at_ms, effect) in rig.pass(HOUR) {
        match effect {
            Effect::Note(Note::StallTolerated { silent_ms, .. }) => warned.push((at_ms - begun_ms, silent_ms)),
            Effect::Stop(_) => ended_ms = Some(at_ms - begun_ms),
            _ => {}
        }
    }
    assert_eq!(warned[..3], [(5 * MINUTE, 5 * MINUTE), (10 * MINUTE, 10 * MINUTE), (15 * MINUTE, 15 * MINUTE)]);
    // The first of the three is an hour old 50 minutes later: then it may be ended again, at the next verdict.
    assert_eq!(ended_ms, Some(50 * MINUTE));
}

#[test]
fn a_tolerated_worker_that_shows_life_is_judged_anew() {
    let mut rig = silent(Settings { max_stall_kills_per_hour: 0, ..Settings::default() });
    rig.pass(7 * MINUTE);
    rig.play(Event::Activity(rig.run));
    let warned = notes(&plain(rig.pass(5 * MINUTE - 1)));
    assert_eq!(warned, []);
    assert_eq!(notes(&plain(rig.pass(1))), [Note::StallTolerated { run: rig.run, silent_ms: 5 * MINUTE }]);
}

#[test]
fn a_frozen_machine_is_not_held_against_the_worker() {
    let mut rig = silent(Settings::default());
    rig.pass(MINUTE);
    rig.now_ms += 8 * HOUR;
    assert_eq!(stops(&rig.play(Event::Tick)), []);
    // The 60 s of silence from before still count, and the at most 5 s to the look that was due.
    let left_ms = ended_after(&mut rig, HOUR).expect("it hangs all the same");
    assert!((4 * MINUTE - 5 * SECOND..=4 * MINUTE).contains(&left_ms), "{left_ms}");
}

#[test]
fn a_short_freeze_is_forgiven_even_if_looks_may_be_far_apart() {
    // It looks every 15 s here, whatever the poll interval says.
    let settings =
        Settings { stall_timeout_ms: MINUTE, stall_grace_ms: 0, poll_interval_ms: HOUR, ..Settings::default() };
    let mut rig = silent(settings);
    rig.pass(30 * SECOND);
    rig.now_ms += 45 * SECOND;
    assert_eq!(stops(&rig.play(Event::Tick)), []);
    assert!(ended_after(&mut rig, 30 * SECOND).is_some_and(|ms| ms >= 15 * SECOND));
}

#[test]
fn a_look_that_was_frozen_on_its_way_is_forgiven_too() {
    let mut rig = silent(Settings::default());
    rig.pass(MINUTE);
    let at_ms = rig.machine.deadline_ms().expect("a look is due");
    rig.now_ms = at_ms;
    assert!(rig.step(Event::Tick).contains(&Effect::Sample));
    rig.now_ms += 8 * HOUR;
    let late = Event::Sampled { run: Some(rig.run), sign: Sign::Nothing, memory: ROOMY };
    assert_eq!(stops(&rig.step(late)), []);
    assert!(ended_after(&mut rig, 5 * MINUTE).is_some());
}

#[test]
fn any_event_after_a_freeze_forgives_it() {
    let mut rig = silent(Settings::default());
    rig.pass(MINUTE);
    rig.now_ms += 8 * HOUR;
    assert_eq!(stops(&rig.play(Event::VictimGone(1))), []);
    assert_eq!(stops(&rig.play(Event::Tick)), []);
    assert!(ended_after(&mut rig, 5 * MINUTE).is_some());
}

#[test]
fn the_verdict_names_the_silence() {
    let mut rig = silent(Settings::default());
    rig.pass(2 * MINUTE);
    rig.play(Event::Activity(rig.run));
    let all = notes(&plain(rig.pass(5 * MINUTE)));
    assert_eq!(all, [Note::Stalled { run: rig.run, silent_ms: 5 * MINUTE, repeats_itself: false }]);
}

#[test]
fn a_run_that_succeeded_before_it_stalled_counts_as_one_failure() {
    // The daemon was held up: the look that finds the stall is also the first after the success was due.
    let mut rig = Rig::starting(Settings { stall_timeout_ms: 70 * SECOND, stall_grace_ms: 0, ..Settings::default() });
    for _ in 0..4 {
        rig.started();
        rig.exits(Exit::Code(1));
        rig.until_start();
    }
    rig.started();
    rig.lively = false;
    rig.pass(59 * SECOND);
    rig.now_ms += 11 * SECOND;
    rig.step(Event::Sampled { run: Some(rig.run), sign: Sign::Nothing, memory: ROOMY });
    rig.pass(MINUTE);
    rig.exits(Exit::Signal(15));
    assert_eq!(rig.failures(), 1);
}

/// It writes every second, but only what it had written before.
fn repeating(rig: &mut Rig, seconds: u64) -> Option<u64> {
    let from_ms = rig.now_ms;
    for _ in 0..seconds {
        rig.now_ms += SECOND;
        let effects = rig.step(Event::Sampled { run: Some(rig.run), sign: Sign::Repetition, memory: ROOMY });
        if effects.iter().any(|e| matches!(e, Effect::Stop(_))) {
            return Some(rig.now_ms - from_ms);
        }
    }
    None
}

#[test]
fn who_only_repeats_himself_is_given_the_time_of_who_is_silent() {
    let mut rig = Rig::running(Settings::default());
    assert_eq!(repeating(&mut rig, 24 * 60), Some(5 * MINUTE));
}

/// A heartbeat is life in full, and so is a tool at work: that look is progress, whatever the log says.
#[test]
fn who_repeats_himself_and_sends_heartbeats_is_left_alone() {
    let mut rig = Rig::running(Settings::default());
    for _ in 0..50 {
        assert_eq!(repeating(&mut rig, 4 * 60), None);
        rig.step(Event::Activity(rig.run));
    }
}

#[test]
fn one_new_line_among_the_repeated_ones_is_progress() {
    let mut rig = Rig::running(Settings::default());
    for _ in 0..50 {
        assert_eq!(repeating(&mut rig, 4 * 60), None);
        rig.step(Event::Sampled { run: Some(rig.run), sign: Sign::Progress, memory: ROOMY });
    }
}
