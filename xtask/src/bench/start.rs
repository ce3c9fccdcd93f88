//! Promise 2: from the daemon's exec to the worker's first instruction.

use std::time::Duration;

use testkit::floor::quantile;
use testkit::home::{DEADLINE, Home, Signal};
use testkit::hostile::monotonic_ns;

use super::place::{Place, Starts, restarts_after, stamp_file};
use super::row::{Limit, Row};
use crate::step::Failure;

pub(crate) fn measure(place: &Place) -> Result<Vec<Row>, Failure> {
    let samples = place.samples(100, 40);
    let settings = restarts_after(0);
    let home = place.home(&settings, "");
    // The first start ever copies the worker's program; the others find the copy.
    once(&home);
    let (mut floor, mut known, mut new) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..samples {
        floor.extend(place.floor.cold_starts(1));
        known.push(once(&home));
        if number % 10 == 0 {
            new.push(once(&place.home(&settings, "")));
        }
    }
    let middle = quantile(&floor, 0.5);
    Ok(vec![
        Row::against(2, "a home that was used before: median", Limit::TimesFloor(4.0), quantile(&known, 0.5), middle),
        Row::against(2, "the same: p99", Limit::Shown, quantile(&known, 0.99), middle),
        Row::against(2, "a new home, the program is copied: median", Limit::Shown, quantile(&new, 0.5), middle),
    ])
}

fn once(home: &Home) -> Duration {
    std::fs::remove_file(stamp_file(home)).ok();
    let mut command = home.command(&home.binaries().autopilotd);
    command.args(["start", "--prompt", "bench"]);
    let begun_ns = monotonic_ns();
    let mut daemon = home.start("daemon", command);
    let first = Starts::of(&stamp_file(home)).next(home);
    daemon.signal(Signal::TERM);
    daemon.wait(DEADLINE);
    Duration::from_nanos(first.at_ns.saturating_sub(begun_ns))
}
