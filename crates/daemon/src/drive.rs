//! The loop: wait for the kernel or the deadline, turn what came into events, let the policy decide, do what it says.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;

use os::files::Lock;
use os::poll::{Interest, Poller, Ready, Token};
use os::process::{Pidfd, Reap};
use os::signals::{Signal, SignalPipe};
use os::watch::{CreationWatch, RemovalWatch};
use policy::supervisor::{Command, Effect, Event, Exit, MemoryReading, Note, RequestId, RunId, Supervisor};
use wire::control::{LastExit, Reply, Request, Verb};

use crate::activity::Activity;
use crate::clients::{ClientId, Clients};
use crate::config::Config;
use crate::containment::{self, Containment};
use crate::found;
use crate::home::Home;
use crate::launch::{self, Launching};
use crate::notify::{self, Said};
use crate::runs::{self, LiveRun, News};
use crate::state::State;
use crate::survey;
use crate::tools::Tools;

/// What a daemon is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) home: Home,
    pub(crate) lock: Lock,
    pub(crate) listener: UnixListener,
    pub(crate) notify: UnixDatagram,
    pub(crate) state: State,
    pub(crate) set_aside: Option<PathBuf>,
    pub(crate) containment: Containment,
}

/// The daemon of one home.
#[derive(Debug)]
pub struct Daemon {
    pub(crate) home: Home,
    pub(crate) launching: Launching,
    pub(crate) machine: Supervisor,
    pub(crate) poller: Poller,
    pub(crate) clients: Clients,
    pub(crate) requests: BTreeMap<RequestId, ClientId>,
    pub(crate) run: Option<LiveRun>,
    pub(crate) activity: Option<Activity>,
    /// Of the last run, for the next one.
    spare_watch: Option<CreationWatch>,
    pub(crate) victims: Vec<Victim>,
    pub(crate) surveyed: survey::Found,
    pub(crate) events: VecDeque<Event>,
    pub(crate) exits: Vec<LastExit>,
    pub(crate) ended_run: u64,
    pub(crate) boot_id: String,
    pub(crate) started_ms: u64,
    pub(crate) memory: (MemoryReading, u64),
    pub(crate) said: Doing,
    pub(crate) degraded: Vec<String>,
    /// Of the newest run's output.
    lost_bytes: u64,
    pub(crate) halted: bool,
    /// Requests that were sent before the answer to the one before.
    pub(crate) later: VecDeque<(ClientId, Request)>,
    /// The pid of the newest worker, for the note of its end.
    pub(crate) last_pid: Option<u32>,
    /// Why the state could not be saved, if it could not.
    pub(crate) state_unsaved: Option<String>,
    /// What the worker's tools do.
    pub(crate) tools: Tools,
    /// What keeps the newest run together.
    pub(crate) rung: Option<String>,
    listener: Option<UnixListener>,
    notify: UnixDatagram,
    removals: Option<RemovalWatch>,
    signals: SignalPipe,
    next_request: u64,
    told_to_end: bool,
    /// When to look again at a tree without a shim.
    pub(crate) orphans_due_ms: Option<u64>,
    /// Who asked for the end, to be told when nothing of it is left to come.
    pub(crate) farewells: Vec<(ClientId, Reply)>,
    lock: Option<Lock>,
}

/// A process that is ended for want of memory, and with it what was below it.
#[derive(Debug)]
pub(crate) struct Victim {
    pub(crate) pid: u32,
    pub(crate) pidfd: Pidfd,
    pub(crate) below: Vec<Pidfd>,
    pub(crate) token: Token,
}

/// What the worker said of itself.
#[derive(Debug, Default)]
pub(crate) struct Doing {
    pub(crate) phase: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) rlog: Option<PathBuf>,
    /// It sends heartbeats: then those count, and not what its tools do.
    pub(crate) heartbeat: bool,
}

const SIGNALS: Token = Token(0);
const LISTENER: Token = Token(1);
const NOTIFY: Token = Token(2);
const REMOVALS: Token = Token(3);
const WIRE: Token = Token(4);
const FIRST_VICTIM: u64 = 1_000;
const FIRST_CLIENT: u64 = 1 << 32;
/// Each run's shim has a token of its own: an end that waits to be heard must not be taken for the next run's.
const FIRST_SHIM: u64 = 1 << 62;

/// A tree without a shim is looked at this often until it is gone.
const ORPHANS_AGAIN_MS: u64 = 20;

/// So many old runs' folders are kept.
pub(crate) const KEPT_RUNS: usize = 20;

impl Daemon {
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let Parts { config, home, lock, listener, notify, state, set_aside, containment } = parts;
        let boot_id = os::clock::boot_id();
        let poller = Poller::new()?;
        let signals = SignalPipe::new(&[Signal::Term, Signal::Int, Signal::Hup, Signal::Child])?;
        poller.add(&signals, SIGNALS, Interest::Readable)?;
        poller.add(&listener, LISTENER, Interest::Readable)?;
        poller.add(&notify, NOTIFY, Interest::Readable)?;
        let removals = RemovalWatch::new(home.root()).ok();
        if let Some(watch) = &removals {
            poller.add(watch, REMOVALS, Interest::Readable)?;
        }
        os::fork::become_subreaper()?;
        let mut degraded = Vec::new();
        if removals.is_none() {
            degraded.push("no inotify: a removed control socket is not made again".to_owned());
        }
        if let Some(path) = set_aside {
            degraded.push(format!("the state file could not be read; it was set aside as {}", path.display()));
        }
        let machine = Supervisor::new(launch::settings(&config), Some(state.snapshot(&boot_id)));
        Ok(Self {
            launching: Launching::new(config, home.clone(), containment),
            home,
            machine,
            poller,
            clients: Clients::new(FIRST_CLIENT),
            requests: BTreeMap::new(),
            run: None,
            activity: None,
            spare_watch: None,
            victims: Vec::new(),
            surveyed: survey::Found::default(),
            events: VecDeque::new(),
            exits: state.last_exits,
            ended_run: state.ended_run,
            boot_id,
            started_ms: os::clock::monotonic_ms(),
            memory: (MemoryReading::default(), 0),
            said: Doing::default(),
            degraded,
            lost_bytes: 0,
            halted: false,
            later: VecDeque::new(),
            last_pid: None,
            state_unsaved: None,
            tools: Tools::default(),
            rung: None,
            listener: Some(listener),
            notify,
            removals,
            signals,
            next_request: 0,
            told_to_end: false,
            orphans_due_ms: None,
            farewells: Vec::new(),
            lock: Some(lock),
        })
    }

    /// Serve until told to end. Returns when the worker's tree is gone, too.
    ///
    /// # Errors
    /// If the kernel refuses to wait.
    pub fn run(&mut self) -> io::Result<()> {
        let (found, run) = found::newest(&self.home, &self.boot_id, self.ended_run);
        if let Some(run) = run {
            self.adopt(run)?;
        }
        self.feed(Event::Boot(found));
        let mut ready = Vec::new();
        while !self.halted {
            let due_ms = [self.machine.deadline_ms(), self.orphans_due_ms].into_iter().flatten().min();
            self.poller.wait_until(due_ms, &mut ready)?;
            for event in &ready {
                self.handle(*event);
            }
            if self.orphans_due_ms.is_some_and(|due_ms| due_ms <= os::clock::monotonic_ms()) {
                self.orphans_due_ms = None;
                self.end_orphans();
            }
            self.feed(Event::Tick);
            while let Some((id, request)) = self.later.pop_front() {
                self.take_request(id, &request);
            }
        }
        self.leave();
        Ok(())
    }

    /// Take an event, and all that follow from it.
    pub(crate) fn feed(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            let effects = self.machine.step(os::clock::monotonic_ms(), event);
            self.perform(effects);
        }
    }

    fn handle(&mut self, ready: Ready) {
        match ready.token {
            SIGNALS => self.take_signals(),
            LISTENER => {
                if let Some(listener) = &self.listener {
                    self.clients.accept(listener, &self.poller);
                }
            }
            NOTIFY => self.take_notifications(),
            REMOVALS => self.mend_socket(),
            WIRE => self.take_wire(),
            token if token.0 >= FIRST_SHIM => self.take_shim_end(token.0 - FIRST_SHIM),
            token if token.0 >= FIRST_CLIENT => self.take_client(token, ready),
            token => self.take_victim(token),
        }
    }

    fn take_signals(&mut self) {
        for signal in self.signals.take() {
            match signal {
                Signal::Child => while matches!(os::process::reap_any(), Ok(Reap::Ended(_))) {},
                Signal::Term | Signal::Int => {
                    if self.told_to_end {
                        // The second time: now.
                        self.run.as_ref().map(|run| run.tell_to_end(true));
                    }
                    self.told_to_end = true;
                    let id = self.new_request();
                    self.feed(Event::Operator(id, Command::Shutdown));
                }
                // The terminal went away. The work goes on.
                Signal::Hup | Signal::User1 | Signal::WindowChange => {}
            }
        }
    }

    fn new_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    fn take_client(&mut self, token: Token, ready: Ready) {
        let Some(id) = self.clients.owner_of(token) else { return };
        if ready.writable {
            self.clients.write(id, &self.poller);
        }
        if !ready.readable {
            return;
        }
        if let Some(request) = self.clients.read(id, ready.hung_up, &self.poller) {
            self.later.push_back((id, request));
        }
        // A client may send several requests at once; each is answered before the next is looked at.
        while let Some((id, request)) = self.later.pop_front() {
            self.take_request(id, &request);
        }
    }

    fn take_request(&mut self, id: ClientId, request: &Request) {
        let command = match request.verb {
            Verb::Status => {
                let status = self.status();
                if let Some(next) = self.clients.reply(id, &Reply::status(status), &self.poller) {
                    self.later.push_back((id, next));
                }
                return;
            }
            Verb::StartWorker => Command::StartWorker,
            Verb::StopWorker => Command::StopWorker,
            Verb::RestartWorker => Command::RestartWorker,
            Verb::Stop => Command::Shutdown,
        };
        let request_id = self.new_request();
        self.requests.insert(request_id, id);
        self.feed(Event::Operator(request_id, command));
    }

    fn take_notifications(&mut self) {
        let mut buffer = [0_u8; 4096];
        // A bound: others must get their turn.
        for _ in 0..64 {
            let Ok(count) = self.notify.recv(&mut buffer) else { return };
            let Some(run) = self.run.as_ref().map(|run| RunId(run.number)) else { continue };
            for said in notify::parse(&buffer[..count]) {
                match said {
                    Said::Ready => self.feed(Event::Announced(run)),
                    Said::Alive => {
                        self.said.heartbeat = true;
                        self.feed(Event::Activity(run));
                    }
                    Said::Extend { ms } => {
                        let until_ms = os::clock::monotonic_ms().saturating_add(ms);
                        self.feed(Event::Extended(run, until_ms));
                    }
                    Said::Message(message) => self.said.message = Some(message),
                    Said::Phase(phase) => self.said.phase = Some(phase),
                    Said::OutputLost { bytes } => self.output_lost(bytes),
                    Said::Stopping => self.said.phase = Some("stopping".to_owned()),
                    Said::Log(path) => {
                        if let Some(activity) = &mut self.activity {
                            activity.told(path.clone());
                        }
                        self.said.rlog = Some(path);
                    }
                }
            }
        }
    }

    /// Something was removed from the home. If it was the socket, make it again.
    fn mend_socket(&mut self) {
        if let Some(watch) = &self.removals {
            watch.clear();
        }
        if self.home.control_socket().exists() {
            return;
        }
        if os::files::create_private_folder(self.home.root()).is_err() {
            return;
        }
        let Ok(listener) = os::socket::listen(&self.home.control_socket()) else { return };
        if self.poller.add(&listener, LISTENER, Interest::Readable).is_ok() {
            self.listener = Some(listener);
        }
    }

    fn take_wire(&mut self) {
        let Some(run) = &mut self.run else { return };
        for news in run.listen() {
            self.take_news(news);
        }
    }

    fn take_news(&mut self, news: News) {
        let Some(run) = &mut self.run else { return };
        let number = RunId(run.number);
        match news {
            News::Started(started) => {
                run.worker = Some(runs::identity(started.worker));
                run.started_unix_ms = started.at_unix_ms;
                run.group = containment::noted(&started.containment, started.group.as_deref());
                self.rung = Some(started.containment);
                self.feed(Event::Started(number));
            }
            News::Ended(ended) => {
                let event = match (ended.exit, &ended.start_error) {
                    (Some(_), _) if ended.out_of_memory => Event::Exited(number, Exit::OutOfMemory),
                    (Some(exit), _) => Event::Exited(number, runs::exit(exit)),
                    (None, Some(error)) => Event::StartFailed(number, runs::start_failure(error)),
                    (None, None) => Event::Exited(number, Exit::Unseen),
                };
                self.tell_of_leaks(&ended);
                self.output_lost(ended.output_lost_bytes);
                if let Some(problem) = self.loss() {
                    self.say(&format!("warning: {problem}"));
                }
                self.forget_run(ended.run);
                self.feed(event);
            }
            News::ShimGone => self.end_orphans(),
        }
    }

    fn output_lost(&mut self, bytes: u64) {
        if self.lost_bytes == 0 && bytes > 0 {
            let log = self.home.output_log();
            self.say(&format!("warning: cannot write {}: output of the worker is lost", log.display()));
        }
        self.lost_bytes = self.lost_bytes.max(bytes);
    }

    /// What the newest run has lost of its output, if anything.
    pub(crate) fn loss(&self) -> Option<String> {
        (self.lost_bytes > 0).then(|| format!("{} bytes of the worker's output could not be kept", self.lost_bytes))
    }

    fn tell_of_leaks(&mut self, ended: &wire::run::Ended) {
        if ended.leaked.is_empty() {
            return;
        }
        let who: Vec<String> =
            ended.leaked.iter().map(|left| format!("{} ({}, state {})", left.pid, left.name, left.state)).collect();
        let count = who.len();
        let problem = format!("run {} left {count} processes that could not be killed: {}", ended.run, who.join(", "));
        self.say(&format!("warning: {problem}"));
        self.degraded.push(problem);
    }

    fn take_shim_end(&mut self, number: u64) {
        let Some(run) = self.run.as_mut().filter(|run| run.number == number) else { return };
        let news = run.last_words();
        if let Some(shim) = run.shim.take() {
            self.poller.remove(&shim).ok();
        }
        self.take_news(news);
    }

    /// The shim is dead, its tree perhaps not: never start beside it.
    pub(crate) fn end_orphans(&mut self) {
        let Some(run) = &self.run else { return };
        let number = run.number;
        // What the dead shim left came to this process, unless an older daemon was its parent.
        while matches!(os::process::reap_any(), Ok(Reap::Ended(_))) {}
        if run.kill_orphans() {
            self.forget_run(number);
            self.feed(Event::Exited(RunId(number), Exit::Unseen));
        } else {
            self.orphans_due_ms = Some(os::clock::monotonic_ms().saturating_add(ORPHANS_AGAIN_MS));
        }
    }

    fn forget_run(&mut self, number: u64) {
        self.ended_run = self.ended_run.max(number);
        // Its shim writes its record and ends; it is reaped when it does.
        if let Some(run) = self.run.take()
            && let Some(shim) = &run.shim
        {
            self.poller.remove(shim).ok();
        }
        self.orphans_due_ms = None;
        self.forget_activity();
        self.victims.clear();
    }

    fn adopt(&mut self, run: LiveRun) -> io::Result<()> {
        if let Some(shim) = &run.shim {
            self.poller.add(shim, Token(FIRST_SHIM + run.number), Interest::Readable)?;
        }
        self.watch_activity();
        self.activity.iter_mut().for_each(Activity::adopt);
        self.last_pid = run.worker.map(|worker| worker.pid);
        self.run = Some(run);
        Ok(())
    }

    pub(crate) fn watch_run(&mut self, run: LiveRun) -> io::Result<()> {
        if let Some(wire) = &run.wire {
            self.poller.add(wire, WIRE, Interest::Readable)?;
        }
        if let Some(shim) = &run.shim {
            self.poller.add(shim, Token(FIRST_SHIM + run.number), Interest::Readable)?;
        }
        self.said = Doing::default();
        self.lost_bytes = 0;
        self.run = Some(run);
        Ok(())
    }

    pub(crate) fn watch_activity(&mut self) {
        let working_dir = &self.launching.config().job.working_dir.value;
        self.activity = Some(Activity::begin(working_dir, self.home.output_log(), self.spare_watch.take()));
    }

    pub(crate) fn forget_activity(&mut self) {
        self.spare_watch = self.activity.take().and_then(Activity::into_watch);
    }

    fn take_victim(&mut self, token: Token) {
        let Some(position) = self.victims.iter().position(|victim| victim.token == token) else { return };
        let victim = self.victims.swap_remove(position);
        self.feed(Event::VictimGone(victim.pid));
    }

    pub(crate) fn victim_token(&self) -> Token {
        let last = self.victims.iter().map(|victim| victim.token.0).max();
        Token(last.map_or(FIRST_VICTIM, |token| token + 1))
    }

    /// A line for whoever watches the terminal. Nobody may be there, or somebody who does not read: then it is dropped.
    #[expect(clippy::unused_self, reason = "where it goes is the daemon's business")]
    pub(crate) fn say(&self, text: &str) {
        os::socket::write_if_room(std::os::fd::AsFd::as_fd(&io::stderr()), format!("{text}\n").as_bytes());
    }

    /// Whoever asked for the end may start another daemon as soon as it is answered: the home is free by then.
    fn leave(&mut self) {
        self.launching.containment().tidy();
        std::fs::remove_file(self.home.control_socket()).ok();
        std::fs::remove_file(self.home.notify_socket()).ok();
        std::fs::remove_file(self.home.pid_file()).ok();
        drop(self.lock.take());
        for (client, reply) in std::mem::take(&mut self.farewells) {
            self.clients.reply(client, &reply, &self.poller);
        }
        self.clients.finish(&self.poller);
    }
}

/// What is to be done first: what the worker waits for goes before what is only told, but evidence before it is lost.
pub(crate) fn rank(effect: &Effect) -> u8 {
    match effect {
        Effect::Note(Note::Stalled { .. } | Note::StallTolerated { .. } | Note::MemoryRestart { .. }) => 0,
        Effect::Stop(_) | Effect::Signal { .. } | Effect::Start(_) => 0,
        Effect::Sample | Effect::Survey(_) => 1,
        Effect::Note(_) => 2,
        Effect::Save => 3,
        Effect::Answer(..) => 4,
        Effect::Halt => 5,
    }
}
