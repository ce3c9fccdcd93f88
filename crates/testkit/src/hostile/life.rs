//! One life of the hostile worker, from its first word to its end.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level;

use super::crowd;
use super::words::{Leak, Words};

/// How often `beats_while` beats.
const BEAT_INTERVAL: Duration = Duration::from_millis(100);
/// How often a leak grows.
const LEAK_INTERVAL: Duration = Duration::from_millis(10);
const LEAK_INTERVALS_PER_SECOND: u64 = 100;

/// Lives as told and returns the exit code.
pub(super) fn live(words: &Words) -> u8 {
    let started = Instant::now();
    let mut alarm = Alarm::new(words.ignore_term);
    if let Some(file) = words.beats_while.clone() {
        std::thread::spawn(move || beat_while(&file));
    }
    words.notifications.iter().for_each(|line| notify(line));
    if !spew(words.spew_bytes) {
        return 1;
    }
    if words.trap {
        crowd::trap();
    }
    if words.bomb > 0 {
        crowd::bomb(words.bomb, &mut alarm);
    }
    let mut leak = words.leak.map(Leaking::new);
    let mut heartbeat = words.watchdog.map(|interval| (interval, started));
    let mut writing = words.rlog_interval.filter(|_| words.rlog.is_some()).map(|interval| (interval, started));
    let end = words.after.map(|after| started + after);

    loop {
        let now = Instant::now();
        if end.is_some_and(|end| end <= now) {
            break;
        }
        if due(&mut heartbeat, now) {
            notify("WATCHDOG=1");
        }
        if due(&mut writing, now) {
            append_line(words.rlog.as_deref().unwrap_or_default());
        }
        leak = leak.and_then(|leak| leak.grow(now));
        let next = [end, heartbeat.map(|(_, at)| at), writing.map(|(_, at)| at), leak.as_ref().map(|leak| leak.next)];
        if alarm.wait(next.into_iter().flatten().min().map(|at| at.saturating_duration_since(now))) {
            return 0;
        }
    }
    if let Some(signal) = words.die {
        low_level::raise(signal).expect("raise a signal");
        low_level::emulate_default_handler(signal).expect("die of a signal");
    }
    words.exit
}

/// Says whether something periodic is due, and sets when it is next.
fn due(periodic: &mut Option<(Duration, Instant)>, now: Instant) -> bool {
    match periodic {
        Some((interval, at)) if *at <= now => {
            *at = now + *interval;
            true
        }
        _ => false,
    }
}

/// Wakes up at SIGTERM, SIGINT or SIGHUP, and at nothing when they are ignored.
#[derive(Debug)]
pub(super) struct Alarm {
    bell: UnixStream,
    deaf: bool,
}

impl Alarm {
    pub(super) fn new(deaf: bool) -> Self {
        let (bell, rope) = UnixStream::pair().expect("a socket pair");
        bell.set_nonblocking(true).expect("a non-blocking socket");
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            let rope = rope.try_clone().expect("share a socket");
            low_level::pipe::register(signal, rope).expect("take over a signal");
        }
        Self { bell, deaf }
    }

    /// Waits so long, or for ever; true at a signal that is heeded.
    pub(super) fn wait(&mut self, longest: Option<Duration>) -> bool {
        let longest = longest.map(|longest| Timespec::try_from(longest).expect("a short while"));
        let mut fds = [PollFd::new(&self.bell, PollFlags::IN)];
        if !matches!(poll(&mut fds, longest.as_ref()), Ok(1..)) {
            return false;
        }
        let rung = matches!(self.bell.read(&mut [0; 16]), Ok(1..));
        rung && !self.deaf
    }
}

fn notify(line: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // The supervisor may be away for a moment: the kernel then refuses, and a real worker would go on, too.
    UnixDatagram::unbound().and_then(|datagram| datagram.send_to(line.as_bytes(), socket)).ok();
}

/// Not kept from it by whatever else this process does.
fn beat_while(file: &str) {
    while std::path::Path::new(file).exists() {
        notify("WATCHDOG=1");
        std::thread::park_timeout(BEAT_INTERVAL);
    }
}

fn append_line(path: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(b"a: still here\n")).expect("write to the log");
}

/// False when nobody takes it any more.
fn spew(bytes: u64) -> bool {
    let line = [b'x'; 127].iter().chain(b"\n").copied().collect::<Vec<u8>>();
    let block = line.repeat(512);
    let mut stdout = std::io::stdout().lock();
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        if stdout.write_all(&block[..piece]).is_err() {
            return false;
        }
        left -= piece as u64;
    }
    stdout.flush().is_ok()
}

struct Leaking {
    leak: Leak,
    held: Vec<Vec<u8>>,
    held_bytes: u64,
    next: Instant,
}

impl Leaking {
    fn new(leak: Leak) -> Self {
        Self { leak, held: Vec::new(), held_bytes: 0, next: Instant::now() }
    }

    /// `None` once it is as large as it may become; what it holds is then lost for good.
    fn grow(mut self, now: Instant) -> Option<Self> {
        if now < self.next {
            return Some(self);
        }
        self.next = now + LEAK_INTERVAL;
        let step = (self.leak.bytes_per_second / LEAK_INTERVALS_PER_SECOND).max(1);
        // Ones: a page of zeros would not be there until it is written to.
        self.held.push(vec![1; usize::try_from(step).unwrap_or(usize::MAX)]);
        self.held_bytes += step;
        if self.held_bytes < self.leak.cap_bytes {
            return Some(self);
        }
        std::mem::forget(self.held);
        None
    }
}
