//! A model that says nothing, and a worker that would wait for it for longer than its daemon does: the daemon's own verdict.

use serde_json::Value;
use testkit::fake_api::{Answer, FakeApi, Script};
use testkit::home;
use testkit::home::Home;
use testkit::netns::isolated;

use crate::job::{DEADLINE, call, end_reasons};
use crate::supervised::stop;

/// More than two CLIs need to start, on a busy machine.
const TIMEOUT_MS: u64 = 8_000;
/// The last look before the window closes may be a quarter of the timeout ago; the rest is for a busy machine.
const MARGIN_MS: u64 = TIMEOUT_MS / 4 + 1_000;

fn home_for(api: &FakeApi) -> Home {
    let mut home = home!();
    home.use_real_claude(api);
    let worker = home.autopilot_path().to_owned();
    home.set_env("AUTOPILOT_WORKER_BINARY", worker);
    home.set_env("AUTOPILOT_MODEL_SILENCE_MS", "600000");
    home.write_config(&format!(
        "project = \"demo\"\nprompt = \"Append a line to once.txt.\"\nmax_turns = 50\n\n\
         [restart]\nstall_timeout_ms = {TIMEOUT_MS}\nstall_grace_ms = 0\ninitial_backoff_ms = 600000\n\
         max_backoff_ms = 600000\n"
    ));
    home
}

/// How long it was silent, as the journal has it.
fn stalled_after_ms(home: &Home) -> Option<u64> {
    let events = home.autopilotd(["events", "--json", "-n", "1000"]);
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    let mut events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.find(|event| event["event"]["kind"] == "stalled")?["event"]["silent_ms"].as_u64()
}

#[test]
fn a_worker_whose_model_says_nothing_is_ended_as_stalled_within_one_window() {
    isolated(|| {
        let cases = [
            ("no answer", 1, Script::always(Answer::hang())),
            ("an answer that stops", 2, Script::steps([call(), Answer::stop_mid_stream("I have ")])),
        ];
        let cases = cases.map(|(name, requests, script)| {
            let api = FakeApi::start(script);
            let home = home_for(&api);
            let daemon = home.start_daemon::<&str>([]);
            (name, requests, api, home, daemon)
        });
        for (name, requests, api, home, mut daemon) in cases {
            let ended = || home.status().filter(|status| status["worker_status"] == "restarting");
            let status = home.wait_until("it is ended", DEADLINE, ended);
            let cause = status["last_exits"][0]["cause"].as_str().unwrap_or_default();
            assert!(cause.starts_with("ended as stalled"), "{name}: {status:#}");
            assert_eq!(api.agent_requests().len(), requests, "{name}: it did not wait for the model");

            let silent_ms = stalled_after_ms(&home).unwrap_or_else(|| panic!("{name}: no verdict in the journal"));
            assert!((TIMEOUT_MS..=TIMEOUT_MS + MARGIN_MS).contains(&silent_ms), "{name}: after {silent_ms} ms");
            let kept = std::fs::read_dir(home.path().join("workers/main/incidents")).expect("evidence");
            let kept: Vec<String> = kept.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
            assert_eq!(kept.len(), 1, "{name}: {kept:#?}");
            assert!(
                kept[0].contains("\nphase: model\n") && kept[0].contains("\nheartbeats: yes\n"),
                "{name}: {}",
                kept[0]
            );

            stop(&home, &mut daemon);
            assert_eq!(end_reasons(&home), ["terminated"], "{name}");
        }
    });
}
