use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use super::budget::Window;
use super::outcome::{ApiError, Ended, Fault, Need, Refusal};
use super::*;

mod limits;

/// One way for a process to end: the facts it tells, and its exit.
struct Ending {
    name: &'static str,
    facts: Vec<Fact<'static>>,
    exit: Exit,
}

fn result(terminal: &str, is_error: bool) -> Fact<'static> {
    let ended = Ended {
        is_error,
        subtype: "success".into(),
        terminal_reason: Some(terminal.into()),
        stop_reason: Some("end_turn".into()),
        ..Ended::default()
    };
    Fact::Result { ended, text: None }
}

fn api(kind: &str, detail: Option<&str>, status: Option<u16>) -> Vec<Fact<'static>> {
    vec![Fact::Protocol, Fact::ApiError(ApiError::new(kind, detail, status)), result("api_error", true)]
}

fn worked(end: Vec<Fact<'static>>) -> Vec<Fact<'static>> {
    let mut facts = vec![Fact::Protocol, Fact::Answer, Fact::Call("t1"), Fact::Return("t1")];
    facts.extend(end);
    facts
}

fn endings() -> Vec<Ending> {
    let ending = |name, facts, exit| Ending { name, facts, exit: Exit::Code(exit) };
    let mut limit = api("rate_limit", Some("usage_limit_reached"), Some(429));
    limit.insert(1, Fact::Limit { resets_at_ms: Some(3_600_000) });
    vec![
        ending("done", worked(vec![Fact::Said("ok\nAUTOPILOT: DONE"), result("completed", false)]), 0),
        ending("blocked", worked(vec![Fact::Said("AUTOPILOT: BLOCKED no key"), result("completed", false)]), 0),
        ending("open", worked(vec![Fact::Said("Shall I go on?"), result("completed", false)]), 0),
        ending(
            "stopped for a tool",
            worked(vec![Fact::Result {
                ended: Ended { stop_reason: Some("tool_use".into()), ..Ended::default() },
                text: None,
            }]),
            0,
        ),
        ending("too long an answer", worked(api("max_output_tokens", Some("max_output_tokens"), None)), 1),
        ending("turns", worked(vec![result("max_turns", true)]), 1),
        ending("budget", worked(vec![result("budget_exhausted", true)]), 1),
        ending("401", api("authentication_failed", None, Some(401)), 1),
        ending("credit", api("billing_error", None, Some(400)), 1),
        ending("organisation", api("invalid_request", Some("org_disabled_credential"), Some(400)), 1),
        ending("model", api("model_not_found", None, Some(404)), 1),
        ending("limit", limit, 1),
        ending("429", api("rate_limit", None, Some(429)), 1),
        ending("529", api("server_error", None, Some(529)), 1),
        ending("500", api("server_error", None, Some(500)), 1),
        ending("refused", api("server_error", Some("connection_failed"), None), 1),
        ending("prompt too long", vec![Fact::Protocol, result("prompt_too_long", true)], 1),
        ending("bad request", api("invalid_request", None, Some(400)), 1),
        ending("no conversation", vec![Fact::Refusal(Refusal::NoConversation), result("-", true)], 1),
        ending("in use", vec![Fact::Refusal(Refusal::SessionInUse)], 1),
        ending("unusable", vec![Fact::Life], 1),
        ending("exit without result", vec![Fact::Protocol, Fact::Answer], 0),
        Ending { name: "killed", facts: worked(vec![]), exit: Exit::Signal(9) },
    ]
}

fn started(rules: Rules, found: Found) -> (Work, Vec<Effect>) {
    let mut work = Work::new(rules);
    let mut out = Vec::new();
    work.step(0, Event::Begin { found, spent: Spent::default() }, &mut out);
    if let State::Running(_) = work.state {
        work.step(0, Event::Started, &mut out);
    }
    (work, out)
}

/// Lets the running process end, and gives what is decided, without the heartbeats and phases.
fn end(work: &mut Work, now_ms: u64, ending: &Ending) -> Vec<Effect> {
    let mut out = Vec::new();
    for fact in &ending.facts {
        work.step(now_ms, Event::Fact(fact.clone()), &mut out);
    }
    work.step(now_ms, Event::Exited(ending.exit), &mut out);
    out.retain(|effect| !matches!(effect, Effect::Heartbeat | Effect::Phase(_) | Effect::Keep(_)));
    out
}

fn summary(effects: &[Effect]) -> String {
    let words: Vec<String> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Start(launch) => format!("{:?} {:?}", launch.session, launch.prompt),
            Effect::Note(Note::Waiting { delay_ms, session: Session::Fresh, .. }) => {
                format!("fresh, wait {}s", delay_ms / 1_000)
            }
            Effect::Note(Note::Waiting { delay_ms, .. }) => format!("wait {}s", delay_ms / 1_000),
            Effect::Note(Note::FreshSession { .. }) => "fresh".to_string(),
            Effect::Note(Note::Blocked { reason }) => format!("blocked({reason})"),
            Effect::Note(Note::GaveUp { .. }) => "gave up".to_string(),
            Effect::Note(Note::Idle(idle)) => format!("idle({idle:?})"),
            Effect::Close(reason) => format!("close({reason:?})"),
            Effect::Settle(fate) => format!("{fate:?}").to_lowercase(),
            Effect::Leave(code) => format!("leave({code:?})"),
            other => format!("{other:?}"),
        })
        .collect();
    words.join(", ")
}

fn table(rules: Rules) -> String {
    let mut table = String::from("\n");
    for ending in endings() {
        let (mut work, _) = started(rules, Found::NewJob);
        table += &format!("{}: {}\n", ending.name, summary(&end(&mut work, 1_000, &ending)));
    }
    table
}

#[test]
fn every_ending_by_hand_in_full_auto() {
    let rules = Rules { max_cost_micros: 5, max_turns: 9, ..Rules::default() };
    assert_eq!(
        table(rules),
        "
done: done, close(Done), leave(Done)
blocked: blocked(no key), unfinished, close(Blocked), leave(GaveUp)
open: Resume Continue
stopped for a tool: Resume Continue
too long an answer: Resume Continue
turns: Resume Continue
budget: idle(Budget { used_micros: 0, max_micros: 5 }), unfinished, close(Budget), leave(Budget)
401: unfinished, close(NeedsYou(Login)), leave(NeedsYou)
credit: unfinished, close(NeedsYou(Credit)), leave(NeedsYou)
organisation: unfinished, close(NeedsYou(Organisation)), leave(NeedsYou)
model: unfinished, close(NeedsYou(Model)), leave(NeedsYou)
limit: wait 3600s
429: wait 5s
529: wait 5s
500: wait 5s
refused: wait 5s
prompt too long: fresh, wait 1s
bad request: wait 1s
no conversation: fresh, SameId Task
in use: fresh, Fresh HandOver
unusable: wait 1s
exit without result: wait 1s
killed: wait 1s
"
    );
}

#[test]
fn every_ending_under_a_supervisor() {
    let rules = Rules { supervised: true, max_cost_micros: 5, ..Rules::default() };
    assert_eq!(
        table(rules),
        "
done: done, close(Done), idle(Done)
blocked: blocked(no key), unfinished, close(Blocked), idle(Blocked)
open: Resume Continue
stopped for a tool: Resume Continue
too long an answer: Resume Continue
turns: Resume Continue
budget: idle(Budget { used_micros: 0, max_micros: 5 }), unfinished, close(Budget), idle(Budget { used_micros: 0, max_micros: 5 })
401: wait 63s
credit: wait 63s
organisation: wait 63s
model: wait 63s
limit: wait 3600s
429: wait 5s
529: wait 5s
500: wait 5s
refused: wait 5s
prompt too long: fresh, wait 1s
bad request: wait 1s
no conversation: fresh, SameId Task
in use: fresh, Fresh HandOver
unusable: wait 1s
exit without result: wait 1s
killed: wait 1s
"
    );
}

#[test]
fn every_ending_of_a_single_session() {
    let rules = Rules { full_auto: false, max_turns: 9, max_cost_micros: 5, ..Rules::default() };
    assert_eq!(
        table(rules),
        "
done: done, close(Done), leave(Done)
blocked: done, close(Done), leave(Done)
open: done, close(Done), leave(Done)
stopped for a tool: gave up, unfinished, close(CliFailed), leave(GaveUp)
too long an answer: gave up, unfinished, close(CliFailed), leave(GaveUp)
turns: idle(Turns { used: 0, max: 9 }), unfinished, close(Turns), leave(Turns)
budget: idle(Budget { used_micros: 0, max_micros: 5 }), unfinished, close(Budget), leave(Budget)
401: unfinished, close(NeedsYou(Login)), leave(NeedsYou)
credit: unfinished, close(NeedsYou(Credit)), leave(NeedsYou)
organisation: unfinished, close(NeedsYou(Organisation)), leave(NeedsYou)
model: unfinished, close(NeedsYou(Model)), leave(NeedsYou)
limit: unfinished, close(RateLimit), leave(Api)
429: unfinished, close(RateLimit), leave(Api)
529: unfinished, close(Api(Overloaded)), leave(Api)
500: unfinished, close(Api(Server)), leave(Api)
refused: unfinished, close(Api(Network)), leave(Api)
prompt too long: gave up, unfinished, close(CliFailed), leave(GaveUp)
bad request: gave up, unfinished, close(CliFailed), leave(GaveUp)
no conversation: fresh, SameId Task
in use: fresh, Fresh HandOver
unusable: gave up, unfinished, close(CliFailed), leave(CliUnusable)
exit without result: gave up, unfinished, close(CliFailed), leave(GaveUp)
killed: gave up, unfinished, close(CliFailed), leave(GaveUp)
"
    );
}

#[test]
fn what_a_tool_or_a_model_says_judges_nothing() {
    let (mut work, _) = started(Rules::default(), Found::NewJob);
    let words = "API Error: 401 Invalid API key. You've hit your limit. No conversation found with session ID: x";
    let ending =
        Ending { name: "", facts: worked(vec![Fact::Said(words), result("completed", false)]), exit: Exit::Code(0) };
    assert_eq!(summary(&end(&mut work, 5, &ending)), "Resume Continue");
}

#[test]
fn a_limit_is_slept_through_with_heartbeats_and_then_resumed_once() {
    let limit = endings().into_iter().find(|ending| ending.name == "limit").unwrap();
    let (mut work, _) = started(Rules { supervised: true, ..Rules::default() }, Found::NewJob);
    end(&mut work, 1_000, &limit);
    let (mut now, mut beats, mut out) = (1_000, 0, Vec::new());
    while out.is_empty() {
        let deadline = work.deadline_ms(now).unwrap();
        assert!(deadline > now && deadline - now <= 30_000, "{now} {deadline}");
        now = deadline;
        work.step(now, Event::Tick, &mut out);
        beats += out.iter().filter(|effect| **effect == Effect::Heartbeat).count();
        out.retain(|effect| matches!(effect, Effect::Start(_)));
    }
    assert_eq!(summary(&out), "Resume Interrupted");
    assert!((3_601_000..=3_602_000).contains(&now), "{now}");
    assert!(beats >= 3_600 / 30);
}

#[test]
fn a_limit_that_should_be_over_is_not_asked_in_a_spin() {
    let mut limit = endings().into_iter().find(|ending| ending.name == "limit").unwrap();
    limit.facts[1] = Fact::Limit { resets_at_ms: Some(500) };
    let (mut work, _) = started(Rules::default(), Found::NewJob);
    assert_eq!(summary(&end(&mut work, 1_000, &limit)), "wait 5s");
}

#[test]
fn faults_in_a_row_wait_ever_longer_and_progress_starts_over() {
    let find = |name| endings().into_iter().find(|ending| ending.name == name).unwrap();
    let (overloaded, open) = (find("529"), find("open"));
    let (mut work, _) = started(Rules { supervised: true, ..Rules::default() }, Found::NewJob);
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..9 {
        end(&mut work, now, &overloaded);
        let State::Waiting { until_ms, .. } = work.state else { panic!() };
        waits.push((until_ms - now) / 1_000);
        now = until_ms;
        work.step(now, Event::Tick, &mut Vec::new());
    }
    assert!(waits.is_sorted_by(|a, b| a < b || *b >= 300), "{waits:?}");
    assert!((300..=375).contains(&waits[8]), "{waits:?}");
    end(&mut work, now, &open);
    assert_eq!(summary(&end(&mut work, now, &overloaded)), "wait 5s");
}

/// Until it leaves, or has not left after so many; waiting as long as it wants to.
fn deaths(rules: Rules, endings: &[&Ending]) -> Option<usize> {
    let (mut work, _) = started(rules, Found::NewJob);
    let mut now = 0;
    for (n, ending) in endings.iter().enumerate() {
        if end(&mut work, now, ending).contains(&Effect::Leave(Code::GaveUp)) {
            return Some(n + 1);
        }
        if let State::Waiting { until_ms, .. } = work.state {
            now = until_ms;
            work.step(now, Event::Tick, &mut Vec::new());
        }
        work.step(now, Event::Started, &mut Vec::new());
    }
    None
}

#[test]
fn an_agent_on_trial_that_dies_three_times_in_a_row_is_left() {
    let rules = Rules { supervised: true, agent_on_trial: true, ..Rules::default() };
    let find = |name| endings().into_iter().find(|ending| ending.name == name).unwrap();
    let (open, overloaded, killed) = (find("open"), find("529"), find("killed"));
    let crash = Ending { name: "crash", exit: Exit::Signal(11), facts: killed.facts.clone() };
    assert_eq!(deaths(rules, &[&crash; 5]), Some(3), "whatever it did before");
    assert_eq!(deaths(rules, &[&crash, &crash, &killed, &crash]), Some(4), "a kill says nothing");
    for other in [&open, &overloaded] {
        assert_eq!(deaths(rules, &[&crash, &crash, other, &crash, &crash]), None, "{}", other.name);
    }
    assert_eq!(deaths(rules, &[&killed; 5]), None);
    assert_eq!(deaths(Rules { agent_on_trial: false, ..rules }, &[&crash; 5]), None);
}

#[test]
fn silence_of_the_model_is_ended_but_a_tool_may_take_its_time() {
    let rules = Rules::default();
    let (mut work, _) = started(rules, Found::NewJob);
    let mut out = Vec::new();
    work.step(1_000, Event::Fact(Fact::Protocol), &mut out);
    work.step(1_000, Event::Fact(Fact::Call("t")), &mut out);
    work.step(1_000 + 10 * rules.model_silence_ms, Event::Tick, &mut out);
    assert!(!out.contains(&Effect::Terminate), "a tool runs");
    let returned = 1_000 + 10 * rules.model_silence_ms;
    work.step(returned, Event::Fact(Fact::Return("t")), &mut out);
    out.clear();
    work.step(returned + rules.model_silence_ms - 1, Event::Tick, &mut out);
    assert_eq!(out, [], "waiting for the model is no reason for a heartbeat");
    let late = returned + rules.model_silence_ms;
    assert_eq!(work.deadline_ms(late - 1), Some(late));
    work.step(late, Event::Tick, &mut out);
    assert_eq!(out, [Effect::Note(Note::Silent { silent_ms: rules.model_silence_ms }), Effect::Terminate]);
    out.clear();
    assert_eq!(work.deadline_ms(late), Some(late + rules.kill_after_ms));
    work.step(late + rules.kill_after_ms, Event::Tick, &mut out);
    assert_eq!(out, [Effect::Kill]);
    out.clear();
    work.step(late + 3_001, Event::Exited(Exit::Signal(9)), &mut out);
    let hung =
        |effect: &Effect| matches!(effect, Effect::Note(Note::Waiting { outcome: Outcome::Api(Fault::Hung), .. }));
    assert!(out.iter().any(hung), "{out:?}");
}

#[test]
fn the_clis_own_retry_delay_is_no_silence() {
    let rules = Rules::default();
    let (mut work, _) = started(rules, Found::NewJob);
    let mut out = Vec::new();
    work.step(0, Event::Fact(Fact::Retry { delay_ms: 600_000 }), &mut out);
    assert!(out.contains(&Effect::Phase(Phase::Limit)));
    out.clear();
    work.step(600_000, Event::Tick, &mut out);
    work.step(600_000 + rules.model_silence_ms - 1, Event::Tick, &mut out);
    assert!(!out.contains(&Effect::Terminate));
    work.step(600_000 + rules.model_silence_ms, Event::Tick, &mut out);
    assert!(out.contains(&Effect::Terminate));
}

#[test]
fn after_its_result_it_goes_or_is_ended_and_the_result_counts() {
    let rules = Rules::default();
    for (background, said, linger_ms) in
        [(0, "ok", rules.linger_ms), (1, "AUTOPILOT: DONE", rules.linger_ms), (1, "ok", rules.background_linger_ms)]
    {
        let (mut work, _) = started(rules, Found::NewJob);
        let mut out = Vec::new();
        for fact in worked(vec![Fact::Background(background), Fact::Said(said), result("completed", false)]) {
            work.step(0, Event::Fact(fact), &mut out);
        }
        work.step(linger_ms - 1, Event::Tick, &mut out);
        assert!(!out.contains(&Effect::Terminate), "{background} {said}");
        work.step(linger_ms, Event::Tick, &mut out);
        assert!(out.contains(&Effect::Terminate), "{background} {said}");
        out.clear();
        work.step(linger_ms, Event::Exited(Exit::Code(143)), &mut out);
        out.retain(|effect| matches!(effect, Effect::Start(_) | Effect::Leave(_)));
        let expected = if said == "ok" { "Resume Continue" } else { "leave(Done)" };
        assert_eq!(summary(&out), expected);
    }
}

#[test]
fn two_answers_without_a_deed_or_the_agreed_line_end_the_job() {
    let chat =
        Ending { name: "", facts: vec![Fact::Protocol, Fact::Answer, result("completed", false)], exit: Exit::Code(0) };
    let open = endings().into_iter().find(|ending| ending.name == "open").unwrap();
    let (mut work, _) = started(Rules::default(), Found::NewJob);
    assert_eq!(summary(&end(&mut work, 1, &chat)), "Resume Continue");
    assert_eq!(summary(&end(&mut work, 2, &open)), "Resume Continue", "a deed starts the count anew");
    assert_eq!(summary(&end(&mut work, 3, &chat)), "Resume Continue");
    assert_eq!(summary(&end(&mut work, 4, &chat)), "Note(NothingLeft), done, close(Done), leave(Done)");
}

#[test]
fn turns_and_budget_hold_over_sessions_and_restarts() {
    let rules = Rules { max_turns: 10, max_cost_micros: 1_000, ..Rules::default() };
    let begin = |rules, turns, cost_micros| {
        let mut out = Vec::new();
        let spent = Spent { turns, cost_micros, ..Spent::default() };
        Work::new(rules).step(0, Event::Begin { found: Found::Interrupted, spent }, &mut out);
        out.retain(|effect| !matches!(effect, Effect::Heartbeat | Effect::Phase(_)));
        out
    };
    let launch = |max_turns, max_cost_micros| {
        let (session, prompt) = (Session::Resume, Prompt::Interrupted);
        [Effect::Start(Launch { session, prompt, max_turns, max_cost_micros })]
    };
    assert_eq!(begin(rules, 7, 400), launch(Some(3), Some(600)));
    assert_eq!(begin(Rules { max_turns: 0, max_cost_micros: 0, ..rules }, 7, 400), launch(None, None));
    assert!(summary(&begin(rules, 10, 0)).ends_with("unfinished, close(Turns), leave(Turns)"));
    assert!(summary(&begin(rules, 0, 1_000)).ends_with("unfinished, close(Budget), leave(Budget)"));
    let supervised = Rules { supervised: true, ..rules };
    assert!(summary(&begin(supervised, 12, 0)).ends_with("close(Turns), idle(Turns { used: 12, max: 10 })"));
}

#[test]
fn a_process_that_overshoots_its_turns_is_ended() {
    let (mut work, _) = started(Rules { max_turns: 2, ..Rules::default() }, Found::NewJob);
    let mut out = Vec::new();
    for _ in 0..3 {
        work.step(1, Event::Fact(Fact::Answer), &mut out);
    }
    assert!(!out.contains(&Effect::Terminate));
    work.step(1, Event::Fact(Fact::Answer), &mut out);
    assert!(out.contains(&Effect::Terminate));
    out.clear();
    work.step(1, Event::Spent(Spent { turns: 4, ..Spent::default() }), &mut out);
    work.step(1, Event::Exited(Exit::Code(143)), &mut out);
    assert!(summary(&out).ends_with("leave(Turns)"), "{out:?}");
}

#[test]
fn a_stop_ends_every_state_and_the_second_one_at_once() {
    let limit = endings().into_iter().find(|ending| ending.name == "limit").unwrap();
    let (mut waiting, _) = started(Rules::default(), Found::NewJob);
    end(&mut waiting, 0, &limit);
    let (idle, _) = started(Rules { supervised: true, ..Rules::default() }, Found::Done);
    for mut work in [Work::new(Rules::default()), waiting, idle] {
        let mut out = Vec::new();
        work.step(9, Event::Stop(Stop::Interrupt), &mut out);
        assert_eq!(out, [Effect::Close(Reason::Interrupted), Effect::Leave(Code::Interrupted)]);
        assert_eq!(work.deadline_ms(9), None);
    }
    let (mut running, mut out) = started(Rules::default(), Found::NewJob);
    out.clear();
    running.step(9, Event::Stop(Stop::Terminate), &mut out);
    assert_eq!(out, [Effect::Terminate]);
    assert_eq!(running.deadline_ms(9), Some(3_009));
    running.step(10, Event::Stop(Stop::Terminate), &mut out);
    assert_eq!(out, [Effect::Terminate, Effect::Kill]);
    out.clear();
    running.step(11, Event::Exited(Exit::Signal(9)), &mut out);
    assert_eq!(summary(&out), "unfinished, close(Terminated), leave(Terminated)");
}

#[test]
fn a_job_that_is_done_is_not_done_again() {
    let (work, out) = started(Rules { supervised: true, ..Rules::default() }, Found::Done);
    assert!(matches!(work.state, State::Idle { .. }));
    assert_eq!(out, [Effect::Phase(Phase::Idle), Effect::Note(Note::Idle(Idle::Done)), Effect::Heartbeat]);
    assert_eq!(work.deadline_ms(0), Some(30_000));
}

#[test]
fn a_poisoned_session_is_replaced_and_an_unusable_cli_given_up() {
    let find = |name| endings().into_iter().find(|ending| ending.name == name).unwrap();
    let run = |supervised, ending: &Ending| {
        let (mut work, _) = started(Rules { supervised, ..Rules::default() }, Found::NewJob);
        let (mut now, mut story) = (0, Vec::new());
        for _ in 0..12 {
            let out = end(&mut work, now, ending);
            match work.state {
                State::Waiting { until_ms, session, prompt } => {
                    story.push(format!("{session:?} {prompt:?}"));
                    now = until_ms;
                }
                _ => {
                    story.push(summary(&out));
                    break;
                }
            }
            work.step(now, Event::Tick, &mut Vec::new());
        }
        story
    };
    let by_hand = run(false, &find("bad request"));
    let (resume, fork, fresh) = ("Resume Interrupted", "Fork Interrupted", "Fresh HandOver");
    let rungs = [resume, resume, fork, fork, fresh, fresh, fresh];
    assert_eq!(by_hand[..7], rungs);
    assert_eq!(by_hand[7..], ["gave up, poisoned, close(CliFailed), leave(GaveUp)"]);
    let supervised = run(true, &find("bad request"));
    assert_eq!(supervised[..7], rungs);
    assert_eq!(supervised[7..], [fresh; 5], "a supervised worker never gives up, but waits long");
    let too_long = run(false, &find("prompt too long"));
    assert_eq!(too_long[..3], [fresh; 3]);
    assert_eq!(too_long.len(), 4);
    let unusable = run(true, &find("unusable"));
    assert_eq!(unusable.last().map(String::as_str), Some("gave up, unfinished, close(CliFailed), leave(CliUnusable)"));
    assert_eq!(unusable.len(), 3);
}

#[test]
fn each_need_has_its_word() {
    for (need, word) in [(Need::Login, "login"), (Need::Credit, "credit"), (Need::Organisation, "organisation")] {
        assert_eq!(need.word(), word);
    }
}

fn today(limit_micros: u64, spent_micros: u64) -> Spent {
    let day = Window { limit_micros, spent_micros, ends_at_ms: 80_000_000 };
    Spent { windows: [day, Window::default(), Window::default()], ..Spent::default() }
}

fn launches(out: &[Effect]) -> Vec<Launch> {
    let launch = |effect: &Effect| if let Effect::Start(launch) = effect { Some(*launch) } else { None };
    out.iter().filter_map(launch).collect()
}

#[test]
fn a_budget_for_a_day_pauses_until_the_next_one_and_then_goes_on_by_itself() {
    let mut work = Work::new(Rules { max_cost_micros: 1_000, ..Rules::default() });
    let mut out = Vec::new();
    work.step(0, Event::Begin { found: Found::NewJob, spent: today(300, 100) }, &mut out);
    assert_eq!(launches(&out)[0].max_cost_micros, Some(200), "the least of all that is left");
    work.step(0, Event::Started, &mut out);
    for fact in worked(vec![result("budget_exhausted", true)]) {
        work.step(10, Event::Fact(fact), &mut out);
    }
    work.step(10, Event::Spent(today(300, 310)), &mut out);
    out.clear();
    work.step(20, Event::Exited(Exit::Code(1)), &mut out);
    let day = today(300, 310).windows[0];
    assert!(out.contains(&Effect::Note(Note::BudgetPause { window: day, delay_ms: 79_999_980 })), "{out:?}");
    assert_eq!(launches(&out), []);
    let mut now_ms = 20;
    while launches(&out).is_empty() {
        let deadline = work.deadline_ms(now_ms).expect("it waits for something");
        assert!(deadline > now_ms && deadline <= 80_000_000);
        out.clear();
        now_ms = deadline;
        work.step(now_ms, Event::Tick, &mut out);
        assert!(out.contains(&Effect::Heartbeat), "{out:?}");
    }
    assert_eq!((now_ms, launches(&out)[0].max_cost_micros), (80_000_000, Some(300)));
    assert_eq!(launches(&out)[0].session, Session::Resume);
}

#[test]
fn a_budget_that_is_raised_is_used_at_once() {
    let mut work = Work::new(Rules::default());
    let mut out = Vec::new();
    work.step(0, Event::Begin { found: Found::NewJob, spent: today(300, 300) }, &mut out);
    assert_eq!(launches(&out), []);
    work.step(5, Event::Spent(today(300, 300)), &mut out);
    assert_eq!(launches(&out), []);
    work.step(6, Event::Spent(today(400, 300)), &mut out);
    assert_eq!(launches(&out)[0].max_cost_micros, Some(100));
}

#[test]
fn a_single_session_does_not_wait_for_tomorrow() {
    let mut work = Work::new(Rules { full_auto: false, ..Rules::default() });
    let mut out = Vec::new();
    work.step(0, Event::Begin { found: Found::NewJob, spent: today(300, 300) }, &mut out);
    assert_eq!(out.last(), Some(&Effect::Leave(Code::Budget)));
}

/// The agent prices in its own way: who believed the books alone would ask again and again for the last cent.
#[test]
fn what_the_agent_takes_for_used_up_is_used_up() {
    for (max_cost_micros, expected) in [(0, None), (1_000, None), (150, Some(Code::Budget))] {
        let mut work = Work::new(Rules { max_cost_micros, ..Rules::default() });
        let mut out = Vec::new();
        work.step(0, Event::Begin { found: Found::NewJob, spent: today(300, 100) }, &mut out);
        work.step(0, Event::Started, &mut out);
        for fact in worked(vec![result("budget_exhausted", true)]) {
            work.step(10, Event::Fact(fact), &mut out);
        }
        out.clear();
        work.step(20, Event::Exited(Exit::Code(1)), &mut out);
        assert_eq!(launches(&out), []);
        let left = out.iter().find_map(|effect| if let Effect::Leave(code) = effect { Some(*code) } else { None });
        assert_eq!(left, expected, "{max_cost_micros}");
        let paused = out.iter().any(|effect| matches!(effect, Effect::Note(Note::BudgetPause { .. })));
        assert_eq!(paused, expected.is_none(), "{max_cost_micros}");
    }
}
