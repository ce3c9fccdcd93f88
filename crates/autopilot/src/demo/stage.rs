//! The throw-away folder with all that the demo needs: a home, a repository, the programs, the cues.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use daemon::Home;
use os::files::{Durability, Lock, write_atomic};

use super::agents::Casting;
use super::plot::{DELAY_MS, LeakPlan, STEPS, STOP_TIMEOUT_MS};
use super::sweep::{hold, sweep};
use crate::cli::report::{Exit, Failure};

/// Names the stage to every process of the demo, and finds them all again.
pub(super) const VARIABLE: &str = "AUTOPILOT_DEMO";

/// How the folder's name begins.
pub(super) const PREFIX: &str = "ap-demo-";

/// The folder.
#[derive(Debug, Clone)]
pub struct Stage {
    root: PathBuf,
    /// While the demo lives.
    _lock: Option<Arc<Lock>>,
}

impl Stage {
    /// Makes the empty folder. What earlier ones have left is removed.
    pub(super) fn claim() -> Result<Self, Failure> {
        let temporary = std::env::temp_dir();
        let failure = |error: io::Error| {
            Failure::new(Exit::Internal, format!("cannot make a folder in {}: {error}", temporary.display()))
                .hint("TMPDIR=/path/to/a/writable/folder autopilot demo")
        };
        let random = os::random::bytes::<5>().map_err(failure)?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // The worker names folders by their true path.
        let folder = temporary.canonicalize().map_err(failure)?;
        sweep(&folder);
        let root = folder.join(format!("{PREFIX}{name}"));
        fs::DirBuilder::new().mode(0o700).create(&root).map_err(failure)?;
        let lock = hold(&root).map_err(failure)?;
        Ok(Self { root, _lock: Some(lock) })
    }

    /// The stage of the demo below which this process runs.
    pub(super) fn from_environment() -> Option<Self> {
        std::env::vars_os().find(|(name, _)| name == VARIABLE).map(|(_, root)| Self::at(root.into()))
    }

    pub(super) fn at(root: PathBuf) -> Self {
        Self { root, _lock: None }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Unique on this machine: part of every path below the stage.
    pub(super) fn name(&self) -> &OsStr {
        self.root.file_name().unwrap_or(self.root.as_os_str())
    }

    /// The entry in the environment of every process of the demo but the first.
    pub(super) fn mark(&self) -> Vec<u8> {
        let mut mark = OsString::from(VARIABLE);
        mark.push("=");
        mark.push(&self.root);
        mark.into_encoded_bytes()
    }

    pub(super) fn home(&self) -> Home {
        Home::new(self.root.join("home"))
    }

    pub(super) fn repository(&self) -> PathBuf {
        self.root.join("repo")
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    /// What `TMPDIR` says to all below.
    pub(super) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    pub(super) fn cues(&self) -> PathBuf {
        self.root.join("cues")
    }

    /// Lets step `number` go on. `words` is for the step.
    pub(super) fn give_cue(&self, number: u32, words: &str) -> io::Result<()> {
        write_atomic(&self.cues().join(number.to_string()), words.as_bytes(), Durability::Process)
    }

    /// The file that the job is about.
    pub(super) fn counted(&self) -> PathBuf {
        self.repository().join("counted.txt")
    }

    /// The lines of that file, whole ones.
    pub(super) fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.counted()).unwrap_or_default();
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }

    /// Puts everything in its place.
    pub(super) fn furnish(&self) -> io::Result<()> {
        for folder in [self.repository(), self.root.join("bin"), self.temporary(), self.sessions(), self.cues()] {
            os::files::create_private_folder(&folder)?;
        }
        os::files::create_private_folder(&self.root.join("home/bin"))?;
        // Not a link to the program itself: it may be built anew while the demo runs.
        let program = self.program("autopilot");
        fs::copy("/proc/self/exe", &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
        for name in ["autopilotd", "claude", "node"] {
            symlink("autopilot", self.program(name))?;
        }
        symlink("../bin/autopilot", self.repository().join("step"))?;
        symlink("../../bin/autopilot", daemon::binary::install_path(self.home().root()))?;
        self.make_repository()
    }

    /// As `git init` leaves it, gitrepository-layout(5). Without git, which need not be installed.
    fn make_repository(&self) -> io::Result<()> {
        let git = self.repository().join(".git");
        fs::create_dir_all(git.join("objects"))?;
        fs::create_dir_all(git.join("refs/heads"))?;
        fs::write(git.join("HEAD"), "ref: refs/heads/main\n")?;
        fs::write(git.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = false\n")
    }

    /// Writes the daemon's settings.
    pub(super) fn configure(&self, casting: &Casting, leak: LeakPlan) -> io::Result<()> {
        // A string of JSON is one of TOML.
        let text = |text: &OsStr| serde_json::Value::from(text.to_string_lossy()).to_string();
        let settings = format!(
            "working_dir = {working_dir}\n\
             project = \"demo\"\n\
             model = \"{model}\"\n\
             max_budget = {budget}\n\
             max_turns = 100\n\
             prompt = {prompt}\n\
             agent_update = \"off\"\n\
             [memory]\n\
             min_available_bytes = {low}\n\
             critical_threshold_bytes = {critical}\n\
             node_kill_threshold_bytes = {victim}\n\
             kill_names = [\"node\"]\n\
             poll_interval_ms = 500\n\
             [restart]\n\
             initial_backoff_ms = {DELAY_MS}\n\
             max_backoff_ms = {DELAY_MS}\n\
             stall_timeout_ms = {stall}\n\
             stall_grace_ms = 0\n\
             stop_timeout_ms = {STOP_TIMEOUT_MS}\n",
            working_dir = text(self.repository().as_os_str()),
            model = casting.model,
            budget = casting.max_budget_usd,
            prompt = text(OsStr::new(&casting.prompt(STEPS))),
            low = leak.min_available_bytes,
            critical = leak.critical_bytes,
            victim = leak.victim_from_bytes,
            stall = casting.stall_timeout_ms,
        );
        fs::write(self.home().root().join("daemon.toml"), settings)
    }
}
