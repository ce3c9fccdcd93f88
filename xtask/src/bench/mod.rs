//! `cargo xtask bench`: the numbers of `PROMISES.md`, measured against floors in the same run.
//!
//! Samples of floor and subject alternate, so that whatever else the machine does meets both alike. Noise only ever adds:
//! a number that misses its limit is measured again, twice, before it counts as broken.

mod asked;
mod decoder;
mod drain;
mod idle;
mod memory;
pub(crate) mod overhead;
mod place;
mod restart;
mod row;
mod simulation;
mod start;
mod stop;

use std::time::Instant;

use serde_json::Value;

use crate::step::{Failure, cargo, run};
use place::Place;
use row::Row;

type Measure = fn(&Place) -> Result<Vec<Row>, Failure>;

/// Name, promise, how it is measured.
const BENCHES: &[(&str, u8, Measure)] = &[
    ("restart", 1, restart::measure),
    ("start", 2, start::measure),
    ("asked", 3, asked::measure),
    ("stop", 4, stop::measure),
    ("memory", 5, memory::measure),
    ("idle", 6, idle::measure),
    ("drain", 7, drain::measure),
    ("simulation", 8, simulation::measure),
    ("decoder", 16, decoder::measure),
    ("overhead", 17, overhead::measure),
];

const MOST_ROUNDS: u32 = 3;

struct Options {
    quick: bool,
    json: bool,
    chosen: Vec<&'static (&'static str, u8, Measure)>,
}

pub(crate) fn main(args: &[String]) -> Result<(), Failure> {
    let options = Options::parse(args)?;
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", "autopilot", "--package", "testkit", "--bins"]);
    if options.json {
        // Nothing but the data on stdout.
        build.arg("--quiet");
        let built = build.status().is_ok_and(|status| status.success());
        built.then_some(()).ok_or_else(|| Failure::new("cargo build --release failed"))?;
    } else {
        run(&mut build)?;
    }
    let place = Place::new(options.quick);
    let mut all: Vec<Row> = Vec::new();
    for (name, _, measure) in &options.chosen {
        let rows = in_rounds(name, *measure, &place, options.json)?;
        all.extend(rows);
    }
    if options.json {
        println!("{:#}", Value::from(all.iter().map(Row::to_json).collect::<Vec<_>>()));
    }
    let broken: Vec<&str> = all.iter().filter(|row| !row.holds()).map(|row| row.what.as_str()).collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("{} of {} numbers miss their limit: {}", broken.len(), all.len(), broken.join("; "))))
}

fn in_rounds(name: &str, measure: Measure, place: &Place, silent: bool) -> Result<Vec<Row>, Failure> {
    let mut round = 1;
    loop {
        let started = Instant::now();
        let rows = measure(place)?;
        let done = rows.iter().all(Row::holds) || round == MOST_ROUNDS;
        if !silent {
            let again = if done { "" } else { ", again" };
            println!("── {name}, {:.1} s{again}", started.elapsed().as_secs_f64());
            rows.iter().for_each(|row| println!("{row}"));
        }
        if done {
            return Ok(rows);
        }
        round += 1;
    }
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut options = Self { quick: false, json: false, chosen: Vec::new() };
        for arg in args {
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.json = true,
                wanted => {
                    let by_name =
                        |(name, number, _): &&(&str, u8, Measure)| *name == wanted || number.to_string() == wanted;
                    options.chosen.push(BENCHES.iter().find(by_name).ok_or_else(|| unknown(wanted))?);
                }
            }
        }
        if options.chosen.is_empty() {
            options.chosen = BENCHES.iter().collect();
        }
        Ok(options)
    }
}

fn unknown(wanted: &str) -> Failure {
    let names: Vec<String> = BENCHES.iter().map(|(name, number, _)| format!("{number} {name}")).collect();
    Failure::new(format!("no such bench: {wanted}")).hint(format!("there are: {}", names.join(", ")))
}
