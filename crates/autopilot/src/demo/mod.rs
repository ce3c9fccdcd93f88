//! `autopilot demo`: the real daemon and the real worker in a throw-away home, and what becomes of six mishaps.
//!
//! Only the agent may be a stand-in. This process starts the daemon, does the mischief with signals through pidfds, and
//! reads what happened from where an operator would: the daemon's words, its status, its records of the runs, and the
//! worker's logs. **Invariants:** a line that claims something was checked; whatever happens, all that was started is
//! ended, all that was written is removed, and both are verified.

mod acts;
mod agents;
mod cast;
mod checks;
mod logs;
mod plot;
mod screen;
mod stage;
mod standin;
mod strike;
mod sweep;
mod tool;
mod traces;
mod watch;

use std::process::ExitCode;

use os::signals::{Signal, SignalPipe};

use crate::cli::report::{Exit, Failure};
use crate::cli::worker::Agent;
use agents::Casting;
use screen::Screen;
use stage::Stage;
use watch::{Trouble, Watch};

pub use cast::{Part, part};

/// The whole command.
pub fn main(agent: Agent) -> ExitCode {
    match begin(agent) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn begin(agent: Agent) -> Result<ExitCode, Failure> {
    let casting = Casting::of(agent)?;
    let kernel = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| Failure::new(Exit::Internal, format!("cannot {what}: {error}"))
    };
    // Before anything is there that would have to be removed: from here on a signal leads to the cleaning up.
    let signals = SignalPipe::new(&[Signal::Int, Signal::Term, Signal::Hup]).map_err(kernel("handle signals"))?;
    os::fork::become_subreaper().map_err(kernel("adopt what is orphaned"))?;
    let stage = Stage::claim()?;
    let screen = Screen::new();
    let mut watch = Watch::new(stage, casting, screen, signals).map_err(kernel("wait for events"))?;
    let played = acts::play(&mut watch);
    Ok(finish(watch, played))
}

/// Cleans up, says so, and turns what happened into an exit code.
fn finish(mut watch: Watch, played: Result<(), Trouble>) -> ExitCode {
    let failure = played.err().map(|trouble| {
        watch.screen.failed(&trouble.to_string());
        (trouble.code(), trouble.to_string(), watch.circumstances())
    });
    let seconds = watch.screen.seconds();
    let real = watch.casting.is_real();
    let (mut screen, left) = watch.strike();
    if left.is_empty() {
        screen.plain("Left behind: nothing. No process and no file of the demo is there any more.");
        if real {
            screen.plain("(Claude Code itself keeps a note of each session's start; it clears such notes away.)");
        }
    }
    let (code, failure) = match failure {
        None if left.is_empty() => {
            screen.plain(&format!("All six did what they claim, in {seconds:.1} s."));
            return ExitCode::SUCCESS;
        }
        None => (Exit::Internal as u8, Failure::new(Exit::Internal, "the demo left something behind")),
        Some((code, what, circumstances)) => {
            let failure = Failure::with_code(code, format!("the demo ended early: {what}"));
            (code, circumstances.into_iter().fold(failure, Failure::hint))
        }
    };
    let failure = left.into_iter().fold(failure, |failure, what| failure.hint(format!("left behind: {what}")));
    failure.report();
    ExitCode::from(code)
}
