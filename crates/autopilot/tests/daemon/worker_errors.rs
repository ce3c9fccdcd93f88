//! A worker that cannot be started: the daemon serves, says why, tries again, and recovers by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use testkit::binaries;

use crate::rig::{Rig, count, write_program};

/// Tries soon and often.
const EAGER: &str =
    "initial_backoff_ms = 30\nmax_backoff_ms = 30\nmax_consecutive_restarts = 0\nmax_restarts_per_hour = 0";

/// A rig whose worker is to be at this path, where nothing is yet.
fn without_worker() -> (Rig, PathBuf) {
    let mut rig = Rig::new(EAGER).hostile("ready");
    let path = rig.home.user_home().join("worker");
    rig.home.set_env("AUTOPILOT_WORKER_BINARY", &path);
    (rig, path)
}

fn script() -> String {
    format!("#!/bin/sh\nexec {} \"$@\"\n", binaries::own("hostile-worker").display())
}

/// Starts the daemon on a bad worker: it serves and says why; mended, the worker runs without anybody's help.
fn is_told_and_recovers(break_it: impl Fn(&PathBuf), what: &str, hint: &str) {
    let (rig, path) = without_worker();
    break_it(&path);
    let daemon = rig.start();
    let reason = format!("cannot execute worker binary ~/user/worker: {what}");
    let told = rig.wait_for("several attempts were made", |status| count(status, "consecutive_failures") >= 2);
    assert_eq!(rig.portable(told["reason"].as_str().unwrap()), reason);
    assert_eq!(rig.portable(told["worker_binary"].as_str().unwrap()), "~/user/worker");
    assert!(["restarting", "starting"].contains(&told["worker_status"].as_str().unwrap()));
    let stderr = rig.portable(&daemon.stderr());
    assert!(stderr.contains(&format!("error: {reason}\nhint: {hint}\n")), "{stderr}");
    assert_eq!(rig.run_processes(), []);

    fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).ok();
    write_program(&path, &script());
    rig.ready_worker();
    rig.finish(daemon);
}

const INSTALL: &str = "cargo build --release -p autopilot && cp target/release/autopilot ~/user/worker";

const NAME: &str = "AUTOPILOT_WORKER_BINARY, or path in [worker_command], has to name the program itself";

#[test]
fn a_missing_binary() {
    is_told_and_recovers(|_| {}, "no such file", INSTALL);
}

#[test]
fn a_binary_that_is_not_executable() {
    let break_it = |path: &PathBuf| {
        fs::write(path, script()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    };
    is_told_and_recovers(break_it, "not executable", "chmod +x that file");
}

#[test]
fn a_binary_that_is_no_program() {
    is_told_and_recovers(|path| write_program(path, "hello\n"), "not a program", INSTALL);
}

#[test]
fn a_binary_that_is_empty() {
    is_told_and_recovers(|path| write_program(path, ""), "it is empty", INSTALL);
}

#[test]
fn a_binary_that_is_a_directory() {
    is_told_and_recovers(|path| fs::create_dir(path).unwrap(), "it is a directory", NAME);
}

#[test]
fn a_script_without_its_interpreter() {
    is_told_and_recovers(
        |path| write_program(path, "#!/nonexistent/python\n"),
        "its interpreter /nonexistent/python does not exist",
        "install it, or correct the file's first line",
    );
}

#[test]
fn a_binary_for_another_machine() {
    let foreign = |path: &PathBuf| {
        let mut program = fs::read(binaries::own("hostile-worker")).unwrap();
        // e_machine of elf(5): EM_S390.
        program[18..20].copy_from_slice(&22_u16.to_le_bytes());
        fs::write(path, program).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    is_told_and_recovers(foreign, "built for another kind of processor (ELF machine 22)", INSTALL);
}

#[test]
fn half_a_binary() {
    let half = |path: &PathBuf| {
        let program = fs::read(binaries::own("hostile-worker")).unwrap();
        fs::write(path, &program[..program.len() / 2]).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let size = fs::metadata(binaries::own("hostile-worker")).unwrap().len();
    let what = format!("incomplete: {} of at least {size} bytes", size / 2);
    is_told_and_recovers(half, &what, "is it still being copied? it is tried again");
}

/// The binary vanishes while the worker runs, which does not mind; nor does its next start, which says so.
#[test]
fn a_binary_that_vanishes_runs_on_from_its_copy() {
    let (rig, path) = without_worker();
    fs::copy(binaries::own("hostile-worker"), &path).unwrap();
    let daemon = rig.start();
    let first = rig.ready_worker();
    fs::remove_file(&path).unwrap();
    assert_eq!(rig.status()["worker_pid"], first);
    rig.kill(first);
    let second = rig.wait_for("the next one", |status| {
        status["worker_pid"].as_i64() != Some(first.into()) && status["worker_ready"] == true
    });
    let exe = fs::read_link(format!("/proc/{}/exe", second["worker_pid"])).unwrap();
    assert!(exe.starts_with(rig.home.path().join("bin/store")), "{}", exe.display());
    let said = rig.portable(&daemon.stderr());
    assert!(said.contains("warning: ~/user/worker can't be run (no such file); running on: autopilot 0.0.0"), "{said}");
    rig.finish(daemon);
}

/// The documented update step, while the worker runs.
#[test]
fn a_plain_copy_over_the_binary_installs_it() {
    let (rig, path) = without_worker();
    fs::copy(binaries::own("hostile-worker"), &path).unwrap();
    let daemon = rig.start();
    let first = rig.ready_worker();
    // In place, as cp does it, not by a rename.
    let mut newer = fs::read(binaries::own("hostile-worker")).unwrap();
    newer.extend_from_slice(b"newer");
    fs::write(&path, newer).unwrap();
    let copy_of = |worker: i32| fs::metadata(format!("/proc/{worker}/exe")).unwrap().len();
    let before = copy_of(first);
    assert!(rig.ask("restart-worker").done().starts_with("Worker started"));
    assert_eq!(copy_of(rig.ready_worker()), before + 5);
    rig.finish(daemon);
}

#[test]
fn a_working_directory_that_vanishes_and_comes_back() {
    let rig = Rig::new(EAGER).hostile("ready");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    let away = rig.home.user_home().join("away");
    fs::rename(rig.home.repository(), &away).unwrap();
    rig.kill(worker);
    let told = rig.wait_for("its absence is told", |status| {
        status["reason"].as_str().is_some_and(|reason| reason.contains("cannot enter"))
    });
    assert_eq!(rig.portable(told["reason"].as_str().unwrap()), "cannot enter the working directory ~/repo");
    let stderr = rig.portable(&daemon.stderr());
    let hint = "hint: make that folder, or choose another one with --workdir";
    assert!(stderr.contains(&format!("error: cannot enter the working directory ~/repo\n{hint}\n")), "{stderr}");
    assert_eq!(rig.starts(), 1);
    fs::rename(&away, rig.home.repository()).unwrap();
    rig.ready_worker();
    rig.finish(daemon);
}

/// The known-good binary in the home is what is run where nobody names another one.
#[test]
fn the_known_good_binary_is_run() {
    let mut rig = Rig::new("").hostile("ready");
    rig.home.remove_env("AUTOPILOT_WORKER_BINARY");
    let installed = rig.home.path().join("bin/autopilot");
    fs::create_dir_all(installed.parent().unwrap()).unwrap();
    fs::copy(binaries::own("hostile-worker"), &installed).unwrap();
    let daemon = rig.start();
    rig.ready_worker();
    assert_eq!(rig.portable(rig.status()["worker_binary"].as_str().unwrap()), "~/home/bin/autopilot");
    rig.finish(daemon);
}

/// A worker that ends as soon as it is started is no reason to spin: the delays are those of the documentation.
#[test]
fn failures_are_counted_up_to_failed() {
    let rig = Rig::new("initial_backoff_ms = 20\nmax_consecutive_restarts = 4").hostile("exit=3 after_ms=0");
    let daemon = rig.start();
    let status = rig.wait_for_state("failed");
    assert_eq!((count(&status, "consecutive_failures"), rig.starts()), (4, 4));
    let stderr = daemon.stderr();
    let waits: Vec<&str> = stderr.lines().filter(|line| line.contains(" in ") && line.contains("ail")).collect();
    assert_eq!(
        waits,
        [
            "Restarting worker in 0.0 s (failure 1 in a row)",
            "Restarting worker in 0.0 s (failure 2 in a row)",
            "Restarting worker in 0.0 s (failure 3 in a row)",
            "Worker failed 4 times in a row; next attempt in 10 min",
        ]
    );
    rig.finish(daemon);
}
