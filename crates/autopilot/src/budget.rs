//! `autopilot budget`: what a project has cost, against what it may.

use std::process::ExitCode;

use jiff::tz::TimeZone;
use queue::Queue;
use serde_json::json;
use worker::{Budgets, Environment, Settings, Stretch, dollars, stretches};

use crate::cli::queue::{Budget, BudgetCommand};
use crate::cli::report::{Exit, Failure};
use crate::issues::time;
use crate::projects::{current_folder, database, failed, find, say};
use crate::table::{table, terminal_columns};

pub(crate) fn main(budget: &Budget, env: &Environment) -> ExitCode {
    match carry_out(budget, env) {
        Ok(text) => say(&text),
        Err(failure) => failure.report(),
    }
}

fn carry_out(budget: &Budget, env: &Environment) -> Result<String, Failure> {
    let project = budget.project.as_deref();
    let known = find(env, project)?;
    let folder = match known.as_ref().and_then(|known| known.folder.clone()) {
        Some(folder) => folder,
        None => current_folder()?,
    };
    drop(known);
    let mut queue = database(env, project)?;
    let now_ms = os::clock::wall_ms();
    match budget.command.unwrap_or(BudgetCommand::Show { json: false }) {
        BudgetCommand::Reset if budget.json => {
            Err(Failure::new(Exit::Usage, "a reset has nothing to tell as JSON").hint("leave --json out"))
        }
        BudgetCommand::Show { json } => {
            let json = json || budget.json;
            let settings = Settings::read(&folder).map_err(|wrong| {
                Failure::new(Exit::Config, wrong).hint("correct that line; nothing starts on half of the settings")
            })?;
            show(&queue, settings.budget, now_ms, json)
        }
        BudgetCommand::Reset => {
            queue.reset_budget(now_ms).map_err(|error| failed(&error))?;
            Ok("from now on every budget of this project counts afresh; a worker that waits for one goes on\n"
                .to_owned())
        }
    }
}

/// To the cent, and what is less than ten of them more closely: nothing that was spent looks like nothing.
fn money(micros: u64) -> String {
    let places = if (1..100_000).contains(&micros) { 4 } else { 2 };
    format!("${:.places$}", dollars(micros))
}

fn show(queue: &Queue, budgets: Budgets, now_ms: u64, as_data: bool) -> Result<String, Failure> {
    let spent = |from_ms| queue.spent_since(from_ms).map_err(|error| failed(&error));
    let [day, week, month] = stretches(now_ms, &TimeZone::system());
    let rows: [(&str, Stretch, u64); 3] = [
        ("today", day, budgets.daily_micros),
        ("this week", week, budgets.weekly_micros),
        ("this month", month, budgets.monthly_micros),
    ];
    let all_micros = spent(0)?;
    let since_ms = queue.counts_since_ms().map_err(|error| failed(&error))?;
    let (unanswered, unanswered_micros) = queue.unanswered_since(0).map_err(|error| failed(&error))?;
    if as_data {
        let mut stretches = Vec::new();
        for (name, Stretch { begins_ms, ends_ms }, limit) in rows {
            let (spent_usd, limit_usd) = (dollars(spent(begins_ms)?), (limit > 0).then(|| dollars(limit)));
            stretches.push(json!({
                "name": name, "begins_ms": begins_ms, "ends_ms": ends_ms, "spent_usd": spent_usd, "limit_usd": limit_usd,
            }));
        }
        let tasks = queue.cost_of_tasks().map_err(|error| failed(&error))?;
        let tasks: Vec<_> =
            tasks.iter().map(|(id, micros)| json!({ "id": id, "spent_usd": dollars(*micros) })).collect();
        let reset_ms = (since_ms > 0).then_some(since_ms);
        let all = json!({
            "stretches": stretches, "spent_usd": dollars(all_micros), "reset_ms": reset_ms, "tasks": tasks,
            "unanswered": { "requests": unanswered, "usd": dollars(unanswered_micros) },
        });
        return Ok(format!("{all:#}\n"));
    }
    let mut lines = Vec::new();
    for (name, stretch, limit) in rows {
        let used = spent(stretch.begins_ms)?;
        let (limit_text, left) = if limit == 0 {
            ("no limit".to_owned(), String::new())
        } else if used >= limit {
            (money(limit), format!("used up; goes on {}", time(stretch.ends_ms)))
        } else {
            (money(limit), format!("{} left", money(limit - used)))
        };
        lines.push(vec![name.to_owned(), money(used), limit_text, left]);
    }
    let since = if since_ms > 0 { format!("since {}", time(since_ms)) } else { "in all".to_owned() };
    lines.push(vec![since, money(all_micros), String::new(), String::new()]);
    let mut text = table(&["", "spent", "budget", ""], &lines, terminal_columns());
    if unanswered > 0 {
        let requests = if unanswered == 1 { "request whose answer" } else { "requests whose answers" };
        let why = "because the agent was killed: each counts like the answer before it";
        text.push_str(&format!(
            "\n{} of it is for {unanswered} {requests} nobody saw, {why}\n",
            money(unanswered_micros)
        ));
    }
    Ok(text)
}
