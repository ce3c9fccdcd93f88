//! `autopilot compare`.

use serde_json::json;
use worker::record::{Analysis, Paint};

use super::analyze::{data, of};
use super::choose;
use super::words::{count, dollars, percent, span};
use crate::cli::record::Compare;
use crate::cli::report::{Failure, print, printable};

pub(crate) fn show(compare: &Compare) -> Result<(), Failure> {
    let logs = [choose(&compare.place, Some(&compare.a))?, choose(&compare.place, Some(&compare.b))?];
    let [a, b] = [of(&logs[..1])?, of(&logs[1..])?];
    let [first, second] = logs.map(|log| log.id());
    let text = if compare.json {
        let side = |id: &str, found| json!({ "id": id, "analysis": data(found) });
        format!("{:#}\n", json!({ "v": 1, "a": side(&first, &a), "b": side(&second, &b) }))
    } else {
        let legend = format!("A  {}\nB  {}\n\n", printable(&first), printable(&second));
        legend + &table(&a, &b, super::paint())
    };
    print(&text)
}

fn table(a: &Analysis, b: &Analysis, paint: Paint) -> String {
    let mut out = paint.bold(&format!("{:<18}{:>16}{:>16}{:>12}\n", "", "A", "B", "B to A"));
    let mut row = |name: &str, value: fn(&Analysis) -> u64, shown: fn(u64) -> String| {
        let (a, b) = (value(a), value(b));
        out.push_str(&format!("{name:<18}{:>16}{:>16}{:>12}\n", shown(a), shown(b), change(a, b)));
    };
    row("cost", |found| found.cost_micros, dollars);
    row("time", |found| found.elapsed_ms, span);
    row("turns", |found| found.turns, count);
    row("tokens in", |found| found.tokens.input_tokens, count);
    row("tokens out", |found| found.tokens.output_tokens, count);
    row("cache written", |found| found.tokens.cache_write_tokens, count);
    row("cache read", |found| found.tokens.cache_read_tokens, count);
    row("tool calls", |found| found.tool_calls, count);
    row("tool errors", |found| found.tool_errors, count);
    row("API errors", |found| found.api_errors, count);
    let rate = |found: &Analysis| percent(found.tool_errors, found.tool_calls);
    out.push_str(&format!("{:<18}{:>16}{:>16}\n", "tool errors, rate", rate(a), rate(b)));
    let end = |found: &Analysis| found.ends.keys().next().map(|why| printable(why)).unwrap_or_default();
    out.push_str(&format!("{:<18}{:>16}{:>16}\n", "ended", end(a), end(b)));
    let mut tools: Vec<&String> = a.tools.keys().chain(b.tools.keys()).collect();
    tools.sort();
    tools.dedup();
    for tool in tools {
        let calls = |found: &Analysis| found.tools.get(tool).map_or(0, |used| used.calls);
        let (a, b) = (calls(a), calls(b));
        let name: String = printable(tool).chars().take(15).collect();
        out.push_str(&format!("  {name:<16}{:>16}{:>16}{:>12}\n", count(a), count(b), change(a, b)));
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn change(a: u64, b: u64) -> String {
    match (a, b) {
        (a, b) if a == b => "=".to_owned(),
        (0, _) => "new".to_owned(),
        _ => format!("{:+.0} %", (b as f64 / a as f64 - 1.0) * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_in_percent() {
        let changes = [(10, 15), (10, 5), (7, 7), (0, 3), (3, 0)].map(|(a, b)| change(a, b));
        assert_eq!(changes, ["+50 %", "-50 %", "=", "new", "-100 %"]);
    }
}
