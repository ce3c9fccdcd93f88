//! What the daemon holds of the machine does not grow. A week of it: `cargo xtask soak days`.

use std::time::Duration;

use testkit::days::{self, Plan};
use testkit::home::Binaries;

#[test]
fn two_days_leave_descriptors_memory_zombies_and_disk_as_they_were() {
    let report = days::run(&Plan {
        binaries: Binaries {
            autopilot: env!("CARGO_BIN_EXE_autopilot").into(),
            autopilotd: env!("CARGO_BIN_EXE_autopilotd").into(),
        },
        worker: testkit::binaries::own("hostile-worker"),
        days: 2,
        day: Duration::from_secs(12),
        seed: 7,
    });
    println!("{:#?}", report.looks.last());
    assert_eq!(report.broken, [] as [String; 0], "{:#?}", report.looks);
    assert!(report.looks.last().is_some_and(|look| look.runs > 60), "too little happened: {:?}", report.looks.last());
}
