//! A private home, working directory and stand-in CLI for the worker, and real worker processes on it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use os::child::{Child, Ended, Read, read};
use os::poll::{Interest, Poller, Token};
use os::process::Send;
use os::spawn::Program;

/// Longer than anything here takes.
pub(crate) const PATIENCE_MS: u64 = 20_000;

pub(crate) struct Stage {
    folder: tempfile::TempDir,
    pub(crate) supervised: bool,
    pub(crate) nohup: bool,
    pub(crate) env: Vec<(&'static str, String)>,
    notify: UnixDatagram,
}

pub(crate) struct Worker {
    child: Child,
}

/// How a worker ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Stage {
    /// With the scene of every call of the CLI.
    pub(crate) fn new(scene: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "cwd", "standin"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let notify = UnixDatagram::bind(folder.path().join("notify.sock")).unwrap();
        notify.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS))).unwrap();
        let env = vec![("AUTOPILOT_RETRY_DELAY_MS", "20".to_owned())];
        let stage = Self { folder, supervised: false, nohup: false, env, notify };
        stage.scene(0, scene);
        stage
    }

    /// The scene of the `call`-th call of the CLI (from 1); 0: of all others.
    pub(crate) fn scene(&self, call: u32, scene: &str) {
        let name = if call == 0 { "scene".to_owned() } else { format!("scene-{call}") };
        fs::write(self.standin(&name), scene).unwrap();
    }

    pub(crate) fn standin(&self, name: &str) -> PathBuf {
        self.folder.path().join("standin").join(name)
    }

    pub(crate) fn cwd(&self) -> PathBuf {
        self.folder.path().join("cwd")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// All that was said to the supervisor and not looked at yet.
    pub(crate) fn all_said(&self) -> String {
        self.notify.set_nonblocking(true).unwrap();
        let mut buffer = [0; 65_536];
        let mut said = String::new();
        while let Ok(bytes) = self.notify.recv(&mut buffer) {
            said.push_str(&String::from_utf8_lossy(&buffer[..bytes]));
            said.push('\n');
        }
        said
    }

    pub(crate) fn project_file(&self, name: &str) -> PathBuf {
        self.folder.path().join("home/projects/p").join(name)
    }

    /// How often the CLI was called.
    pub(crate) fn calls(&self) -> u32 {
        fs::read_to_string(self.standin("count")).map_or(0, |text| text.trim().parse().unwrap())
    }

    pub(crate) fn argv(&self, call: u32) -> Vec<String> {
        let text = fs::read_to_string(self.standin(&format!("argv-{call}"))).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The word behind a flag of a call.
    pub(crate) fn flag(&self, call: u32, flag: &str) -> Option<String> {
        let argv = self.argv(call);
        argv.iter().position(|word| word == flag).map(|at| argv[at + 1].clone())
    }

    /// All logs, the oldest first.
    pub(crate) fn logs(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for day in fs::read_dir(self.cwd().join("docs/logs")).into_iter().flatten() {
            let files = fs::read_dir(day.unwrap().path()).unwrap().map(|file| file.unwrap().path());
            paths.extend(files.filter(|path| path.extension().is_some_and(|end| end == "rlog")));
        }
        paths.sort_by_key(|path| fs::metadata(path).unwrap().created().unwrap());
        paths.iter().map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()).collect()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Worker {
        let mut argv: Vec<OsString> = if self.nohup { vec!["nohup".into()] } else { Vec::new() };
        argv.push(env!("CARGO_BIN_EXE_worker-alone").into());
        argv.push(format!("cwd={}", self.cwd().display()).into());
        argv.extend(["project=p".into()]);
        argv.extend(arguments.iter().map(Into::into));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worker/claude.sh");
        let mut env: Vec<(OsString, OsString)> = vec![
            ("AUTOPILOT_HOME".into(), self.folder.path().join("home").into()),
            ("AUTOPILOT_CLAUDE".into(), script.into()),
            ("STANDIN".into(), self.folder.path().join("standin").into()),
            ("CLAUDECODE".into(), "1".into()),
            ("NOTIFY_SOCKET".into(), self.folder.path().join("notify.sock").into()),
        ];
        if self.supervised {
            env.push(("AUTOPILOTD_SUPERVISED".into(), "1".into()));
        }
        env.extend(self.env.iter().map(|(name, value)| (name.into(), value.into())));
        let program = Program { argv, env, env_remove: vec!["WATCHDOG_USEC".into()] };
        Worker { child: Child::spawn(&program, Path::new("/")).unwrap() }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ending {
        self.start(arguments).wait()
    }

    /// Waits for a datagram that contains this; gives it.
    pub(crate) fn wait_for(&self, needle: &str) -> String {
        let mut buffer = [0; 4_096];
        loop {
            let bytes = self.notify.recv(&mut buffer).unwrap_or_else(|error| panic!("no {needle}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            if text.contains(needle) {
                return text;
            }
        }
    }
}

impl Worker {
    pub(crate) fn send(&self, signal: Send) {
        self.child.send(signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.identity().pid
    }

    pub(crate) fn wait(mut self) -> Ending {
        let poller = Poller::new().unwrap();
        poller.add(&self.child, Token(0), Interest::Readable).unwrap();
        poller.add(&self.child.stdout, Token(1), Interest::Readable).unwrap();
        poller.add(&self.child.stderr, Token(2), Interest::Readable).unwrap();
        let (mut stdout, mut stderr, mut ready) = (Vec::new(), Vec::new(), Vec::new());
        let deadline = os::clock::monotonic_ms() + PATIENCE_MS;
        loop {
            let left = deadline.saturating_sub(os::clock::monotonic_ms());
            if left == 0 {
                self.child.send(Send::Kill).unwrap();
                let end = String::from_utf8_lossy(&stdout[stdout.len().saturating_sub(2_000)..]).into_owned();
                panic!("the worker does not end; the end of its stdout: {end}");
            }
            poller.wait(Some(left), &mut ready).unwrap();
            let ended = self.child.reap().unwrap();
            for (pipe, into) in [(&self.child.stdout, &mut stdout), (&self.child.stderr, &mut stderr)] {
                let mut buffer = vec![0; 65_536];
                loop {
                    match read(pipe, &mut buffer).unwrap() {
                        Read::Bytes(bytes) => into.extend_from_slice(&buffer[..bytes]),
                        Read::Empty => break,
                        Read::Closed => {
                            poller.remove(pipe).ok();
                            break;
                        }
                    }
                }
            }
            if let Some(ended) = ended {
                let code = match ended {
                    Ended::Code(code) => Some(code),
                    Ended::Signal(_) => None,
                };
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                return Ending { code, stdout: text(&stdout), stderr: text(&stderr) };
            }
        }
    }
}
