//! Who this program is, by the name that it was started under. The demo needs nothing but the one binary, so daemon,
//! stand-in agent, its tool and the leaking child are all links to it.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::stage::Stage;
use super::{standin, tool};

/// A part other than `autopilot`'s own.
#[derive(Debug)]
pub enum Part {
    /// The daemon. In every installation, not only in the demo.
    Daemon,
    /// The scripted stand-in for the Claude Code CLI.
    Agent(Stage),
    /// The command that the agent is told to run.
    Step(Stage),
    /// The child of that command which leaks.
    Node,
}

/// The part that the first argument names. Names of other programs count only below a demo: whoever calls a copy of
/// this program `node` does so for reasons of their own.
#[must_use]
pub fn part(arguments: &[OsString]) -> Option<Part> {
    let name = Path::new(arguments.first()?).file_name()?;
    if name == "autopilotd" {
        return Some(Part::Daemon);
    }
    let stage = Stage::from_environment()?;
    match name.to_str()? {
        "claude" => Some(Part::Agent(stage)),
        "step" => Some(Part::Step(stage)),
        "node" => Some(Part::Node),
        _ => None,
    }
}

impl Part {
    /// Plays it.
    pub fn play(self, arguments: Vec<OsString>) -> ExitCode {
        match self {
            Self::Daemon => crate::autopilotd::main(arguments),
            Self::Agent(stage) => standin::main(&stage, &arguments),
            Self::Step(stage) => tool::step(&stage, &arguments),
            Self::Node => tool::leak(&arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<Part> {
        part(&[name.into()])
    }

    #[test]
    fn outside_of_a_demo_only_the_daemon_has_another_name() {
        assert!(matches!(of("/x/autopilotd"), Some(Part::Daemon)));
        assert!(matches!(of("autopilotd"), Some(Part::Daemon)));
        for name in ["autopilot", "/usr/bin/node", "claude", "step", ""] {
            assert!(of(name).is_none(), "{name}");
        }
        assert!(part(&[]).is_none());
    }
}
