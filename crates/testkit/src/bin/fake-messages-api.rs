//! The fake Messages API as a process of its own: for benches, for the demo, and for people who want to watch.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its port and its requests are its output")]

use std::process::ExitCode;
use std::time::Duration;

use testkit::fake_api::{Answer, FakeApi, Request, Script};

const HELP: &str = "\
A fake Messages API on 127.0.0.1. The first line printed is its port; then one line for each request.

Usage: fake-messages-api [OPTIONS]

  --port N         listen there (default: a free port)
  --script FILE    rules as JSON; the form is described in crates/testkit/src/fake_api/json.rs
  --bash COMMAND   first have the agent run this command (can be given several times)
  --text TEXT      then end the turn with this text (default: Done.)
  --delay-ms N     wait so long before each answer of --bash and --text
  --quiet          no lines about requests

It runs until it is killed. Example:

  fake-messages-api --port 8080 --bash 'echo hello >> hello.txt' &
  ANTHROPIC_BASE_URL=http://127.0.0.1:8080 ANTHROPIC_API_KEY=dummy claude -p 'say hello'
";

#[derive(Debug, Default)]
struct Options {
    port: u16,
    script: Option<String>,
    commands: Vec<String>,
    text: Option<String>,
    delay: Duration,
    quiet: bool,
}

fn main() -> ExitCode {
    match options(std::env::args().skip(1)).and_then(|options| options.map_or(Ok(()), |options| serve(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            eprintln!("hint: fake-messages-api --help");
            ExitCode::from(2)
        }
    }
}

/// `None` when only help was wanted.
fn options(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--port" => options.port = value()?.parse().map_err(|_| "--port wants a number".to_owned())?,
            "--script" => options.script = Some(value()?),
            "--bash" => options.commands.push(value()?),
            "--text" => options.text = Some(value()?),
            "--delay-ms" => {
                let delay_ms = value()?.parse().map_err(|_| "--delay-ms wants a number".to_owned())?;
                options.delay = Duration::from_millis(delay_ms);
            }
            "--quiet" => options.quiet = true,
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(None);
            }
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(Some(options))
}

fn script(options: &Options) -> Result<Script, String> {
    if let Some(path) = &options.script {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        return Script::from_json(&text).map_err(|error| format!("{path}: {error}"));
    }
    let text = options.text.as_deref().unwrap_or("Done.");
    let calls = options.commands.iter().map(Answer::bash);
    Ok(Script::steps(calls.chain([Answer::text(text)]).map(|answer| answer.delay(options.delay))))
}

fn serve(options: &Options) -> Result<(), String> {
    let api = FakeApi::start_on(options.port, script(options)?)
        .map_err(|error| format!("cannot listen on 127.0.0.1:{}: {error}", options.port))?;
    println!("{}", api.port());
    let mut shown = 0;
    loop {
        let requests = api.wait_for_more_requests(shown, Duration::MAX);
        if !options.quiet {
            requests.iter().skip(shown).for_each(print_request);
        }
        shown = requests.len();
    }
}

fn print_request(request: &Request) {
    let conversation = request.conversation();
    println!(
        "{:8.3} {} {} {:?} model={} tool_results={} prompt={:?}",
        request.at.as_secs_f64(),
        request.method,
        request.path,
        request.purpose,
        conversation.model(),
        conversation.tool_results(),
        conversation.last_prompt().unwrap_or(""),
    );
}
