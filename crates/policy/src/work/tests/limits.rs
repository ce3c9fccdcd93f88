//! Limits, logins and failures in a row: what is waited for, and what the next worker must know of it.

use super::*;

fn effects(work: &mut Work, now_ms: u64, event: Event<'_>) -> Vec<Effect> {
    let mut out = Vec::new();
    work.step(now_ms, event, &mut out);
    out.retain(|effect| !matches!(effect, Effect::Heartbeat | Effect::Phase(_)));
    out
}

fn kept(out: &[Effect]) -> Vec<Standing> {
    let standing = |effect: &Effect| if let Effect::Keep(standing) = effect { Some(*standing) } else { None };
    out.iter().filter_map(standing).collect()
}

/// A limit of one hour, and a worker that is killed at every minute of it: not one request before its end, one after.
#[test]
fn a_limit_outlives_the_worker() {
    let limit = endings().into_iter().find(|ending| ending.name == "limit").unwrap();
    let (mut work, _) = started(Rules { supervised: true, ..Rules::default() }, Found::NewJob);
    for fact in &limit.facts {
        work.step(0, Event::Fact(fact.clone()), &mut Vec::new());
    }
    let mut standing = kept(&effects(&mut work, 0, Event::Exited(limit.exit)))[0];
    let until_ms = standing.limit_until_ms.unwrap();
    let (mut now_ms, mut requests) = (0, 0);
    while requests == 0 {
        now_ms += 60_000;
        let mut work = Work::new(Rules { supervised: true, seed: now_ms, ..Rules::default() });
        effects(&mut work, now_ms, Event::Recall(standing));
        let out = effects(&mut work, now_ms, Event::Begin { found: Found::Interrupted, spent: Spent::default() });
        requests = out.iter().filter(|effect| matches!(effect, Effect::Start(_))).count();
        assert_eq!(requests > 0, now_ms >= until_ms, "{now_ms} of {until_ms}");
        if requests == 0 {
            assert_eq!(work.deadline_ms(now_ms), Some((now_ms + 30_000).min(until_ms)));
        }
        standing = kept(&out).last().copied().unwrap_or(standing);
    }
    assert_eq!((requests, standing.limit_until_ms), (1, None));
}

#[test]
fn failures_in_a_row_are_counted_over_the_deaths_of_workers() {
    let killed = endings().into_iter().find(|ending| ending.name == "exit without result").unwrap();
    let mut standing = Standing::default();
    let mut sessions = Vec::new();
    for _ in 0..7 {
        let mut work = Work::new(Rules { supervised: true, ..Rules::default() });
        effects(&mut work, 0, Event::Recall(standing));
        effects(&mut work, 0, Event::Begin { found: Found::Interrupted, spent: Spent::default() });
        for fact in &killed.facts {
            effects(&mut work, 0, Event::Fact(fact.clone()));
        }
        let out = effects(&mut work, 0, Event::Exited(killed.exit));
        standing = kept(&out)[0];
        let State::Waiting { session, .. } = work.state else { panic!("{out:?}") };
        sessions.push(session);
    }
    assert_eq!(standing.failures, 7);
    let expected = [Session::Resume, Session::Fork, Session::Fresh]
        .map(|session| sessions.iter().filter(|&&taken| taken == session).count());
    assert_eq!(expected, [2, 2, 3]);
}

#[test]
fn neither_an_outage_nor_a_few_kills_speak_against_the_session() {
    let ending = |name| endings().into_iter().find(|ending| ending.name == name).unwrap();
    let mut work = Work::new(Rules { supervised: true, ..Rules::default() });
    effects(&mut work, 0, Event::Begin { found: Found::Interrupted, spent: Spent::default() });
    let mut now_ms = 0;
    let mut end = |work: &mut Work, name, exit: Option<Exit>| {
        let Ending { facts, exit: its_own, .. } = ending(name);
        for fact in &facts {
            effects(work, now_ms, Event::Fact(fact.clone()));
        }
        effects(work, now_ms, Event::Exited(exit.unwrap_or(its_own)));
        let State::Waiting { until_ms, session, .. } = work.state else { panic!("{work:?}") };
        now_ms = until_ms;
        effects(work, now_ms, Event::Tick);
        session
    };
    for _ in 0..20 {
        assert_eq!(end(&mut work, "529", None), Session::Resume, "an outage");
    }
    for kill in 1..=6 {
        assert_eq!(end(&mut work, "exit without result", Some(Exit::Signal(9))), Session::Resume, "kill {kill}");
    }
    assert_eq!(end(&mut work, "exit without result", None), Session::Fork, "its own failure, after two strikes");
}

#[test]
fn sessions_that_come_to_nothing_in_no_time_are_no_hot_loop() {
    let find = |name| endings().into_iter().find(|ending| ending.name == name).unwrap();
    for (name, code) in [("open", 0), ("stopped for a tool", 0), ("exit without result", 1)] {
        let Ending { mut facts, .. } = find(name);
        if code == 1 {
            facts.push(Fact::Return("t1"));
        }
        let mut work = Work::new(Rules { supervised: true, ..Rules::default() });
        effects(&mut work, 0, Event::Begin { found: Found::NewJob, spent: Spent::default() });
        let (mut now_ms, mut starts) = (0, 0);
        while now_ms < 3_600_000 {
            effects(&mut work, now_ms, Event::Started);
            starts += 1;
            facts.iter().for_each(|fact| drop(effects(&mut work, now_ms, Event::Fact(fact.clone()))));
            effects(&mut work, now_ms + 10, Event::Exited(Exit::Code(code)));
            if let State::Waiting { until_ms, .. } = work.state {
                now_ms = until_ms;
                effects(&mut work, now_ms, Event::Tick);
            }
        }
        assert!((5..40).contains(&starts), "{name}: {starts} in an hour");
    }
}

#[test]
fn a_limit_that_no_answer_followed_is_one_however_the_process_ended() {
    let limit = Fact::Limit { resets_at_ms: Some(3_600_000) };
    for (after, exit) in [
        (vec![], Exit::Code(1)),
        (vec![], Exit::Signal(9)),
        (vec![result("completed", false)], Exit::Code(0)),
        (vec![result("-", true)], Exit::Code(1)),
    ] {
        let (mut work, _) = started(Rules::default(), Found::NewJob);
        let facts = [vec![Fact::Protocol, limit.clone()], after].concat();
        let out = end(&mut work, 0, &Ending { name: "", facts, exit });
        assert!(summary(&out).starts_with("wait 360"), "{out:?}");
    }
    let (mut work, _) = started(Rules::default(), Found::NewJob);
    let facts =
        vec![Fact::Protocol, limit, Fact::Answer, Fact::Said("ok\nAUTOPILOT: DONE"), result("completed", false)];
    let out = end(&mut work, 0, &Ending { name: "", facts, exit: Exit::Code(0) });
    assert!(!summary(&out).starts_with("wait"), "an answer came after it: {out:?}");
}

#[test]
fn the_clis_words_count_where_no_token_says_it() {
    let untold = || Fact::Result { ended: Ended { is_error: true, ..Ended::default() }, text: None };
    let words = |kind: &str, detail: Option<&str>, status| Fact::Complaint(ApiError::new(kind, detail, status));
    for (fact, phase) in [
        (words("authentication_failed", None, None), Phase::NeedsYou),
        (words("billing_error", None, None), Phase::NeedsYou),
        (words("model_not_found", None, None), Phase::NeedsYou),
        (words("invalid_request", Some("org_disabled_credential"), None), Phase::NeedsYou),
        (words("unknown", None, Some(529)), Phase::Limit),
    ] {
        let (mut work, _) = started(Rules { supervised: true, ..Rules::default() }, Found::NewJob);
        end(
            &mut work,
            0,
            &Ending { name: "", facts: vec![Fact::Protocol, fact.clone(), untold()], exit: Exit::Code(1) },
        );
        assert_eq!(work.phase, Some(phase), "{fact:?}");
        // A token knows better.
        let (mut work, _) = started(Rules { supervised: true, ..Rules::default() }, Found::NewJob);
        let told = Fact::ApiError(ApiError::new("server_error", None, Some(500)));
        let facts = vec![Fact::Protocol, told, fact, untold()];
        end(&mut work, 0, &Ending { name: "", facts, exit: Exit::Code(1) });
        assert_eq!(work.phase, Some(Phase::Limit));
    }
}

#[test]
fn an_error_that_nothing_explains_waits_ever_longer_before_it_speaks_against_the_session() {
    let (mut work, _) = started(Rules { supervised: true, ..Rules::default() }, Found::NewJob);
    let (mut now_ms, mut sessions, mut waits) = (0, Vec::new(), Vec::new());
    for _ in 0..10 {
        let ended = Ended { is_error: true, ..Ended::default() };
        let facts = vec![Fact::Protocol, Fact::Result { ended, text: Some("Something is off") }];
        end(&mut work, now_ms, &Ending { name: "", facts, exit: Exit::Code(1) });
        let State::Waiting { until_ms, session, .. } = work.state else { panic!("{work:?}") };
        sessions.push(session);
        waits.push(until_ms - now_ms);
        now_ms = until_ms;
        work.step(now_ms, Event::Tick, &mut Vec::new());
    }
    assert!(waits[0] >= 5_000 && waits.is_sorted_by(|a, b| a < b || *b >= 300_000), "{waits:?}");
    assert_eq!(sessions[..6], [Session::Resume; 6]);
    assert_eq!(sessions[6..], [Session::Fork, Session::Fork, Session::Fresh, Session::Fresh]);
}

/// The worker's words, and no tool's: [`Fact::Limit`] without any token that says so.
#[test]
fn a_limit_in_words_only_is_one_where_no_token_says_otherwise() {
    for (kind, limit, expected) in [
        (None, true, "wait 3600s"),
        (None, false, "wait 1s"),
        (Some(("server_error", Some(529))), true, "wait 5s"),
        (Some(("authentication_failed", Some(401))), true, "wait 63s"),
    ] {
        let mut facts = vec![Fact::Protocol];
        facts.extend(kind.map(|(kind, status)| Fact::ApiError(ApiError::new(kind, None, status))));
        facts.extend(limit.then_some(Fact::Limit { resets_at_ms: Some(3_600_000) }));
        facts.push(result("completed", true));
        let (mut work, _) = started(Rules { supervised: true, ..Rules::default() }, Found::NewJob);
        let ending = Ending { name: "", facts, exit: Exit::Code(1) };
        assert_eq!(summary(&end(&mut work, 1_000, &ending)), expected, "{kind:?} {limit}");
    }
}

fn needs_login() -> Work {
    let refused = endings().into_iter().find(|ending| ending.name == "401").unwrap();
    let (mut work, _) = started(Rules { supervised: true, ..Rules::default() }, Found::NewJob);
    end(&mut work, 0, &refused);
    work
}

/// What the clock brings until `until_ms`; each probe is answered with this.
fn probed_until(work: &mut Work, until_ms: u64, logged_in: bool, changed: bool) -> (usize, usize) {
    let (mut now_ms, mut probes, mut starts) = (0, 0, 0);
    while now_ms < until_ms && starts == 0 {
        let deadline_ms = work.deadline_ms(now_ms).unwrap();
        assert!(deadline_ms > now_ms, "{now_ms} {deadline_ms}");
        now_ms = deadline_ms;
        let mut out = effects(work, now_ms, Event::Tick);
        if out.contains(&Effect::Probe) {
            probes += 1;
            out.extend(effects(work, now_ms, Event::Probed { logged_in, changed }));
        }
        starts += out.iter().filter(|effect| matches!(effect, Effect::Start(_))).count();
    }
    (probes, starts)
}

#[test]
fn who_needs_a_login_asks_the_cli_and_not_the_api() {
    let day_ms = 24 * 3_600_000;
    let (probes, starts) = probed_until(&mut needs_login(), day_ms, false, false);
    assert_eq!(starts, 0, "nobody is logged in");
    assert!((1_400..=1_441).contains(&probes), "{probes}");
    assert_eq!(probed_until(&mut needs_login(), day_ms, true, true), (1, 1), "at once");
    // The same answer as before the refusal: the key is wrong, and that the CLI can't tell. The growing delay holds.
    assert_eq!(probed_until(&mut needs_login(), day_ms, true, false), (1, 1));
    let mut work = needs_login();
    effects(&mut work, 33_000, Event::Tick);
    assert_eq!(effects(&mut work, 33_100, Event::Probed { logged_in: true, changed: false }), []);
    // An answer that comes late changes nothing.
    let (mut running, _) = started(Rules::default(), Found::NewJob);
    assert_eq!(effects(&mut running, 5, Event::Probed { logged_in: true, changed: true }), []);
}

/// A shell shows the last word: the note of a wait comes after its phase, and the start after the wait tells its phase again.
#[test]
fn a_wait_is_explained_after_its_phase_and_is_over_with_the_next_start() {
    for (name, phase) in [
        ("401", Phase::NeedsYou),
        ("limit", Phase::Limit),
        ("529", Phase::Limit),
        ("killed", Phase::Starting),
        ("blocked", Phase::NeedsYou),
    ] {
        let ending = endings().into_iter().find(|ending| ending.name == name).unwrap();
        let (mut work, _) = started(Rules { supervised: true, ..Rules::default() }, Found::NewJob);
        let mut out = Vec::new();
        for fact in ending.facts {
            work.step(1_000, Event::Fact(fact), &mut out);
        }
        work.step(1_000, Event::Exited(ending.exit), &mut out);
        let last = out.iter().rposition(|effect| matches!(effect, Effect::Phase(_))).unwrap();
        assert_eq!(out[last], Effect::Phase(phase), "{name}");
        assert!(out[last..].iter().any(|effect| matches!(effect, Effect::Note(_))), "{name}: {out:?}");
        if name == "blocked" {
            continue;
        }
        let mut next = Vec::new();
        work.step(24 * 3_600_000, Event::Tick, &mut next);
        let at =
            |wanted: fn(&Effect) -> bool| next.iter().position(wanted).unwrap_or_else(|| panic!("{name}: {next:?}"));
        let starting = at(|effect| *effect == Effect::Phase(Phase::Starting));
        assert!(starting < at(|effect| matches!(effect, Effect::Start(_))), "{name}");
    }
}

#[test]
fn that_nobody_is_logged_in_is_said_when_the_attempt_is_put_off() {
    let mut work = needs_login();
    effects(&mut work, 33_000, Event::Tick);
    effects(&mut work, 33_100, Event::Probed { logged_in: false, changed: false });
    let out = effects(&mut work, 70_000, Event::Tick);
    assert!(out.contains(&Effect::Note(Note::LoggedOut)), "{out:?}");
    assert!(!out.iter().any(|effect| matches!(effect, Effect::Start(_))), "{out:?}");
}
