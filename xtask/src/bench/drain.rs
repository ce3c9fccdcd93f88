//! Promise 7: how fast a worker's output is taken off its hands into rotating logs, and what that costs in memory.

use std::time::Duration;

use testkit::floor::quantile;
use testkit::home::DEADLINE;
use testkit::hostile::{Stamp, StampKind, stamps};

use super::memory::rollup;
use super::place::{Place, Starts, shims, stamp_file};
use super::row::{Limit, Row, Unit};
use crate::step::Failure;

/// A log file's size by default; the floor's only file begins anew at it.
const FILE_BYTES: u64 = 10 << 20;
/// Beyond what it had when the worker began: room for a page table here and there, not for a buffer that grows.
const GROWTH_MB: f64 = 0.5;

pub(crate) fn measure(place: &Place) -> Result<Vec<Row>, Failure> {
    let (rounds, bytes) = if place.quick { (3, 1_000_000_000) } else { (7, 2_000_000_000) };
    let (mut floor, mut subject, mut growth) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..rounds {
        floor.push(place.floor.splice(bytes, FILE_BYTES));
        let (took, grown_mb) = once(place, bytes);
        subject.push(took);
        growth = growth.max(grown_mb);
    }
    #[expect(clippy::cast_precision_loss, reason = "far from 2^53")]
    let rate = |samples: &[Duration]| bytes as f64 / 1e9 / quantile(samples, 0.5).as_secs_f64();
    let limit = Limit::AtLeastOrTimesFloor(1.0, 0.5);
    let drained = Row::new(
        7,
        format!("drained, {rounds} × {} GB: median", bytes / 1_000_000_000),
        limit,
        rate(&subject),
        Unit::GbPerS,
    );
    Ok(vec![
        Row { floor: Some(rate(&floor)), ..drained },
        Row::new(7, "daemon and shim grow meanwhile by: RSS", Limit::AtMost(GROWTH_MB), growth, Unit::Mb),
    ])
}

/// How long the worker took to write, and by how much daemon and shim grew.
fn once(place: &Place, bytes: u64) -> (Duration, f64) {
    let home = place.home(
        "[restart]\ninitial_backoff_ms = 3600000\nmax_backoff_ms = 3600000\n",
        &format!("spew={bytes} after_ms=0"),
    );
    let daemon = home.start_daemon(["--prompt", "bench"]);
    let first = Starts::of(&stamp_file(&home)).next(&home);
    let mut pids = shims(daemon.pid());
    pids.push(u32::try_from(daemon.pid()).expect("pids are positive"));
    let rss = || pids.iter().map(|pid| rollup(*pid).0).sum::<u64>();
    let (before, mut most) = (rss(), 0);
    let last = home.wait_until("all is written", 3 * DEADLINE, || {
        most = most.max(rss());
        stamps(&stamp_file(&home)).into_iter().find(|stamp: &Stamp| stamp.kind == StampKind::End)
    });
    #[expect(clippy::cast_precision_loss, reason = "far from 2^53")]
    let growth_mb = most.saturating_sub(before) as f64 / 1e6;
    (Duration::from_nanos(last.at_ns.saturating_sub(first.at_ns)), growth_mb)
}
