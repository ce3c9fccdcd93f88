//! A mount namespace of its own, in which something of the system is missing or full. It is gone with its last process.

use std::process::Command;

use serde_json::Value;
use testkit::home::{DEADLINE, Started, is_root};

use crate::rig::Rig;

/// Somebody in the namespace keeps it, so that several daemons can follow each other in it.
#[derive(Debug)]
pub(crate) struct Room {
    keeper: Started,
    with_user: bool,
}

impl Room {
    /// `script` makes it what it is; `$0` is the home.
    pub(crate) fn new(rig: &Rig, script: &str) -> Self {
        Self::build(rig, script, !is_root() || rig.home.user().is_some())
    }

    /// With a user namespace, too, whoever runs the tests: it has limits of its own.
    pub(crate) fn with_limits(rig: &Rig, script: &str) -> Self {
        Self::build(rig, script, true)
    }

    fn build(rig: &Rig, script: &str, with_user: bool) -> Self {
        let mut command = rig.home.command("unshare");
        command.args(if with_user { "--mount --user --map-root-user" } else { "--mount" }.split(' '));
        let script = format!("set -e; {script}\necho ready; exec sleep 600");
        command.args(["--", "sh", "-c", &script]).arg(rig.home.path());
        let mut keeper = rig.home.start("room", command);
        rig.home.wait_until("the room is made", DEADLINE, || {
            assert!(!keeper.has_ended(), "no room: {}", keeper.stderr());
            (keeper.stdout() == "ready\n").then_some(())
        });
        Self { keeper, with_user }
    }

    /// The same command, in here.
    pub(crate) fn command(&self, rig: &Rig, inner: &Command) -> Command {
        let mut command = rig.home.command("nsenter");
        command.arg(format!("--target={}", self.keeper.pid())).arg("--mount");
        if self.with_user {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(format!("--wd={}", rig.home.repository().display()));
        command.arg("--").arg(inner.get_program()).args(inner.get_args());
        command
    }

    /// The daemon, in here.
    pub(crate) fn daemon(&self, rig: &Rig) -> Command {
        self.command(rig, &rig.command())
    }

    /// Runs a shell script in here; `$0` is the home.
    pub(crate) fn run(&self, rig: &Rig, script: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(rig.home.path());
        let mut done = rig.home.start("script-in-room", self.command(rig, &command));
        assert_eq!(done.wait_for_code(DEADLINE), 0, "{script}: {}", done.stderr());
    }

    /// Starts a daemon in here, and waits until it answers in here.
    pub(crate) fn start(&self, rig: &Rig) -> Started {
        let mut daemon = rig.home.start("daemon-in-room", self.daemon(rig));
        rig.home.wait_until("the daemon answers in its room", DEADLINE, || {
            assert!(!daemon.has_ended(), "it has ended: {}", daemon.stderr());
            self.status(rig).filter(|status| status["daemon_pid"] == daemon.pid())
        });
        daemon
    }

    pub(crate) fn status(&self, rig: &Rig) -> Option<Value> {
        serde_json::from_slice(&self.ask(rig, &["status", "--json"])).ok()
    }

    /// What `autopilotd` prints in here.
    pub(crate) fn ask(&self, rig: &Rig, args: &[&str]) -> Vec<u8> {
        let mut command = rig.home.autopilotd_command();
        command.args(args);
        rig.home.start("asked-in-room", self.command(rig, &command)).into_output(DEADLINE).stdout
    }

    pub(crate) fn wait_for(&self, rig: &Rig, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        rig.home.wait_until(what, DEADLINE, || self.status(rig).filter(|status| wanted(status)))
    }

    /// A warning is in both kinds of status.
    pub(crate) fn assert_degraded(&self, rig: &Rig, what: &str) {
        let status = self.status(rig).expect("the daemon answers");
        assert!(status["degraded"].to_string().contains(what), "{what:?} in {status:#}");
        let text = String::from_utf8(self.ask(rig, &["status"])).unwrap();
        assert!(text.lines().any(|line| line.starts_with("Warning: ") && line.contains(what)), "{what:?} in {text}");
    }

    /// Ends the daemon, and sees that nothing is left of it and of the room.
    pub(crate) fn finish(mut self, rig: &Rig, mut daemon: Started) {
        assert_eq!(self.ask(rig, &["stop"]), b"Daemon stopped\n");
        assert_eq!(daemon.wait_for_code(DEADLINE), 0, "{}", daemon.stderr());
        self.keeper.kill();
        rig.home.wait_until_nothing_runs(DEADLINE);
        assert!(rig.home.control_groups().is_empty(), "left: {:?}", rig.home.control_groups());
    }
}
