//! A daemon that gets no time for a while, and then finds all at once what happened meanwhile.

use testkit::home::{DEADLINE, Signal};
use testkit::hostile::{StampKind, stamps};

#[test]
fn the_end_of_a_shim_is_not_taken_for_that_of_the_next_one() {
    let mut home = testkit::home!();
    let stamp_file = home.user_home().join("stamps");
    home.set_env("AUTOPILOT_WORKER_BINARY", testkit::binaries::own("hostile-worker"));
    home.set_env("HOSTILE_STAMP", &stamp_file);
    std::fs::create_dir(home.path()).unwrap();
    std::fs::write(home.path().join("daemon.toml"), "[restart]\ninitial_backoff_ms = 0\n").unwrap();
    let daemon = home.start_daemon(["--prompt", "x"]);
    let pid = |status: &serde_json::Value| status["worker_pid"].as_i64().filter(|pid| *pid > 0);
    let first = pid(&home.wait_for_status("a worker", |status| pid(status).is_some())).unwrap();

    // Frozen, so that it learns of the worker's end and of the shim's in one look.
    daemon.signal(Signal::STOP);
    let worker = home.processes().into_iter().find(|process| i64::from(process.pid) == first).unwrap();
    home.kill(&worker);
    home.wait_until("the shim has ended", DEADLINE, || (home.processes().len() == 1).then_some(()));
    daemon.signal(Signal::CONT);

    home.wait_for_status("another worker", |status| pid(status).is_some_and(|pid| pid != first));
    let status = home.wait_for_status("an answer", |_| true);
    assert_eq!(status["total_restarts"], 1, "{status:#}");
    let starts = stamps(&stamp_file).iter().filter(|stamp| stamp.kind == StampKind::Start).count();
    assert_eq!(starts, 2, "{status:#}");
}
