//! Where the built programs are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Set by whoever has just built all of the workspace: there is nothing left to build.
pub const BUILT_VARIABLE: &str = "TESTKIT_BUILT";

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let testkit = Path::new(env!("CARGO_MANIFEST_DIR"));
    testkit.ancestors().nth(2).expect("crates/testkit is two levels down").to_path_buf()
}

/// Cargo's target folder, the one that this program was built into.
pub fn target_folder() -> PathBuf {
    let own_path = std::env::current_exe().expect("this program's own path");
    // Cargo marks the folder for backup programs.
    let marked = own_path.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| workspace().join("target"), Path::to_path_buf)
}

/// One of testkit's own programs, built like this one is.
///
/// Cargo builds them before the tests of the whole workspace, but not before those of another package alone: then it
/// is asked to here.
///
/// # Panics
/// When it is not there and cannot be built.
pub fn own(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let own_path = std::env::current_exe().expect("this program's own path");
    let folder = own_path.parent().expect("a program is in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().expect("deps is in a folder") } else { folder };
    BUILT.get_or_init(|| build(folder));
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not there: cargo build -p testkit", path.display());
    path
}

fn build(folder: &Path) {
    if std::env::var_os(BUILT_VARIABLE).is_some() {
        return;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let profile = if folder.ends_with("release") { "release" } else { "dev" };
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "testkit", "--bins", "--profile", profile, "--target-dir"])
        .arg(target_folder())
        .current_dir(workspace())
        .output()
        .expect("run cargo");
    assert!(output.status.success(), "cargo build -p testkit: {}", String::from_utf8_lossy(&output.stderr));
}
