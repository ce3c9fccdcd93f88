//! Promise 6: what a daemon and its shim cost while a healthy worker does its work.

use std::fs;
use std::time::{Duration, Instant};

use super::place::{Place, Starts, shims, stamp_file};
use super::row::{Limit, Row, Unit};
use crate::step::Failure;

pub(crate) fn measure(place: &Place) -> Result<Vec<Row>, Failure> {
    // A heartbeat every 30 s is what the daemon asks for by default.
    let home = place.home("", "ready watchdog_ms=30000");
    let daemon = home.start_daemon(["--prompt", "bench"]);
    Starts::of(&stamp_file(&home)).next(&home);
    std::thread::sleep(Duration::from_secs(2));
    let mut pids = shims(daemon.pid());
    pids.push(u32::try_from(daemon.pid()).expect("pids are positive"));
    assert_eq!(pids.len(), 2, "the daemon and one shim");

    let begun = (Instant::now(), cost(&pids));
    std::thread::sleep(Duration::from_secs(if place.quick { 20 } else { 90 }));
    let (ended, cost) = (Instant::now(), cost(&pids));
    let minutes = ended.duration_since(begun.0).as_secs_f64() / 60.0;
    #[expect(clippy::cast_precision_loss, reason = "far from 2^53")]
    let per_minute = |after: u64, before: u64| (after - before) as f64 / minutes;
    Ok(vec![
        Row::new(6, "wake-ups", Limit::AtMost(15.0), per_minute(cost.0, begun.1.0), Unit::PerMinute),
        Row::new(6, "CPU time", Limit::AtMost(2.0), per_minute(cost.1, begun.1.1) / 1e6, Unit::MsPerMinute),
    ])
}

/// Wake-ups and nanoseconds of CPU, all together.
fn cost(pids: &[u32]) -> (u64, u64) {
    let wakeups = |pid: &u32| -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|line| line.trim().parse().ok()).expect("a number of context switches")
    };
    let cpu_ns = |pid: &u32| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("it runs");
        text.split(' ').next().and_then(|number| number.parse().ok()).expect("the time on CPU comes first")
    };
    (pids.iter().map(wakeups).sum(), pids.iter().map(cpu_ns).sum())
}
