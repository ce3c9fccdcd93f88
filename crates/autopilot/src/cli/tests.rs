//! Command lines in, values or sentences out.

use super::daemon::{Binaries, Command, Install, Invocation, Show};
use super::report::Exit;
use super::worker::{Agent, Demo, Run};
use super::{daemon, worker};
use ::daemon::config::Flags;
use std::path::PathBuf;

fn words(line: &str) -> Vec<&str> {
    line.split('|').collect()
}

/// `|` separates arguments.
fn autopilotd(line: &str) -> Invocation {
    let arguments = std::iter::once("autopilotd").chain(words(line)).filter(|word| !word.is_empty());
    daemon::parse_from(arguments).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn usage_error(line: &str) -> String {
    let arguments = std::iter::once("autopilotd").chain(words(line));
    let error = daemon::parse_from(arguments).expect_err(line);
    assert!(error.use_stderr(), "{line}");
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

fn run(line: &str) -> Run {
    match worker::parse_from(["autopilot", "run"].into_iter().chain(words(line)).filter(|word| !word.is_empty())) {
        Ok(worker::Command::Run(run)) => run,
        other => panic!("{line}: {other:?}"),
    }
}

const COMMANDS: [(&str, Command); 9] = [
    ("", Command::Start),
    ("start", Command::Start),
    ("status", Command::Status),
    ("restart-worker", Command::RestartWorker),
    ("stop-worker", Command::StopWorker),
    ("start-worker", Command::StartWorker),
    ("stop", Command::Stop),
    ("config", Command::Config),
    ("events", Command::Events(Show { count: None, since: None, follow: false })),
];

#[test]
fn the_store_has_its_commands() {
    let install = |path: Option<&str>, build, restart, agent| {
        Binaries::Install(Install { path: path.map(PathBuf::from), build, restart, agent })
    };
    for (line, what, agent) in [
        ("install|p", install(Some("p"), false, false, false), false),
        ("install|p|--restart", install(Some("p"), false, true, false), false),
        ("install|--build", install(None, true, false, false), false),
        ("install|--agent", install(None, false, false, true), true),
        ("binaries|--json", Binaries::List, false),
        ("binaries|--agent", Binaries::List, true),
        ("rollback", Binaries::Rollback(None), false),
        ("rollback|0123|--agent", Binaries::Rollback(Some("0123".to_owned())), true),
        ("pin|none", Binaries::Pin(Some("none".to_owned())), false),
        ("unquarantine|0123", Binaries::Unquarantine("0123".to_owned()), false),
    ] {
        let found = autopilotd(line);
        assert_eq!((found.command, found.ignored), (Command::Binaries { what, agent }, vec![]), "{line}");
    }
    usage_error("install|p|--build");
    usage_error("pin");
}

#[test]
fn the_commands_of_the_record_are_understood_or_refused() {
    let parse = |line: &str| worker::parse_from(std::iter::once("autopilot").chain(words(line)));
    for line in [
        "log",
        "log|-f",
        "log|-f|-n|5|login",
        "log|--list",
        "log|--cwd|d",
        "replay|--speed|10x|login",
        "analyze|--json",
        "analyze|docs|--since|2h",
        "compare|a|b",
        "apm|--window|6h",
        "logs|archive|--dry-run",
        "logs|cleanup|--older-than|4w|--max-size|2GB",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
    }
    for line in [
        "log|--list|-f",
        "log|a|b",
        "replay|--speed|0",
        "analyze|--since|soon",
        "compare|a",
        "apm|--window|2h",
        "logs",
        "logs|cleanup|--max-size|much",
    ] {
        assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
    }
}

#[test]
fn every_option_works_before_and_after_every_command() {
    let file = Some(PathBuf::from("f"));
    let path = || Some(PathBuf::from("d"));
    let text = || Some("x".to_owned());
    let none = Flags::default;
    let options: [(&str, Option<PathBuf>, Flags, bool); 13] = [
        ("-c|f", file.clone(), none(), false),
        ("--config|f", file.clone(), none(), false),
        ("--config=f", file, none(), false),
        ("-w|d", None, Flags { workdir: path(), ..none() }, false),
        ("--workdir|d", None, Flags { workdir: path(), ..none() }, false),
        ("-p|x", None, Flags { project: text(), ..none() }, false),
        ("--project|x", None, Flags { project: text(), ..none() }, false),
        ("--model|x", None, Flags { model: text(), ..none() }, false),
        ("--max-budget|2.5", None, Flags { max_budget: Some(2.5), ..none() }, false),
        ("--max-budget|0", None, Flags { max_budget: Some(0.0), ..none() }, false),
        ("--max-turns|7", None, Flags { max_turns: Some(7), ..none() }, false),
        ("--prompt|x", None, Flags { prompt: text(), ..none() }, false),
        ("--json", None, none(), true),
    ];
    for (name, command) in COMMANDS {
        for (option, config, flags, json) in &options {
            for line in [format!("{option}|{name}"), format!("{name}|{option}")] {
                let found = autopilotd(&line);
                assert_eq!(found.command, command, "{line}");
                assert_eq!(&found.config, config, "{line}");
                assert_eq!(&found.flags, flags, "{line}");
                assert_eq!(found.json, *json, "{line}");
            }
        }
    }
}

#[test]
fn all_options_together_on_both_sides() {
    let found = autopilotd("-w|d|--model|early|start|--model|late|-p|x|--max-turns|1|--max-turns|2");
    assert_eq!(found.command, Command::Start);
    assert_eq!(found.flags.model.as_deref(), Some("late"));
    assert_eq!(found.flags.max_turns, Some(2));
    assert_eq!(found.flags.workdir, Some(PathBuf::from("d")));
    assert_eq!(found.flags.project.as_deref(), Some("x"));
    assert!(found.ignored.is_empty());
}

#[test]
fn events_are_chosen_by_number_and_time() {
    let show = |line: &str| match autopilotd(line).command {
        Command::Events(show) => show,
        other => panic!("{line}: {other:?}"),
    };
    let expected = Show { count: Some(5), since: Some(super::since::parse("2h").unwrap()), follow: true };
    assert_eq!(show("events|-n|5|-f|--since|2h"), expected);
    assert_eq!(show("-w|d|events|--lines=5|--follow|--since=2h|--json"), expected);
    assert_eq!(autopilotd("events|--json").ignored, [""; 0]);
}

#[test]
fn what_changes_nothing_is_named() {
    for (line, ignored) in [
        ("--model|x|restart-worker", ["--model"].as_slice()),
        ("status|-c|f|--json", &[]),
        ("config|--json|--model|x", &[]),
        ("stop|-w|d|-p|x|--json", &["--workdir", "--project", "--json"]),
        ("start|--json", &["--json"]),
        ("install|--build|-w|d|-p|x", &["--project"]),
        ("install|f|-w|d", &["--workdir"]),
        ("-c|f|stop-worker", &[]),
    ] {
        assert_eq!(autopilotd(line).ignored, ignored, "{line}");
    }
}

#[test]
fn wrong_usage_is_explained_and_exits_with_2() {
    for (line, expected) in [
        ("--max-budget|nan", "invalid value 'nan' for '--max-budget <USD>': wants dollars, 0 or more"),
        ("--max-budget|-5", "invalid value '-5' for '--max-budget <USD>': wants dollars, 0 or more"),
        ("--max-budget|inf", "wants dollars"),
        ("--max-budget|", "wants dollars"),
        ("status|--max-budget|-0.01", "wants dollars"),
        ("--max-turns|-1", "invalid value '-1' for '--max-turns <N>': wants a whole number, 0 or more"),
        ("--max-turns|1.5", "wants a whole number"),
        ("--max-turns|9223372036854775808", "wants a whole number"),
        ("--modle|x", "a similar argument exists: '--model'"),
        ("stauts", "some similar subcommands exist: 'start', 'status'"),
        ("--model", "a value is required for '--model <MODEL>'"),
        ("events|--since|soon", "invalid value 'soon' for '--since <TIME>': wants 30s, 10m, 2h, 1d or 1w"),
        ("events|--since|-5m", "wants 30s"),
        ("events|-n|-1", "unexpected argument '-1'"),
        ("events|-n|x", "invalid value 'x' for '--lines <N>'"),
        ("status|-f", "unexpected argument '-f'"),
        ("status|extra", "unexpected argument 'extra'"),
    ] {
        let text = usage_error(line);
        assert!(text.starts_with("error: "), "{line}: {text}");
        assert!(text.contains(expected), "{line}: {text}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (line, expected) in [
        ("--version", "autopilotd 0."),
        ("-V", "autopilotd 0."),
        ("--help", "Examples:"),
        ("-h", "Exit codes:"),
        ("events|--help", "The night"),
        ("status|--help", "Show what the worker does"),
        ("help", "Examples:"),
        ("help|status", "Show what the worker does"),
        ("-p|x|help|events", "The night"),
    ] {
        let error = daemon::parse_from(std::iter::once("autopilotd").chain(words(line))).expect_err(line);
        assert!(!error.use_stderr(), "{line}");
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }
    let error = worker::parse_from(["autopilot", "--version"]).expect_err("version");
    assert!(!error.use_stderr() && error.to_string().starts_with("autopilot 0."));
    let error = worker::parse_from(["autopilot"]).expect_err("nothing to do");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn help_is_a_command_of_the_worker_too() {
    for (line, expected) in [("help", "autopilot demo"), ("help|run", "Exit codes:"), ("issue|help|create", "title")] {
        let error = worker::parse_from(std::iter::once("autopilot").chain(words(line))).expect_err(line);
        assert!(!error.use_stderr() && error.exit_code() == 0, "{line}: {error}");
        assert!(error.to_string().to_lowercase().contains(&expected.to_lowercase()), "{line}: {error}");
    }
}

/// The help as a terminal of 100 columns shows it.
fn help(definition: clap::Command, arguments: &[&str]) -> String {
    definition.term_width(100).try_get_matches_from(arguments).expect_err("help").to_string()
}

fn help_of_worker(arguments: &[&str]) -> String {
    help(worker::definition(), arguments)
}

#[test]
fn the_help_names_every_exit_code_and_variable() {
    let help = help(daemon::definition(), &["autopilotd", "--help"]);
    for (exit, meaning) in Exit::ALL {
        let words: Vec<&str> = help.split_whitespace().collect();
        assert!(words.join(" ").contains(&format!("{} {meaning}", *exit as u8)), "{meaning}");
    }
    for name in
        ["AUTOPILOT_HOME", "AUTOPILOT_WORKER_BINARY", "AUTOPILOT_STALL_TIMEOUT_MS", "AUTOPILOT_RECOVERY_COOLDOWN_MS"]
    {
        assert!(help.contains(name), "{name}");
    }
    insta::assert_snapshot!("autopilotd_help", help);
    insta::assert_snapshot!("autopilot_help", help_of_worker(&["autopilot", "--help"]));
    insta::assert_snapshot!("autopilot_run_help", help_of_worker(&["autopilot", "run", "--help"]));
}

#[test]
fn the_definitions_are_consistent() {
    daemon::definition().debug_assert();
    worker::definition().debug_assert();
}

#[test]
fn the_worker_understands_what_the_daemon_passes() {
    let found = run("--full-auto|--model|opus|--max-turns|7|--max-budget|2.5|--project|p|fix it");
    let expected = Run {
        wait: false,
        full_auto: true,
        project: Some("p".to_owned()),
        model: "opus".to_owned(),
        max_turns: 7,
        max_budget: 2.5,
        cwd: None,
        prompt: Some("fix it".to_owned()),
    };
    assert_eq!(found, expected);
}

#[test]
fn the_workers_defaults() {
    let found = run("test");
    assert!(!found.full_auto);
    assert_eq!((found.model.as_str(), found.max_turns, found.max_budget), ("sonnet", 0, 0.0));
    assert_eq!((found.project, found.cwd), (None, None));
    assert_eq!(run("--cwd|/x").cwd, Some(PathBuf::from("/x")));
    assert_eq!(run("").prompt, None);
}

#[test]
fn options_may_follow_the_prompt_and_a_prompt_may_start_with_a_dash() {
    assert!(run("test|--full-auto").full_auto);
    assert_eq!(run("--full-auto|--|-v prints nothing").prompt.as_deref(), Some("-v prints nothing"));
    assert_eq!(run("--|--full-auto").prompt.as_deref(), Some("--full-auto"));
    assert!(!run("--|--full-auto").full_auto);
    for line in ["one|two", "--max-budget|nan|x", "--max-turns|-1|x", "-x"] {
        let error = worker::parse_from(["autopilot", "run"].into_iter().chain(words(line))).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
    assert_eq!(autopilotd("--prompt|- do it").flags.prompt.as_deref(), Some("- do it"));
}

#[test]
fn the_demo_has_two_agents() {
    for (line, agent) in [("", Agent::Script), ("--agent|script", Agent::Script), ("--agent|claude", Agent::Claude)] {
        let arguments = ["autopilot", "demo"].into_iter().chain(words(line)).filter(|word| !word.is_empty());
        assert_eq!(worker::parse_from(arguments).ok(), Some(worker::Command::Demo(Demo { agent })));
    }
    assert!(worker::parse_from(["autopilot", "demo", "--agent", "gpt"]).is_err());
}
