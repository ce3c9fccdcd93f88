//! Real files, real processes. The programs are copies of the shell with a few bytes behind them, which change the hash
//! and not the program.
#![expect(clippy::disallowed_methods, reason = "starts programs the way an operator's shell does")]

use super::{Note, Refused, Store, Unfit};
use crate::config::WorkerCommand;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A home with an empty `bin`.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn installed(&self) -> PathBuf {
        super::install_path(self.path())
    }

    fn store(&self) -> Store {
        Store::new(self.path())
    }

    fn copies(&self) -> Vec<PathBuf> {
        let items = fs::read_dir(self.path().join("bin/store")).unwrap();
        let paths = items.map(|item| item.unwrap().path());
        paths.filter(|path| path.is_dir()).map(|path| path.join("autopilot")).collect()
    }

    /// Written anew at every admission, by rename.
    fn index_inode(&self) -> u64 {
        fs::metadata(self.path().join("bin/store/index.json")).unwrap().ino()
    }
}

fn shell(mark: &str) -> Vec<u8> {
    let mut bytes = fs::read("/bin/sh").unwrap();
    bytes.extend(mark.as_bytes());
    bytes
}

/// As `cp` and `chmod +x` do it: into the existing file.
fn install(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// A shell that waits for a line. Killed when dropped.
struct Waiting(Child);

impl Waiting {
    fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(["-c", "echo up; read line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut answer = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut answer).unwrap();
        Self(child)
    }

    fn finish(mut self) -> bool {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        self.0.wait().unwrap().success()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn refused(store: &mut Store, path: &Path) -> Refused {
    store.choose(Some(&WorkerCommand::Binary { path: path.to_owned() }), &[]).expect_err("refused")
}

#[test]
fn cp_over_the_binary_is_safe_while_a_worker_runs() {
    let home = Home::new();
    let mut store = home.store();
    install(&home.installed(), &shell("1"));
    let first = store.choose(None, &[]).unwrap();
    let copy = PathBuf::from(&first.argv[0]);
    assert!(copy.starts_with(home.path().join("bin/store")), "{}", copy.display());
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o555);
    assert_eq!(fs::read(&copy).unwrap(), shell("1"));

    let worker = Waiting::start(&copy);
    install(&home.installed(), &shell("22"));
    let second = store.choose(None, &[&copy]).unwrap();
    assert_ne!(first.sha256, second.sha256);
    assert!(worker.finish());
    assert!(Waiting::start(Path::new(&second.argv[0])).finish());

    // What the store is for: the same without it.
    let direct = Waiting::start(&home.installed());
    let error = fs::write(home.installed(), shell("333")).expect_err("the running file is written to");
    assert_eq!(error.kind(), ErrorKind::ExecutableFileBusy);
    assert!(direct.finish());
}

#[test]
fn an_unchanged_binary_is_copied_once_also_by_the_next_daemon() {
    let home = Home::new();
    install(&home.installed(), &shell("1"));
    let mut store = home.store();
    let first = store.choose(None, &[]).unwrap();
    let index = home.index_inode();
    assert_eq!(store.choose(None, &[]).unwrap(), first);
    assert_eq!(home.store().choose(None, &[]).unwrap(), first);
    assert_eq!(home.index_inode(), index);
    // Touched, but the same: read again, and found again.
    install(&home.installed(), &shell("1"));
    assert_eq!(store.choose(None, &[]).unwrap(), first);
    assert_ne!(home.index_inode(), index);
    assert_eq!(home.copies().len(), 1);
}

#[test]
fn a_copy_that_was_changed_or_removed_is_made_again() {
    let home = Home::new();
    install(&home.installed(), &shell("1"));
    let mut store = home.store();
    let first = store.choose(None, &[]).unwrap();
    let copy = PathBuf::from(&first.argv[0]);

    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    fs::write(&copy, b"#!/bin/sh\nexit 1\n").unwrap();
    assert_eq!(home.store().choose(None, &[]).unwrap(), first);
    assert_eq!(fs::read(&copy).unwrap(), shell("1"));

    fs::remove_dir_all(home.path().join("bin/store")).unwrap();
    assert_eq!(store.choose(None, &[]).unwrap(), first);
    assert_eq!(fs::read(&copy).unwrap(), shell("1"));
}

#[test]
fn a_garbled_index_costs_one_copy_and_nothing_else() {
    let home = Home::new();
    install(&home.installed(), &shell("1"));
    let first = home.store().choose(None, &[]).unwrap();
    for garbage in ["", "{", "{\"version\":99,\"entries\":[]}", "\0\0\0"] {
        fs::write(home.path().join("bin/store/index.json"), garbage).unwrap();
        assert_eq!(home.store().choose(None, &[]).unwrap(), first);
    }
}

#[test]
fn overwritten_while_it_is_read_it_is_the_old_the_new_or_refused() {
    let home = Home::new();
    let mut store = home.store();
    // Of one size, so that only time stamps and bytes tell them apart.
    let variants = [shell("a"), shell("b")];
    install(&home.installed(), &variants[0]);
    let mut hashes: Vec<String> = Vec::new();
    for bytes in &variants {
        install(&home.installed(), bytes);
        hashes.extend(store.choose(None, &[]).unwrap().sha256);
    }
    assert_ne!(hashes[0], hashes[1]);
    for round in 0..30 {
        let chosen = std::thread::scope(|scope| {
            scope.spawn(|| install(&home.installed(), &variants[round % 2]));
            store.choose(None, &[])
        });
        match chosen {
            Ok(launch) => assert!(hashes.contains(launch.sha256.as_ref().unwrap()), "round {round}: a mixture"),
            Err(Refused { unfit, last_good, .. }) => {
                assert!(
                    matches!(unfit, Unfit::Empty | Unfit::Truncated { .. } | Unfit::Unsettled { .. }),
                    "round {round}: {unfit}"
                );
                assert!(hashes.contains(last_good.unwrap().sha256.as_ref().unwrap()));
            }
        }
        assert_eq!(store.choose(None, &[]).unwrap().sha256.as_ref(), Some(&hashes[round % 2]), "round {round}");
    }
    assert_eq!(home.copies().len(), 2);
}

/// Two writes within one tick of the kernel's clock leave the same stamp.
#[test]
fn a_second_install_right_after_the_first_is_noticed() {
    let home = Home::new();
    let mut store = home.store();
    for round in 0..10 {
        for mark in ["a", "b"] {
            install(&home.installed(), &shell(mark));
            let launch = store.choose(None, &[]).unwrap();
            assert_eq!(fs::read(&launch.argv[0]).unwrap(), shell(mark), "round {round}");
        }
    }
}

#[test]
fn the_newest_five_are_kept_and_whatever_runs() {
    let home = Home::new();
    let mut store = home.store();
    let mut launches = Vec::new();
    for n in 0..8 {
        install(&home.installed(), &shell(&format!("version {n}")));
        let in_use: Vec<PathBuf> = launches.first().into_iter().cloned().collect();
        let in_use: Vec<&Path> = in_use.iter().map(PathBuf::as_path).collect();
        launches.push(PathBuf::from(&store.choose(None, &in_use).unwrap().argv[0]));
    }
    let kept: Vec<usize> = (0..8).filter(|n| launches[*n].exists()).collect();
    assert_eq!(kept, [0, 3, 4, 5, 6, 7]);
    assert!(!home.path().join("bin/store/.incoming").exists());
}

#[test]
fn a_script_runs_where_it_is() {
    let home = Home::new();
    install(&home.installed(), b"#!/bin/sh -e\nexit 0\n");
    let mut store = home.store();
    for _ in 0..2 {
        let launch = store.choose(None, &[]).unwrap();
        assert_eq!(launch.argv, [home.installed()]);
        assert_eq!((launch.sha256, launch.note), (None, None));
    }
    // A script that becomes a program is noticed, and the other way round.
    install(&home.installed(), &shell("1"));
    assert!(store.choose(None, &[]).unwrap().sha256.is_some());
    install(&home.installed(), b"#!/bin/sh\n");
    assert_eq!(store.choose(None, &[]).unwrap().sha256, None);
}

#[test]
fn a_link_is_followed_to_what_it_means_now() {
    let home = Home::new();
    let mut store = home.store();
    let (old, new) = (home.path().join("old"), home.path().join("new"));
    install(&old, &shell("old"));
    install(&new, &shell("new"));
    symlink(&old, home.installed()).unwrap();
    let first = store.choose(None, &[]).unwrap();
    fs::remove_file(home.installed()).unwrap();
    symlink(&new, home.installed()).unwrap();
    assert_ne!(store.choose(None, &[]).unwrap().sha256, first.sha256);
}

#[test]
fn each_unfit_file_is_refused_with_its_reason() {
    let home = Home::new();
    let mut store = home.store();
    let path = home.path().join("candidate");
    assert_eq!(refused(&mut store, &path).unfit, Unfit::Missing);
    assert_eq!(refused(&mut store, &path.join("below")).unfit, Unfit::Missing);
    assert_eq!(refused(&mut store, home.path()).unfit, Unfit::Directory);
    assert_eq!(refused(&mut store, Path::new("/dev/null")).unfit, Unfit::NotAFile);

    let mut foreign = shell("");
    foreign[18..20].copy_from_slice(&[0x16, 0]);
    let mut object = shell("");
    object[16] = 1;
    let interpreter = PathBuf::from("/nowhere/sh");
    for (bytes, unfit) in [
        (b"".as_slice(), Unfit::Empty),
        (b"just text\n", Unfit::NotAProgram),
        (b"#!\n", Unfit::NotAProgram),
        (b"#! /nowhere/sh -e\n", Unfit::InterpreterMissing { interpreter }),
        (b"\x7fELF", Unfit::Truncated { size_bytes: 4, wanted_bytes: 64 }),
        (&foreign, Unfit::WrongMachine { machine: 22 }),
        (&object, Unfit::NotAProgram),
    ] {
        install(&path, bytes);
        let refused = refused(&mut store, &path);
        assert_eq!(refused.unfit, unfit);
        assert_eq!(refused.last_good, None);
    }

    let whole = shell("");
    install(&path, &whole[..whole.len() - 1]);
    assert!(matches!(refused(&mut store, &path).unfit, Unfit::Truncated { .. }));
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let refused = refused(&mut store, &path);
    assert_eq!(refused.to_string(), format!("cannot execute worker binary {}: not executable", path.display()));
    assert_eq!(refused.hint(), "chmod +x that file");
}

#[test]
fn a_binary_that_vanishes_is_refused_with_its_last_copy_and_is_back_when_it_is_back() {
    let home = Home::new();
    let mut store = home.store();
    install(&home.installed(), &shell("1"));
    let launch = store.choose(None, &[]).unwrap();
    fs::remove_file(home.installed()).unwrap();
    for mut store in [store, home.store()] {
        let refused = store.choose(None, &[]).expect_err("it is gone");
        assert_eq!(refused.unfit, Unfit::Missing);
        assert_eq!(refused.last_good.as_deref(), Some(&launch));
        install(&home.installed(), &shell("1"));
        assert_eq!(store.choose(None, &[]).unwrap().sha256, launch.sha256);
        fs::remove_file(home.installed()).unwrap();
    }
}

#[test]
fn cargo_is_the_last_resort_and_only_before_the_first_binary() {
    let home = Home::new();
    let launch = home.store().choose(None, &[]).unwrap();
    assert_eq!(launch.argv, ["cargo", "run", "-p", "autopilot", "--bin", "autopilot", "--"]);
    assert_eq!(launch.note, Some(Note::NeverInstalled { install_to: home.installed() }));
    // A binary that is there but cannot run is no reason to build one.
    fs::write(home.installed(), b"text").unwrap();
    assert_eq!(home.store().choose(None, &[]).expect_err("not executable").unfit, Unfit::NotExecutable);
    install(&home.installed(), &shell("1"));
    home.store().choose(None, &[]).unwrap();
    fs::remove_file(home.installed()).unwrap();
    fs::remove_file(home.path().join("bin/store/index.json")).unwrap();
    assert_eq!(home.store().choose(None, &[]).expect_err("there was one").unfit, Unfit::Missing);
}

#[test]
fn the_settings_come_before_the_home() {
    let home = Home::new();
    let mut store = home.store();
    install(&home.installed(), &shell("home"));
    let other = home.path().join("other");
    install(&other, &shell("other"));
    let binary = WorkerCommand::Binary { path: other.clone() };
    assert_eq!(store.choose(Some(&binary), &[]).unwrap().source, Some(other));
    let cargo = WorkerCommand::Cargo { manifest_path: Some("/src/Cargo.toml".into()) };
    let launch = store.choose(Some(&cargo), &[]).unwrap();
    assert_eq!(launch.argv[..4], ["cargo", "run", "--manifest-path", "/src/Cargo.toml"]);
    assert_eq!(launch.note, Some(Note::CargoByChoice));
}

#[test]
fn a_store_that_cannot_be_written_is_said_and_does_not_stop_the_worker() {
    let home = Home::new();
    install(&home.installed(), &shell("1"));
    // Not by permissions: root ignores them.
    fs::write(home.path().join("bin/store"), b"").unwrap();
    let launch = home.store().choose(None, &[]).unwrap();
    assert_eq!(launch.argv, [home.installed()]);
    assert!(matches!(launch.note, Some(Note::NotStored { .. })), "{:?}", launch.note);
}
