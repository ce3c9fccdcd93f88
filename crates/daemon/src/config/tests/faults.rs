//! Each wrong setting, and the sentence that it earns.

use super::super::{Content, Fault, load};
use super::{complaints, inputs, loaded, refuses};

#[test]
fn a_wrong_type_names_line_key_and_fix() {
    for (line, expected) in [
        ("initial_backoff_ms = \"1s\"", "initial_backoff_ms wants milliseconds, found \"1s\"\n  write 1000"),
        (
            "initial_backoff_ms = \"soon\"",
            "initial_backoff_ms wants milliseconds, found \"soon\"\n  the default is 1000",
        ),
        ("initial_backoff_ms = 1000.0", "initial_backoff_ms wants milliseconds, found 1000.0\n  write 1000"),
        ("initial_backoff_ms = 1000.5", "initial_backoff_ms wants milliseconds, found 1000.5\n  the default is 1000"),
        ("initial_backoff_ms = true", "initial_backoff_ms wants milliseconds, found true\n  the default is 1000"),
        ("initial_backoff_ms = [1]", "initial_backoff_ms wants milliseconds, found [1]\n  the default is 1000"),
        (
            "initial_backoff_ms = 1979-05-27",
            "initial_backoff_ms wants milliseconds, found 1979-05-27\n  the default is 1000",
        ),
        ("backoff_multiplier = \"2\"", "backoff_multiplier wants a number, found \"2\"\n  write 2"),
        (
            "max_consecutive_restarts = \"10\"",
            "max_consecutive_restarts wants a whole number, found \"10\"\n  write 10",
        ),
    ] {
        refuses(&format!("[restart]\n{line}\n"), &format!("daemon.toml:2: {expected}"));
    }
    for (line, expected) in [
        ("model = 3", "model wants text, found 3\n  write \"3\""),
        ("working_dir = 3", "working_dir wants a path, found 3"),
        ("max_budget = \"$5\"", "max_budget wants dollars, found \"$5\"\n  write 5"),
        ("memory = 3", "memory is a section, found 3\n  write [memory] on a line of its own and its keys below it"),
        (
            "[[memory]]",
            "memory is a section, found [[memory]]\n  write [memory] on a line of its own and its keys below it",
        ),
        (
            "containment = \"cgroups2\"",
            "containment wants \"auto\", \"cgroup2\", \"cgroup1\", \"subreaper\" or \"group\", found \"cgroups2\"\n  write \"cgroup2\"",
        ),
        ("memory.kill_names = \"node\"", "kill_names wants a list of names, found \"node\"\n  write [\"node\"]"),
        (
            "memory.kill_names = [1]",
            "kill_names wants a list of names, found [1]\n  the default is [\"node\", \"claude\", \"bun\", \"deno\"]",
        ),
        (
            "memory.min_available_bytes = \"2 GB\"",
            "min_available_bytes wants bytes, found \"2 GB\"\n  write 2147483648",
        ),
    ] {
        refuses(line, &format!("daemon.toml:1: {expected}"));
    }
}

#[test]
fn a_number_out_of_range_names_the_range() {
    let to_limit = "to 31622400000 (366 d)";
    for (line, expected) in [
        (
            "restart.max_backoff_ms = -1",
            format!("max_backoff_ms wants milliseconds from 0 {to_limit}, found -1\n  the default is 300000"),
        ),
        (
            "restart.stop_timeout_ms = 31622400001",
            format!("stop_timeout_ms wants milliseconds from 0 {to_limit}, found 31622400001\n  the default is 10000"),
        ),
        (
            "restart.stall_timeout_ms = 99999999999999999999999999999999999999999",
            format!(
                "stall_timeout_ms wants milliseconds from 0 {to_limit}, found 999999999999999999999999999999999999999…\n  0 means off"
            ),
        ),
        (
            "restart.initial_backoff_ms = nan",
            format!("initial_backoff_ms wants milliseconds from 0 {to_limit}, found nan\n  the default is 1000"),
        ),
        (
            "memory.poll_interval_ms = 0",
            format!("poll_interval_ms wants milliseconds from 1 {to_limit}, found 0\n  the default is 5000"),
        ),
        (
            "restart.backoff_multiplier = 0.5",
            "backoff_multiplier wants a number from 1 to 1000, found 0.5\n  the default is 2.0".to_owned(),
        ),
        (
            "restart.backoff_multiplier = 0",
            "backoff_multiplier wants a number from 1 to 1000, found 0\n  the default is 2.0".to_owned(),
        ),
        (
            "restart.backoff_multiplier = nan",
            "backoff_multiplier wants a number from 1 to 1000, found nan\n  the default is 2.0".to_owned(),
        ),
        (
            "restart.backoff_multiplier = inf",
            "backoff_multiplier wants a number from 1 to 1000, found inf\n  the default is 2.0".to_owned(),
        ),
        (
            "max_budget = -1.0",
            "max_budget wants dollars from 0 to 1000000000, found -1.0\n  0 means no limit".to_owned(),
        ),
        ("max_budget = nan", "max_budget wants dollars from 0 to 1000000000, found nan\n  0 means no limit".to_owned()),
        (
            "max_budget = -inf",
            "max_budget wants dollars from 0 to 1000000000, found -inf\n  0 means no limit".to_owned(),
        ),
        (
            "max_turns = -1",
            "max_turns wants a whole number from 0 to 9223372036854775807, found -1\n  0 means no limit".to_owned(),
        ),
        (
            "restart.max_restarts_per_hour = 4294967296",
            "max_restarts_per_hour wants a whole number from 0 to 4294967295, found 4294967296\n  0 means off"
                .to_owned(),
        ),
        (
            "output.max_files = 0",
            "max_files wants a whole number from 1 to 1000, found 0\n  the default is 5".to_owned(),
        ),
    ] {
        refuses(line, &format!("daemon.toml:1: {expected}"));
    }
}

#[test]
fn zero_is_legal_for_delays_thresholds_and_limits() {
    for line in [
        "max_budget = 0",
        "max_turns = 0",
        "restart.initial_backoff_ms = 0",
        "restart.max_backoff_ms = 0",
        "restart.success_threshold_ms = 0",
        "restart.max_consecutive_restarts = 0",
        "restart.stall_timeout_ms = 0",
        "restart.recovery_cooldown_ms = 0",
        "restart.stop_timeout_ms = 0",
        "restart.stall_grace_ms = 0",
        "restart.max_restarts_per_hour = 0",
        "restart.max_stall_kills_per_hour = 0",
        "memory.min_available_bytes = 0",
        "memory.critical_threshold_bytes = 0",
        "memory.node_kill_threshold_bytes = 0",
        "memory.swarm_kill_threshold_bytes = 0",
    ] {
        loaded(line);
    }
}

#[test]
fn texts_that_cannot_be_arguments_are_refused() {
    for (line, expected) in [
        ("project = \"\"", "project wants text, found nothing\n  remove the line to have the default"),
        ("model = \"--yes\"", "model wants text that does not start with a dash, found \"--yes\""),
        ("model = \"a\\nb\"", "model wants text without control characters, found \"a\\nb\""),
        ("prompt = \"a\\u0000b\"", "prompt wants text without control characters, found \"a\\u0000b\""),
        (
            "working_dir = \"~bob/x\"",
            "working_dir wants a path, found \"~bob/x\"\n  only ~/ is understood: write the whole path",
        ),
    ] {
        refuses(line, &format!("daemon.toml:1: {expected}"));
    }
    loaded("prompt = \"\"\"\nfirst\n\tsecond\n\"\"\"");
    loaded(&format!("prompt = \"{}\"", "x".repeat(100_000)));
    let text = complaints(load(&inputs(&format!("prompt = \"{}\"", "x".repeat(100_001)))));
    assert!(text.contains("prompt wants text of at most 100000 bytes"), "{text}");
}

#[test]
fn an_unknown_name_comes_with_the_nearest_known_one() {
    for (line, expected) in [
        ("modle = \"x\"", "unknown key modle\n  write model"),
        ("colour = 1", "unknown key colour\n  `autopilotd config` shows every key"),
        ("stall_timeout_ms = 1", "unknown key stall_timeout_ms\n  stall_timeout_ms belongs under [restart]"),
        ("stall_timout_ms = 1", "unknown key stall_timout_ms\n  stall_timeout_ms belongs under [restart]"),
        ("restart.model = 1", "unknown key model in [restart]\n  model belongs above the first [section]"),
        ("memory.pol_interval_ms = 1", "unknown key pol_interval_ms in [memory]\n  write poll_interval_ms"),
        ("[memroy]\nx = 1", "unknown section [memroy]\n  write [memory]"),
        ("[telemetry]\nx = 1", "unknown section [telemetry]\n  `autopilotd config` shows every key"),
        ("worker_command.typ = \"Binary\"", "unknown key typ in [worker_command]\n  write type"),
    ] {
        refuses(line, &format!("daemon.toml:1: {expected}"));
    }
}

#[test]
fn broken_syntax_names_the_line() {
    refuses(
        "model = \"opus\"\nproject = demo\n",
        "daemon.toml:2: string values must be quoted, expected literal string\n  put text between double quotes: key = \"text\"",
    );
    let text = complaints(load(&inputs("model = \"opus\"\n[memory\npoll_interval_ms = 5\n")));
    assert!(text.starts_with("daemon.toml:2: "), "{text}");
    let text = complaints(load(&inputs("model = \"a\"\nmodel = \"b\"\n")));
    assert_eq!(text, "daemon.toml:2: duplicate key model\n  keep one of them");
}

#[test]
fn every_fault_of_a_file_is_named_in_the_order_of_its_lines() {
    refuses(
        "modle = \"x\"\n[restart]\nstall_timeout_ms = \"5m\"\nmax_backoff_ms = -1\n[memory]\npoll_interval_ms = 0\n",
        "daemon.toml:1: unknown key modle\n  write model\n\
         daemon.toml:3: stall_timeout_ms wants milliseconds, found \"5m\"\n  write 300000\n\
         daemon.toml:4: max_backoff_ms wants milliseconds from 0 to 31622400000 (366 d), found -1\n  the default is 300000\n\
         daemon.toml:6: poll_interval_ms wants milliseconds from 1 to 31622400000 (366 d), found 0\n  the default is 5000",
    );
}

#[test]
fn a_file_of_nothing_but_faults_is_cut_short() {
    let text: String = (0..500).map(|n| format!("key{n} = 1\n")).collect();
    let problems = load(&inputs(&text)).expect_err("500 unknown keys");
    assert_eq!(problems.0.len(), 50);
}

#[test]
fn a_wrong_order_names_both_values() {
    refuses(
        "[restart]\ninitial_backoff_ms = 5000\nmax_backoff_ms = 1000\n",
        "daemon.toml:2: initial_backoff_ms (5000) is greater than max_backoff_ms (1000)\n  raise max_backoff_ms, or lower initial_backoff_ms to at most 1000",
    );
    refuses(
        "[memory]\nmin_available_bytes = 1\ncritical_threshold_bytes = 2\n",
        "daemon.toml:3: critical_threshold_bytes (2) is greater than min_available_bytes (1)\n  raise min_available_bytes, or lower critical_threshold_bytes to at most 1",
    );
    // No second complaint about a value that is wrong already.
    refuses(
        "restart = { initial_backoff_ms = 900000, max_backoff_ms = \"1s\" }",
        "daemon.toml:1: max_backoff_ms wants milliseconds, found \"1s\"\n  write 1000",
    );
}

#[test]
fn one_key_with_two_values_names_both_lines() {
    refuses(
        "model = \"opus\"\n[worker_command]\ntype = \"Binary\"\npath = \"/x\"\nmodel = \"sonnet\"\n",
        "daemon.toml:5: model is set twice: \"sonnet\" and, on line 1, \"opus\"\n  keep one of them",
    );
    refuses(
        "stop_timeout_ms = 1\n[restart]\nstop_timeout_ms = 2\n",
        "daemon.toml:3: stop_timeout_ms is set twice: 2 and, on line 1, 1\n  keep one of them",
    );
}

#[test]
fn a_worker_command_must_make_sense() {
    for (line, expected) in [
        (
            "worker_command = { type = \"Binary\" }",
            "worker_command of type \"Binary\" has no path\n  write path = \"~/.autopilot/bin/autopilot\" below it",
        ),
        (
            "worker_command = { type = \"Cargo\", path = \"/x\" }",
            "worker_command: path does not go with type \"Cargo\"\n  write type = \"Binary\", or remove path",
        ),
        (
            "worker_command = { type = \"Binary\", path = \"/x\", manifest_path = \"/y\" }",
            "worker_command: manifest_path does not go with type \"Binary\"\n  write type = \"Cargo\", or remove manifest_path",
        ),
        (
            "worker_command = { path = \"/x\", manifest_path = \"/y\" }",
            "worker_command has both path and manifest_path, and no type\n  write type = \"Binary\" and remove manifest_path",
        ),
        (
            "worker_command = { type = \"binary\", path = \"/x\" }",
            "type wants \"Binary\" or \"Cargo\", found \"binary\"\n  write \"Binary\"",
        ),
        (
            "worker_command = \"/x\"",
            "worker_command is a section, found \"/x\"\n  write [worker_command] on a line of its own and its keys below it",
        ),
        ("worker_command = { type = \"Binary\", path = 5 }", "path wants a path, found 5"),
    ] {
        refuses(line, &format!("daemon.toml:1: {expected}"));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_even_by_default() {
    let mut inputs = inputs("");
    inputs.file.content = Content::Unusable(Fault::Unreadable { reason: "permission denied".to_owned() });
    assert_eq!(
        complaints(load(&inputs)),
        "daemon.toml: cannot read it: permission denied\n  make it a file that you may read"
    );
}

#[test]
fn an_absent_file_is_an_error_only_if_it_was_asked_for() {
    let mut inputs = inputs("");
    inputs.file.content = Content::Absent;
    let config = load(&inputs).expect("no file is fine").config;
    assert!(!config.file_exists);
    inputs.file.required = true;
    assert_eq!(complaints(load(&inputs)), "daemon.toml: no such file\n  create it, or leave --config out");
}

#[test]
fn a_wrong_variable_is_named_by_its_name() {
    for (value, expected) in [
        ("5m", "AUTOPILOT_STALL_TIMEOUT_MS wants milliseconds, found \"5m\"\n  AUTOPILOT_STALL_TIMEOUT_MS=300000"),
        ("-5", "AUTOPILOT_STALL_TIMEOUT_MS wants milliseconds from 0 to 31622400000 (366 d), found -5\n  0 means off"),
        (
            "1e3",
            "AUTOPILOT_STALL_TIMEOUT_MS wants milliseconds, found \"1e3\"\n  AUTOPILOT_STALL_TIMEOUT_MS=300000 is the default",
        ),
        (
            "nan",
            "AUTOPILOT_STALL_TIMEOUT_MS wants milliseconds, found \"nan\"\n  AUTOPILOT_STALL_TIMEOUT_MS=300000 is the default",
        ),
    ] {
        let mut inputs = inputs("");
        inputs.environment.stall_timeout_ms = Some(value.into());
        assert_eq!(complaints(load(&inputs)), expected);
    }
}

#[test]
fn a_wrong_flag_is_named_by_its_name() {
    let mut inputs = inputs("");
    inputs.flags.max_budget = Some(f64::NAN);
    inputs.flags.project = Some(String::new());
    assert_eq!(
        complaints(load(&inputs)),
        "--project wants text, found nothing\n  leave it out to have the default\n\
         --max-budget wants dollars from 0 to 1000000000, found NaN\n  0 means no limit"
    );
}
