//! What the workers say of a home, and whether its daemon says the same.
//!
//! There is no slack: whatever is not as it should be must be of a run whose own shim was killed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::hostile::{Stamp, StampKind, code_of};

/// The daemon names as many of the last exits.
const NAMED_EXITS: usize = 10;

/// One worker, by its own word.
struct Life {
    pid: i32,
    ended: bool,
}

/// The workers of each run, and the runs whose shim was killed.
pub(super) struct Books<'a> {
    lives: BTreeMap<u64, Vec<Life>>,
    shims_killed_of: &'a BTreeSet<u64>,
}

impl<'a> Books<'a> {
    pub(super) fn new(stamps: &[Stamp], shims_killed_of: &'a BTreeSet<u64>) -> Self {
        let mut lives: BTreeMap<u64, Vec<Life>> = BTreeMap::new();
        for stamp in stamps {
            let of_run = lives.entry(stamp.run).or_default();
            match stamp.kind {
                StampKind::Start => of_run.push(Life { pid: stamp.pid, ended: false }),
                StampKind::End => {
                    of_run.iter_mut().filter(|life| life.pid == stamp.pid).for_each(|life| life.ended = true);
                }
                StampKind::Beside => {}
            }
        }
        Self { lives, shims_killed_of }
    }

    /// What the daemon says of the run that lives, and of those before it, and that is not so.
    pub(super) fn broken(&self, status: &Value) -> Vec<String> {
        let current = status["run"].as_u64().unwrap_or(0);
        let mut broken = Vec::new();
        for run in (1..current).filter(|run| !self.shims_killed_of.contains(run)) {
            match self.lives.get(&run).map(Vec::as_slice) {
                Some([Life { ended: true, .. }]) => {}
                Some([Life { pid, ended: false }]) => broken.push(format!("worker {pid} of run {run} was harmed")),
                Some(lives) => broken.push(format!("run {run} had {} workers", lives.len())),
                None => broken.push(format!("run {run} had no worker")),
            }
        }
        broken.extend(
            self.lives.range(current + 1..).map(|(run, _)| format!("run {run} is after the newest, {current}")),
        );
        let restarts = status["total_restarts"].as_u64().unwrap_or(0);
        if restarts + 1 != current {
            broken.push(format!("{restarts} restarts counted, and this is run {current}"));
        }
        let exits = exits(status);
        let first = if exits.len() < NAMED_EXITS { 1 } else { exits.last().map_or(1, |(run, _)| *run) };
        for run in (first..current).filter(|run| !self.shims_killed_of.contains(run)) {
            let named: Vec<&str> = exits.iter().filter(|(of, _)| *of == run).map(|(_, cause)| *cause).collect();
            let ended_as: Vec<String> =
                self.lives.get(&run).into_iter().flatten().map(|life| cause_of(life.pid)).collect();
            if named != ended_as {
                broken.push(format!("run {run} ended as {ended_as:?}, and the daemon says {named:?}: {exits:?}"));
            }
        }
        if !broken.is_empty() {
            broken.push(format!("the shims of these runs were killed: {:?}", self.shims_killed_of));
        }
        broken
    }

    /// How many exits of runs from this one on the daemon names.
    pub(super) fn exits_since(&self, run: u64, status: &Value) -> usize {
        exits(status).iter().filter(|(of, _)| *of >= run).count()
    }
}

/// Newest first: of which run, and how it ended.
fn exits(status: &Value) -> Vec<(u64, &str)> {
    let exits = status["last_exits"].as_array().map_or(&[][..], Vec::as_slice);
    exits.iter().map(|exit| (exit["run"].as_u64().unwrap_or(0), exit["cause"].as_str().unwrap_or(""))).collect()
}

/// As the daemon words it.
fn cause_of(pid: i32) -> String {
    format!("exit status {}", code_of(pid))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stamp(kind: StampKind, run: u64) -> Stamp {
        Stamp { kind, at_ns: 0, pid: i32::try_from(run).unwrap_or(0), run }
    }

    fn exit(run: u64) -> Value {
        json!({ "run": run, "cause": format!("exit status {run}") })
    }

    /// Three runs: two have ended, and the third lives.
    fn lived() -> Vec<Stamp> {
        [1, 1, 2, 2, 3]
            .into_iter()
            .zip([StampKind::Start, StampKind::End].into_iter().cycle())
            .map(|(run, kind)| stamp(kind, run))
            .collect()
    }

    #[test]
    fn books_that_agree_are_in_order() {
        let status = json!({ "run": 3, "total_restarts": 2, "last_exits": [exit(2), exit(1)] });
        assert_eq!(Books::new(&lived(), &BTreeSet::new()).broken(&status), [] as [String; 0]);
    }

    #[test]
    fn each_disagreement_is_found_unless_that_runs_own_shim_was_killed() {
        let in_order = json!({ "run": 3, "total_restarts": 2, "last_exits": [exit(2), exit(1)] });
        let with_exits = |exits: Value| json!({ "run": 3, "total_restarts": 2, "last_exits": exits });
        let without = |at: usize| {
            let mut stamps = lived();
            stamps.remove(at);
            stamps
        };
        let twice: Vec<Stamp> =
            lived().into_iter().chain(without(3).into_iter().filter(|stamp| stamp.run == 2)).collect();
        let none: Vec<Stamp> = lived().into_iter().filter(|stamp| stamp.run != 2).collect();
        for (what, stamps, status) in [
            ("harmed", without(3), in_order.clone()),
            ("two workers", twice, in_order.clone()),
            ("no worker", none, in_order),
            ("a lost exit", lived(), with_exits(json!([exit(1)]))),
            ("an exit told twice", lived(), with_exits(json!([exit(2), exit(2), exit(1)]))),
            ("another exit", lived(), with_exits(json!([{ "run": 2, "cause": "exit status 9" }, exit(1)]))),
        ] {
            let of = |run| Books::new(&stamps, &BTreeSet::from([run])).broken(&status);
            assert!(!Books::new(&stamps, &BTreeSet::new()).broken(&status).is_empty(), "{what}");
            assert!(!of(1).is_empty(), "{what}: another run's shim");
            assert_eq!(of(2), [] as [String; 0], "{what}");
        }
        let miscounted = json!({ "run": 3, "total_restarts": 1, "last_exits": [exit(2), exit(1)] });
        assert!(!Books::new(&lived(), &BTreeSet::from([1, 2])).broken(&miscounted).is_empty());
    }
}
