//! The machine's reason, as the state file has it.

use policy::supervisor::{Command, Exit, Reason, StartFailure};
use serde::{Deserialize, Serialize};

use crate::text;

/// One of its members besides `kind` and what that needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Stored {
    Exited { exit: StoredExit },
    CannotStart { failure: StoredFailure },
    Stalled,
    Memory,
    Operator { verb: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StoredExit {
    Code(i32),
    Signal(i32),
    OutOfMemory,
    Unseen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StoredFailure {
    NotFound,
    NotExecutable,
    NotAProgram,
    WorkingDirectory,
    Resources(i32),
    Other(i32),
}

const COMMANDS: [Command; 4] = [Command::StartWorker, Command::StopWorker, Command::RestartWorker, Command::Shutdown];

impl From<&Reason> for Stored {
    fn from(reason: &Reason) -> Self {
        match reason {
            Reason::Exited(exit) => Self::Exited {
                exit: match exit {
                    Exit::Code(code) => StoredExit::Code(*code),
                    Exit::Signal(signal) => StoredExit::Signal(*signal),
                    Exit::OutOfMemory => StoredExit::OutOfMemory,
                    Exit::Unseen => StoredExit::Unseen,
                },
            },
            Reason::CannotStart(failure) => Self::CannotStart {
                failure: match failure {
                    StartFailure::NotFound => StoredFailure::NotFound,
                    StartFailure::NotExecutable => StoredFailure::NotExecutable,
                    StartFailure::NotAProgram => StoredFailure::NotAProgram,
                    StartFailure::WorkingDirectory => StoredFailure::WorkingDirectory,
                    StartFailure::Resources(errno) => StoredFailure::Resources(*errno),
                    StartFailure::Other(errno) => StoredFailure::Other(*errno),
                },
            },
            Reason::Stalled => Self::Stalled,
            Reason::Memory => Self::Memory,
            Reason::Operator(command) => Self::Operator { verb: text::command_name(*command).to_owned() },
        }
    }
}

impl Stored {
    /// In the machine's words; none for a verb that is not known here.
    pub(crate) fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Exited { exit } => Reason::Exited(match exit {
                StoredExit::Code(code) => Exit::Code(*code),
                StoredExit::Signal(signal) => Exit::Signal(*signal),
                StoredExit::OutOfMemory => Exit::OutOfMemory,
                StoredExit::Unseen => Exit::Unseen,
            }),
            Self::CannotStart { failure } => Reason::CannotStart(match failure {
                StoredFailure::NotFound => StartFailure::NotFound,
                StoredFailure::NotExecutable => StartFailure::NotExecutable,
                StoredFailure::NotAProgram => StartFailure::NotAProgram,
                StoredFailure::WorkingDirectory => StartFailure::WorkingDirectory,
                StoredFailure::Resources(errno) => StartFailure::Resources(*errno),
                StoredFailure::Other(errno) => StartFailure::Other(*errno),
            }),
            Self::Stalled => Reason::Stalled,
            Self::Memory => Reason::Memory,
            Self::Operator { verb } => {
                let command = COMMANDS.into_iter().find(|command| text::command_name(*command) == verb)?;
                Reason::Operator(command)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_comes_back() {
        let exits = [Exit::Code(7), Exit::Signal(9), Exit::OutOfMemory, Exit::Unseen].map(Reason::Exited);
        let failures = [
            StartFailure::NotFound,
            StartFailure::NotExecutable,
            StartFailure::NotAProgram,
            StartFailure::WorkingDirectory,
            StartFailure::Resources(12),
            StartFailure::Other(5),
        ];
        let commands = COMMANDS.map(Reason::Operator);
        let all = exits.into_iter().chain(failures.map(Reason::CannotStart)).chain(commands);
        for reason in all.chain([Reason::Stalled, Reason::Memory]) {
            let json = serde_json::to_vec(&Stored::from(&reason)).unwrap();
            assert_eq!(serde_json::from_slice::<Stored>(&json).unwrap().reason(), Some(reason));
        }
    }
}
