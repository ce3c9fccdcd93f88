//! An install that dies, or is refused something, at each of its steps: what is current is always whole, and was tried.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use os::fail::POINTS;
use serde_json::Value;
use testkit::binaries;
use testkit::home::{DEADLINE, Home};

fn build(home: &Home, mark: &str) -> PathBuf {
    let path = home.user_home().join(format!("build-{mark}"));
    let mut bytes = fs::read(binaries::own("hostile-worker")).unwrap();
    bytes.extend(mark.as_bytes());
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn install(home: &Home, file: &Path, fail: Option<&str>) -> std::process::Output {
    let mut command = home.autopilotd_command();
    command.arg("install").arg(file);
    if let Some(fail) = fail {
        command.env("AUTOPILOT_FAIL", fail).env("AUTOPILOT_FAIL_HITS", hits(home));
    }
    home.start("install", command).into_output(DEADLINE)
}

fn hits(home: &Home) -> PathBuf {
    home.user_home().join("hits")
}

/// What would run, by the command; and that it is what it should be, by other means.
fn current(home: &Home) -> (String, usize) {
    let output = home.autopilotd(["binaries", "--json"]);
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let current: Vec<&Value> = all.iter().filter(|binary| binary["current"] == true).collect();
    assert_eq!(current.len(), 1, "{all:#?}");
    for binary in &all {
        let hash = binary["sha256"].as_str().unwrap();
        let copy = home.path().join("bin/store").join(hash).join("autopilot");
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o555);
        let sum = Command::new("sha256sum").arg(&copy).output().unwrap();
        assert!(String::from_utf8_lossy(&sum.stdout).starts_with(hash), "{} is not what it is called", copy.display());
        let version = home.command(&copy).arg("--version").output().unwrap();
        let answer = String::from_utf8_lossy(&version.stdout).into_owned();
        assert_eq!(Some(answer.trim_end()), binary["version"].as_str(), "it was tried");
    }
    (current[0]["sha256"].as_str().unwrap().to_owned(), all.len())
}

/// The places that an install passes.
fn places() -> Vec<String> {
    let own = ["store.", "smoke.", "file."];
    let names = POINTS.iter().filter(|point| own.iter().any(|prefix| point.name.starts_with(prefix)));
    let names = names.flat_map(os::fail::Point::names);
    let foreign = ["store.count", "file.set-aside"];
    names
        .filter(|name| !foreign.contains(&name.as_str()) && (!name.contains(':') || name.ends_with(":index.json")))
        .collect()
}

fn at_every_step(fault: &str) {
    let places = places();
    assert!(places.len() >= 15, "{places:?}");
    for place in places {
        let home = testkit::home!();
        let (old, new) = (build(&home, "old"), build(&home, "newer"));
        assert!(install(&home, &old, None).status.success());
        let (before, _) = current(&home);
        let output = install(&home, &new, Some(&format!("{place}={fault}")));
        let passed = fs::read_to_string(hits(&home)).unwrap_or_default().lines().any(|line| line == place);
        assert!(passed, "{place} is not passed by an install");
        let (after, count) = current(&home);
        // Either it was installed, or nothing has changed.
        assert_eq!(count, if after == before { 1 } else { 2 }, "{place}");
        if output.status.success() {
            assert_ne!(after, before, "{place}: it says that it was done");
        }
        // Whatever was left is no obstacle, and is cleaned away.
        let again = install(&home, &new, None);
        assert!(again.status.success(), "{place}: {again:?}");
        assert_ne!(current(&home).0, before, "{place}");
        let left: Vec<String> = fs::read_dir(home.path().join("bin/store"))
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(".incoming"))
            .collect();
        assert_eq!(left, [] as [String; 0], "{place}");
    }
}

#[test]
fn an_install_that_is_killed_at_any_step_leaves_what_is_current_whole_and_tried() {
    at_every_step("abort");
}

#[test]
fn an_install_on_a_full_disk_leaves_what_is_current_whole_and_tried() {
    at_every_step("enospc");
}
