//! Events that speak of a run that is not the one that lives.

use policy::supervisor::{Event, Exit, Recalled, RunId, Sign, StartFailure, Survey};

use crate::rig::{CRITICAL, GIB, candidate};
use crate::states::PLACES;

/// The machine does nothing, and stands where it stood.
fn changes_nothing(make: impl Fn(RunId) -> Event) {
    for (name, build) in PLACES {
        for stale in [RunId(0), RunId(1_000)] {
            let mut rig = build();
            let before = (rig.machine.state().clone(), rig.machine.view(), rig.machine.deadline_ms());
            let event = make(stale);
            assert_eq!(rig.step(event.clone()), [], "{name}: {event:?}");
            let after = (rig.machine.state().clone(), rig.machine.view(), rig.machine.deadline_ms());
            assert_eq!(after, before, "{name}: {event:?}");
        }
    }
}

#[test]
fn a_stale_exit_changes_nothing() {
    for exit in [Exit::Code(0), Exit::Code(1), Exit::Signal(9), Exit::Unseen] {
        changes_nothing(|run| Event::Exited(run, exit));
    }
}

#[test]
fn a_stale_start_changes_nothing() {
    changes_nothing(Event::Started);
    changes_nothing(|run| Event::StartFailed(run, StartFailure::NotFound));
}

#[test]
fn stale_life_changes_nothing() {
    changes_nothing(Event::Announced);
    changes_nothing(Event::Activity);
    changes_nothing(|run| Event::Extended(run, u64::MAX));
    changes_nothing(Event::Unverified);
    changes_nothing(|run| {
        let (active_ms, progress_ms) = (0, 0);
        Event::Recalled(
            run,
            Recalled { announced: true, active_ms, progress_ms, extended_until_ms: 0, tolerated_ms: None },
        )
    });
}

#[test]
fn a_stale_survey_changes_nothing() {
    let survey = Survey { candidates: vec![candidate(9, 9 * GIB)], tree_bytes: 9 * GIB };
    changes_nothing(|run| Event::Surveyed(run, survey.clone()));
}

#[test]
fn a_stale_sample_ends_nobody() {
    for (name, build) in PLACES {
        let mut rig = build();
        rig.now_ms += 3_600_000;
        let effects = rig.step(Event::Sampled { run: Some(RunId(1_000)), sign: Sign::Nothing, memory: CRITICAL });
        let ended = effects
            .iter()
            .any(|e| matches!(e, policy::supervisor::Effect::Stop(_) | policy::supervisor::Effect::Signal { .. }));
        assert!(!ended || name.contains("victim"), "{name}: {effects:?}");
    }
}
