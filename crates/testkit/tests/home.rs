//! A home ends whatever was started in it, and the hostile worker does what it is told.

use std::time::Duration;

use rustix::process::Signal;
use testkit::floor;
use testkit::home::{Binaries, DEADLINE, Home};
use testkit::{binaries, processes};

fn home() -> Home {
    let worker = binaries::own("hostile-worker");
    Home::new(Binaries { autopilot: worker.clone(), autopilotd: worker })
}

#[test]
fn a_home_ends_processes_that_got_away() {
    let mut home = home();
    home.set_env("HOSTILE", "trap");
    let mut worker = home.start_autopilot(["run"]);
    home.wait_until("22 processes run, and none between them any more", DEADLINE, || {
        let processes = home.processes();
        let on_the_way = processes.iter().any(|process| process.command.contains("double-fork"));
        (processes.len() == 22 && !on_the_way).then_some(())
    });
    worker.kill();
    assert_eq!(home.processes().len(), 21, "killing the worker alone leaves its children");
    let pids: Vec<i32> = home.processes().iter().map(|process| process.pid).collect();
    let folder = home.user_home();
    drop(home);
    assert!(!folder.exists());
    for pid in pids {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
}

#[test]
fn a_home_outruns_a_fork_bomb() {
    let mut home = home();
    home.set_env("HOSTILE", "bomb=200");
    drop(home.start_autopilot(["run"]));
    home.wait_until("the bomb goes off", DEADLINE, || (home.processes().len() > 20).then_some(()));
    let id = home.id().to_owned();
    drop(home);
    assert_eq!(processes::of(&id), []);
}

#[test]
fn the_environment_is_clean() {
    let home = home();
    let output = home.command("env").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    let expected = ["AUTOPILOT_HOME", "GIT_CONFIG_NOSYSTEM", "HOME", "LANG", "PATH", "TESTKIT_ID", "TMPDIR", "TZ"];
    assert_eq!(names, expected);
}

#[test]
fn the_repository_has_one_commit() {
    assert_eq!(home().git(["rev-list", "--count", "HEAD"]), "1");
}

#[test]
fn a_worker_told_nothing_exits_well_at_sigterm() {
    let home = home();
    let mut worker = home.start_autopilot(["run"]);
    home.wait_until("it catches SIGTERM", DEADLINE, || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let mask = u64::from_str_radix(caught.trim(), 16).ok()?;
        (mask & 1 << 14 != 0).then_some(())
    });
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait_for_code(DEADLINE), 0);
}

#[test]
fn exit_codes_signals_and_plans_are_followed() {
    let mut home = home();
    let plan = home.user_home().join("plan");
    std::fs::write(&plan, "exit=3 after_ms=0\ndie=9 after_ms=0\nspew=1000 after_ms=0\n").unwrap();
    home.set_env("HOSTILE_PLAN", &plan);
    let codes: Vec<i32> = (0..3).map(|_| home.start_autopilot(["run"]).wait_for_code(DEADLINE)).collect();
    assert_eq!(codes, [3, 137, 0]);
    assert_eq!(home.autopilot(["run"]).stdout.len(), 1000, "the last line holds from there on");
}

#[test]
fn a_leak_stops_at_its_cap() {
    let mut home = home();
    home.set_env("HOSTILE", "leak=400000000:40000000");
    let worker = home.start_autopilot(["run"]);
    let rss_kib = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().split(' ').next().unwrap().parse().unwrap()
    };
    home.wait_until("the leak is full", DEADLINE, || (rss_kib() > 39_000).then_some(()));
    assert!(rss_kib() < 60_000, "{} KiB", rss_kib());
}

#[test]
fn the_floors_are_measured() {
    let floor = floor::Floor::own();
    assert_eq!(floor.restart_latencies(20).len(), 20);
    assert_eq!(floor.cold_starts(3).len(), 3);
    assert!(floor.splice(10_000_000, 1_000_000) < Duration::from_secs(5));
    let true_run = floor::quantile(&floor::true_runs(20), 0.5);
    assert!(true_run > Duration::from_micros(50) && true_run < Duration::from_millis(100), "{true_run:?}");
}
