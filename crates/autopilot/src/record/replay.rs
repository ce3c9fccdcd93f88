//! `autopilot replay`: a log again, in the time that it took or faster.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use os::poll::{Interest, Poller, Ready, Token};
use os::signals::{Signal, SignalPipe};
use os::terminal::Keys;
use wire::rlog::read::Reader;
use worker::record::{Step, script};

use super::choose;
use crate::cli::record::Replay;
use crate::cli::report::{Exit, Failure, written};

const SIGNALS: Token = Token(0);
const KEYS: Token = Token(1);

const HELP: &str = "space: pause   enter: next line   + and -: speed   q: quit";

pub(crate) fn play(replay: &Replay) -> Result<(), Failure> {
    let log = choose(&replay.place, replay.run.as_deref())?;
    let cannot =
        |error: io::Error| Failure::new(Exit::Internal, format!("cannot replay {}: {error}", log.path.display()));
    let mut player = Player::new(replay).map_err(cannot)?;
    let paint = super::paint();
    if player.keys.is_some() {
        written(writeln!(io::stdout(), "{}", paint.dim(HELP)))?;
    }
    let mut reader = Reader::default();
    let mut told = Ok(());
    script(&log, |step| {
        match player.wait(&step) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                told = Err(error);
                return false;
            }
        }
        let mut out = io::stdout().lock();
        told = writeln!(out, "{}", paint.line(&mut reader, &step.line)).and_then(|()| out.flush());
        told.is_ok()
    })
    .map_err(cannot)?;
    written(told)
}

struct Player {
    poller: Poller,
    signals: SignalPipe,
    /// In a terminal only.
    keys: Option<Keys>,
    /// Nobody watches: there is nothing to wait for.
    paced: bool,
    speed: f64,
    max_pause_ms: f64,
    paused: bool,
    /// And not obeyed yet.
    pressed: VecDeque<u8>,
}

impl Player {
    fn new(replay: &Replay) -> io::Result<Self> {
        let poller = Poller::new()?;
        let signals = SignalPipe::new(&[Signal::Int, Signal::Term, Signal::Hup])?;
        poller.add(&signals, SIGNALS, Interest::Readable)?;
        let paced = io::stdout().is_terminal();
        let keys = if paced && io::stdin().is_terminal() { Keys::new(io::stdin().as_fd()).ok() } else { None };
        if let Some(keys) = &keys {
            poller.add(keys, KEYS, Interest::Readable)?;
        }
        let max_pause_ms = replay.max_pause * 1_000.0;
        Ok(Self {
            poller,
            signals,
            keys,
            paced,
            speed: replay.speed,
            max_pause_ms,
            paused: false,
            pressed: VecDeque::new(),
        })
    }

    /// Until it is the line's turn; `false`: it is enough.
    fn wait(&mut self, step: &Step) -> io::Result<bool> {
        #[expect(clippy::cast_precision_loss, reason = "a pause is bounded")]
        let full_ms = (step.after_ms as f64).min(self.max_pause_ms);
        let mut due_ms = os::clock::monotonic_ms() + milliseconds(full_ms / self.speed);
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            while let Some(key) = self.pressed.pop_front() {
                let before = self.speed;
                match key {
                    b'q' | b'Q' | 4 => return Ok(false),
                    b'\n' | b'\r' | b'n' => return Ok(true),
                    b' ' => self.paused = !self.paused,
                    b'+' | b'=' => self.speed = (self.speed * 2.0).min(100_000.0),
                    b'-' | b'_' => self.speed = (self.speed / 2.0).max(0.001),
                    _ => {}
                }
                #[expect(clippy::cast_precision_loss, reason = "a pause is bounded")]
                let left_ms = due_ms.saturating_sub(os::clock::monotonic_ms()) as f64;
                due_ms = os::clock::monotonic_ms() + milliseconds(left_ms * before / self.speed);
            }
            let left_ms = due_ms.saturating_sub(os::clock::monotonic_ms());
            let is_due = !self.paced || (left_ms == 0 && !self.paused);
            let timeout_ms = if is_due { Some(0) } else { (!self.paused).then_some(left_ms) };
            self.poller.wait(timeout_ms, &mut ready)?;
            if ready.iter().any(|event| event.token == SIGNALS) && !self.signals.take().is_empty() {
                return Ok(false);
            }
            if let Some(keys) = self.keys.as_ref().filter(|_| ready.iter().any(|event| event.token == KEYS)) {
                let pressed = keys.pressed()?;
                if pressed.is_empty() {
                    // Its other end is gone.
                    return Ok(false);
                }
                self.pressed.extend(pressed);
            } else if is_due {
                return Ok(true);
            }
        }
    }
}

fn milliseconds(ms: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    let whole = ms.round() as u64;
    whole
}
