//! What a starting daemon finds of the one before it.

use os::files::{Lock, Locked};
use os::poll::Poller;
use os::process::Pidfd;
use policy::supervisor::{Exit, Found, RunId};
use wire::run::{Ended, Started};

use crate::containment;
use crate::home::Home;
use crate::runs::{self, LiveRun};

/// A shim that was forked just before the daemon died writes its record within this time.
const RECORD_WITHIN_MS: u64 = 1_000;
const LOOK_EVERY_MS: u64 = 5;

/// The newest run, in the machine's words, and the run itself if something of it lives.
pub(crate) fn newest(home: &Home, boot_id: &str, ended_run: u64) -> (Found, Option<LiveRun>) {
    let numbers = runs::numbers(home);
    let Some(&number) = numbers.first() else { return (Found::Nothing, None) };
    kill_older(home, &numbers);
    let folder = home.run(number);
    let run = RunId(number);
    // A shim that has told the end of its run, and only has to end itself, still holds the lock.
    if number <= ended_run || runs::is_free(&folder) {
        return (ended(home, number, boot_id, ended_run), None);
    }
    let run_id = std::fs::read_to_string(folder.lock()).unwrap_or_default();
    let started = wait_for_record(home, number);
    let (worker, shim, started_ms, started_unix_ms) = match &started {
        Some(started) if started.boot_id == boot_id => {
            let shim = Pidfd::open(runs::identity(started.shim)).ok().flatten();
            (Some(runs::identity(started.worker)), shim, started.at_ms, started.at_unix_ms)
        }
        Some(_) | None => (None, None, 0, 0),
    };
    let found = match (&shim, &started) {
        (Some(_), Some(_)) => Found::Live { run, started_ms },
        (Some(_) | None, _) => Found::Orphaned { run },
    };
    let noted = started.as_ref().filter(|started| started.boot_id == boot_id);
    let group = noted.and_then(|started| containment::noted(&started.containment, started.group.as_deref()));
    let live = LiveRun { number, folder, run_id, shim, wire: None, worker, started_unix_ms, group };
    (found, Some(live))
}

fn ended(home: &Home, number: u64, boot_id: &str, ended_run: u64) -> Found {
    let folder = home.run(number);
    let run = RunId(number);
    if number <= ended_run {
        return Found::Nothing;
    }
    let exit: Option<Ended> = runs::read(&folder.exit());
    let started: Option<Started> = runs::read(&folder.started());
    match (exit, started) {
        (Some(ended), _) if ended.boot_id == boot_id => {
            let exit = ended.exit.map_or(Exit::Unseen, runs::exit);
            Found::Ended { run, exit, lived_ms: ended.lived_ms }
        }
        (None, Some(started)) if started.boot_id == boot_id => {
            // Shim and worker were both killed; how long it lived nobody knows.
            Found::Ended { run, exit: Exit::Unseen, lived_ms: 0 }
        }
        // Of another boot, or it never began.
        (Some(_) | None, _) => Found::Nothing,
    }
}

/// Only the newest run may live. What is left of an older one was missed by a daemon that died while it ended it.
fn kill_older(home: &Home, numbers: &[u64]) {
    for &number in numbers.iter().skip(1) {
        let folder = home.run(number);
        if runs::is_free(&folder) {
            continue;
        }
        let run_id = std::fs::read_to_string(folder.lock()).unwrap_or_default();
        os::tree::kill_each(&runs::left_of(&folder, &run_id));
    }
}

fn wait_for_record(home: &Home, number: u64) -> Option<Started> {
    let folder = home.run(number);
    let until_ms = os::clock::monotonic_ms() + RECORD_WITHIN_MS;
    let poller = Poller::new().ok()?;
    loop {
        if let Some(started) = runs::read(&folder.started()) {
            return Some(started);
        }
        let free = matches!(Lock::try_take(&folder.lock()), Ok(Locked::Taken(_)));
        if free || os::clock::monotonic_ms() >= until_ms {
            return None;
        }
        poller.wait(Some(LOOK_EVERY_MS), &mut Vec::new()).ok()?;
    }
}
