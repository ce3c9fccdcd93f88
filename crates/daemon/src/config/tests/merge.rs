//! Who has the last word, and what a file means.

use super::super::{Containment, Origin, Setting, WorkerCommand, config_path, home_path, load};
use super::super::{Content, Environment, check_working_dir, keys, read};
use super::{SAMPLE, complaints, inputs, loaded};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn from_file<T>(value: T, line: usize) -> Setting<T> {
    let path = Arc::from(Path::new("/home/ada/.autopilot/daemon.toml"));
    Setting::new(value, Origin::File { path, line })
}

#[test]
fn the_specifications_sample_is_accepted_as_it_is() {
    let loaded = loaded(SAMPLE);
    let config = loaded.config;
    let path = PathBuf::from("/home/ada/.autopilot/bin/autopilot");
    assert_eq!(config.worker_command, from_file(Some(WorkerCommand::Binary { path }), 4));
    assert_eq!(config.job.working_dir, from_file(PathBuf::from("/home/ada/code/myproject"), 7));
    assert_eq!(config.job.project, from_file(Some("myproject".to_owned()), 10));
    assert_eq!(config.job.model, from_file("sonnet".to_owned(), 13));
    assert_eq!(config.job.max_budget, from_file(0.0, 16));
    assert_eq!(config.job.max_turns, from_file(99_999, 17));
    assert_eq!(config.memory.min_available_bytes, from_file(2_147_483_648, 21));
    assert_eq!(config.memory.critical_threshold_bytes, from_file(1_073_741_824, 22));
    assert_eq!(config.memory.poll_interval_ms, from_file(5_000, 23));
    assert_eq!(config.memory.node_kill_threshold_bytes, from_file(524_288_000, 24));
    assert_eq!(config.restart.initial_backoff_ms, from_file(1_000, 28));
    assert_eq!(config.restart.max_backoff_ms, from_file(300_000, 29));
    assert_eq!(config.restart.backoff_multiplier, from_file(2.0, 30));
    assert_eq!(config.restart.success_threshold_ms, from_file(60_000, 31));
    assert_eq!(config.restart.max_consecutive_restarts, from_file(10, 32));
    assert_eq!(config.restart.stall_timeout_ms, from_file(300_000, 33));
    assert_eq!(config.restart.recovery_cooldown_ms, from_file(600_000, 34));

    let [warning] = loaded.warnings.as_slice() else {
        panic!("one warning: {:?}", loaded.warnings);
    };
    assert_eq!(
        warning.to_string(),
        "/home/ada/.autopilot/daemon.toml:7: working_dir, project, model, max_budget, max_turns stand below [worker_command]"
    );
    assert_eq!(warning.hint(), "accepted; better move them above the first [section]");
}

#[test]
fn the_defaults_are_the_specifications() {
    let sample = loaded(SAMPLE).config;
    let config = loaded("").config;
    assert_eq!(config.worker_command, Setting::new(None, Origin::Default));
    assert_eq!(config.job.working_dir.value, Path::new("/srv/here"));
    assert_eq!(config.job.project.value, None);
    assert_eq!(config.job.prompt.value, None);
    assert_eq!(config.job.containment.value, Containment::Auto);
    assert_eq!(config.job.model.value, sample.job.model.value);
    assert_eq!(config.job.max_budget.value, sample.job.max_budget.value);
    assert_eq!(config.job.max_turns.value, sample.job.max_turns.value);
    let (memory, restart) = (&config.memory, &config.restart);
    assert_eq!(memory.min_available_bytes.value, 2_147_483_648);
    assert_eq!(memory.critical_threshold_bytes.value, 1_073_741_824);
    assert_eq!(memory.poll_interval_ms.value, 5_000);
    assert_eq!(memory.node_kill_threshold_bytes.value, 524_288_000);
    assert_eq!(memory.kill_names.value, ["node", "claude", "bun", "deno"]);
    assert_eq!(memory.swarm_kill_threshold_bytes.value, 0);
    assert_eq!(restart.initial_backoff_ms.value, 1_000);
    assert_eq!(restart.max_backoff_ms.value, 300_000);
    assert_eq!(restart.backoff_multiplier.value, 2.0);
    assert_eq!(restart.success_threshold_ms.value, 60_000);
    assert_eq!(restart.max_consecutive_restarts.value, 10);
    assert_eq!(restart.stall_timeout_ms.value, 300_000);
    assert_eq!(restart.recovery_cooldown_ms.value, 600_000);
    assert_eq!(restart.stop_timeout_ms.value, 10_000);
    assert_eq!(restart.stall_grace_ms.value, 120_000);
    assert_eq!(restart.max_restarts_per_hour.value, 30);
    assert_eq!(restart.max_stall_kills_per_hour.value, 3);
    assert_eq!(config.output.max_file_bytes.value, 10 << 20);
    assert_eq!(config.output.max_files.value, 5);
}

#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let mut inputs = inputs("model = \"opus\"\n[restart]\nstall_timeout_ms = 1\nrecovery_cooldown_ms = 2\n");
    let config = load(&inputs).expect("file").config;
    assert_eq!(config.job.model, from_file("opus".to_owned(), 1));
    assert_eq!(config.restart.stall_timeout_ms, from_file(1, 3));

    inputs.flags.model = Some("haiku".to_owned());
    inputs.flags.max_budget = Some(2.5);
    inputs.flags.max_turns = Some(7);
    inputs.flags.prompt = Some("- do it".to_owned());
    inputs.flags.project = Some("p".to_owned());
    inputs.flags.workdir = Some("sub/./dir".into());
    inputs.environment.stall_timeout_ms = Some(" 60000 ".into());
    let config = load(&inputs).expect("all three").config;
    assert_eq!(config.job.model, Setting::new("haiku".to_owned(), Origin::Flag("--model")));
    assert_eq!(config.job.max_budget, Setting::new(2.5, Origin::Flag("--max-budget")));
    assert_eq!(config.job.max_turns, Setting::new(7, Origin::Flag("--max-turns")));
    assert_eq!(config.job.prompt, Setting::new(Some("- do it".to_owned()), Origin::Flag("--prompt")));
    assert_eq!(config.job.project, Setting::new(Some("p".to_owned()), Origin::Flag("--project")));
    assert_eq!(config.job.working_dir, Setting::new("/srv/here/sub/dir".into(), Origin::Flag("--workdir")));
    assert_eq!(config.restart.stall_timeout_ms, Setting::new(60_000, Origin::Env("AUTOPILOT_STALL_TIMEOUT_MS")));
    assert_eq!(config.restart.recovery_cooldown_ms, from_file(2, 4));
}

#[test]
fn a_wrong_line_counts_even_if_a_flag_overrides_it() {
    let mut inputs = inputs("model = 3");
    inputs.flags.model = Some("haiku".to_owned());
    assert_eq!(complaints(load(&inputs)), "daemon.toml:1: model wants text, found 3\n  write \"3\"");
}

#[test]
fn every_flag_and_variable_of_the_table_is_wired() {
    let mut all = inputs("");
    all.flags = super::super::Flags {
        workdir: Some("/a".into()),
        project: Some("a".to_owned()),
        model: Some("a".to_owned()),
        prompt: Some("a".to_owned()),
        max_budget: Some(1.0),
        max_turns: Some(1),
    };
    all.environment.worker_binary = Some("/w".into());
    all.environment.stall_timeout_ms = Some("1".into());
    all.environment.recovery_cooldown_ms = Some("1".into());
    let config = load(&all).expect("valid").config;
    for (key, setting) in keys().zip(&config.effective) {
        if let Some(flag) = key.flag {
            assert_eq!(setting.origin, Origin::Flag(flag), "{}", key.path);
        } else if let Some(env) = key.env {
            assert_eq!(setting.origin, Origin::Env(env), "{}", key.path);
        }
    }
}

#[test]
fn the_variable_for_the_binary_replaces_the_whole_section() {
    let mut inputs = inputs("worker_command = { type = \"Cargo\", manifest_path = \"/src/Cargo.toml\" }");
    let manifest_path = Some(PathBuf::from("/src/Cargo.toml"));
    let config = load(&inputs).expect("file").config;
    assert_eq!(config.worker_command, from_file(Some(WorkerCommand::Cargo { manifest_path }), 1));
    inputs.environment.worker_binary = Some("build/autopilot".into());
    let config = load(&inputs).expect("variable").config;
    let path = PathBuf::from("/srv/here/build/autopilot");
    assert_eq!(
        config.worker_command,
        Setting::new(Some(WorkerCommand::Binary { path }), Origin::Env("AUTOPILOT_WORKER_BINARY"))
    );
}

#[test]
fn a_type_may_be_left_out_where_it_is_clear() {
    let path = PathBuf::from("/x");
    assert_eq!(
        loaded("worker_command.path = \"/x\"").config.worker_command.value,
        Some(WorkerCommand::Binary { path })
    );
    let manifest_path = Some(PathBuf::from("/x"));
    assert_eq!(
        loaded("worker_command.manifest_path = \"/x\"").config.worker_command.value,
        Some(WorkerCommand::Cargo { manifest_path })
    );
    assert_eq!(loaded("[worker_command]\nmodel = \"opus\"").config.worker_command.value, None);
}

#[test]
fn a_default_follows_the_key_that_was_set_beyond_it() {
    let restart = loaded("restart.max_backoff_ms = 500").config.restart;
    assert_eq!(restart.initial_backoff_ms, Setting::new(500, Origin::Follows("max_backoff_ms")));
    let restart = loaded("restart.initial_backoff_ms = 900000").config.restart;
    assert_eq!(restart.max_backoff_ms, Setting::new(900_000, Origin::Follows("initial_backoff_ms")));
    let memory = loaded("memory.critical_threshold_bytes = 4294967296").config.memory;
    assert_eq!(memory.min_available_bytes, Setting::new(4 << 30, Origin::Follows("critical_threshold_bytes")));
    // Switching one band off leaves the other alone.
    let memory = loaded("memory.min_available_bytes = 0").config.memory;
    assert_eq!(memory.critical_threshold_bytes, Setting::new(1 << 30, Origin::Default));
}

#[test]
fn a_whole_number_will_do_where_a_fraction_may_stand() {
    assert_eq!(loaded("max_budget = 5").config.job.max_budget.value, 5.0);
    assert_eq!(loaded("restart.backoff_multiplier = 3").config.restart.backoff_multiplier.value, 3.0);
    assert_eq!(loaded("max_turns = 0x10").config.job.max_turns.value, 16);
    assert_eq!(loaded("max_turns = 1_000").config.job.max_turns.value, 1_000);
    assert_eq!(loaded("max_turns = 9223372036854775807").config.job.max_turns.value, i64::MAX as u64);
    assert!(loaded("max_budget = -0.0").config.job.max_budget.value.is_sign_positive());
}

#[test]
fn both_places_may_say_the_same() {
    let loaded = loaded(
        "model = \"opus\"\nstop_timeout_ms = 5\n[worker_command]\nmodel = \"opus\"\n[restart]\nstop_timeout_ms = 5\n",
    );
    assert_eq!(loaded.config.job.model, from_file("opus".to_owned(), 1));
    assert_eq!(loaded.config.restart.stop_timeout_ms, from_file(5, 6));
    assert_eq!(loaded.warnings.len(), 1);
    assert!(super::loaded("stop_timeout_ms = 5").warnings.is_empty());
}

#[test]
fn a_relative_path_in_the_file_starts_from_the_files_folder() {
    let dir = |text: &str| loaded(&format!("working_dir = \"{text}\"")).config.job.working_dir.value;
    assert_eq!(dir("code"), Path::new("/home/ada/.autopilot/code"));
    assert_eq!(dir("."), Path::new("/home/ada/.autopilot"));
    assert_eq!(dir("../code"), Path::new("/home/ada/.autopilot/../code"));
    assert_eq!(dir("/srv//code/"), Path::new("/srv/code"));
    assert_eq!(dir("~"), Path::new("/home/ada"));
    assert_eq!(dir("~//code"), Path::new("/home/ada/code"));
    assert_eq!(dir("./~"), Path::new("/home/ada/.autopilot/~"));
}

#[test]
fn a_tilde_without_a_home_is_an_error() {
    let mut inputs = inputs("working_dir = \"~/code\"");
    inputs.environment.user_home = None;
    assert_eq!(
        complaints(load(&inputs)),
        "daemon.toml:1: working_dir wants a path, found \"~/code\"\n  HOME is not set: write the whole path"
    );
}

#[test]
fn the_home_is_the_variables_or_the_users() {
    let cwd = Path::new("/srv");
    let at = |home: Option<&str>, user: Option<&str>| {
        let vars = [("AUTOPILOT_HOME", home), ("HOME", user)];
        let environment = Environment::from_lookup(|name| {
            vars.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.map(Into::into))
        });
        home_path(&environment, cwd).map_err(|problem| problem.to_string())
    };
    assert_eq!(at(None, Some("/home/ada")), Ok("/home/ada/.autopilot".into()));
    assert_eq!(at(Some(""), Some("/home/ada")), Ok("/home/ada/.autopilot".into()));
    assert_eq!(at(Some("/x"), Some("/home/ada")), Ok("/x".into()));
    assert_eq!(at(Some("x"), None), Ok("/srv/x".into()));
    assert_eq!(at(Some("~/x"), Some("/home/ada")), Ok("/home/ada/x".into()));
    assert_eq!(
        at(None, None),
        Err("neither AUTOPILOT_HOME nor HOME is set: no place for the daemon's files".to_owned())
    );
    assert_eq!(at(Some("~/x"), None), Err("AUTOPILOT_HOME: ~/x names no folder".to_owned()));
}

#[test]
fn files_are_read_as_they_are() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let home = dir.path();
    assert_eq!(read(config_path(None, home, home)).content, Content::Absent);
    fs::write(home.join("daemon.toml"), "\u{feff}model = \"opus\"\r\n").expect("write");
    let source = read(config_path(None, home, home));
    assert!(!source.required);
    let mut with_file = inputs("");
    with_file.file = source;
    assert_eq!(load(&with_file).expect("BOM and CRLF").config.job.model.value, "opus");

    for (name, content) in [("latin1", b"model = \"\xe9\"".to_vec()), ("huge", vec![b'#'; (1 << 20) + 1])] {
        fs::write(home.join(name), content).expect("write");
        let source = read(config_path(Some(Path::new(name)), home, home));
        assert!(source.required);
        assert!(matches!(source.content, Content::Unusable(_)), "{name}");
    }
    let mut with_folder = inputs("");
    with_folder.file = read(config_path(Some(home), home, home));
    let text = complaints(load(&with_folder));
    assert!(text.contains("cannot read it: it is a directory"), "{text}");
}

#[test]
fn a_missing_working_directory_is_named_with_its_line() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("write");
    let mut inputs = inputs("working_dir = \"/nowhere/at/all\"");
    let problem = check_working_dir(&load(&inputs).expect("valid").config).expect_err("missing");
    assert_eq!(
        problem.to_string(),
        "/home/ada/.autopilot/daemon.toml:1: working directory /nowhere/at/all: no such file or directory"
    );
    inputs.flags.workdir = Some(file.clone());
    let problem = check_working_dir(&load(&inputs).expect("valid").config).expect_err("a file");
    assert_eq!(problem.to_string(), format!("--workdir: working directory {}: not a directory", file.display()));
    inputs.flags.workdir = Some(dir.path().to_owned());
    check_working_dir(&load(&inputs).expect("valid").config).expect("there");
}
