//! The real Claude Code CLI against the fake Messages API, where nothing can leave the machine.

mod harness;
