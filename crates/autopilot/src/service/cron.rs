//! A crontab entry and the script that it starts: for machines without systemd.
//!
//! Every five minutes: if no process of the name `autopilotd` has the pid of the pid file, start one. A shim does not have
//! that name, a pid that was used again does not either, and a start that comes second ends with exit code 4 and nothing done.
//! The script holds what is long: cron(8) cuts or refuses lines of more than a thousand bytes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use os::files::{Durability, create_private_folder, write_atomic};

use super::{Plan, WRITTEN_BY, is_ours, not_ours, programs, unusable};
use crate::cli::daemon::{Service, ServiceAction};
use crate::cli::report::{Exit, Failure};

const MOST_LINE_BYTES: usize = 900;

pub(super) fn run(service: Service, plan: &Plan) -> Result<String, Failure> {
    let (path, line) = (script_path(plan), line(plan)?);
    match service.action {
        ServiceAction::Show => Ok(format!("# {}\n{}\n# crontab\n{line}\n", path.display(), script(plan))),
        ServiceAction::Install => install(plan, &path, &line, service.force),
        ServiceAction::Uninstall => uninstall(plan, &path, service.force),
    }
}

fn script_path(plan: &Plan) -> PathBuf {
    plan.home.join("start-daemon.sh")
}

pub(super) fn script(plan: &Plan) -> String {
    let mut text = format!("#!/bin/sh\n{WRITTEN_BY}\n");
    for (name, value) in &plan.environment {
        text.push_str(&format!("export {name}={}\n", shell(value)));
    }
    let secrets = shell(&plan.home.join("environment").display().to_string());
    text.push_str(&format!("# For keys and tokens, NAME=value a line; chmod 600.\nif [ -r {secrets} ]; then set -a; . {secrets}; set +a; fi\n"));
    let words: Vec<String> = std::iter::once(&plan.program).chain(&plan.arguments).map(|word| shell(word)).collect();
    let log = shell(&plan.home.join("autopilotd.log").display().to_string());
    text.push_str(&format!("exec {} >>{log} 2>&1 </dev/null\n", words.join(" ")));
    text
}

/// The entry, which ends in a comment that says whose it is.
pub(super) fn line(plan: &Plan) -> Result<String, Failure> {
    let at = |path: PathBuf| shell(&path.display().to_string());
    let (pid_file, script) = (at(plan.home.join("autopilotd.pid")), at(script_path(plan)));
    // In a crontab a percent sign is a newline.
    let command = format!("pgrep -F {pid_file} autopilotd >/dev/null 2>&1 || {script}").replace('%', "\\%");
    let line = format!("*/5 * * * * {command} {}", mark(plan));
    if line.contains('\n') || line.len() > MOST_LINE_BYTES {
        return Err(Failure::new(Exit::Config, "the home's path is too long for a crontab, or has a line break in it")
            .hint("move it: AUTOPILOT_HOME=/path/to/folder"));
    }
    Ok(line)
}

fn mark(plan: &Plan) -> String {
    format!("# {}", plan.name())
}

/// One word for sh(1).
pub(super) fn shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn install(plan: &Plan, path: &Path, line: &str, force: bool) -> Result<String, Failure> {
    if !is_ours(path)? && !force {
        return Err(not_ours(path));
    }
    create_private_folder(&plan.home).map_err(|error| unusable(&plan.home, &error))?;
    write_atomic(path, script(plan).as_bytes(), Durability::Power).map_err(|error| unusable(path, &error))?;
    let executable = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(path, executable).map_err(|error| unusable(path, &error))?;
    let wrote = format!("Wrote {}\n", path.display());
    match crontab()? {
        Some(before) => {
            let mut lines = without_ours(&before, plan);
            lines.push(line.to_owned());
            set_crontab(plan, &lines)?;
            Ok(format!("{wrote}Added to your crontab:\n{line}\n"))
        }
        None => {
            Ok(format!("{wrote}There is no crontab(1) here. The entry for whatever starts things in time:\n{line}\n"))
        }
    }
}

fn uninstall(plan: &Plan, path: &Path, force: bool) -> Result<String, Failure> {
    let before = crontab()?;
    let entry = before.as_ref().is_some_and(|text| text.lines().any(|line| line.ends_with(&mark(plan))));
    if !entry && path.symlink_metadata().is_err() {
        return Err(Failure::new(Exit::Config, format!("nothing is installed: there is no {}", path.display())));
    }
    if !is_ours(path)? && !force {
        return Err(not_ours(path));
    }
    let mut said = String::new();
    if let Some(before) = before.filter(|_| entry) {
        set_crontab(plan, &without_ours(&before, plan))?;
        said.push_str("Removed from your crontab\n");
    }
    if path.symlink_metadata().is_ok() {
        std::fs::remove_file(path).map_err(|error| unusable(path, &error))?;
        said.push_str(&format!("Removed {}\n", path.display()));
    }
    said.push_str("A daemon that runs goes on; autopilotd stop ends it\n");
    Ok(said)
}

/// None: there is no crontab(1). Without entries it says so and fails; another failure must not cost the entries that
/// there are.
fn crontab() -> Result<Option<String>, Failure> {
    match programs::run(&["crontab", "-l"]) {
        Ok(said) if said.ok => Ok(Some(said.stdout)),
        Ok(said) if said.stderr.to_lowercase().contains("no crontab for") => Ok(Some(String::new())),
        Ok(said) => Err(Failure::new(Exit::Internal, format!("crontab -l failed: {}", said.stderr.trim()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(Exit::Internal, format!("crontab -l failed: {error}"))),
    }
}

fn without_ours(crontab: &str, plan: &Plan) -> Vec<String> {
    crontab.lines().filter(|line| !line.ends_with(&mark(plan))).map(str::to_owned).collect()
}

fn set_crontab(plan: &Plan, lines: &[String]) -> Result<(), Failure> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let file = plan.home.join("crontab.new");
    write_atomic(&file, text.as_bytes(), Durability::Process).map_err(|error| unusable(&file, &error))?;
    let said = programs::run(&["crontab", &file.display().to_string()]);
    std::fs::remove_file(&file).ok();
    match said {
        Ok(said) if said.ok => Ok(()),
        Ok(said) => Err(Failure::new(Exit::Internal, format!("crontab failed: {}", said.stderr.trim()))),
        Err(error) => Err(Failure::new(Exit::Internal, format!("crontab failed: {error}"))),
    }
}
