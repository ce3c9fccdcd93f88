//! Promise 8: months of faults in virtual time. The test itself checks the invariants; here its summary is read.

use super::place::Place;
use super::row::{Limit, Row, Unit};
use crate::step::{Failure, cargo, shown};

const TEST: &str = "a_thousand_months_hold_every_invariant";
const SEEDS: f64 = 1_000.0;
const LONGEST_S: f64 = 60.0;

pub(crate) fn measure(_: &Place) -> Result<Vec<Row>, Failure> {
    let mut command = cargo();
    command.args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        "policy",
        "--test",
        "simulation",
        TEST,
        "--",
        "--nocapture",
    ]);
    let output = command.output().map_err(|error| Failure::new(format!("cannot run cargo: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("{} failed\n{text}{said}", shown(&command))));
    }
    let (seeds, days, took_s) = text
        .lines()
        .find_map(summary)
        .ok_or_else(|| Failure::new(format!("the simulation says nothing of seeds and days:\n{text}")))?;
    Ok(vec![
        Row::new(8, "seeds, no invariant broken", Limit::AtLeast(SEEDS), seeds, Unit::Count),
        Row::new(8, "virtual days each", Limit::AtLeast(30.0), days, Unit::Count),
        Row::new(8, "all of them", Limit::AtMost(LONGEST_S), took_s, Unit::S),
    ])
}

/// Of `1000 seeds × 30 virtual days: 123 steps in 12.3 s; …`: seeds, days, seconds.
fn summary(line: &str) -> Option<(f64, f64, f64)> {
    let (seeds, rest) = line.split_once(" seeds × ")?;
    let (days, rest) = rest.split_once(" virtual days")?;
    let (_, rest) = rest.split_once(" steps in ")?;
    let (seconds, _) = rest.split_once(" s;")?;
    Some((seeds.trim().parse().ok()?, days.parse().ok()?, seconds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulations_summary_is_understood() {
        let line = "1000 seeds × 30 virtual days: 81242 steps in 12.3 s; Tally { steps: 81242 }";
        assert_eq!(summary(line), Some((1000.0, 30.0, 12.3)));
        assert_eq!(summary("running 1 test"), None);
    }
}
