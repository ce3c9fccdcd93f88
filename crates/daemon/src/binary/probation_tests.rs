//! What becomes of a binary that is not proven, and what the operator can do about it.

use super::Admission;
use super::desk::{Desk, Refusal};
use super::index::Standing;
use super::tests::{Home, healthy, install, shell};
use super::{Shelf, Turn};
use crate::config::WorkerCommand;
use policy::probation::Blame;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Of its run: begins, and ends so.
fn attempt(home: &Home, shelf: &mut Shelf, run: u64, blame: Blame) -> String {
    let launch = home.choose(shelf).unwrap();
    shelf.begin(run, &launch);
    shelf.ended(run, blame, 59_000, "exit status 1");
    shelf.roll_back();
    launch.sha256.unwrap()
}

#[test]
fn a_candidate_that_fails_three_times_is_rolled_back_and_stays_away() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    install(&home.installed(), &shell("bad"));
    let mut ran = Vec::new();
    for run in 2..=4 {
        let launch = home.choose(&mut shelf).unwrap();
        assert!(shelf.begin(run, &launch), "a candidate in place of a proven one");
        let sha256 = launch.sha256.unwrap();
        assert_eq!(u64::from(home.index().binary(&sha256).unwrap().attempts), run - 1, "on the disk before the start");
        shelf.ended(run, Blame::Binary, 59_000, "exit status 1");
        assert_eq!(shelf.roll_back(), run == 4);
        ran.push(sha256);
    }
    assert!(ran.iter().all(|sha256| *sha256 == ran[0] && *sha256 != good));
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));
    let index = home.index();
    let bad = index.binary(&ran[0]).unwrap();
    assert_eq!(bad.standing, Standing::Quarantined);
    assert_eq!(bad.reason.as_deref(), Some("failed 3 times in probation, last: exit status 1, after 59 s"));
    assert_eq!(index.given_up().map(|binary| &binary.sha256), Some(&ran[0]));
    assert!(shelf.take_turns().iter().any(|turn| matches!(turn, Turn::RolledBack { .. })));

    // Touched, or copied there again: it is known. The next daemon knows it, too.
    install(&home.installed(), &shell("bad"));
    for mut shelf in [shelf, home.shelf()] {
        assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));
    }
    home.desk().unquarantine(&ran[0][..8]).unwrap();
    assert_eq!(home.choose(&mut home.shelf()).unwrap().sha256.as_ref(), Some(&ran[0]), "it has another chance");
}

#[test]
fn what_is_not_its_fault_is_given_back_and_an_end_that_nobody_saw_is_not() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    install(&home.installed(), &shell("new"));
    for run in 2..12 {
        assert_ne!(attempt(&home, &mut shelf, run, Blame::Elsewhere), good);
    }
    // Three daemons in a row are killed with their worker.
    for run in 12..15 {
        let mut shelf = home.shelf();
        shelf.roll_back();
        let launch = home.choose(&mut shelf).unwrap();
        assert_ne!(launch.sha256.as_ref(), Some(&good));
        shelf.begin(run, &launch);
    }
    let mut shelf = home.shelf();
    home.choose(&mut shelf).unwrap();
    assert!(shelf.roll_back());
    assert_eq!(home.choose(&mut shelf).unwrap().sha256, Some(good));
}

#[test]
fn the_first_binary_is_never_rolled_back_into_nothing() {
    let home = Home::new();
    let mut shelf = home.shelf();
    install(&home.installed(), &shell("only"));
    let first = attempt(&home, &mut shelf, 1, Blame::Binary);
    for run in 2..10 {
        assert_eq!(attempt(&home, &mut shelf, run, Blame::Binary), first);
    }
    assert_eq!(home.index().binary(&first).unwrap().standing, Standing::Candidate);
}

/// In its first run, and not for long enough.
fn lives_a_little(home: &Home, shelf: &mut Shelf, mark: &str) -> String {
    install(&home.installed(), &shell(mark));
    let launch = home.choose(shelf).unwrap();
    shelf.begin(1, &launch);
    assert!(!shelf.look(Some(healthy(3_000)), 3_000));
    shelf.ended(1, Blame::Elsewhere, 3_000, "restarted");
    launch.sha256.unwrap()
}

#[test]
fn without_anything_proven_a_candidate_that_lived_is_gone_back_to() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let first = lives_a_little(&home, &mut shelf, "first");
    install(&home.installed(), &shell("bad"));
    for run in 2..=4 {
        assert_ne!(attempt(&home, &mut shelf, run, Blame::Binary), first);
    }
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&first));

    let second = lives_a_little(&home, &mut shelf, "second");
    assert_ne!(second, first);
    assert_eq!(home.desk().roll_back(None).unwrap().sha256, first);
}

#[test]
fn whichever_copy_is_lost_the_next_best_is_gone_back_to() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let first = home.proven(&mut shelf, "first");
    let second = home.proven(&mut shelf, "second");
    let lost = home.path().join("bin/store").join(&second);
    fs::remove_dir_all(&lost).unwrap();
    // This one's memory holds the copy.
    drop(shelf);
    let mut shelf = home.shelf();
    install(&home.installed(), &shell("bad"));
    for run in 2..=4 {
        assert_ne!(attempt(&home, &mut shelf, run, Blame::Binary), first);
    }
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&first));
    install(&home.installed(), &shell("next"));
    home.choose(&mut shelf).unwrap();
    assert_eq!(home.desk().roll_back(None).unwrap().sha256, first);
}

/// A backup by links or a `chmod` changes a copy's stamp, and another store in place of this one all of it; the content counts.
#[test]
fn a_copy_of_which_only_the_stamp_changed_is_as_good_as_before() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    let store = home.path().join("bin/store");
    let copy = store.join(&good).join("autopilot");
    fs::hard_link(&copy, home.path().join("backup")).unwrap();
    fs::remove_file(home.installed()).unwrap();
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good), "without its file");
    install(&home.installed(), &shell("bad"));
    for (run, mode) in [(2, 0o700), (3, 0o755), (4, 0o777)] {
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
        assert_ne!(attempt(&home, &mut shelf, run, Blame::Binary), good);
    }
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));

    let other = home.path().join("other");
    super::tests::cp_a(&store, &other);
    fs::remove_dir_all(&store).unwrap();
    fs::rename(&other, &store).unwrap();
    for mut shelf in [shelf, home.shelf()] {
        assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));
    }
}

#[test]
fn a_copy_whose_content_changed_is_never_run() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let first = home.proven(&mut shelf, "first");
    let second = home.proven(&mut shelf, "second");
    fs::remove_file(home.installed()).unwrap();
    let copy = home.path().join("bin/store").join(&second).join("autopilot");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&copy, shell("another")).unwrap();
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&first));
    let turns = shelf.take_turns();
    let told = turns.iter().any(|turn| matches!(turn, Turn::Refused { source, .. } if *source == copy));
    assert!(told, "{turns:?}");
    assert!(matches!(home.desk().pin(Some(&second)), Err(Refusal::Damaged { .. })));
}

#[test]
fn a_candidate_whose_proven_one_is_gone_goes_on() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    install(&home.installed(), &shell("new"));
    let new = attempt(&home, &mut shelf, 2, Blame::Binary);
    fs::remove_dir_all(home.path().join("bin/store").join(&good)).unwrap();
    for run in 3..8 {
        assert_eq!(attempt(&home, &mut shelf, run, Blame::Binary), new);
    }
}

#[test]
fn what_was_given_up_runs_if_there_is_nothing_else() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    install(&home.installed(), &shell("bad"));
    let bad = (2..5).map(|run| attempt(&home, &mut shelf, run, Blame::Binary)).last().unwrap();
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));
    fs::remove_dir_all(home.path().join("bin/store").join(&good)).unwrap();
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&bad));
}

#[test]
fn the_operator_goes_back_pins_and_gives_another_chance() {
    let home = Home::new();
    let (mut shelf, desk) = (home.shelf(), home.desk());
    assert!(matches!(desk.roll_back(None), Err(Refusal::NothingProven)));
    let good = home.proven(&mut shelf, "good");
    install(&home.installed(), &shell("new"));
    let new = home.choose(&mut shelf).unwrap().sha256.unwrap();
    assert!(matches!(desk.roll_back(Some("abc")), Err(Refusal::Unknown { .. })));
    assert!(matches!(desk.roll_back(Some(&new)), Err(Refusal::RunsAlready { .. })));
    assert!(matches!(desk.unquarantine(&good), Err(Refusal::NotQuarantined { .. })));

    assert_eq!(desk.roll_back(None).unwrap().sha256, good);
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good), "the daemon notices");
    assert!(matches!(desk.pin(Some(&new)), Err(Refusal::Quarantined { .. })));
    desk.unquarantine(&new[..12]).unwrap();
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&new));

    desk.pin(Some(&good)).unwrap();
    install(&home.installed(), &shell("newest"));
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good), "whatever is installed");
    desk.pin(None).unwrap();
    let newest = home.choose(&mut shelf).unwrap().sha256.unwrap();
    assert!(newest != good && newest != new);
}

#[test]
fn whoever_is_pinned_is_not_rolled_back() {
    let home = Home::new();
    let mut shelf = home.shelf();
    home.proven(&mut shelf, "good");
    install(&home.installed(), &shell("mine"));
    let mine = home.choose(&mut shelf).unwrap().sha256.unwrap();
    home.desk().pin(Some(&mine)).unwrap();
    for run in 2..8 {
        assert_eq!(attempt(&home, &mut shelf, run, Blame::Binary), mine);
    }
}

#[test]
fn what_ran_and_how_long_is_counted() {
    let home = Home::new();
    let mut shelf = home.shelf();
    install(&home.installed(), &shell("1"));
    let launch = home.choose(&mut shelf).unwrap();
    for (run, lived_ms) in [(1, 1_000), (2, 3_000)] {
        shelf.begin(run, &launch);
        shelf.began();
        shelf.ended(run, Blame::Elsewhere, lived_ms, "ended");
    }
    shelf.keep_count(None).unwrap();
    let shown = home.desk().list();
    assert_eq!((shown[0].lives.runs, shown[0].lives.mean_ms()), (2, Some(2_000)));
    assert!(shown[0].is_current && !shown[0].is_pinned);
}

/// What the operator says is newer than a file that nobody has looked into yet.
#[test]
fn the_operators_word_holds_over_a_file_that_is_there_already() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let first = home.proven(&mut shelf, "first");
    home.proven(&mut shelf, "second");
    install(&home.installed(), &shell("third"));
    assert_eq!(home.desk().roll_back(None).unwrap().sha256, first);
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&first));

    install(&home.installed(), &shell("bad"));
    let bad = (2..5).map(|run| attempt(&home, &mut shelf, run, Blame::Binary)).last().unwrap();
    install(&home.installed(), &shell("fourth"));
    home.desk().unquarantine(&bad).unwrap();
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&bad));
    install(&home.installed(), &shell("fifth"));
    assert_ne!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&bad), "what comes after it is newer");
}

#[test]
fn a_rollback_from_a_proven_binary_gives_it_up_for_now_only() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let proven = ["1", "2", "3"].map(|mark| home.proven(&mut shelf, mark));
    for expected in [&proven[1], &proven[0], &proven[2]] {
        assert_eq!(home.desk().roll_back(None).unwrap().sha256, **expected);
        assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(expected));
    }
    assert!(home.index().binaries.iter().all(|binary| binary.standing == Standing::Good));
}

#[test]
fn an_install_before_the_first_start_is_what_that_one_runs() {
    let home = Home::new();
    let configured = home.path().join("worker");
    install(&configured, &shell("there"));
    let source = home.path().join("build");
    install(&source, b"#!/bin/sh\n[ \"$1\" != --version ] || echo robot 7\n");
    let admission = Desk::new(home.path(), Some(configured.clone())).install(source);
    let Admission::Admitted { sha256, .. } = admission else { panic!("{admission:?}") };
    let launch = super::tests::choose(&mut home.shelf(), Some(&WorkerCommand::Binary { path: configured })).unwrap();
    assert_eq!(launch.sha256, Some(sha256));
}

/// What was given up stays so, although its file is still where the worker is taken from.
#[test]
fn a_lost_index_brings_nothing_back_that_was_given_up() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    install(&home.installed(), &shell("bad"));
    for run in 2..=4 {
        attempt(&home, &mut shelf, run, Blame::Binary);
    }
    let index = home.path().join("bin/store/index.json");
    for (what, garbage) in [("garbage", Some("{")), ("empty", Some("")), ("gone", None)] {
        match garbage {
            Some(garbage) => fs::write(&index, garbage).unwrap(),
            None => fs::rename(&index, home.path().join("index")).unwrap(),
        }
        assert_eq!(home.choose(&mut home.shelf()).unwrap().sha256.as_ref(), Some(&good), "{what}");
        assert_eq!(home.index().binaries.len(), 2, "{what}");
        assert!(home.desk().unquarantine("no such").is_err(), "which writes the index anew");
    }
    fs::remove_file(&index).unwrap();
    // Known by another daemon's memory only.
    fs::remove_file(index.with_extension("json.prev")).unwrap();
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));
}

/// By nothing but the copies and what was counted.
#[test]
fn without_any_index_the_copies_are_candidates_again() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    shelf.began();
    shelf.ended(1, Blame::Elsewhere, 600_000, "restarted");
    install(&home.installed(), &shell("bad"));
    let bad = attempt(&home, &mut shelf, 2, Blame::Binary);
    shelf.keep_count(None).unwrap();
    drop(shelf);
    let index = home.path().join("bin/store/index.json");
    fs::remove_file(&index).unwrap();
    fs::write(index.with_extension("json.prev"), "garbage").unwrap();
    let mut shelf = home.shelf();
    for run in 3..=5 {
        assert_eq!(attempt(&home, &mut shelf, run, Blame::Binary), bad);
    }
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));
}

/// The copy of the newest run is open, and can be put back.
#[test]
fn a_store_that_is_deleted_is_put_back_from_memory() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    install(&home.installed(), &shell("bad"));
    for run in 2..=4 {
        attempt(&home, &mut shelf, run, Blame::Binary);
    }
    let launch = home.choose(&mut shelf).unwrap();
    shelf.begin(5, &launch);
    for _ in 0..2 {
        fs::remove_dir_all(home.path().join("bin/store")).unwrap();
        assert_eq!(home.choose(&mut shelf).unwrap(), launch);
        assert_eq!(fs::read(home.path().join("bin/store").join(&good).join("autopilot")).unwrap(), shell("good"));
        assert_eq!(home.index().given_up().map(|binary| binary.standing), Some(Standing::Quarantined));
    }
}

/// Others are to blame, as it says; but the one before may have no such trouble.
#[test]
fn a_candidate_that_ends_at_once_with_an_excuse_is_set_aside_and_not_given_up() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    install(&home.installed(), &shell("new"));
    let new = (2..=4).map(|run| attempt(&home, &mut shelf, run, Blame::Excused)).last().unwrap();
    for mut shelf in [shelf, home.shelf()] {
        assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));
    }
    assert_eq!(home.index().binary(&new).unwrap().standing, Standing::Candidate);
    assert_eq!(home.index().given_up().map(|binary| &binary.sha256), Some(&new));
    home.desk().roll_back(Some(&new)).unwrap();
    let mut shelf = home.shelf();
    assert_eq!(attempt(&home, &mut shelf, 5, Blame::Excused), new, "it has another chance");
    assert_eq!(home.choose(&mut shelf).unwrap().sha256, Some(new));
}

#[test]
fn a_pinned_copy_that_is_gone_is_said() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let good = home.proven(&mut shelf, "good");
    home.proven(&mut shelf, "better");
    home.desk().pin(Some(&good)).unwrap();
    assert_eq!(home.choose(&mut shelf).unwrap().sha256.as_ref(), Some(&good));
    assert_eq!(shelf.problems(), [] as [String; 0]);
    fs::remove_dir_all(home.path().join("bin/store").join(&good)).unwrap();
    let mut shelf = home.shelf();
    let runs = home.choose(&mut shelf).unwrap().sha256.unwrap();
    let problems = shelf.problems();
    assert!(problems.len() == 1 && problems[0].contains(&good[..12]), "{problems:?}");
    let shown = home.desk().list();
    let marked: Vec<&str> = shown.iter().filter(|one| one.is_current).map(|one| one.binary.sha256.as_str()).collect();
    assert_eq!(marked, [runs]);
}

#[test]
fn more_than_one_proven_copy_outlives_those_that_come_and_go() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let proven = ["1", "2", "3"].map(|mark| home.proven(&mut shelf, mark));
    for n in 0..8 {
        install(&home.installed(), &shell(&format!("version {n}")));
        home.choose(&mut shelf).unwrap();
    }
    assert!(proven.iter().all(|sha256| home.index().binary(sha256).is_some()), "{:#?}", home.index());
    assert_eq!(home.index().binaries.len(), 5 + 3);
}

#[test]
fn what_could_not_be_written_is_written_with_the_next_change() {
    let home = Home::new();
    let mut shelf = home.shelf();
    home.proven(&mut shelf, "good");
    install(&home.installed(), &shell("new"));
    let launch = home.choose(&mut shelf).unwrap();
    let new = launch.sha256.clone().unwrap();
    let lock = home.path().join("bin/store/.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    shelf.begin(2, &launch);
    assert!(shelf.problems()[0].contains("index.json"), "{:?}", shelf.problems());
    assert_eq!(home.index().binary(&new).unwrap().attempts, 0);
    fs::remove_dir(&lock).unwrap();
    shelf.ended(2, Blame::Binary, 5, "exit status 1");
    assert_eq!(home.index().binary(&new).unwrap().attempts, 1);
    assert_eq!(shelf.problems(), [] as [String; 0]);
}
