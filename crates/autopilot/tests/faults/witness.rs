//! What must hold whatever happened: the next daemon soon has one worker, and nothing else of the home lives.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::control::{Control, request};
use testkit::home::{DEADLINE, Started};
use testkit::hostile::StampKind;

use crate::rig::Rig;

/// Within this time of its start the next daemon has one worker, and nothing is left of others.
pub(crate) const PROMISE: Duration = Duration::from_secs(2);

/// The settings with which a failure costs next to no time.
pub(crate) const HASTY: &str = "initial_backoff_ms = 20\nmax_backoff_ms = 40\nmax_consecutive_restarts = 0\n\
                                max_restarts_per_hour = 0\nstop_timeout_ms = 100\n";

/// No worker has ever found another one alive: they are told to be `alone`.
pub(crate) fn assert_never_two(rig: &Rig) {
    let beside: Vec<_> = rig.stamps().into_iter().filter(|stamp| stamp.kind == StampKind::Beside).collect();
    assert!(beside.is_empty(), "workers began while another one lived: {beside:?}");
}

/// A daemon's status, if it answers in time.
fn status(rig: &Rig) -> Option<Value> {
    let mut control = Control::connect(&rig.home.socket()).ok()?;
    control.send(&request("status")).ok()?;
    Some(control.try_reply(Duration::from_millis(300)).ok()??.value["status"].clone())
}

fn worker_status(rig: &Rig) -> Option<String> {
    Some(status(rig)?["worker_status"].as_str()?.to_owned())
}

/// The worker that a daemon says it has, if it answers in time and has one.
pub(crate) fn running_worker(rig: &Rig) -> Option<i32> {
    let status = status(rig)?;
    let pid = (status["worker_status"] == "running").then(|| status["worker_pid"].as_i64())??;
    i32::try_from(pid).ok()
}

/// Starts a daemon, waits until all is well, and says how long that took.
pub(crate) fn heals(rig: &Rig) -> (Started, Duration) {
    heals_or_is_told(rig, false)
}

/// The same of one that may have to be told to start its worker.
pub(crate) fn heals_or_is_told(rig: &Rig, may_be_stopped: bool) -> (Started, Duration) {
    let began = Instant::now();
    let mut daemon = rig.home.start("next-daemon", rig.command());
    loop {
        let workers: Vec<i32> = rig.run_processes().iter().map(|process| process.pid).collect();
        let others = rig.home.processes().len();
        // Daemon, shim and worker.
        if workers.len() == 1 && others == 3 && running_worker(rig) == workers.first().copied() {
            return (daemon, began.elapsed());
        }
        if may_be_stopped && worker_status(rig).as_deref() == Some("stopped") {
            rig.ask("start-worker");
        }
        assert!(!daemon.has_ended(), "the next daemon has ended: {}", daemon.stderr());
        assert!(
            began.elapsed() < DEADLINE,
            "after {DEADLINE:?} there is not one worker and nothing else: {:#?}\n{}",
            rig.home.processes(),
            daemon.stderr()
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
