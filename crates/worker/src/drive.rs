//! The shell around `policy::work`: it waits, passes on what happens, and does what is decided.

mod begin;
mod desk;

use std::os::fd::OwnedFd;

use os::child::{self, Child, Ended};
use os::poll::{Interest, Poller, Ready, Token};
use os::signals::{Signal, SignalPipe};
use policy::work::outcome::Exit as CliExit;
use policy::work::{Effect, Event, Fact, Stop, Work};
use wire::claude::{Line, LineSplitter};

use crate::stream::{Listener, Pipe, hear};
use crate::{Environment, Exit, Failure, RunArgs};
use desk::Desk;

const SIGNALS: Token = Token(0);
const CLI: Token = Token(1);
const STDOUT: Token = Token(2);
const STDERR: Token = Token(3);

/// Read at once from a pipe; a pipe holds 64 KiB.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks read from one pipe before anything else gets its turn.
const CHUNKS_A_TURN: usize = 16;

/// The CLI while it runs.
#[derive(Debug)]
struct Running {
    child: Child,
    stdout_lines: LineSplitter,
    stderr_lines: LineSplitter,
}

/// The loop.
#[derive(Debug)]
struct Drive<'a> {
    work: Work,
    desk: Desk<'a>,
    poller: Poller,
    signals: SignalPipe,
    running: Option<Running>,
    buffer: Vec<u8>,
    effects: Vec<Effect>,
    leave: Option<Exit>,
}

pub(crate) fn run(args: &RunArgs, env: &Environment) -> Result<Exit, Failure> {
    // What nohup started stays when the terminal goes.
    let hup = (!os::signals::is_ignored(Signal::Hup)).then_some(Signal::Hup);
    let handled: Vec<Signal> = [Signal::Term, Signal::Int].into_iter().chain(hup).collect();
    let signals =
        SignalPipe::new(&handled).map_err(|error| Failure::Kernel { what: "cannot handle signals", error })?;
    let begin::Begun { desk, rules, found, spent, stops } = begin::begin(args, env, &signals)?;
    let kernel = |error| Failure::Kernel { what: "cannot wait for events", error };
    let poller = Poller::new().map_err(kernel)?;
    poller.add(&signals, SIGNALS, Interest::Readable).map_err(kernel)?;
    let mut drive = Drive {
        work: Work::new(rules),
        desk,
        poller,
        signals,
        running: None,
        buffer: vec![0; CHUNK_BYTES],
        effects: Vec::new(),
        leave: None,
    };
    drive.desk.ready();
    for stop in stops.into_iter().filter_map(stop_of) {
        drive.feed(Event::Stop(stop));
    }
    drive.feed(Event::Begin { found, spent });
    let mut ready = Vec::new();
    loop {
        if let Some(exit) = drive.leave {
            drive.desk.farewell(exit);
            return Ok(exit);
        }
        let now_ms = os::clock::boottime_ms();
        let timeout_ms = drive.work.deadline_ms(now_ms).map(|deadline| deadline.saturating_sub(now_ms));
        drive.poller.wait(timeout_ms, &mut ready).map_err(kernel)?;
        for Ready { token, .. } in &ready {
            match *token {
                SIGNALS => drive.take_signals(),
                STDOUT => drive.pump(Pipe::Stdout),
                STDERR => drive.pump(Pipe::Stderr),
                _ => drive.reap(),
            }
        }
        drive.feed(Event::Tick);
    }
}

impl Drive<'_> {
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
                Effect::Terminate => self.signal(os::process::Send::Term),
                Effect::Kill => self.signal(os::process::Send::Kill),
                Effect::Leave(code) => self.leave = Some(code.into()),
                Effect::Heartbeat => self.desk.heartbeat(),
                Effect::Phase(phase) => self.desk.phase(phase),
                Effect::Note(note) => self.desk.note(&note),
                Effect::Settle(fate) => self.desk.settle(fate),
                Effect::Close(reason) => self.desk.close(reason),
            }
        }
        self.desk.end_round();
        self.effects = effects;
        next
    }

    fn start(&mut self, launch: policy::work::Launch) -> Event<'static> {
        let Some(program) = self.desk.prepare(launch) else { return Event::Missing };
        let child = match Child::spawn(&program, self.desk.cwd()) {
            Ok(child) => child,
            Err(error) => return self.desk.not_started(&error),
        };
        let watched = self.poller.add(&child, CLI, Interest::Readable);
        let watched = watched.and_then(|()| self.poller.add(&child.stdout, STDOUT, Interest::Readable));
        if let Err(error) = watched.and_then(|()| self.poller.add(&child.stderr, STDERR, Interest::Readable)) {
            child.send(os::process::Send::Kill).ok();
            return self.desk.not_started(&error);
        }
        self.desk.started(child.identity());
        let (stdout_lines, stderr_lines) = (LineSplitter::default(), LineSplitter::default());
        self.running = Some(Running { child, stdout_lines, stderr_lines });
        Event::Started
    }

    fn signal(&mut self, signal: os::process::Send) {
        if let Some(running) = &self.running
            && let Err(error) = running.child.send(signal)
        {
            self.desk.status(&format!("the CLI cannot be signalled: {error}"));
        }
    }

    fn take_signals(&mut self) {
        for stop in self.signals.take().into_iter().filter_map(stop_of) {
            self.desk.stopping();
            self.feed(Event::Stop(stop));
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
            self.lines(pipe, Some(buffer.get(..bytes).unwrap_or_default()));
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
        // All that it said comes before its end. A tool that it left behind may hold the pipe open: nobody waits for that.
        for pipe in [Pipe::Stdout, Pipe::Stderr] {
            while self.read_chunk(pipe) {}
            self.lines(pipe, None);
        }
        self.running = None;
        // By its own will it ends its tools and servers, too, and what it leaves running is meant to run on.
        self.desk.ended(matches!(ended, Ended::Code(0..=128)));
        self.feed(Event::Exited(match ended {
            Ended::Code(code) => CliExit::Code(code),
            Ended::Signal(signal) => CliExit::Signal(signal),
        }));
    }
}

fn stop_of(signal: Signal) -> Option<Stop> {
    match signal {
        Signal::Term | Signal::Hup => Some(Stop::Terminate),
        Signal::Int => Some(Stop::Interrupt),
        Signal::Child | Signal::User1 | Signal::WindowChange => None,
    }
}

/// What is heard goes to the loop, the log and the ledger.
struct Ear<'a, 'b> {
    drive: &'a mut Drive<'b>,
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

    fn event(&mut self, line: &[u8]) {
        self.drive.desk.event(line);
    }

    fn cli_said(&mut self, text: &str) {
        self.drive.desk.cli_said(text);
    }

    fn answered(&mut self, assistant: &wire::claude::Assistant<'_>) -> bool {
        let new = self.drive.desk.answered(assistant);
        let spent = self.drive.desk.spent();
        self.drive.feed(Event::Spent(spent));
        new
    }

    fn finished(&mut self, id: &str, usage: wire::claude::Usage) {
        self.drive.desk.finished(id, usage);
        let spent = self.drive.desk.spent();
        self.drive.feed(Event::Spent(spent));
    }

    fn is_main(&self, id: &str) -> bool {
        self.drive.desk.is_main(id)
    }

    fn cost(&mut self, ending: &wire::claude::Ending<'_>) {
        self.drive.desk.cost(ending);
        let spent = self.drive.desk.spent();
        self.drive.feed(Event::Spent(spent));
    }

    fn at_ms(&self, epoch_s: u64) -> u64 {
        // Some write milliseconds where seconds are meant.
        let epoch_ms = if epoch_s > 100_000_000_000 { epoch_s } else { epoch_s.saturating_mul(1_000) };
        let in_ms = epoch_ms.saturating_sub(os::clock::wall_ms());
        os::clock::boottime_ms().saturating_add(in_ms)
    }
}
