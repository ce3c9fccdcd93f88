//! What a worker that died has left behind: a log without its end, and perhaps an agent that nobody listens to.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use os::poll::{Interest, Poller, Token};
use os::process::{Identity, Pidfd, Send};
use os::signals::{Signal, SignalPipe};
use wire::claude::{Asking, Decoded, decode};
use wire::rlog::{Entry, Tail, tail};

use crate::environment::MARK;
use crate::job::CliProcess;
use crate::ledger::dollars;
use os::append::Appender;
use queue::Totals;

/// How much of a log is looked at to find its last line.
const TAIL_BYTES: u64 = 64 << 10;

/// How much of the full events is looked at to tell what the agent did last: more than one result of a tool.
const EVENTS_BYTES: u64 = 1 << 20;

/// Whether the agent of this log waited for an answer when nobody listened any more. A log that cannot be read tells of none.
pub(crate) fn was_asking(rlog: &Path) -> bool {
    let mut asking = Asking::default();
    for line in last_bytes(&rlog.with_extension("jsonl"), EVENTS_BYTES).unwrap_or_default().split(|byte| *byte == b'\n')
    {
        if let Decoded::Message(message) = decode(line) {
            asking.see(&message);
        }
    }
    asking.is_under_way()
}

fn last_bytes(path: &Path, count: u64) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(count)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Gives a log its `@end` if it has none. `false`: it had one, or there is no such log.
pub(crate) fn close_log(path: &Path, totals: Totals) -> io::Result<bool> {
    let bytes = match last_bytes(path, TAIL_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let Tail::Open { torn } = tail(&bytes) else { return Ok(false) };
    let end = Entry::End {
        tokens_in: totals.tokens_in,
        tokens_out: totals.tokens_out,
        cost_usd: dollars(totals.cost_micros),
        reason: "killed",
    };
    let line = format!("{}{}", if torn { "\n" } else { "" }, end.line());
    Appender::open(path, 0o644)?.append(line.as_bytes())?;
    Ok(true)
}

/// What became of an agent that was left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orphan {
    Gone,
    Ended,
    /// It does not even die of SIGKILL, or may not be touched.
    Stays,
}

/// Ends the agent of a dead worker: by its pid and start time and boot, so that nothing else is ever hit. A stop that
/// arrives meanwhile is put into `stops` and makes this quick.
pub(crate) fn end_orphan(cli: &CliProcess, signals: &SignalPipe, stops: &mut Vec<Signal>) -> io::Result<Orphan> {
    let identity = Identity { pid: cli.pid, start_ticks: cli.start_ticks };
    // Without a start time (hidden /proc) nobody can tell whether it is still the same process.
    if cli.boot_id != os::clock::boot_id() || cli.start_ticks == 0 {
        return Ok(Orphan::Gone);
    }
    let Some(pidfd) = Pidfd::open(identity)? else { return Ok(Orphan::Gone) };
    let poller = Poller::new()?;
    poller.add(&pidfd, Token(0), Interest::Readable)?;
    poller.add(signals, Token(1), Interest::Readable)?;
    let mut ready = Vec::new();
    for (signal, patience_ms) in [(Send::Term, 3_000), (Send::Kill, 2_000)] {
        if !pidfd.send(signal)? {
            return Ok(Orphan::Ended);
        }
        let deadline = os::clock::monotonic_ms() + patience_ms;
        loop {
            let now = os::clock::monotonic_ms();
            if now >= deadline || (signal == Send::Term && !stops.is_empty()) {
                break;
            }
            poller.wait(Some(deadline - now), &mut ready)?;
            if ready.iter().any(|ready| ready.token == Token(0)) {
                return Ok(Orphan::Ended);
            }
            stops.extend(signals.take());
        }
    }
    Ok(Orphan::Stays)
}

/// Kills what a dead CLI has left running: tools in sessions of their own, MCP servers. They are known by what they were
/// started with, wherever they hang in the process tree; says how many there were.
pub(crate) fn end_left_behind(mark: &str) -> io::Result<usize> {
    let mut killed = 0;
    if mark.is_empty() {
        return Ok(killed);
    }
    let entry = format!("{MARK}={mark}");
    // A tool that was forking just then is found the second time; a bound, for nothing here may last for ever.
    for _ in 0..8 {
        let left = os::tree::started_with(entry.as_bytes())?;
        if left.is_empty() {
            break;
        }
        killed += os::tree::kill_each(&left);
    }
    Ok(killed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rlog");
        std::fs::write(&path, before).unwrap();
        let totals = Totals { tokens_in: 3, tokens_out: 2, cost_micros: 1_500 };
        assert_eq!(close_log(&path, totals).unwrap(), after.is_some());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), after.unwrap_or(before));
    }

    #[test]
    fn a_log_gets_its_end_exactly_once() {
        let end = "@end tokens_in=3 tokens_out=2 cost_usd=0.0015 reason=killed\n";
        check("a: x\n", Some(&format!("a: x\n{end}")));
        check("a: tor", Some(&format!("a: tor\n{end}")));
        check(&format!("a: x\n{end}"), None);
        assert!(!close_log(Path::new("/nonexistent/a.rlog"), Totals::default()).unwrap());
    }
}
