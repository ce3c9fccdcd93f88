//! What happened in a month.

/// What happened in a month, to know that the months are rich enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) starts: u64,
    pub(crate) failed: u64,
    pub(crate) stalls: u64,
    pub(crate) tolerated: u64,
    pub(crate) victims: u64,
    pub(crate) memory_restarts: u64,
    pub(crate) elsewhere: u64,
    pub(crate) answers: u64,
    pub(crate) halts: u64,
    pub(crate) deaths: u64,
    pub(crate) cut_steps: u64,
    pub(crate) adopted: u64,
    pub(crate) missed: u64,
    pub(crate) orphans: u64,
    pub(crate) freezes: u64,
}

impl Tally {
    fn numbers(&mut self) -> [&mut u64; 16] {
        [
            &mut self.steps,
            &mut self.starts,
            &mut self.failed,
            &mut self.stalls,
            &mut self.tolerated,
            &mut self.victims,
            &mut self.memory_restarts,
            &mut self.elsewhere,
            &mut self.answers,
            &mut self.halts,
            &mut self.deaths,
            &mut self.cut_steps,
            &mut self.adopted,
            &mut self.missed,
            &mut self.orphans,
            &mut self.freezes,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (mine, theirs) in self.numbers().into_iter().zip(other.numbers()) {
            *mine += *theirs;
        }
    }

    /// A world in which a thing hardly ever happens proves nothing about it.
    pub(crate) fn assert_rich(mut self, seeds: u64) {
        let debug = format!("{self:?}");
        // It takes no delay at all, and the one of a few places in a step.
        assert!(self.missed >= seeds / 20, "ends that are recorded late are too rare: {debug}");
        self.missed = seeds;
        for number in self.numbers() {
            assert!(*number >= seeds, "some fault is too rare: {debug}");
        }
    }
}
