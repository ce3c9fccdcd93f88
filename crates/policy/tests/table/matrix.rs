//! Every state × every event × when: each step ends, and the contract holds after it (see `contract.rs`).

use policy::supervisor::{
    Candidate, Command, Event, Exit, Found, MemoryReading, Recalled, RequestId, RunId, Sign, StartFailure, Survey,
};
use proptest::prelude::*;

use crate::rig::{CRITICAL, GIB, HOUR, LOW, ROOMY, Rig, candidate};
use crate::states::{PLACES, VICTIM, at};

/// Of a run that was found stalled and left alone.
const RECALLED: Recalled = Recalled {
    announced: true,
    active_ms: 999_000_000,
    progress_ms: 999_000_000,
    extended_until_ms: 0,
    tolerated_ms: Some(999_900_000),
};

/// Every kind of event, for the run that is the newest and for others.
pub(crate) fn events(run: RunId, request: u64) -> Vec<Event> {
    let now_ms = 1_000_000_000;
    let stale = RunId(run.0.wrapping_sub(1));
    let unreadable = MemoryReading::default();
    let survey = |candidates: Vec<Candidate>, tree_bytes| Survey { candidates, tree_bytes };
    let mut all = vec![
        Event::Missed { run, exit: Exit::Code(1), lived_ms: 5 },
        Event::Boot(Found::Nothing),
        Event::Boot(Found::Live { run, started_ms: now_ms }),
        Event::Boot(Found::Orphaned { run }),
        Event::Boot(Found::Unverified { run }),
        Event::Boot(Found::Ended { run, exit: Exit::Code(1), lived_ms: 5 }),
        Event::Boot(Found::Ended { run, exit: Exit::Code(0), lived_ms: HOUR }),
        Event::Tick,
        Event::VictimGone(VICTIM),
        Event::VictimGone(1),
        Event::RolledBack,
        Event::Sampled { run: None, sign: Sign::Nothing, memory: CRITICAL },
    ];
    for run in [run, stale] {
        all.extend([
            Event::Started(run),
            Event::StartFailed(run, StartFailure::NotExecutable),
            Event::Announced(run),
            Event::Activity(run),
            Event::Extended(run, now_ms + HOUR),
            Event::Recalled(run, RECALLED),
            Event::Unverified(run),
            Event::Surveyed(run, Survey::default()),
            Event::Surveyed(run, survey(vec![candidate(VICTIM, GIB), candidate(5_000, 2 * GIB)], 3 * GIB)),
            Event::Surveyed(run, survey(vec![candidate(5_001, 1)], 1)),
            Event::Exited(run, Exit::Code(0)),
            Event::Exited(run, Exit::Code(1)),
            Event::Exited(run, Exit::Signal(9)),
            Event::Exited(run, Exit::Unseen),
        ]);
        for memory in [ROOMY, LOW, CRITICAL, unreadable] {
            all.push(Event::Sampled { run: Some(run), sign: Sign::Progress, memory });
            all.push(Event::Sampled { run: Some(run), sign: Sign::Nothing, memory });
        }
    }
    for command in [Command::StartWorker, Command::StopWorker, Command::RestartWorker, Command::Shutdown] {
        all.push(Event::Operator(RequestId(request), command));
    }
    all
}

/// The moments at which an event may come, after the last one.
fn moments(rig: &Rig) -> [u64; 6] {
    let due_ms = rig.machine.deadline_ms().map_or(1, |at_ms| at_ms - rig.now_ms);
    [0, 1, due_ms, due_ms + 1, 6 * 60_000, 24 * HOUR]
}

#[test]
fn every_event_in_every_state_at_every_moment() {
    for (_, build) in PLACES {
        let first = build();
        for (n, event) in events(first.run, 1_000).into_iter().enumerate() {
            for wait_ms in moments(&first) {
                let after = || {
                    let mut rig = build();
                    rig.now_ms += wait_ms;
                    rig.step(event.clone());
                    rig
                };
                for next in events(after().run, 2_000 + n as u64) {
                    after().step(next);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events(
        place in 0..PLACES.len(),
        steps in prop::collection::vec((0..200_usize, 0..8_usize), 1..40),
    ) {
        let mut rig = at(PLACES[place].0);
        for (n, (which, when)) in steps.into_iter().enumerate() {
            let all = events(rig.run, 1_000 + n as u64);
            let event = all[which % all.len()].clone();
            rig.now_ms += moments(&rig).get(when).copied().unwrap_or(0);
            rig.step(event);
        }
    }
}
