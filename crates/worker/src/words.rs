//! The worker's decisions in words: for the log, the status line, and the last line on stderr.

use policy::work::outcome::{Exit as CliExit, Fault, Need, Outcome};
use policy::work::task::Obstacle;
use policy::work::{Idle, Note, Phase, Reason, Session};

use crate::agent::INSTALL_HINT;
use crate::exit::Exit;
use crate::ledger::dollars;
use crate::recorder::local;

/// So much of a reason is repeated on stderr.
const WHY_MAX_CHARS: usize = 300;

/// A note as one line of the log. `wall_ms` is now.
pub(crate) fn note(note: &Note, wall_ms: u64) -> String {
    worded(note, |delay_ms| format!("{} (in {})", time(wall_ms, delay_ms), span(delay_ms)))
}

/// The same as the status that is shown until something else happens. `request` is why the agent needs a person, if it does.
pub(crate) fn doing(note: &Note, wall_ms: u64, phase: Phase, request: &str) -> String {
    let text = match note {
        Note::Idle(Idle::Blocked) => worded(&Note::Blocked { reason: request.to_owned() }, |_| String::new()),
        note => worded(note, |delay_ms| time(wall_ms, delay_ms)),
    };
    if phase == Phase::NeedsYou { format!("{}: {text}", self::phase(phase)) } else { text }
}

fn worded(note: &Note, when: impl Fn(u64) -> String) -> String {
    match note {
        Note::Waiting { outcome, delay_ms, session } => {
            let what = match session {
                Session::Fresh => "a fresh session takes over",
                Session::Fork => "a copy of the session takes over",
                Session::Resume | Session::SameId => "next attempt",
            };
            format!("{}; {what} at {}", outcome_clause(*outcome), when(*delay_ms))
        }
        Note::LoggedOut => "nobody is logged in; it goes on as soon as somebody is".to_owned(),
        Note::Silent { silent_ms } => format!("no sign of life from the CLI for {}; ending it", span(*silent_ms)),
        Note::NoServer => "the CLI came up without autopilot's MCP server; ending it".to_owned(),
        Note::Lingering => "the CLI gave its result and did not go; ending it".to_owned(),
        Note::Overshot { turns } => format!("the CLI took {turns} turns, more than it was given; ending it"),
        Note::FreshSession { outcome: Outcome::NoConversation } => {
            "the session is not known to the CLI; it is begun anew".to_owned()
        }
        Note::FreshSession { outcome } => format!("{}; a fresh session takes over", outcome_clause(*outcome)),
        Note::NothingLeft => {
            "two answers in a row without a tool call and without the agreed last line: taken as done".to_owned()
        }
        Note::Blocked { reason } if reason.is_empty() => "the agent says that it needs a person".to_owned(),
        Note::Blocked { reason } => format!("the agent says that it needs a person: {reason}"),
        Note::Idle(why) => idle(*why),
        Note::Poisoned { outcome, failures, delay_ms } => format!(
            "every session failed, {failures} in a row (the last: {}); one more fresh session at {}",
            outcome_clause(*outcome),
            when(*delay_ms)
        ),
        Note::BudgetPause { window, delay_ms } => {
            let (limit, spent) = (money(window.limit_micros), money(window.spent_micros));
            format!("the budget of {limit} is used up ({spent} spent); going on at {}", when(*delay_ms))
        }
        Note::GaveUp { outcome, failures: 1 } => format!("given up: {}", outcome_clause(*outcome)),
        Note::GaveUp { outcome, failures } => {
            format!("given up after {failures} failures in a row; the last: {}", outcome_clause(*outcome))
        }
    }
}

fn idle(why: Idle) -> String {
    match why {
        Idle::NoPrompt => "nothing to do: no prompt was given and no job is unfinished".to_owned(),
        Idle::Done => "the job is done".to_owned(),
        Idle::Turns { used, max: 0 } => format!("the agent says that its turns are used up ({used} so far)"),
        Idle::Budget { used_micros, max_micros: 0 } => {
            format!("the agent says that its budget is used up (${:.4} so far)", dollars(used_micros))
        }
        Idle::Turns { used, max } => format!("the job's turns are used up ({used} of {max})"),
        Idle::Budget { used_micros, max_micros } => {
            format!("the job's budget is used up (${:.4} of ${:.4})", dollars(used_micros), dollars(max_micros))
        }
        Idle::Blocked => "the agent says that it needs a person".to_owned(),
        Idle::NoTask => "no task is ready (`autopilot issue list` shows what there is)".to_owned(),
    }
}

/// Why a task waits for a person. `rejection` is what the last check said, or what could not make the place for the work.
pub(crate) fn obstacle(obstacle: &Obstacle, rejection: &str) -> String {
    match obstacle {
        Obstacle::Agent(reason) if reason.is_empty() => "the agent says that it needs a person".to_owned(),
        Obstacle::Agent(reason) => reason.clone(),
        Obstacle::Rejected { attempts } => format!("{attempts} results were not accepted; the last:\n{rejection}"),
        Obstacle::NoPlace => format!("there is no place for its work: {rejection}"),
        Obstacle::Failed { outcome, failures } => {
            format!("poisoned: its sessions failed {failures} times in a row; the last: {}", outcome_clause(*outcome))
        }
    }
}

fn outcome_clause(outcome: Outcome) -> String {
    match outcome {
        Outcome::Crashed(CliExit::Signal(signal)) => format!("{} (signal {signal})", outcome.clause()),
        Outcome::Crashed(CliExit::Code(code)) | Outcome::Unusable(CliExit::Code(code)) => {
            format!("{} (exit {code})", outcome.clause())
        }
        other => other.clause().to_owned(),
    }
}

/// What is being waited for, for a status line.
pub(crate) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting the CLI",
        Phase::Model => "waiting for the model",
        Phase::Tool => "a tool runs",
        Phase::Limit => "waiting for the API",
        Phase::NeedsYou => "needs you",
        Phase::Idle => "idle",
    }
}

/// The value of `AUTOPILOT_PHASE`.
pub(crate) fn phase_token(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Model => "model",
        Phase::Tool => "tool",
        Phase::Limit => "limit",
        Phase::NeedsYou => "needs-you",
        Phase::Idle => "idle",
    }
}

/// The word after `reason=`.
pub(crate) fn reason(reason: Reason) -> String {
    match reason {
        Reason::Done => "done".to_owned(),
        Reason::Turns => "turns".to_owned(),
        Reason::Budget | Reason::Window => "budget".to_owned(),
        Reason::NeedsYou(need) => format!("needs-you:{}", need.word()),
        Reason::Blocked => "needs-you:blocked".to_owned(),
        Reason::Taken => "taken".to_owned(),
        Reason::RateLimit => "rate-limit".to_owned(),
        Reason::Api(fault) => format!("api:{}", fault.word()),
        Reason::CliMissing => "cli-missing".to_owned(),
        Reason::CliFailed => "cli-failed".to_owned(),
        Reason::Terminated => "terminated".to_owned(),
        Reason::Interrupted => "interrupted".to_owned(),
    }
}

/// The sentence and the hint for a worker that leaves with something to say. `cli` is what the CLI itself said last.
pub(crate) fn farewell(reason: Reason, exit: Exit, cli: &str) -> Option<(String, Option<String>)> {
    let with_cli = |text: &str| if cli.is_empty() { text.to_owned() } else { format!("{text}: {cli}") };
    let (sentence, hint) = match reason {
        Reason::Done | Reason::Taken | Reason::Terminated | Reason::Interrupted => return None,
        Reason::Turns => ("the job's turns are used up".to_owned(), "run it again with a larger --max-turns to go on"),
        Reason::Budget => {
            ("the job's budget is used up".to_owned(), "run it again with a larger --max-budget to go on")
        }
        Reason::Window => (
            "the project's budget for the day, the week or the month is used up".to_owned(),
            "raise it in autopilot.toml, or run `autopilot budget reset`; --full-auto waits for the next one and goes on by itself",
        ),
        Reason::NeedsYou(need) => (
            with_cli(Outcome::NeedsYou(need).clause()),
            match need {
                Need::Login => {
                    "start `claude`, type /login, then run this again; or set ANTHROPIC_API_KEY to a valid key"
                }
                Need::Credit => "add credit to the account, then run this again",
                Need::Organisation => "use the key or login of another organisation, then run this again",
                Need::Model => "name another one with --model, for example sonnet",
            },
        ),
        Reason::Blocked => (
            "the agent says that it needs a person".to_owned(),
            "its last message is in the log; run this again to go on",
        ),
        Reason::RateLimit => (with_cli("the API refuses requests for now"), "--full-auto waits and goes on by itself"),
        Reason::Api(Fault::Hung) => ("the API did not answer".to_owned(), "--full-auto waits and goes on by itself"),
        Reason::Api(fault) => (with_cli(Outcome::Api(fault).clause()), "--full-auto waits and goes on by itself"),
        Reason::CliMissing => return None,
        Reason::CliFailed if cli.starts_with("MCP server ") => (
            format!("the CLI does not get the queue's tools: {cli}"),
            "`autopilot mcp` has to start; `claude --debug` says more",
        ),
        Reason::CliFailed if exit == Exit::CliUnusable => (with_cli("the Claude CLI does not run"), INSTALL_HINT),
        Reason::CliFailed => {
            (with_cli("the agent's sessions failed"), "the log has the details; run this again to go on")
        }
    };
    Some((sentence, Some(hint.to_owned())))
}

/// The last words on a task that was set aside, for whoever started us by hand.
pub(crate) fn set_aside(id: i64, reason: &str) -> (String, String) {
    let why = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = why.chars().take(WHY_MAX_CHARS).collect();
    if short.len() < why.len() {
        short.push('…');
    }
    let hint = format!("`autopilot issue show {id}` says all of it; `autopilot issue unblock {id}` lets it go on");
    (format!("task #{id} is set aside: {short}"), hint)
}

/// Not less than it is: at least cents, and as many places more as it has.
fn money(micros: u64) -> String {
    let text = format!("${:.6}", dollars(micros));
    let zeros = text.len() - text.trim_end_matches('0').len();
    text.split_at(text.len() - zeros.min(4)).0.to_owned()
}

fn span(ms: u64) -> String {
    let s = (ms.saturating_add(500) / 1_000).max(1);
    match s {
        0..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min", s.div_ceil(60)),
        _ => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
    }
}

fn time(wall_ms: u64, delay_ms: u64) -> String {
    let format = if delay_ms < 20 * 3_600_000 { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" };
    local(wall_ms.saturating_add(delay_ms)).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_says_why_and_until_when() {
        let session = Session::Resume;
        let waiting = Note::Waiting { outcome: Outcome::Limit { resets_at_ms: Some(1) }, delay_ms: 3_600_000, session };
        let text = note(&waiting, 0);
        assert!(text.starts_with("the usage limit is reached; next attempt at "), "{text}");
        assert!(text.ends_with(" (in 60 min)"), "{text}");
        let crashed = Note::Waiting { outcome: Outcome::Crashed(CliExit::Signal(9)), delay_ms: 1_000, session };
        assert!(note(&crashed, 0).starts_with("the CLI died (signal 9); "));
    }

    #[test]
    fn a_status_says_until_when_and_not_in_how_long() {
        let window = policy::work::budget::Window { limit_micros: 5_000_000, spent_micros: 5_020_000, ends_at_ms: 0 };
        let pause = Note::BudgetPause { window, delay_ms: 86_400_000 };
        let text = doing(&pause, 0, Phase::Limit, "");
        assert!(text.starts_with("the budget of $5.00 is used up ($5.02 spent); going on at 1970-01-0"), "{text}");
        assert!(!text.contains("(in "), "{text}");
        assert_eq!(
            doing(&Note::Idle(Idle::Blocked), 0, Phase::NeedsYou, "no key"),
            "needs you: the agent says that it needs a person: no key"
        );
        assert_eq!(
            doing(&Note::LoggedOut, 0, Phase::NeedsYou, ""),
            "needs you: nobody is logged in; it goes on as soon as somebody is"
        );
    }

    #[test]
    fn what_was_spent_is_told_to_its_last_digit() {
        for (micros, text) in
            [(15_000, "$0.015"), (500, "$0.0005"), (5_000_000, "$5.00"), (1, "$0.000001"), (0, "$0.00")]
        {
            assert_eq!(money(micros), text);
        }
    }

    #[test]
    fn spans_are_read_at_a_glance() {
        for (ms, text) in [(1, "1 s"), (90_000, "90 s"), (300_000, "5 min"), (9_000_000, "2 h 30 min")] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn who_is_needed_is_told_what_to_do() {
        let (sentence, hint) =
            farewell(Reason::NeedsYou(Need::Login), Exit::NeedsYou, "Not logged in · Please run /login").unwrap();
        assert_eq!(sentence, "the login was refused: Not logged in · Please run /login");
        assert!(hint.unwrap().contains("/login"));
        assert_eq!(farewell(Reason::Done, Exit::Done, ""), None);
    }
}
