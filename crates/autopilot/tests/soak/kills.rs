//! `kill -9` of daemons and shims at random instants.

use testkit::home::Binaries;
use testkit::kill_loop::{self, Plan};

fn plan(kills: usize) -> Plan {
    Plan {
        binaries: Binaries {
            autopilot: env!("CARGO_BIN_EXE_autopilot").into(),
            autopilotd: env!("CARGO_BIN_EXE_autopilotd").into(),
        },
        worker: testkit::binaries::own("hostile-worker"),
        homes: 16,
        kills,
        seed: 2,
        environment: Vec::new(),
    }
}

/// It has to see what it looks for: with the lock, and what is looked for beside it, out of the way.
#[test]
fn without_the_lock_of_a_run_there_are_two_workers() {
    let unlocked = ("AUTOPILOT_FAIL".to_owned(), "lock.busy:lock=ignore;run.lives=eio".to_owned());
    let report = kill_loop::run(&Plan { environment: vec![unlocked], homes: 4, ..plan(200) });
    assert!(report.duplicates > 0, "{report:#?}");
}

#[test]
fn two_thousand_kills_never_make_two_workers_and_lose_no_exit() {
    let report = kill_loop::run(&plan(2_000));
    println!("{report:#?}");
    assert_eq!(report.broken, [] as [String; 0]);
    assert!(report.daemons_killed + report.shims_killed >= 2_000);
    let kills = report.daemons_killed + report.shims_killed;
    assert!(report.shims_killed * 20 >= kills, "fewer than 5 % are shims: {} of {kills}", report.shims_killed);
    assert!(report.workers > 300, "too few workers: {}", report.workers);
}
