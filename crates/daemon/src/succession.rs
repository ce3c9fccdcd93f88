//! One daemon after another, without touching the worker: `stop --keep-worker` ends this one only; `upgrade` makes it
//! become another program in place.
//!
//! In place, by execve(2), because then nothing is ever away: the pid stays (a pid file and systemd's main process with
//! it), the shims stay children, the home's lock stays held, so that no third daemon slips in, and clients go on queueing at
//! a socket that stays bound. The state is on disk before. If the new program can't be executed, this one goes on; if it
//! can, but can't serve (it refuses a setting), it goes back to the old one's file, which is kept open for that.
//!
//! Nothing happens before the machine is settled: a run that is just beginning or ending is waited for, since who waits for
//! its answer is connected to this program.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use os::fail;
use os::files::Lock;
use policy::supervisor::State;
use wire::control::{FailedKind, Reply};
use wire::handover::{Handover, VERSION};
use wire::journal::Event;

use crate::clients::ClientId;
use crate::drive::Daemon;
use crate::guard;
use crate::home::Home;

/// The variable by which a handover reaches the new program.
pub const HANDOVER: &str = "AUTOPILOTD_HANDOVER";

/// Who wants what, until the machine is settled.
#[derive(Debug)]
pub(crate) struct Pending {
    client: ClientId,
    /// What to become; none: only end.
    program: Option<PathBuf>,
}

/// How this program was started, to start another one likewise.
#[derive(Debug, Clone, Default)]
pub struct Invoked {
    /// The arguments, without the program's name.
    pub arguments: Vec<OsString>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
}

impl Daemon {
    /// How to become another program; without it, there is no upgrade.
    pub fn set_invoked(&mut self, invoked: Invoked) {
        self.invoked = Some(invoked);
    }

    /// A client wants this daemon to end, or to become `program`, and the worker to go on.
    pub(crate) fn ask_succession(&mut self, client: ClientId, program: Option<PathBuf>) {
        let refused = if matches!(self.machine.state(), State::ShuttingDown(_) | State::Halted) {
            Some("the daemon is about to end")
        } else if self.pending.is_some() {
            Some("another upgrade or stop is on its way")
        } else if program.as_ref().is_some_and(|program| !program.is_absolute()) {
            Some("the program's path must be absolute")
        } else {
            None
        };
        let what = match &program {
            Some(program) => format!("upgrade to {}", program.display()),
            None => "stop --keep-worker".to_owned(),
        };
        let peer = self.clients.peer(client);
        let who = peer.map_or_else(String::new, |peer| format!("process {} of user {} asks for ", peer.pid, peer.uid));
        let verb = if program.is_some() { "upgrade" } else { "stop-keep-worker" }.to_owned();
        let (uid, pid) = (peer.map(|peer| peer.uid), peer.map(|peer| peer.pid));
        self.record(Event::Command { verb, uid, pid }, &format!("{who}{what}"));
        match refused {
            Some(why) => self.reply(client, &Reply::failed(FailedKind::Refused, why.to_owned(), None)),
            None => self.pending = Some(Pending { client, program }),
        }
    }

    fn reply(&mut self, client: ClientId, reply: &Reply) {
        if let Some(next) = self.clients.reply(client, reply, &self.poller) {
            self.later.push_back((client, next));
        }
    }

    /// Do it, if it is time.
    pub(crate) fn succeed_if_settled(&mut self) {
        if self.halted || !self.machine.is_settled() {
            return;
        }
        match self.pending.take() {
            Some(Pending { client, program: Some(program) }) => self.upgrade(client, program),
            Some(Pending { client, program: None }) => self.end_without_worker(client),
            None => {}
        }
    }

    fn end_without_worker(&mut self, client: ClientId) {
        let worker = self.run.as_ref().and_then(|run| run.worker).map(|worker| worker.pid);
        let message = match worker {
            Some(pid) => format!("Daemon stopped; the worker (PID {pid}) goes on"),
            None => "Daemon stopped; no worker runs".to_owned(),
        };
        self.leave_seen();
        self.save();
        self.farewells.push((client, Reply::done(message, worker)));
        self.halted = true;
    }

    /// Only returns if it fails.
    fn upgrade(&mut self, client: ClientId, program: PathBuf) {
        fail::point("upgrade.settled").ok();
        // On disk before anything else: what the new program finds, whatever becomes of the rest.
        self.leave_seen();
        self.save();
        let failed = match self.try_upgrade(client, &program) {
            Ok(error) => format!("cannot execute {}: {error}", program.display()),
            Err(why) => why.to_owned(),
        };
        // Where systemd was told that something is going on.
        self.ready_upward();
        self.warn(&format!("not upgraded: {failed}"));
        let message = format!("{failed}; the daemon goes on as it was");
        self.reply(client, &Reply::failed(FailedKind::Refused, message, None));
    }

    fn try_upgrade(&mut self, client: ClientId, program: &std::path::Path) -> Result<std::io::Error, &'static str> {
        let Some(invoked) = self.invoked.clone() else { return Err("this daemon does not know how it was started") };
        let (Some(lock), Some(control)) = (&self.lock, &self.listener) else { return Err("it has no control socket") };
        let back = os::exec::own_program().ok();
        // Without it, an upgrade is what it is everywhere else.
        let guard =
            back.as_ref().filter(|_| !self.upward.listens()).and_then(|back| guard::stand_by(back, &invoked).ok());
        let handover = Handover {
            v: VERSION,
            pid: os::process::own_pid(),
            from: env!("CARGO_PKG_VERSION").to_owned(),
            lock: lock.as_fd().as_raw_fd(),
            control: control.as_raw_fd(),
            notify: self.notify.as_raw_fd(),
            clients: self.clients.idle().into_iter().map(AsRawFd::as_raw_fd).collect(),
            asked: self.clients.stream(client).map(AsRawFd::as_raw_fd),
            back: back.as_ref().map(AsRawFd::as_raw_fd),
            arguments: invoked.arguments.iter().map(|word| word.to_str().map(str::to_owned)).collect(),
            guard: guard.as_ref().map(AsRawFd::as_raw_fd),
            failed: None,
        };
        let mut keep: Vec<BorrowedFd<'_>> = vec![lock.as_fd(), control.as_fd(), self.notify.as_fd()];
        keep.extend(self.clients.idle().into_iter().map(AsFd::as_fd));
        keep.extend(self.clients.stream(client).map(AsFd::as_fd));
        keep.extend(back.as_ref().map(AsFd::as_fd));
        keep.extend(guard.as_ref().map(AsFd::as_fd));
        let now_usec = os::clock::monotonic_ns() / 1_000;
        self.upward.say(&format!("RELOADING=1\nMONOTONIC_USEC={now_usec}\nSTATUS=Upgrading to {}", program.display()));
        let executed = fail::point("upgrade.execute").map(|()| become_program(program, &invoked, &handover, &keep));
        let error = executed.unwrap_or_else(|refused| refused);
        if let Some(guard) = guard {
            guard::stand_down(guard);
        }
        Ok(error)
    }

    /// Who asked for the upgrade is told what came of it.
    pub(crate) fn answer_successor(&mut self) {
        let Some(inherited) = self.inherited.take() else { return };
        fail::point("heir.serves").ok();
        if let Some(guard) = inherited.guard {
            guard::stand_down(guard);
        }
        self.clients.adopt_all(inherited.clients, &self.poller);
        fail::point("heir.answer").ok();
        let Some(asked) = inherited.asked else { return };
        let worker = self.run.as_ref().and_then(|run| run.worker).map(|worker| worker.pid);
        let (from, version) = (inherited.from, env!("CARGO_PKG_VERSION"));
        let reply = match inherited.failed {
            Some(why) => {
                let message = format!("the new program can't serve, and the old one goes on: {why}");
                self.warn(&format!("not upgraded: {message}"));
                Reply::failed(FailedKind::Refused, message, None)
            }
            None => {
                let goes_on = worker.map_or_else(String::new, |pid| format!("; the worker (PID {pid}) goes on"));
                Reply::done(format!("Daemon upgraded from {from} to {version}{goes_on}"), worker)
            }
        };
        if let Some(client) = self.clients.adopt(asked, true, &self.poller) {
            self.reply(client, &reply);
        }
    }
}

fn become_program(
    program: &std::path::Path,
    invoked: &Invoked,
    handover: &Handover,
    keep: &[BorrowedFd<'_>],
) -> std::io::Error {
    let json = match serde_json::to_string(handover) {
        Ok(json) => json,
        Err(error) => return error.into(),
    };
    let mut argv = vec![program.as_os_str().to_owned()];
    argv.extend(invoked.arguments.iter().cloned());
    let mut environment: Vec<_> = invoked.environment.iter().filter(|(name, _)| name != HANDOVER).cloned().collect();
    environment.push((HANDOVER.into(), json.into()));
    os::exec::replace(program, &argv, &environment, keep)
}

/// What the program before this one, in the same process, has passed on.
#[derive(Debug)]
pub struct Heir {
    handover: Handover,
    invoked: Invoked,
    /// What of it is there: a number that is free now may be given to somebody else later.
    open: Vec<i32>,
}

/// The same, opened.
#[derive(Debug)]
pub(crate) struct Inherited {
    lock: Option<OwnedFd>,
    control: Option<OwnedFd>,
    notify: Option<OwnedFd>,
    clients: Vec<UnixStream>,
    asked: Option<UnixStream>,
    guard: Option<OwnedFd>,
    from: String,
    failed: Option<String>,
}

impl Inherited {
    /// # Errors
    /// It is not the lock of this home.
    pub(crate) fn take_lock(&mut self, home: &Home) -> std::io::Result<Lock> {
        let lock = self.lock.take().ok_or_else(|| std::io::Error::other("no lock was passed on"))?;
        Lock::passed_on(lock, &home.daemon_lock())
    }

    pub(crate) fn take_sockets(&mut self) -> (Option<UnixListener>, Option<UnixDatagram>) {
        let control = self.control.take().map(UnixListener::from);
        let notify = self.notify.take().map(UnixDatagram::from);
        // A number that is something else by now is no socket with a name.
        (control.filter(|socket| socket.local_addr().is_ok()), notify.filter(|socket| socket.local_addr().is_ok()))
    }
}

impl Heir {
    /// `value`: of [`HANDOVER`]. None, if it is not meant for this process: a child of the process that it was meant for.
    #[must_use]
    pub fn new(value: Option<OsString>, invoked: Invoked) -> Option<Self> {
        let handover = wire::handover::handover(value?.as_encoded_bytes())?;
        if handover.pid != os::process::own_pid() {
            return None;
        }
        let Handover { lock, control, notify, clients, asked, back, guard, .. } = &handover;
        let single = [Some(*lock), Some(*control), Some(*notify), *asked, *back, *guard];
        let all = single.into_iter().flatten().chain(clients.iter().copied());
        let open = all.filter(|&fd| fd > 2 && os::exec::passed_on(fd).is_ok()).collect();
        Some(Self { handover, invoked, open })
    }

    /// Copies, so that all is still there to go back with.
    pub(crate) fn open(&self) -> Inherited {
        fail::point("heir.open").ok();
        let Handover { lock, control, notify, clients, asked, guard, from, failed, .. } = &self.handover;
        let copy = |fd: i32| self.open.contains(&fd).then(|| os::exec::passed_on(fd).ok()).flatten();
        let stream = |fd: i32| {
            let stream = UnixStream::from(copy(fd)?);
            stream.set_nonblocking(true).ok().map(|()| stream)
        };
        Inherited {
            lock: copy(*lock),
            control: copy(*control),
            notify: copy(*notify),
            clients: clients.iter().filter_map(|&fd| stream(fd)).collect(),
            asked: asked.and_then(stream),
            guard: guard.and_then(copy),
            from: from.clone(),
            failed: failed.clone(),
        }
    }

    /// This program serves: there is no way back any more.
    pub fn settle(self) {
        self.open.into_iter().for_each(os::exec::close_passed_on);
    }

    /// This program can't serve, and `why`: become the old one again. Returns if that fails, too.
    pub fn go_back(&self, why: &str) {
        let Some(back) = self.handover.back else { return };
        let handover = Handover { back: None, failed: Some(why.to_owned()), ..self.handover.clone() };
        let program = PathBuf::from(format!("/proc/self/fd/{back}"));
        // The descriptors were passed on to this program, and are so to the next.
        let mut invoked = self.invoked.clone();
        if let Some(arguments) = &handover.arguments {
            invoked.arguments = arguments.iter().map(OsString::from).collect();
        }
        let error = become_program(&program, &invoked, &handover, &[]);
        os::socket::write_if_room(
            std::io::stderr().as_fd(),
            format!("error: cannot go back to the old program: {error}\n").as_bytes(),
        );
    }
}
