//! The three bands, and who is ended when memory runs low.

use policy::supervisor::{
    Band, Candidate, Effect, Event, Exit, Found, MemoryReading, Note, RunId, Settings, Sign, Survey, VictimSignal,
    WorkerStatus,
};

use crate::rig::{CRITICAL, GIB, LOW, ROOMY, Rig, SECOND, candidate, notes, plain, stops};

const MIB: u64 = 1 << 20;

fn reading(available_mib: u64) -> MemoryReading {
    MemoryReading { available_bytes: available_mib * MIB, total_bytes: 16 * GIB, pressure_percent: 0 }
}

fn low(candidates: &[(u32, u64)]) -> Rig {
    let mut rig = Rig::running(Settings::default());
    rig.memory = LOW;
    let candidates = candidates.iter().map(|&(pid, mib)| candidate(pid, mib * MIB)).collect();
    rig.survey = Survey { candidates, tree_bytes: GIB };
    rig
}

fn signals(effects: &[(u64, Effect)]) -> Vec<(u64, u32, VictimSignal)> {
    effects
        .iter()
        .filter_map(
            |(at_ms, e)| if let Effect::Signal { pid, signal } = e { Some((*at_ms, *pid, *signal)) } else { None },
        )
        .collect()
}

#[test]
fn bands_are_entered_at_their_threshold_and_left_an_eighth_above() {
    let mut rig = Rig::running(Settings::default());
    let walk = [
        (4_096, Band::Normal),
        (2_048, Band::Normal),
        (2_047, Band::Low),
        (2_048, Band::Low),
        (2_303, Band::Low),
        (2_304, Band::Normal),
        (2_047, Band::Low),
        (1_024, Band::Low),
        (1_023, Band::Critical),
        (1_024, Band::Critical),
        (1_151, Band::Critical),
        (1_152, Band::Low),
        (2_303, Band::Low),
        (2_304, Band::Normal),
        (10, Band::Critical),
        (9_000, Band::Normal),
    ];
    for (available_mib, expect) in walk {
        rig.step(Event::Sampled { run: Some(RunId(1)), sign: Sign::Progress, memory: reading(available_mib) });
        assert_eq!(rig.machine.view().band, expect, "{available_mib} MiB");
    }
}

/// It waits for a look at its program, and is not there yet when memory is first looked at.
#[test]
fn the_first_look_says_when_the_next_one_is_also_before_the_worker_is_there() {
    let mut rig = Rig::starting(Settings::default());
    rig.step(Event::Sampled { run: None, sign: Sign::Nothing, memory: reading(2_060) });
    let due_ms = rig.machine.deadline_ms().unwrap();
    assert!(due_ms <= rig.now_ms + 100, "{} ms", due_ms - rig.now_ms);
}

#[test]
fn a_reading_that_failed_is_no_want_of_memory() {
    let mut rig = Rig::running(Settings::default());
    rig.memory = MemoryReading::default();
    assert!(rig.pass(60 * SECOND).iter().all(|(_, e)| matches!(e, Effect::Sample)));
    assert_eq!(rig.machine.view().band, Band::Normal);
}

#[test]
fn the_biggest_candidate_is_asked_then_killed_after_two_seconds() {
    let mut rig = low(&[(10, 600), (11, 900), (12, 700)]);
    let effects = rig.pass(20 * SECOND);
    let got = signals(&effects);
    let (at_ms, _, _) = got[0];
    assert_eq!(got, [(at_ms, 11, VictimSignal::Term), (at_ms + 2 * SECOND, 11, VictimSignal::Kill)]);
    assert!(stops(&plain(effects)).is_empty(), "the worker goes on");
}

/// Before its program runs there is no tree to look through: that look finds nothing, and must not put off the next one.
#[test]
fn a_run_that_begins_when_memory_is_low_is_looked_through_as_soon_as_it_runs() {
    let mut rig = Rig::down(Settings::default());
    rig.step(Event::Boot(Found::Nothing));
    let look = |run| Event::Sampled { run: Some(run), sign: Sign::Nothing, memory: LOW };
    let effects = rig.step(look(RunId(1)));
    assert!(effects.contains(&Effect::Survey(RunId(1))), "nobody answers it: {effects:?}");
    rig.memory = LOW;
    rig.survey = Survey { candidates: vec![candidate(11, 900 * MIB)], tree_bytes: GIB };
    rig.now_ms += 10;
    let begun_ms = rig.now_ms;
    let mut effects: Vec<(u64, Effect)> = rig.started().into_iter().map(|effect| (begun_ms, effect)).collect();
    effects.extend(rig.pass(SECOND));
    assert_eq!(signals(&effects), [(begun_ms, 11, VictimSignal::Term)]);
}

#[test]
fn a_victim_that_goes_when_asked_is_not_killed_and_the_next_waits_15_s() {
    let mut rig = low(&[(11, 900)]);
    let got = signals(&rig.pass(6 * SECOND));
    assert_eq!(got.len(), 1);
    rig.now_ms = got[0].0 + 500;
    rig.play(Event::VictimGone(11));
    rig.survey = Survey { candidates: vec![candidate(12, 800 * MIB)], tree_bytes: GIB };
    let gone_ms = rig.now_ms;
    let next = signals(&rig.pass(30 * SECOND));
    assert_eq!((next[0].1, next[0].2), (12, VictimSignal::Term));
    let waited_ms = next[0].0 - gone_ms;
    assert!((15 * SECOND..16 * SECOND).contains(&waited_ms), "{waited_ms}");
}

#[test]
fn a_victim_that_not_even_kill_ends_is_given_up() {
    let mut rig = low(&[(11, 900)]);
    let got = signals(&rig.pass(60 * SECOND));
    let kinds: Vec<_> = got.iter().map(|(_, _, signal)| *signal).collect();
    use VictimSignal::{Kill, Term};
    assert_eq!(kinds[..4], [Term, Kill, Term, Kill]);
    assert!(got[2].0 - got[1].0 >= 17 * SECOND, "2 s for it to die, 15 s hold-off");
}

#[test]
fn nobody_small_is_ended() {
    let mut rig = low(&[(11, 500), (12, 499)]);
    assert_eq!(signals(&rig.pass(600 * SECOND)), []);
    rig.survey.candidates.push(candidate(13, 501 * MIB));
    let begun_ms = rig.now_ms;
    let got = signals(&rig.pass(10 * SECOND));
    assert_eq!(got[0].1, 13);
    assert!(got[0].0 - begun_ms <= 3 * SECOND, "found soon after it grew");
}

#[test]
fn a_swarm_of_small_ones_only_where_the_threshold_is_set() {
    let many: Vec<(u32, u64)> = (0..115).map(|n| (100 + n, 300)).collect();
    let mut rig = low(&many);
    assert_eq!(signals(&rig.pass(600 * SECOND)), []);

    let mut rig = Rig::running(Settings { swarm_kill_threshold_bytes: 8 * GIB, ..Settings::default() });
    rig.memory = LOW;
    let candidates = many.iter().map(|&(pid, mib)| candidate(pid, mib * MIB)).collect();
    rig.survey = Survey { candidates, tree_bytes: 34 * GIB };
    let got = signals(&rig.pass(6 * SECOND));
    assert_eq!(got[0].1, 100, "of equals, always the same one");
}

#[test]
fn critical_restarts_a_worker_that_is_a_cause() {
    let mut rig = Rig::running(Settings::default());
    rig.memory = CRITICAL;
    rig.survey = Survey { candidates: vec![], tree_bytes: 16 * GIB / 10 + 1 };
    let effects = plain(rig.pass(6 * SECOND));
    assert_eq!(stops(&effects), [RunId(1)]);
    assert!(notes(&effects).iter().any(|n| matches!(n, Note::MemoryRestart { .. })));
    rig.exits(Exit::Signal(15));
    assert_eq!((rig.status(), rig.failures(), rig.waits_ms()), (WorkerStatus::Restarting, 1, Some(SECOND)));
}

#[test]
fn critical_leaves_a_worker_that_is_no_cause_and_says_so_once() {
    let mut rig = Rig::running(Settings::default());
    rig.memory = CRITICAL;
    rig.survey = Survey { candidates: vec![], tree_bytes: 16 * GIB / 10 - 1 };
    let elsewhere = |effects: Vec<(u64, Effect)>| {
        assert!(stops(&plain(effects.clone())).is_empty());
        effects.iter().filter(|(_, e)| matches!(e, Effect::Note(Note::MemoryElsewhere { .. }))).count()
    };
    assert_eq!(elsewhere(rig.pass(3_600 * SECOND)), 1);
    rig.memory = ROOMY;
    assert_eq!(elsewhere(rig.pass(60 * SECOND)), 0);
    rig.memory = CRITICAL;
    assert_eq!(elsewhere(rig.pass(3_600 * SECOND)), 1, "and again when it happens again");
}

#[test]
fn a_tree_that_grows_to_be_a_cause_is_found() {
    let mut rig = Rig::running(Settings::default());
    rig.memory = CRITICAL;
    rig.survey.tree_bytes = GIB;
    assert!(stops(&plain(rig.pass(60 * SECOND))).is_empty());
    rig.survey.tree_bytes = 8 * GIB;
    assert_eq!(stops(&plain(rig.pass(16 * SECOND))), [RunId(1)]);
}

#[test]
fn memory_that_goes_on_sinking_is_looked_into_at_once() {
    let sample = |rig: &mut Rig, available_mib| {
        rig.now_ms += 100;
        rig.memory = reading(available_mib);
        rig.play(Event::Sampled { run: Some(RunId(1)), sign: Sign::Progress, memory: rig.memory })
    };
    let mut rig = Rig::running(Settings::default());
    rig.survey.tree_bytes = GIB;
    assert!(stops(&sample(&mut rig, 1_000)).is_empty());
    // A tree that was not to blame eats the rest faster than the next look is due.
    rig.survey.tree_bytes = 8 * GIB;
    assert!(stops(&sample(&mut rig, 875)).is_empty(), "within an eighth of the last look");
    assert_eq!(stops(&sample(&mut rig, 874)), [RunId(1)]);
    // What sinks on because of others costs few looks.
    let mut rig = Rig::running(Settings::default());
    rig.survey.tree_bytes = GIB;
    let mut surveys = 0;
    for available_mib in (0..1_000).rev() {
        let looks = sample(&mut rig, available_mib);
        surveys += looks.iter().filter(|effect| matches!(effect, Effect::Survey(_))).count();
    }
    // Every two seconds, and at each eighth of what was left.
    assert!((51..100).contains(&surveys), "{surveys}");
}

#[test]
fn critical_does_not_wait_for_a_victim_or_a_hold_off() {
    let mut rig = low(&[(11, 900)]);
    rig.pass(5 * SECOND);
    rig.memory = CRITICAL;
    rig.survey.tree_bytes = 8 * GIB;
    let begun_ms = rig.now_ms;
    let effects = rig.pass(10 * SECOND);
    let stop_ms = effects.iter().find(|(_, e)| matches!(e, Effect::Stop(_))).map(|(at_ms, _)| at_ms - begun_ms);
    assert!(stop_ms.is_some_and(|ms| ms <= SECOND), "{stop_ms:?}");
}

#[test]
fn the_nearer_the_threshold_the_closer_the_watch() {
    let mut rig = Rig::running(Settings::default());
    let mut next_ms = |available_mib| {
        rig.step(Event::Sampled { run: Some(RunId(1)), sign: Sign::Progress, memory: reading(available_mib) });
        rig.machine.deadline_ms().map_or(0, |at_ms| at_ms - rig.now_ms)
    };
    assert_eq!(next_ms(16_384), 5_000);
    assert_eq!(next_ms(7_200), 5_000);
    // At 1 GiB/s, 1 GiB above the threshold is a second.
    assert_eq!(next_ms(3_072), 1_000);
    assert_eq!(next_ms(2_148), 100);
    assert_eq!(next_ms(2_049), 100);
    assert_eq!(next_ms(1_536), 500);
    assert_eq!(next_ms(1_025), 100);
    assert_eq!(next_ms(100), 100);
}

#[test]
fn a_fast_leak_is_seen_within_150_ms_of_the_threshold() {
    for mib_per_s in [10, 50, 400, 1_000] {
        let mut rig = low(&[(11, 900)]);
        let total_mib = 10_000;
        let begun_ms = rig.now_ms;
        rig.memory = reading(total_mib);
        let crossed_ms = (total_mib - 2_048) * 1_000 / mib_per_s;
        let acted_ms = loop {
            rig.now_ms = rig.machine.deadline_ms().expect("a look is due");
            let left = total_mib.saturating_sub((rig.now_ms - begun_ms) * mib_per_s / 1_000);
            rig.memory = reading(left);
            if rig.play(Event::Tick).iter().any(|e| matches!(e, Effect::Signal { .. })) {
                break rig.now_ms - begun_ms;
            }
        };
        assert!(acted_ms >= crossed_ms && acted_ms - crossed_ms <= 150, "{mib_per_s} MiB/s: {acted_ms} {crossed_ms}");
    }
}

fn nested(pid: u32, parent: Option<u32>, own_mib: u64, mib: u64) -> Candidate {
    Candidate { pid, parent, own_bytes: own_mib * MIB, bytes: mib * MIB }
}

fn chosen(settings: Settings, candidates: Vec<Candidate>) -> Vec<u32> {
    let mut rig = Rig::running(settings);
    rig.memory = LOW;
    rig.survey = Survey { candidates, tree_bytes: GIB };
    let asked = signals(&rig.pass(6 * SECOND)).into_iter().filter(|(_, _, signal)| *signal == VictimSignal::Term);
    asked.map(|(_, pid, _)| pid).collect()
}

#[test]
fn the_leaking_server_is_ended_rather_than_the_agent_that_started_it() {
    let agent = nested(10, None, 200, 3_200);
    let tree = vec![agent, nested(11, Some(10), 3_000, 3_000), nested(12, Some(10), 50, 50)];
    assert_eq!(chosen(Settings::default(), tree), [11]);
}

#[test]
fn an_agent_that_leaks_itself_is_ended_with_all_below_it() {
    let tree = vec![nested(10, None, 3_000, 3_100), nested(11, Some(10), 100, 100)];
    assert_eq!(chosen(Settings::default(), tree), [10]);
}

#[test]
fn forks_that_share_their_memory_go_with_their_parent() {
    let forks = (11..16).map(|pid| nested(pid, Some(10), 175, 175));
    let tree = std::iter::once(nested(10, None, 175, 1_050)).chain(forks).collect();
    assert_eq!(chosen(Settings::default(), tree), [10], "one of six alone would free nothing");
}

#[test]
fn a_swarm_is_thinned_out_until_it_is_small_enough_and_its_agent_lives() {
    let settings = Settings { swarm_kill_threshold_bytes: 2 * GIB, ..Settings::default() };
    let swarm = (100..215).map(|pid| nested(pid, Some(10), 300, 300));
    let tree: Vec<_> = std::iter::once(nested(10, None, 200, 34_700)).chain(swarm).collect();
    let ended = chosen(settings, tree);
    assert_eq!(ended.len(), 109, "115 × 300 + 200 MiB, 2 GiB may stay");
    assert!(!ended.contains(&10));
    assert_eq!(chosen(Settings::default(), vec![nested(10, None, 300, 300)]), [], "off by default");
}

#[test]
fn what_is_too_big_goes_even_where_the_tree_is_not_to_blame() {
    let mut rig = Rig::running(Settings::default());
    rig.memory = CRITICAL;
    rig.survey = Survey { candidates: vec![nested(11, None, 900, 900)], tree_bytes: GIB };
    let effects = rig.pass(6 * SECOND);
    assert_eq!(signals(&effects)[0].1, 11);
    let told = notes(&plain(effects)).into_iter().filter(|note| matches!(note, Note::MemoryElsewhere { .. })).count();
    assert_eq!(told, 1);
}

#[test]
fn pressure_is_told_of_once_until_it_has_calmed_down() {
    let mut rig = Rig::running(Settings::default());
    let mut told = Vec::new();
    for percent in [0, 9, 10, 40, 6, 12, 4, 10] {
        let memory = MemoryReading { pressure_percent: percent, ..ROOMY };
        let effects = rig.step(Event::Sampled { run: Some(RunId(1)), sign: Sign::Progress, memory });
        told.extend(effects.iter().filter_map(|e| match e {
            Effect::Note(Note::MemoryPressure { percent }) => Some(*percent),
            _ => None,
        }));
    }
    assert_eq!(told, [10, 10]);
}
