//! `autopilot apm`.

use serde_json::json;
use worker::record::{Actions, Tier};

use super::words::{count, span};
use super::{logs_at, unreadable};
use crate::cli::record::{Apm, Window};
use crate::cli::report::{Failure, print};

const ALL: [Window; 4] = [Window::Hour, Window::SixHours, Window::Day, Window::Week];
/// A log that was begun before the window may reach into it.
const LONGEST_RUN_MS: u64 = 31 * 86_400_000;

pub(crate) fn show(apm: &Apm) -> Result<(), Failure> {
    let windows = apm.window.map_or_else(|| ALL.to_vec(), |window| vec![window]);
    let longest_ms = windows.iter().map(|window| window.name_and_ms().1).max().unwrap_or(0);
    let now_ms = os::clock::wall_ms();
    let mut actions = Actions::default();
    for log in logs_at(apm.path.as_deref(), &apm.place)? {
        if log.began_ms().is_none_or(|at| at.saturating_add(longest_ms + LONGEST_RUN_MS) >= now_ms) {
            actions.add(&log).map_err(|error| unreadable(&log, &error))?;
        }
    }
    let rows: Vec<_> = windows
        .into_iter()
        .map(|window| {
            let (name, ms) = window.name_and_ms();
            (name, actions.window(now_ms, ms))
        })
        .collect();
    let text = if apm.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, found)| {
                json!({
                    "window": name, "actions": found.actions, "per_minute": found.per_minute,
                    "tier": Tier::of(found.per_minute).name(),
                    "active_ms": found.active_ms, "per_active_minute": found.per_active_minute,
                })
            })
            .collect();
        format!("{:#}\n", json!({ "v": 1, "windows": rows }))
    } else {
        let paint = super::paint();
        let mut out = paint.bold(&format!(
            "{:<8}{:>10}{:>8}  {:<12}{:>16}{:>10}\n",
            "window", "actions", "APM", "tier", "at work", "APM then"
        ));
        for (name, found) in rows {
            let (rate, active) = (format!("{:.1}", found.per_minute), format!("{:.1}", found.per_active_minute));
            let (actions, tier) = (count(found.actions), Tier::of(found.per_minute).name());
            let worked = if found.active_ms == 0 { "-".to_owned() } else { span(found.active_ms) };
            out.push_str(&format!("{name:<8}{actions:>10}{rate:>8}  {tier:<12}{worked:>16}{active:>10}\n"));
        }
        out
    };
    print(&text)
}
