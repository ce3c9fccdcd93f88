use alloc::vec;

use super::super::outcome::{Ended, Exit};
use super::super::{Event, Fact, Found, Note, Rules, Spent, Stop};
use super::*;

const QUEUE: Rules = Rules { queue: true, supervised: true, ..Rules::DEFAULT };

/// A worker, and all that it decided since the last look.
struct Rig {
    work: Work,
    now_ms: u64,
}

impl Rig {
    fn new(rules: Rules, found: Found) -> (Self, Vec<Effect>) {
        let mut rig = Self { work: Work::new(rules), now_ms: 1_000 };
        let out = rig.tell(Event::Begin { found, spent: Spent::default() });
        (rig, out)
    }

    /// One that has a task and a session for it.
    fn at_work() -> Self {
        let (mut rig, out) = Self::new(QUEUE, Found::NoJob);
        assert_eq!(out, [Effect::Claim]);
        let out = rig.tell(Event::Claimed { begun: false });
        assert_eq!(out.last(), Some(&Effect::Errand(Errand::Prepare)));
        rig.passes();
        rig
    }

    fn tell(&mut self, event: Event<'_>) -> Vec<Effect> {
        let mut out = Vec::new();
        self.work.step(self.now_ms, event, &mut out);
        out.retain(|effect| !matches!(effect, Effect::Heartbeat | Effect::Phase(_) | Effect::Keep(_)));
        out
    }

    fn passes(&mut self) -> Vec<Effect> {
        self.tell(Event::ErrandEnded(ErrandEnd::Passed))
    }

    /// The agent ends with these words.
    fn agent_says(&mut self, words: &str) -> Vec<Effect> {
        self.tell(Event::Started);
        let ended = Ended { terminal_reason: Some("completed".into()), ..Ended::default() };
        for fact in [Fact::Protocol, Fact::Call("t"), Fact::Return("t"), Fact::Result { ended, text: Some(words) }] {
            self.tell(Event::Fact(fact));
        }
        self.tell(Event::Exited(Exit::Code(0)))
    }

    fn wait(&mut self) -> Vec<Effect> {
        let deadline = self.work.deadline_ms(self.now_ms).expect("it waits for something");
        assert!(deadline > self.now_ms, "a wait that is over is not waited for");
        self.now_ms = deadline;
        self.tell(Event::Tick)
    }
}

fn started(out: &[Effect]) -> Option<(Session, Prompt)> {
    let start =
        |effect: &Effect| if let Effect::Start(launch) = effect { Some((launch.session, launch.prompt)) } else { None };
    out.iter().find_map(start)
}

#[test]
fn a_task_goes_its_way_and_the_next_one_follows() {
    let mut rig = Rig::at_work();
    assert_eq!(rig.agent_says("AUTOPILOT: DONE"), [Effect::Errand(Errand::Accept)]);
    assert_eq!(rig.passes(), [Effect::Errand(Errand::Finish)]);
    assert_eq!(rig.passes(), [Effect::Settle(Fate::Done), Effect::Close(Reason::Done), Effect::Claim]);
    rig.tell(Event::Claimed { begun: true });
    // It was begun by a worker that died.
    assert_eq!(started(&rig.passes()), Some((Session::Resume, Prompt::Interrupted)));
}

#[test]
fn a_result_that_is_refused_goes_back_and_after_the_last_time_to_a_person() {
    let mut rig = Rig::at_work();
    for attempts in 1..=3 {
        assert_eq!(rig.agent_says("AUTOPILOT: DONE"), [Effect::Errand(Errand::Accept)]);
        let out = rig.tell(Event::ErrandEnded(ErrandEnd::Rejected { attempts }));
        if attempts < 3 {
            assert_eq!(started(&out), Some((Session::Resume, Prompt::Rejected)));
        } else {
            assert_eq!(out, [Effect::Errand(Errand::Abandon)]);
        }
    }
    let obstacle = Obstacle::Rejected { attempts: 3 };
    assert_eq!(rig.passes(), [Effect::Block(obstacle), Effect::Close(Reason::Blocked), Effect::Claim]);
}

#[test]
fn what_one_task_lacks_keeps_no_other_from_being_done() {
    let mut rig = Rig::at_work();
    let out = rig.agent_says("AUTOPILOT: BLOCKED no key");
    assert_eq!(out.last(), Some(&Effect::Errand(Errand::Abandon)));
    let out = rig.tell(Event::ErrandEnded(ErrandEnd::Failed));
    assert_eq!(out[0], Effect::Block(Obstacle::Agent("no key".into())));
    assert_eq!(out.last(), Some(&Effect::Claim));

    rig.tell(Event::Claimed { begun: false });
    let out = rig.tell(Event::ErrandEnded(ErrandEnd::Failed));
    assert_eq!(out, [Effect::Block(Obstacle::NoPlace), Effect::Close(Reason::Blocked), Effect::Claim]);

    // Sessions that die again and again, each after a longer wait.
    rig.tell(Event::Claimed { begun: false });
    let mut out = rig.passes();
    let mut deaths = 0;
    while !out.contains(&Effect::Errand(Errand::Abandon)) {
        if started(&out).is_some() {
            rig.tell(Event::Started);
            rig.tell(Event::Fact(Fact::Protocol));
            deaths += 1;
            out = rig.tell(Event::Exited(Exit::Code(1)));
        } else {
            out = rig.wait();
        }
    }
    assert_eq!(deaths, 8);
    let out = rig.passes();
    assert!(matches!(out[0], Effect::Block(Obstacle::Failed { failures: 8, .. })), "{out:?}");
}

/// By hand, whoever asks the exit code knows whether all of it was done.
#[test]
fn it_leaves_as_done_only_if_nothing_was_set_aside() {
    for (words, code) in [("AUTOPILOT: DONE", Code::Done), ("AUTOPILOT: BLOCKED no key", Code::GaveUp)] {
        let (mut rig, _) = Rig::new(Rules { supervised: false, ..QUEUE }, Found::NoJob);
        // The last one is done in any case.
        for words in [words, "AUTOPILOT: DONE"] {
            rig.tell(Event::Claimed { begun: false });
            rig.passes();
            rig.agent_says(words);
            while rig.passes().last() != Some(&Effect::Claim) {}
        }
        assert_eq!(rig.tell(Event::NoTask { look_again_ms: None }).last(), Some(&Effect::Leave(code)), "{words}");
    }
}

#[test]
fn with_nothing_to_do_it_waits_or_leaves_as_it_is_wanted() {
    for (rules, leaves) in [
        (QUEUE, false),
        (Rules { wait: true, supervised: false, ..QUEUE }, false),
        (Rules { supervised: false, ..QUEUE }, true),
    ] {
        let (mut rig, _) = Rig::new(rules, Found::NoJob);
        let out = rig.tell(Event::NoTask { look_again_ms: None });
        assert_eq!(out.contains(&Effect::Leave(Code::Done)), leaves, "{rules:?}");
        if leaves {
            continue;
        }
        assert_eq!(out, [Effect::Note(Note::Idle(Idle::NoPrompt))]);
        // Somebody writes to the queue, or nobody says so.
        assert_eq!(rig.tell(Event::QueueChanged), [Effect::Claim]);
        assert_eq!(rig.tell(Event::NoTask { look_again_ms: None }), [], "it is not said again");
        let (mut looks, until_ms) = (0, rig.now_ms + 600_000);
        while rig.now_ms < until_ms {
            let out = rig.wait();
            if out.contains(&Effect::Claim) {
                looks += 1;
                rig.tell(Event::NoTask { look_again_ms: None });
            }
        }
        assert_eq!(looks, 10);
        // A claim that runs out is waited for exactly.
        rig.tell(Event::QueueChanged);
        let at_ms = rig.now_ms + 7;
        rig.tell(Event::NoTask { look_again_ms: Some(at_ms) });
        assert_eq!((rig.wait(), rig.now_ms), (vec![Effect::Claim], at_ms));
    }
}

#[test]
fn a_claim_is_renewed_whatever_is_waited_for() {
    let mut rig = Rig::at_work();
    rig.tell(Event::Started);
    let mut renewals = 0;
    for _ in 0..400 {
        // A tool that takes very long.
        rig.tell(Event::Fact(Fact::Call("t")));
        renewals += rig.wait().iter().filter(|effect| **effect == Effect::Renew).count();
        if rig.now_ms > 3_000_000 {
            break;
        }
    }
    assert_eq!(renewals, 50, "once a minute");
}

#[test]
fn a_task_that_is_somebody_elses_by_now_is_left_alone() {
    let mut rig = Rig::at_work();
    rig.tell(Event::Started);
    assert_eq!(rig.tell(Event::TaskLost), [Effect::Terminate]);
    let out = rig.tell(Event::Exited(Exit::Code(143)));
    assert_eq!(out, [Effect::Close(Reason::Taken), Effect::Claim], "nothing is settled");

    let mut rig = Rig::at_work();
    rig.agent_says("AUTOPILOT: DONE");
    assert_eq!(rig.tell(Event::TaskLost), [Effect::Terminate]);
    assert_eq!(rig.passes(), [Effect::Close(Reason::Taken), Effect::Claim]);
}

#[test]
fn a_stop_while_a_result_is_checked_ends_at_once_and_leaves_the_task_open() {
    let mut rig = Rig::at_work();
    rig.agent_says("AUTOPILOT: DONE");
    let out = rig.tell(Event::Stop(Stop::Terminate));
    let expected = [
        Effect::Terminate,
        Effect::Settle(Fate::Unfinished),
        Effect::Close(Reason::Terminated),
        Effect::Leave(Code::Terminated),
    ];
    assert_eq!(out, expected);
}

#[test]
fn a_check_that_hangs_is_ended() {
    let mut rig = Rig::at_work();
    rig.agent_says("AUTOPILOT: DONE");
    let begun_ms = rig.now_ms;
    while !rig.wait().contains(&Effect::Kill) {}
    assert_eq!(rig.now_ms - begun_ms, ERRAND_MS);
    assert_eq!(
        started(&rig.tell(Event::ErrandEnded(ErrandEnd::Rejected { attempts: 1 }))),
        Some((Session::Resume, Prompt::Rejected))
    );
}

#[test]
fn a_task_for_which_there_is_no_money_goes_on_when_there_is() {
    let (mut rig, _) = Rig::new(Rules { max_cost_micros: 100, ..QUEUE }, Found::NoJob);
    rig.tell(Event::Spent(Spent { cost_micros: 100, ..Spent::default() }));
    rig.tell(Event::Claimed { begun: false });
    let out = rig.passes();
    assert!(out.contains(&Effect::Close(Reason::Budget)) && started(&out).is_none(), "{out:?}");
    // Its own writing, and that of others, does not have it ask again.
    assert_eq!(rig.tell(Event::QueueChanged), []);
    assert_eq!(rig.tell(Event::Spent(Spent { cost_micros: 100, ..Spent::default() })), []);
    assert_eq!(rig.tell(Event::Spent(Spent::default())), [Effect::Claim]);
}

#[test]
fn a_prompt_comes_first_and_the_queue_after_it() {
    let (mut rig, out) = Rig::new(QUEUE, Found::NewJob);
    assert_eq!(started(&out), Some((Session::Fresh, Prompt::Task)));
    let out = rig.agent_says("AUTOPILOT: DONE");
    assert_eq!(out, [Effect::Settle(Fate::Done), Effect::Close(Reason::Done), Effect::Claim]);
    assert_eq!(rig.tell(Event::NoTask { look_again_ms: None }), [Effect::Note(Note::Idle(Idle::Done))]);
}
