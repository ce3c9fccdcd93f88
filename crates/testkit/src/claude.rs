//! The real Claude Code CLI, as `cargo xtask test` installs it, and the environment that it may run in.
//!
//! The version is pinned in `xtask/claude-code/package.json`, its content by the hashes in the lock file beside it.

use std::path::{Path, PathBuf};

use crate::fake_api::FakeApi;
use crate::netns;

const PIN: &str = include_str!("../../../xtask/claude-code/package.json");

/// The version that the tests are written against.
///
/// # Panics
/// When the pin is not there.
pub fn version() -> String {
    let pin: serde_json::Value = serde_json::from_str(PIN).expect("the pin is JSON");
    pin["dependencies"]["@anthropic-ai/claude-code"].as_str().expect("the pin names a version").to_owned()
}

/// Where it is installed: a folder below the target folder.
pub fn install_folder(target: &Path) -> PathBuf {
    target.join("claude-code")
}

/// The native binary of this machine's kind in an install folder, if it is there.
pub fn binary_in(folder: &Path) -> Option<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    ["", "-musl"]
        .iter()
        .map(|libc| folder.join(format!("node_modules/@anthropic-ai/claude-code-linux-{arch}{libc}/claude")))
        .find(|path| path.is_file())
}

/// The installed binary.
///
/// # Panics
/// Outside of a namespace with nothing but loopback, and when it is not installed.
pub fn binary() -> PathBuf {
    netns::assert_only_loopback();
    let folder = install_folder(&crate::binaries::target_folder());
    binary_in(&folder).unwrap_or_else(|| {
        panic!("no Claude Code CLI in {}: run `cargo xtask test` once, it installs it", folder.display())
    })
}

/// The variables that make the CLI talk to the fake API and to nobody else.
pub fn environment(api: &FakeApi) -> Vec<(String, String)> {
    netns::assert_only_loopback();
    [
        ("ANTHROPIC_BASE_URL", api.url().as_str()),
        ("ANTHROPIC_API_KEY", "dummy"),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
        // As root it refuses --dangerously-skip-permissions without this.
        ("IS_SANDBOX", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}
