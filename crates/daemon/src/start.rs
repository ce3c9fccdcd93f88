//! From settings to a daemon that serves: the single instance, the folders, the sockets.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use os::fail;
use os::files::{Durability, Lock, Locked, create_private_folder, make_private, write_atomic};
use os::poll::Poller;
use os::socket::MAX_PATH_BYTES;
use wire::control::Verb;

use crate::client::{self, AskError};
use crate::clients::FEWEST_DESCRIPTORS;
use crate::config::Config;
use crate::containment::Containment;
use crate::degraded::Problem;
use crate::drive::{Daemon, Parts};
use crate::home::Home;
use crate::runs;
use crate::seal;
use crate::state::{self, Loaded, State};
use crate::succession::{Heir, Inherited};
use crate::upward::Supervisor;

/// A daemon that was killed leaves its lock to the shim that it had just forked, which closes it within this time.
const FORKED_WITHIN_MS: u64 = 1_000;
const LOOK_EVERY_MS: u64 = 2;

/// Why there is no daemon. Nothing was changed that a running daemon could notice.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one serves this home.
    #[error("autopilotd already runs for this home")]
    AlreadyRunning {
        /// As its pid file says.
        pid: Option<u32>,
        /// The home.
        home: PathBuf,
    },
    /// A folder can't be made or written.
    #[error("cannot use the home {}: {error}", path.display())]
    Home {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The home lies too deep for a socket in it.
    #[error("the socket path {} has {} bytes, {MAX_PATH_BYTES} are possible", path.display(), path.as_os_str().len())]
    SocketPathTooLong {
        /// The longest of them.
        path: PathBuf,
    },
    /// A socket can't be made.
    #[error("cannot listen at {}: {error}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What is to keep the worker's tree together does not work here.
    #[error(transparent)]
    Containment(#[from] crate::containment::Unavailable),
    /// This process may not open as many files as it needs.
    #[error("{FEWEST_DESCRIPTORS} open files are needed, and {most} are allowed (ulimit -n)")]
    TooFewDescriptors {
        /// So many it may open.
        most: u64,
    },
    /// The kernel refused something else that is needed.
    #[error("cannot {what}: {error}")]
    Kernel {
        /// What.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl StartError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::AlreadyRunning { .. } => "`autopilotd status` shows it; `autopilotd stop` ends it".to_owned(),
            Self::Home { error, .. } if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "AUTOPILOT_HOME=/path/to/a/writable/folder moves it".to_owned()
            }
            Self::Home { error, .. } | Self::Socket { error, .. } if is_full(error) => {
                "free some space (or inodes: df -i) there, or move the home: AUTOPILOT_HOME=/path/to/folder".to_owned()
            }
            Self::Home { .. } => "make it writable for you, or move it: AUTOPILOT_HOME=/path/to/folder".to_owned(),
            Self::SocketPathTooLong { .. } => "choose a shorter home: AUTOPILOT_HOME=/path/to/folder".to_owned(),
            Self::Socket { .. } => "is the home on a file system that has sockets? AUTOPILOT_HOME moves it".to_owned(),
            Self::Containment(_) => "containment = \"auto\" takes the best that works".to_owned(),
            Self::TooFewDescriptors { .. } => "ulimit -n 1024, or LimitNOFILE= of its service".to_owned(),
            Self::Kernel { .. } => "is the machine out of processes, memory or open files?".to_owned(),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Become the daemon of this home.
///
/// # Errors
/// [`StartError`], and then nothing has been started.
pub fn start(config: Config, supervisor: Supervisor, heir: Option<&Heir>) -> Result<Daemon, StartError> {
    let home = Home::new(config.home.clone());
    check_socket_paths(&home)?;
    check_descriptors()?;
    let mut inherited = heir.map(Heir::open);
    let lock = match inherited.as_mut().map(|inherited| inherited.take_lock(&home)) {
        Some(Ok(lock)) => lock,
        Some(Err(_)) | None => sole_instance(&home)?,
    };
    os::exec::set_name(c"autopilotd");
    let containment = Containment::choose(config.job.containment.value, &home)?;
    let io = |path: PathBuf| move |error| StartError::Home { path, error };
    for folder in [home.worker(), home.runs()] {
        fail::point("home.folders").map_err(io(folder.clone()))?;
        create_private_folder(&folder).map_err(io(folder.clone()))?;
    }
    let no_pid_file = write_pid_file(&home).err().map(Problem::no_pid_file);
    let degraded = no_pid_file.into_iter().chain(shared_home(&home).map(Problem::shared)).collect();
    let at = |path: PathBuf| move |error| StartError::Socket { path, error };
    let sockets = [home.control_socket(), home.notify_socket()];
    let in_the_way = sockets.into_iter().filter(|path| path.is_dir());
    let in_the_way: Vec<_> = in_the_way.map(|path| seal::set_aside(&path, "it is a folder".to_owned())).collect();
    let (passed_on, notify) = inherited.as_mut().map_or((None, None), Inherited::take_sockets);
    let listener = match passed_on.filter(|_| home.control_socket().exists()) {
        Some(listener) => listener,
        None => os::socket::listen(&home.control_socket()).map_err(at(home.control_socket()))?,
    };
    let notify = match notify.filter(|_| home.notify_socket().exists()) {
        Some(notify) => {
            // The program before this one may not have asked.
            os::notify::ask_for_senders(&notify).map_err(at(home.notify_socket()))?;
            notify
        }
        None => os::socket::receive_at(&home.notify_socket()).map_err(at(home.notify_socket()))?,
    };
    fail::point("state.load").map_err(io(home.state_file()))?;
    let (state, mut asides) = match state::load(&home.state_file()).map_err(io(home.state_file()))? {
        Loaded::Absent => (State::default(), Vec::new()),
        Loaded::State(state) => (*state, Vec::new()),
        Loaded::SetAside(aside) => (State::default(), vec![aside]),
    };
    asides.extend(in_the_way);
    asides.extend(runs::set_foreign_aside(&home));
    asides.extend(runs::set_garbled_aside(&home));
    let kernel = |what| move |error| StartError::Kernel { what, error };
    let mut daemon = Daemon::new(Parts {
        config,
        home,
        lock,
        listener,
        notify,
        state,
        asides,
        degraded,
        containment,
        inherited,
        supervisor,
    })
    .map_err(kernel("set up the event loop"))?;
    daemon.find().map_err(kernel("tell whether the worker of the daemon before lives"))?;
    Ok(daemon)
}

fn check_descriptors() -> Result<(), StartError> {
    let most = os::process::most_descriptors();
    if most < FEWEST_DESCRIPTORS { Err(StartError::TooFewDescriptors { most }) } else { Ok(()) }
}

/// Nothing is decided by it: without one the daemon serves as well, and says so.
pub(crate) fn write_pid_file(home: &Home) -> Result<(), String> {
    let (path, pid) = (home.pid_file(), format!("{}\n", os::process::own_pid()));
    let written = fail::point("home.pid-file").and_then(|()| write_atomic(&path, pid.as_bytes(), Durability::Process));
    written.map_err(|error| {
        // Better none than that of a daemon before this one.
        std::fs::remove_file(&path).ok();
        format!("no pid file: cannot write {}: {error}", path.display())
    })
}

/// Its mode is nobody's to change who is only a guest there.
pub(crate) fn shared_home(home: &Home) -> Option<String> {
    let mode = std::fs::metadata(home.root()).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let path = home.root().display();
        let open = if mode & 0o022 == 0 { "" } else { "; whoever may write there may choose what runs" };
        format!(
            "{path} has other files, too: its mode {mode:o} is left as it is{open} (a home of its own: AUTOPILOT_HOME=/path/to/folder)"
        )
    })
}

fn check_socket_paths(home: &Home) -> Result<(), StartError> {
    let longest = [home.control_socket(), home.notify_socket()].into_iter().max_by_key(|path| path.as_os_str().len());
    match longest {
        Some(path) if path.as_os_str().len() > MAX_PATH_BYTES => Err(StartError::SocketPathTooLong { path }),
        Some(_) | None => Ok(()),
    }
}

fn sole_instance(home: &Home) -> Result<Lock, StartError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| StartError::Home { path, error }
    };
    fail::point("home.create").map_err(io(home.root()))?;
    create_private_folder(home.root()).map_err(io(home.root()))?;
    fail::point("home.make-private").map_err(io(home.root()))?;
    if home.is_for_us_alone().map_err(io(home.root()))? {
        make_private(home.root()).map_err(io(home.root()))?;
    }
    let until_ms = os::clock::monotonic_ms().saturating_add(FORKED_WITHIN_MS);
    loop {
        fail::point("home.lock").map_err(io(&home.daemon_lock()))?;
        if let Locked::Taken(lock) = Lock::try_take(&home.daemon_lock()).map_err(io(&home.daemon_lock()))? {
            fail::point("home.locked").map_err(io(&home.daemon_lock()))?;
            // The lock may be another file than the one that a living daemon holds.
            return match serving(home) {
                Some(pid) => Err(StartError::AlreadyRunning { pid, home: home.root().to_owned() }),
                None => Ok(lock),
            };
        }
        // One that dies just now still has its pid, and does not answer any more.
        let serving = serving(home);
        if serving.is_some() || os::clock::monotonic_ms() >= until_ms {
            let pid = std::fs::read_to_string(home.pid_file()).ok().and_then(|text| text.trim().parse().ok());
            return Err(StartError::AlreadyRunning { pid: serving.flatten().or(pid), home: home.root().to_owned() });
        }
        let waited = Poller::new().and_then(|poller| poller.wait(Some(LOOK_EVERY_MS), &mut Vec::new()));
        waited.map_err(|error| StartError::Kernel { what: "wait for a daemon that was killed", error })?;
    }
}

/// Whether a daemon answers, and which; also one that takes its time.
fn serving(home: &Home) -> Option<Option<u32>> {
    match client::ask_within(&home.control_socket(), Verb::Status, FORKED_WITHIN_MS) {
        Ok(reply) => Some(reply.status.map(|status| status.daemon_pid)),
        Err(AskError::Silent { .. }) => Some(None),
        Err(_) => None,
    }
}
