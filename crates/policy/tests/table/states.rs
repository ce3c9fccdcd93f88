//! Every state of the machine, each reached by a short script.

use policy::supervisor::{Command, Event, Exit, Found, RunId, Settings, State, Survey, Then};

use crate::rig::{CRITICAL, GIB, LOW, MINUTE, Rig, SECOND, candidate};

/// A pid that is a victim in the states that have one.
pub(crate) const VICTIM: u32 = 4_000;

/// A name, how to get there.
pub(crate) type Place = (&'static str, fn() -> Rig);

pub(crate) const PLACES: &[Place] = &[
    ("down", || Rig::down(Settings::default())),
    ("starting", || Rig::starting(Settings::default())),
    ("running", running),
    ("ready", ready),
    ("adopted", adopted),
    ("running, victim asked to end", victim),
    ("running, victim killed", || {
        let mut rig = victim();
        rig.pass(2 * SECOND);
        rig
    }),
    ("running, memory critical elsewhere", || {
        let mut rig = running();
        rig.memory = CRITICAL;
        rig.pass(6 * SECOND);
        rig
    }),
    ("running, stall tolerated", tolerated),
    ("stopping to start anew", || {
        let mut rig = running();
        rig.asks(Command::RestartWorker);
        rig
    }),
    ("stopping for a stall", stalled),
    ("stopping for memory", || {
        let mut rig = running();
        rig.memory = CRITICAL;
        rig.survey = Survey { candidates: Vec::new(), tree_bytes: 4 * GIB };
        rig.pass(6 * SECOND);
        rig
    }),
    ("stopping an orphan", || {
        let mut rig = Rig::down(Settings::default());
        rig.play(Event::Boot(Found::Orphaned { run: RunId(7) }));
        rig.run = RunId(7);
        rig
    }),
    ("unknown", || {
        let mut rig = Rig::down(Settings::default());
        rig.play(Event::Boot(Found::Unverified { run: RunId(7) }));
        rig.run = RunId(7);
        rig
    }),
    ("stopping to stay", || {
        let mut rig = running();
        rig.asks(Command::StopWorker);
        rig
    }),
    ("backing off", || {
        let mut rig = running();
        rig.exits(Exit::Code(1));
        rig
    }),
    ("backing off after a clean exit", || {
        let mut rig = running();
        rig.exits(Exit::Code(0));
        rig
    }),
    ("cooling down", || {
        let mut rig = Rig::starting(Settings::default());
        rig.fail_until_failed();
        rig
    }),
    ("stopped", stopped),
    ("shutting down", || {
        let mut rig = running();
        rig.asks(Command::Shutdown);
        rig
    }),
    ("halted", || {
        let mut rig = stopped();
        rig.asks(Command::Shutdown);
        rig
    }),
];

fn running() -> Rig {
    Rig::running(Settings::default())
}

fn ready() -> Rig {
    let mut rig = running();
    rig.play(Event::Announced(rig.run));
    rig
}

fn adopted() -> Rig {
    let mut rig = Rig::down(Settings::default());
    rig.run = RunId(7);
    rig.play(Event::Boot(Found::Live { run: RunId(7), started_ms: rig.now_ms - MINUTE }));
    rig
}

fn victim() -> Rig {
    let mut rig = ready();
    rig.memory = LOW;
    rig.survey = Survey { candidates: vec![candidate(VICTIM, GIB)], tree_bytes: 2 * GIB };
    rig.pass(5 * SECOND);
    rig
}

fn tolerated() -> Rig {
    let mut rig = Rig::running(Settings { max_stall_kills_per_hour: 0, ..Settings::default() });
    rig.lively = false;
    rig.pass(6 * MINUTE);
    rig
}

pub(crate) fn stalled() -> Rig {
    let mut rig = running();
    rig.lively = false;
    rig.pass(6 * MINUTE);
    rig
}

fn stopped() -> Rig {
    let mut rig = running();
    rig.asks(Command::StopWorker);
    rig.exits(Exit::Signal(15));
    rig
}

/// The place of this name.
pub(crate) fn at(name: &str) -> Rig {
    let (_, build) = PLACES.iter().find(|(known, _)| *known == name).expect("a known place");
    build()
}

#[test]
fn each_script_leads_where_it_says() {
    for (name, build) in PLACES {
        let rig = build();
        let state = rig.machine.state();
        let there = match *name {
            "down" => matches!(state, State::Down),
            "starting" => matches!(state, State::Starting(_)),
            "running" | "adopted" | "running, memory critical elsewhere" => matches!(state, State::Running(_)),
            "running, stall tolerated" => matches!(state, State::Running(w) if w.tolerated_ms.is_some()),
            "ready" | "running, victim asked to end" | "running, victim killed" => matches!(state, State::Ready(_)),
            "stopping to start anew" => matches!(state, State::Stopping { then: Then::StartAnew, .. }),
            "stopping for a stall" => matches!(state, State::Stopping { then: Then::StallFailure, .. }),
            "stopping for memory" => matches!(state, State::Stopping { then: Then::MemoryFailure, .. }),
            "stopping an orphan" => matches!(state, State::Stopping { then: Then::OrphanFailure, .. }),
            "stopping to stay" => matches!(state, State::Stopping { then: Then::Stay, .. }),
            "unknown" => matches!(state, State::Unknown(_)),
            "backing off" | "backing off after a clean exit" => matches!(state, State::BackingOff { .. }),
            "cooling down" => matches!(state, State::CoolingDown { .. }),
            "stopped" => matches!(state, State::Stopped),
            "shutting down" => matches!(state, State::ShuttingDown(_)),
            "halted" => matches!(state, State::Halted),
            other => panic!("{other} has no check"),
        };
        assert!(there, "{name}: {state:?}");
    }
}

/// Whoever prepares the next run must not do so for one that was told to stay down, and must have the right number.
#[test]
fn the_next_run_is_named_where_one_follows_by_itself() {
    for (name, build) in PLACES {
        let rig = build();
        let follows =
            !matches!(*name, "down" | "unknown" | "stopping to stay" | "stopped" | "shutting down" | "halted");
        let next = follows.then_some(RunId(rig.run.0 + 1));
        assert_eq!(rig.machine.next_run(), next, "{name}");
    }
}

/// The worker and the shim speak over different sockets: who is heard first is chance.
#[test]
fn a_worker_may_be_ready_before_it_is_known_to_run() {
    let mut rig = Rig::starting(Settings::default());
    rig.play(Event::Announced(rig.run));
    assert!(matches!(rig.machine.state(), State::Starting(_)));
    rig.started();
    assert!(matches!(rig.machine.state(), State::Ready(_)));
    assert!(rig.machine.view().ready);
}
