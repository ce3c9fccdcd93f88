//! A week of a supervisor's life in minutes: crashes, stalls, leaks, floods of output, operators, curious clients, and a
//! daemon that is killed once a day. What it holds of the machine must not grow.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::home::{Binaries, DEADLINE, Home, Started};
use crate::random::Random;
use crate::vitals;

/// Looks a day.
const LOOKS: usize = 12;
/// Two descriptors more may be a process that is just being ended.
const DESCRIPTORS_MORE: usize = 3;
/// Page tables and the allocator's rounding; a leak of 100 bytes for each of ten thousand runs would be more.
const RSS_MORE_KIB: u64 = 384;
/// The journal, the worker's output, the records of twenty runs and of a few incidents, each with its bound.
const DISK_KIB: u64 = 12 << 10;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub binaries: Binaries,
    /// The hostile worker.
    pub worker: PathBuf,
    pub days: usize,
    /// How long a day takes.
    pub day: Duration,
    pub seed: u64,
}

/// What one look at the daemon found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub day: usize,
    pub runs: u64,
    pub descriptors: usize,
    pub rss_kib: u64,
    pub zombies: usize,
    pub disk_kib: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub looks: Vec<Look>,
    pub broken: Vec<String>,
}

/// # Panics
/// When the daemon does not answer.
pub fn run(plan: &Plan) -> Report {
    let mut life = Life::new(plan);
    let mut report = Report::default();
    for day in 0..plan.days {
        if day > 0 {
            life.replace_daemon();
        }
        for _ in 0..LOOKS {
            let until = Instant::now() + plan.day / u32::try_from(LOOKS).unwrap_or(1);
            while Instant::now() < until {
                life.something_happens();
            }
            let look = life.look(day);
            report.looks.push(look);
        }
    }
    report.broken = judge(&report.looks);
    report
}

/// Each day's daemon against itself at the end of its first quarter, and all days against the first.
fn judge(looks: &[Look]) -> Vec<String> {
    let mut broken = Vec::new();
    let settled = |looks: &[Look], of: fn(&Look) -> u64| looks.iter().skip(LOOKS / 4).take(LOOKS / 4).map(of).max();
    for day in looks.chunks(LOOKS) {
        let (Some(last), Some(first)) = (day.last(), looks.first()) else { continue };
        let descriptors = settled(looks, |look| look.descriptors as u64).unwrap_or(0);
        if last.descriptors as u64 > descriptors + DESCRIPTORS_MORE as u64 {
            broken.push(format!("{} descriptors, {descriptors} at first: {last:?}", last.descriptors));
        }
        let rss = settled(day, |look| look.rss_kib).unwrap_or(0);
        if last.rss_kib > rss + RSS_MORE_KIB {
            broken.push(format!("{} KiB of memory, {rss} earlier that day: {last:?}", last.rss_kib));
        }
        if last.zombies > 0 {
            broken.push(format!("zombies: {last:?}"));
        }
        if last.disk_kib > DISK_KIB {
            broken.push(format!("{} KiB on the disk, {} at first: {last:?}", last.disk_kib, first.disk_kib));
        }
    }
    broken
}

struct Life {
    home: Home,
    daemon: Started,
    random: Random,
}

impl Life {
    fn new(plan: &Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let mut home = Home::new(plan.binaries.clone());
        home.set_env("AUTOPILOT_WORKER_BINARY", &plan.worker);
        home.set_env("HOSTILE_PLAN", home.user_home().join("plan"));
        home.write_config(
            "[restart]\ninitial_backoff_ms = 1\nmax_backoff_ms = 100\nsuccess_threshold_ms = 40\n\
             max_consecutive_restarts = 5\nmax_restarts_per_hour = 0\nrecovery_cooldown_ms = 200\n\
             stall_timeout_ms = 400\nstall_grace_ms = 100\nmax_stall_kills_per_hour = 0\nstop_timeout_ms = 300\n\
             [memory]\npoll_interval_ms = 20\n[output]\nmax_file_bytes = 65536\nmax_files = 3\n",
        );
        let mut life = || match random.below(8) {
            0 => "after_ms=1 exit=1".to_owned(),
            1 => format!("ready watchdog_ms=20 after_ms={} exit=0", random.below(400)),
            2 => format!("ready spew={} after_ms={} exit=3", random.below(300_000), random.below(60)),
            3 => "ready trap after_ms=30 die=11".to_owned(),
            // Silent: a stall.
            4 => "ready".to_owned(),
            5 => "ignore-term ready watchdog_ms=20 after_ms=900".to_owned(),
            6 => format!("ready leak=20000000:8000000 watchdog_ms=20 after_ms={}", random.below(200)),
            _ => format!("ready status=busy phase=tool watchdog_ms=10 after_ms={} exit=2", random.below(300)),
        };
        let lines: String = (0..20_000).map(|_| life() + "\n").collect();
        std::fs::write(home.user_home().join("plan"), lines).expect("write the workers' plan");
        let mut daemon = home.start_daemon(["--prompt", "go on"]);
        assert!(!daemon.has_ended(), "{}", daemon.stderr());
        Self { home, daemon, random }
    }

    fn replace_daemon(&mut self) {
        self.daemon.kill();
        self.daemon = self.home.start_daemon(["--prompt", "go on"]);
    }

    fn something_happens(&mut self) {
        match self.random.below(12) {
            0 => drop(self.home.autopilotd(["restart-worker"])),
            1 => {
                self.home.autopilotd(["stop-worker"]);
                self.home.autopilotd(["start-worker"]);
            }
            2..=4 => drop(self.home.autopilotd(["status", "--json"])),
            5 => self.talk_nonsense(),
            _ => std::thread::park_timeout(Duration::from_millis(self.random.below(120))),
        }
    }

    fn talk_nonsense(&mut self) {
        use std::io::Write;
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(self.home.socket()) else { return };
        let words = 0..self.random.below(800);
        let bytes: Vec<u8> = words.flat_map(|_| self.random.below(u64::MAX).to_ne_bytes()).collect();
        // The daemon may have had enough.
        stream.write_all(&bytes).ok();
    }

    /// While a worker runs: then the daemon holds what it holds at all.
    fn look(&mut self, day: usize) -> Look {
        // Whatever was asked last.
        self.home.autopilotd(["start-worker"]);
        let status = self.home.wait_for_status("a worker runs", |status| status["worker_status"] == "running");
        let pid = self.daemon.pid();
        let zombies = zombies_below(pid);
        // One that stays, not one that is about to be collected.
        let stays = |pid: &i32| {
            let begun = Instant::now();
            while vitals::state(*pid) == Some('Z') {
                if begun.elapsed() > DEADLINE / 10 {
                    return true;
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            false
        };
        Look {
            day,
            runs: status["run"].as_u64().unwrap_or(0),
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
            rss_kib: vitals::rss_kib(pid),
            zombies: zombies.into_iter().filter(stays).count(),
            disk_kib: disk_bytes(&self.home.path()) / 1024,
        }
    }
}

fn zombies_below(pid: i32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
    children.filter(|pid| vitals::state(*pid) == Some('Z')).collect()
}

fn disk_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            // The worker's program is no record.
            Ok(_) if entry.path().components().any(|part| part.as_os_str() == "store") => 0,
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(change: impl Fn(usize, &mut Look)) -> Vec<Look> {
        let look = Look { day: 0, runs: 0, descriptors: 20, rss_kib: 3000, zombies: 0, disk_kib: 500 };
        (0..2 * LOOKS)
            .map(|number| {
                let mut look = look;
                change(number, &mut look);
                look
            })
            .collect()
    }

    #[test]
    fn what_grows_is_seen() {
        assert_eq!(judge(&day(|_, _| {})), [] as [&str; 0]);
        assert_ne!(judge(&day(|number, look| look.descriptors += number)), [] as [&str; 0]);
        assert_ne!(judge(&day(|number, look| look.rss_kib += 80 * (number % LOOKS) as u64)), [] as [&str; 0]);
        assert_ne!(judge(&day(|_, look| look.zombies = 1)), [] as [&str; 0]);
        assert_ne!(judge(&day(|number, look| look.disk_kib += 1000 * number as u64)), [] as [&str; 0]);
    }
}
