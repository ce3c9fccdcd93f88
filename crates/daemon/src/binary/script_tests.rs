//! Scripts in the store: real files, real shells.

use super::index::Standing;
use super::tests::{Home, healthy, install};
use super::{Admission, Shelf, Unfit};
use policy::probation::Blame;
use std::fs;

fn script(lines: &str) -> Vec<u8> {
    format!("#!/bin/sh\n{lines}\n").into_bytes()
}

/// Installs it and has it proven.
fn proven(home: &Home, shelf: &mut Shelf, lines: &str) -> String {
    install(&home.installed(), &script(lines));
    let launch = home.choose(shelf).unwrap();
    shelf.begin(1, &launch);
    assert!(shelf.look(Some(healthy(600_000)), 600_000));
    launch.sha256.unwrap()
}

#[test]
fn a_script_runs_from_a_copy_and_is_rolled_back_as_any_program() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = proven(&home, &mut shelf, "read line");
    let copy = home.path().join("bin/store").join(&good).join("autopilot");
    install(&home.installed(), &script("exit 1"));
    assert_eq!(fs::read(&copy).unwrap(), script("read line"), "whatever is written to the file");
    for run in 2..=4 {
        let launch = home.choose(&mut shelf).unwrap();
        assert_ne!(launch.sha256.as_ref(), Some(&good));
        assert!(shelf.begin(run, &launch));
        shelf.ended(run, Blame::Binary, 5, "exit status 1");
        shelf.roll_back();
    }
    let launch = home.choose(&mut shelf).unwrap();
    assert_eq!(launch.argv, [copy]);
    let version = |sha256: &str| home.index().binary(sha256).unwrap().version.clone();
    assert_eq!(version(&good), "a script, not asked");
}

/// It might not look at its arguments, and begin to work.
#[test]
fn a_script_is_asked_for_its_version_only_if_it_knows_the_word() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let trace = home.path().join("trace");
    let worker = format!("echo x >> {}\n", trace.display());
    install(&home.installed(), &script(&worker));
    assert!(home.choose(&mut shelf).unwrap().sha256.is_some());
    assert!(!trace.exists());
    install(&home.installed(), &script("if [ \"$1\" = --version ]; then echo autopilot 7; fi"));
    let launch = home.choose(&mut shelf).unwrap();
    assert_eq!(home.index().binary(&launch.sha256.clone().unwrap()).unwrap().version, "autopilot 7");
    install(&home.installed(), &script("echo --version is not for me; exit 3"));
    assert_eq!(home.choose(&mut shelf).unwrap().sha256, launch.sha256);
}

#[test]
fn a_script_that_looks_for_its_place_runs_there_and_that_is_said() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let lines = ". \"${0%/*}/common\"";
    install(&home.installed(), &script(lines));
    for _ in 0..2 {
        let launch = home.choose(&mut shelf).unwrap();
        assert_eq!((launch.argv, launch.sha256), (vec![home.installed().into()], None));
        let problems = shelf.problems();
        assert!(problems.len() == 1 && problems[0].contains("runs where it is"), "{problems:?}");
    }
    let refused = home.desk().install(home.installed());
    assert_eq!(refused, Admission::Unfit(Unfit::Script));
    // One that does not is noticed, and the other way round.
    install(&home.installed(), &script("exit 0"));
    assert!(home.choose(&mut shelf).unwrap().sha256.is_some());
    assert_eq!(shelf.problems(), [] as [String; 0]);
    install(&home.installed(), &script(lines));
    assert_eq!(home.choose(&mut shelf).unwrap().sha256, None);
}

#[test]
fn a_torn_script_is_not_run() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = proven(&home, &mut shelf, "read line");
    install(&home.installed(), &script("if true; then\n  echo 'half a wo"));
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));
    // Half of it makes sense, too, but it is still being written.
    let whole = script("exit 0");
    install(&home.installed(), &whole);
    let writer = fs::OpenOptions::new().append(true).open(home.installed()).unwrap();
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));
    drop(writer);
    let launch = home.choose(&mut shelf).unwrap();
    assert_ne!(launch.sha256.as_ref(), Some(&good), "nobody has changed it since, and it is whole");
    assert_eq!(fs::read(&launch.argv[0]).unwrap(), whole);
}

#[test]
fn a_first_script_that_is_still_being_written_is_refused_until_it_is_not() {
    let home = Home::new();
    let mut shelf = home.shelf();
    install(&home.installed(), &script("exit 0"));
    let writer = fs::OpenOptions::new().append(true).open(home.installed()).unwrap();
    assert_eq!(home.choose(&mut shelf).expect_err("not yet").unfit, Unfit::BeingWritten);
    drop(writer);
    assert!(home.choose(&mut shelf).unwrap().sha256.is_some());
}

#[test]
fn a_script_and_machine_code_take_each_others_place() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    install(&home.installed(), &script("exit 1"));
    let launch = home.choose(&mut shelf).unwrap();
    assert_ne!(launch.sha256.as_ref(), Some(&good));
    install(&home.installed(), &super::tests::shell("next"));
    let launch = home.choose(&mut shelf).unwrap();
    assert_eq!(home.index().binary(&launch.sha256.unwrap()).unwrap().standing, Standing::Candidate);
}
