//! The machine's notes as sentences, for the terminal and for `status`.

use policy::supervisor::{Band, Command, Exit, MemoryReading, Note, Reason, StartFailure, VictimSignal, Waiting};

use crate::launch::Launching;

/// How a run ended.
pub(crate) fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(signal) => format!("killed by {}", signal_name(signal)),
        Exit::OutOfMemory => "killed by the kernel for want of memory (OOM killer)".to_owned(),
        Exit::Unseen => "its end was seen by nobody (its shim was killed, or had no room to note it)".to_owned(),
    }
}

fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 10] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (15, "SIGTERM"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == signal);
    known.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

/// How a run ended that was told to, or not.
pub(crate) fn ended(how: Exit, told: Option<&Reason>) -> String {
    match told {
        None | Some(Reason::Exited(_) | Reason::CannotStart(_)) => exit(how),
        Some(Reason::Stalled) => format!("ended as stalled ({})", exit(how)),
        Some(Reason::Memory) => format!("ended for want of memory ({})", exit(how)),
        Some(Reason::Operator(command)) => format!("ended by {} ({})", command_name(*command), exit(how)),
    }
}

pub(crate) fn reason(reason: &Reason, launching: &Launching) -> String {
    match reason {
        Reason::Exited(how) => format!("the worker ended: {}", exit(*how)),
        Reason::CannotStart(failure) => launching.sentence(failure),
        Reason::Stalled => "the worker was stalled".to_owned(),
        Reason::Memory => "memory was critical".to_owned(),
        Reason::Operator(command) => format!("{} by the operator", command_name(*command)),
    }
}

pub(crate) fn command_name(command: Command) -> &'static str {
    match command {
        Command::StartWorker => "start-worker",
        Command::StopWorker => "stop-worker",
        Command::RestartWorker => "restart-worker",
        Command::Shutdown => "stop",
    }
}

pub(crate) fn band(band: Band) -> &'static str {
    match band {
        Band::Normal => "normal",
        Band::Low => "low",
        Band::Critical => "critical",
    }
}

/// One note, one line or two; none for what the terminal need not say.
pub(crate) fn note(note: &Note, worker_pid: Option<u32>, launching: &Launching) -> Option<String> {
    let pid = worker_pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    Some(match note {
        Note::Starting { .. } => "Spawning worker...".to_owned(),
        Note::Started { .. } => format!("Worker started with PID {pid}"),
        Note::Adopted { .. } => format!("Worker {pid} was running already; it goes on"),
        Note::StaysStopped => {
            "Worker stays stopped: stop-worker by the operator\nhint: to have it work again: autopilotd start-worker"
                .to_owned()
        }
        Note::Unverified { run } => format!("Run {} is left alone, and no worker started beside it", run.0),
        Note::Ended { exit: how, told, lived_ms, .. } => {
            format!("Worker {pid} ended after {}: {}", duration(*lived_ms), ended(*how, told.as_ref()))
        }
        Note::CannotStart { failure, .. } => launching.error(failure),
        Note::Waiting { delay_ms, failures, kind } => waiting(*delay_ms, *failures, *kind),
        Note::Succeeded { .. } => format!("Worker {pid} runs well; backoff is reset"),
        Note::Stalled { silent_ms, repeats_itself: true, .. } => format!(
            "Worker {pid} stalled: nothing new in its log for {}, only the same again and again; \
             sending SIGTERM, later SIGKILL",
            duration(*silent_ms)
        ),
        Note::Stalled { silent_ms, .. } => format!(
            "Worker {pid} stalled: no activity for {}; sending SIGTERM, later SIGKILL\n\
             hint: long builds? raise restart.stall_timeout_ms",
            duration(*silent_ms)
        ),
        Note::StallTolerated { silent_ms, .. } => format!(
            "Worker {pid} shows no activity for {}, but was ended for that too often within an hour; leaving it alone\n\
             hint: raise restart.stall_timeout_ms, or restart.max_stall_kills_per_hour",
            duration(*silent_ms)
        ),
        Note::MemoryBand { band: now, reading } => format!("Memory is {}: {}", band(*now), memory(*reading)),
        Note::MemoryPressure { percent } => {
            format!("Memory is under pressure: processes waited for it during {percent} % of the last 10 s")
        }
        Note::Victim { pid: victim, bytes, signal, .. } => {
            let signal = match signal {
                VictimSignal::Term => "SIGTERM",
                VictimSignal::Kill => "SIGKILL",
            };
            format!(
                "Memory is low: sent {signal} to process {victim} of the worker's tree, which holds {}",
                size(*bytes)
            )
        }
        Note::MemoryRestart { tree_bytes, .. } => {
            format!("Memory is critical, and the worker's tree holds {}: restarting it", size(*tree_bytes))
        }
        Note::MemoryElsewhere { tree_bytes, .. } => format!(
            "Memory is critical, but the worker's tree holds only {}: leaving it alone\n\
             hint: see what fills the memory: ps aux --sort=-rss | head",
            size(*tree_bytes)
        ),
        Note::Asked { command: Command::Shutdown } => "Stopping autopilotd...".to_owned(),
        Note::Asked { .. } => return None,
    })
}

fn waiting(delay_ms: u64, failures: u32, kind: Waiting) -> String {
    let delay = duration(delay_ms);
    match kind {
        Waiting::Backoff => format!("Restarting worker in {delay} (failure {failures} in a row)"),
        Waiting::QuickExit => format!("Restarting worker in {delay} (it ended well, but soon)"),
        Waiting::Consecutive => format!(
            "Worker failed {failures} times in a row; next attempt in {delay}\n\
             hint: mend what is wrong, then: autopilotd restart-worker"
        ),
        Waiting::PerHour => format!(
            "Worker failed too often within an hour; next attempt in {delay}\n\
             hint: mend what is wrong, then: autopilotd restart-worker"
        ),
    }
}

/// `4.2 GB / 16.0 GB available`, where a GB is 2^30 bytes, as in the thresholds.
#[must_use]
pub fn memory(reading: MemoryReading) -> String {
    format!("{} / {} available", gigabytes(reading.available_bytes), gigabytes(reading.total_bytes))
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / f64::from(1 << 30))
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 30 { format!("{} MB", bytes >> 20) } else { gigabytes(bytes) }
}

/// Short, for people.
#[must_use]
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..10 if !ms.is_multiple_of(1_000) => format!("{}.{} s", seconds, ms % 1_000 / 100),
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// What to do about a worker that can't be started.
pub(crate) fn start_failure(failure: &StartFailure) -> &'static str {
    match failure {
        StartFailure::NotFound => "no such file",
        StartFailure::NotExecutable => "permission denied",
        StartFailure::NotAProgram => "not a program",
        StartFailure::WorkingDirectory => "the working directory can't be entered",
        StartFailure::Resources(_) => "the machine has no room for it",
        StartFailure::Other(_) => "the kernel refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let reading = MemoryReading { available_bytes: 4_509_715_660, total_bytes: 16 << 30, pressure_percent: 0 };
        assert_eq!(memory(reading), "4.2 GB / 16.0 GB available");
        let shown: Vec<String> =
            [0, 50, 1_000, 1_250, 60_000, 300_000, 90_000_000, 1_000_000_000].into_iter().map(duration).collect();
        assert_eq!(shown, ["0 s", "0.0 s", "1 s", "1.2 s", "60 s", "5 min", "25 h", "11 days"]);
        assert_eq!(size(700 << 20), "700 MB");
        assert_eq!(ended(Exit::Signal(9), None), "killed by SIGKILL");
    }
}
