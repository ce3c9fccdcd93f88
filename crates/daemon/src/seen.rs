//! What the daemon has seen of the run that goes on, kept in the run's folder for the daemon after it: a worker says only
//! once that it is ready, and which log is its own.
//!
//! Written when one of those changes, which is rare; and, while the worker is silent, for how long it has been so, at most
//! each quarter of the stall timeout. Of a silence that no daemon has seen nobody knows: a daemon that is killed leaves what
//! it has noted, and the next one counts on from there.

use std::path::PathBuf;

use os::files::{Durability, write_atomic};
use policy::supervisor::{Command, Event, Reason, Recalled, RunId, State};
use wire::handover::{self, Seen};

use crate::activity::Activity;
use crate::drive::Daemon;
use crate::said::Doing;
use crate::seal;
use crate::secrets;
use crate::text;

/// An extension that is asked for anew with every heartbeat is kept only when it has grown by so much.
const EXTENSION_STEP_MS: u64 = 10_000;

/// A silence is noted so often until it is as long as the stall timeout.
const NOTES_IN_TIMEOUT: u64 = 4;

/// A shorter one is not worth a note that it is over.
const SHORT_SILENCE_MS: u64 = 1_000;

impl Daemon {
    /// Keep it if it has changed. The daemon is awake anyway.
    pub(crate) fn keep_seen(&mut self) {
        let Some((_, recalled)) = self.machine.recall() else { return };
        let rlog = self.said.rlog.as_deref();
        let same = self.run.as_ref().is_none_or(|run| run.run_id == self.seen.run_id)
            && (self.seen.ready, self.seen.heartbeat, self.seen.tolerated_ms)
                == (recalled.announced, self.said.heartbeat, recalled.tolerated_ms)
            && self.seen.rlog.as_deref().map(std::path::Path::new) == rlog
            && self.seen.extended_until_ms.saturating_add(EXTENSION_STEP_MS) > recalled.extended_until_ms;
        if !same || self.is_to_note(&recalled) {
            self.write_seen(None);
        }
    }

    /// The worker has been silent for long and the note does not say so; or it says so, and the worker is not any more.
    fn is_to_note(&self, recalled: &Recalled) -> bool {
        let step_ms = self.launching.config().restart.stall_timeout_ms.value / NOTES_IN_TIMEOUT;
        let noted_ms = self.seen.noted_at_ms.unwrap_or(0);
        let now_ms = os::clock::monotonic_ms();
        let is_silent = now_ms.saturating_sub(recalled.progress_ms.max(noted_ms)) >= step_ms;
        let noted_silent = noted_ms.saturating_sub(self.seen.progress_ms) >= step_ms.min(SHORT_SILENCE_MS);
        step_ms > 0 && (is_silent || (noted_silent && recalled.progress_ms > self.seen.progress_ms))
    }

    /// The daemon ends, and the run goes on.
    pub(crate) fn leave_seen(&mut self) {
        self.write_seen(Some(os::clock::monotonic_ms()));
    }

    fn write_seen(&mut self, left_at_ms: Option<u64>) {
        let (Some((_, recalled)), Some(run)) = (self.machine.recall(), &self.run) else { return };
        let logs = self.activity.as_ref().map(Activity::looked_at).unwrap_or_default();
        self.seen = Seen {
            v: handover::VERSION,
            run_id: run.run_id.clone(),
            ready: recalled.announced,
            heartbeat: self.said.heartbeat,
            phase: self.said.phase.clone(),
            message: self.said.message.clone(),
            rlog: self.said.rlog.as_ref().and_then(|path| path.to_str()).map(str::to_owned),
            binary: Some(self.binary()),
            begun_with: self.begun_with(),
            reason: self.reason().map(|reason| secrets::without(&reason).into_owned()),
            extended_until_ms: recalled.extended_until_ms,
            tolerated_ms: recalled.tolerated_ms,
            left_at_ms,
            noted_at_ms: Some(os::clock::monotonic_ms()),
            active_ms: recalled.active_ms,
            progress_ms: recalled.progress_ms,
            logs,
        };
        if let Ok(json) = serde_json::to_vec(&self.seen) {
            // Without it the next daemon knows less, and no worse.
            write_atomic(&run.folder.seen(), &json, Durability::Process).ok();
        }
    }

    /// What the run was begun with: this daemon may not be the one that began it.
    fn begun_with(&self) -> Option<String> {
        let begun_here = || Some(self.launching.settings_of_runs.clone());
        self.seen_of_run().map_or_else(begun_here, |seen| seen.begun_with.clone())
    }

    /// What was noted of the run that there is.
    fn seen_of_run(&self) -> Option<&Seen> {
        self.run.as_ref().filter(|run| run.run_id == self.seen.run_id).map(|_| &self.seen)
    }

    /// A worker that was adopted works by the settings of the daemon that started it.
    pub(crate) fn has_other_settings(&self) -> bool {
        let begun_with = self.seen_of_run().and_then(|seen| seen.begun_with.as_ref());
        begun_with.is_some_and(|with| *with != self.launching.settings_of_runs)
    }

    /// The program that runs: this daemon may not be the one that chose it.
    pub(crate) fn binary(&self) -> String {
        self.seen_of_run().and_then(|seen| seen.binary.clone()).unwrap_or_else(|| self.launching.binary())
    }

    /// Why the worker is where it is, as far as it is known; a daemon before this one may have seen it.
    pub(crate) fn reason(&self) -> Option<String> {
        if let Some(doubts) = self.doubts() {
            return Some(doubts);
        }
        let view = self.machine.view();
        if let Some(reason) = &view.reason {
            if let (Reason::Exited(_), Some(why)) = (reason, self.build_failure()) {
                return Some(why);
            }
            let reason = text::reason(reason, &self.launching);
            let often = view.failed_per_hour.then_some("it failed too often within an hour; the last time: ");
            return Some(format!("{}{reason}", often.unwrap_or_default()));
        }
        if matches!(self.machine.state(), State::Stopped) {
            return Some(text::reason(&Reason::Operator(Command::StopWorker), &self.launching));
        }
        if matches!(self.machine.state(), State::Starting(_)) {
            return None;
        }
        if self.run.is_some() {
            return self.seen_of_run().and_then(|seen| seen.reason.clone());
        }
        let cause = &self.exits.first()?.cause;
        Some(match cause {
            cause if cause.starts_with("cannot ") => cause.clone(),
            cause if cause.starts_with("ended ") => format!("the worker was {cause}"),
            cause => format!("the worker ended: {cause}"),
        })
    }

    /// Carry on where the daemon before this one was.
    pub(crate) fn recall_seen(&mut self) {
        let Some(run) = self.run.as_ref().filter(|run| run.doubt.is_none()) else { return };
        let number = RunId(run.number);
        let read = os::fail::point("seen.read").and_then(|()| seal::read(&run.folder.seen()));
        let seen = read.ok().and_then(|bytes| handover::seen(&bytes));
        let Some(seen) = seen.filter(|seen| seen.run_id == run.run_id) else { return };
        let now_ms = os::clock::monotonic_ms();
        // The time without a daemon is nobody's silence: heartbeats and the work of tools are seen only as they happen.
        let gap_ms = seen.left_at_ms.or(seen.noted_at_ms).map(|left_ms| now_ms.saturating_sub(left_ms));
        let since = |at_ms: u64| gap_ms.map_or(now_ms, |gap_ms| at_ms.saturating_add(gap_ms));
        self.said = Doing {
            phase: seen.phase.clone(),
            message: seen.message.clone(),
            rlog: seen.rlog.clone().map(PathBuf::from),
            ready: seen.ready,
            heartbeat: seen.heartbeat,
            need_told_ms: None,
        };
        if let (Some(activity), Some(rlog)) = (&mut self.activity, self.said.rlog.clone()) {
            activity.recall(rlog);
        }
        if let Some(activity) = &mut self.activity {
            activity.recall_looks(&seen.logs);
        }
        let recalled = Recalled {
            announced: seen.ready,
            active_ms: since(seen.active_ms),
            progress_ms: since(seen.progress_ms),
            extended_until_ms: seen.extended_until_ms,
            tolerated_ms: seen.tolerated_ms,
        };
        self.seen = seen;
        self.feed(Event::Recalled(number, recalled));
        // What its tools have done by now, to be compared with at the next look.
        self.look_at_tools();
        // The times are of this daemon now, should it be killed, too.
        self.write_seen(None);
    }
}
