//! The one way into a test with processes: a private home, a repository, a clean environment, and an end for everything.
//!
//! Whatever is started through a [`Home`] carries the home's id in its environment. Dropping the home kills all that
//! carries it, checks that nothing is left, and removes the folder; after a failure it first prints what the programs
//! had to say.

mod groups;
mod started;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub use groups::of as control_groups_of;
pub use rustix::process::Signal;
pub use started::Started;

use crate::fake_api::FakeApi;
use crate::processes::{self, Process};
use crate::{claude, rlog};

/// Long enough for whatever happens at once, even on a busy machine; short enough to wait for in a failing test.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Owns nothing and may do nothing, on every Linux: `nobody`.
const ORDINARY_USER: u32 = 65_534;
/// Between two looks at something that gives no notice.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub autopilot: PathBuf,
    pub autopilotd: PathBuf,
}

/// A [`Home`] for the programs of the package whose test this is.
#[macro_export]
macro_rules! home {
    () => {
        $crate::home::Home::new($crate::home::Binaries {
            autopilot: env!("CARGO_BIN_EXE_autopilot").into(),
            autopilotd: env!("CARGO_BIN_EXE_autopilotd").into(),
        })
    };
}

/// A private temporary folder with all that a user has: a home, a repository, an environment.
#[derive(Debug)]
pub struct Home {
    id: String,
    binaries: Binaries,
    environment: Vec<(OsString, OsString)>,
    started: std::cell::Cell<usize>,
    user: Option<u32>,
    folder: Option<TempDir>,
    root: PathBuf,
}

impl Home {
    /// # Panics
    /// When the folder or the repository cannot be made.
    pub fn new(binaries: Binaries) -> Self {
        // Short: a socket's path has room for 107 bytes.
        let folder = tempfile::Builder::new().prefix("ap-").tempdir().expect("make a temporary folder");
        let root = folder.path().canonicalize().expect("the temporary folder's true path");
        let mut home = Self {
            id: processes::new_id(),
            binaries,
            environment: Vec::new(),
            started: std::cell::Cell::new(0),
            user: None,
            folder: Some(folder),
            root,
        };
        for folder in [home.repository(), home.user_home(), home.temporary(), home.root.join("said")] {
            fs::create_dir(&folder).expect("make a folder in the temporary folder");
        }
        home.set_env("PATH", std::env::var_os("PATH").unwrap_or_default());
        home.set_env("HOME", home.user_home());
        home.set_env("TMPDIR", home.temporary());
        home.set_env("LANG", "C.UTF-8");
        home.set_env("TZ", "UTC");
        home.set_env("GIT_CONFIG_NOSYSTEM", "1");
        home.set_env("AUTOPILOT_HOME", home.path());
        home.set_env(processes::ID_VARIABLE, home.id.clone());
        home.make_repository();
        home
    }

    fn make_repository(&self) {
        let config = "[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n[commit]\n\tgpgsign = false\n[maintenance]\n\tauto = false\n";
        fs::write(self.user_home().join(".gitconfig"), config).expect("write .gitconfig");
        fs::write(self.repository().join("README.md"), "# A repository to work in\n").expect("write README.md");
        self.git(["init", "--quiet"]);
        self.git(["add", "."]);
        self.git(["commit", "--quiet", "--message", "first"]);
    }

    /// By which [`processes::of`] finds what was started here, even when the home is gone.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The programs under test.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// What `AUTOPILOT_HOME` says; made by the daemon, not by us.
    pub fn path(&self) -> PathBuf {
        self.root.join("home")
    }

    /// The scratch git repository, with one commit. Commands run in here.
    pub fn repository(&self) -> PathBuf {
        self.root.join("repo")
    }

    /// What `HOME` says.
    pub fn user_home(&self) -> PathBuf {
        self.root.join("user")
    }

    /// What `TMPDIR` says.
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// A file of the repository as text; empty when it is not there.
    pub fn read(&self, name: impl AsRef<Path>) -> String {
        fs::read_to_string(self.repository().join(name)).unwrap_or_default()
    }

    /// Sets a variable for whatever is started from now on.
    pub fn set_env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.remove_env(name.as_ref());
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
    }

    pub fn remove_env(&mut self, name: impl AsRef<OsStr>) {
        self.environment.retain(|(known, _)| known != name.as_ref());
    }

    /// Writes the daemon's configuration file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_config(&self, toml: &str) {
        fs::create_dir_all(self.path()).expect("make the home");
        fs::write(self.path().join("daemon.toml"), toml).expect("write daemon.toml");
    }

    /// The path of the `autopilot` under test, for `AUTOPILOT_WORKER_BINARY`.
    pub fn autopilot_path(&self) -> &Path {
        &self.binaries.autopilot
    }

    /// Has the real CLI used, against this API and nothing else.
    ///
    /// # Panics
    /// Outside of [`crate::netns::isolated`], and when the CLI is not installed.
    pub fn use_real_claude(&mut self, api: &FakeApi) {
        self.set_env("AUTOPILOT_CLAUDE", claude::binary());
        for (name, value) in claude::environment(api) {
            self.set_env(name, value);
        }
    }

    /// A login in place of the API key, as subscribers have it.
    pub fn use_login_token(&mut self) {
        self.remove_env("ANTHROPIC_API_KEY");
        self.set_env("CLAUDE_CODE_OAUTH_TOKEN", "dummy");
    }

    /// No API key: nobody is logged in.
    pub fn log_out(&mut self) {
        self.remove_env("ANTHROPIC_API_KEY");
    }

    /// What `/login` leaves; the tokens are none.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn log_in(&self) {
        let folder = self.user_home().join(".claude");
        fs::create_dir_all(&folder).expect("make the CLI's folder");
        let login = r#"{"claudeAiOauth":{"accessToken":"sk-ant-oat01-x","refreshToken":"sk-ant-ort01-x","expiresAt":9999999999999,
            "scopes":["user:inference","user:profile"],"subscriptionType":"max"}}"#;
        fs::write(folder.join(".credentials.json"), login).expect("write the login");
    }

    /// From now on everything is started as a user without rights. Does nothing where the tests themselves run so.
    ///
    /// # Panics
    /// When the home cannot be handed over.
    pub fn use_ordinary_user(&mut self) {
        if !is_root() {
            return;
        }
        // They lie where perhaps only root may go.
        self.binaries.autopilot = self.own_copy(&self.binaries.autopilot);
        self.binaries.autopilotd = self.own_copy(&self.binaries.autopilotd);
        hand_over(&self.root, ORDINARY_USER).expect("hand the home over to an ordinary user");
        self.user = Some(ORDINARY_USER);
    }

    /// The user as whom things are started, if it is not the one who runs the tests.
    pub fn user(&self) -> Option<u32> {
        self.user
    }

    /// A copy of a program that the home's user can execute, by the same name.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn own_copy(&self, program: &Path) -> PathBuf {
        let folder = self.root.join("bin");
        fs::create_dir_all(&folder).expect("make a folder for programs");
        let copy = folder.join(program.file_name().expect("a program has a name"));
        fs::copy(program, &copy).unwrap_or_else(|error| panic!("copy {}: {error}", program.display()));
        copy
    }

    /// A command with this home's environment and no other, in the repository, without a terminal.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.repository()).stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// A command to run `autopilotd` with.
    pub fn autopilotd_command(&self) -> Command {
        self.command(&self.binaries.autopilotd)
    }

    /// Where `autopilotd` listens.
    pub fn socket(&self) -> PathBuf {
        self.path().join("autopilotd.sock")
    }

    /// Runs `autopilot` to its end.
    pub fn autopilot<Arg: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = Arg>) -> Output {
        self.start_autopilot(args).into_output(2 * DEADLINE)
    }

    /// Runs `autopilotd` to its end.
    pub fn autopilotd<Arg: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = Arg>) -> Output {
        let mut command = self.command(&self.binaries.autopilotd);
        command.args(args);
        self.start("autopilotd", command).into_output(2 * DEADLINE)
    }

    /// Starts `autopilot` and comes back at once.
    pub fn start_autopilot<Arg: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = Arg>) -> Started {
        let mut command = self.command(&self.binaries.autopilot);
        command.args(args);
        self.start("autopilot", command)
    }

    /// Starts `autopilotd start` and waits until it answers, or has ended.
    ///
    /// # Panics
    /// When it does neither within the deadline.
    pub fn start_daemon<Arg: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = Arg>) -> Started {
        let mut command = self.command(&self.binaries.autopilotd);
        command.arg("start").args(args);
        let mut daemon = self.start("daemon", command);
        self.wait_until("the daemon answers", DEADLINE, || {
            let answers = std::os::unix::net::UnixStream::connect(self.socket()).is_ok();
            (answers || daemon.has_ended()).then_some(())
        });
        daemon
    }

    /// Starts any command, made by [`Self::command`]; what it says is kept for [`Started`] and for a failure's report.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, name: &str, command: Command) -> Started {
        let number = self.started.get();
        self.started.set(number + 1);
        Started::start(command, &self.root.join("said").join(format!("{number:02}-{name}")))
    }

    /// What `autopilotd status --json` says; `None` while no daemon answers.
    pub fn status(&self) -> Option<Value> {
        let output = self.autopilotd(["status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("the status is JSON"))
    }

    /// Waits until the daemon's status is as wanted, and returns it.
    ///
    /// # Panics
    /// When it is not within the deadline.
    pub fn wait_for_status(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        self.wait_until(what, DEADLINE, || self.status().filter(|status| wanted(status)))
    }

    /// Looks again and again until there is something to return.
    ///
    /// # Panics
    /// When there is nothing within the deadline.
    pub fn wait_until<Found>(&self, what: &str, deadline: Duration, mut look: impl FnMut() -> Option<Found>) -> Found {
        let started = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(started.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
            std::thread::park_timeout(POLL_INTERVAL);
        }
    }

    /// Every process that was started through this home and still runs, however far it got away.
    pub fn processes(&self) -> Vec<Process> {
        processes::of(&self.id)
    }

    /// Those of them that are the real CLI, by the file that they execute.
    pub fn claude_processes(&self) -> Vec<Process> {
        let wanted = claude::binary();
        // Or the daemon's copy of it.
        let copies = self.path().join("bin/agents");
        let is_claude = |path: PathBuf| path == wanted || path.starts_with(&copies);
        let executes = |process: &Process| fs::read_link(format!("/proc/{}/exe", process.pid)).is_ok_and(is_claude);
        self.processes().into_iter().filter(executes).collect()
    }

    /// What the real CLI has written down of its sessions; a session goes on from there after a kill.
    pub fn claude_transcripts(&self) -> String {
        let projects = fs::read_dir(self.user_home().join(".claude/projects")).into_iter().flatten().flatten();
        let files = projects.flat_map(|project| files_in(&project.path()));
        files.map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }

    /// The process with this pid, if it was started through this home and still runs.
    pub fn process(&self, pid: u64) -> Option<Process> {
        self.processes().into_iter().find(|process| u64::try_from(process.pid) == Ok(pid))
    }

    /// SIGKILL to a process that was started through this home; no other is touched.
    pub fn kill(&self, process: &Process) {
        processes::kill(process, &self.id);
    }

    /// Another signal to such a process.
    ///
    /// # Panics
    /// When it does not run any more.
    pub fn signal(&self, process: &Process, signal: Signal) {
        assert!(processes::signal(process, &self.id, signal), "it does not run any more: {process:?}");
    }

    /// Waits until nothing that was started through this home runs any more.
    ///
    /// # Panics
    /// When something still does at the deadline.
    pub fn wait_until_nothing_runs(&self, deadline: Duration) {
        let started = Instant::now();
        self.wait_until("nothing runs any more", deadline + DEADLINE, || {
            let left = self.processes();
            assert!(left.is_empty() || started.elapsed() < deadline, "still running: {left:#?}");
            left.is_empty().then_some(())
        });
    }

    /// The logs under the repository, oldest first.
    pub fn rlogs(&self) -> Vec<rlog::Rlog> {
        rlog::in_folder(&self.repository())
    }

    /// Runs git in the repository and returns what it printed.
    ///
    /// # Panics
    /// When git fails.
    pub fn git<Arg: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = Arg>) -> String {
        let output = self.command("git").args(args).output().expect("run git");
        assert!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The control groups that the daemon has made for this home and that are still there: the home's own and the runs'.
    pub fn control_groups(&self) -> Vec<PathBuf> {
        groups::of(&self.path())
    }

    fn report(&self) {
        eprintln!("processes: {:#?}", self.processes());
        if self.path().join("autopilotd.sock").exists() {
            let mut command = self.command(&self.binaries.autopilotd);
            command.arg("status");
            // What it says is among what all programs said; a daemon that does not answer is left alone.
            self.start("status-at-the-end", command).ends_within(Duration::from_secs(2));
        }
        let mut said: Vec<PathBuf> = files_in(&self.root.join("said"));
        said.extend(files_in(&self.path().join("workers/main")).into_iter().filter(|path| is_output_log(path)));
        said.extend(self.rlogs().into_iter().map(|rlog| rlog.path));
        for path in said {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            if !text.is_empty() {
                eprintln!("── {}", path.strip_prefix(&self.root).unwrap_or(&path).display());
                eprintln!("{}", last_lines(&text, 30));
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            self.report();
        }
        groups::thaw(&self.path());
        let left = processes::end_all(&self.id, Duration::from_secs(10));
        let groups_left = groups::remove(&self.path());
        // For people who want to look around in it.
        if std::env::var_os("TESTKIT_KEEP").is_some() {
            let kept = self.folder.take().map(TempDir::keep);
            eprintln!("kept: {kept:?}");
        }
        let removed = self.folder.take().map_or(Ok(()), TempDir::close);
        if !failed {
            assert!(left.is_empty(), "processes that cannot be ended: {left:#?}");
            assert!(groups_left.is_empty(), "control groups that cannot be removed: {groups_left:#?}");
            removed.expect("remove the temporary folder");
        }
    }
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn hand_over(path: &Path, user: u32) -> std::io::Result<()> {
    std::os::unix::fs::lchown(path, Some(user), Some(user))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path(), user)?;
        }
    }
    Ok(())
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}

fn is_output_log(path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("output.log"))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
