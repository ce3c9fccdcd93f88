//! Promise 1: from a worker's death to the next one's first instruction, beyond the configured delay.

use std::time::Duration;

use os::process::Send;
use testkit::floor::{self, quantile};
use testkit::home::{DEADLINE, Home};
use testkit::hostile::{Stamp, StampKind, monotonic_ns, stamps};

use super::place::{Place, Starts, pidfd, restarts_after, stamp_file};
use super::row::{Limit, Row};
use crate::step::Failure;

const MEDIAN: Limit = Limit::TimesFloor(2.5);
const P99: Limit = Limit::TimesFloor(6.0);

/// Restarts in a row, in the bench whose workers end at once.
const BLOCK: usize = 25;

pub(crate) fn measure(place: &Place) -> Result<Vec<Row>, Failure> {
    let samples = place.samples(300, 200);
    let mut rows = killed(place, 0, samples);
    rows.extend(killed(place, 10, samples));
    rows.extend(ended(place, samples));
    Ok(rows)
}

fn rows(what: &str, subject: &[Duration], floor: &[Duration]) -> Vec<Row> {
    let middle = quantile(floor, 0.5);
    vec![
        Row::against(1, format!("{what}: median"), MEDIAN, quantile(subject, 0.5), middle),
        Row::against(1, format!("{what}: p99"), P99, quantile(subject, 0.99), middle),
        Row::against(1, format!("{what}: the floor's own p99"), Limit::Shown, quantile(floor, 0.99), middle),
    ]
}

/// Workers that live until they are killed, those of the floor and of the subject in turn.
fn killed(place: &Place, delay_ms: u64, samples: usize) -> Vec<Row> {
    let home = place.home(&restarts_after(delay_ms), "");
    let floor_stamps = home.user_home().join("floor");
    let mut bare = home.command(&place.floor.supervisor);
    bare.arg(u32::MAX.to_string()).arg(&place.floor.worker).env("HOSTILE_STAMP", &floor_stamps);
    let _bare = home.start("floor", bare);
    let _daemon = home.start_daemon(["--prompt", "bench"]);

    let mut sides = [Side::new(&home, Starts::of(&floor_stamps)), Side::new(&home, Starts::of(&stamp_file(&home)))];
    for _ in 0..samples {
        sides.iter_mut().for_each(Side::kill);
    }
    let [floor, subject] = sides.map(|side| side.latencies);
    let delay = Duration::from_millis(delay_ms);
    let beyond: Vec<Duration> = subject.iter().map(|latency| latency.saturating_sub(delay)).collect();
    rows(&format!("killed, delay {delay_ms} ms"), &beyond, &floor)
}

struct Side<'a> {
    home: &'a Home,
    starts: Starts,
    worker: Stamp,
    latencies: Vec<Duration>,
}

impl<'a> Side<'a> {
    fn new(home: &'a Home, mut starts: Starts) -> Self {
        let worker = starts.next(home);
        Self { home, starts, worker, latencies: Vec::new() }
    }

    fn kill(&mut self) {
        let worker = pidfd(self.worker.pid);
        let killed_ns = monotonic_ns();
        assert!(worker.send(Send::Kill).expect("kill the worker"), "the worker had ended already");
        self.worker = self.starts.next(self.home);
        self.latencies.push(Duration::from_nanos(self.worker.at_ns.saturating_sub(killed_ns)));
    }
}

/// Workers that end at once, in blocks: the floor's and the subject's in turn.
fn ended(place: &Place, samples: usize) -> Vec<Row> {
    let home = place.home(&restarts_after(0), "after_ms=0");
    let stamp_file = stamp_file(&home);
    let _daemon = home.start_daemon(["--prompt", "bench"]);
    home.autopilotd(["stop-worker"]);
    let (mut floor, mut subject) = (Vec::new(), Vec::new());
    while subject.len() < samples {
        floor.extend(place.floor.restart_latencies(u32::try_from(BLOCK).expect("a small block")));
        std::fs::remove_file(&stamp_file).ok();
        home.autopilotd(["start-worker"]);
        home.wait_until("enough restarts", DEADLINE, || {
            let starts = stamps(&stamp_file).iter().filter(|stamp| stamp.kind == StampKind::Start).count();
            (starts > BLOCK).then_some(())
        });
        home.autopilotd(["stop-worker"]);
        let latencies = floor::latencies(&stamps(&stamp_file));
        subject.extend(latencies.into_iter().take(BLOCK));
    }
    rows("ended at once, delay 0 ms", &subject, &floor)
}
