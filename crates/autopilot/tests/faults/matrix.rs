//! Every fail point with every fault.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use os::fail::POINTS;

use crate::scene::{After, Scene};
use crate::witness::{PROMISE, assert_never_two, heals_or_is_told};

/// At a time; two such tests run beside each other.
const CASES_AT_ONCE: usize = 3;

/// At a place.
const ATTEMPTS: usize = 3;

/// Such a place is in the shim.
fn is_of_the_shim(name: &str) -> bool {
    let prefixes = ["shim.", "spawn.", "output.", "groups."];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with(":started") || name.ends_with(":exit")
}

fn every_point_with(fault: &str) {
    let fails = !matches!(fault, "abort" | "delay");
    // A step that can't fail has no error to be met with.
    let names: Vec<String> =
        POINTS.iter().filter(|point| point.can_fail || !fails).flat_map(os::fail::Point::names).collect();
    assert!(names.len() > 40, "{} names only", names.len());
    all(fault, names, After::Settled);
}

fn all(fault: &str, names: Vec<String>, after: After) {
    let count = names.len();
    let queue = Mutex::new(names);
    let broken = Mutex::new(Vec::new());
    let times = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CASES_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(name) = queue.lock().unwrap().pop() else { return };
                    match catch_unwind(AssertUnwindSafe(|| in_time(&name, fault, after))) {
                        Ok(took) => times.lock().unwrap().push(took),
                        Err(_) => broken.lock().unwrap().push(name),
                    }
                }
            });
        }
    });
    let mut times = times.into_inner().unwrap();
    times.sort_unstable();
    let broken = broken.into_inner().unwrap();
    if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
        eprintln!("measured: {fault} at {count} places: healed in {median:?} (median), {worst:?} (worst)");
    }
    assert!(broken.is_empty(), "{fault} at {broken:?}");
}

/// It always heals, and within the promised time unless the machine is busy with something else: a place that is slow is slow
/// each time.
fn in_time(name: &str, fault: &str, after: After) -> Duration {
    let mut times = Vec::new();
    while times.len() < ATTEMPTS {
        let took = one(name, fault, after);
        if took <= PROMISE {
            return took;
        }
        times.push(took);
    }
    panic!("{fault} at {name}: healed in {times:?}, more than {PROMISE:?} each time");
}

fn one(name: &str, fault: &str, after: After) -> Duration {
    let scene = Scene::of(name);
    let rig = scene.play(name, fault, after);
    let (daemon, took) = heals_or_is_told(&rig, scene.may_leave_it_stopped());
    assert_never_two(&rig);
    rig.finish(daemon);
    took
}

#[test]
fn death_at_every_place() {
    every_point_with("abort");
}

/// A shim that dies, or is told of an error, together with the daemon, which has no time to make up for it.
#[test]
fn death_of_the_daemon_when_the_shim_has_died_or_failed() {
    let names = || POINTS.iter().flat_map(os::fail::Point::names).filter(|name| is_of_the_shim(name)).collect();
    all("abort", names(), After::AtOnce);
    all("delay", names(), After::AtOnce);
    all("enospc", names(), After::AtOnce);
}

#[test]
fn a_delay_at_every_place() {
    every_point_with("delay");
}

#[test]
fn a_full_disk_at_every_place() {
    every_point_with("enospc");
}

#[test]
fn a_broken_disk_at_every_place() {
    every_point_with("eio");
}

#[test]
fn no_descriptors_at_every_place() {
    every_point_with("emfile");
}

#[test]
fn no_memory_at_every_place() {
    every_point_with("enomem");
}
