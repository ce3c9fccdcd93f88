//! What the documentation promises to people and programs that read: status, the terminal's lines, the worker's
//! arguments and environment.

use serde_json::Value;
use testkit::home::DEADLINE;
use testkit::vitals;

use crate::rig::{Rig, pid, shim_of};

/// A number where the documentation has one, in the text of the documentation.
fn with_numbers(documented: &str, shown: &str) -> bool {
    let mut shown = shown;
    for (position, part) in documented.split('#').enumerate() {
        if position > 0 {
            shown = shown.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        }
        let Some(rest) = shown.strip_prefix(part) else { return false };
        shown = rest;
    }
    true
}

#[test]
fn the_status_begins_with_the_documented_lines() {
    let rig = Rig::new("").hostile("ready phase=model status=thinking");
    let daemon = rig.start();
    let worker = rig.ready_worker();
    rig.wait_for("the worker's words", |status| status["worker_message"] == "thinking");
    let output = rig.home.autopilotd(["status"]);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    let text = String::from_utf8(output.stdout).unwrap();
    let documented = format!(
        "Autopilot Daemon Status\n\
         =======================\n\
         Worker status:  running\n\
         Worker PID:     {worker}\n\
         Uptime:         # seconds\n\
         Total restarts: 0\n\
         Failures:       0\n\
         Memory:         # GB / # GB available\n\n"
    );
    assert!(with_numbers(&documented, &text), "{text}");
    assert!(text.contains("\nDoing:          model  thinking\n"), "{text}");
    assert!(text.lines().all(|line| line.trim_end() == line), "{text:?}");
    rig.finish(daemon);
}

#[test]
fn a_stopped_worker_has_no_pid_and_no_uptime() {
    let rig = Rig::new("").hostile("ready");
    let daemon = rig.start();
    rig.ready_worker();
    rig.ask("stop-worker");
    let text = String::from_utf8(rig.home.autopilotd(["status"]).stdout).unwrap();
    let documented = "Autopilot Daemon Status\n\
                      =======================\n\
                      Worker status:  stopped\n\
                      Worker PID:     -\n\
                      Uptime:         0 seconds\n\
                      Total restarts: 0\n\
                      Failures:       0\n\
                      Memory:         # GB / # GB available\n\n\
                      Reason:         stop-worker by the operator\n";
    assert!(with_numbers(documented, &text), "{text}");
    rig.finish(daemon);
}

#[test]
fn the_status_as_data_has_every_documented_member() {
    let rig = Rig::new("initial_backoff_ms = 60000").plan(&["ready", "exit=7 after_ms=0"]);
    let daemon = rig.start();
    rig.ready_worker();
    let output = rig.home.autopilotd(["status", "--json"]);
    let running: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(running["worker_status"], "running");
    assert!(vitals::is_alive(pid(&running)));
    assert!(running["uptime_seconds"].as_u64().unwrap() < 60);
    assert_eq!((&running["total_restarts"], &running["consecutive_failures"]), (&0.into(), &0.into()));
    let (available, total) = (&running["memory_available_bytes"], &running["memory_total_bytes"]);
    assert!(0 < available.as_u64().unwrap() && available.as_u64() < total.as_u64());
    assert!(running["worker_binary"].as_str().unwrap().ends_with("/hostile-worker"));
    assert_eq!(running["last_exits"], serde_json::json!([]));
    assert_eq!((&running["next_attempt_in_ms"], &running["reason"]), (&Value::Null, &Value::Null));

    // The next worker ends by itself.
    rig.ask("restart-worker");
    let waiting = rig.wait_for_state("restarting");
    assert_eq!((&waiting["worker_pid"], &waiting["uptime_seconds"]), (&Value::Null, &0.into()));
    assert_eq!((&waiting["total_restarts"], &waiting["consecutive_failures"]), (&1.into(), &1.into()));
    assert!(waiting["next_attempt_in_ms"].as_u64().unwrap() > 50_000);
    assert_eq!(waiting["reason"], "the worker ended: exit status 7");
    let exits = waiting["last_exits"].as_array().unwrap();
    let causes: Vec<&str> = exits.iter().map(|exit| exit["cause"].as_str().unwrap()).collect();
    assert_eq!(causes, ["exit status 7", "ended by restart-worker (exit status 0)"]);
    for exit in exits {
        assert!(exit["lived_ms"].as_u64().unwrap() < 20_000);
        assert!(exit["at_unix_ms"].as_u64().unwrap() > 1_600_000_000_000);
    }
    rig.finish(daemon);
}

/// The lines of the documentation, and what is said of a restart and of the end.
#[test]
fn the_terminal_shows_the_documented_lines() {
    let rig = Rig::new("initial_backoff_ms = 60000").plan(&["exit=7 after_ms=0", "ready"]);
    let mut command = rig.command();
    command.args(["--project", "demo"]);
    let mut daemon = rig.start_by(command);
    rig.wait_for_state("restarting");
    rig.ask("restart-worker");
    let worker = rig.ready_worker();
    rig.ask("stop");
    daemon.wait_for_code(DEADLINE);
    // What it says of the machine's memory is not of this run.
    let said = rig.portable(&daemon.stderr()).replace(&worker.to_string(), "SECOND");
    let stderr: String = said.split_inclusive('\n').filter(|line| !line.starts_with("Memory is ")).collect();
    let documented = "Starting autopilotd...\n  \
                      Working dir: ~/repo\n  \
                      Project: demo\n  \
                      Model: sonnet\n  \
                      Socket: ~/home/autopilotd.sock\n\
                      Spawning worker...\n\
                      Worker started with PID #\n\
                      Worker # ended after # s: exit status 7\n\
                      Restarting worker in 60 s (failure 1 in a row)\n\
                      Spawning worker...\n\
                      Worker started with PID SECOND\n\
                      Stopping autopilotd...\n\
                      Worker SECOND ended after # s: ended by stop (exit status 0)\n";
    assert!(with_numbers(documented, &stderr), "{stderr}");
    assert_eq!(stderr.lines().count(), documented.lines().count(), "{stderr}");
    assert_eq!(daemon.stdout(), "");
}

#[test]
fn the_worker_gets_its_arguments_and_environment() {
    let mut rig = Rig::new("stall_timeout_ms = 77000").hostile("ready");
    rig.home.set_env("OF_THE_USER", "kept");
    rig.home.set_env("WATCHDOG_PID", "1");
    let mut command = rig.command();
    let options = ["--project", "demo", "--model", "opus", "--max-turns", "7", "--max-budget", "1.5"];
    command.args(options).args(["--prompt", "fix it"]);
    let daemon = rig.start_by(command);
    let worker = rig.ready_worker();
    let expected = ["run", "--full-auto", "--model", "opus", "--max-turns", "7", "--max-budget", "1.5"];
    let arguments = vitals::arguments(worker);
    assert_eq!(arguments[1..9], expected);
    assert_eq!(arguments[9..], ["--project", "demo", "fix it"]);
    let variable = |name: &str| vitals::environment(worker, name).unwrap_or_else(|| "(unset)".to_owned());
    assert_eq!(variable("AUTOPILOTD_SUPERVISED"), "1");
    assert_eq!(variable("NOTIFY_SOCKET"), rig.home.path().join("workers/main/notify.sock").to_string_lossy());
    assert_eq!(variable("AUTOPILOT_HOME"), rig.home.path().to_string_lossy());
    assert_eq!(variable("WATCHDOG_USEC"), "77000000");
    assert_eq!(variable("WATCHDOG_PID"), "(unset)");
    assert_eq!(variable("OF_THE_USER"), "kept");
    let folder = |process: i32| std::fs::read_link(format!("/proc/{process}/cwd")).unwrap();
    assert_eq!(folder(worker), rig.home.repository());
    let descriptor = |number: u8| std::fs::read_link(format!("/proc/{worker}/fd/{number}")).unwrap();
    assert_eq!(descriptor(0).to_string_lossy(), "/dev/null");
    assert!(descriptor(1).to_string_lossy().starts_with("pipe:"));
    assert_eq!(descriptor(1), descriptor(2));

    let first = variable("AUTOPILOT_RUN_ID");
    rig.ask("restart-worker");
    let second = vitals::environment(rig.ready_worker(), "AUTOPILOT_RUN_ID").unwrap();
    assert_ne!(first, second);
    rig.finish(daemon);
}

/// No descriptor of the daemon but the run's lock, no blocked signal, none ignored that the daemon's caller did not
/// ignore: what a program expects to find.
#[test]
fn the_worker_inherits_nothing_that_would_change_it() {
    // A shell's children have what it was given.
    let script = "grep ^Sig /proc/self/status > \"$HOME/signals\"\nls -l /proc/self/fd > \"$HOME/descriptors\"\n\
                  exec \"$HOSTILE_WORKER\"";
    let rig = Rig::new("").script(script).hostile("ready");
    let mut command = rig.home.command("nohup");
    let autopilotd = rig.command();
    command.arg(autopilotd.get_program()).args(autopilotd.get_args());
    let daemon = rig.start_by(command);
    let worker = rig.ready_worker();
    let noted = |name: &str| std::fs::read_to_string(rig.home.user_home().join(name)).unwrap();
    let signals = noted("signals");
    let mask = |name: &str| {
        let text = signals.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(text.trim(), 16).unwrap()
    };
    const SIGPIPE: u64 = 1 << 12;
    let own = vitals::signals(i32::try_from(std::process::id()).unwrap(), "SigIgn") & !SIGPIPE;
    assert_eq!((mask("SigBlk:"), mask("SigIgn:") & !own), (0, 0), "{signals}");
    let descriptors = noted("descriptors");
    let targets = descriptors.lines().filter_map(|line| line.split_once(" -> ")).map(|(_, target)| target);
    let strange: Vec<String> = targets
        .filter(|target| *target != "/dev/null" && !target.starts_with("pipe:") && !target.starts_with("/proc/"))
        .map(|target| rig.portable(target))
        .collect();
    assert_eq!(strange, ["~/user/descriptors", "~/home/workers/main/runs/1/lock"]);
    assert_eq!(vitals::arguments(shim_of(worker)), vitals::arguments(daemon.pid()));
    rig.finish(daemon);
}

#[test]
fn version_and_help_are_answered_without_a_home() {
    let mut rig = Rig::new("");
    rig.home.remove_env("AUTOPILOT_HOME");
    rig.home.remove_env("HOME");
    let version = rig.home.autopilotd(["--version"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), concat!("autopilotd ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = String::from_utf8(rig.home.autopilotd(["--help"]).stdout).unwrap();
    for command in ["start", "status", "restart-worker", "stop-worker", "start-worker", "stop", "config"] {
        assert!(help.contains(&format!("\n  {command}")), "{command} in {help}");
    }
    assert!(help.contains("Examples:"));
}
