//! The loop: wait for the kernel or the deadline, turn what came into events, let the policy decide, do what it says.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::net::{UnixDatagram, UnixListener};

use os::fail;
use os::files::Lock;
use os::memory::Gauge;
use os::poll::{Interest, Poller, Ready, Token};
use os::process::Reap;
use os::signals::{Signal, SignalPipe};
use os::watch::{CreationWatch, RemovalWatch};
use policy::supervisor::{Command, Event, Exit, Found, MemoryReading, RequestId, RunId, Supervisor};
use wire::control::{LastExit, Reply, Request, Verb};
use wire::handover::Seen;
use wire::journal::Event as Happened;

use crate::activity::Activity;
use crate::agent::Agents;
use crate::clients::{ClientId, Clients};
use crate::compile::CargoRun;
use crate::config::Config;
use crate::containment::{self, Containment};
use crate::degraded::Problem;
use crate::found::{self, Past};
use crate::home::Home;
use crate::journal::Journal;
use crate::launch::{self, Launching};
use crate::runs::{self, LiveRun, News, Prepared};
use crate::said::Doing;
use crate::save::Saved;
use crate::seal::Aside;
use crate::settle::Settle;
use crate::state::State;
use crate::succession::{Inherited, Invoked, Pending};
use crate::survey;
use crate::tools::Tools;
use crate::upward::{self, Upward};
use crate::victims::Victims;

/// What a daemon is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) home: Home,
    pub(crate) lock: Lock,
    pub(crate) listener: UnixListener,
    pub(crate) notify: UnixDatagram,
    pub(crate) state: State,
    pub(crate) asides: Vec<Aside>,
    /// What does not work as it should.
    pub(crate) degraded: Vec<Problem>,
    pub(crate) containment: Containment,
    pub(crate) inherited: Option<Inherited>,
    pub(crate) supervisor: upward::Supervisor,
}

/// The daemon of one home.
#[derive(Debug)]
pub struct Daemon {
    pub(crate) home: Home,
    pub(crate) launching: Launching,
    pub(crate) agents: Agents,
    pub(crate) machine: Supervisor,
    pub(crate) poller: Poller,
    pub(crate) clients: Clients,
    /// Who asked for what.
    pub(crate) requests: BTreeMap<RequestId, (ClientId, Command)>,
    /// Restarts that wait for a look at a new file.
    pub(crate) held_restarts: Vec<ClientId>,
    pub(crate) journal: Journal,
    pub(crate) run: Option<LiveRun>,
    /// What there was of a daemon before this one, until it is told.
    past: Option<Past>,
    /// The run after it, as far as it can be made before its time.
    pub(crate) prepared: Option<Prepared>,
    /// It could not be prepared: once is enough.
    pub(crate) unprepared: Option<RunId>,
    pub(crate) activity: Option<Activity>,
    /// Of the last run, for the next one.
    spare_watch: Option<CreationWatch>,
    pub(crate) victims: Victims,
    pub(crate) surveyed: survey::Found,
    pub(crate) events: VecDeque<Event>,
    pub(crate) exits: Vec<LastExit>,
    pub(crate) ended_run: u64,
    pub(crate) boot_id: String,
    pub(crate) started_ms: u64,
    /// Since the daemon before this one.
    pub(crate) rebooted: bool,
    pub(crate) gauge: Gauge,
    pub(crate) memory: (MemoryReading, u64),
    pub(crate) said: Doing,
    pub(crate) degraded: Vec<Problem>,
    /// Of the newest run's output.
    pub(crate) lost_bytes: u64,
    pub(crate) halted: bool,
    /// Requests that were sent before the answer to the one before.
    pub(crate) later: VecDeque<(ClientId, Request)>,
    /// The pid of the newest worker, for the note of its end.
    pub(crate) last_pid: Option<u32>,
    pub(crate) saved: Saved,
    /// Found by the start, and not told yet.
    pub(crate) asides: Vec<Aside>,
    /// Why the state could not be saved, if it could not.
    pub(crate) state_unsaved: Option<String>,
    /// The newest run, if it is one of cargo's.
    pub(crate) cargo_run: Option<CargoRun>,
    /// What the worker's tools do.
    pub(crate) tools: Tools,
    /// What keeps the newest run together.
    pub(crate) rung: Option<String>,
    pub(crate) listener: Option<UnixListener>,
    pub(crate) notify: UnixDatagram,
    removals: Option<RemovalWatch>,
    signals: SignalPipe,
    next_request: u64,
    told_to_end: bool,
    /// When to look again at a tree without a shim.
    pub(crate) orphans_due_ms: Option<u64>,
    /// What was kept last of what was seen of the run.
    pub(crate) seen: Seen,
    /// Somebody wants another daemon after this one.
    pub(crate) pending: Option<Pending>,
    pub(crate) invoked: Option<Invoked>,
    pub(crate) inherited: Option<Inherited>,
    pub(crate) upward: Upward,
    settle: Settle,
    /// Since when a tree without a shim is being ended.
    pub(crate) orphans_since_ms: Option<u64>,
    /// When a shim that was told to end its tree has had time enough for it.
    pub(crate) shim_due_ms: Option<u64>,
    /// Who asked for the end, to be told when nothing of it is left to come.
    pub(crate) farewells: Vec<(ClientId, Reply)>,
    pub(crate) lock: Option<Lock>,
}

const SIGNALS: Token = Token(0);
const LISTENER: Token = Token(1);
const NOTIFY: Token = Token(2);
const REMOVALS: Token = Token(3);
const WIRE: Token = Token(4);
pub(crate) const TRIAL: Token = Token(5);
pub(crate) const AGENT_TRIAL: Token = Token(6);
const FIRST_CLIENT: u64 = 1 << 32;
/// Each run's shim has a token of its own: an end that waits to be heard must not be taken for the next run's.
const FIRST_SHIM: u64 = 1 << 62;

/// So many old runs' folders are kept.
pub(crate) const KEPT_RUNS: usize = 20;

impl Daemon {
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let Parts {
            config,
            home,
            lock,
            listener,
            notify,
            state,
            asides,
            mut degraded,
            containment,
            inherited,
            supervisor,
        } = parts;
        let boot_id = os::clock::boot_id();
        fail::point("loop.poller")?;
        let poller = Poller::new()?;
        fail::point("loop.signals")?;
        let signals = SignalPipe::new(&[
            Signal::Term,
            Signal::Int,
            Signal::Hup,
            Signal::Child,
            Signal::User1,
            Signal::User2,
            Signal::Alarm,
        ])?;
        fail::point("loop.watch")?;
        poller.add(&signals, SIGNALS, Interest::Readable)?;
        poller.add(&listener, LISTENER, Interest::Readable)?;
        poller.add(&notify, NOTIFY, Interest::Readable)?;
        let removals = fail::point("loop.removals").and_then(|()| RemovalWatch::new(home.root())).ok();
        if let Some(watch) = &removals {
            poller.add(watch, REMOVALS, Interest::Readable)?;
        }
        fail::point("loop.subreaper")?;
        os::fork::become_subreaper()?;
        if removals.is_none() {
            degraded.push(Problem::lasting("no inotify: a removed control socket is not made again".to_owned()));
        }
        let snapshot = state.snapshot(&boot_id);
        let saved = Saved::found(snapshot.stopped, degraded.iter().any(Problem::is_of_pid_file));
        let journal = Journal::new(home.journal(), boot_id.clone());
        let rebooted = !state.boot_id.is_empty() && state.boot_id != boot_id;
        let machine = Supervisor::new(launch::settings(&config), Some(snapshot));
        Ok(Self {
            agents: launch::agents(&config, &home),
            launching: Launching::new(config, home.clone(), containment, state.had_binary),
            home,
            machine,
            poller,
            clients: Clients::new(FIRST_CLIENT),
            requests: BTreeMap::new(),
            held_restarts: Vec::new(),
            journal,
            run: None,
            past: None,
            prepared: None,
            unprepared: None,
            activity: None,
            spare_watch: None,
            victims: Victims::default(),
            surveyed: survey::Found::default(),
            events: VecDeque::new(),
            exits: state.last_exits,
            ended_run: state.ended_run,
            boot_id,
            started_ms: os::clock::monotonic_ms(),
            rebooted,
            gauge: Gauge::new(os::proc::root(), os::memory::cgroup_root()),
            memory: (MemoryReading::default(), 0),
            said: Doing::default(),
            degraded,
            lost_bytes: 0,
            halted: false,
            later: VecDeque::new(),
            last_pid: None,
            saved,
            asides,
            state_unsaved: None,
            cargo_run: None,
            tools: Tools::default(),
            rung: None,
            listener: Some(listener),
            notify,
            removals,
            signals,
            next_request: 0,
            told_to_end: false,
            orphans_due_ms: None,
            orphans_since_ms: None,
            shim_due_ms: None,
            seen: Seen::default(),
            pending: None,
            invoked: None,
            inherited,
            upward: Upward::new(&supervisor),
            settle: Settle::default(),
            farewells: Vec::new(),
            lock: Some(lock),
        })
    }

    /// Look for the run of the daemon before.
    ///
    /// # Errors
    /// If it can't be told whether there is one.
    pub(crate) fn find(&mut self) -> io::Result<()> {
        let mut past = found::past(&self.home, &self.boot_id, self.ended_run)?;
        if let Some(run) = past.live.take() {
            self.adopt(run)?;
        }
        self.past = Some(past);
        Ok(())
    }

    /// Serve until told to end. Returns when the worker's tree is gone, too.
    ///
    /// # Errors
    /// If the kernel refuses to wait.
    pub fn run(&mut self) -> io::Result<()> {
        fail::point("loop.boot").ok();
        self.tell_of_start();
        self.carry_on();
        // Children of the program before this one may have ended while it became this one.
        while matches!(os::process::reap_any(), Ok(Reap::Ended(_))) {}
        self.answer_successor();
        self.ready_upward();
        self.settle.stir(os::clock::monotonic_ms());
        let mut ready = Vec::new();
        while !self.halted {
            self.keep_prepared();
            let own = [self.machine.deadline_ms(), self.orphans_due_ms, self.upward.due_ms(), self.program_due_ms()];
            let due_ms =
                own.into_iter().chain([self.settle.due_ms(), self.shim_due_ms, self.save_due_ms()]).flatten().min();
            self.poller.wait_until(due_ms, &mut ready)?;
            for event in &ready {
                self.handle(*event);
            }
            if self.orphans_due_ms.is_some_and(|due_ms| due_ms <= os::clock::monotonic_ms()) {
                self.look_at_orphans();
            }
            self.look_at_shim();
            self.feed(Event::Tick);
            while let Some((id, request)) = self.later.pop_front() {
                self.take_request(id, &request);
            }
            self.keep_seen();
            self.keep_program();
            self.save_again();
            self.succeed_if_settled();
            self.tell_upward();
            self.settle.look(os::clock::monotonic_ms());
        }
        self.leave();
        Ok(())
    }

    /// From where the daemon before this one was.
    fn carry_on(&mut self) {
        let Past { missed, found, newest, live: _ } = self.past.take().unwrap_or_default();
        for missed in missed {
            self.feed(missed);
        }
        if found == Found::Nothing {
            // Without the counter, which may be lost, the next run would hide behind the folder of an old one.
            self.machine.count_from(newest);
        }
        self.tell_of_find(&found);
        self.feed(Event::Boot(found));
        self.recall_seen();
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
            TRIAL => self.take_trial(),
            AGENT_TRIAL => self.take_agent_trial(),
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
                    self.record_command(Command::Shutdown, None);
                    self.feed(Event::Operator(id, Command::Shutdown));
                }
                // The terminal went away. The work goes on.
                Signal::Hup | Signal::User1 | Signal::User2 | Signal::Alarm | Signal::Quit | Signal::WindowChange => {}
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
        self.settle.stir(os::clock::monotonic_ms());
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
            Verb::RestartWorker if self.holds_restart(id) => return,
            Verb::RestartWorker => Command::RestartWorker,
            Verb::Stop => Command::Shutdown,
            Verb::StopKeepWorker => {
                self.release_restarts();
                return self.ask_succession(id, None);
            }
            Verb::Upgrade => {
                self.release_restarts();
                let program = request.program.clone().unwrap_or_default();
                return self.ask_succession(id, Some(program.into()));
            }
        };
        // In their order.
        self.release_restarts();
        self.command(id, command);
    }

    pub(crate) fn command(&mut self, id: ClientId, command: Command) {
        let request_id = self.new_request();
        self.record_command(command, self.clients.peer(id));
        self.requests.insert(request_id, (id, command));
        self.feed(Event::Operator(request_id, command));
    }

    /// Something was removed from the home. If it was the socket, make it again.
    fn mend_socket(&mut self) {
        if let Some(watch) = &self.removals {
            watch.clear();
        }
        self.mend_lock();
        if self.home.control_socket().exists() {
            return;
        }
        if os::files::create_private_folder(self.home.root()).is_err() {
            return;
        }
        fail::point("control.mend").ok();
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

    pub(crate) fn take_news(&mut self, news: News) {
        let Some(run) = &mut self.run else { return };
        self.settle.stir(os::clock::monotonic_ms());
        let number = RunId(run.number);
        match news {
            News::Started(started) => {
                fail::point("news.started").ok();
                run.worker = Some(runs::identity(started.worker));
                run.started_unix_ms = started.at_unix_ms;
                run.group = containment::noted(&started.containment, started.group.as_deref());
                self.rung = Some(started.containment);
                self.feed(Event::Started(number));
            }
            News::Ended(ended) => {
                fail::point("news.ended").ok();
                let event = match (ended.exit, &ended.start_error) {
                    (None, Some(error)) => Event::StartFailed(number, runs::start_failure(error)),
                    (Some(_) | None, _) => Event::Exited(number, runs::exit_of(&ended)),
                };
                self.tell_of_rest(&ended);
                self.forget_run(ended.run);
                self.feed(event);
            }
            News::ShimGone => {
                self.tell_of_orphans(number);
                self.end_orphans();
            }
        }
    }

    fn take_shim_end(&mut self, number: u64) {
        let Some(run) = self.run.as_mut().filter(|run| run.number == number) else { return };
        fail::point("shim-end.last-words").ok();
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
            // Its shim may have written it just before it ended.
            match runs::read(&run.folder.exit()) {
                Ok(Some(ended)) => self.take_news(News::Ended(ended)),
                Ok(None) | Err(_) => {
                    self.forget_run(number);
                    self.feed(Event::Exited(RunId(number), Exit::Unseen));
                }
            }
        } else {
            self.orphans_remain();
        }
    }

    pub(crate) fn forget_run(&mut self, number: u64) {
        self.ended_run = self.ended_run.max(number);
        // Its shim writes its record and ends; it is reaped when it does.
        if let Some(run) = self.run.take()
            && let Some(shim) = &run.shim
        {
            self.poller.remove(shim).ok();
        }
        (self.orphans_due_ms, self.orphans_since_ms, self.shim_due_ms) = (None, None, None);
        self.forget_activity();
        self.victims.clear();
    }

    fn adopt(&mut self, run: LiveRun) -> io::Result<()> {
        fail::point("adopt.watch")?;
        if let Some(shim) = &run.shim {
            self.poller.add(shim, Token(FIRST_SHIM + run.number), Interest::Readable)?;
        }
        if run.doubt.is_some() {
            self.look_again();
        }
        self.watch_activity();
        self.activity.iter_mut().for_each(Activity::adopt);
        self.last_pid = run.worker.map(|worker| worker.pid);
        self.rung.clone_from(&run.rung);
        self.launching.shelf.adopt(run.number);
        self.agents.shelf.adopt(run.number);
        self.run = Some(run);
        Ok(())
    }

    /// A run whose end would not be heard of is ended.
    pub(crate) fn watch_run(&mut self, mut run: LiveRun) {
        self.said = Doing::default();
        self.lost_bytes = 0;
        if let Err(error) = self.listen_to(&run) {
            self.warn(&format!("cannot watch run {}, which is ended: {error}", run.number));
            run.shim = None;
            self.orphans_due_ms = Some(os::clock::monotonic_ms());
        }
        self.run = Some(run);
    }

    fn listen_to(&self, run: &LiveRun) -> io::Result<()> {
        fail::point("run.watch")?;
        let shim = run.shim.as_ref().ok_or_else(|| io::Error::other("no hold on its shim"))?;
        self.poller.add(shim, Token(FIRST_SHIM + run.number), Interest::Readable)?;
        run.wire.as_ref().map_or(Ok(()), |wire| self.poller.add(wire, WIRE, Interest::Readable))
    }

    pub(crate) fn watch_activity(&mut self) {
        let working_dir = &self.launching.config().job.working_dir.value;
        self.activity = Some(Activity::begin(working_dir, self.home.output_log(), self.spare_watch.take()));
    }

    pub(crate) fn forget_activity(&mut self) {
        self.spare_watch = self.activity.take().and_then(Activity::into_watch);
    }

    /// Whoever asked for the end may start another daemon as soon as it is answered: the home is free by then.
    fn leave(&mut self) {
        self.record(Happened::DaemonStopped, "autopilotd ends");
        self.leave_count();
        self.upward.say("STOPPING=1");
        self.launching.containment().tidy();
        self.prepared = None;
        fail::point("leave.prepared").ok();
        std::fs::remove_dir_all(self.home.next_run().path()).ok();
        fail::point("leave.sockets").ok();
        std::fs::remove_file(self.home.control_socket()).ok();
        std::fs::remove_file(self.home.notify_socket()).ok();
        fail::point("leave.pid-file").ok();
        std::fs::remove_file(self.home.pid_file()).ok();
        fail::point("leave.unlock").ok();
        drop(self.lock.take());
        fail::point("leave.unlocked").ok();
        for (client, reply) in std::mem::take(&mut self.farewells) {
            self.clients.reply(client, &reply, &self.poller);
        }
        self.clients.finish(&self.poller);
    }
}
