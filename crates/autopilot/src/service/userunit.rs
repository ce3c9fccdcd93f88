//! A systemd user unit: written, enabled, started; stopped, disabled, removed.

use std::path::PathBuf;

use os::files::{Durability, write_atomic};
use wire::control::Verb;

use super::{Plan, is_ours, not_ours, programs, unit, unusable};
use crate::cli::daemon::{Service, ServiceAction};
use crate::cli::report::{Exit, Failure};

pub(super) fn run(service: Service, plan: &Plan) -> Result<String, Failure> {
    match service.action {
        ServiceAction::Show => unit::text(plan),
        ServiceAction::Install => install(plan, service.force),
        ServiceAction::Uninstall => uninstall(plan, service.force),
    }
}

fn unit_path(plan: &Plan) -> Result<PathBuf, Failure> {
    #[expect(clippy::disallowed_methods, reason = "this is the edge where the environment is read")]
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    let config = config.ok_or_else(|| {
        Failure::new(Exit::Config, "cannot tell where user units are: neither XDG_CONFIG_HOME nor HOME is set")
    })?;
    Ok(config.join("systemd/user").join(format!("{}.service", plan.name())))
}

/// Whether there is somebody to obey `systemctl --user`.
fn is_reachable() -> bool {
    programs::run(&["systemctl", "--user", "show-environment"]).is_ok_and(|said| said.ok)
}

fn systemctl(words: &[&str]) -> Result<(), Failure> {
    let all: Vec<&str> = ["systemctl", "--user"].iter().chain(words).copied().collect();
    let failed = |why: &str| Failure::new(Exit::Internal, format!("{} failed: {}", all.join(" "), why.trim()));
    let said = programs::run(&all).map_err(|error| failed(&error.to_string()))?;
    if said.ok { Ok(()) } else { Err(failed(&said.stderr).hint("journalctl --user -e may say more")) }
}

fn install(plan: &Plan, force: bool) -> Result<String, Failure> {
    let (path, text) = (unit_path(plan)?, unit::text(plan)?);
    if !is_ours(&path)? && !force {
        return Err(not_ours(&path));
    }
    let folder = path.parent().unwrap_or(&path);
    std::fs::create_dir_all(folder).map_err(|error| unusable(folder, &error))?;
    write_atomic(&path, text.as_bytes(), Durability::Power).map_err(|error| unusable(&path, &error))?;
    let unit = format!("{}.service", plan.name());
    let mut said = format!("Wrote {}\n", path.display());
    let runs = daemon::client::ask_within(&daemon::Home::new(plan.home.clone()).control_socket(), Verb::Status, 1_000);
    let runs = runs.is_ok();
    let start = if runs { "" } else { " --now" };
    if is_reachable() {
        systemctl(&["daemon-reload"])?;
        let mut words = vec!["enable"];
        words.extend((!runs).then_some("--now"));
        words.push(&unit);
        systemctl(&words)?;
        said.push_str(if runs { "Enabled\n" } else { "Enabled and started\n" });
    } else {
        said.push_str(&format!(
            "No user systemd answers from here. Where one does:\n  \
             systemctl --user daemon-reload\n  systemctl --user enable{start} {unit}\n"
        ));
    }
    if runs {
        said.push_str(&format!(
            "A daemon runs already. To have systemd take over, without touching the worker:\n  \
             autopilotd stop --keep-worker && systemctl --user start {unit}\n"
        ));
    }
    said.push_str("To have it run while you are not logged in: loginctl enable-linger\n");
    Ok(said)
}

fn uninstall(plan: &Plan, force: bool) -> Result<String, Failure> {
    let path = unit_path(plan)?;
    if path.symlink_metadata().is_err() {
        return Err(Failure::new(Exit::Config, format!("nothing is installed: there is no {}", path.display())));
    }
    if !is_ours(&path)? && !force {
        return Err(not_ours(&path));
    }
    let unit = format!("{}.service", plan.name());
    let reachable = is_reachable();
    if reachable {
        systemctl(&["disable", "--now", &unit])?;
    }
    std::fs::remove_file(&path).map_err(|error| unusable(&path, &error))?;
    let mut said = format!("Removed {}\n", path.display());
    if reachable {
        systemctl(&["daemon-reload"])?;
        said.push_str("Stopped and disabled\n");
    } else {
        // What `enable` has made, so that no link leads nowhere.
        let link = path.with_file_name("default.target.wants").join(&unit);
        if link.is_symlink() {
            std::fs::remove_file(&link).map_err(|error| unusable(&link, &error))?;
        }
        said.push_str("No user systemd answers from here; a daemon that runs goes on: autopilotd stop ends it\n");
    }
    Ok(said)
}
