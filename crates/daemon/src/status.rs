//! `status`, as data and as the text of the documentation.

use wire::control::Status;

/// The first eight lines are a promise, byte for byte; what comes after them may grow.
#[must_use]
pub fn text(status: &Status, now_unix_ms: u64) -> String {
    use std::fmt::Write;
    let memory = crate::text::memory(policy::supervisor::MemoryReading {
        available_bytes: status.memory_available_bytes,
        total_bytes: status.memory_total_bytes,
        pressure_percent: 0,
    });
    let pid = status.worker_pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let mut text = format!(
        "Autopilot Daemon Status\n\
         =======================\n\
         Worker status:  {}\n\
         Worker PID:     {pid}\n\
         Uptime:         {} seconds\n\
         Total restarts: {}\n\
         Failures:       {}\n\
         Memory:         {memory}\n\n",
        status.worker_status, status.uptime_seconds, status.total_restarts, status.consecutive_failures,
    );
    let mut line = |name: &str, value: &str| {
        // Writing to a String can't fail.
        writeln!(text, "{:<16}{value}", format!("{name}:")).ok();
    };
    if let Some(reason) = &status.reason {
        line("Reason", reason);
    }
    if let Some(ms) = status.next_attempt_in_ms {
        line("Next attempt", &format!("in {}", crate::text::duration(ms)));
    }
    if let Some(phase) = &status.worker_phase {
        let message = status.worker_message.as_deref().unwrap_or_default();
        line("Doing", format!("{phase}  {message}").trim_end());
    }
    if let Some(ms) = status.last_activity_ms_ago {
        let source = status.last_activity_source.as_ref().map(|source| format!(", {source}")).unwrap_or_default();
        line("Last activity", &format!("{} ago{source}", crate::text::duration(ms)));
    }
    line("Binary", &status.worker_binary);
    if let (Some(version), Some(sha256)) = (&status.worker_version, &status.worker_sha256) {
        let standing = match (status.worker_standing.as_deref(), status.worker_attempts) {
            (Some("candidate"), 0) => "in probation".to_owned(),
            (Some("candidate"), attempts) => format!("in probation (start {attempts} of 3)"),
            (standing, _) => standing.unwrap_or_default().to_owned(),
        };
        line("Version", &format!("{version}, copy {}, {standing}", sha256.get(..12).unwrap_or(sha256)));
    }
    if let Some(given_up) = &status.rolled_back {
        line("Rolled back", given_up);
    }
    if let (Some(version), Some(sha256)) = (&status.agent_version, &status.agent_sha256) {
        let standing =
            status.agent_standing.as_deref().map_or("", |s| if s == "candidate" { "in probation" } else { s });
        line("Agent", &format!("{version}, copy {}, {standing}", sha256.get(..12).unwrap_or(sha256)));
    }
    if let Some(given_up) = &status.agent_rolled_back {
        line("Agent was", &format!("rolled back: {given_up}"));
    }
    line("Working dir", &status.working_dir);
    if let Some(project) = &status.project {
        line("Project", project);
    }
    line("Model", &status.model);
    if let Some(log) = &status.worker_rlog {
        line("Log", log);
    }
    line("Output", &status.output_log);
    line("Containment", &status.containment);
    let (pid, version) = (status.daemon_pid, &status.daemon_version);
    let up = crate::text::duration(status.daemon_uptime_seconds.saturating_mul(1_000));
    line("Daemon", &format!("{pid}, version {version}, up {up}"));
    for (position, exit) in status.last_exits.iter().take(3).enumerate() {
        let ago = crate::text::duration(now_unix_ms.saturating_sub(exit.at_unix_ms));
        let lived = crate::text::duration(exit.lived_ms);
        let name = if position == 0 { "Last exits:" } else { "" };
        writeln!(text, "{name:<16}run {}, {ago} ago, after {lived}: {}", exit.run, exit.cause).ok();
    }
    for problem in &status.degraded {
        writeln!(text, "{:<16}{problem}", "Warning:").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_lines_come_first_byte_for_byte() {
        let status = Status {
            worker_status: "running".to_owned(),
            worker_pid: Some(12345),
            uptime_seconds: 3600,
            total_restarts: 2,
            consecutive_failures: 0,
            memory_available_bytes: 4_509_715_660,
            memory_total_bytes: 16 << 30,
            ..Status::default()
        };
        let documented = "Autopilot Daemon Status\n\
                          =======================\n\
                          Worker status:  running\n\
                          Worker PID:     12345\n\
                          Uptime:         3600 seconds\n\
                          Total restarts: 2\n\
                          Failures:       0\n\
                          Memory:         4.2 GB / 16.0 GB available\n\n";
        let text = text(&status, 0);
        assert!(text.starts_with(documented), "{text}");
    }
}
