//! What keeps a daemon from starting: a clear sentence, a hint, an exit code, and nothing started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use testkit::home::{DEADLINE, is_root};

use crate::rig::Rig;

/// Runs a command that is expected to start no daemon, and returns its exit code and what it said.
fn refused(rig: &Rig, command: Command) -> (i32, String) {
    let output: Output = rig.home.start("refused", command).into_output(DEADLINE);
    assert_eq!(output.stdout, b"");
    assert_eq!(rig.home.processes(), [], "something was started");
    (output.status.code().unwrap(), rig.portable(&String::from_utf8_lossy(&output.stderr)))
}

fn with_settings(text: &str) -> (i32, String) {
    let rig = Rig::new("");
    fs::write(rig.config(), text).unwrap();
    let said = refused(&rig, rig.command());
    assert!(!rig.home.path().exists(), "a home was made for nothing");
    said
}

#[test]
fn settings_that_are_wrong_are_named_with_their_place() {
    let cases = [
        ("[restart\n", "error: ~/user/daemon.toml:1: unclosed table, expected `]`\n"),
        (
            "[restart]\nstall_timeot_ms = 5\n",
            "error: ~/user/daemon.toml:2: unknown key stall_timeot_ms in [restart]\nhint: write stall_timeout_ms\n",
        ),
        (
            "[restart]\ninitial_backoff_ms = \"1s\"\n",
            "error: ~/user/daemon.toml:2: initial_backoff_ms wants milliseconds, found \"1s\"\nhint: write 1000\n",
        ),
        (
            "[memory]\n\npoll_interval_ms = 0\n",
            "error: ~/user/daemon.toml:3: poll_interval_ms wants milliseconds from 1 to 31622400000 (366 d), found 0\nhint: the default is 5000\n",
        ),
        (
            "max_budget = nan\n",
            "error: ~/user/daemon.toml:1: max_budget wants dollars from 0 to 1000000000, found nan\nhint: 0 means no limit\n",
        ),
        (
            "[restart]\nmax_backoff_ms = -1\n",
            "error: ~/user/daemon.toml:2: max_backoff_ms wants milliseconds from 0 to 31622400000 (366 d), found -1\nhint: the default is 300000\n",
        ),
    ];
    for (settings, expected) in cases {
        assert_eq!(with_settings(settings), (5, expected.to_owned()), "{settings:?}");
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let (code, said) = with_settings("modle = \"opus\"\n[restart]\nmax_backoff_ms = true\n[nonsense]\n");
    assert_eq!((code, said.matches("error: ").count()), (5, 3), "{said}");
}

#[test]
fn a_config_file_that_was_asked_for_must_be_there() {
    let rig = Rig::new("");
    let mut command = rig.home.autopilotd_command();
    command.args(["--config", "nowhere.toml"]);
    let expected = "error: ~/repo/nowhere.toml: no such file\nhint: create it, or leave --config out\n";
    assert_eq!(refused(&rig, command), (5, expected.to_owned()));
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    let mut rig = Rig::new("");
    rig.home.set_env("AUTOPILOT_STALL_TIMEOUT_MS", "5m");
    let expected = "error: AUTOPILOT_STALL_TIMEOUT_MS wants milliseconds, found \"5m\"\n\
                    hint: AUTOPILOT_STALL_TIMEOUT_MS=300000\n";
    assert_eq!(refused(&rig, rig.command()), (5, expected.to_owned()));
}

#[test]
fn the_working_directory_must_be_there() {
    let rig = Rig::new("");
    fs::write(rig.home.repository().join("file"), "").unwrap();
    for (workdir, reason) in [("nowhere", "no such file or directory"), ("file", "not a directory")] {
        let mut command = rig.command();
        command.args(["--workdir", workdir]);
        let (code, said) = refused(&rig, command);
        let expected = format!(
            "error: --workdir: working directory ~/repo/{workdir}: {reason}\n\
             hint: create it, or name another with --workdir or working_dir\n"
        );
        assert_eq!((code, said), (5, expected));
    }
}

#[test]
fn a_flag_that_is_wrong_is_wrong_usage() {
    let rig = Rig::new("");
    for flags in [["--max-budget", "nan"], ["--max-turns", "-1"], ["--max-turns", "many"], ["--nonsense", "1"]] {
        let mut command = rig.command();
        command.args(flags);
        let (code, said) = refused(&rig, command);
        assert_eq!(code, 2, "{flags:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(flags[0]), "{said}");
    }
}

#[test]
fn a_home_too_deep_for_a_socket_is_refused() {
    let mut rig = Rig::new("");
    let deep = rig.home.user_home().join("x".repeat(90));
    rig.home.set_env("AUTOPILOT_HOME", &deep);
    let (code, said) = refused(&rig, rig.command());
    assert_eq!(code, 5);
    let bytes = deep.join("workers/main/notify.sock").as_os_str().len();
    let expected = format!(
        "error: the socket path ~/user/{}/workers/main/notify.sock has {bytes} bytes, 107 are possible\n\
         hint: choose a shorter home: AUTOPILOT_HOME=/path/to/folder\n",
        "x".repeat(90)
    );
    assert_eq!(said, expected);
    assert!(!deep.exists());
}

/// Gives a folder its rights back, so that it can be removed whatever the test finds.
struct Locked<'a>(&'a Path);

impl<'a> Locked<'a> {
    fn new(path: &'a Path) -> Self {
        fs::set_permissions(path, fs::Permissions::from_mode(0o500)).unwrap();
        Self(path)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        fs::set_permissions(self.0, fs::Permissions::from_mode(0o700)).ok();
    }
}

#[test]
fn an_ordinary_user_who_may_not_write_the_home_is_told() {
    let denied = "Permission denied (os error 13)";
    let hint = "hint: make it writable for you, or move it: AUTOPILOT_HOME=/path/to/folder\n";

    let mut rig = Rig::of_ordinary_user("");
    let outside = rig.home.user_home();
    rig.home.set_env("AUTOPILOT_HOME", outside.join("home"));
    let locked = Locked::new(&outside);
    let said = refused(&rig, rig.command());
    assert_eq!(said, (5, format!("error: cannot use the home ~/user/home: {denied}\n{hint}")));
    drop(locked);

    let inside = outside.join("home");
    fs::create_dir(&inside).unwrap();
    if let Some(user) = rig.home.user() {
        std::os::unix::fs::chown(&inside, Some(user), Some(user)).unwrap();
    }
    let locked = Locked::new(&inside);
    let said = refused(&rig, rig.command());
    assert_eq!(said, (5, format!("error: cannot use the home ~/user/home/autopilotd.lock: {denied}\n{hint}")));
    drop(locked);
}

/// For root, whom no mode keeps out, and for everybody else: a file system that is mounted read-only, in a mount
/// namespace that is gone with the daemon.
#[test]
fn a_home_on_a_read_only_file_system_is_named() {
    let rig = Rig::new("");
    fs::create_dir(rig.home.path()).unwrap();
    fs::set_permissions(rig.home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = rig.home.command("unshare");
    command.args(if is_root() { "--mount" } else { "--mount --user --map-root-user" }.split(' '));
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    let autopilotd = rig.command();
    command.args(["--", "sh", "-c", script]).arg(rig.home.path());
    command.arg(autopilotd.get_program()).args(autopilotd.get_args());
    let expected = "error: cannot use the home ~/home/autopilotd.lock: Read-only file system (os error 30)\n\
                    hint: AUTOPILOT_HOME=/path/to/a/writable/folder moves it\n";
    assert_eq!(refused(&rig, command), (5, expected.to_owned()));
}

#[test]
fn a_home_that_is_a_file_is_named() {
    let rig = Rig::new("");
    fs::write(rig.home.path(), "").unwrap();
    let (code, said) = refused(&rig, rig.command());
    assert_eq!(code, 5);
    assert!(said.starts_with("error: cannot use the home ~/home: "), "{said}");
}
