//! What can go wrong, and how often. All chance comes from here, and from one seed.

use policy::supervisor::{Command, Exit, MemoryReading, Settings, StartFailure};

pub(crate) const SECOND: u64 = 1_000;
pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const DAY: u64 = 86_400_000;
pub(crate) const GIB: u64 = 1 << 30;

/// xorshift64*: small, quick, the same everywhere and for ever.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike, and the state must not be 0.
        Self((seed ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// At least `least`, less than `most`.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.next()).unwrap_or(0) % from.len()]
    }

    /// Mostly around `mean_ms`, now and then very soon.
    pub(crate) fn after(&mut self, mean_ms: u64) -> u64 {
        if self.one_in(8) { self.between(1, 2 * SECOND) } else { self.between(mean_ms / 4, 2 * mean_ms) }
    }
}

/// What an operator might have chosen.
pub(crate) fn settings(chance: &mut Chance) -> Settings {
    let initial_backoff_ms = chance.pick(&[SECOND, SECOND, SECOND, 250, 5 * SECOND, 0]);
    // Without any delay and without any limit a worker that can't start would keep a CPU busy, as asked for.
    let limits: &[u32] = if initial_backoff_ms == 0 { &[10, 3, 1] } else { &[10, 10, 10, 3, 1, 0] };
    let min_available_bytes = chance.pick(&[2 * GIB, 2 * GIB, 8 * GIB, 0]);
    Settings {
        initial_backoff_ms,
        max_backoff_ms: chance.pick(&[300 * SECOND, 300 * SECOND, MINUTE, 10 * SECOND]),
        backoff_multiplier: chance.pick(&[2.0, 2.0, 2.0, 1.5, 1.0, 3.0]),
        success_threshold_ms: chance.pick(&[MINUTE, MINUTE, MINUTE, 10 * SECOND, 10 * MINUTE]),
        max_consecutive_restarts: chance.pick(limits),
        max_restarts_per_hour: chance.pick(&[30, 30, 30, 5, 0]),
        recovery_cooldown_ms: chance.pick(&[10 * MINUTE, 10 * MINUTE, MINUTE, HOUR]),
        stall_timeout_ms: chance.pick(&[5 * MINUTE, 5 * MINUTE, MINUTE, 30 * MINUTE, 0]),
        stall_grace_ms: chance.pick(&[2 * MINUTE, 2 * MINUTE, 0]),
        max_stall_kills_per_hour: chance.pick(&[3, 3, 10, 0]),
        min_available_bytes,
        critical_threshold_bytes: min_available_bytes / chance.pick(&[2, 2, 1]),
        // The quick ones cost most of the time that the simulation takes: a few seeds in a hundred are enough.
        poll_interval_ms: chance.pick(&[5, 60, 60, 60, 45, 60, 30, 60, 60, 20, 60, 60]) * SECOND,
        node_kill_threshold_bytes: 500 << 20,
        swarm_kill_threshold_bytes: chance.pick(&[0, 0, 4 * GIB]),
    }
}

/// How workers are, for some hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Steady,
    Crashing,
    DyingEveryMinute,
    Finishing,
    FinishingAtOnce,
    Hanging,
    Unstartable,
    Mixed,
}

pub(crate) fn mood(chance: &mut Chance) -> (Mood, u64) {
    use Mood::{Crashing, DyingEveryMinute, Finishing, FinishingAtOnce, Hanging, Mixed, Steady, Unstartable};
    let all = [Steady, Steady, Mixed, Crashing, DyingEveryMinute, Finishing, FinishingAtOnce, Hanging, Unstartable];
    let mood = chance.pick(&all);
    let lasts_ms = if mood == Steady { chance.between(HOUR, 3 * DAY) } else { chance.between(10 * MINUTE, 4 * HOUR) };
    (mood, lasts_ms)
}

/// What will become of one run, if nobody intervenes. Times count from its execution.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    pub(crate) executed_in_ms: u64,
    pub(crate) failure: Option<StartFailure>,
    pub(crate) lives_ms: u64,
    pub(crate) exit: Exit,
    pub(crate) silent_after_ms: u64,
    /// Writes to its log so often while it works.
    pub(crate) writes_every_ms: u64,
    pub(crate) ready_after_ms: u64,
    /// Once told to end; `None`: only KILL helps.
    pub(crate) dies_in_ms: Option<u64>,
}

pub(crate) fn fate(chance: &mut Chance, mood: Mood, settings: &Settings) -> Fate {
    use Mood::{Crashing, DyingEveryMinute, Finishing, FinishingAtOnce, Hanging, Mixed, Steady, Unstartable};
    let mood = match mood {
        Mixed => chance.pick(&[Steady, Crashing, DyingEveryMinute, Finishing, FinishingAtOnce, Hanging, Unstartable]),
        other => other,
    };
    let threshold_ms = settings.success_threshold_ms;
    let lives_ms = match mood {
        Steady | Hanging | Unstartable | Mixed => chance.between(HOUR, 5 * DAY),
        Crashing => chance.pick(&[1, 3, 500, 10 * SECOND, threshold_ms - 1, threshold_ms]),
        DyingEveryMinute => threshold_ms + chance.between(0, 5 * SECOND),
        Finishing => threshold_ms + chance.between(0, HOUR),
        FinishingAtOnce => chance.between(1, threshold_ms),
    };
    let exit = match mood {
        Finishing | FinishingAtOnce => Exit::Code(0),
        Steady | Hanging | Unstartable | Mixed | Crashing | DyingEveryMinute => chance.pick(&[
            Exit::Code(1),
            Exit::Code(101),
            Exit::Signal(9),
            Exit::Signal(11),
            Exit::Unseen,
            Exit::Code(0),
        ]),
    };
    let failures = [StartFailure::NotFound, StartFailure::NotExecutable, StartFailure::NotAProgram];
    let failure = match mood {
        Unstartable => failures.get(usize::try_from(chance.between(0, 3)).unwrap_or(0)).cloned(),
        Steady | Hanging | Mixed | Crashing | DyingEveryMinute | Finishing | FinishingAtOnce => None,
    };
    let window_ms = if settings.stall_timeout_ms == 0 { 5 * MINUTE } else { settings.stall_timeout_ms };
    Fate {
        executed_in_ms: chance.pick(&[1, 1, 1, 2, 50, 3 * SECOND]),
        failure,
        lives_ms,
        exit,
        silent_after_ms: if mood == Hanging { chance.between(0, 20 * MINUTE) } else { u64::MAX / 4 },
        writes_every_ms: chance.between(SECOND, window_ms / 2),
        ready_after_ms: chance.pick(&[0, 20, 5 * SECOND, u64::MAX / 4]),
        dies_in_ms: chance.pick(&[Some(1), Some(3), Some(800), Some(5 * SECOND), None]),
    }
}

pub(crate) fn command(chance: &mut Chance) -> Command {
    use Command::{RestartWorker, Shutdown, StartWorker, StopWorker};
    chance.pick(&[
        StartWorker,
        StartWorker,
        StartWorker,
        RestartWorker,
        RestartWorker,
        StopWorker,
        StopWorker,
        Shutdown,
    ])
}

/// How memory is, for some minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Roomy,
    Low,
    Critical,
    /// To and fro over a threshold.
    Edge,
    Unreadable,
}

pub(crate) const ALL_MEMORY: u64 = 512 * GIB;

/// The weather, how long until it changes, and the size of the worker's tree in it.
pub(crate) fn weather(chance: &mut Chance, before: Weather) -> (Weather, u64, u64) {
    use Weather::{Critical, Edge, Low, Roomy, Unreadable};
    if before == Roomy {
        let next = chance.pick(&[Low, Low, Critical, Critical, Edge, Unreadable]);
        (next, chance.between(SECOND, 4 * MINUTE), chance.pick(&[GIB, 8 * GIB, 100 * GIB]))
    } else {
        (Roomy, chance.between(2 * HOUR, 6 * DAY), GIB)
    }
}

pub(crate) fn reading(weather: Weather, now_ms: u64, settings: &Settings) -> MemoryReading {
    let wave = (now_ms / 700) % 3 * (64 << 20);
    let available_bytes = match weather {
        Weather::Roomy => 400 * GIB,
        Weather::Low => settings.critical_threshold_bytes + wave,
        Weather::Critical => (settings.critical_threshold_bytes / 2).saturating_sub(wave),
        Weather::Edge => (settings.min_available_bytes + wave).saturating_sub(64 << 20),
        Weather::Unreadable => return MemoryReading::default(),
    };
    MemoryReading { available_bytes, total_bytes: ALL_MEMORY, pressure_percent: 0 }
}
