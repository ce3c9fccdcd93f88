//! What a killed daemon cannot clean up, its test's home does.

use std::path::PathBuf;

use serde_json::Value;
use testkit::home;
use testkit::home::DEADLINE;

#[test]
fn the_groups_of_a_killed_daemon_go_with_its_home() {
    let mut home = home!();
    home.set_env("AUTOPILOT_WORKER_BINARY", testkit::binaries::own("hostile-worker"));
    home.set_env("HOSTILE", "ready trap");
    let mut daemon = home.start_daemon::<&str>([]);
    let record = home.path().join("workers/main/runs/1/started");
    let record: Value =
        home.wait_until("the run is recorded", DEADLINE, || serde_json::from_slice(&std::fs::read(&record).ok()?).ok());
    home.wait_until("the trap is sprung", DEADLINE, || (home.processes().len() > 22).then_some(()));
    daemon.kill();

    let group = record["group"].as_str().map(PathBuf::from);
    let uses_groups = record["containment"].as_str().is_some_and(|name| name.starts_with("cgroup"));
    assert_eq!(group.is_some(), uses_groups, "{record}");
    let groups: Vec<PathBuf> = group.iter().flat_map(|group| group.ancestors().take(2)).map(PathBuf::from).collect();
    assert!(groups.iter().all(|group| group.exists()), "{groups:?}");
    drop(home);
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
}
