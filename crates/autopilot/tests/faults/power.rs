//! The power is lost at every moment of a daemon's life. The next boot's daemon starts, and trusts nothing that is torn.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use testkit::binaries;
use testkit::home::DEADLINE;

use crate::recorded::{Left, Luck, Recorded};
use crate::rig::{Rig, count, write_program};
use crate::witness::{HASTY, assert_never_two, heals};

const STATE: &str = "workers/main/state.json";
const BOOT_OF_THE_RECORD: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// Starts, ends, commands, a death of the daemon and one of the worker. Says at which moment a stop had been answered.
fn record(rig: &Rig, trace: &Path) -> (Recorded, usize) {
    fs::create_dir(trace).unwrap();
    let start = || {
        let mut command = rig.command();
        command.env("AUTOPILOT_FS_TRACE", trace).env("AUTOPILOT_FAIL_BOOT_ID", BOOT_OF_THE_RECORD);
        rig.start_by(command)
    };
    let mut daemon = start();
    rig.wait_for("the third run is ready", |status| {
        status["worker_ready"] == true && count(status, "total_restarts") == 2
    });
    assert!(rig.ask("restart-worker").done().starts_with("Worker started"));
    rig.ready_worker();
    daemon.kill();
    daemon = start();
    rig.wait_for_state("running");
    assert_eq!(rig.ask("stop-worker").done(), "Worker stopped");
    let answered = Recorded::read(trace).len();
    assert!(rig.ask("start-worker").done().starts_with("Worker started"));
    rig.finish(daemon);
    (Recorded::read(trace), answered)
}

#[test]
fn whenever_the_power_is_lost_the_next_daemon_starts() {
    let rig = Rig::new(HASTY).plan(&[
        "alone ready exit=3 after_ms=10",
        "alone ready spew=5000 exit=0 after_ms=10",
        "alone ready",
    ]);
    let (recorded, answered) = record(&rig, &rig.home.user_home().join("trace"));
    assert_a_stop_outlives_it(&recorded, answered);
    let mut homes: BTreeMap<Left, (usize, Luck)> = BTreeMap::new();
    for moment in 0..recorded.len() {
        let cut = if moment.is_multiple_of(2) { Luck::Empty } else { Luck::Half };
        for luck in [Luck::Good, cut, Luck::Bad, Luck::Mixed(moment as u64)] {
            homes.entry(recorded.left_at(moment, luck)).or_insert((moment, luck));
        }
    }
    let states = recorded.contents_of(Path::new(STATE));
    let (moments, syncs, count) = (recorded.len(), recorded.syncs(), homes.len());
    assert!(moments > 100 && syncs > 2 && count > 50, "{moments} moments, {syncs} syncs, {count} homes");
    let queue = Mutex::new(homes.into_iter().collect::<Vec<_>>());
    let broken = Mutex::new(Vec::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let next = || queue.lock().unwrap().pop();
                // Made anew after a failure only: it takes longer than what is tried in it.
                let mut free = None;
                while let Some((left, at)) = next() {
                    let rig = free.take().unwrap_or_else(next_boot);
                    let tried = catch_unwind(AssertUnwindSafe(|| {
                        boots(&rig, &states, &left);
                        rig
                    }));
                    match tried {
                        Ok(rig) => free = Some(rig),
                        Err(_) => broken.lock().unwrap().push(at),
                    }
                }
            });
        }
    });
    eprintln!("measured: {count} homes of {moments} moments with {syncs} syncs, in {:?}", began.elapsed());
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "after a loss of power at (moment, luck): {broken:?}");
}

/// Whoever was told that the worker stays down need not look again after the power was lost.
fn assert_a_stop_outlives_it(recorded: &Recorded, answered: usize) {
    for luck in [Luck::Good, Luck::Empty, Luck::Half, Luck::Bad].into_iter().chain((0..50).map(Luck::Mixed)) {
        let left = recorded.left_at(answered, luck);
        assert!(left.file(Path::new(STATE)).is_some_and(says_stopped), "{luck:?}: {left:#?}");
    }
}

fn says_stopped(state: &[u8]) -> bool {
    String::from_utf8_lossy(state).contains("\"stopped\":true")
}

fn next_boot() -> Rig {
    let mut rig = Rig::new(HASTY).hostile("alone ready");
    // A script is not copied into the store: that would take most of the time.
    let worker = rig.home.user_home().join("worker");
    write_program(&worker, &format!("#!/bin/sh\nexec {}\n", binaries::own("hostile-worker").display()));
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", worker);
    rig
}

/// `states`: all that was ever a state.
fn boots(rig: &Rig, states: &BTreeSet<Vec<u8>>, left: &Left) {
    left.build(&rig.home.path());
    let is_torn = left.file(Path::new(STATE)).is_some_and(|now| !states.contains(now));
    let stopped = !is_torn && left.file(Path::new(STATE)).is_some_and(says_stopped);
    let daemon = if stopped {
        // As the operator wanted it.
        let daemon = rig.start();
        rig.wait_for_state("stopped");
        daemon
    } else {
        heals(rig).0
    };
    let status = rig.status();
    let degraded = status["degraded"].as_array().unwrap();
    let set_aside =
        degraded.iter().any(|line| line.to_string().contains("state.json") && line.to_string().contains("set aside"));
    assert_eq!(set_aside, is_torn, "a torn state: {is_torn}; {status:#}");
    assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
    assert_never_two(rig);
    let starts = usize::from(!stopped);
    rig.home.wait_until("the worker's first words", DEADLINE, || (rig.starts() >= starts).then_some(()));
    assert_eq!(rig.starts(), starts);
    rig.finish(daemon);
    fs::remove_dir_all(rig.home.path()).unwrap();
    fs::remove_file(rig.home.user_home().join("stamps")).ok();
}
