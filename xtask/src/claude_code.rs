//! Installs the Claude Code CLI that the tests are written against.
//!
//! The version and the hashes of its content are in `xtask/claude-code/`; npm checks them. Only the native binary is
//! used, so the package's scripts are not run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::{binaries, claude};

use crate::step::{Failure, run};

/// Installs it unless it is there, and returns the binary's path.
pub(crate) fn install() -> Result<PathBuf, Failure> {
    let folder = claude::install_folder(&binaries::target_folder());
    if let Some(binary) = claude::binary_in(&folder).filter(|binary| is_pinned_version(binary)) {
        return Ok(binary);
    }
    require_npm()?;
    fs::create_dir_all(&folder).map_err(|error| cannot("make", &folder, &error))?;
    for name in ["package.json", "package-lock.json"] {
        let from = binaries::workspace().join("xtask/claude-code").join(name);
        fs::copy(&from, folder.join(name)).map_err(|error| cannot("copy", &from, &error))?;
    }
    let flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--engine-strict=false", "--loglevel=error"];
    run(Command::new("npm").arg("ci").args(flags).current_dir(&folder)).map_err(|failure| {
        failure.hint("npm has to reach its registry once; what it installs stays in target/claude-code")
    })?;
    claude::binary_in(&folder).ok_or_else(|| {
        Failure::new(format!("no native Claude Code binary in {} for this kind of machine", folder.display()))
            .hint("it exists for Linux on x64 and arm64")
    })
}

fn is_pinned_version(binary: &Path) -> bool {
    let manifest = fs::read_to_string(binary.with_file_name("package.json")).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap_or_default();
    manifest["version"] == claude::version()
}

fn require_npm() -> Result<(), Failure> {
    let npm = Command::new("npm").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if npm.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let failure = Failure::new("npm is not installed; it installs the Claude Code CLI that the tests drive");
    Err(failure.hint("apt-get install npm, or take Node.js from https://nodejs.org"))
}

fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {verb} {}: {error}", path.display()))
}
