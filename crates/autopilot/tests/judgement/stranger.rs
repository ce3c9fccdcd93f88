//! A process of the user's own: big, by a name that the daemon looks for, and none of its business.

use std::path::PathBuf;

use testkit::home::{DEADLINE, Home, Signal, Started};
use testkit::{binaries, vitals};

/// A copy of the hostile worker by this name, in the home's folder for programs.
pub(crate) fn program(home: &Home, name: &str) -> PathBuf {
    // Its folder lies beside the user's; the worker may run from there by its own name.
    let folder = home.user_home().with_file_name("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let named = folder.join(name);
    if !named.exists() {
        std::fs::copy(binaries::own("hostile-worker"), &named).unwrap();
    }
    named
}

/// A shell by this name, in the same folder.
pub(crate) fn shell(home: &Home, name: &str) -> PathBuf {
    let named = home.user_home().with_file_name("bin").join(name);
    std::fs::create_dir_all(named.with_file_name("")).unwrap();
    std::fs::copy("/bin/sh", &named).unwrap();
    named
}

const SIZE_BYTES: u64 = 600_000_000;

/// It runs, and has its 600 MB.
#[derive(Debug)]
pub(crate) struct Stranger(Started);

impl Stranger {
    pub(crate) fn start(home: &Home) -> Self {
        let mut command = home.command(program(home, "node"));
        command.args(["--hostile", &format!("leak={}:{SIZE_BYTES}", 20 * SIZE_BYTES)]);
        let stranger = home.start("stranger", command);
        let grown = || (vitals::pss_kib(stranger.pid()) * 1024 >= SIZE_BYTES).then_some(());
        home.wait_until("the stranger has grown", DEADLINE, grown);
        Self(stranger)
    }

    /// Nobody has ended it, nor asked it to end.
    pub(crate) fn lives_on(mut self) {
        assert!(!self.0.has_ended(), "the stranger was ended");
        self.0.signal(Signal::TERM);
        assert_eq!(self.0.wait_for_code(DEADLINE), 0, "it ends by SIGTERM and by nothing else");
    }
}
