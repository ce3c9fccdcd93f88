//! A leak is stopped before the kernel's OOM killer comes, and it is the leaking process that goes. What the kernel was
//! quicker to kill is called by its name.

use std::time::Duration;

use testkit::home::DEADLINE;
use testkit::hostile::monotonic_ns;
use testkit::vitals;

use crate::jail::Jail;
use crate::rig::{Rig, count, last_exit, pid, promptly};
use crate::{measured, ms_between, stranger};

const MIB: u64 = 1 << 20;
/// From the threshold crossed to the first signal.
const PROMISE: Duration = Duration::from_millis(150);

/// How fast it leaks, and how much room there is at first, from the first threshold on, and from the second on.
#[derive(Clone, Copy)]
struct Leak {
    mib_per_second: u64,
    limit_mib: u64,
    low_mib: u64,
    critical_mib: u64,
}

/// The worker's agent, `claude`, starts a `node` that leaks and one that does not.
fn rig(leak: Leak) -> Rig {
    let settings = format!(
        "stall_timeout_ms = 0\n[memory]\nmin_available_bytes = {}\ncritical_threshold_bytes = {}\n\
         node_kill_threshold_bytes = {}",
        leak.low_mib * MIB,
        leak.critical_mib * MIB,
        10 * MIB
    );
    let rig = Rig::new(&settings);
    let node = stranger::program(&rig.home, "node");
    let agent = stranger::shell(&rig.home, "claude");
    let words = format!("leak={}:{}", leak.mib_per_second * MIB, 4_096 * MIB);
    rig.script(&format!(
        "'{agent}' -c \"'{node}' --hostile '' & '{node}' --hostile '{words}' & wait\" & wait",
        agent = agent.display(),
        node = node.display()
    ))
}

/// Once; from the threshold crossed to the signal sent, in milliseconds.
fn caught_once(leak: Leak) -> Option<f64> {
    let jail = Jail::new(leak.limit_mib * MIB)?;
    let rig = rig(leak);
    let daemon = rig.start_by(jail.command(&rig.home, &rig.command()));
    let worker = pid(&rig.wait_for_state("running"));
    // It crosses the threshold after this look at the earliest: what is measured is never too little.
    let (mut below_ns, mut is_below) = (monotonic_ns(), true);
    let threshold = (leak.limit_mib - leak.low_mib) * MIB;
    let acted_ns = rig.home.wait_until("it is acted upon", DEADLINE, || {
        let now_ns = monotonic_ns();
        if daemon.stderr().contains("sent SIGTERM to process ") {
            return Some(now_ns);
        }
        is_below &= jail.working_set_bytes() <= threshold;
        below_ns = if is_below { now_ns } else { below_ns };
        None
    });
    let said = daemon.stderr();
    let victim: i32 = said.split_once("SIGTERM to process ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    rig.home.wait_until("the victim goes", DEADLINE, || (!vitals::is_alive(victim)).then_some(()));
    assert_eq!(jail.oom_kills(), 0, "{said}");
    let left: Vec<String> = rig.run_processes().into_iter().map(|process| process.command).collect();
    let of = |name: &str| left.iter().filter(|command| command.contains(name)).count();
    assert_eq!((of("/node --hostile leak"), of("/node --hostile"), of("/claude -c")), (0, 1, 1), "{left:#?}\n{said}");
    let status = rig.status();
    assert_eq!((pid(&status), count(&status, "total_restarts")), (worker, 0), "{said}");
    assert_eq!(daemon.stderr().matches(" sent SIG").count(), 1, "{said}");
    rig.finish(daemon);
    Some(ms_between(below_ns, acted_ns))
}

/// Three of three.
fn is_caught(leak: Leak) {
    let mut times_ms = Vec::new();
    for _ in 0..3 {
        let Some(time_ms) = caught_once(leak) else { return };
        times_ms.push(time_ms);
    }
    let median_ms = measured(&format!("{} MB/s: threshold crossed to signal sent", leak.mib_per_second), times_ms);
    let promise_ms = (PROMISE + promptly() - Duration::from_millis(100)).as_secs_f64() * 1e3;
    assert!(median_ms <= promise_ms, "{median_ms} ms, promised are {promise_ms} ms");
}

#[test]
fn a_leak_of_10_mb_a_second_is_caught() {
    is_caught(Leak { mib_per_second: 10, limit_mib: 256, low_mib: 220, critical_mib: 32 });
}

#[test]
fn a_leak_of_50_mb_a_second_is_caught() {
    is_caught(Leak { mib_per_second: 50, limit_mib: 512, low_mib: 420, critical_mib: 64 });
}

#[test]
fn a_leak_of_400_mb_a_second_is_caught() {
    is_caught(Leak { mib_per_second: 400, limit_mib: 1_024, low_mib: 600, critical_mib: 100 });
}

/// One that jumps over everything at once, where nobody watches.
#[test]
fn the_kernels_kill_is_called_by_its_name() {
    let Some(jail) = Jail::new(200 * MIB) else { return };
    let settings = "initial_backoff_ms = 600000\nmax_backoff_ms = 600000\nstall_timeout_ms = 0\n[memory]\n\
                    min_available_bytes = 0\ncritical_threshold_bytes = 0";
    let rig = Rig::new(settings).hostile(&format!("leak={}:{}", 40_000 * MIB, 4_000 * MIB));
    let daemon = rig.start_by(jail.command(&rig.home, &rig.command()));
    let status = rig.wait_for_state("restarting");
    assert_eq!(last_exit(&status), "killed by the kernel for want of memory (OOM killer)", "{status:#}");
    assert!(jail.oom_kills() > 0);
    assert_eq!(count(&status, "consecutive_failures"), 1);
    rig.finish(daemon);
}

/// A tool was killed by the kernel half a minute ago; the worker is killed by hand now.
#[test]
fn an_earlier_kill_of_the_kernels_does_not_name_a_later_one() {
    let Some(jail) = Jail::new(200 * MIB) else { return };
    let settings = "initial_backoff_ms = 600000\nmax_backoff_ms = 600000\nstall_timeout_ms = 0\n[memory]\n\
                    min_available_bytes = 0\ncritical_threshold_bytes = 0";
    let rig = Rig::new(settings);
    let node = stranger::program(&rig.home, "node");
    let leak = format!("leak={}:{}", 40_000 * MIB, 4_000 * MIB);
    let rig = rig.script(&format!(
        "'{}' --hostile '{leak}'\nwhile :; do n=$((n + 1)); echo step $n; sleep 1; done",
        node.display()
    ));
    let daemon = rig.start_by(jail.command(&rig.home, &rig.command()));
    let worker = pid(&rig.wait_for_state("running"));
    let log = rig.home.path().join("workers/main/output.log");
    let is_on = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("step 30\n")).then_some(());
    rig.home.wait_until("the worker goes on without its tool", DEADLINE + Duration::from_secs(60), is_on);
    assert_eq!(jail.oom_kills(), 1);
    rig.kill(worker);
    let status = rig.wait_for_state("restarting");
    assert_eq!(last_exit(&status), "killed by SIGKILL", "{status:#}");
    rig.finish(daemon);
}
