//! Real worker processes with a scripted stand-in for the CLI: whole lives, crashes included.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage up has failed")]

mod places;
mod secrets;
mod stage;
mod status;
mod tasks;

use std::fs;

use os::process::Send;
use stage::{Ending, Stage};

const WORK: &str = "init; call 'echo hi'; returned hi; done_";

fn ends(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.strip_prefix("@end ")?.split_once("reason=")).map(|(_, reason)| reason).collect()
}

#[track_caller]
fn assert_code(ending: &Ending, code: i32) {
    assert_eq!(ending.code, Some(code), "{ending:#?}");
}

#[test]
fn a_job_is_done_and_everything_is_on_record() {
    let stage = Stage::new(WORK);
    let ending = stage.run(&["prompt=Say hi", "max_turns=9", "max_budget_usd=1.5"]);
    assert_code(&ending, 0);
    let argv = stage.argv(1);
    assert_eq!(argv[..2], ["-p", "Say hi"]);
    let session = stage.flag(1, "--session-id").unwrap();
    assert_eq!(stage.flag(1, "--max-turns").as_deref(), Some("9"));
    assert_eq!(stage.flag(1, "--max-budget-usd").as_deref(), Some("1.500000"));
    assert!(stage.flag(1, "--append-system-prompt").is_some_and(|text| text.contains("nobody can answer")));
    let env = fs::read_to_string(stage.standin("env-1")).unwrap();
    assert!(env.contains("DISABLE_AUTOUPDATER=1"));
    assert!(!env.contains("CLAUDECODE=") && !env.contains("NOTIFY_SOCKET="), "{env}");

    let logs = stage.logs();
    assert_eq!(logs.len(), 1);
    let (head, body) = logs[0].strip_prefix("---\n").unwrap().split_once("---\n").unwrap();
    assert!(head.starts_with("format: rlog/1\nid: ") && head.contains("\nagent: claude-code\n"), "{head}");
    let lines: Vec<&str> = body.lines().collect();
    assert!(lines[0].starts_with(&format!("@start id={session} ts=20")), "{body}");
    let expected = [
        "u: Say hi",
        "@init model=claude-sonnet-5-5",
        "t!:Bash id=t1-0 arg=\"echo hi\" → [running]",
        "o: id=t1-0 → [ok] hi",
        "a: All done.⏎ AUTOPILOT: DONE",
        "@end tokens_in=200 tokens_out=20 cost_usd=0.0010 reason=done",
    ];
    assert_eq!(lines[1..], expected);
    assert!(ending.stdout.ends_with(&format!("{}\n", expected.join("\n"))), "{}", ending.stdout);

    let job = fs::read_to_string(stage.project_file("work.json")).unwrap();
    assert!(job.contains("\"status\": \"done\"") && job.contains(&session), "{job}");
    stage.wait_for("READY=1");
    assert!(stage.wait_for("AUTOPILOT_RLOG=/").contains("docs/logs/"));
    stage.wait_for("AUTOPILOT_PHASE=tool");
    stage.wait_for("STOPPING=1");
}

#[test]
fn full_auto_goes_on_in_the_same_session_until_the_agent_says_done() {
    let stage = Stage::new(WORK);
    stage.scene(1, "init; call 'make'; returned ok; say 'Shall I go on?'; ok 'Shall I go on?'");
    stage.scene(
        2,
        "call 'test'; returned ok; printf '{\"type\":\"result\",\"is_error\":false,\"stop_reason\":\"tool_use\"}\\n'",
    );
    assert_code(&stage.run(&["prompt=-v is no option"]), 0);
    assert_eq!(stage.calls(), 3);
    let session = stage.flag(1, "--session-id").unwrap();
    assert_eq!(stage.argv(1).last().map(String::as_str), Some("-v is no option"));
    for call in [2, 3] {
        assert_eq!(stage.flag(call, "--resume").as_ref(), Some(&session));
        assert!(stage.flag(call, "-p").unwrap().contains("Nobody is here"));
    }
    assert_eq!(stage.logs().len(), 1, "one log a run");
}

#[test]
fn a_single_session_ends_with_its_session() {
    let stage = Stage::new("init; say hello; ok hello");
    assert_code(&stage.run(&["prompt=x", "full_auto=false"]), 0);
    assert_eq!(stage.calls(), 1);
    assert!(!stage.argv(1).contains(&"--append-system-prompt".to_owned()));
    stage.scene(0, "refused server_error 529 Overloaded");
    let ending = stage.run(&["prompt=x", "full_auto=false"]);
    assert_code(&ending, 14);
    assert!(ending.stderr.contains("error: the API is overloaded: Overloaded\nhint: "), "{}", ending.stderr);
    assert_eq!(ends(&stage.logs()[1]), ["api:overloaded"]);
}

#[test]
fn after_a_kill_the_next_worker_resumes_the_session_and_closes_the_log() {
    let stage = Stage::new(WORK);
    stage.scene(1, "init; call 'long'; hang");
    let worker = stage.start(&["prompt=build it"]);
    stage.wait_for("AUTOPILOT_PHASE=tool");
    worker.send(Send::Kill);
    assert_eq!(worker.wait().code, None);
    assert_eq!(ends(&stage.logs()[0]), [""; 0]);
    // A torn line, too.
    let log = newest_log(&stage);
    fs::write(&log, format!("{}a: tor", fs::read_to_string(&log).unwrap())).unwrap();

    assert_code(&stage.run(&["prompt=build it"]), 0);
    assert_eq!(stage.calls(), 2);
    assert_eq!(stage.flag(2, "--resume"), stage.flag(1, "--session-id"));
    assert!(stage.flag(2, "-p").unwrap().contains("interrupted"));
    let logs = stage.logs();
    assert_eq!(logs.len(), 2);
    assert!(
        logs[0].contains("\na: tor\n@end tokens_in=100 tokens_out=10 cost_usd=0.0004 reason=killed\n"),
        "{}",
        logs[0]
    );
    assert_eq!(ends(&logs[0]), ["killed"]);
    assert_eq!(ends(&logs[1]), ["done"]);
}

fn newest_log(stage: &Stage) -> std::path::PathBuf {
    let day = fs::read_dir(stage.cwd().join("docs/logs")).unwrap().next().unwrap().unwrap().path();
    let mut logs: Vec<_> = fs::read_dir(day).unwrap().map(|file| file.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|end| end == "rlog"));
    logs.sort();
    logs.pop().unwrap()
}

#[test]
fn an_orphaned_cli_is_ended_before_its_session_is_resumed() {
    let stage =
        Stage::new("grep -q '^State:.[^Z]' /proc/$(cat $STANDIN/pid)/status && touch $STANDIN/both; init; done_");
    stage.scene(1, "echo $$ > $STANDIN/pid; trap '' TERM; init; call 'long'; while :; do sleep 1; done");
    let worker = stage.start(&["prompt=x"]);
    stage.wait_for("AUTOPILOT_PHASE=tool");
    worker.send(Send::Kill);
    worker.wait();
    let ending = stage.run(&["prompt=x"]);
    assert_code(&ending, 0);
    assert!(ending.stderr.contains("ended the CLI of a worker that died"), "{}", ending.stderr);
    assert!(!stage.standin("both").exists(), "two agents in one session");
}

#[test]
fn the_tools_of_a_dead_cli_do_not_live_on_beside_its_successor() {
    let scene = "trap '' TERM; setsid sh -c 'echo $$ > $STANDIN/tool; sleep 300; true' & \
        until [ -s $STANDIN/tool ]; do sleep 0.02; done; init; call 'long'; ";
    let tool_lives = "grep -q '^State:.[^Z]' /proc/$(cat $STANDIN/tool)/status && touch $STANDIN/both; init; done_";
    // The CLI dies alone, and together with its worker.
    for end in ["kill -9 $$", "kill -9 $PPID $$"] {
        let stage = Stage::new(tool_lives);
        stage.scene(1, &format!("{scene}{end}"));
        if stage.run(&["prompt=x"]).code.is_none() {
            assert_code(&stage.run(&["prompt=x"]), 0);
        }
        assert_eq!(stage.calls(), 2);
        assert!(!stage.standin("both").exists(), "{end}");
    }
}

#[test]
fn what_a_session_that_ended_well_leaves_running_runs_on() {
    let stage = Stage::new("setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $! > $STANDIN/server; init; done_");
    assert_code(&stage.run(&["prompt=x"]), 0);
    let pid = fs::read_to_string(stage.standin("server")).unwrap().trim().parse().unwrap();
    let server = os::process::Pidfd::open_child(pid).unwrap().expect("the server lives");
    assert!(server.send(Send::Kill).unwrap());
}

#[test]
fn a_killed_cli_is_resumed_by_the_same_worker() {
    let stage = Stage::new(WORK);
    stage.scene(1, "init; call 'x'; kill -9 $$");
    assert_code(&stage.run(&["prompt=x"]), 0);
    assert_eq!(stage.flag(2, "--resume"), stage.flag(1, "--session-id"));
    let logs = stage.logs();
    assert_eq!(logs.len(), 1);
    assert!(logs[0].contains(" the CLI died (signal 9); next attempt at "), "{}", logs[0]);
    assert_eq!(ends(&logs[0]), ["done"]);
}

#[test]
fn a_terminated_worker_ends_its_cli_and_its_log_in_time() {
    for (scene, at_most_ms) in
        [("init; call 'long'; hang", 2_000), ("trap '' TERM; init; call 'long'; while :; do sleep 1; done", 6_000)]
    {
        let stage = Stage::new(scene);
        let worker = stage.start(&["prompt=x"]);
        stage.wait_for("AUTOPILOT_PHASE=tool");
        let began = os::clock::monotonic_ms();
        worker.send(Send::Term);
        assert_code(&worker.wait(), 143);
        let took = os::clock::monotonic_ms() - began;
        assert!(took < at_most_ms, "{took} ms");
        assert_eq!(ends(&stage.logs()[0]), ["terminated"]);
        // It goes on where it was.
        stage.scene(2, WORK);
        assert_code(&stage.run(&[]), 0);
        assert_eq!(stage.flag(2, "--resume"), stage.flag(1, "--session-id"));
    }
}

#[test]
fn what_nohup_started_outlives_its_terminal() {
    for (nohup, after, code) in [(true, "done_", 0), (false, "hang", 143)] {
        let mut stage = Stage::new(&format!("init; call 'long'; kill -HUP $PPID; {after}"));
        stage.nohup = nohup;
        assert_code(&stage.run(&["prompt=x"]), code);
    }
}

#[test]
fn a_second_signal_is_at_once() {
    let stage = Stage::new("trap '' TERM; init; call 'long'; while :; do sleep 1; done");
    let worker = stage.start(&["prompt=x"]);
    stage.wait_for("AUTOPILOT_PHASE=tool");
    worker.send(Send::Term);
    stage.wait_for("STOPPING=1");
    let began = os::clock::monotonic_ms();
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
    assert!(os::clock::monotonic_ms() - began < 1_500);
}

#[test]
fn a_silent_model_is_not_waited_for_for_ever() {
    let mut stage = Stage::new(WORK);
    stage.env.push(("AUTOPILOT_MODEL_SILENCE_MS", "300".into()));
    stage.scene(1, "init; say 'Let me think'; hang");
    assert_code(&stage.run(&["prompt=x"]), 0);
    assert_eq!(stage.flag(2, "--resume"), stage.flag(1, "--session-id"));
    let log = &stage.logs()[0];
    assert!(log.contains(" no sign of life from the CLI for 1 s; ending it\n"), "{log}");
    assert!(log.contains(" the API did not answer; next attempt at "), "{log}");
}

#[test]
fn a_usage_limit_is_waited_for_to_its_end() {
    let stage = Stage::new(WORK);
    stage.scene(
        1,
        "init; printf '{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\",\"resetsAt\":%s,\
         \"rateLimitType\":\"five_hour\"}}\\n' $(( $(date +%s) + 2 )); refused rate_limit 429 \"You have hit your limit\"",
    );
    assert_code(&stage.run(&["prompt=x"]), 0);
    assert_eq!(stage.calls(), 2);
    let time =
        |call| fs::read_to_string(stage.standin(&format!("time-{call}"))).unwrap().trim().parse::<u64>().unwrap();
    let waited_ms = (time(2) - time(1)) / 1_000_000;
    assert!((2_000..6_000).contains(&waited_ms), "{waited_ms}");
    stage.wait_for("AUTOPILOT_PHASE=limit");
    assert!(stage.logs()[0].contains(" the usage limit is reached; next attempt at "));
}

#[test]
fn a_session_that_the_cli_does_not_know_begins_under_the_same_id() {
    let stage = Stage::new(WORK);
    stage.scene(1, "hang");
    stage.scene(
        2,
        "echo \"No conversation found with session ID: x\" >&2; printf '{\"type\":\"result\",\"is_error\":true,\
         \"subtype\":\"error_during_execution\",\"errors\":[\"No conversation found with session ID: x\"]}\\n'; exit 1",
    );
    let worker = stage.start(&["prompt=x"]);
    tasks::wait_for_file(&stage.standin("argv-1"));
    worker.send(Send::Kill);
    worker.wait();
    assert_code(&stage.run(&["prompt=x"]), 0);
    let session = stage.flag(2, "--resume").unwrap();
    assert_eq!(stage.flag(3, "--session-id"), Some(session));
    assert_eq!(stage.flag(3, "-p").as_deref(), Some("x"));
}

#[test]
fn a_session_id_that_is_taken_is_replaced() {
    let stage = Stage::new(WORK);
    stage.scene(1, "echo 'Error: Session ID 7f1c is already in use.' >&2; exit 1");
    assert_code(&stage.run(&["prompt=x"]), 0);
    let ids = [1, 2].map(|call| stage.flag(call, "--session-id").unwrap());
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_supervised_worker_does_not_do_a_job_twice_but_a_person_may() {
    let mut stage = Stage::new(WORK);
    assert_code(&stage.run(&["prompt=x"]), 0);
    stage.supervised = true;
    stage.env.push(("WATCHDOG_USEC", "400000".into()));
    for arguments in [&["prompt=x"] as &[&str], &[]] {
        stage.env.retain(|(name, _)| *name != "AUTOPILOT_MODEL_SILENCE_MS");
        let worker = stage.start(arguments);
        stage.wait_for("AUTOPILOT_PHASE=idle");
        stage.wait_for("WATCHDOG=1");
        stage.wait_for("WATCHDOG=1");
        worker.send(Send::Term);
        assert_code(&worker.wait(), 143);
        assert_eq!(stage.calls(), 1);
    }
    stage.supervised = false;
    assert_code(&stage.run(&["prompt=x"]), 0);
    assert_eq!(stage.calls(), 2);
    assert!(stage.flag(2, "--session-id").is_some(), "a new session");
    // The supervised one has made the project, so that whoever makes a task here means it.
    let ending = stage.run(&[]);
    assert_code(&ending, 0);
    assert!(ending.stdout.contains("no task is ready"), "{ending:?}");
}

#[test]
fn a_supervised_worker_stays_when_its_job_is_done() {
    let mut stage = Stage::new(WORK);
    stage.supervised = true;
    let worker = stage.start(&["prompt=x"]);
    stage.wait_for("AUTOPILOT_PHASE=idle");
    assert_eq!(ends(&stage.logs()[0]), ["done"]);
    worker.send(Send::Term);
    let ending = worker.wait();
    assert_code(&ending, 143);
    assert!(!ending.stdout.contains("t!:"), "terse: {}", ending.stdout);
}

#[test]
fn without_a_prompt_a_person_is_told_and_a_supervisor_is_not_bothered() {
    let mut stage = Stage::new(WORK);
    let ending = stage.run(&[]);
    assert_code(&ending, 2);
    assert!(ending.stderr.starts_with("error: no prompt was given"), "{}", ending.stderr);
    assert!(ending.stderr.contains("\nhint: "));
    stage.supervised = true;
    let worker = stage.start(&[]);
    let status = stage.wait_for("AUTOPILOT_PHASE=idle");
    assert!(status.contains("no prompt was given"), "{status}");
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
}

#[test]
fn a_project_has_one_worker() {
    let mut stage = Stage::new("init; call 'long'; hang");
    let first = stage.start(&["prompt=x"]);
    stage.wait_for("AUTOPILOT_PHASE=tool");
    for supervised in [false, true] {
        stage.supervised = supervised;
        let ending = stage.run(&["prompt=y"]);
        assert_code(&ending, 15);
        assert!(ending.stderr.contains(&format!("(pid {})", first.pid())), "{}", ending.stderr);
    }
    first.send(Send::Term);
    first.wait();
    assert_eq!(stage.calls(), 1);
}

#[test]
fn a_missing_cli_is_said_with_the_way_to_get_it() {
    let mut stage = Stage::new(WORK);
    stage.env.push(("AUTOPILOT_CLAUDE", "/nonexistent/claude".into()));
    let ending = stage.run(&["prompt=x"]);
    assert_code(&ending, 13);
    assert!(ending.stderr.contains("npm install -g @anthropic-ai/claude-code"), "{}", ending.stderr);
    assert_eq!(ends(&stage.logs()[0]), ["cli-missing"]);
    // Once it is there, the job is begun: there is no session that could be entered.
    stage.env.pop();
    assert_code(&stage.run(&["prompt=x"]), 0);
    assert_eq!((stage.argv(1)[..2].to_vec(), stage.flag(1, "--resume")), (vec!["-p".into(), "x".into()], None));
    assert!(stage.flag(1, "--session-id").is_some());
    assert_eq!(stage.calls(), 1);
}

#[test]
fn a_session_that_was_begun_outlives_a_cli_that_is_missing_for_a_while() {
    let mut stage = Stage::new(WORK);
    stage.scene(1, "init; refused authentication_failed 401 'Please run /login'");
    assert_code(&stage.run(&["prompt=x"]), 12);
    stage.env.push(("AUTOPILOT_CLAUDE", "/nonexistent/claude".into()));
    assert_code(&stage.run(&["prompt=x"]), 13);
    stage.env.pop();
    assert_code(&stage.run(&["prompt=x"]), 0);
    assert_eq!(stage.flag(2, "--resume"), stage.flag(1, "--session-id"));
}

#[test]
fn a_cli_that_only_complains_is_given_up() {
    let stage = Stage::new("echo 'error: unknown option --foo' >&2; exit 1");
    let ending = stage.run(&["prompt=x"]);
    assert_code(&ending, 13);
    assert_eq!(stage.calls(), 3);
    assert!(ending.stderr.contains("unknown option --foo"), "{}", ending.stderr);
    assert_eq!(ends(&stage.logs()[0]), ["cli-failed"]);
}

#[test]
fn a_refused_login_needs_a_person() {
    let mut stage = Stage::new("init; refused authentication_failed 401 'Not logged in · Please run /login'");
    let ending = stage.run(&["prompt=x"]);
    assert_code(&ending, 12);
    assert!(
        ending.stderr.contains("error: the login was refused: Not logged in · Please run /login\nhint: "),
        "{ending:?}"
    );
    assert_eq!(ends(&stage.logs()[0]), ["needs-you:login"]);
    stage.supervised = true;
    let worker = stage.start(&["prompt=x"]);
    stage.wait_for("AUTOPILOT_PHASE=needs-you");
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
    assert_eq!(stage.calls(), 2, "no hot loop");
}

#[test]
fn ctrl_c_that_reaches_the_cli_first_is_no_death_of_the_cli() {
    let stage = Stage::new("init; (sleep 0.03; kill -INT $PPID) & kill -INT $$; hang");
    assert_code(&stage.run(&["prompt=x"]), 130);
    assert_eq!(ends(&stage.logs()[0]), ["interrupted"]);
}

#[test]
fn a_limit_in_the_clis_own_words_is_waited_for_even_if_it_ends_well() {
    let words = "Claude AI usage limit reached|1964352400";
    let said = format!(
        "printf '%s\\n' '{{\"type\":\"assistant\",\"message\":{{\"id\":\"m\",\"model\":\"<synthetic>\",\"content\":[{{\"type\":\"text\",\"text\":\"{words}\"}}]}}}}'"
    );
    for end in [format!("ok '{words}'"), "exit 1".to_owned()] {
        let mut stage = Stage::new(&format!("init; {said}; {end}"));
        stage.supervised = true;
        let worker = stage.start(&["prompt=x"]);
        stage.wait_for("AUTOPILOT_PHASE=limit");
        worker.send(Send::Term);
        assert_code(&worker.wait(), 143);
        assert_eq!(stage.calls(), 1, "{end}");
    }
}

#[test]
fn turns_and_budget_hold_over_restarts() {
    let stage = Stage::new(
        "init; call a; returned a; call b; returned b; \
         until grep -rqs t1-1.*tool_result docs/logs; do sleep 0.02; done; kill -9 $PPID; hang",
    );
    assert_eq!(stage.run(&["prompt=x", "max_turns=3", "max_budget_usd=0.01"]).code, None);
    stage.scene(2, "init; call c; returned c; say more; ok more");
    let ending = stage.run(&["prompt=x", "max_turns=3", "max_budget_usd=0.01"]);
    assert_code(&ending, 10);
    assert_eq!(stage.flag(2, "--max-turns").as_deref(), Some("1"));
    // Two answers of 100 tokens in and 10 out, and the third request, whose answer nobody saw: 3 × 450 millionths.
    assert_eq!(stage.flag(2, "--max-budget-usd").as_deref(), Some("0.008650"));
    assert_eq!(ends(&stage.logs()[1]), ["turns"]);
    assert!(ending.stderr.contains("hint: run it again with a larger --max-turns"), "{}", ending.stderr);
    let ending = stage.run(&["prompt=x", "max_turns=9", "max_budget_usd=0.001"]);
    assert_code(&ending, 11);
    assert_eq!(stage.calls(), 2);
}

#[test]
fn no_place_for_logs_stops_no_work() {
    let stage = Stage::new(WORK);
    fs::write(stage.cwd().join("docs"), "a file").unwrap();
    let ending = stage.run(&["prompt=x"]);
    assert_code(&ending, 0);
    assert_eq!(ending.stderr.matches("warning: cannot write the log").count(), 1, "{}", ending.stderr);
}

#[test]
fn another_prompt_is_another_job_and_the_old_one_is_kept() {
    let stage = Stage::new(WORK);
    stage.scene(1, "init; call 'long'; hang");
    let worker = stage.start(&["prompt=one"]);
    stage.wait_for("AUTOPILOT_PHASE=tool");
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
    let ending = stage.run(&["prompt=two"]);
    assert_code(&ending, 0);
    assert_ne!(stage.flag(2, "--session-id"), stage.flag(1, "--session-id"));
    let aside = fs::read_to_string(stage.project_file("work-set-aside-1.json")).unwrap();
    assert!(aside.contains("\"prompt\": \"one\""), "{aside}");
}

#[test]
fn a_flood_on_both_pipes_is_read_to_its_end() {
    let stage = Stage::new(
        "init; head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; i=0; while [ $i -lt 3000 ]; do say \"line $i\"; \
         i=$((i+1)); done; done_",
    );
    assert_code(&stage.run(&["prompt=x"]), 0);
    assert!(stage.logs()[0].contains("\na: line 2999\n"));
}

#[test]
fn a_budget_for_the_day_pauses_and_says_until_when_and_a_reset_ends_the_pause() {
    let mut stage = Stage::new(WORK);
    stage.supervised = true;
    fs::write(stage.cwd().join("autopilot.toml"), "[budget]\ndaily = 0.0005\nmonthly = 9\n").unwrap();
    stage.scene(1, "init; call a; returned a; say more; ok more");
    let worker = stage.start(&["prompt=x", "max_budget_usd=5"]);
    let status = stage.wait_for("budget of $0.0005 is used up ($0.001 spent)");
    assert!(status.contains("AUTOPILOT_PHASE=limit") && status.contains("; going on at "), "{status}");
    assert_eq!(stage.flag(1, "--max-budget-usd").as_deref(), Some("0.000500"));
    assert_eq!(stage.calls(), 1);
    let mut queue = queue::Queue::open(&stage.project_file("queue.db")).unwrap();
    queue.reset_budget(os::clock::wall_ms()).unwrap();
    stage.wait_for("STATUS=the job is done");
    assert_eq!(stage.calls(), 2);
    assert_eq!(stage.flag(2, "--resume"), stage.flag(1, "--session-id"));
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
}

#[test]
fn a_budget_that_is_raised_in_the_pause_ends_it_but_not_one_that_the_agent_has_raised() {
    let mut stage = Stage::new(WORK);
    stage.supervised = true;
    // The pause looks at the file with each heartbeat.
    stage.env.push(("WATCHDOG_USEC", "400000".into()));
    stage.env.push(("AUTOPILOT_MODEL_SILENCE_MS", "60000".into()));
    let settings = stage.cwd().join("autopilot.toml");
    fs::write(&settings, "[budget]\ndaily = 0.0005\n").unwrap();
    let raise = "echo '[budget]' > \"$STANDIN/../cwd/autopilot.toml\"";
    stage.scene(1, &format!("init; call a; {raise}; returned a; say more; ok more"));
    let worker = stage.start(&["prompt=x"]);
    stage.wait_for("is used up");
    for _ in 0..6 {
        stage.wait_for("WATCHDOG=1");
    }
    assert_eq!(stage.calls(), 1);
    // A mistake ends no pause.
    fs::write(&settings, "[budget]\ndaily = x\n").unwrap();
    for _ in 0..6 {
        stage.wait_for("WATCHDOG=1");
    }
    assert_eq!(stage.calls(), 1);
    assert!(stage.logs()[0].contains("the budgets stay as they were: "), "{}", stage.logs()[0]);
    fs::write(&settings, "[budget]\ndaily = 5\n").unwrap();
    stage.wait_for("STATUS=the job is done");
    assert_eq!(stage.calls(), 2);
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
}

#[test]
fn who_has_used_a_budget_for_the_day_up_is_told_which_one() {
    let stage = Stage::new("init; say hello; ok hello");
    fs::write(stage.cwd().join("autopilot.toml"), "[budget]\ndaily = 0.0005\n").unwrap();
    assert_code(&stage.run(&["prompt=x", "full_auto=false"]), 0);
    let ending = stage.run(&["prompt=y", "full_auto=false"]);
    assert_code(&ending, 11);
    assert!(ending.stderr.contains("hint: raise it in autopilot.toml"), "{}", ending.stderr);
    assert_eq!(stage.calls(), 1);
}

#[test]
fn half_of_the_settings_are_none() {
    let stage = Stage::new(WORK);
    fs::write(stage.cwd().join("autopilot.toml"), "[budget]\ndayly = 1\n").unwrap();
    let ending = stage.run(&["prompt=x"]);
    assert_code(&ending, 2);
    assert!(ending.stderr.contains("autopilot.toml:2: unknown field `dayly`"), "{}", ending.stderr);
    assert_eq!(stage.calls(), 0);
}

#[test]
fn a_damaged_database_stops_the_start_and_is_left_alone() {
    let stage = Stage::new(WORK);
    fs::create_dir_all(stage.project_file("")).unwrap();
    fs::write(stage.project_file("queue.db"), [b'x'; 5_000]).unwrap();
    let ending = stage.run(&["prompt=x"]);
    assert_code(&ending, 1);
    assert!(ending.stderr.contains("is damaged: ") && ending.stderr.contains("\nhint: "), "{}", ending.stderr);
    assert_eq!((stage.calls(), fs::read(stage.project_file("queue.db")).unwrap()), (0, vec![b'x'; 5_000]));
}
