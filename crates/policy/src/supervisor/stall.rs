//! Whether a run still shows life. Whoever only repeats itself is given no more time than who is silent: a heartbeat or a tool at work
//! is new life, whatever is written.

use super::{RunId, Settings};

/// One message asks for no more time than this, counted from when it came: more has to be asked for again, as with systemd.
pub(super) const LONGEST_EXTENSION_MS: u64 = 3_600_000;

/// A run under watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// Which.
    pub run: RunId,
    /// When it was begun.
    pub started_ms: u64,
    /// Its last sign of life; at first, its start.
    pub active_ms: u64,
    /// Its last sign of new life: not a repetition.
    pub progress_ms: u64,
    /// It asked not to be judged before this.
    pub extended_until_ms: u64,
    /// It has lived long enough to be a success.
    pub succeeded: bool,
    /// It was found stalled and left alone at this time.
    pub tolerated_ms: Option<u64>,
    /// It has said that it is ready.
    pub announced: bool,
}

impl Watch {
    pub(super) fn new(run: RunId, now_ms: u64) -> Self {
        Self {
            run,
            started_ms: now_ms,
            active_ms: now_ms,
            progress_ms: now_ms,
            extended_until_ms: 0,
            succeeded: false,
            tolerated_ms: None,
            announced: false,
        }
    }

    /// It showed life.
    pub(super) fn active(&mut self, now_ms: u64) {
        self.repeats(now_ms);
        self.progress_ms = self.progress_ms.max(now_ms);
        self.tolerated_ms = None;
    }

    /// It asks for more time. A shorter one that comes later takes nothing back.
    pub(super) fn extend(&mut self, now_ms: u64, until_ms: u64) {
        let until_ms = until_ms.min(now_ms.saturating_add(LONGEST_EXTENSION_MS));
        self.extended_until_ms = self.extended_until_ms.max(until_ms);
    }

    /// It wrote, but nothing new.
    pub(super) fn repeats(&mut self, now_ms: u64) {
        self.active_ms = self.active_ms.max(now_ms);
    }

    /// For `gap_ms` nobody ran, neither the worker nor its judge (a frozen machine): that is not silence.
    pub(super) fn forgive(&mut self, now_ms: u64, gap_ms: u64) {
        self.active_ms = self.active_ms.saturating_add(gap_ms).min(now_ms);
        self.progress_ms = self.progress_ms.saturating_add(gap_ms).min(now_ms);
    }

    /// When it is to be called stalled, if it shows no life until then.
    pub(super) fn stalled_at_ms(&self, settings: &Settings) -> Option<u64> {
        if settings.stall_timeout_ms == 0 {
            return None;
        }
        let since_ms = self.progress_ms.max(self.tolerated_ms.unwrap_or(0));
        let silent = since_ms.saturating_add(settings.stall_timeout_ms);
        let grace = self.started_ms.saturating_add(settings.stall_grace_ms);
        Some(silent.max(grace).max(self.extended_until_ms))
    }

    /// It wrote within the time, but nothing new.
    pub(super) fn repeats_itself(&self, settings: &Settings, now_ms: u64) -> bool {
        now_ms < self.active_ms.saturating_add(settings.stall_timeout_ms)
    }

    /// When it is to be called a success.
    pub(super) fn succeeds_at_ms(&self, settings: &Settings) -> u64 {
        self.started_ms.saturating_add(settings.success_threshold_ms)
    }
}
