//! The worker's output: always taken, kept within bounds, and its loss told.

use std::fs;
use std::time::Duration;

use testkit::home::DEADLINE;
use testkit::vitals;

use crate::rig::{Rig, last_exit, shim_of};

const MIB: u64 = 1 << 20;
/// A gigabyte through a pipe, on a machine where two tests run at once.
const LONG: Duration = Duration::from_secs(60);

/// Bytes in `output.log` and the older ones.
fn kept_bytes(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let logs = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("output.log"));
    logs.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

#[test]
fn a_gigabyte_of_output_blocks_nobody_and_fills_neither_memory_nor_disk() {
    const BOUND: u64 = 3 * 4 * MIB;
    let rig = Rig::new("initial_backoff_ms = 60000\n[output]\nmax_file_bytes = 4194304\nmax_files = 3")
        .hostile(&format!("ready spew={} exit=9 after_ms=0", 1 << 30));
    let daemon = rig.start();
    let worker = rig.ready_worker();
    let shim = shim_of(worker);
    let peaks = || [vitals::peak_rss_kib(daemon.pid()), vitals::peak_rss_kib(shim)];
    let before = peaks();
    let folder = rig.home.path().join("workers/main");
    let (mut most_kept, mut after) = (0, before);
    rig.home.wait_until("the worker has written it all", LONG, || {
        most_kept = most_kept.max(kept_bytes(&folder));
        let now = peaks();
        if now[1] > 0 {
            after = now;
        }
        (rig.status()["worker_status"] == "restarting").then_some(())
    });
    assert_eq!(last_exit(&rig.status()), "exit status 9", "it came to its end, and nothing broke its pipe");
    assert!(most_kept <= BOUND, "{most_kept} bytes were kept, {BOUND} are allowed");
    assert!(kept_bytes(&folder) > BOUND - 5 * MIB, "the newest output is kept");
    for (name, (before, after)) in ["daemon", "shim"].into_iter().zip(before.into_iter().zip(after)) {
        assert!(before > 0 && after - before < 2_048, "{name}: from {before} KiB to {after} KiB");
    }
    assert!(!daemon.stderr().contains("could not be kept"));
    rig.finish(daemon);
}

#[test]
fn the_end_of_the_output_is_kept_in_order() {
    let rig = Rig::new("initial_backoff_ms = 60000\n[output]\nmax_file_bytes = 4096\nmax_files = 2")
        .script("i=0; while [ $i -lt 3000 ]; do echo line $i; echo odd $i >&2; i=$((i+1)); done; exit 1");
    let daemon = rig.start();
    rig.wait_for_state("restarting");
    let folder = rig.home.path().join("workers/main");
    let newest = fs::read_to_string(folder.join("output.log")).unwrap();
    assert!(newest.ends_with("line 2999\nodd 2999\n"), "{newest}");
    let before = fs::read_to_string(folder.join("output.log.1")).unwrap();
    let text = format!("{before}{newest}");
    let whole: Vec<&str> = text.lines().skip(1).collect();
    assert!(whole.len() > 300);
    for pair in whole.windows(2) {
        let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
        assert!(number(pair[1]) == number(pair[0]) + u32::from(pair[1].starts_with("line")), "{pair:?}");
    }
    rig.finish(daemon);
}

/// A file system of 1 MB in place of the worker's folder, seen by the daemon alone: it lies in its own mount namespace
/// and is gone with it. In a user namespace, where the tests have no rights.
fn on_a_full_disk(rig: &Rig) -> std::process::Command {
    let folder = rig.home.path().join("workers/main");
    let mut command = rig.home.command("unshare");
    command.args(if testkit::home::is_root() { "--mount" } else { "--mount --user --map-root-user" }.split(' '));
    let script = "mkdir -p -m 700 \"$0\" && mount -t tmpfs -o size=1m,mode=700 none \"$0\" && exec \"$@\"";
    let autopilotd = rig.command();
    command.args(["--", "sh", "-c", script]).arg(&folder).arg(autopilotd.get_program()).args(autopilotd.get_args());
    command
}

#[test]
fn a_full_disk_blocks_no_worker_and_is_reported() {
    let rig = Rig::new("initial_backoff_ms = 60000").plan(&[&format!("spew={} exit=9 after_ms=0", 20 * MIB), "ready"]);
    let daemon = rig.start_by(on_a_full_disk(&rig));
    let status = rig.wait_for_state("restarting");
    assert_eq!(last_exit(&status), "exit status 9", "it wrote all that it wanted");
    let stderr = rig.portable(&daemon.stderr());
    let lost = stderr.lines().find_map(|line| {
        line.strip_prefix("warning: ")?.strip_suffix(" bytes of the worker's output could not be kept")
    });
    let lost: u64 = lost.unwrap_or_else(|| panic!("no loss is told: {stderr}")).parse().unwrap();
    assert!((18 * MIB..=20 * MIB).contains(&lost), "{lost}");
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains("of the worker's output could not be kept"), "{degraded}");

    // The daemon serves on, and so does the worker.
    assert!(rig.ask("restart-worker").done().starts_with("Worker started"));
    rig.ready_worker();
    rig.finish(daemon);
}

/// The same for a worker that goes on: who looks at the status learns of the loss while it happens.
#[test]
fn a_loss_is_told_while_the_worker_runs() {
    let rig = Rig::new("").hostile(&format!("spew={} ready", 5 * MIB));
    let daemon = rig.start_by(on_a_full_disk(&rig));
    let told = "output could not be kept";
    rig.wait_for("the loss is told", |status| status["degraded"].to_string().contains(told));
    let text = String::from_utf8(rig.home.autopilotd(["status"]).stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("Warning: ") && line.ends_with("could not be kept")), "{text}");
    rig.finish(daemon);
}

#[test]
fn output_of_a_detached_child_does_not_hold_up_the_end() {
    let script = "(setsid sh -c 'trap \"\" TERM HUP; while :; do echo noise; sleep 0.02; done' &) ; exit 4";
    let rig = Rig::new("initial_backoff_ms = 60000").script(script);
    let daemon = rig.start();
    let status = rig.wait_for_state("restarting");
    assert_eq!(last_exit(&status), "exit status 4");
    rig.home.wait_until("only the daemon is left", DEADLINE, || (rig.home.processes().len() == 1).then_some(()));
    rig.finish(daemon);
}
