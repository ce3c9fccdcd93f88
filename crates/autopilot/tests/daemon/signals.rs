//! Signals to the daemon, and a terminal that goes away.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use testkit::home::{DEADLINE, Signal};
use testkit::vitals;

use crate::rig::{Rig, prompt_in_one_of_three};

#[test]
fn sigterm_and_sigint_end_the_tree_and_the_daemon() {
    for signal in [Signal::TERM, Signal::INT] {
        let rig = Rig::new("stop_timeout_ms = 200").hostile("ignore-term ready trap");
        let mut daemon = rig.start();
        rig.sprung_trap();
        daemon.signal(signal);
        assert_eq!(daemon.wait_for_code(DEADLINE), 0, "{signal:?}");
        assert_eq!(rig.run_processes(), []);
        rig.home.wait_until_nothing_runs(DEADLINE);
        assert!(!rig.home.socket().exists());
    }
}

#[test]
fn sigterm_ends_an_idle_daemon_at_once() {
    let rig = Rig::new("").hostile("ready");
    prompt_in_one_of_three("SIGTERM", || {
        let mut daemon = rig.start();
        rig.ready_worker();
        rig.ask("stop-worker");
        let asked = Instant::now();
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait_for_code(DEADLINE), 0);
        asked.elapsed()
    });
}

#[test]
fn a_second_signal_does_not_wait_for_the_stop_timeout() {
    let rig = Rig::new("stop_timeout_ms = 60000").hostile("ignore-term ready");
    prompt_in_one_of_three("the second SIGINT", || {
        let mut daemon = rig.start();
        rig.ready_worker();
        daemon.signal(Signal::INT);
        rig.wait_for_state("stopping");
        let asked = Instant::now();
        daemon.signal(Signal::INT);
        assert_eq!(daemon.wait_for_code(DEADLINE), 0);
        let took = asked.elapsed();
        rig.home.wait_until_nothing_runs(DEADLINE);
        took
    });
}

#[test]
fn sighup_changes_nothing() {
    let rig = Rig::new("").hostile("ready");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    for _ in 0..3 {
        daemon.signal(Signal::HUP);
        assert_eq!(rig.status()["worker_pid"], worker);
    }
    daemon.signal(Signal::HUP);
    assert!(rig.ask("restart-worker").done().starts_with("Worker started"));
    rig.finish(daemon);
}

/// Who watched the daemon's terminal goes away: it serves on, and restarts the worker as ever.
#[test]
fn a_terminal_that_goes_away_is_no_reason_to_stop() {
    let rig = Rig::new("initial_backoff_ms = 0").hostile("ready");
    let mut command = rig.command();
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(Stdio::null()).stderr(writer);
    let mut daemon = command.spawn().unwrap();
    drop(command);
    rig.home.wait_until("the daemon answers", DEADLINE, || {
        testkit::control::Control::connect(&rig.home.socket()).is_ok().then_some(())
    });
    drop(reader);
    let worker = rig.ready_worker();
    rig.kill(worker);
    rig.wait_for("another worker runs", |status| status["total_restarts"] == 1 && status["worker_ready"] == true);
    assert_eq!(rig.ask("stop").done(), "Daemon stopped");
    assert!(daemon.wait().unwrap().success());
}

/// Nobody reads what the daemon says, and its pipe is full: it must not wait for a reader.
#[test]
fn a_terminal_that_nobody_reads_holds_nothing_up() {
    let rig = Rig::new("initial_backoff_ms = 0\nmax_consecutive_restarts = 0\nmax_restarts_per_hour = 0")
        .hostile("exit=1 after_ms=0");
    let mut command = rig.command();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut second = writer.try_clone().unwrap();
    command.stdout(Stdio::null()).stderr(writer);
    let mut daemon = command.spawn().unwrap();
    drop(command);
    rig.home.wait_until("the daemon answers", DEADLINE, || {
        testkit::control::Control::connect(&rig.home.socket()).is_ok().then_some(())
    });
    // Takes whatever room there is, for as long as there is a reader.
    let filler = std::thread::spawn(move || while second.write_all(&[b'x'; 4096]).is_ok() {});
    let before = rig.status()["total_restarts"].as_u64().unwrap();
    rig.wait_for("forty restarts more", |status| status["total_restarts"].as_u64() > Some(before + 40));
    assert_eq!(rig.ask("stop").done(), "Daemon stopped");
    assert!(daemon.wait().unwrap().success());
    drop(reader);
    filler.join().unwrap();
}

/// The daemon sleeps while nothing happens: no polling where the kernel can tell.
#[test]
fn an_idle_daemon_does_nothing() {
    let rig = Rig::new("").hostile("ready");
    let daemon = rig.start();
    rig.ready_worker();
    let before = vitals::cpu_ticks(daemon.pid());
    let until = Instant::now() + Duration::from_secs(1);
    rig.home.wait_until("a second goes by", DEADLINE, || (Instant::now() > until).then_some(()));
    let ticks = vitals::cpu_ticks(daemon.pid()) - before;
    assert!(ticks <= 2, "{ticks} ticks of 10 ms in one second");
    rig.finish(daemon);
}
