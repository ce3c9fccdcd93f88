//! How both programs speak when something is wrong: what happened, why, what to do.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use daemon::config::{Fault, Place, Problem, Problems};

/// The exit codes of `autopilotd`. Documented in its help and in the README; a script may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Internal = 1,
    Usage = 2,
    NoDaemon = 3,
    AlreadyRunning = 4,
    Config = 5,
    Refused = 6,
}

impl Exit {
    /// Each code with its meaning.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Ok, "done"),
        (Self::Internal, "internal error"),
        (Self::Usage, "wrong usage"),
        (Self::NoDaemon, "no daemon answers"),
        (Self::AlreadyRunning, "a daemon already runs for this home"),
        (Self::Config, "a setting is wrong"),
        (Self::Refused, "the command was refused"),
    ];
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Something that stops the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    reports: Vec<Report>,
}

/// One sentence, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    message: String,
    hints: Vec<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Display) -> Self {
        Self::with_code(exit as u8, message)
    }

    /// For `autopilot`, whose exit codes are the worker's.
    pub fn with_code(code: u8, message: impl Display) -> Self {
        Self { code, reports: vec![Report { message: message.to_string(), hints: Vec::new() }] }
    }

    /// Adds a hint to the last sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        if let Some(report) = self.reports.last_mut() {
            report.hints.push(hint.to_string());
        }
        self
    }

    /// The first sentence.
    pub fn message(&self) -> &str {
        self.reports.first().map_or("", |report| &report.message)
    }

    /// Writes the sentences to stderr.
    pub fn report(&self) -> ExitCode {
        // Nobody is left to tell if stderr is gone.
        self.write(&mut io::stderr().lock()).ok();
        ExitCode::from(self.code)
    }

    /// `error: …` and `hint: …`, a line each.
    ///
    /// # Errors
    /// As of the writer.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        for (n, report) in self.reports.iter().enumerate() {
            if n > 0 {
                writeln!(to)?;
            }
            writeln!(to, "error: {}", printable(&report.message))?;
            for hint in &report.hints {
                writeln!(to, "hint: {}", printable(hint))?;
            }
        }
        Ok(())
    }
}

/// `note: …` and `hint: …`: worth knowing, stops nothing.
///
/// # Errors
/// As of the writer.
pub fn note(to: &mut impl Write, message: impl Display, hint: Option<&str>) -> io::Result<()> {
    writeln!(to, "note: {}", printable(&message.to_string()))?;
    match hint {
        Some(hint) => writeln!(to, "hint: {}", printable(hint)),
        None => Ok(()),
    }
}

/// On stdout.
///
/// # Errors
/// As of [`written`].
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    written(io::stdout().lock().write_all(text.as_bytes()))
}

/// Somebody who closed the pipe wants no more; that is no failure.
pub(crate) fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(Exit::Internal, format!("cannot write to stdout: {error}"))),
    }
}

/// A path or a line of a file may hold what would drive the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

impl From<Problems> for Failure {
    /// A wrong flag is wrong usage; everything else is a wrong setting.
    fn from(Problems(problems): Problems) -> Self {
        let is_usage = |problem: &Problem| {
            matches!(problem.place, Place::Flag(_)) && !matches!(problem.fault, Fault::WorkingDir { .. })
        };
        let exit = if problems.iter().all(is_usage) { Exit::Usage } else { Exit::Config };
        let reports = problems
            .iter()
            .map(|problem| Report { message: problem.to_string(), hints: problem.hint().into_iter().collect() });
        Self { code: exit as u8, reports: reports.collect() }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Problems::from(problem).into()
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Failure, note};
    use daemon::config::{Fault, Place, Problem, Problems};

    fn written(failure: &Failure) -> String {
        let mut bytes = Vec::new();
        failure.write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_failure_reads_as_the_house_style_demands() {
        let failure = Failure::new(Exit::AlreadyRunning, "autopilotd already runs for this home (pid 4121, up 3 h)")
            .hint("`autopilotd status` shows it; `autopilotd stop` ends it");
        assert_eq!(
            written(&failure),
            "error: autopilotd already runs for this home (pid 4121, up 3 h)\n\
             hint: `autopilotd status` shows it; `autopilotd stop` ends it\n"
        );
        assert_eq!(failure.code, 4);
    }

    #[test]
    fn every_problem_of_the_settings_is_written() {
        let problem = |place| Problem { place, fault: Fault::NoHome };
        let failure = Failure::from(Problems(vec![problem(Place::Nowhere), problem(Place::Flag("--model"))]));
        assert_eq!(written(&failure).matches("error: ").count(), 2);
        assert_eq!(failure.code, Exit::Config as u8);
        assert_eq!(Failure::from(problem(Place::Flag("--model"))).code, Exit::Usage as u8);
    }

    #[test]
    fn nothing_written_drives_the_terminal() {
        let mut bytes = Vec::new();
        note(&mut bytes, "a\x1b[31mred", Some("b\rc")).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "note: a\u{fffd}[31mred\nhint: b\u{fffd}c\n");
    }

    #[test]
    fn the_codes_are_those_of_the_documentation() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| *exit as u8).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6]);
    }
}
