//! From settings to a daemon that serves: the single instance, the folders, the sockets.

use std::io;
use std::path::{Path, PathBuf};

use os::files::{Durability, Lock, Locked, create_private_folder, make_private, write_atomic};
use os::poll::Poller;
use os::socket::MAX_PATH_BYTES;

use crate::config::Config;
use crate::containment::Containment;
use crate::drive::{Daemon, Parts};
use crate::home::Home;
use crate::state::{self, Loaded, State};

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
            Self::Home { .. } => "make it writable for you, or move it: AUTOPILOT_HOME=/path/to/folder".to_owned(),
            Self::SocketPathTooLong { .. } => "choose a shorter home: AUTOPILOT_HOME=/path/to/folder".to_owned(),
            Self::Socket { .. } => "is the home on a file system that has sockets? AUTOPILOT_HOME moves it".to_owned(),
            Self::Containment(_) => "containment = \"auto\" takes the best that works".to_owned(),
            Self::Kernel { .. } => "is the machine out of processes, memory or open files?".to_owned(),
        }
    }
}

/// Become the daemon of this home.
///
/// # Errors
/// [`StartError`], and then nothing has been started.
pub fn start(config: Config) -> Result<Daemon, StartError> {
    let home = Home::new(config.home.clone());
    check_socket_paths(&home)?;
    let lock = sole_instance(&home)?;
    let containment = Containment::choose(config.job.containment.value, &home)?;
    let io = |path: PathBuf| move |error| StartError::Home { path, error };
    for folder in [home.worker(), home.runs()] {
        create_private_folder(&folder).map_err(io(folder.clone()))?;
    }
    let pid = format!("{}\n", os::process::own_pid());
    write_atomic(&home.pid_file(), pid.as_bytes(), Durability::Process).map_err(io(home.pid_file()))?;
    let at = |path: PathBuf| move |error| StartError::Socket { path, error };
    let listener = os::socket::listen(&home.control_socket()).map_err(at(home.control_socket()))?;
    let notify = os::socket::receive_at(&home.notify_socket()).map_err(at(home.notify_socket()))?;
    let (state, set_aside) = match state::load(&home.state_file()).map_err(io(home.state_file()))? {
        Loaded::Absent => (State::default(), None),
        Loaded::State(state) => (*state, None),
        Loaded::SetAside(path) => (State::default(), Some(path)),
    };
    Daemon::new(Parts { config, home, lock, listener, notify, state, set_aside, containment })
        .map_err(|error| StartError::Kernel { what: "set up the event loop", error })
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
    create_private_folder(home.root()).map_err(io(home.root()))?;
    make_private(home.root()).map_err(io(home.root()))?;
    let until_ms = os::clock::monotonic_ms().saturating_add(FORKED_WITHIN_MS);
    loop {
        if let Locked::Taken(lock) = Lock::try_take(&home.daemon_lock()).map_err(io(&home.daemon_lock()))? {
            return Ok(lock);
        }
        let pid = std::fs::read_to_string(home.pid_file()).ok().and_then(|text| text.trim().parse().ok());
        if pid.is_some_and(lives) || os::clock::monotonic_ms() >= until_ms {
            return Err(StartError::AlreadyRunning { pid, home: home.root().to_owned() });
        }
        let waited = Poller::new().and_then(|poller| poller.wait(Some(LOOK_EVERY_MS), &mut Vec::new()));
        waited.map_err(|error| StartError::Kernel { what: "wait for a daemon that was killed", error })?;
    }
}

fn lives(pid: u32) -> bool {
    os::proc::stat(os::proc::root(), pid).is_ok_and(|stat| stat.state != 'Z')
}
