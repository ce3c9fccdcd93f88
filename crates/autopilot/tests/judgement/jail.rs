//! A memory control group (version 1) below the one that the tests are in, for a daemon and all that it starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::home::Home;

/// Removed when it is dropped: make it before the home whose processes it holds.
#[derive(Debug)]
pub(crate) struct Jail {
    folder: PathBuf,
}

impl Jail {
    /// None, said loudly, where there is no such controller or it may not be used.
    pub(crate) fn new(limit_bytes: u64) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let Some(own) = own_folder() else {
            crate::skip("no memory control groups of version 1 are mounted");
            return None;
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = own.join(format!("judgement-{}-{number}", std::process::id()));
        if let Err(error) = fs::create_dir(&folder) {
            crate::skip(&format!("cannot make a memory control group in {}: {error}", own.display()));
            return None;
        }
        let jail = Self { folder };
        jail.set_limit(limit_bytes);
        Some(jail)
    }

    /// The same command, in here from its first instruction on.
    pub(crate) fn command(&self, home: &Home, inner: &Command) -> Command {
        if let Some(user) = home.user() {
            std::os::unix::fs::chown(self.folder.join("cgroup.procs"), Some(user), Some(user)).unwrap();
        }
        let mut command = home.command("sh");
        command.arg("-c").arg("echo $$ > \"$0\" && exec \"$@\"").arg(self.folder.join("cgroup.procs"));
        command.arg(inner.get_program()).args(inner.get_args());
        command
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        fs::write(self.folder.join("memory.limit_in_bytes"), bytes.to_string()).unwrap();
    }

    /// What cannot be given back at once.
    pub(crate) fn working_set_bytes(&self) -> u64 {
        let inactive = self.number_in("memory.stat", "total_inactive_file ");
        self.number_in("memory.usage_in_bytes", "").saturating_sub(inactive)
    }

    /// How many processes the kernel has killed in here.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.number_in("memory.oom_control", "oom_kill ")
    }

    fn number_in(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(self.folder.join(file)).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(10);
        // What was killed in it may take a moment to leave it.
        while let Err(error) = fs::remove_dir(&self.folder) {
            if Instant::now() > until {
                eprintln!("cannot remove {}: {error}", self.folder.display());
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

fn own_folder() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next()?.split(',').any(|controller| controller == "memory").then(|| parts.next())?
    })?;
    let folder = Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/'));
    folder.join("memory.limit_in_bytes").exists().then_some(folder)
}
