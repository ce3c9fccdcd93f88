//! Promise 5: the memory of a daemon alone, and of each run's shim.

use std::fs;
use std::time::Duration;

use testkit::home::{Home, Started};

use super::place::{Place, Starts, restarts_after, shims, stamp_file};
use super::row::{Limit, Row, Unit};
use crate::step::Failure;

pub(crate) fn measure(place: &Place) -> Result<Vec<Row>, Failure> {
    let count = place.samples(100, 20);
    let homes: Vec<(Home, Started)> = (0..count).map(|_| start(place)).collect();
    // A shim gives back what only the start needed when its worker has lived for a second.
    std::thread::sleep(Duration::from_secs(2));
    let shims: Vec<u32> = homes.iter().flat_map(|(_, daemon)| shims(daemon.pid())).collect();
    assert_eq!(shims.len(), count, "one shim for each daemon");
    #[expect(clippy::cast_precision_loss, reason = "a small number of processes")]
    let mean = |bytes: u64| bytes as f64 / count as f64 / 1e6;
    let shim_bytes = mean(shims.iter().map(|pid| rollup(*pid).1).sum());
    let pair_bytes = mean(homes.iter().map(|(_, daemon)| rollup(pid(daemon)).1).sum()) + shim_bytes;
    drop(homes);

    // Alone: nobody shares the program's pages with it. What a command needed is given back when it was quiet for some seconds.
    let (home, daemon) = start(place);
    home.autopilotd(["stop-worker"]);
    home.autopilotd(["status"]);
    let (at_once_rss, at_once_pss) = rollup(pid(&daemon));
    std::thread::sleep(Duration::from_secs(7));
    let (rss, pss) = rollup(pid(&daemon));
    Ok(vec![
        Row::new(5, "a daemon alone: RSS", Limit::AtMost(4.0), mb(rss), Unit::Mb),
        Row::new(5, "a daemon alone: PSS", Limit::AtMost(2.0), mb(pss), Unit::Mb),
        Row::new(5, "the same, just after a command: RSS", Limit::Shown, mb(at_once_rss), Unit::Mb),
        Row::new(5, "the same, just after a command: PSS", Limit::Shown, mb(at_once_pss), Unit::Mb),
        Row::new(5, format!("a run's shim: PSS, mean of {count}"), Limit::AtMost(0.3), shim_bytes, Unit::Mb),
        Row::new(5, format!("daemon and shim together: PSS, mean of {count}"), Limit::Shown, pair_bytes, Unit::Mb),
    ])
}

fn start(place: &Place) -> (Home, Started) {
    let home = place.home(&restarts_after(0), "");
    let daemon = home.start_daemon(["--prompt", "bench"]);
    Starts::of(&stamp_file(&home)).next(&home);
    (home, daemon)
}

fn pid(started: &Started) -> u32 {
    u32::try_from(started.pid()).expect("pids are positive")
}

#[expect(clippy::cast_precision_loss, reason = "far from 2^53")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// RSS and PSS in bytes.
pub(crate) fn rollup(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
    };
    (field("Rss:") * 1024, field("Pss:") * 1024)
}
