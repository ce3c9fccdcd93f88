//! The scripted stand-in for the Claude Code CLI: its options and its stream, as far as the worker needs them, and no
//! model. It counts: one tool call for each line of the job, going on where the file says that it is.
//!
//! Facts about options and events: `wire::claude` and its recordings of Claude Code 2.1.330.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use os::child::{Child, Ended, Read, read};
use os::poll::{Interest, Poller, Token};
use os::spawn::Program;
use serde_json::{Value, json};

use super::plot::STEPS;
use super::stage::Stage;

/// A model takes its time; in between, parts of its answer stream in.
const THINKING_MS: u64 = 40;
const THOUGHTS: u32 = 4;

/// `claude -p PROMPT --output-format stream-json (--session-id | --resume) UUID …`
pub(super) fn main(stage: &Stage, arguments: &[OsString]) -> ExitCode {
    let after = |flag: &str| {
        let at = arguments.iter().position(|word| word == flag)?;
        arguments.get(at + 1)?.to_str()
    };
    let (id, resumed) = match (after("--session-id"), after("--resume")) {
        (Some(id), None) => (id, false),
        (None, Some(id)) => (id, true),
        _ => return refuse("Error: the stand-in wants --session-id or --resume"),
    };
    let known = stage.sessions().join(id);
    match (resumed, known.exists()) {
        (true, false) => refuse(&format!("No conversation found with session ID: {id}")),
        (false, true) => refuse(&format!("Error: Session ID {id} is already in use.")),
        (resumed, _) => match std::fs::write(&known, "").and_then(|()| Agent::new(stage, id).work(resumed)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&format!("Error: {error}")),
        },
    }
}

fn refuse(words: &str) -> ExitCode {
    // Whoever started it has the exit code.
    writeln!(io::stderr().lock(), "{words}").ok();
    ExitCode::FAILURE
}

struct Agent<'a> {
    stage: &'a Stage,
    session: &'a str,
    answers: u32,
}

impl<'a> Agent<'a> {
    fn new(stage: &'a Stage, session: &'a str) -> Self {
        Self { stage, session, answers: 0 }
    }

    fn work(&mut self, resumed: bool) -> io::Result<()> {
        self.emit(json!({
            "type": "system", "subtype": "init", "model": "stand-in", "tools": ["Bash"],
            // It uses none of its tools, and so starts none.
            "mcp_servers": [{ "name": "autopilot", "status": "connected" }],
            "claude_code_version": "0 (stand-in)",
        }))?;
        let mut there = self.lines();
        if resumed {
            let next = there + 1;
            self.say(&format!("I was interrupted. counted.txt has {there} of {STEPS} lines; next is {next}."), None)?;
        }
        while there < STEPS {
            self.call(there + 1)?;
            let now = self.lines();
            if now == there {
                return Err(io::Error::other(format!("./step {} wrote nothing", there + 1)));
            }
            there = now;
        }
        let last = format!("counted.txt has its {STEPS} lines.\nAUTOPILOT: DONE");
        self.say(&last, Some("end_turn"))?;
        self.emit(json!({
            "type": "result", "subtype": "success", "is_error": false, "terminal_reason": "completed",
            "stop_reason": "end_turn", "num_turns": self.answers, "total_cost_usd": 0.0, "result": last,
        }))
    }

    fn lines(&self) -> u32 {
        u32::try_from(self.stage.lines().len()).unwrap_or(u32::MAX)
    }

    /// Has the tool write a line, and reports what it said.
    fn call(&mut self, number: u32) -> io::Result<()> {
        self.think()?;
        let command = format!("./step {number}");
        let id = format!("toolu_{}_{}", os::process::own_pid(), self.answers + 1);
        let call = json!({"type": "tool_use", "id": id, "name": "Bash", "input": {"command": command}});
        self.answer(&call, Some("tool_use"))?;
        let (output, failed) = run(&command, &self.stage.repository())?;
        let result = json!({"type": "tool_result", "tool_use_id": id, "is_error": failed, "content": output});
        self.emit(json!({"type": "user", "message": {"role": "user", "content": [result]}}))
    }

    fn say(&mut self, text: &str, stop_reason: Option<&str>) -> io::Result<()> {
        self.think()?;
        self.answer(&json!({"type": "text", "text": text}), stop_reason)
    }

    fn think(&self) -> io::Result<()> {
        let (poller, mut ready) = (Poller::new()?, Vec::new());
        for _ in 0..THOUGHTS {
            self.emit(json!({"type": "stream_event", "event": {"type": "content_block_delta"}}))?;
            poller.wait(Some(THINKING_MS), &mut ready)?;
        }
        Ok(())
    }

    fn answer(&mut self, block: &Value, stop_reason: Option<&str>) -> io::Result<()> {
        self.answers += 1;
        let id = format!("msg_{}_{}", os::process::own_pid(), self.answers);
        self.emit(json!({"type": "assistant", "parent_tool_use_id": null, "message": {
            "id": id, "role": "assistant", "model": "stand-in", "content": [block], "stop_reason": stop_reason,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }}))
    }

    fn emit(&self, mut event: Value) -> io::Result<()> {
        event["session_id"] = self.session.into();
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{event}")?;
        stdout.flush()
    }
}

/// Runs a command of one line; what it said, and whether it failed.
fn run(command: &str, folder: &Path) -> io::Result<(String, bool)> {
    let argv = command.split(' ').map(OsString::from).collect();
    let mut child = Child::spawn(&Program { argv, env: Vec::new(), env_remove: Vec::new() }, folder)?;
    let poller = Poller::new()?;
    poller.add(&child, Token(0), Interest::Readable)?;
    let ended = loop {
        poller.wait(None, &mut Vec::new())?;
        if let Some(ended) = child.reap()? {
            break ended;
        }
    };
    // A line or two, which fit into the pipe.
    let mut buffer = [0; 4_096];
    let said = match read(&child.stdout, &mut buffer)? {
        Read::Bytes(count) => String::from_utf8_lossy(&buffer[..count]).trim_end().to_owned(),
        Read::Empty | Read::Closed => String::new(),
    };
    Ok((said, ended != Ended::Code(0)))
}
