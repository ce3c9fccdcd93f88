//! Real files, real processes. The programs are copies of the shell with a few bytes behind them, which change the hash
//! and not the program.
#![expect(clippy::disallowed_methods, reason = "starts programs the way an operator's shell does")]

use super::admit::admit;
use super::desk::Desk;
use super::index::{self, Index, Standing};
use super::mend::mend;
use super::{Asked, Choice, Launch, Note, Refused, Shelf, Turn, Unfit};
use crate::config::WorkerCommand;
use policy::probation::{Life, Settings};
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A home with an empty `bin`.
pub(super) struct Home {
    folder: TempDir,
}

impl Home {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        Self { folder }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn installed(&self) -> PathBuf {
        super::install_path(self.path())
    }

    pub(super) fn shelf(&self) -> Shelf {
        Shelf::new(self.path(), Settings { probation_ms: 600_000, stall_timeout_ms: 300_000 })
    }

    pub(super) fn desk(&self) -> Desk {
        Desk::new(self.path(), None)
    }

    fn command(&self) -> WorkerCommand {
        WorkerCommand::Binary { path: self.installed() }
    }

    /// What is on the disk.
    pub(super) fn index(&self) -> Index {
        Index::peek(&self.path().join("bin/store"))
    }

    /// The next start, whatever has to be found out before it.
    pub(super) fn choose(&self, shelf: &mut Shelf) -> Result<Launch, Refused> {
        choose(shelf, Some(&self.command()))
    }

    /// Installs it and has it proven.
    pub(super) fn proven(&self, shelf: &mut Shelf, mark: &str) -> String {
        install(&self.installed(), &shell(mark));
        let launch = self.choose(shelf).unwrap();
        let sha256 = launch.sha256.clone().unwrap();
        shelf.begin(1, &launch);
        assert!(shelf.look(Some(healthy(600_000)), 600_000));
        assert_eq!(self.index().binary(&sha256).unwrap().standing, Standing::Good);
        sha256
    }

    fn copies(&self) -> Vec<PathBuf> {
        let items = fs::read_dir(self.path().join("bin/store")).unwrap();
        let paths = items.map(|item| item.unwrap().path());
        paths.filter(|path| path.is_dir()).map(|path| path.join("autopilot")).collect()
    }

    /// Written anew with every change, by rename.
    fn index_inode(&self) -> u64 {
        fs::metadata(self.path().join("bin/store/index.json")).unwrap().ino()
    }
}

pub(super) fn shell(mark: &str) -> Vec<u8> {
    let mut bytes = fs::read("/bin/bash").unwrap();
    bytes.extend(mark.as_bytes());
    bytes
}

/// As `cp` and `chmod +x` do it: into the existing file.
pub(super) fn install(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// As `cp -a` does it: all but the inodes and the times of their changes is the same.
pub(super) fn cp_a(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
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

/// A run that began at 0 and shows life.
pub(super) fn healthy(now_ms: u64) -> Life {
    Life { started_ms: 0, active_ms: now_ms, is_tolerated: false }
}

pub(super) fn choose(shelf: &mut Shelf, command: Option<&WorkerCommand>) -> Result<Launch, Refused> {
    for _ in 0..3 {
        match shelf.choose(command, true) {
            Choice::Run(launch) => return Ok(launch),
            Choice::Refuse(refused) => return Err(refused),
            Choice::Ask(Asked::Mend) => {
                mend(shelf.store(), shelf.held()).unwrap();
                shelf.mended();
            }
            Choice::Ask(Asked::Admit) => {
                let wish = shelf.wish(command);
                let stamp = index::stamp_of(&wish.source);
                let admission = admit(shelf.store(), &wish);
                shelf.admitted(&wish.source, stamp, admission);
            }
        }
    }
    panic!("it is looked into again and again");
}

fn refused(shelf: &mut Shelf, path: &Path) -> Refused {
    choose(shelf, Some(&WorkerCommand::Binary { path: path.to_owned() })).expect_err("refused")
}

#[test]
fn cp_over_the_binary_is_safe_while_a_worker_runs() {
    let home = Home::new();
    let mut shelf = home.shelf();
    install(&home.installed(), &shell("1"));
    let first = home.choose(&mut shelf).unwrap();
    let copy = PathBuf::from(&first.argv[0]);
    assert!(copy.starts_with(home.path().join("bin/store")), "{}", copy.display());
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o555);
    assert_eq!(fs::read(&copy).unwrap(), shell("1"));

    let worker = Waiting::start(&copy);
    install(&home.installed(), &shell("22"));
    let second = home.choose(&mut shelf).unwrap();
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
    let mut shelf = home.shelf();
    let first = home.choose(&mut shelf).unwrap();
    let index = home.index_inode();
    assert_eq!(home.choose(&mut shelf).unwrap(), first);
    assert_eq!(home.choose(&mut home.shelf()).unwrap(), first);
    assert_eq!(home.index_inode(), index);
    // Touched, but the same: read again, and found again.
    install(&home.installed(), &shell("1"));
    assert_eq!(home.choose(&mut shelf).unwrap(), first);
    assert_ne!(home.index_inode(), index);
    assert_eq!(home.copies().len(), 1);
}

#[test]
fn a_copy_that_was_changed_or_removed_is_made_again() {
    let home = Home::new();
    install(&home.installed(), &shell("1"));
    let mut shelf = home.shelf();
    let first = home.choose(&mut shelf).unwrap();
    let copy = PathBuf::from(&first.argv[0]);

    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    fs::write(&copy, b"#!/bin/sh\nexit 1\n").unwrap();
    assert_eq!(home.choose(&mut home.shelf()).unwrap(), first);
    assert_eq!(fs::read(&copy).unwrap(), shell("1"));

    fs::remove_dir_all(home.path().join("bin/store")).unwrap();
    assert_eq!(home.choose(&mut shelf).unwrap(), first);
    assert_eq!(fs::read(&copy).unwrap(), shell("1"));
}

#[test]
fn a_garbled_index_costs_one_copy_and_nothing_else() {
    let home = Home::new();
    install(&home.installed(), &shell("1"));
    let first = home.choose(&mut home.shelf()).unwrap();
    for garbage in ["", "{", "{\"version\":99,\"entries\":[]}", "\0\0\0"] {
        fs::write(home.path().join("bin/store/index.json"), garbage).unwrap();
        assert_eq!(home.choose(&mut home.shelf()).unwrap(), first);
    }
}

#[test]
fn overwritten_while_it_is_read_it_is_the_old_or_the_new() {
    let home = Home::new();
    let mut shelf = home.shelf();
    // Of one size, so that only time stamps and bytes tell them apart.
    let variants = [shell("a"), shell("b")];
    let mut hashes: Vec<String> = Vec::new();
    for bytes in &variants {
        install(&home.installed(), bytes);
        hashes.extend(home.choose(&mut shelf).unwrap().sha256);
    }
    assert_ne!(hashes[0], hashes[1]);
    for round in 0..30 {
        let chosen = std::thread::scope(|scope| {
            scope.spawn(|| install(&home.installed(), &variants[round % 2]));
            home.choose(&mut shelf)
        });
        let launch = chosen.unwrap_or_else(|refused| panic!("round {round}: {refused}"));
        assert!(hashes.contains(launch.sha256.as_ref().unwrap()), "round {round}: a mixture");
        let launch = home.choose(&mut shelf).unwrap();
        assert_eq!(launch.sha256.as_ref(), Some(&hashes[round % 2]), "round {round}");
    }
    assert_eq!(home.copies().len(), 2);
}

/// Two writes within one tick of the kernel's clock leave the same stamp.
#[test]
fn a_second_install_right_after_the_first_is_noticed() {
    let home = Home::new();
    let mut shelf = home.shelf();
    for round in 0..10 {
        for mark in ["a", "b"] {
            install(&home.installed(), &shell(mark));
            let launch = home.choose(&mut shelf).unwrap();
            assert_eq!(fs::read(&launch.argv[0]).unwrap(), shell(mark), "round {round}");
        }
    }
}

#[test]
fn the_newest_five_are_kept_and_whatever_runs_or_is_proven_or_pinned() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let mut launches = Vec::new();
    for n in 0..10 {
        if n == 1 {
            home.proven(&mut shelf, "proven");
        }
        install(&home.installed(), &shell(&format!("version {n}")));
        let launch = home.choose(&mut shelf).unwrap();
        if n == 0 {
            shelf.begin(5, &launch);
            home.desk().pin(launch.sha256.as_deref()).unwrap();
            home.desk().pin(None).unwrap();
        }
        if n == 2 {
            shelf.begin(6, &launch);
        }
        launches.push(PathBuf::from(&launch.argv[0]));
    }
    let kept: Vec<usize> = (0..10).filter(|n| launches[*n].exists()).collect();
    assert_eq!(kept, [2, 5, 6, 7, 8, 9]);
    assert_eq!(home.copies().len(), 7, "and the proven one");
    let named: Vec<String> = home.index().binaries.iter().map(|binary| binary.sha256.clone()).collect();
    assert_eq!(named.len(), 7, "the index names what is there");
}

#[test]
fn a_link_is_followed_to_what_it_means_now() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let (old, new) = (home.path().join("old"), home.path().join("new"));
    install(&old, &shell("old"));
    install(&new, &shell("new"));
    symlink(&old, home.installed()).unwrap();
    let first = home.choose(&mut shelf).unwrap();
    fs::remove_file(home.installed()).unwrap();
    symlink(&new, home.installed()).unwrap();
    assert_ne!(home.choose(&mut shelf).unwrap().sha256, first.sha256);
}

#[test]
fn each_unfit_file_is_refused_with_its_reason() {
    let home = Home::new();
    let mut shelf = home.shelf();
    let path = home.path().join("candidate");
    assert_eq!(refused(&mut shelf, &path).unfit, Unfit::Missing);
    assert_eq!(refused(&mut shelf, &path.join("below")).unfit, Unfit::Missing);
    let folder = refused(&mut shelf, home.path());
    assert_eq!(folder.unfit, Unfit::Directory);
    assert!(folder.hint().contains("AUTOPILOT_WORKER_BINARY"), "{}", folder.hint());
    assert_eq!(refused(&mut shelf, Path::new("/dev/null")).unfit, Unfit::NotAFile);

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
        let refused = refused(&mut shelf, &path);
        assert_eq!(refused.unfit, unfit);
    }

    let whole = shell("");
    install(&path, &whole[..whole.len() - 1]);
    assert!(matches!(refused(&mut shelf, &path).unfit, Unfit::Truncated { .. }));
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let refused = refused(&mut shelf, &path);
    assert_eq!(refused.to_string(), format!("cannot execute worker binary {}: not executable", path.display()));
    assert_eq!(refused.hint(), "chmod +x that file");
}

#[test]
fn a_binary_that_vanishes_runs_on_from_its_copy() {
    let home = Home::new();
    let mut shelf = home.shelf();
    install(&home.installed(), &shell("1"));
    let launch = home.choose(&mut shelf).unwrap();
    fs::remove_file(home.installed()).unwrap();
    for mut shelf in [shelf, home.shelf()] {
        let without = home.choose(&mut shelf).unwrap();
        assert_eq!(without.sha256, launch.sha256);
        assert!(matches!(without.note, Some(Note::SourceUnfit { unfit: Unfit::Missing, .. })), "{:?}", without.note);
        install(&home.installed(), &shell("1"));
        assert_eq!(home.choose(&mut shelf).unwrap(), launch);
        fs::remove_file(home.installed()).unwrap();
    }
    // Who names another program means that one.
    assert_eq!(refused(&mut home.shelf(), &home.path().join("other")).unfit, Unfit::Missing);
}

#[test]
fn cargo_is_the_last_resort_and_only_before_the_first_binary() {
    let home = Home::new();
    let launch = choose(&mut home.shelf(), None).unwrap();
    assert_eq!(launch.argv, ["cargo", "run", "-p", "autopilot", "--bin", "autopilot", "--"]);
    assert_eq!(launch.note, Some(Note::NeverInstalled { install_to: home.installed() }));
    // A binary that is there but cannot run is no reason to build one.
    fs::write(home.installed(), b"text").unwrap();
    assert_eq!(choose(&mut home.shelf(), None).expect_err("not executable").unfit, Unfit::NotExecutable);
    install(&home.installed(), &shell("1"));
    home.choose(&mut home.shelf()).unwrap();
    fs::remove_file(home.installed()).unwrap();
    for name in ["index.json", "index.json.prev"] {
        fs::remove_file(home.path().join("bin/store").join(name)).unwrap();
    }
    for copy in home.copies() {
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
        fs::write(&copy, "damaged").unwrap();
    }
    assert_eq!(choose(&mut home.shelf(), None).expect_err("there was one").unfit, Unfit::Missing);
}

#[test]
fn the_settings_come_before_the_home() {
    let home = Home::new();
    let mut shelf = home.shelf();
    install(&home.installed(), &shell("home"));
    let first = home.choose(&mut shelf).unwrap();
    let other = home.path().join("other");
    install(&other, &shell("other"));
    let binary = WorkerCommand::Binary { path: other.clone() };
    let launch = choose(&mut shelf, Some(&binary)).unwrap();
    assert_eq!(launch.source, Some(other));
    assert_ne!(launch.sha256, first.sha256);
    assert_eq!(home.choose(&mut shelf).unwrap(), first, "and back");
    let cargo = WorkerCommand::Cargo { manifest_path: Some("/src/Cargo.toml".into()) };
    let launch = choose(&mut shelf, Some(&cargo)).unwrap();
    assert_eq!(launch.argv[..4], ["cargo", "run", "--manifest-path", "/src/Cargo.toml"]);
    assert_eq!(launch.note, Some(Note::CargoByChoice));
}

#[test]
fn without_a_store_the_file_itself_runs() {
    let home = Home::new();
    let mut shelf = home.shelf();
    install(&home.installed(), &shell("1"));
    let Choice::Run(launch) = shelf.choose(Some(&home.command()), false) else { panic!("it is a program") };
    assert_eq!((launch.argv, launch.sha256), (vec![home.installed().into()], None));
    assert!(!home.path().join("bin/store").exists());
    install(&home.installed(), b"text");
    assert!(matches!(shelf.choose(Some(&home.command()), false), Choice::Refuse(_)));
}

#[test]
fn a_foreign_program_is_refused_and_the_one_before_runs_on() {
    let home = Home::new();
    let mut shelf = home.shelf();
    install(&home.installed(), &shell("1"));
    let first = home.choose(&mut shelf).unwrap();
    // It answers, but is another program; it answers badly; it has no answer.
    for (name, why) in [("cat", "another program"), ("false", "exit status 1"), ("sleep", "another program")] {
        let path = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name)).into_iter().find(|p| p.exists());
        let Ok(bytes) = fs::read(path.unwrap()) else { continue };
        install(&home.installed(), &bytes);
        let launch = home.choose(&mut shelf).unwrap();
        assert_eq!(launch.sha256, first.sha256, "{name}");
        let turns = shelf.take_turns();
        let told = turns.iter().any(|turn| matches!(turn, Turn::Refused { why: told, .. } if told.contains(why)));
        // Some systems have one program for all of them, which answers by its name.
        assert!(told || turns.iter().any(|turn| matches!(turn, Turn::Refused { .. })), "{name}: {turns:?}");
        assert_eq!(home.copies().len(), 1, "what is refused is not kept");
    }
    let own = choose(&mut home.shelf(), None).unwrap();
    assert_eq!(own.sha256, first.sha256, "in the home's own place nothing but an autopilot is new");
}

#[test]
fn what_was_refused_is_not_asked_again_by_the_next_daemon() {
    let home = Home::new();
    let mut shelf = home.shelf();
    install(&home.installed(), &shell("1"));
    let first = home.choose(&mut shelf).unwrap();
    install(&home.installed(), b"#!/bin/sh\n# --version\nexit 3\n");
    assert_eq!(home.choose(&mut shelf).unwrap().sha256, first.sha256);
    let mut shelf = home.shelf();
    let choice = shelf.choose(Some(&home.command()), true);
    assert!(matches!(&choice, Choice::Run(launch) if launch.sha256 == first.sha256), "{choice:?}");
    assert!(shelf.problems()[0].contains("exit status 3"), "{:?}", shelf.problems());
    install(&home.installed(), b"#!/bin/sh\n# --version\necho GNU 2\n");
    assert_ne!(home.choose(&mut shelf).unwrap().sha256, first.sha256);
}

#[test]
fn a_store_that_cannot_be_written_is_said_and_does_not_stop_the_worker() {
    let home = Home::new();
    install(&home.installed(), &shell("1"));
    // Not by permissions: root ignores them.
    fs::write(home.path().join("bin/store"), b"").unwrap();
    let launch = home.choose(&mut home.shelf()).unwrap();
    assert_eq!(launch.argv, [home.installed()]);
    assert!(matches!(launch.note, Some(Note::NotStored { .. })), "{:?}", launch.note);
}
