//! The text of a systemd user unit: systemd.service(5), systemd.syntax(7).

use super::{Plan, WRITTEN_BY};
use crate::cli::report::{Exit, Failure};

/// Beyond the time that the daemon itself gives its worker.
const STOP_MARGIN_S: u64 = 20;

/// # Errors
/// The program lies where systemd executes nothing.
pub(super) fn text(plan: &Plan) -> Result<String, Failure> {
    if plan.program.contains(|c: char| matches!(c, '"' | '\'' | '\\') || c.is_control()) {
        let message = format!("systemd executes no program with a quote or backslash in its path: {}", plan.program);
        return Err(Failure::new(Exit::Config, message).hint("install it elsewhere, and call it there"));
    }
    let mut text = format!(
        "{WRITTEN_BY}\n\
         # Settings of your own: systemctl --user edit {name}\n\
         \n\
         [Unit]\n\
         Description=autopilotd, keeps a coding agent at work\n\
         # It is tried again for as long as it takes.\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=main\n\
         ExecStart={program} {arguments}\n\
         # Another build, without touching the worker.\n\
         ExecReload={program} upgrade\n",
        name = plan.name(),
        program = program(&plan.program),
        arguments = plan.arguments.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" "),
    );
    for (name, value) in &plan.environment {
        text.push_str(&format!("Environment={}\n", quoted(&format!("{name}={value}"))));
    }
    let secrets = plan.home.join("environment");
    text.push_str(&format!(
        "# For keys and tokens, NAME=value a line; chmod 600.\n\
         EnvironmentFile=-{}\n",
        path(&secrets.display().to_string())
    ));
    text.push_str(&format!(
        "\n\
         # A daemon that dies or hangs is started again, and finds its worker alive: only the daemon itself is ever killed.\n\
         KillMode=process\n\
         SendSIGKILL=yes\n\
         WatchdogSec=60\n\
         Restart=always\n\
         RestartSec=1\n\
         # But not after `autopilotd stop`, nor where it can't help: wrong usage, a daemon that runs already, a wrong setting.\n\
         RestartPreventExitStatus=0 2 4 5\n\
         # It ends its worker first, and gives it time to.\n\
         TimeoutStopSec={stop}\n\
         # Each run of the worker gets a control group of its own.\n\
         Delegate=yes\n\
         # A process of the agent that the kernel ends for want of memory is no reason to end the rest.\n\
         OOMPolicy=continue\n\
         # A crash of some tool must not fill the disk; who wants a core dump can still ask for one.\n\
         LimitCORE=0:infinity\n\
         # On purpose not here, because the agent needs what they take: ProtectHome, ProtectSystem, PrivateTmp,\n\
         # PrivateDevices (it works on your files, with your tools); NoNewPrivileges and all that implies it in a user\n\
         # unit, such as SystemCallFilter and RestrictNamespaces (sudo, and the agent's own sandbox);\n\
         # MemoryDenyWriteExecute (JavaScript is compiled as it runs); TasksMax and MemoryMax (the daemon judges memory).\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        stop = plan.stop_timeout_ms.div_ceil(1_000).saturating_add(STOP_MARGIN_S),
    ));
    Ok(text)
}

/// `:` says that `$` has no meaning in this command line.
fn program(path: &str) -> String {
    quoted(&format!(":{path}"))
}

/// One word, whatever is in it.
pub(super) fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    escape(word, &mut quoted);
    quoted.push('"');
    quoted
}

fn escape(word: &str, into: &mut String) {
    for c in word.chars() {
        match c {
            '"' | '\\' => into.extend(['\\', c]),
            // Specifiers.
            '%' => into.push_str("%%"),
            '\n' => into.push_str("\\n"),
            '\t' => into.push_str("\\t"),
            c if c.is_ascii_control() => into.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => into.push(c),
        }
    }
}

/// Where systemd takes the rest of the line as it is, but for specifiers.
fn path(path: &str) -> String {
    path.replace('%', "%%")
}
