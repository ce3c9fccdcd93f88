//! The six acts, one after another. Each waits until the agent is in the middle of a turn (its tool waits for a cue),
//! does its mischief, measures how long the recovery took, and checks what it then claims.
//!
//! Times are those of events: of the signal that is sent here, and of the records that the run's shim leaves. What the
//! settings demand (delay, timeout) is shown apart from what the daemon needs on top.

use os::child::Ended;
use os::process::{Identity, Send};
use policy::supervisor::MemoryReading;
use wire::control::Verb;

use super::checks::runs;
use super::plot::{DELAY_MS, LeakPlan, STEPS, memory};
use super::screen::{Who, span};
use super::watch::{Trouble, Watch};

/// After an act's heading.
const PAUSE_MS: u64 = 800;
/// In the middle of one.
const BREATH_MS: u64 = 250;

/// A line of the summary.
struct Recovery {
    what: &'static str,
    total_ms: u64,
    /// What the settings demand of it.
    configured: String,
    rest_ms: u64,
}

/// The whole demo, up to the daemon's end.
pub(super) fn play(watch: &mut Watch) -> Result<(), Trouble> {
    introduce(watch);
    watch.stage.furnish()?;
    normal_work(watch)?;
    let recoveries = [killed_worker(watch)?, hanging_worker(watch)?, killed_daemon(watch)?, leak(watch)?];
    finished(watch)?;
    summary(watch, &recoveries);
    Ok(())
}

fn introduce(watch: &mut Watch) {
    watch.screen.plain("autopilot demo: a supervised agent, and what becomes of it when things go wrong");
    if watch.casting.is_real() {
        watch.screen.plain(
            "The agent is Claude Code, with your account and your network. It takes a minute or two and costs a few \
             cents.",
        );
    } else {
        watch.screen.plain(
            "The agent is a scripted stand-in: no account, no network, no cost. Daemon and worker are the real ones. \
             It takes about ten seconds.",
        );
    }
    watch.screen.plain(&format!("Everything happens in {}", watch.stage.root().display()));
}

fn normal_work(watch: &mut Watch) -> Result<(), Trouble> {
    watch.screen.act(1, STEPS, "Normal work: the agent's tool calls write a file, line by line");
    watch.start_daemon(LeakPlan::none(memory()?))?;
    let at_work = watch.at_work(1)?;
    watch.let_write(1, "")?;
    at_work.check_worker_lives()?;
    watch.screen.verdict("a tool call has edited the file");
    Ok(())
}

fn killed_worker(watch: &mut Watch) -> Result<Recovery, Trouble> {
    watch.screen.act(2, STEPS, "kill -9 of the worker, in the middle of a turn");
    let before = watch.at_work(2)?;
    watch.pause(PAUSE_MS)?;
    watch.logs.running = None;
    watch.screen.event(Who::Demo, &format!("kill -9 {} (worker; the agent's tool runs)", before.pid()));
    let at_ms = os::clock::monotonic_ms();
    before.handle()?.send(Send::Kill)?;
    let next = watch.next_run(before.run)?;
    let exit = watch.ended(before.run).and_then(|ended| ended.exit);
    if exit.and_then(|exit| exit.signal) != Some(9) {
        return Err(Trouble::failed(format!("the record of run {} says {exit:?}, not signal 9", before.run)));
    }
    let total_ms = next.at_ms.saturating_sub(at_ms);
    watch.check_resumed(&before, 2)?;
    watch.let_write(2, "")?;
    let rest_ms = total_ms.saturating_sub(DELAY_MS);
    watch.screen.verdict(&format!(
        "another worker after {} = {DELAY_MS} ms configured delay + {rest_ms} ms; same session, nothing of the old tree \
         is left, the job goes on",
        span(total_ms)
    ));
    Ok(Recovery { what: "worker killed", total_ms, configured: format!("{DELAY_MS} ms delay"), rest_ms })
}

fn hanging_worker(watch: &mut Watch) -> Result<Recovery, Trouble> {
    let timeout = span(watch.casting.stall_timeout_ms);
    watch.screen.act(3, STEPS, &format!("A hang: the worker falls silent (here {timeout} of silence are a hang)"));
    let before = watch.at_work(3)?;
    watch.pause(PAUSE_MS)?;
    watch.logs.running = None;
    watch.screen.event(Who::Demo, &format!("kill -STOP {} (worker: alive, and does nothing)", before.pid()));
    let at_ms = os::clock::monotonic_ms();
    before.handle()?.send(Send::Stop)?;
    let next = watch.next_run(before.run)?;
    let noticed_ms =
        watch.heard(at_ms, "stalled").ok_or_else(|| Trouble::failed("nobody called the worker stalled"))?;
    let cause = watch.status().and_then(|status| status.last_exits.first().map(|exit| exit.cause.clone()));
    if !cause.as_ref().is_some_and(|cause| cause.starts_with("ended as stalled")) {
        return Err(Trouble::failed(format!("the worker's end is explained by: {}", cause.unwrap_or_default())));
    }
    let total_ms = next.at_ms.saturating_sub(at_ms);
    let silence_ms = noticed_ms.saturating_sub(at_ms);
    watch.check_resumed(&before, 3)?;
    watch.let_write(3, "")?;
    let rest_ms = total_ms.saturating_sub(silence_ms + DELAY_MS);
    watch.screen.verdict(&format!(
        "another worker after {} = {} until {timeout} of silence were over + {DELAY_MS} ms delay + {rest_ms} ms; same \
         session",
        span(total_ms),
        span(silence_ms)
    ));
    let configured = format!("{} silence, {DELAY_MS} ms delay", span(silence_ms));
    Ok(Recovery { what: "worker hung", total_ms, configured, rest_ms })
}

fn killed_daemon(watch: &mut Watch) -> Result<Recovery, Trouble> {
    watch.screen.act(4, STEPS, "kill -9 of the daemon itself");
    let before = watch.at_work(4)?;
    watch.pause(PAUSE_MS)?;
    let restarts = watch.status().map(|status| status.total_restarts);
    let pid = watch.kill_daemon()?;
    watch.screen.event(Who::Demo, &format!("kill -9 {pid} (daemon)"));
    watch.let_write(4, "")?;
    let without_daemon = watch.at_work(5)?;
    before.check_worker_lives()?;
    watch.screen.event(Who::Demo, &format!("worker {} works on without a daemon; starting another", before.pid()));
    watch.pause(BREATH_MS)?;
    // The next act's threshold, for the memory of this moment.
    let started_ms = watch.start_daemon(LeakPlan::new(memory()?))?;
    let status = watch.until("the new daemon answers", |watch| Ok(watch.status()))?;
    let total_ms = os::clock::monotonic_ms().saturating_sub(started_ms);
    without_daemon.check_untouched()?;
    if (status.worker_pid, status.run) != (Some(before.pid()), Some(before.run)) {
        let found = status.worker_pid.map_or_else(|| "none".to_owned(), |pid| pid.to_string());
        return Err(Trouble::failed(format!("the new daemon's worker is {found}, not {}", before.pid())));
    }
    if Some(status.total_restarts) != restarts || status.daemon_pid == pid {
        return Err(Trouble::failed(format!("the new daemon counts {} restarts", status.total_restarts)));
    }
    let heard = |watch: &mut Watch| Ok(watch.heard(started_ms, "was running already"));
    watch.until("the new daemon says that it has adopted the worker", heard)?;
    watch.screen.verdict(&format!(
        "adopted {} after the new daemon's start: same worker, same run, nothing restarted, nothing lost",
        span(total_ms)
    ));
    Ok(Recovery { what: "daemon killed", total_ms, configured: "-".to_owned(), rest_ms: total_ms })
}

fn leak(watch: &mut Watch) -> Result<Recovery, Trouble> {
    watch.screen.act(5, STEPS, "A leak: a `node` that the agent's tool has started grows and grows");
    let before = watch.at_work(5)?;
    watch.pause(PAUSE_MS)?;
    let plan = fitting_plan(watch)?;
    let room_bytes = memory()?.available_bytes.saturating_sub(plan.min_available_bytes);
    watch.screen.event(
        Who::Demo,
        &format!(
            "lets the tool start a `node` that leaks {} MB a second; in this demo, memory is low when another {} MB are \
             gone",
            plan.bytes_per_second >> 20,
            room_bytes >> 20
        ),
    );
    let began_ms = os::clock::monotonic_ms();
    watch.stage.give_cue(5, &format!("{} {}", plan.cap_bytes, plan.bytes_per_second))?;
    let node = watch.until("the leaking child is there", |_| {
        let below = os::proc::descendants(os::proc::root(), before.pid()).unwrap_or_default();
        Ok(below.into_iter().find(|(_, stat)| stat.name == "node").map(|(process, _)| process))
    })?;
    let (held_bytes, total_ms) = outlive(watch, node, plan)?;
    watch.line_written(5)?;
    if watch.heard(began_ms, &format!("to process {} ", node.pid)).is_none() {
        return Err(Trouble::failed(format!("process {} ended, but not by the daemon", node.pid)));
    }
    before.check_worker_lives()?;
    watch.screen.verdict(&format!(
        "ended {} after the available memory fell below the threshold; it held {} MB; the worker lives on, and so does \
         the job",
        span(total_ms),
        held_bytes >> 20
    ));
    Ok(Recovery { what: "child leaked", total_ms, configured: "-".to_owned(), rest_ms: total_ms })
}

/// The plan that the daemon has, or a new one with a new daemon, if others took or freed much memory just now.
fn fitting_plan(watch: &mut Watch) -> Result<LeakPlan, Trouble> {
    let reading = memory()?;
    match watch.leak.filter(|plan| plan.fits(reading)) {
        Some(plan) => Ok(plan),
        None => change_plan(watch, LeakPlan::new(reading)),
    }
}

fn change_plan(watch: &mut Watch, plan: LeakPlan) -> Result<LeakPlan, Trouble> {
    watch.screen.event(Who::Demo, "others took or freed much memory meanwhile: another threshold, another daemon");
    watch.kill_daemon()?;
    watch.start_daemon(plan)?;
    watch.until("the new daemon answers", |watch| Ok(watch.status()))?;
    Ok(plan)
}

/// Waits for the end of a process that leaks. What it held at last, and how long it lived with too little memory left.
fn outlive(watch: &mut Watch, node: Identity, mut plan: LeakPlan) -> Result<(u64, u64), Trouble> {
    let (mut held_bytes, mut low_ms) = (0, None);
    loop {
        let end = watch.until("the leaking child is ended", |_| {
            let (now_ms, reading) = (os::clock::monotonic_ms(), memory()?);
            if reading.available_bytes < plan.min_available_bytes {
                low_ms.get_or_insert(now_ms);
            }
            if !runs(node) {
                return Ok(Some(Leaked::Ended { low_for_ms: now_ms.saturating_sub(low_ms.unwrap_or(now_ms)) }));
            }
            held_bytes = held_bytes.max(os::proc::pss_bytes(os::proc::root(), node.pid).unwrap_or(0));
            let in_vain = held_bytes >= plan.cap_bytes && low_ms.is_none();
            Ok(in_vain.then_some(Leaked::InVain(reading)))
        })?;
        match end {
            Leaked::Ended { low_for_ms } => return Ok((held_bytes, low_for_ms)),
            Leaked::InVain(reading) => plan = change_plan(watch, plan.with_less_left(reading))?,
        }
    }
}

/// How far a leak came.
enum Leaked {
    /// It was ended.
    Ended { low_for_ms: u64 },
    /// It is as large as it may become, and there is memory enough: others freed as much.
    InVain(MemoryReading),
}

fn finished(watch: &mut Watch) -> Result<(), Trouble> {
    watch.screen.act(6, STEPS, "The work is finished, exactly once");
    let last = watch.at_work(6)?;
    watch.pause(PAUSE_MS)?;
    watch.let_write(6, "")?;
    let proof = watch.check_job(&last)?;
    watch.screen.verdict(&proof);
    watch.screen.event(Who::Demo, "autopilotd stop");
    let at_ms = os::clock::monotonic_ms();
    let socket = watch.stage.home().control_socket();
    let within_ms = watch.casting.patience_ms;
    daemon::client::ask_within(&socket, Verb::Stop, within_ms).map_err(|error| Trouble::failed(error.to_string()))?;
    let stopped_ms = os::clock::monotonic_ms().saturating_sub(at_ms);
    let Some(mut daemon) = watch.daemon.take() else { return Err(Trouble::failed("there is no daemon")) };
    let ended = watch.until("the daemon has ended", |_| Ok(daemon.reap()?))?;
    let left = os::tree::started_with(&watch.stage.mark())?.len();
    if ended != Ended::Code(0) || left > 0 {
        return Err(Trouble::failed(format!("after autopilotd stop ({ended:?}) {left} processes are left")));
    }
    watch.screen.verdict(&format!("worker and daemon have ended within {}", span(stopped_ms)));
    Ok(())
}

fn summary(watch: &mut Watch, recoveries: &[Recovery]) {
    let mut table =
        format!("\n{:<16}{:>14}   {:<32}{:>8}\n", "what happened", "recovered in", "of that configured", "rest");
    for Recovery { what, total_ms, configured, rest_ms } in recoveries {
        let (total, rest) = (span(*total_ms), span(*rest_ms));
        table.push_str(&format!("{what:<16}{total:>14}   {configured:<32}{rest:>8}\n"));
    }
    if watch.casting.is_real() {
        table.push_str(&format!("\nClaude Code says that it cost ${:.4}.\n", watch.logs.cost_usd));
    }
    watch.screen.verbatim(&table);
}
