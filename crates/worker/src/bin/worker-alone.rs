//! The worker without a command line, so that its tests can kill it: takes `KEY=value` arguments.

use std::process::ExitCode;

use worker::{Environment, RunArgs, run};

fn main() -> ExitCode {
    let mut args = RunArgs {
        full_auto: true,
        project: None,
        model: "sonnet".to_owned(),
        max_turns: 0,
        max_budget_usd: 0.0,
        cwd: ".".into(),
        prompt: None,
        wait: false,
        mcp: None,
        version: "0.0.0-test".to_owned(),
    };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("full_auto", value)) => args.full_auto = value == "true",
            Some(("project", value)) => args.project = Some(value.to_owned()),
            Some(("mcp", value)) => args.mcp = Some(value.into()),
            Some(("wait", value)) => args.wait = value == "true",
            Some(("max_turns", value)) => args.max_turns = value.parse().unwrap_or(u64::MAX),
            Some(("max_budget_usd", value)) => args.max_budget_usd = value.parse().unwrap_or(f64::NAN),
            Some(("cwd", value)) => args.cwd = value.into(),
            Some(("prompt", value)) => args.prompt = Some(value.to_owned()),
            _ => return ExitCode::from(99),
        }
    }
    ExitCode::from(run(&args, &Environment::from_variables(std::env::vars_os())).code())
}
