//! `autopilot analyze`.

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use worker::record::{Analysis, Log, Paint};

use super::words::{count, dollars, percent, span, when};
use super::{logs_at, unreadable};
use crate::cli::record::Analyze;
use crate::cli::report::{Exit, Failure, print, printable};

/// More tools and models are summed up.
const ROWS_MAX: usize = 20;

pub(crate) fn show(analyze: &Analyze) -> Result<(), Failure> {
    let mut logs = logs_at(analyze.path.as_deref(), &analyze.place)?;
    if let Some(since) = analyze.since {
        let now =
            jiff::Timestamp::from_millisecond(i64::try_from(os::clock::wall_ms()).unwrap_or(0)).unwrap_or_default();
        let since_ms = since.at_unix_ms(&now.to_zoned(TimeZone::system()));
        logs.retain(|log| log.began_ms().is_some_and(|at| at >= since_ms));
        if logs.is_empty() {
            return Err(Failure::new(Exit::Usage, "no log was begun since then"));
        }
    }
    let analysis = of(&logs)?;
    let text = if analyze.json { format!("{:#}\n", data(&analysis)) } else { text(&analysis, super::paint()) };
    print(&text)
}

pub(super) fn of(logs: &[Log]) -> Result<Analysis, Failure> {
    let mut analysis = Analysis::default();
    for log in logs {
        analysis.add(log).map_err(|error| unreadable(log, &error))?;
    }
    Ok(analysis)
}

fn text(found: &Analysis, paint: Paint) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| out.push_str(&format!("{name:<12}{value}\n"));
    line("logs", count(found.logs));
    if let Some(stretch) = found.span {
        line("time", format!("{}, {} at work", when(stretch), span(found.elapsed_ms)));
    }
    line("cost", dollars(found.cost_micros));
    let tokens = found.tokens;
    line(
        "tokens",
        format!(
            "{} in, {} out; cache: {} written, {} read",
            count(tokens.input_tokens),
            count(tokens.output_tokens),
            count(tokens.cache_write_tokens),
            count(tokens.cache_read_tokens)
        ),
    );
    line("turns", count(found.turns));
    line("messages", format!("{} user, {} assistant", count(found.user_messages), count(found.assistant_messages)));
    let rate = percent(found.tool_errors, found.tool_calls);
    line("tool calls", format!("{}, {} failed ({rate})", count(found.tool_calls), count(found.tool_errors)));
    if found.api_errors + found.api_retries > 0 {
        line("API", format!("{} errors, {} retries", count(found.api_errors), count(found.api_retries)));
    }
    let ends: Vec<String> = found.ends.iter().map(|(why, times)| format!("{} {times}", printable(why))).collect();
    line("ended", ends.join(", "));
    if found.garbled > 0 {
        line("unreadable", format!("{} lines", count(found.garbled)));
    }
    if !found.models.is_empty() {
        out.push_str(
            &paint
                .bold(&format!("\n{:<28}{:>10}{:>14}{:>12}{:>12}\n", "model", "messages", "tokens in", "out", "cost")),
        );
        let mut models: Vec<_> = found.models.iter().collect();
        models.sort_by_key(|(_, used)| std::cmp::Reverse((used.cost_micros, used.messages)));
        models.truncate(ROWS_MAX);
        for (name, used) in &models {
            let name = if name.is_empty() { "unknown" } else { name };
            let input = used.tokens.input_tokens + used.tokens.cache_write_tokens + used.tokens.cache_read_tokens;
            let (input, output) = (count(input), count(used.tokens.output_tokens));
            let cost = dollars(used.cost_micros);
            out.push_str(&format!(
                "{:<28}{:>10}{input:>14}{output:>12}{cost:>12}\n",
                cell(name, 27),
                count(used.messages)
            ));
        }
        let head = format!(
            "\n{:<28}{:>6}{:>8}{:>8}{:>9}{:>12}{:>8}\n",
            "of each model", "turns", "calls", "failed", "p50", "p95", "API err"
        );
        out.push_str(&paint.bold(&head));
        for (name, used) in &models {
            let name = if name.is_empty() { "unknown" } else { name };
            let latency = |percent| used.tools.latency_ms(percent).map_or_else(|| "-".to_owned(), span);
            let [turns, calls, failed, errors] =
                [used.turns, used.tools.calls, used.tools.errors, used.api_errors].map(count);
            let (half, most) = (latency(50), latency(95));
            out.push_str(&format!(
                "{:<28}{turns:>6}{calls:>8}{failed:>8}{half:>9}{most:>12}{errors:>8}\n",
                cell(name, 27)
            ));
        }
    }
    if !found.tools.is_empty() {
        out.push_str(
            &paint.bold(&format!("\n{:<28}{:>9}{:>9}{:>9}{:>12}{:>12}\n", "tool", "calls", "failed", "", "p50", "p95")),
        );
        let mut tools: Vec<_> = found.tools.iter().collect();
        tools.sort_by_key(|(_, used)| std::cmp::Reverse(used.calls));
        for (name, used) in tools.iter().take(ROWS_MAX) {
            let latency = |percent| used.latency_ms(percent).map_or_else(|| "-".to_owned(), span);
            let (calls, errors) = (count(used.calls), count(used.errors));
            let (rate, half, most) = (percent(used.errors, used.calls), latency(50), latency(95));
            out.push_str(&format!("{:<28}{calls:>9}{errors:>9}{rate:>9}{half:>12}{most:>12}\n", cell(name, 27)));
        }
        if tools.len() > ROWS_MAX {
            out.push_str(&format!("and {} more: --json shows them\n", tools.len() - ROWS_MAX));
        }
    }
    out
}

fn cell(text: &str, width: usize) -> String {
    printable(text).chars().filter(|char| *char != '\n').take(width).collect()
}

/// The same for programs. Members are only ever added.
pub(super) fn data(found: &Analysis) -> Value {
    let tokens = |usage: wire::claude::Usage| {
        json!({
            "input": usage.input_tokens, "output": usage.output_tokens,
            "cache_write": usage.cache_write_tokens, "cache_read": usage.cache_read_tokens,
        })
    };
    let usd = |micros: u64| {
        #[expect(clippy::cast_precision_loss, reason = "far from 2^53")]
        let dollars = micros as f64 / 1e6;
        dollars
    };
    let models = found.models.iter().map(|(name, used)| {
        let value = json!({
            "messages": used.messages, "turns": used.turns, "tokens": tokens(used.tokens),
            "cost_usd": usd(used.cost_micros), "api_errors": used.api_errors,
            "tool_calls": used.tools.calls, "tool_errors": used.tools.errors,
            "tool_p50_ms": used.tools.latency_ms(50), "tool_p95_ms": used.tools.latency_ms(95),
        });
        (name.clone(), value)
    });
    let tools = found.tools.iter().map(|(name, used)| {
        let (p50, p95) = (used.latency_ms(50), used.latency_ms(95));
        (name.clone(), json!({ "calls": used.calls, "errors": used.errors, "p50_ms": p50, "p95_ms": p95 }))
    });
    json!({
        "v": 1,
        "logs": found.logs,
        "from_unix_ms": found.span.map(|span| span.from_ms),
        "to_unix_ms": found.span.map(|span| span.to_ms),
        "elapsed_ms": found.elapsed_ms,
        "cost_usd": usd(found.cost_micros),
        "tokens": tokens(found.tokens),
        "turns": found.turns,
        "user_messages": found.user_messages,
        "assistant_messages": found.assistant_messages,
        "tool_calls": found.tool_calls,
        "tool_errors": found.tool_errors,
        "api_errors": found.api_errors,
        "api_retries": found.api_retries,
        "unreadable_lines": found.garbled,
        "ends": found.ends,
        "models": Value::Object(models.collect()),
        "tools": Value::Object(tools.collect()),
    })
}
