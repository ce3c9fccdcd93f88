//! `kill -9` at random instants, of whoever is there: every task is done exactly once, every log closed, and the ledger knows what was
//! spent.

#![expect(clippy::disallowed_methods, reason = "real processes, on a real clock")]

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::fake_api::{Answer, FakeApi, Script, Usage, When};
use testkit::home;
use testkit::home::Home;
use testkit::netns::isolated;
use testkit::random::Random;

use crate::job::{DEADLINE, expect_closed};
use crate::tasks::{said, states};

const TASKS: u64 = 20;
/// Of a message of 10 tokens in and 5 out, at the CLI's own price of this model, $2 and $10 a million.
const PRICE_MICROS: u64 = 10 * 2 + 5 * 10;
/// All of it; a test that takes longer is ended from outside.
const LONGEST: Duration = Duration::from_secs(150);

/// Each task appends its number to a file, unless it is there: a model looks first, and the script has to as well. It is done when the
/// tool has said so: of a call that was cut off the CLI tells another result.
fn script() -> Script {
    let mut script = Script::new();
    for task in 1..=TASKS {
        let own = || When::Contains(format!("number {task} goes"));
        let said = When::All(vec![own(), When::Contains(format!("line-{}", 1_000 + task))]);
        let done = Answer::text("It is there.\n\nAUTOPILOT: DONE");
        let call =
            Answer::bash(format!("grep -qx {task} done.txt || echo {task} >> done.txt; echo line-$((1000 + {task}))"));
        script = script.on(said, done.delay(Duration::from_millis(80)));
        script = script.on(own(), call.delay(Duration::from_millis(80)));
    }
    script
}

fn tokens_in(home: &Home) -> u64 {
    let ends =
        home.rlogs().iter().filter_map(|rlog| rlog.field("@end", "tokens_in").map(str::to_owned)).collect::<Vec<_>>();
    ends.iter().map(|tokens| tokens.parse::<u64>().expect("a number")).sum()
}

/// What the ledger says, and for how many requests it only supposes that.
struct Spent {
    micros: f64,
    unanswered: f64,
}

fn spent(home: &Home) -> Spent {
    let shown: Value = serde_json::from_str(&said(home, &["budget", "show", "--json"])).expect("JSON");
    Spent {
        micros: shown["spent_usd"].as_f64().expect("dollars") * 1e6,
        unanswered: shown["unanswered"]["requests"].as_f64().expect("a number"),
    }
}

#[test]
fn twenty_tasks_are_done_once_each_whoever_is_killed() {
    isolated(|| {
        let api = FakeApi::start(script());
        let mut home = home!();
        home.use_real_claude(&api);
        home.set_env("AUTOPILOT_RETRY_DELAY_MS", "100");
        let worker = home.autopilot_path().to_owned();
        home.set_env("AUTOPILOT_WORKER_BINARY", worker);
        home.write_config(
            "[restart]\ninitial_backoff_ms = 50\nmax_backoff_ms = 50\nmax_consecutive_restarts = 0\nmax_restarts_per_hour = 0\n",
        );
        let plan: String =
            (1..=TASKS).map(|task| format!("## Task {task}\n\nThe number {task} goes into done.txt.\n\n")).collect();
        std::fs::write(home.repository().join("plan.md"), plan).expect("write");
        said(&home, &["issue", "import", "plan.md"]);

        let (mut random, began) = (Random::new(7), Instant::now());
        let mut daemon = home.start_daemon::<&str>([]);
        let mut kills = [0, 0, 0];
        let is_done = |home: &Home| states(home).iter().all(|(_, state)| state == "done");
        while !is_done(&home) {
            assert!(began.elapsed() < LONGEST, "{kills:?}: {:?}", states(&home));
            std::thread::park_timeout(Duration::from_millis(600 + random.below(2_400)));
            let victim = usize::try_from(random.below(3)).expect("small");
            kills[victim] += 1;
            match victim {
                0 => home.claude_processes().iter().for_each(|agent| home.kill(agent)),
                1 => {
                    let pid = home.status().and_then(|status| status["worker_pid"].as_u64());
                    pid.and_then(|pid| home.process(pid)).iter().for_each(|worker| home.kill(worker));
                }
                _ => {
                    daemon.kill();
                    daemon = home.start_daemon::<&str>([]);
                }
            }
        }
        assert!(home.autopilotd(["stop"]).status.success());
        daemon.wait_for_code(DEADLINE);

        let mut lines: Vec<u64> = home.read("done.txt").lines().map(|line| line.parse().expect("a number")).collect();
        lines.sort_unstable();
        assert_eq!(lines, (1..=TASKS).collect::<Vec<_>>());
        let rlogs = home.rlogs();
        rlogs.iter().for_each(expect_closed);
        for task in 1..=TASKS {
            let ends =
                rlogs.iter().map(|rlog| rlog.text.matches(&format!(" task #{task} is done\n")).count()).sum::<usize>();
            assert_eq!(ends, 1, "task {task}");
        }
        let billed = api.agent_requests().len() as u64;
        let Spent { micros, unanswered } = spent(&home);
        let all: usize = kills.iter().sum();
        println!("kills of CLI, worker, daemon: {kills:?}; messages: {billed} billed, {} heard", tokens_in(&home) / 10);
        println!("{} logs, {micros} millionths, {unanswered} unanswered, {:?}", rlogs.len(), began.elapsed());
        assert!(all >= 5, "too few kills: {kills:?}");
        // No message is forgotten. A process that was killed between the prompt and its request is taken for one that had sent it.
        let apart = (micros - (billed * PRICE_MICROS) as f64) / PRICE_MICROS as f64;
        assert!(
            -1.0 <= apart && apart <= unanswered.max(1.0),
            "{apart} messages apart, {unanswered} unanswered: {kills:?}"
        );
        home.wait_until_nothing_runs(DEADLINE);
    });
}

#[test]
fn a_budget_is_never_exceeded_by_more_than_one_request_whenever_the_worker_is_killed() {
    isolated(|| {
        // At the CLI's own price of this model, $2 and $10 a million.
        let usage =
            Usage { input_tokens: 10_000, output_tokens: 1_000, cache_creation_tokens: 0, cache_read_tokens: 0 };
        let price_micros = 10_000 * 2 + 1_000 * 10;
        let endless = Answer::bash("true").usage(usage).delay(Duration::from_millis(30));
        let api = FakeApi::start(Script::always(endless));
        let mut home = home!();
        home.use_real_claude(&api);
        home.set_env("AUTOPILOT_RETRY_DELAY_MS", "50");
        let (mut random, began, mut kills) = (Random::new(11), Instant::now(), 0);
        loop {
            assert!(began.elapsed() < LONGEST, "{kills} kills, {} requests", api.agent_requests().len());
            let args = ["run", "--full-auto", "--project", "demo", "--model", "sonnet", "--max-budget", "1", "Go on."];
            let mut worker = home.start_autopilot(args);
            if worker.ends_within(Duration::from_millis(700 + random.below(900))) {
                assert_eq!(worker.wait_for_code(DEADLINE), 11, "{}", worker.stderr());
                break;
            }
            kills += 1;
            worker.kill();
        }
        let requests = api.agent_requests().len() as u64;
        let billed_micros = requests * price_micros;
        println!(
            "{kills} kills, {requests} requests, ${:.3} billed, {:?}",
            billed_micros as f64 / 1e6,
            began.elapsed()
        );
        assert!(kills >= 2, "{kills} kills");
        assert!(billed_micros <= 1_000_000 + price_micros, "${:.3}", billed_micros as f64 / 1e6);
    });
}
