//! Many daemons are started at once on one home.

use std::fs;

use testkit::home::{DEADLINE, Started};

use crate::rig::Rig;
use crate::witness::{HASTY, assert_never_two, heals};

const ROUNDS: usize = 150;
const DAEMONS: usize = 12;

/// What the daemon of the round before has left.
const LEFT: [fn(&Rig, Started); 4] = [stopped, killed, killed_and_its_pid_is_a_strangers, killed_with_its_shim];

fn stopped(rig: &Rig, mut daemon: Started) {
    assert_eq!(rig.ask("stop").done(), "Daemon stopped");
    assert_eq!(daemon.wait_for_code(DEADLINE), 0, "{}", daemon.stderr());
}

fn killed(_: &Rig, mut daemon: Started) {
    daemon.kill();
}

fn killed_and_its_pid_is_a_strangers(rig: &Rig, mut daemon: Started) {
    daemon.kill();
    fs::write(rig.home.path().join("autopilotd.pid"), "1\n").unwrap();
}

fn killed_with_its_shim(rig: &Rig, mut daemon: Started) {
    daemon.kill();
    for process in rig.home.processes() {
        rig.home.kill(&process);
    }
}

#[test]
fn of_twelve_daemons_started_at_once_one_serves() {
    let rig = Rig::new(HASTY).hostile("alone ready");
    for round in 0..ROUNDS {
        let mut all: Vec<Started> = (0..DAEMONS).map(|_| rig.home.start("daemon", rig.command())).collect();
        rig.home.wait_until("all but one have ended", DEADLINE, || {
            let ended = all.iter_mut().filter_map(|daemon| daemon.has_ended().then_some(())).count();
            (ended >= DAEMONS - 1).then_some(())
        });
        rig.home.wait_until("a worker runs", DEADLINE, || {
            assert!(all.iter_mut().any(|daemon| !daemon.has_ended()), "nobody serves in round {round}");
            crate::witness::running_worker(&rig)
        });
        let (mut serving, mut others): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        for mut daemon in all {
            if daemon.has_ended() { others.push(daemon) } else { serving.push(daemon) }
        }
        assert_eq!(serving.len(), 1, "round {round}");
        for other in &mut others {
            assert_eq!(other.wait_for_code(DEADLINE), 4, "round {round}: {}", other.stderr());
        }
        let daemon = serving.remove(0);
        assert_eq!(rig.status()["daemon_pid"], daemon.pid(), "round {round}");
        rig.home.wait_until("one worker runs", DEADLINE, || (rig.run_processes().len() == 1).then_some(()));
        assert_never_two(&rig);
        LEFT[round % LEFT.len()](&rig, daemon);
    }
    let (daemon, _) = heals(&rig);
    rig.finish(daemon);
}
