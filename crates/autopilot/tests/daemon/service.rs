//! `autopilotd service`, and what a supervisor of the daemon is told: as far as that can be seen without systemd.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use testkit::home::DEADLINE;
use testkit::vitals;

use crate::rig::{Rig, pid, shim_of, write_program};

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn service(rig: &Rig, arguments: &[&str]) -> Output {
    rig.home.autopilotd([&["service"], arguments].concat())
}

/// What the service commands call, from a folder of its own: what was asked is written down.
fn with_programs(rig: &mut Rig, systemctl: &str, crontab: Option<&str>) -> PathBuf {
    let folder = rig.home.temporary().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let asked = rig.home.temporary().join("asked");
    write_program(
        &folder.join("systemctl"),
        &format!("#!/bin/sh\necho systemctl \"$@\" >> {}\n{systemctl}\n", asked.display()),
    );
    if let Some(crontab) = crontab {
        write_program(&folder.join("crontab"), &format!("#!/bin/sh\n{crontab}\n"));
    }
    let path = format!("{}:/usr/bin:/bin", folder.display());
    rig.home.set_env("PATH", path);
    asked
}

fn unit_file(rig: &Rig) -> PathBuf {
    let folder = rig.home.user_home().join(".config/systemd/user");
    let files: Vec<PathBuf> = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.into_iter().find(|path| path.extension().is_some_and(|e| e == "service")).unwrap_or(folder.join("none"))
}

#[test]
fn a_unit_is_installed_shown_and_removed() {
    let mut rig = Rig::new("").hostile("ready");
    let asked = with_programs(&mut rig, "exit 0", None);
    let options = ["-w", "/", "-p", "an app", "--prompt", "100% \"sure\"\nreally"];
    let shown = service(&rig, &[&["show"], options.as_slice()].concat());
    assert!(!unit_file(&rig).exists(), "show writes nothing");
    let shown = said(&shown.stdout);
    assert!(
        shown.contains("\"--workdir\" \"/\" \"--project\" \"an app\" \"--prompt\" \"100%% \\\"sure\\\"\\nreally\"\n"),
        "{shown}"
    );
    let home = format!("Environment=\"AUTOPILOT_HOME={}\"\n", rig.home.path().display());
    assert!(shown.contains(&home), "{shown}");

    let output = service(&rig, &[&["install"], options.as_slice()].concat());
    assert!(output.status.success(), "{}", said(&output.stderr));
    let unit = unit_file(&rig);
    let name = unit.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(&unit).unwrap(), shown);
    let expected = format!(
        "systemctl --user show-environment\nsystemctl --user daemon-reload\nsystemctl --user enable --now {name}\n"
    );
    assert_eq!(fs::read_to_string(&asked).unwrap(), expected);
    assert!(said(&output.stdout).starts_with(&format!("Wrote {}\nEnabled and started\n", unit.display())));
    // Again: its own file is replaced.
    assert!(service(&rig, &["install"]).status.success());
    assert_ne!(fs::read_to_string(&unit).unwrap(), shown);

    fs::remove_file(&asked).unwrap();
    let output = service(&rig, &["uninstall"]);
    assert_eq!(said(&output.stdout), format!("Removed {}\nStopped and disabled\n", unit.display()));
    let expected = format!(
        "systemctl --user show-environment\nsystemctl --user disable --now {name}\nsystemctl --user daemon-reload\n"
    );
    assert_eq!(fs::read_to_string(&asked).unwrap(), expected);
    let output = service(&rig, &["uninstall"]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(said(&output.stderr), format!("error: nothing is installed: there is no {}\n", unit.display()));
}

/// What somebody else wrote stays, a link that masks the unit included.
#[test]
fn what_others_wrote_is_not_touched() {
    let mut rig = Rig::new("").hostile("ready");
    with_programs(&mut rig, "exit 1", Some("exit 1"));
    assert!(service(&rig, &["install"]).status.success());
    let unit = unit_file(&rig);
    let own = "[Service]\nExecStart=/my/own\n";
    fs::write(&unit, own).unwrap();
    for action in ["install", "uninstall"] {
        let output = service(&rig, &[action]);
        assert_eq!(output.status.code(), Some(5));
        assert!(said(&output.stderr).contains("was not written by this command\nhint: "), "{}", said(&output.stderr));
        assert_eq!(fs::read_to_string(&unit).unwrap(), own);
    }
    fs::remove_file(&unit).unwrap();
    std::os::unix::fs::symlink("/dev/null", &unit).unwrap();
    assert_eq!(service(&rig, &["install"]).status.code(), Some(5));
    let output = service(&rig, &["install", "--force"]);
    assert!(output.status.success());
    assert!(unit.symlink_metadata().unwrap().is_file());
    // Nobody to obey: what to do is said.
    let stdout = said(&output.stdout);
    let name = unit.file_name().unwrap().to_str().unwrap();
    assert!(stdout.contains(&format!("  systemctl --user enable --now {name}\n")), "{stdout}");
    assert!(service(&rig, &["uninstall"]).status.success());
    assert!(!unit.exists());
}

#[test]
fn bad_input_is_explained() {
    let mut rig = Rig::new("").hostile("ready");
    with_programs(&mut rig, "case $2 in enable) echo no such luck >&2; exit 1;; esac", Some("echo broken >&2; exit 1"));
    for (arguments, code, expected) in [
        (["service", ""].as_slice(), 2, "a value is required for '<ACTION>'"),
        (&["service"], 2, "<ACTION>"),
        (&["service", "remove"], 2, "[possible values: install, uninstall, show]"),
        (&["service", "install"], 1, "enable --now"),
        (&["service", "install", "--cron"], 1, "error: crontab -l failed: broken\n"),
        (&["service", "install", "-c", "/nonexistent/file"], 5, "error: "),
        (&["upgrade", "one", "two"], 2, "unexpected argument 'two'"),
        (&["stop", "--keep"], 2, "a similar argument exists: '--keep-worker'"),
        (&["upgrade"], 3, "no daemon answers"),
        (&["stop", "--keep-worker"], 3, "no daemon answers"),
    ] {
        let output = rig.home.autopilotd(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output.stderr));
        assert!(said(&output.stderr).contains(expected), "{arguments:?}: {}", said(&output.stderr));
    }
    let odd: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(b"/tmp/\xff".to_vec());
    rig.home.set_env("AUTOPILOT_CLAUDE", odd);
    let output = service(&rig, &["show"]);
    assert!(said(&output.stderr).contains("AUTOPILOT_CLAUDE is not UTF-8"), "{}", said(&output.stderr));
}

/// systemd itself reads the unit, whatever is in its paths. Without systemd there is nobody to ask: the snapshots of
/// `service::tests` are what is left then.
#[test]
fn systemd_understands_the_unit() {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        eprintln!("SKIPPED: systemd-analyze is not here");
        return;
    }
    let mut rig = Rig::new("").hostile("ready");
    with_programs(&mut rig, "exit 1", None);
    let odd = rig.home.temporary().join("o d%d \"q\" $HOME 'x' \\n");
    let for_programs = rig.home.temporary().join("o d%d $HOME é ; ");
    fs::create_dir(&odd).unwrap();
    fs::create_dir(&for_programs).unwrap();
    let program = for_programs.join("autopilotd");
    fs::copy(&rig.home.binaries().autopilotd, &program).unwrap();
    for program in [&rig.home.binaries().autopilotd, &program] {
        let mut command = rig.home.command(program);
        command.args(["service", "show", "--prompt", "a ; b % $x \\ \"c\"\nd", "-w"]).arg(&odd);
        let unit = command.output().unwrap();
        assert!(unit.status.success(), "{}", said(&unit.stderr));
        let file = rig.home.temporary().join("autopilotd.service");
        fs::write(&file, &unit.stdout).unwrap();
        let mut command = rig.home.command("/usr/bin/systemd-analyze");
        command.args(["verify", "--user", "--man=no", "--recursive-errors=no"]).arg(&file);
        command.env("XDG_RUNTIME_DIR", rig.home.temporary());
        let output = command.output().unwrap();
        let text = said(&output.stderr);
        let about_us: Vec<&str> = text.lines().filter(|line| line.contains("autopilotd")).collect();
        assert!(output.status.success() && about_us.is_empty(), "{text}\n{}", said(&unit.stdout));
    }
}

/// The crontab's line starts a daemon once, as often as it is run; a shim that is alone is not taken for a daemon.
#[test]
fn the_crontab_entry_starts_one_daemon() {
    let mut rig = Rig::new("").hostile("ready");
    let table = rig.home.temporary().join("crontab");
    let crontab = format!(
        "case $1 in -l) test -e {0} && cat {0} || {{ echo no crontab for ada >&2; exit 1; }};; *) cat \"$1\" > {0};; esac",
        table.display()
    );
    with_programs(&mut rig, "exit 1", Some(&crontab));
    fs::write(&table, "0 1 * * * backup\n").unwrap();
    let config = rig.config().display().to_string();
    for _ in 0..2 {
        let output = service(&rig, &["install", "--cron", "-c", &config]);
        assert!(output.status.success(), "{}", said(&output.stderr));
    }
    let entries = fs::read_to_string(&table).unwrap();
    assert_eq!((entries.lines().count(), entries.lines().next()), (2, Some("0 1 * * * backup")), "{entries}");
    let script = rig.home.path().join("start-daemon.sh");
    assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o700);
    let entry = entries.lines().last().unwrap();
    let command = entry.strip_prefix("*/5 * * * * ").unwrap().replace("\\%", "%");
    let cron = || {
        let mut shell = rig.home.command("/bin/sh");
        // As cron does: with hardly any environment.
        shell
            .env_clear()
            .env("TESTKIT_ID", rig.home.id())
            .env("HOME", rig.home.user_home())
            .env("PATH", "/usr/bin:/bin");
        shell.env("HOSTILE", "ready").env("HOSTILE_STAMP", rig.home.user_home().join("stamps"));
        shell.args(["-c", &command]);
        rig.home.start("cron", shell)
    };
    let mut first = cron();
    let worker = rig.home.wait_until("a worker is ready", DEADLINE, || {
        let status = rig.home.status()?;
        (status["worker_ready"] == true).then(|| pid(&status))
    });
    let daemon = rig.status()["daemon_pid"].clone();
    // Again, with and without the look for a daemon: harmless.
    assert_eq!(cron().wait_for_code(DEADLINE), 0);
    let mut second = rig.home.start("second", rig.home.command(&script));
    assert_eq!(second.wait_for_code(DEADLINE), 4);
    let log = fs::read_to_string(rig.home.path().join("autopilotd.log")).unwrap();
    assert!(log.contains("error: autopilotd already runs for this home"), "{log}");

    // Only the shim and the worker are left: no process of the daemon's name.
    let daemon = i32::try_from(daemon.as_i64().unwrap()).unwrap();
    rig.kill(daemon);
    first.wait(DEADLINE);
    let named = |name: &str| {
        let output = rig.home.command("pgrep").arg(name).output().unwrap();
        let pids: Vec<i32> = said(&output.stdout).lines().filter_map(|line| line.parse().ok()).collect();
        let ours = rig.home.processes();
        pids.into_iter().filter(|pid| ours.iter().any(|process| process.pid == *pid)).collect::<Vec<i32>>()
    };
    rig.home.wait_until("it is gone", DEADLINE, || (!vitals::is_alive(daemon)).then_some(()));
    assert_eq!((named("autopilotd"), named("autopilot-shim")), (vec![], vec![shim_of(worker)]));
    let mut third = cron();
    rig.home.wait_until("a daemon again", DEADLINE, || rig.home.status());
    let status = rig.status();
    assert_eq!((pid(&status), rig.starts()), (worker, 1), "the same worker");
    let daemon = i32::try_from(status["daemon_pid"].as_i64().unwrap()).unwrap();
    assert_eq!(named("autopilotd"), [daemon]);
    assert!(service(&rig, &["uninstall", "--cron"]).status.success());
    assert_eq!((fs::read_to_string(&table).unwrap().as_str(), script.exists()), ("0 1 * * * backup\n", false));
    rig.ask("stop");
    third.wait(DEADLINE);
}

/// A supervisor's socket.
#[derive(Debug)]
struct Listener(UnixDatagram);

impl Listener {
    fn next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        self.0.recv(&mut buffer).ok().map(|count| said(&buffer[..count]))
    }

    /// Waits for a message with this line; all messages until then.
    fn until(&self, wanted: &str) -> Vec<String> {
        self.0.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let begun = Instant::now();
        let mut all = Vec::new();
        loop {
            all.extend(self.next());
            if all.last().is_some_and(|message| message.lines().any(|line| line.starts_with(wanted))) {
                return all;
            }
            assert!(begun.elapsed() < DEADLINE, "no {wanted} in {all:#?}");
        }
    }
}

/// By path and by abstract name.
fn listeners(rig: &Rig) -> [(String, Listener); 2] {
    let path = rig.home.temporary().join("systemd.sock");
    let name = format!("autopilot-test-{}", rig.home.id());
    let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    [
        (path.display().to_string(), Listener(UnixDatagram::bind(&path).unwrap())),
        (format!("@{name}"), Listener(by_name)),
    ]
}

#[test]
fn a_supervisor_of_the_daemon_is_told_what_it_wants_to_know() {
    let mut rig = Rig::new("initial_backoff_ms = 60000").hostile("ready");
    for (address, systemd) in listeners(&rig) {
        rig.home.set_env("NOTIFY_SOCKET", &address);
        rig.home.set_env("WATCHDOG_USEC", "300000");
        let daemon = rig.start();
        let worker = rig.ready_worker();
        let ready = format!("READY=1\nMAINPID={}\nSTATUS=Worker starting, 0 restarts", daemon.pid());
        assert_eq!(systemd.until("READY=1").last(), Some(&ready));
        systemd.until(&format!("STATUS=Worker running, PID {worker}, 0 restarts"));
        // What the daemon got is not what its worker gets.
        let own = rig.home.path().join("workers/main/notify.sock").display().to_string();
        assert_eq!(vitals::environment(worker, "NOTIFY_SOCKET"), Some(own));
        assert_eq!(vitals::environment(worker, "WATCHDOG_USEC").as_deref(), Some("300000000"));
        let begun = Instant::now();
        for _ in 0..6 {
            systemd.until("WATCHDOG=1");
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(550), "six signs of life in {took:?}: more often than it was asked for");

        let output = rig.home.autopilotd(["upgrade"]);
        assert!(output.status.success(), "{}", said(&output.stderr));
        let reloading = systemd.until("RELOADING=1").pop().unwrap();
        assert!(reloading.lines().nth(1).unwrap().starts_with("MONOTONIC_USEC="), "{reloading}");
        let ready = format!("READY=1\nMAINPID={}\nSTATUS=Worker running, PID {worker}, 0 restarts", daemon.pid());
        assert_eq!(systemd.until("READY=1").last(), Some(&ready));
        systemd.until("WATCHDOG=1");
        rig.kill(worker);
        systemd.until("STATUS=Worker restarting, 0 restarts: the worker ended: killed by SIGKILL");
        rig.finish(daemon);
        systemd.until("STOPPING=1");
    }
}

/// For another process, or without a time: no sign of life, and no wake-up for one.
#[test]
fn a_watchdog_of_somebody_else_is_not_fed() {
    let mut rig = Rig::new("stall_timeout_ms = 0").hostile("ready");
    let [(address, systemd), _] = listeners(&rig);
    rig.home.set_env("NOTIFY_SOCKET", &address);
    for (usec, pid) in [("50000", Some("1")), ("0", None), ("nonsense", None), ("", None)] {
        rig.home.set_env("WATCHDOG_USEC", usec);
        rig.home.remove_env("WATCHDOG_PID");
        pid.iter().for_each(|pid| rig.home.set_env("WATCHDOG_PID", pid));
        let daemon = rig.start();
        let worker = rig.ready_worker();
        assert_eq!(vitals::environment(worker, "WATCHDOG_USEC"), None);
        assert_eq!(vitals::environment(worker, "WATCHDOG_PID"), None);
        let mut all = systemd.until("STATUS=Worker running");
        rig.finish(daemon);
        all.extend(systemd.until("STOPPING=1"));
        assert!(all.iter().all(|message| !message.contains("WATCHDOG")), "{usec:?}: {all:?}");
    }
}

/// As systemd does with `KillMode=process` and `Restart=always`: only the daemon is killed, by whatever signal, and the same
/// command is run again.
#[test]
fn a_crash_under_systemd_leaves_the_worker_alive() {
    let mut rig = Rig::new("").hostile("ready");
    let [(address, systemd), _] = listeners(&rig);
    rig.home.set_env("NOTIFY_SOCKET", &address);
    let mut daemon = rig.start();
    let worker = rig.ready_worker();
    systemd.until("STATUS=Worker running");
    for signal in [testkit::home::Signal::KILL, testkit::home::Signal::ABORT, testkit::home::Signal::QUIT] {
        daemon.signal(signal);
        daemon.wait(DEADLINE);
        daemon = rig.start();
        let ready = format!("READY=1\nMAINPID={}\nSTATUS=Worker running, PID {worker}, 0 restarts", daemon.pid());
        assert_eq!(systemd.until("READY=1").last(), Some(&ready));
        assert!(vitals::is_alive(worker) && rig.starts() == 1);
    }
    let shown = said(&service(&rig, &["show"]).stdout);
    for line in ["Type=notify", "KillMode=process", "Restart=always", "WatchdogSec=60", "Delegate=yes"] {
        assert!(shown.lines().any(|shown| shown == line), "{line}");
    }
    rig.finish(daemon);
}
