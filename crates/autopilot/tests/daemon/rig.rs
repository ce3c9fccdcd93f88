//! A home whose worker is the hostile one, a daemon in it, and a short way to both.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use testkit::control::{Control, Reply, request};
use testkit::home::{DEADLINE, Home, Started};
use testkit::processes::Process;
use testkit::{binaries, floor, home, hostile, vitals};

/// A home, its settings and its worker.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) home: Home,
    config: PathBuf,
}

impl Rig {
    /// `settings`: the lines below `[restart]`, and other sections after them.
    pub(crate) fn new(settings: &str) -> Self {
        Self::build(settings, false)
    }

    /// The same, owned by a user without rights, even where the tests run as root.
    pub(crate) fn of_ordinary_user(settings: &str) -> Self {
        Self::build(settings, true)
    }

    fn build(settings: &str, ordinary: bool) -> Self {
        let mut home = home!();
        let mut worker = binaries::own("hostile-worker");
        if ordinary {
            worker = home.own_copy(&worker);
        }
        home.set_env("AUTOPILOT_WORKER_BINARY", worker);
        home.set_env("HOSTILE_STAMP", home.user_home().join("stamps"));
        let config = home.user_home().join("daemon.toml");
        fs::write(&config, format!("[restart]\n{settings}\n")).unwrap();
        if ordinary {
            home.use_ordinary_user();
        }
        Self { home, config }
    }

    /// What the worker does, in the hostile worker's words.
    pub(crate) fn hostile(mut self, words: &str) -> Self {
        self.home.set_env("HOSTILE", words);
        self
    }

    /// What it does at its first start, its second, …; the last line holds from there on.
    pub(crate) fn plan(mut self, lines: &[&str]) -> Self {
        let plan = self.home.user_home().join("plan");
        fs::write(&plan, lines.join("\n")).unwrap();
        if let Some(user) = self.home.user() {
            std::os::unix::fs::chown(&plan, Some(user), Some(user)).unwrap();
        }
        self.home.set_env("HOSTILE_PLAN", plan);
        self
    }

    /// The worker is this shell script. `$HOSTILE_WORKER` is the hostile one.
    pub(crate) fn script(mut self, lines: &str) -> Self {
        let hostile = self.home.own_copy(&binaries::own("hostile-worker"));
        self.home.set_env("HOSTILE_WORKER", hostile);
        let script = self.home.user_home().join("worker");
        write_program(&script, &format!("#!/bin/sh\n{lines}\n"));
        self.home.set_env("AUTOPILOT_WORKER_BINARY", script);
        self
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// The command that starts the daemon.
    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = self.home.autopilotd_command();
        command.arg("--config").arg(&self.config);
        command
    }

    /// Starts the daemon, and waits until it answers or has ended.
    pub(crate) fn start(&self) -> Started {
        self.start_by(self.command())
    }

    /// The same by another command.
    pub(crate) fn start_by(&self, command: std::process::Command) -> Started {
        let mut daemon = self.home.start("daemon", command);
        let pid = daemon.pid();
        self.home.wait_until("the daemon answers", DEADLINE, || {
            (self.serving_daemon() == Some(pid) || daemon.has_ended()).then_some(())
        });
        daemon
    }

    /// Who answers, if anybody does: the socket of a killed daemon may be open for a moment longer, in the shim that it
    /// was just making.
    pub(crate) fn serving_daemon(&self) -> Option<i32> {
        let mut control = Control::connect(&self.home.socket()).ok()?;
        control.send(&request("status")).ok()?;
        let pid = control.reply(DEADLINE)?.value["status"]["daemon_pid"].as_i64()?;
        i32::try_from(pid).ok()
    }

    pub(crate) fn connect(&self) -> Control {
        Control::connect(&self.home.socket()).expect("connect to the daemon")
    }

    pub(crate) fn ask(&self, verb: &str) -> Reply {
        self.connect().ask(verb, DEADLINE)
    }

    pub(crate) fn status(&self) -> Value {
        self.ask("status").value["status"].clone()
    }

    /// Waits until the status is as wanted, and returns it.
    pub(crate) fn wait_for(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        self.home.wait_until(what, DEADLINE, || {
            last = self.status();
            wanted(&last).then(|| last.clone())
        })
    }

    pub(crate) fn wait_for_state(&self, state: &str) -> Value {
        self.wait_for(state, |status| status["worker_status"] == state)
    }

    /// Waits until a worker has said that it is ready; its pid.
    pub(crate) fn ready_worker(&self) -> i32 {
        pid(&self.wait_for("the worker is ready", |status| status["worker_ready"] == true))
    }

    /// The processes of a run, the worker and all below it; neither shim nor daemon.
    pub(crate) fn run_processes(&self) -> Vec<Process> {
        let in_run = |process: &Process| vitals::environment(process.pid, "AUTOPILOT_RUN_ID").is_some();
        self.home.processes().into_iter().filter(in_run).collect()
    }

    /// Waits until the hostile worker's 22 processes heed no SIGTERM.
    pub(crate) fn sprung_trap(&self) -> Vec<Process> {
        self.home.wait_until("the trap is sprung", DEADLINE, || {
            let all = self.run_processes();
            (all.len() == 22 && all.iter().all(|process| vitals::catches_term(process.pid))).then_some(all)
        })
    }

    /// When workers began and ended.
    pub(crate) fn stamps(&self) -> Vec<hostile::Stamp> {
        hostile::stamps(&self.home.user_home().join("stamps"))
    }

    /// How often a worker was started.
    pub(crate) fn starts(&self) -> usize {
        self.stamps().iter().filter(|stamp| stamp.kind == hostile::StampKind::Start).count()
    }

    /// SIGKILL to a process of this home.
    pub(crate) fn kill(&self, pid: i32) {
        let process = self.home.processes().into_iter().find(|process| process.pid == pid);
        self.home.kill(&process.unwrap_or_else(|| panic!("{pid} does not run in this home")));
    }

    /// The same to one that may have ended by now.
    pub(crate) fn kill_if_alive(&self, pid: i32) {
        self.home.kill(&Process { pid, command: String::new() });
    }

    /// Ends the daemon by its command, and checks that it leaves nothing.
    pub(crate) fn finish(&self, mut daemon: Started) {
        assert_eq!(self.ask("stop").done(), "Daemon stopped");
        assert_eq!(daemon.wait_for_code(DEADLINE), 0, "{}", daemon.stderr());
        self.home.wait_until_nothing_runs(DEADLINE);
        assert!(self.home.control_groups().is_empty(), "left: {:?}", self.home.control_groups());
    }

    /// A text without what differs from machine to machine: the home's folder is `~`.
    pub(crate) fn portable(&self, text: &str) -> String {
        let root = self.home.user_home();
        let root = root.parent().expect("the user's home lies in the test's folder").to_string_lossy().into_owned();
        text.replace(&root, "~")
    }
}

pub(crate) fn pid(status: &Value) -> i32 {
    i32::try_from(status["worker_pid"].as_i64().unwrap_or_else(|| panic!("a worker in {status:#}"))).unwrap()
}

pub(crate) fn count(status: &Value, name: &str) -> u64 {
    status[name].as_u64().unwrap_or_else(|| panic!("{name} in {status:#}"))
}

/// How the newest run ended, in the status's words.
pub(crate) fn last_exit(status: &Value) -> &str {
    status["last_exits"][0]["cause"].as_str().unwrap_or_default()
}

/// The shim above a worker.
pub(crate) fn shim_of(worker: i32) -> i32 {
    vitals::parent(worker).expect("the worker's parent")
}

pub(crate) fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What can be prompt is so in one of three attempts, on a machine that others keep busy; what waits for something never
/// is.
pub(crate) fn prompt_in_one_of_three(what: &str, mut attempt: impl FnMut() -> Duration) {
    let mut slow = Vec::new();
    for _ in 0..3 {
        let bound = promptly();
        let took = attempt();
        if took <= bound {
            return;
        }
        slow.push((took, bound));
    }
    panic!("{what} took too long three times (took, allowed): {slow:?}");
}

/// The promise is 100 ms beyond what the worker takes to die. The rest is for a machine that is slow or busy: what 50
/// starts of `true` take on it now.
pub(crate) fn promptly() -> Duration {
    Duration::from_millis(100) + 50 * floor::quantile(&floor::true_runs(9), 0.5)
}
