//! How long the machine waits before it starts a worker again.

use policy::supervisor::{Effect, Event, Exit, Note, Settings, StartFailure, Waiting, WorkerStatus, delay_ms};

use crate::rig::{HOUR, MINUTE, Rig, SECOND, notes, starts};

fn endless() -> Settings {
    Settings { max_consecutive_restarts: 0, max_restarts_per_hour: 0, ..Settings::default() }
}

#[test]
fn the_delays_are_those_of_the_documented_table() {
    let mut rig = Rig::starting(endless());
    let mut waited = Vec::new();
    for _ in 0..12 {
        rig.started();
        rig.exits(Exit::Code(1));
        assert_eq!(rig.status(), WorkerStatus::Restarting);
        waited.push(rig.until_start() / SECOND);
    }
    assert_eq!(waited, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
}

#[test]
fn a_delay_is_the_formula_whatever_the_multiplier() {
    let with = |initial_backoff_ms, backoff_multiplier| Settings {
        initial_backoff_ms,
        backoff_multiplier,
        max_backoff_ms: 20_000,
        ..Settings::default()
    };
    // (initial, multiplier, delays of the first attempts)
    let table: [(u64, f64, [u64; 5]); 6] = [
        (1_000, 2.0, [1_000, 2_000, 4_000, 8_000, 16_000]),
        (1_000, 1.0, [1_000; 5]),
        (1_000, 1.5, [1_000, 1_500, 2_250, 3_375, 5_062]),
        (1_000, 100.0, [1_000, 20_000, 20_000, 20_000, 20_000]),
        (50_000, 2.0, [20_000; 5]),
        (0, 2.0, [0; 5]),
    ];
    for (initial, multiplier, expect) in table {
        let settings = with(initial, multiplier);
        let got: Vec<u64> = (1..=5).map(|n| delay_ms(&settings, n)).collect();
        assert_eq!(got, expect, "{initial} × {multiplier}^(n−1)");
        assert_eq!(delay_ms(&settings, 0), 0);
        assert_eq!(
            delay_ms(&settings, u32::MAX),
            if initial == 0 {
                0
            } else if multiplier > 1.0 {
                20_000
            } else {
                1_000
            }
        );
    }
}

#[test]
fn a_small_delay_grows_by_a_small_multiplier_too() {
    // 3 × 1.3 = 3.9: cut to whole milliseconds on the way, it would stay 3 for ever.
    let settings = Settings { initial_backoff_ms: 3, backoff_multiplier: 1.3, ..Settings::default() };
    assert_eq!((1..=6).map(|n| delay_ms(&settings, n)).collect::<Vec<_>>(), [3, 3, 5, 6, 8, 11]);
    assert_eq!(delay_ms(&settings, 1_000), 300_000);
}

#[test]
fn ten_failures_in_a_row_are_failed() {
    let mut rig = Rig::starting(Settings::default());
    assert_eq!(rig.fail_until_failed(), 10);
    assert_eq!(rig.failures(), 10);
    assert_eq!(rig.waits_ms(), Some(10 * MINUTE));
}

#[test]
fn after_the_cooldown_the_count_starts_anew() {
    let mut rig = Rig::starting(Settings::default());
    rig.fail_until_failed();
    let before = rig.run;
    rig.now_ms += 10 * MINUTE - 1;
    assert_eq!(rig.play(Event::Tick), []);
    assert_eq!(rig.until_start(), 1);
    assert_eq!((rig.run.0, rig.failures()), (before.0 + 1, 0));
    assert_eq!(rig.fail_until_failed(), 10, "ten more tries");
}

#[test]
fn a_run_of_a_minute_resets_the_delay() {
    let mut rig = Rig::starting(Settings::default());
    for _ in 0..5 {
        rig.started();
        rig.exits(Exit::Signal(11));
        rig.until_start();
    }
    rig.started();
    let effects = rig.pass(MINUTE);
    let succeeded = effects.iter().find(|(_, e)| matches!(e, Effect::Note(Note::Succeeded { .. })));
    assert!(succeeded.is_some(), "told when it happens, not at the next death");
    assert_eq!(rig.failures(), 0);
    rig.exits(Exit::Signal(11));
    assert_eq!((rig.failures(), rig.waits_ms()), (1, Some(SECOND)));
}

#[test]
fn a_run_of_almost_a_minute_does_not() {
    let mut rig = Rig::running(Settings::default());
    rig.exits(Exit::Signal(11));
    rig.until_start();
    rig.started();
    rig.pass(MINUTE - 1);
    rig.exits(Exit::Signal(11));
    assert_eq!((rig.failures(), rig.waits_ms()), (2, Some(2 * SECOND)));
}

#[test]
fn a_worker_that_dies_every_61_s_is_failed_at_the_30th_death_of_the_hour() {
    let mut rig = Rig::starting(Settings::default());
    let begun_ms = rig.now_ms;
    for death in 1..=30 {
        rig.started();
        rig.pass(61 * SECOND);
        let effects = rig.exits(Exit::Code(1));
        let kind = if death < 30 { Waiting::Backoff } else { Waiting::PerHour };
        let waits: Vec<Waiting> = notes(&effects)
            .iter()
            .filter_map(|n| if let Note::Waiting { kind, .. } = n { Some(*kind) } else { None })
            .collect();
        assert_eq!(waits, [kind], "death {death}");
        if death < 30 {
            assert_eq!(rig.until_start(), SECOND);
        }
    }
    assert!(rig.now_ms - begun_ms < HOUR);
    assert_eq!((rig.status(), rig.waits_ms()), (WorkerStatus::Failed, Some(10 * MINUTE)));
}

#[test]
fn deaths_that_are_an_hour_old_count_no_more() {
    let mut rig = Rig::starting(Settings { max_restarts_per_hour: 3, ..Settings::default() });
    for _ in 0..10 {
        rig.started();
        // Three deaths within an hour: never.
        rig.pass(HOUR / 2);
        rig.exits(Exit::Code(1));
        assert_eq!(rig.status(), WorkerStatus::Restarting);
        rig.until_start();
    }
}

#[test]
fn zero_switches_the_limits_off() {
    let mut rig = Rig::starting(endless());
    for _ in 0..200 {
        rig.started();
        rig.exits(Exit::Code(1));
        assert_eq!(rig.status(), WorkerStatus::Restarting);
        rig.until_start();
    }
}

#[test]
fn a_clean_exit_after_a_minute_restarts_at_once() {
    let mut rig = Rig::running(Settings::default());
    for _ in 0..100 {
        rig.pass(MINUTE);
        let effects = rig.exits(Exit::Code(0));
        assert_eq!(starts(&effects), [rig.run]);
        assert_eq!(rig.failures(), 0);
        rig.started();
    }
}

#[test]
fn clean_exits_that_come_too_soon_back_off_but_never_fail() {
    let mut rig = Rig::starting(Settings::default());
    let mut waited = Vec::new();
    for _ in 0..40 {
        rig.started();
        rig.exits(Exit::Code(0));
        assert_eq!((rig.status(), rig.failures()), (WorkerStatus::Restarting, 0));
        waited.push(rig.until_start() / SECOND);
    }
    assert_eq!(waited[..11], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
}

#[test]
fn a_program_that_cannot_be_executed_is_a_failure_like_any_other() {
    let mut rig = Rig::starting(Settings::default());
    let mut waited = Vec::new();
    for _ in 1..10 {
        let run = rig.run;
        let effects = rig.play(Event::StartFailed(run, StartFailure::NotFound));
        assert!(notes(&effects).contains(&Note::CannotStart { run, failure: StartFailure::NotFound }));
        waited.push(rig.until_start() / SECOND);
    }
    rig.play(Event::StartFailed(rig.run, StartFailure::NotFound));
    assert_eq!(rig.status(), WorkerStatus::Failed);
    assert_eq!(waited, [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    // It is there again after the cooldown.
    assert_eq!(rig.until_start(), 10 * MINUTE);
    rig.started();
    assert!(rig.is_running());
}

#[test]
fn delays_of_zero_start_in_the_same_step() {
    let settings = Settings { initial_backoff_ms: 0, recovery_cooldown_ms: 0, ..Settings::default() };
    let mut rig = Rig::starting(settings);
    for run in 2..40 {
        rig.started();
        let effects = rig.exits(Exit::Code(1));
        assert_eq!(starts(&effects), [rig.run]);
        assert_eq!(rig.run.0, run);
    }
}
