//! Whether a binary is proven: a candidate becomes good by a time of health, and is rolled back after three failed starts.
//!
//! The way of A/B slots and boot counting: an attempt is counted before the start, and given back when the run's end was
//! not the binary's fault. So an attempt of which nobody saw the end counts, too.
//!
//! ```text
//!             probation_ms of health
//!  Candidate ────────────────────────▶ Good
//!      │ three attempts, and something proven to go back to
//!      ▼
//!  Quarantined ──(the operator)──▶ Candidate
//! ```
//!
//! Pure: who counts on disk, and when, is the shell's business.

use crate::supervisor::{Command, Exit, Reason, StartFailure};

/// So many failed starts in probation, and the binary is rolled back.
pub const MOST_ATTEMPTS: u32 = 3;
/// So many ends at once in a row, each with an excuse, and it is set aside.
pub const MOST_EXCUSES: u32 = 3;
/// Who has come so far knows what it speaks of.
const AT_ONCE_MS: u64 = 5_000;

/// What a binary is known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not proven yet.
    Candidate(Trial),
    /// It was healthy for long enough.
    Good,
    /// It is not run any more, unless the operator says so.
    Quarantined,
}

/// A candidate's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trial {
    /// Starts that were not given back.
    pub attempts: u32,
    /// Health of runs that ended well before they had lived long enough for themselves.
    pub health_ms: u64,
    /// Ends in a row with an excuse, see [`Blame::Excused`].
    pub excuses: u32,
}

/// What a copy is worth to whoever needs one in place of another; the greatest is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// It was given up, or nobody has seen it work.
    Nothing,
    /// It is not proven, but has shown life; the newer, the better.
    Lived(u64),
    /// It was proven, as the n-th.
    Proven(u64),
}

impl Worth {
    /// Of a copy that was admitted as the `order`-th and proven as the `proof`-th.
    #[must_use]
    pub fn of(standing: Standing, has_lived: bool, order: u64, proof: u64) -> Self {
        match standing {
            Standing::Good => Self::Proven(proof),
            Standing::Candidate(_) if has_lived => Self::Lived(order),
            Standing::Candidate(_) | Standing::Quarantined => Self::Nothing,
        }
    }

    /// Where an operator who asks for the one before goes, from a copy of this worth: the greatest is tried first. So that it
    /// can be asked for again, what was proven before comes before what was proven since.
    #[must_use]
    pub fn on_the_way_back(self, from: Self) -> Option<(bool, Self)> {
        match (from, self) {
            (_, Self::Nothing) | (Self::Proven(_), Self::Lived(_)) => None,
            (Self::Proven(from), Self::Proven(to)) => Some((to < from, self)),
            (Self::Nothing | Self::Lived(_), Self::Lived(_) | Self::Proven(_)) => Some((true, self)),
        }
    }
}

/// What else was the case when a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circumstances {
    /// How long it lived.
    pub lived_ms: u64,
    /// From here on a clean exit is none that came too soon.
    pub success_threshold_ms: u64,
    /// Memory was low or critical.
    pub memory_is_tight: bool,
    /// It had said that it is ready.
    pub was_ready: bool,
    /// And had sent heartbeats.
    pub was_beating: bool,
    /// The worker itself, without its agent, held a tenth of all memory when it was last looked at.
    pub worker_is_large: bool,
}

/// Whose fault an end was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The binary's.
    Binary,
    /// Somebody else's: the operator's, the machine's, the agent's, the network's.
    Elsewhere,
    /// Somebody else's, as it says itself; but it ended before it can have found that out.
    Excused,
    /// It ended well; its life counts as health.
    Well,
}

/// Whose fault it was that a run ended so. `told`: why, if it was told to.
#[must_use]
pub fn blame(exit: Exit, told: Option<&Reason>, about: Circumstances) -> Blame {
    match told {
        Some(Reason::Operator(
            Command::StartWorker | Command::StopWorker | Command::RestartWorker | Command::Shutdown,
        )) => return Blame::Elsewhere,
        // The machine's own standstill was forgiven before it came to this.
        Some(Reason::Stalled) => return Blame::Binary,
        Some(Reason::Memory) => return if about.worker_is_large { Blame::Binary } else { Blame::Elsewhere },
        Some(Reason::Exited(_) | Reason::CannotStart(_)) | None => {}
    }
    let excused = if about.was_ready || about.lived_ms >= AT_ONCE_MS { Blame::Elsewhere } else { Blame::Excused };
    match exit {
        Exit::Code(0) if about.lived_ms >= about.success_threshold_ms => Blame::Well,
        Exit::Code(0) => Blame::Binary,
        // The worker's own codes (see its README): turns, budget, a person is needed, no CLI, the API, another worker, the
        // agent gave up; and what a shell makes of SIGINT and SIGTERM.
        Exit::Code(10..=16 | 130 | 143) => excused,
        Exit::Code(_) => Blame::Binary,
        // SIGHUP, SIGINT, SIGTERM: nobody sends them to himself, usually.
        Exit::Signal(1 | 2 | 15) => excused,
        // SIGKILL where memory is short: by the kernel, or by somebody who looks after the machine.
        Exit::Signal(9) if about.memory_is_tight && !about.worker_is_large => Blame::Elsewhere,
        // Of a worker that was well: somebody's kill, and in the second case the daemon's with it.
        Exit::Signal(9) | Exit::Unseen if about.was_ready && about.was_beating => Blame::Elsewhere,
        Exit::Signal(_) => Blame::Binary,
        Exit::OutOfMemory if about.worker_is_large => Blame::Binary,
        Exit::OutOfMemory => Blame::Elsewhere,
        // Counted, as a boot without a success is.
        Exit::Unseen => Blame::Binary,
    }
}

/// Whether a run's end was the agent's fault: by the worker's own word, that the CLI does not run, or that its sessions
/// failed for good or died again and again.
#[must_use]
pub fn blame_agent(exit: Exit, told: Option<&Reason>) -> Blame {
    match (exit, told) {
        (Exit::Code(13 | 16), None | Some(Reason::Exited(_) | Reason::CannotStart(_))) => Blame::Binary,
        (Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory | Exit::Unseen, _) => Blame::Elsewhere,
    }
}

/// Whose fault it was that a run could not begin.
#[must_use]
pub fn blame_for_start(failure: &StartFailure) -> Blame {
    match failure {
        StartFailure::NotFound | StartFailure::NotExecutable | StartFailure::NotAProgram => Blame::Binary,
        StartFailure::WorkingDirectory | StartFailure::Resources(_) | StartFailure::Other(_) => Blame::Elsewhere,
    }
}

impl Trial {
    /// Before a start.
    #[must_use]
    pub fn begun(self) -> Self {
        Self { attempts: self.attempts.saturating_add(1), ..self }
    }

    /// After the end of a run that was counted.
    #[must_use]
    pub fn ended(self, blame: Blame, lived_ms: u64) -> Self {
        let given_back = self.attempts.saturating_sub(1);
        match blame {
            Blame::Binary => Self { excuses: 0, ..self },
            Blame::Elsewhere => Self { attempts: given_back, excuses: 0, ..self },
            Blame::Excused => Self { attempts: given_back, excuses: self.excuses.saturating_add(1), ..self },
            Blame::Well => {
                Self { attempts: given_back, excuses: 0, health_ms: self.health_ms.saturating_add(lived_ms) }
            }
        }
    }

    /// It has no faults, but does not run either: something else may, if there is anything.
    #[must_use]
    pub fn is_set_aside(self) -> bool {
        self.excuses >= MOST_EXCUSES
    }

    /// It has had its chances, if there is something to go back to.
    #[must_use]
    pub fn is_used_up(self) -> bool {
        self.attempts >= MOST_ATTEMPTS
    }
}

/// A run of a candidate, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Since when.
    pub started_ms: u64,
    /// Its last sign of life; at first, its start.
    pub active_ms: u64,
    /// It was found stalled and left alone.
    pub is_tolerated: bool,
}

/// Whoever is not asked for a new binary is not kept down for it longer than this.
const PATIENCE_MS: u64 = 500;

/// How long a start waits for a look at a new file; none: until that is over. `is_asked_for`: an operator wants this start, and
/// means the file. `has_other`: something sound can run meanwhile, and the file is for the start after.
#[must_use]
pub fn patience_ms(is_asked_for: bool, has_other: bool) -> Option<u64> {
    (has_other && !is_asked_for).then_some(PATIENCE_MS)
}

/// Settings that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a candidate must be healthy.
    pub probation_ms: u64,
    /// How long a healthy worker may be silent; 0: any time.
    pub stall_timeout_ms: u64,
}

/// What a look at a candidate's run says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is proven.
    Proven,
    /// Look again then.
    Later(u64),
}

/// Whether a run of a candidate proves it by now: alive for long enough, with a sign of life of its own that is not older
/// than a healthy worker's may be.
#[must_use]
pub fn look(settings: Settings, trial: Trial, life: Life, now_ms: u64) -> Look {
    let wanted_ms = settings.probation_ms.saturating_sub(trial.health_ms);
    let due_ms = life.started_ms.saturating_add(wanted_ms);
    if now_ms < due_ms {
        return Look::Later(due_ms);
    }
    let silent_ms = now_ms.saturating_sub(life.active_ms);
    let silence_is_fine = settings.stall_timeout_ms == 0 || silent_ms < settings.stall_timeout_ms;
    if shows_life(life) && silence_is_fine && !life.is_tolerated {
        return Look::Proven;
    }
    Look::Later(now_ms.saturating_add(LOOK_AGAIN_MS))
}

/// Whether it has done more than start.
#[must_use]
pub fn shows_life(life: Life) -> bool {
    life.active_ms > life.started_ms
}

/// Between two looks at a candidate that should be proven by its age, but shows no life.
const LOOK_AGAIN_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn about(lived_ms: u64) -> Circumstances {
        Circumstances { lived_ms, success_threshold_ms: 60_000, ..Circumstances::default() }
    }

    #[test]
    fn what_others_cause_is_not_held_against_a_binary() {
        let tight = Circumstances { memory_is_tight: true, ..about(5) };
        let large = Circumstances { worker_is_large: true, ..tight };
        let ready = Circumstances { was_ready: true, ..about(5) };
        let beating = Circumstances { was_beating: true, ..ready };
        let operator = |command| Some(Reason::Operator(command));
        let table = [
            ("dies at 59 s", Exit::Code(1), None, about(59_000), Blame::Binary),
            ("dies at 9 min", Exit::Code(101), None, about(540_000), Blame::Binary),
            ("crashes", Exit::Signal(11), None, about(5), Blame::Binary),
            ("exits 0 at once", Exit::Code(0), None, about(5), Blame::Binary),
            ("does not know the command line", Exit::Code(2), None, about(5), Blame::Binary),
            ("ends well, later", Exit::Code(0), None, about(61_000), Blame::Well),
            ("deadlocks", Exit::Signal(15), Some(Reason::Stalled), about(300_000), Blame::Binary),
            ("restart-worker", Exit::Signal(15), operator(Command::RestartWorker), about(5), Blame::Elsewhere),
            ("stop-worker, killed", Exit::Signal(9), operator(Command::StopWorker), about(5), Blame::Elsewhere),
            ("stop", Exit::Code(0), operator(Command::Shutdown), about(5), Blame::Elsewhere),
            ("usage limit, network", Exit::Code(14), None, about(5_000), Blame::Elsewhere),
            ("log in", Exit::Code(12), None, about(5_000), Blame::Elsewhere),
            ("no CLI", Exit::Code(13), None, ready, Blame::Elsewhere),
            ("no CLI, it says before it can know", Exit::Code(13), None, about(4_999), Blame::Excused),
            ("somebody's kill", Exit::Signal(15), None, about(5_000), Blame::Elsewhere),
            ("a kill at once", Exit::Signal(15), None, about(5), Blame::Excused),
            ("a shell's word for it", Exit::Code(143), None, about(5), Blame::Excused),
            ("memory is full of others", Exit::Signal(9), Some(Reason::Memory), tight, Blame::Elsewhere),
            ("it fills the memory", Exit::Signal(9), Some(Reason::Memory), large, Blame::Binary),
            ("OOM killer, others", Exit::OutOfMemory, None, tight, Blame::Elsewhere),
            ("OOM killer, its own", Exit::OutOfMemory, None, large, Blame::Binary),
            ("SIGKILL, memory short", Exit::Signal(9), None, tight, Blame::Elsewhere),
            ("SIGKILL, nobody knows why", Exit::Signal(9), None, about(5), Blame::Binary),
            ("SIGKILL, ready but no more", Exit::Signal(9), None, ready, Blame::Binary),
            ("SIGKILL, it was well", Exit::Signal(9), None, beating, Blame::Elsewhere),
            ("a crash, it was well", Exit::Signal(11), None, beating, Blame::Binary),
            ("nobody saw it", Exit::Unseen, None, about(5), Blame::Binary),
            ("nobody saw it, it was well", Exit::Unseen, None, beating, Blame::Elsewhere),
        ];
        for (what, exit, told, about, expected) in table {
            assert_eq!(blame(exit, told.as_ref(), about), expected, "{what}");
        }
        for (exit, told, expected) in [
            (Exit::Code(13), None, Blame::Binary),
            (Exit::Code(16), None, Blame::Binary),
            (Exit::Code(13), operator(Command::StopWorker), Blame::Elsewhere),
            (Exit::Code(14), None, Blame::Elsewhere),
            (Exit::Code(1), None, Blame::Elsewhere),
            (Exit::Signal(11), None, Blame::Elsewhere),
            (Exit::Unseen, None, Blame::Elsewhere),
        ] {
            assert_eq!(blame_agent(exit, told.as_ref()), expected, "the agent: {exit:?}");
        }
        for (failure, expected) in [
            (StartFailure::NotAProgram, Blame::Binary),
            (StartFailure::NotFound, Blame::Binary),
            (StartFailure::NotExecutable, Blame::Binary),
            (StartFailure::WorkingDirectory, Blame::Elsewhere),
            (StartFailure::Resources(12), Blame::Elsewhere),
            (StartFailure::Other(5), Blame::Elsewhere),
        ] {
            assert_eq!(blame_for_start(&failure), expected, "{failure:?}");
        }
    }

    #[test]
    fn the_best_takes_the_place_of_one_that_failed() {
        let candidate = Standing::Candidate(Trial::default());
        for (what, standing, has_lived, expected) in [
            ("proven", Standing::Good, true, Worth::Proven(7)),
            ("proven by a version that did not note its life", Standing::Good, false, Worth::Proven(7)),
            ("in probation, and alive", candidate, true, Worth::Lived(9)),
            ("never seen alive", candidate, false, Worth::Nothing),
            ("given up", Standing::Quarantined, true, Worth::Nothing),
        ] {
            assert_eq!(Worth::of(standing, has_lived, 9, 7), expected, "{what}");
        }
        let mut all = [Worth::Lived(9), Worth::Proven(1), Worth::Nothing, Worth::Proven(2), Worth::Lived(8)];
        all.sort();
        assert_eq!(all, [Worth::Nothing, Worth::Lived(8), Worth::Lived(9), Worth::Proven(1), Worth::Proven(2)]);
    }

    #[test]
    fn an_operator_goes_back_step_by_step() {
        let back = |from: Worth, all: &[Worth]| {
            let others = all.iter().filter(|to| **to != from);
            others.filter_map(|to| to.on_the_way_back(from)).max().map(|(_, to)| to)
        };
        let (first, second, third) = (Worth::Proven(1), Worth::Proven(2), Worth::Proven(3));
        let all = [first, second, third, Worth::Lived(9), Worth::Nothing];
        assert_eq!(back(third, &all), Some(second));
        assert_eq!(back(second, &all), Some(first));
        assert_eq!(back(first, &all), Some(third), "nothing is older: the newest again");
        assert_eq!(back(Worth::Lived(9), &all), Some(third));
        assert_eq!(back(Worth::Nothing, &all), Some(third));
        assert_eq!(back(first, &[first, Worth::Lived(9)]), None, "not from what is proven to what is not");
        assert_eq!(back(Worth::Lived(9), &[Worth::Lived(8), Worth::Lived(9)]), Some(Worth::Lived(8)));
        assert_eq!(back(Worth::Nothing, &[Worth::Nothing]), None);
    }

    #[test]
    fn three_failed_starts_use_it_up_and_what_was_given_back_does_not_count() {
        let mut trial = Trial::default();
        for n in 1..=3 {
            assert!(!trial.is_used_up(), "before attempt {n}");
            // Not its own fault, any number of times.
            for _ in 0..10 {
                trial = trial.begun().ended(Blame::Elsewhere, 5);
            }
            trial = trial.begun();
            assert_eq!(trial.attempts, n, "counted before its end is known");
            trial = trial.ended(Blame::Binary, 5);
        }
        assert!(trial.is_used_up());
    }

    #[test]
    fn only_who_asks_for_it_waits_long_for_a_look_at_a_new_file() {
        assert_eq!(patience_ms(false, true), Some(500), "a crash, and a proven one is there");
        assert_eq!(patience_ms(true, true), None);
        assert_eq!(patience_ms(false, false), None, "nothing else can run");
        assert_eq!(patience_ms(true, false), None);
    }

    #[test]
    fn three_excuses_in_a_row_set_it_aside() {
        let after = |ends: &[Blame]| {
            let trial = ends.iter().fold(Trial::default(), |trial, blame| trial.begun().ended(*blame, 5));
            (trial.is_set_aside(), trial.attempts)
        };
        let (excused, elsewhere) = (Blame::Excused, Blame::Elsewhere);
        assert_eq!(after(&[excused, excused]), (false, 0));
        assert_eq!(after(&[excused, excused, excused]), (true, 0));
        for other in [elsewhere, Blame::Well] {
            assert_eq!(after(&[excused, excused, other, excused, excused]), (false, 0));
        }
        assert_eq!(after(&[excused, excused, Blame::Binary, excused]), (false, 1));
    }

    #[test]
    fn a_candidate_is_proven_by_its_health_and_not_by_its_age() {
        let settings = Settings { probation_ms: 600_000, stall_timeout_ms: 300_000 };
        let life = |active_ms| Life { started_ms: 1_000, active_ms, is_tolerated: false };
        let at = |trial, life, now_ms| look(settings, trial, life, now_ms);
        let fresh = Trial::default();
        assert_eq!(at(fresh, life(500_000), 600_999), Look::Later(601_000));
        assert_eq!(at(fresh, life(500_000), 601_000), Look::Proven);
        assert_eq!(at(fresh, life(1_000), 601_000), Look::Later(606_000), "it never showed life");
        assert_eq!(at(fresh, life(301_000), 601_000), Look::Later(606_000), "it is silent");
        let tolerated = Life { is_tolerated: true, ..life(600_000) };
        assert_eq!(at(fresh, tolerated, 601_000), Look::Later(606_000));
        // What ended well before counts.
        let before = fresh.begun().ended(Blame::Well, 500_000);
        assert_eq!(before.attempts, 0);
        assert_eq!(at(before, life(100_000), 101_000), Look::Proven);
        assert_eq!(at(before, life(1_000), 2_000), Look::Later(101_000));
    }
}
