//! The shell around `policy::work`: it waits, passes on what happens, and does what is decided.

mod begin;
mod books;
mod desk;
mod probe;
mod report;
mod task;

use std::os::fd::OwnedFd;

use os::child::{self, Child, Ended};
use os::poll::{Interest, Poller, Ready, Token};
use os::signals::{Signal, SignalPipe};
use os::watch::CreationWatch;
use policy::work::outcome::Exit as CliExit;
use policy::work::task::{Errand, ErrandEnd};
use policy::work::{Effect, Event, Fact, Stop, Work};
use wire::claude::{Line, LineSplitter};
use wire::redact::KeyLines;

use crate::stream::{Listener, Pipe, hear};
use crate::{Environment, Exit, Failure, RunArgs, complain};
use desk::Desk;
use probe::Probe;

const SIGNALS: Token = Token(0);
const CLI: Token = Token(1);
const STDOUT: Token = Token(2);
const STDERR: Token = Token(3);
const PROBE: Token = Token(5);
const DATABASE: Token = Token(4);

/// Read at once from a pipe; a pipe holds 64 KiB.
const CHUNK_BYTES: usize = 64 << 10;
/// From SIGTERM to SIGKILL for an errand, when we leave.
const ERRAND_ENDS_MS: u64 = 3_000;
/// A signal to the whole group reaches its processes within less than this.
const OUR_SIGNAL_MS: u64 = 100;
/// Chunks read from one pipe before anything else gets its turn.
const CHUNKS_A_TURN: usize = 16;

/// The CLI while it runs.
#[derive(Debug)]
struct Running {
    child: Child,
    /// It is no agent, but does this.
    errand: Option<Errand>,
    stdout_lines: LineSplitter,
    stderr_lines: LineSplitter,
    keys: KeyLines,
    /// By us.
    is_signalled: bool,
}

/// The loop.
#[derive(Debug)]
struct Drive<'a> {
    work: Work,
    desk: Desk<'a>,
    poller: Poller,
    signals: SignalPipe,
    /// Wakes us when somebody writes to the database.
    database: Option<CreationWatch>,
    running: Option<Running>,
    probe: Probe,
    buffer: Vec<u8>,
    effects: Vec<Effect>,
    leave: Option<Exit>,
}

pub(crate) fn run(args: &RunArgs, env: &Environment) -> Result<Exit, Failure> {
    // What nohup started stays when the terminal goes.
    let hup = (!os::signals::is_ignored(Signal::Hup)).then_some(Signal::Hup);
    let always = [Signal::Term, Signal::Int, Signal::Quit, Signal::WindowChange];
    // A stray one must not leave a log without its end.
    let strays = [Signal::User1, Signal::User2, Signal::Alarm];
    let handled: Vec<Signal> = always.into_iter().chain(strays).chain(hup).collect();
    let signals =
        SignalPipe::new(&handled).map_err(|error| Failure::Kernel { what: "cannot handle signals", error })?;
    let begin::Begun { desk, rules, found, spent, stops } = begin::begin(args, env, &signals)?;
    let kernel = |error| Failure::Kernel { what: "cannot wait for events", error };
    let poller = Poller::new().map_err(kernel)?;
    poller.add(&signals, SIGNALS, Interest::Readable).map_err(kernel)?;
    let database = watch(&desk, &poller);
    let mut drive = Drive {
        work: Work::new(rules),
        desk,
        poller,
        signals,
        database,
        running: None,
        probe: Probe::default(),
        buffer: vec![0; CHUNK_BYTES],
        effects: Vec::new(),
        leave: None,
    };
    drive.desk.ready();
    for stop in stops.into_iter().filter_map(stop_of) {
        drive.feed(Event::Stop(stop));
    }
    drive.feed(Event::Recall(drive.desk.standing()));
    drive.feed(Event::Begin { found, spent });
    let mut ready = Vec::new();
    loop {
        if let Some(exit) = drive.leave {
            drive.see_errand_off();
            drive.desk.release_task();
            drive.desk.farewell(exit);
            return Ok(exit);
        }
        let now_ms = os::clock::boottime_ms();
        drive.desk.progress().draw();
        let redraw_ms = drive.desk.progress().due_ms().map(|due| due.saturating_sub(os::clock::monotonic_ms()));
        let timeout_ms = drive.work.deadline_ms(now_ms).map(|deadline| deadline.saturating_sub(now_ms));
        let timeout_ms = timeout_ms.into_iter().chain(redraw_ms).min();
        drive.poller.wait(timeout_ms, &mut ready).map_err(kernel)?;
        // Ctrl-C ends the CLI, too: why it ended has to be known first.
        ready.sort_by_key(|ready| ready.token != SIGNALS);
        for Ready { token, .. } in &ready {
            match *token {
                SIGNALS => drive.take_signals(),
                STDOUT => drive.pump(Pipe::Stdout),
                STDERR => drive.pump(Pipe::Stderr),
                PROBE => drive.take_probe(),
                DATABASE => drive.database_changed(),
                _ => drive.reap(),
            }
        }
        drive.feed(Event::Tick);
    }
}

/// Not to be able to watch is no reason not to work: it is looked at before each start all the same.
fn watch(desk: &Desk<'_>, poller: &Poller) -> Option<CreationWatch> {
    let watch = || -> std::io::Result<CreationWatch> {
        let mut watch = CreationWatch::new()?;
        // All that is committed goes through it, and it stays while we have the database open.
        watch.add_file(&desk.folder().join("queue.db-wal"))?;
        poller.add(&watch, DATABASE, Interest::Readable)?;
        Ok(watch)
    };
    watch().map_err(|error| complain(format_args!("warning: changes to the queue are noticed late: {error}"))).ok()
}

impl Drive<'_> {
    fn database_changed(&mut self) {
        if let Some(watch) = &mut self.database {
            watch.take();
        }
        self.desk.database_changed();
        let spent = self.desk.spent();
        self.feed(Event::Spent(spent));
        if let Some(lost) = self.desk.look_after_task() {
            self.feed(lost);
        }
        self.feed(Event::QueueChanged);
    }

    /// Passes an event on and does what is decided, until nothing is left to do.
    fn feed(&mut self, event: Event<'_>) {
        let mut next = self.step(event);
        while let Some(event) = next {
            next = self.step(event);
        }
    }

    /// One step. A decision can have an event of its own as its result: the start of the CLI.
    fn step(&mut self, event: Event<'_>) -> Option<Event<'static>> {
        if self.leave.is_some() {
            return None;
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.work.step(os::clock::boottime_ms(), event, &mut effects);
        let mut next = None;
        self.desk.begin_round();
        for effect in effects.drain(..) {
            match effect {
                Effect::Start(launch) => next = Some(self.start(launch)),
                Effect::Claim => next = Some(self.claim()),
                Effect::Renew => next = self.desk.renew().or(next),
                Effect::Errand(errand) => next = self.errand(errand),
                Effect::Block(obstacle) => self.desk.block(&obstacle),
                Effect::Terminate => self.signal(os::process::Send::Term),
                Effect::Kill => self.signal(os::process::Send::Kill),
                Effect::Leave(code) => self.leave = Some(code.into()),
                Effect::Heartbeat => self.desk.heartbeat(),
                Effect::Phase(phase) => self.desk.phase(phase),
                Effect::Note(note) => self.desk.note(&note),
                Effect::Probe => self.begin_probe(),
                Effect::LookAtBudget => next = self.desk.look_at_budget().or(next),
                Effect::Keep(standing) => self.desk.keep(standing),
                Effect::Settle(fate) => self.desk.settle(fate),
                Effect::Close(reason) => self.desk.close(reason),
            }
        }
        self.desk.end_round();
        self.effects = effects;
        next
    }

    fn start(&mut self, launch: policy::work::Launch) -> Event<'static> {
        let before = self.desk.session();
        let event = self.try_start(launch);
        if event == Event::Missing {
            self.desk.no_session_but(before);
        }
        event
    }

    fn try_start(&mut self, launch: policy::work::Launch) -> Event<'static> {
        let Some(program) = self.desk.prepare(launch) else { return Event::Missing };
        let child = match Child::spawn(&program, &self.desk.cwd()) {
            Ok(child) => child,
            Err(error) => return self.desk.not_started(&error),
        };
        match self.keep(child, None) {
            Ok(()) => Event::Started,
            Err(error) => self.desk.not_started(&error),
        }
    }

    /// Watches a child from now on.
    fn keep(&mut self, child: Child, errand: Option<Errand>) -> std::io::Result<()> {
        let watched = self.poller.add(&child, CLI, Interest::Readable);
        let watched = watched.and_then(|()| self.poller.add(&child.stdout, STDOUT, Interest::Readable));
        if let Err(error) = watched.and_then(|()| self.poller.add(&child.stderr, STDERR, Interest::Readable)) {
            child.send(os::process::Send::Kill).ok();
            return Err(error);
        }
        self.desk.started(child.identity());
        let (stdout_lines, stderr_lines) = (LineSplitter::default(), LineSplitter::default());
        self.running =
            Some(Running { child, errand, stdout_lines, stderr_lines, keys: KeyLines::default(), is_signalled: false });
        Ok(())
    }

    fn claim(&mut self) -> Event<'static> {
        let event = self.desk.claim();
        // Another job may have another account.
        let spent = self.desk.spent();
        self.work.step(os::clock::boottime_ms(), Event::Spent(spent), &mut Vec::new());
        event
    }

    /// `None`: it runs now.
    fn errand(&mut self, errand: Errand) -> Option<Event<'static>> {
        let Some(program) = self.desk.errand(errand) else { return Some(Event::ErrandEnded(ErrandEnd::Passed)) };
        let started = Child::spawn(&program, self.desk.own_cwd()).and_then(|child| self.keep(child, Some(errand)));
        let error = started.err()?;
        self.desk.status(&format!("what the task needs cannot be started: {error}"));
        Some(Event::ErrandEnded(ErrandEnd::Failed))
    }

    /// We leave: what does an errand gets the time to put away what it has made.
    fn see_errand_off(&mut self) {
        if self.running.as_ref().is_none_or(|running| running.errand.is_none()) {
            return;
        }
        self.signal(os::process::Send::Term);
        let deadline_ms = os::clock::monotonic_ms() + ERRAND_ENDS_MS;
        let mut ready = Vec::new();
        while let Some(running) = &mut self.running {
            let left = deadline_ms.saturating_sub(os::clock::monotonic_ms());
            if !matches!(running.child.reap(), Ok(None)) || left == 0 {
                break;
            }
            if self.poller.wait(Some(left), &mut ready).is_err() {
                break;
            }
        }
        self.signal(os::process::Send::Kill);
        self.running = None;
        self.desk.ended(false);
    }

    /// Ctrl-C goes to the CLI and to us, one after the other: if it was first, it may be dead before we know.
    fn wait_for_our_signal(&mut self) {
        let deadline_ms = os::clock::monotonic_ms() + OUR_SIGNAL_MS;
        let mut ready = Vec::new();
        loop {
            let left_ms = deadline_ms.saturating_sub(os::clock::monotonic_ms());
            if left_ms == 0 || self.poller.wait(Some(left_ms), &mut ready).is_err() {
                return;
            }
            if ready.iter().any(|ready| ready.token == SIGNALS) {
                return self.take_signals();
            }
        }
    }

    fn signal(&mut self, signal: os::process::Send) {
        let Some(running) = &mut self.running else { return };
        running.is_signalled = true;
        if let Err(error) = running.child.send(signal) {
            self.desk.status(&format!("the CLI cannot be signalled: {error}"));
        }
    }

    fn take_signals(&mut self) {
        for signal in self.signals.take() {
            match stop_of(signal) {
                Some(stop) => {
                    self.desk.stopping();
                    self.feed(Event::Stop(stop));
                }
                None if signal == Signal::WindowChange => self.desk.progress().resized(),
                None => {}
            }
        }
    }

    /// Reads what a pipe holds, up to a bound, and passes it on line by line.
    fn pump(&mut self, pipe: Pipe) {
        for _ in 0..CHUNKS_A_TURN {
            if !self.read_chunk(pipe) {
                return;
            }
        }
    }

    /// `false`: there is nothing more to read now.
    fn read_chunk(&mut self, pipe: Pipe) -> bool {
        let Some(running) = &mut self.running else { return false };
        let fd: &OwnedFd = match pipe {
            Pipe::Stdout => &running.child.stdout,
            Pipe::Stderr => &running.child.stderr,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = child::read(fd, &mut buffer);
        if matches!(read, Ok(child::Read::Closed) | Err(_)) {
            // It would be ready for ever.
            self.poller.remove(fd).ok();
        }
        let more = if let Ok(child::Read::Bytes(bytes)) = read {
            let bytes = buffer.get(..bytes).unwrap_or_default();
            if running.errand.is_some() {
                self.desk.errand_said(bytes);
            } else {
                self.lines(pipe, Some(bytes));
            }
            true
        } else {
            false
        };
        self.buffer = buffer;
        more
    }

    /// Passes on the lines that `bytes` complete; `None`: the stream has ended.
    fn lines(&mut self, pipe: Pipe, bytes: Option<&[u8]>) {
        let splitter = |running: &mut Running| match pipe {
            Pipe::Stdout => std::mem::take(&mut running.stdout_lines),
            Pipe::Stderr => std::mem::take(&mut running.stderr_lines),
        };
        let Some(mut lines) = self.running.as_mut().map(splitter) else { return };
        if bytes.is_some() {
            self.feed(Event::Fact(Fact::Life));
        }
        let mut each = |line: Line<'_>| hear(line, pipe, &mut Ear { drive: self });
        match bytes {
            Some(bytes) => lines.push(bytes, &mut each),
            None => lines.finish(&mut each),
        }
        if let Some(running) = &mut self.running {
            match pipe {
                Pipe::Stdout => running.stdout_lines = lines,
                Pipe::Stderr => running.stderr_lines = lines,
            }
        }
    }

    fn reap(&mut self) {
        let Some(running) = &mut self.running else { return };
        let ended = match running.child.reap() {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => {
                self.desk.status(&format!("the CLI's status is lost: {error}"));
                Ended::Code(1)
            }
        };
        let (errand, was_signalled) = (running.errand, running.is_signalled);
        // All that it said comes before its end. A tool that it left behind may hold the pipe open: nobody waits for that.
        for pipe in [Pipe::Stdout, Pipe::Stderr] {
            while self.read_chunk(pipe) {}
            if errand.is_none() {
                self.lines(pipe, None);
            }
        }
        self.running = None;
        if let Some(errand) = errand {
            self.desk.ended(false);
            let code = if let Ended::Code(code) = ended { Some(code) } else { None };
            let end = self.desk.errand_ended(errand, code);
            return self.feed(Event::ErrandEnded(end));
        }
        if !was_signalled && is_from_outside(ended) {
            self.wait_for_our_signal();
        }
        // By its own will it ends its tools and servers, too, and what it leaves running is meant to run on.
        self.desk.ended(matches!(ended, Ended::Code(0..=128)));
        self.feed(Event::Exited(match ended {
            Ended::Code(code) => CliExit::Code(code),
            Ended::Signal(signal) => CliExit::Signal(signal),
        }));
    }
}

/// It was ended by a signal that comes from a terminal, or as a shell tells of one.
fn is_from_outside(ended: Ended) -> bool {
    matches!(ended, Ended::Signal(1..=3 | 15) | Ended::Code(129..=131 | 143))
}

fn stop_of(signal: Signal) -> Option<Stop> {
    match signal {
        Signal::Term | Signal::Hup | Signal::Quit => Some(Stop::Terminate),
        Signal::Int => Some(Stop::Interrupt),
        Signal::Child | Signal::User1 | Signal::User2 | Signal::Alarm | Signal::WindowChange => None,
    }
}

/// What is heard goes to the loop, the log and the ledger.
struct Ear<'a, 'b> {
    drive: &'a mut Drive<'b>,
}

impl Ear<'_, '_> {
    fn tell_spent(&mut self) {
        let spent = self.drive.desk.spent();
        self.drive.desk.progress().spent(spent);
        self.drive.feed(Event::Spent(spent));
    }
}

impl Listener for Ear<'_, '_> {
    fn fact(&mut self, fact: Fact<'_>) {
        self.drive.feed(Event::Fact(fact));
    }

    fn entry(&mut self, entry: &wire::rlog::Entry<'_>) {
        self.drive.desk.entry(entry);
    }

    fn status(&mut self, text: &str) {
        self.drive.desk.status(text);
    }

    fn waits(&mut self, text: &str) {
        self.drive.desk.waits(text);
    }

    fn event(&mut self, line: &[u8]) {
        self.drive.desk.event(line);
    }

    fn cli_said(&mut self, text: &str) {
        self.drive.desk.cli_said(text);
    }

    fn is_of_key(&mut self, line: &[u8]) -> bool {
        self.drive.running.as_mut().is_some_and(|running| running.keys.is_of_key(line))
    }

    fn seen(&mut self, message: &wire::claude::Message<'_>) {
        self.drive.desk.seen(message);
    }

    fn begun(&mut self, id: &str, opening: &wire::claude::Partial<'_>) {
        self.drive.desk.begun(id, opening);
        self.tell_spent();
    }

    fn answered(&mut self, assistant: &wire::claude::Assistant<'_>) -> bool {
        let new = self.drive.desk.answered(assistant);
        self.tell_spent();
        new
    }

    fn finished(&mut self, id: &str, usage: wire::claude::Usage) {
        self.drive.desk.finished(id, usage);
        self.tell_spent();
    }

    fn is_main(&self, id: &str) -> bool {
        self.drive.desk.is_main(id)
    }

    fn has_server(&mut self, servers: &[(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)]) -> bool {
        self.drive.desk.has_server(servers)
    }

    fn cost(&mut self, ending: &wire::claude::Ending<'_>) {
        self.drive.desk.cost(ending);
        self.tell_spent();
    }

    fn at_ms(&self, epoch_s: u64) -> u64 {
        // Some write milliseconds where seconds are meant.
        let epoch_ms = if epoch_s > 100_000_000_000 { epoch_s } else { epoch_s.saturating_mul(1_000) };
        let in_ms = epoch_ms.saturating_sub(os::clock::wall_ms());
        os::clock::boottime_ms().saturating_add(in_ms)
    }

    fn epoch_s(&self, resets: wire::claude::Resets<'_>) -> Option<u64> {
        crate::resets::epoch_s(resets, &crate::recorder::local_now())
    }
}
