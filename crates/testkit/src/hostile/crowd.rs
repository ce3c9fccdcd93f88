//! The processes that a hostile worker starts: each a second start of this program with words of its own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::life::Alarm;

/// Nothing that is started here outlives a test by much, whatever happens to the test.
const LIFETIME_MS: u64 = 120_000;
/// Of each kind in the trap. With the worker itself that makes 22.
const OF_EACH_KIND: usize = 7;
/// Between two starts of a bomb's process: it goes on growing while it is being killed.
const BOMB_INTERVAL: Duration = Duration::from_millis(2);

/// How a process gets away from the one that starts it.
#[derive(Clone, Copy, Debug)]
enum Escape {
    /// Stays in the process group.
    None,
    /// A session of its own.
    Session,
    /// A session of its own, and the parent between is gone.
    DoubleFork,
}

/// 21 processes that heed no SIGTERM, a third of each kind.
pub(super) fn trap() {
    let words = format!("ignore-term after_ms={LIFETIME_MS}");
    for escape in [Escape::None, Escape::Session, Escape::DoubleFork] {
        for _ in 0..OF_EACH_KIND {
            start(escape, &words);
        }
    }
}

/// Starts processes that start processes, `count` in all, each with half of what its parent has left.
pub(super) fn bomb(count: usize, alarm: &mut Alarm) {
    let mut left = count;
    while left > 0 {
        let share = left.div_ceil(2);
        let escape = if left.is_multiple_of(2) { Escape::Session } else { Escape::None };
        start(escape, &format!("ignore-term after_ms={LIFETIME_MS} bomb={}", share - 1));
        left -= share;
        if alarm.wait(Some(BOMB_INTERVAL)) {
            return;
        }
    }
}

fn start(escape: Escape, words: &str) {
    let (first_word, ends_at_once) = match escape {
        Escape::None => ("stay", false),
        Escape::Session => ("session", false),
        Escape::DoubleFork => ("double-fork", true),
    };
    let Ok(mut child) = start_again(first_word, words) else { return };
    if ends_at_once {
        child.wait().ok();
    }
}

/// Gets away as told: the beginning of a second start of this program.
pub(super) fn get_away(how: &str, words: &str) {
    match how {
        // Fails only where this is the leader of a group already, which a freshly forked process is not.
        "session" => drop(rustix::process::setsid()),
        "double-fork" => {
            start_again("session", words).ok();
            std::process::exit(0);
        }
        _ => {}
    }
}

fn start_again(how: &str, words: &str) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["--escape", how, words])
        .env_remove("HOSTILE_STAMP")
        .stdin(Stdio::null())
        .spawn()
}
