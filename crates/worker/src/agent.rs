//! The Claude CLI: where it is, and how it is called.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use os::spawn::Program;
use policy::work::reply::AGREEMENT;
use policy::work::{Launch, Prompt, Session};

use crate::environment::{Environment, MARK, NOT_FOR_THE_CLI};
use crate::ledger::dollars;

/// How to get it.
pub const INSTALL_HINT: &str = "npm install -g @anthropic-ai/claude-code, or set AUTOPILOT_CLAUDE to its path";

/// Why the CLI can't be called.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error("claude is not in PATH")]
    NotInPath,
    #[error("there is no file {0}")]
    NoFile(PathBuf),
    #[error("{0} is not executable")]
    NotExecutable(PathBuf),
}

/// Looks for the CLI: every time anew, for it may be updated or come back.
///
/// # Errors
/// [`Missing`]
pub fn find(env: &Environment) -> Result<PathBuf, Missing> {
    if let Some(named) = &env.claude {
        let path = PathBuf::from(named);
        if path.components().count() > 1 {
            // The CLI is started in the working directory, which may be another than ours.
            return check(std::path::absolute(&path).unwrap_or(path));
        }
        return in_path(env, named).ok_or(Missing::NoFile(path));
    }
    in_path(env, OsStr::new("claude")).ok_or(Missing::NotInPath)
}

fn in_path(env: &Environment, name: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(env.path.as_deref()?).find_map(|folder| check(folder.join(name)).ok())
}

fn check(path: PathBuf) -> Result<PathBuf, Missing> {
    match std::fs::metadata(&path) {
        Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => Ok(path),
        Ok(_) => Err(Missing::NotExecutable(path)),
        Err(_) => Err(Missing::NoFile(path)),
    }
}

/// What the agent is asked, in words.
/// `record`: what the logs say of the sessions before, in lines. `rejection`: what the project's own check said.
pub(crate) fn prompt(prompt: Prompt, task: &str, record: &str, full_auto: bool, rejection: &str) -> String {
    match prompt {
        Prompt::Task => task.to_owned(),
        Prompt::Continue => {
            "Nobody is here to answer questions; decide yourself and go on. If everything that was asked for is \
            done, reply with only AUTOPILOT: DONE"
                .to_owned()
        }
        Prompt::Interrupted => {
            let start =
                "You were interrupted. Check what is already done, do not do it twice, and go on with the task.";
            let end = if full_auto { " If everything is done, reply with only AUTOPILOT: DONE" } else { "" };
            format!("{start}{end}")
        }
        Prompt::Rejected => format!(
            "Your result is not accepted: the project's own check, run in a clean checkout of it, fails. The end of what it says:\n\n\
             {rejection}\n\nMend what is wrong, and do not change the check itself unless the task asks for it. If it is mended, \
             reply with only AUTOPILOT: DONE"
        ),
        Prompt::HandOver => {
            let record = if record.is_empty() {
                String::new()
            } else {
                format!("Its record ends like this, the newest last:\n{record}\n")
            };
            format!(
                "{task}\n\n(An earlier session worked on this and could not go on. {record}Check first what is already done, and do \
                 not do it twice.)"
            )
        }
    }
}

/// One call of the CLI.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) cli: &'a Path,
    pub(crate) launch: Launch,
    pub(crate) session: &'a str,
    /// Of which it is to be a copy.
    pub(crate) copied: Option<&'a str>,
    pub(crate) prompt: &'a str,
    pub(crate) model: &'a str,
    pub(crate) full_auto: bool,
    /// By which its tools and servers are known.
    pub(crate) mark: &'a str,
    /// How often it tries a request again, if somebody chose.
    pub(crate) retries: Option<&'a str>,
    /// The server with the queue's tools.
    pub(crate) mcp_config: Option<&'a str>,
}

/// The name of that server.
pub(crate) const SERVER: &str = "autopilot";

/// Its description, for `--mcp-config`. `task`: what the session is for.
pub(crate) fn mcp_config(program: &Path, database: &Path, task: Option<i64>) -> String {
    let mut args = vec!["mcp".to_owned(), "--database".to_owned(), database.to_string_lossy().into_owned()];
    if let Some(id) = task {
        args.extend(["--task".to_owned(), id.to_string()]);
    }
    let server = serde_json::json!({ "type": "stdio", "command": program.to_string_lossy(), "args": args });
    serde_json::json!({ "mcpServers": { SERVER: server } }).to_string()
}

/// See [`crate::Environment::cli_retries`].
const RETRIES: &str = "3";

/// The command line. Nothing is remembered by the CLI when it resumes a session: every flag is passed every time.
pub(crate) fn program(call: &Call<'_>) -> Program {
    let mut argv: Vec<OsString> = vec![call.cli.into(), "-p".into()];
    // A prompt that looks like an option goes to the end, behind the mark that ends the options.
    let looks_like_an_option = call.prompt.starts_with('-');
    if !looks_like_an_option {
        argv.push(call.prompt.into());
    }
    argv.extend(["--output-format", "stream-json", "--verbose", "--include-partial-messages"].map(OsString::from));
    match (call.launch.session, call.copied) {
        (Session::Fork, Some(copied)) => {
            argv.extend(["--resume", copied, "--fork-session", "--session-id"].map(OsString::from));
        }
        (Session::Fresh | Session::SameId | Session::Fork, _) => argv.push("--session-id".into()),
        (Session::Resume, _) => argv.push("--resume".into()),
    }
    argv.extend([call.session, "--model", call.model, "--dangerously-skip-permissions"].map(OsString::from));
    if let Some(turns) = call.launch.max_turns {
        argv.extend(["--max-turns".into(), turns.to_string().into()]);
    }
    if let Some(micros) = call.launch.max_cost_micros {
        argv.extend(["--max-budget-usd".into(), format!("{:.6}", dollars(micros)).into()]);
    }
    if let Some(config) = call.mcp_config {
        argv.extend(["--mcp-config", config].map(OsString::from));
    }
    if call.full_auto {
        argv.extend(["--append-system-prompt", AGREEMENT].map(OsString::from));
    }
    if looks_like_an_option {
        argv.extend(["--", call.prompt].map(OsString::from));
    }
    let mut env = environment(call.mark);
    env.push(("CLAUDE_CODE_MAX_RETRIES".into(), call.retries.unwrap_or(RETRIES).into()));
    if os::process::effective_uid() == 0 {
        // Without it the CLI refuses --dangerously-skip-permissions to root.
        env.push(("IS_SANDBOX".into(), "1".into()));
    }
    Program { argv, env, env_remove: NOT_FOR_THE_CLI.map(OsString::from).to_vec() }
}

fn environment(mark: &str) -> Vec<(OsString, OsString)> {
    vec![("DISABLE_AUTOUPDATER".into(), "1".into()), (MARK.into(), mark.into())]
}

/// Asks the CLI whether it is logged in: by its exit code, and in words that change when somebody logs in otherwise. No
/// request is made.
pub(crate) fn probe(cli: &Path, mark: &str) -> Program {
    let argv = vec![cli.into(), "auth".into(), "status".into()];
    Program { argv, env: environment(mark), env_remove: NOT_FOR_THE_CLI.map(OsString::from).to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(prompt: &str, session: Session, max_turns: Option<u64>, max_cost_micros: Option<u64>) -> Vec<String> {
        let launch = Launch { session, prompt: Prompt::Task, max_turns, max_cost_micros };
        let call = Call {
            cli: Path::new("/bin/claude"),
            launch,
            session: "7f1c2a90-5b1e-4c3f-9a54-0d6b8f3e2a11",
            copied: (session == Session::Fork).then_some("0a1c2a90-5b1e-4c3f-9a54-0d6b8f3e2a11"),
            prompt,
            model: "sonnet",
            full_auto: false,
            mark: "m",
            retries: None,
            mcp_config: None,
        };
        program(&call).argv.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_command_line_is_the_measured_one() {
        let expected = "/bin/claude -p go --output-format stream-json --verbose --include-partial-messages \
            --session-id 7f1c2a90-5b1e-4c3f-9a54-0d6b8f3e2a11 --model sonnet --dangerously-skip-permissions \
            --max-turns 7 --max-budget-usd 0.001480";
        assert_eq!(argv("go", Session::Fresh, Some(7), Some(1_480)).join(" "), expected);
        assert!(argv("go", Session::Resume, None, None).join(" ").contains("--resume 7f1c2a90"));
        let fork = argv("go", Session::Fork, None, None).join(" ");
        assert!(
            fork.contains("--resume 0a1c2a90-5b1e-4c3f-9a54-0d6b8f3e2a11 --fork-session --session-id 7f1c2a90"),
            "{fork}"
        );
    }

    #[test]
    fn a_prompt_that_looks_like_an_option_stays_a_prompt() {
        let argv = argv("--help me", Session::Fresh, None, None);
        assert_eq!(argv[argv.len() - 2..], ["--", "--help me"]);
        assert_eq!(argv.iter().filter(|word| word.contains("help")).count(), 1);
    }

    #[test]
    fn the_cli_is_found_where_it_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claude");
        let env = |claude: Option<&Path>| Environment {
            path: Some(folder.path().into()),
            claude: claude.map(Into::into),
            ..Environment::default()
        };
        assert!(matches!(find(&env(None)), Err(Missing::NotInPath)));
        assert!(matches!(find(&Environment::default()), Err(Missing::NotInPath)));
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(matches!(find(&env(Some(&path))), Err(Missing::NotExecutable(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&env(None)).unwrap(), path);
        assert_eq!(find(&env(Some(Path::new("claude")))).unwrap(), path);
        assert!(matches!(find(&env(Some(&path.join("x")))), Err(Missing::NoFile(_))));
    }

    #[test]
    fn the_cli_gives_up_soon_unless_somebody_chose_otherwise() {
        let retries = |chosen| {
            let launch =
                Launch { session: Session::Fresh, prompt: Prompt::Task, max_turns: None, max_cost_micros: None };
            let (cli, session, prompt, model, mark) = (Path::new("/bin/claude"), "s", "p", "sonnet", "m");
            let call = Call {
                cli,
                launch,
                session,
                copied: None,
                prompt,
                model,
                full_auto: false,
                mark,
                retries: chosen,
                mcp_config: None,
            };
            let env = program(&call).env;
            env.into_iter().find(|(name, _)| name == "CLAUDE_CODE_MAX_RETRIES").map(|(_, value)| value)
        };
        assert_eq!(retries(None), Some("3".into()));
        assert_eq!(retries(Some("7")), Some("7".into()));
    }
}
