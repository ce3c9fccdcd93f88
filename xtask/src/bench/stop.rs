//! Promise 4: how long after a well-behaved worker's last instruction the command that stops it returns.

use std::time::Duration;

use testkit::floor::quantile;
use testkit::home::Home;
use testkit::hostile::{StampKind, monotonic_ns, stamps};

use super::place::{Place, Starts, restarts_after, stamp_file};
use super::row::{Limit, Row, Unit, ms};
use crate::step::Failure;

const LIMIT: Limit = Limit::AtMost(5.0);

pub(crate) fn measure(place: &Place) -> Result<Vec<Row>, Failure> {
    let samples = place.samples(100, 40);
    let home = place.home(&restarts_after(0), "");
    let daemon = home.start_daemon(["--prompt", "bench"]);
    Starts::of(&stamp_file(&home)).next(&home);
    let stop_worker: Vec<Duration> = (0..samples)
        .map(|_| {
            let latency = told(&home, "stop-worker");
            home.autopilotd(["start-worker"]);
            latency
        })
        .collect();
    told(&home, "stop");
    drop(daemon);
    let stop: Vec<Duration> = (0..samples / 4)
        .map(|_| {
            let _daemon = home.start_daemon(["--prompt", "bench"]);
            told(&home, "stop")
        })
        .collect();
    let row = |what: &str, samples: &[Duration]| Row::new(4, what, LIMIT, ms(quantile(samples, 0.5)), Unit::Ms);
    Ok(vec![row("stop-worker, after the worker's end: median", &stop_worker), row("stop, likewise: median", &stop)])
}

/// From the end of the worker to the end of the command.
fn told(home: &Home, command: &str) -> Duration {
    let file = stamp_file(home);
    // It has taken over SIGTERM a moment after its first instruction.
    home.wait_until("the worker heeds SIGTERM", testkit::home::DEADLINE, || {
        let newest = stamps(&file).into_iter().next_back().filter(|stamp| stamp.kind == StampKind::Start)?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", newest.pid)).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & SIGHUP_MASK != 0).then_some(())
    });
    let output = home.autopilotd([command]);
    let returned_ns = monotonic_ns();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let ended = stamps(&file).into_iter().next_back().filter(|stamp| stamp.kind == StampKind::End);
    Duration::from_nanos(returned_ns.saturating_sub(ended.expect("the worker ended by itself").at_ns))
}

/// The last signal that the worker takes over; bit 0 is signal 1, SIGHUP.
const SIGHUP_MASK: u64 = 1;
