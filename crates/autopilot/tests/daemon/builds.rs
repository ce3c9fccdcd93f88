//! Worker binaries and cargo: a source that does not build, `install --build`, and the last resort.

use std::fs;
use std::path::PathBuf;

use testkit::home::DEADLINE;

use crate::binaries::{WELL, binaries_of, build, copy_over, events, proven};
use crate::rig::{Rig, last_exit};

/// A crate that does not compile, at the working directory.
fn break_the_source(rig: &Rig) {
    let folder = rig.home.repository();
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = "[package]\nname = \"autopilot\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n";
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/main.rs"), "fn main() { let broken: u32 = \"words\"; }\n").unwrap();
}

/// Where the toolchain is: the home's own user has none.
fn use_toolchain(rig: &mut Rig) {
    let user = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    for (name, folder) in [("RUSTUP_HOME", ".rustup"), ("CARGO_HOME", ".cargo")] {
        rig.home.set_env(name, std::env::var_os(name).unwrap_or_else(|| user.join(folder).into()));
    }
    rig.home.set_env("CARGO_NET_OFFLINE", "true");
}

/// The postmortem: the worker breaks the source that it works on, and dies of it.
#[test]
fn a_worker_that_breaks_its_own_source_is_restarted_within_a_second() {
    let (mut rig, _, daemon, good) = proven("", &[WELL]);
    use_toolchain(&mut rig);
    break_the_source(&rig);
    let built = rig.home.command("cargo").args(["build", "--quiet"]).output().unwrap();
    assert!(!built.status.success(), "the source is broken");
    let first = rig.ready_worker();
    let killed = std::time::Instant::now();
    rig.kill(first);
    let status = rig.wait_for("the next one", |status| status["worker_ready"] == true && status["worker_pid"] != first);
    assert!(killed.elapsed().as_millis() < 1_000 + 10, "took {:?}", killed.elapsed());
    assert_eq!(status["worker_sha256"], good.as_str());
    // What does not build takes nobody's place.
    let said = rig.home.autopilotd(["install", "--build"]);
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(error.contains("error: build failed: error[E0308]: mismatched types\nhint: "), "{error}");
    assert_eq!(said.status.code(), Some(6));
    assert_eq!(binaries_of(&rig).len(), 1);
    let mended = "fn main() { println!(\"autopilot 9.9.9\"); }\n";
    fs::write(rig.home.repository().join("src/main.rs"), mended).unwrap();
    let said = rig.home.autopilotd(["install", "--build"]);
    assert!(said.status.success(), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("Installed autopilot 9.9.9, copy "), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("Compiling autopilot"), "its progress is shown");
    rig.finish(daemon);
}

/// By the flag, else here, else where the settings say that the worker works.
#[test]
fn install_builds_where_it_is_told_to() {
    let mut rig = Rig::new("");
    use_toolchain(&mut rig);
    let crate_at = |name: &str, version: &str| {
        let folder = rig.home.user_home().join(name);
        fs::create_dir_all(folder.join("src")).unwrap();
        let manifest = "[package]\nname = \"autopilot\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n";
        fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        fs::write(folder.join("src/main.rs"), format!("fn main() {{ println!(\"autopilot {version}\"); }}")).unwrap();
        folder
    };
    let (flag, here, settings) = (crate_at("a", "1"), crate_at("b", "2"), crate_at("c", "3"));
    let config = rig.home.user_home().join("built.toml");
    fs::write(&config, format!("working_dir = \"{}\"\n", settings.display())).unwrap();
    let nowhere = rig.home.user_home();
    for (cwd, with_flag, version) in [(&here, true, "1"), (&here, false, "2"), (&nowhere, false, "3")] {
        let mut command = rig.home.autopilotd_command();
        command.arg("--config").arg(&config).current_dir(cwd);
        if with_flag {
            command.arg("-w").arg(&flag);
        }
        let said = rig
            .home
            .start("install", {
                command.args(["install", "--build"]);
                command
            })
            .into_output(DEADLINE);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.starts_with(&format!("Installed autopilot {version}, copy ")), "{version}: {said:?}");
        assert!(!String::from_utf8_lossy(&said.stderr).contains("--workdir"), "{said:?}");
    }
}

/// It is not built in place of a binary that there was, in this daemon's time or in an earlier one's.
#[test]
fn a_home_that_had_a_binary_never_builds_one() {
    let mut rig = Rig::new("initial_backoff_ms = 60000\nmax_backoff_ms = 60000\n").hostile(WELL);
    rig.home.remove_env("AUTOPILOT_WORKER_BINARY");
    let folder = rig.home.path().join("bin");
    fs::create_dir_all(&folder).unwrap();
    copy_over(&folder.join("autopilot"), &build("good"));
    let daemon = rig.start();
    rig.ready_worker();
    fs::remove_dir_all(&folder).unwrap();
    rig.ask("restart-worker");
    rig.wait_for("it runs from memory", |status| {
        status["worker_ready"] == true && status["worker_standing"].is_string()
    });
    rig.finish(daemon);
    fs::remove_dir_all(&folder).unwrap();
    let daemon = rig.start();
    let status = rig.wait_for_state("restarting");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("the store of its copies") && reason.contains("is gone"), "{reason}");
    rig.finish(daemon);
}

/// Without any binary the worker is built; a build that fails is named.
#[test]
fn a_failing_build_is_its_own_reason() {
    let mut rig = Rig::new("initial_backoff_ms = 60000\n");
    rig.home.remove_env("AUTOPILOT_WORKER_BINARY");
    use_toolchain(&mut rig);
    break_the_source(&rig);
    let daemon = rig.start();
    let status = rig.wait_for("the build failed", |status| status["worker_status"] == "restarting");
    assert_eq!(status["reason"], "build failed: error[E0308]: mismatched types");
    assert_eq!(last_exit(&status), "build failed: error[E0308]: mismatched types");
    assert_eq!(events(&rig, "build-failed").len(), 1);
    rig.finish(daemon);
}
