//! Looking after a run that lives: the samples of memory and activity, and what follows from them.

use alloc::vec::Vec;

use super::memory::{self, Band, HOLD_OFF_MS, MemoryReading, Survey, VICTIM_GRACE_MS};
use super::step::Supervisor;
use super::types::{Effect, Effects, Note, Reason, RunId, Sign, Then, VictimSignal};

/// A look that comes this much later than it was due means that the daemon did not run: the machine was frozen, or the
/// daemon was. The worker could not show life either, so that time is not held against it.
const LATE_MS: u64 = 1_000;

/// The tree is looked through anew when this part of what was available at the last look is gone (1/8): a bounded number of looks, however
/// fast it goes.
const SINKS_BY: u64 = 8;

/// What is known about memory, and what is being done about it.
#[derive(Debug, Clone)]
pub(super) struct MemoryWatch {
    pub(super) reading: MemoryReading,
    pub(super) band: Band,
    next_sample_ms: u64,
    next_survey_ms: u64,
    /// What was available at the last survey.
    surveyed_available_bytes: u64,
    told_elsewhere: bool,
    victims: Vec<Victim>,
    pressed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Victim {
    pid: u32,
    bytes: u64,
    run: RunId,
    /// When KILL is due; after that, when it is given up.
    due_ms: u64,
    killed: bool,
}

impl Default for MemoryWatch {
    fn default() -> Self {
        Self {
            reading: MemoryReading::default(),
            band: Band::Normal,
            next_sample_ms: 0,
            next_survey_ms: 0,
            surveyed_available_bytes: 0,
            told_elsewhere: false,
            victims: Vec::new(),
            pressed: false,
        }
    }
}

impl MemoryWatch {
    /// A run begins: look at once.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.next_sample_ms = now_ms;
        self.next_survey_ms = now_ms;
        self.victims.clear();
        self.told_elsewhere = false;
    }

    /// Its program runs. A look that came before found no tree, and put off the next one for nothing.
    pub(super) fn runs(&mut self, now_ms: u64) {
        if self.band > Band::Normal {
            self.next_sample_ms = now_ms;
            self.next_survey_ms = now_ms;
        }
    }

    pub(super) fn deadline_ms(&self) -> u64 {
        self.victims.iter().map(|victim| victim.due_ms).fold(self.next_sample_ms, u64::min)
    }

    /// Critical, and worse by so much than at the last survey that its verdict may be out of date: a tree that was not to blame then
    /// may be what eats the rest.
    fn sinks_on(&self) -> bool {
        let before = self.surveyed_available_bytes;
        self.band == Band::Critical && self.reading.available_bytes < before - before / SINKS_BY
    }

    pub(super) fn victim_gone(&mut self, now_ms: u64, pid: u32) {
        let before = self.victims.len();
        self.victims.retain(|victim| victim.pid != pid);
        if self.victims.len() < before && self.victims.is_empty() {
            self.next_survey_ms = now_ms.saturating_add(HOLD_OFF_MS);
        }
    }
}

impl Supervisor {
    /// A look that comes much too late, whichever event it is that comes first.
    pub(super) fn forgive_lateness(&mut self, now_ms: u64) {
        let late_ms = now_ms.saturating_sub(self.tight.next_sample_ms);
        let Some(run) = self.watch().map(|watch| watch.run) else { return };
        if late_ms <= LATE_MS {
            return;
        }
        if let Some(watch) = self.watch_mut(run) {
            watch.forgive(now_ms, late_ms);
        }
        // Due now, and not forgiven twice.
        self.tight.next_sample_ms = now_ms;
    }

    /// The part of `settle` for a run that lives.
    pub(super) fn settle_watching(&mut self, now_ms: u64, effects: &mut Effects) {
        if self.watch().is_none() {
            return;
        }
        self.settle_victims(now_ms, effects);
        if self.tight.next_sample_ms > now_ms {
            return;
        }
        self.tight.next_sample_ms = now_ms.saturating_add(self.next_sample_in_ms(now_ms));
        effects.push(Effect::Sample);
    }

    fn settle_victims(&mut self, now_ms: u64, effects: &mut Effects) {
        let mut given_up = Vec::new();
        for victim in self.tight.victims.iter_mut().filter(|victim| victim.due_ms <= now_ms) {
            if victim.killed {
                // It hangs in the kernel. Its memory will not come from waiting for it.
                given_up.push(victim.pid);
                continue;
            }
            victim.killed = true;
            victim.due_ms = now_ms.saturating_add(VICTIM_GRACE_MS);
            let (run, pid, bytes, signal) = (victim.run, victim.pid, victim.bytes, VictimSignal::Kill);
            effects.push(Effect::Note(Note::Victim { run, pid, bytes, signal }));
            effects.push(Effect::Signal { pid, signal });
        }
        for pid in given_up {
            self.tight.victim_gone(now_ms, pid);
        }
    }

    pub(super) fn sampled(
        &mut self,
        now_ms: u64,
        run: Option<RunId>,
        sign: Sign,
        reading: MemoryReading,
        effects: &mut Effects,
    ) {
        let before = self.tight.band;
        self.tight.reading = reading;
        self.tight.band = memory::band(&self.settings, before, reading);
        let band = self.tight.band;
        if band != before {
            effects.push(Effect::Note(Note::MemoryBand { band, reading }));
            self.tight.told_elsewhere &= band == Band::Critical;
        }
        self.tell_of_pressure(reading, effects);
        // Of a run that waits for its program, too: it may fill the memory as soon as it begins.
        if run.is_none() && self.watch().is_some() {
            self.tight.next_sample_ms = now_ms.saturating_add(self.next_sample_in_ms(now_ms));
        }
        let Some(run) = run else { return };
        let Some(watch) = self.watch_mut(run) else { return };
        match sign {
            Sign::Nothing => {}
            Sign::Repetition => watch.repeats(now_ms),
            Sign::Progress => watch.active(now_ms),
        }
        self.judge_silence(now_ms, run, effects);
        if self.watch().is_none() {
            return;
        }
        let worse = band > before;
        if band > Band::Normal
            && (worse || now_ms >= self.tight.next_survey_ms || self.tight.sinks_on())
            && (self.tight.victims.is_empty() || band == Band::Critical)
        {
            self.tight.next_survey_ms = now_ms.saturating_add(HOLD_OFF_MS);
            self.tight.surveyed_available_bytes = reading.available_bytes;
            effects.push(Effect::Survey(run));
        }
        let due_ms = now_ms.saturating_add(self.next_sample_in_ms(now_ms));
        self.tight.next_sample_ms = due_ms;
    }

    fn judge_silence(&mut self, now_ms: u64, run: RunId, effects: &mut Effects) {
        let most = self.settings.max_stall_kills_per_hour as usize;
        let Some(watch) = self.watch() else { return };
        if watch.stalled_at_ms(&self.settings).is_none_or(|at_ms| now_ms < at_ms) {
            return;
        }
        let repeats_itself = watch.repeats_itself(&self.settings, now_ms);
        let since_ms = if repeats_itself { watch.progress_ms } else { watch.active_ms };
        let silent_ms = now_ms.saturating_sub(since_ms);
        // A candidate has but a few starts, and there is something better: it is not left alone in its silence.
        if self.stall_kills.count(now_ms) >= most && self.aside.is_none() {
            if let Some(watch) = self.watch_mut(run) {
                watch.tolerated_ms = Some(now_ms);
            }
            effects.push(Effect::Note(Note::StallTolerated { run, silent_ms }));
            return;
        }
        self.stall_kills.add(now_ms);
        effects.push(Effect::Note(Note::Stalled { run, silent_ms, repeats_itself }));
        self.tell_to_end(Then::StallFailure, Reason::Stalled, effects);
    }

    pub(super) fn surveyed(&mut self, now_ms: u64, run: RunId, survey: &Survey, effects: &mut Effects) {
        if self.watch_mut(run).is_none() {
            return;
        }
        match self.tight.band {
            Band::Normal => {}
            Band::Low => self.end_victims(now_ms, run, survey, effects),
            Band::Critical => {
                let tree_bytes = survey.tree_bytes;
                if tree_bytes.saturating_mul(memory::SHARE_TO_BLAME) >= self.tight.reading.total_bytes {
                    effects.push(Effect::Note(Note::MemoryRestart { run, tree_bytes }));
                    self.tell_to_end(Then::MemoryFailure, Reason::Memory, effects);
                    return;
                }
                if !self.tight.told_elsewhere {
                    self.tight.told_elsewhere = true;
                    effects.push(Effect::Note(Note::MemoryElsewhere { run, tree_bytes }));
                }
                // Little as it is, what is too big in it goes.
                self.end_victims(now_ms, run, survey, effects);
            }
        }
    }

    fn end_victims(&mut self, now_ms: u64, run: RunId, survey: &Survey, effects: &mut Effects) {
        if !self.tight.victims.is_empty() {
            return;
        }
        let chosen = memory::choose(&self.settings, survey);
        if chosen.is_empty() {
            // Nobody is big enough yet: look again before the hold-off of a kill would be over.
            self.tight.next_survey_ms = now_ms.saturating_add(VICTIM_GRACE_MS);
        }
        for candidate in chosen {
            let (pid, bytes, signal) = (candidate.pid, candidate.bytes, VictimSignal::Term);
            let due_ms = now_ms.saturating_add(VICTIM_GRACE_MS);
            self.tight.victims.push(Victim { pid, bytes, run, due_ms, killed: false });
            effects.push(Effect::Note(Note::Victim { run, pid, bytes, signal }));
            effects.push(Effect::Signal { pid, signal });
        }
    }

    fn tell_of_pressure(&mut self, reading: MemoryReading, effects: &mut Effects) {
        let (tell, calm) = memory::PRESSURE_PERCENT;
        let percent = reading.pressure_percent;
        if percent >= tell && !self.tight.pressed {
            self.tight.pressed = true;
            effects.push(Effect::Note(Note::MemoryPressure { percent }));
        } else if percent < calm {
            self.tight.pressed = false;
        }
    }

    pub(super) fn next_sample_in_ms(&self, now_ms: u64) -> u64 {
        let poll_ms = memory::poll_in_ms(&self.settings, self.tight.band, self.tight.reading);
        if self.settings.stall_timeout_ms == 0 {
            return poll_ms;
        }
        let fine_ms = (self.settings.stall_timeout_ms / 4).max(1);
        let stall_in_ms = self
            .watch()
            .and_then(|w| w.stalled_at_ms(&self.settings))
            .map_or(u64::MAX, |at_ms| at_ms.saturating_sub(now_ms));
        // A silent run is judged just when its time is over; one that is over already has been judged.
        let due_ms = if stall_in_ms == 0 { u64::MAX } else { stall_in_ms };
        poll_ms.min(fine_ms).min(due_ms).max(1)
    }
}
