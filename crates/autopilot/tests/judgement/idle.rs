//! What watching costs while nothing happens, and which clock it looks at.

use std::path::Path;
use std::time::{Duration, Instant};

use testkit::home::DEADLINE;

use crate::rig::Rig;

/// What is promised is 15 a minute; in this time it is one look more or less.
const WATCHED: Duration = Duration::from_secs(28);
const WAKE_UPS: u64 = 15 * 28 / 60;

fn wake_ups(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let count = |name: &str| -> u64 { status.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok()).unwrap() };
    count("voluntary_ctxt_switches:")
}

/// With the settings that everybody has, and a worker that does nothing.
#[test]
fn an_idle_daemon_sleeps() {
    let rig = Rig::new("").hostile("ready");
    let daemon = rig.start();
    rig.ready_worker();
    let goes_by = |time: Duration| {
        let until = Instant::now() + time;
        rig.home.wait_until("time goes by", DEADLINE + time, || (Instant::now() > until).then_some(()));
    };
    // What a start leaves to be done later.
    goes_by(Duration::from_secs(3));
    let mut windows = Vec::new();
    // What wakes it of its own accord does so in each; a busy machine, which has it wait for a lock or a page, in one of them.
    while windows.len() < 3 && windows.iter().all(|woken| *woken > WAKE_UPS) {
        let before = wake_ups(daemon.pid());
        goes_by(WATCHED);
        windows.push(wake_ups(daemon.pid()) - before);
    }
    eprintln!("measured: {windows:?} wake-ups in {WATCHED:?} each");
    assert!(windows.iter().any(|woken| *woken <= WAKE_UPS), "{windows:?} wake-ups in {WATCHED:?} each");
    rig.finish(daemon);
}

/// A clock that steps by a day decides nothing: the time of day is only ever written down. What decides is the policy,
/// where no clock compiles, and what it is told comes from the monotonic one.
#[test]
fn the_time_of_day_is_for_records_only() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("daemon").join("src");
    let mut open = vec![sources];
    let mut seen = 0;
    while let Some(folder) = open.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for line in text.lines().filter(|line| line.contains("wall_ms()")) {
                seen += 1;
                let is_record = ["at_unix_ms", "started_unix_ms", "installed_unix_ms", ".txt", ".unreadable"]
                    .iter()
                    .any(|w| line.contains(w));
                assert!(is_record, "{}: {line}", path.display());
            }
            assert!(!text.contains("SystemTime"), "{}", path.display());
        }
    }
    assert!(seen > 3, "the search finds what it looks for");
}
