//! What some logs took: money, tokens, turns, time, and how the tools did.
//!
//! The `.jsonl` tells all of it; a log without one is counted by its lines, and its `@end` tells tokens and money.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io;

use wire::claude::{Assistant, Block, Decoded, MAX_LINE_BYTES, Message, Usage, decode};
use wire::rlog::read::{Reader, Seen, body};

use super::logs::{Log, RLOG_LINE_MAX_BYTES, Span, each_line};
use crate::price::listed_micros;

/// So many latencies of a tool are kept; of more, every second, fourth, … only.
const LATENCIES_MAX: usize = 4_096;

/// What one model did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelUse {
    pub messages: u64,
    /// Those of the main agent.
    pub turns: u64,
    /// All calls that it made.
    pub tools: ToolUse,
    pub api_errors: u64,
    pub tokens: Usage,
    /// Its share of what each log cost, by the list prices.
    pub cost_micros: u64,
}

/// What one tool did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolUse {
    pub calls: u64,
    pub errors: u64,
    /// Of those whose beginning and end are known.
    latencies_ms: Vec<u64>,
    every: u64,
    seen: u64,
}

/// What some logs took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Analysis {
    pub logs: u64,
    /// From the first to the last event of each log, summed.
    pub elapsed_ms: u64,
    /// From the first event of all to the last.
    pub span: Option<Span>,
    pub user_messages: u64,
    /// Each once, subagents included.
    pub assistant_messages: u64,
    /// Those of the main agent.
    pub turns: u64,
    pub tool_calls: u64,
    pub tool_errors: u64,
    pub tokens: Usage,
    pub cost_micros: u64,
    pub api_errors: u64,
    pub api_retries: u64,
    pub models: BTreeMap<String, ModelUse>,
    pub tools: BTreeMap<String, ToolUse>,
    /// Why the logs ended; `open` for one without an end.
    pub ends: BTreeMap<String, u64>,
    /// Lines that could not be read.
    pub garbled: u64,
    /// What the newest result of a session said that all of it cost.
    totals_micros: HashMap<String, u64>,
}

impl ToolUse {
    fn took(&mut self, ms: u64) {
        self.seen += 1;
        if self.seen.is_multiple_of(self.every.max(1)) {
            self.latencies_ms.push(ms);
        }
        if self.latencies_ms.len() > LATENCIES_MAX {
            self.every = self.every.max(1) * 2;
            let mut keep = false;
            self.latencies_ms.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// The latency that so many percent of the calls do not exceed.
    #[must_use]
    pub fn latency_ms(&self, percent: usize) -> Option<u64> {
        let mut sorted = self.latencies_ms.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied()
    }
}

struct End {
    tokens_in: Option<u64>,
    tokens_out: Option<u64>,
    cost_micros: Option<u64>,
    reason: String,
}

struct Call {
    tool: String,
    model: String,
    at_unix_ms: Option<u64>,
}

/// What is known of one log while it is read.
#[derive(Default)]
struct One {
    answers: HashMap<String, (String, Usage)>,
    nameless: u64,
    /// Without their result yet.
    calls: HashMap<String, Call>,
    span: Option<Span>,
    told_micros: u64,
    session: Option<String>,
    /// In the `.rlog`: what its `@end` says.
    end: Option<End>,
    model: String,
    /// What was asked is known from the `.rlog`.
    asked: bool,
}

impl Analysis {
    /// Adds what a log took.
    ///
    /// # Errors
    /// As of open and read.
    pub fn add(&mut self, log: &Log) -> io::Result<()> {
        let jsonl = log.jsonl();
        let is_rlog = !log.is_events();
        let mut one = One { asked: is_rlog, ..One::default() };
        if is_rlog {
            let mut reader = Reader::default();
            each_line(&log.path, RLOG_LINE_MAX_BYTES, |line| {
                let Some(line) = line else {
                    self.garbled += 1;
                    return;
                };
                let text = String::from_utf8_lossy(line);
                let seen = reader.line(&text);
                let is_line = !matches!(seen, Seen::Other { kind: None, .. });
                let is_text = matches!(text, Cow::Borrowed(_)) && !line.contains(&0);
                self.garbled += u64::from(!is_line || !is_text);
                self.rlog_line(&seen, &mut one, jsonl.is_none());
            })?;
        }
        if let Some(jsonl) = jsonl {
            each_line(&jsonl, MAX_LINE_BYTES, |line| match line.map(decode) {
                Some(Decoded::Message(message)) => self.message(message, &mut one),
                Some(Decoded::Unknown(_)) => {}
                Some(Decoded::Garbled) | None => self.garbled += 1,
            })?;
        }
        self.finish(log, one);
        Ok(())
    }

    fn rlog_line(&mut self, seen: &Seen<'_>, one: &mut One, alone: bool) {
        match seen {
            Seen::End { tokens_in, tokens_out, cost_micros, reason } => {
                let reason = reason.unwrap_or("-").to_owned();
                one.end =
                    Some(End { tokens_in: *tokens_in, tokens_out: *tokens_out, cost_micros: *cost_micros, reason });
            }
            // What was asked is not in the stream.
            Seen::User(_) => self.user_messages += 1,
            _ if !alone => {}
            Seen::Init { model: Some(model) } | Seen::Header { key: "model", value: model } => {
                one.model = (*model).to_owned()
            }
            Seen::Assistant(_) => {
                self.assistant_messages += 1;
                self.turns += 1;
                let used = self.models.entry(one.model.clone()).or_default();
                (used.messages, used.turns) = (used.messages + 1, used.turns + 1);
            }
            Seen::Call { tool, id, .. } => {
                self.tool_calls += 1;
                let call = Call { tool: (*tool).to_owned(), model: one.model.clone(), at_unix_ms: None };
                self.called(&call);
                if let Some(id) = id {
                    one.calls.insert((*id).to_owned(), call);
                }
            }
            Seen::Output { id, is_error: true, .. } => {
                self.tool_errors += 1;
                if let Some(call) = id.and_then(|id| one.calls.get(id)) {
                    self.of_call(call, |used| used.errors += 1);
                }
            }
            Seen::Subagent { line, .. } => self.rlog_line(&body(line), one, alone),
            _ => {}
        }
    }

    fn message(&mut self, message: Message<'_>, one: &mut One) {
        match message {
            Message::Init(init) => {
                one.model = init.model.unwrap_or_default().into_owned();
                one.session = init.session_id.map(Cow::into_owned);
            }
            Message::ApiRetry(_) => self.api_retries += 1,
            Message::Assistant(assistant) => self.assistant(&assistant, one),
            Message::User(user) => {
                one.at(user.at_unix_ms);
                let mut said = false;
                for block in &user.blocks {
                    match block {
                        Block::ToolResult { id, is_error, .. } => self.returned(id, *is_error, user.at_unix_ms, one),
                        Block::Text(_) => said = true,
                        Block::Thinking(_) | Block::ToolUse { .. } | Block::Other(_) => {}
                    }
                }
                self.user_messages += u64::from(said && user.parent.is_none() && !one.asked);
            }
            Message::Partial(partial) => {
                let id = partial.message_id.as_deref().filter(|_| partial.kind == "message_delta");
                if let (Some(id), Some(usage)) = (id, partial.usage)
                    && let Some(answer) = one.answers.get_mut(id)
                {
                    most(&mut answer.1, usage);
                }
            }
            Message::Result(ending) => {
                let total = ending.total_cost_usd.map(micros);
                let session = one.session.clone().unwrap_or_default();
                let before = total.and_then(|total| self.totals_micros.insert(session, total)).unwrap_or(0);
                // One that is smaller begins anew.
                let grown = total.map(|total| if total >= before { total - before } else { total });
                one.told_micros += ending.cost_usd.map(micros).or(grown).unwrap_or(0);
            }
            Message::RateLimit(_)
            | Message::BackgroundTasks { .. }
            | Message::Compacting
            | Message::System { .. }
            | Message::ToolProgress { .. } => {}
        }
    }

    fn assistant(&mut self, assistant: &Assistant<'_>, one: &mut One) {
        one.at(assistant.at_unix_ms);
        if assistant.error.is_some() {
            self.api_errors += 1;
            self.models.entry(one.model.clone()).or_default().api_errors += 1;
            return;
        }
        let model = assistant.model.as_deref().unwrap_or(&one.model).to_owned();
        let id = assistant.id.as_deref().map_or_else(
            || {
                one.nameless += 1;
                format!("nameless-{}", one.nameless)
            },
            str::to_owned,
        );
        if model != "<synthetic>" {
            let answer = (model.clone(), assistant.usage.unwrap_or_default());
            match one.answers.get_mut(&id) {
                // The final counts may have come before a later piece of the message.
                Some(known) => most(&mut known.1, answer.1),
                None => {
                    let turn = u64::from(assistant.parent.is_none());
                    self.turns += turn;
                    self.models.entry(model.clone()).or_default().turns += turn;
                    one.answers.insert(id, answer);
                }
            }
        }
        for block in &assistant.blocks {
            if let Block::ToolUse { id, name, .. } = block {
                self.tool_calls += 1;
                let (tool, model) = (name.to_string(), model.clone());
                let call = Call { tool, model, at_unix_ms: assistant.at_unix_ms };
                self.called(&call);
                one.calls.insert(id.to_string(), call);
            }
        }
    }

    fn returned(&mut self, id: &str, is_error: bool, at: Option<u64>, one: &mut One) {
        self.tool_errors += u64::from(is_error);
        let Some(call) = one.calls.remove(id) else { return };
        let took = call.at_unix_ms.zip(at).map(|(began, at)| at.saturating_sub(began));
        self.of_call(&call, |used| {
            used.errors += u64::from(is_error);
            if let Some(ms) = took {
                used.took(ms);
            }
        });
    }

    fn called(&mut self, call: &Call) {
        self.of_call(call, |used| used.calls += 1);
    }

    /// For the call's tool, and for the model that made it.
    fn of_call(&mut self, call: &Call, count: impl Fn(&mut ToolUse)) {
        count(self.tools.entry(call.tool.clone()).or_default());
        count(&mut self.models.entry(call.model.clone()).or_default().tools);
    }

    fn finish(&mut self, log: &Log, one: One) {
        self.logs += 1;
        // Without a session's id nothing of another log is meant.
        self.totals_micros.remove("");
        self.assistant_messages += one.answers.len() as u64;
        let mut listed = BTreeMap::new();
        let mut tokens = Usage::default();
        for (model, usage) in one.answers.values() {
            let used = self.models.entry(model.clone()).or_default();
            used.messages += 1;
            add(&mut used.tokens, *usage);
            add(&mut tokens, *usage);
            *listed.entry(model.clone()).or_insert(0) += listed_micros(model, *usage);
        }
        let end = one.end.as_ref();
        // Our ledger knows of more than one process; the CLI's own books of the session; then the list prices.
        let told = end
            .and_then(|end| end.cost_micros)
            .filter(|micros| *micros > 0)
            .or(Some(one.told_micros).filter(|micros| *micros > 0));
        let paid = told.unwrap_or_else(|| listed.values().sum());
        self.cost_micros += paid;
        self.share(paid, listed, &one.model);
        if one.answers.is_empty() {
            tokens.input_tokens = end.and_then(|end| end.tokens_in).unwrap_or(0);
            tokens.output_tokens = end.and_then(|end| end.tokens_out).unwrap_or(0);
        }
        add(&mut self.tokens, tokens);
        *self.ends.entry(end.map_or("open", |end| &end.reason).to_owned()).or_default() += 1;
        let span = one.span.or_else(|| log.began_ms().map(|at| Span { from_ms: at, to_ms: at }));
        if let Some(span) = span {
            self.elapsed_ms += span.to_ms.saturating_sub(span.from_ms);
            let all = self.span.get_or_insert(span);
            all.from_ms = all.from_ms.min(span.from_ms);
            all.to_ms = all.to_ms.max(span.to_ms);
        }
    }

    /// What a log cost, among its models by their list prices; `model`: the one that it names.
    fn share(&mut self, paid: u64, mut listed: BTreeMap<String, u64>, model: &str) {
        if paid == 0 {
            return;
        }
        if listed.values().all(|micros| *micros == 0) {
            // Nothing tells them apart.
            let only = if listed.len() == 1 { listed.keys().next().cloned() } else { None };
            listed = BTreeMap::from([(only.unwrap_or_else(|| model.to_owned()), 1)]);
        }
        let list: u64 = listed.values().sum();
        for (model, micros) in listed {
            let share = u128::from(micros) * u128::from(paid) / u128::from(list.max(1));
            self.models.entry(model).or_default().cost_micros += u64::try_from(share).unwrap_or(u64::MAX);
        }
    }
}

impl One {
    fn at(&mut self, at: Option<u64>) {
        let Some(at) = at else { return };
        let span = self.span.get_or_insert(Span { from_ms: at, to_ms: at });
        span.from_ms = span.from_ms.min(at);
        span.to_ms = span.to_ms.max(at);
    }
}

fn micros(dollars: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    let micros = (dollars * 1e6).round() as u64;
    micros
}

/// The counts of a message only grow, and not every event has all of them.
fn most(known: &mut Usage, usage: Usage) {
    known.input_tokens = known.input_tokens.max(usage.input_tokens);
    known.output_tokens = known.output_tokens.max(usage.output_tokens);
    known.cache_write_tokens = known.cache_write_tokens.max(usage.cache_write_tokens);
    known.cache_read_tokens = known.cache_read_tokens.max(usage.cache_read_tokens);
}

fn add(to: &mut Usage, usage: Usage) {
    to.input_tokens += usage.input_tokens;
    to.output_tokens += usage.output_tokens;
    to.cache_write_tokens += usage.cache_write_tokens;
    to.cache_read_tokens += usage.cache_read_tokens;
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/golden/claude-2.1.330").join(name)
    }

    fn analysis(rlog: Option<&str>, jsonl: Option<&str>) -> Analysis {
        let folder = tempfile::tempdir().unwrap();
        let day = folder.path().join("20261122");
        std::fs::create_dir(&day).unwrap();
        if let Some(text) = rlog {
            std::fs::write(day.join("150000-x.rlog"), text).unwrap();
        }
        if let Some(text) = jsonl {
            std::fs::write(day.join("150000-x.jsonl"), text).unwrap();
        }
        let mut analysis = Analysis::default();
        for log in super::super::logs::in_day(&day) {
            analysis.add(&log).unwrap();
        }
        analysis
    }

    #[test]
    fn a_recorded_session_is_counted_as_its_own_result_counts_it() {
        let jsonl = std::fs::read_to_string(golden("success.jsonl")).unwrap();
        let found = analysis(None, Some(&jsonl));
        assert_eq!((found.logs, found.turns, found.tool_calls, found.tool_errors), (1, 2, 1, 0));
        // `modelUsage` of the recording.
        let tokens = Usage { input_tokens: 240, output_tokens: 84, cache_read_tokens: 100, cache_write_tokens: 60 };
        assert_eq!((found.tokens, found.cost_micros), (tokens, 1_480));
        let (model, used) = found.models.first_key_value().unwrap();
        assert_eq!((model.as_str(), used.messages, used.cost_micros), ("claude-sonnet-5-5", 2, 1_480));
        assert_eq!((used.turns, used.tools.calls, used.tools.errors, used.api_errors), (2, 1, 0, 0));
        assert_eq!(used.tools.latency_ms(50), found.tools.values().next().unwrap().latency_ms(50));
        let tool = found.tools.values().next().unwrap();
        assert!(tool.latency_ms(50).is_some_and(|ms| ms < 5_000), "{tool:?}");
        assert_eq!(found.ends, BTreeMap::from([("open".to_owned(), 1)]));
        let errors = analysis(None, Some(&std::fs::read_to_string(golden("tool_error.jsonl")).unwrap()));
        assert_eq!((errors.tool_errors, errors.tools.values().map(|tool| tool.errors).sum::<u64>()), (1, 1));
        assert_eq!(analysis(None, Some(&std::fs::read_to_string(golden("server_500.jsonl")).unwrap())).api_errors, 1);
    }

    #[test]
    fn a_log_of_another_tool_is_counted_by_its_lines() {
        let rlog = "---\nformat: rlog/1\nid: x\n---\n@start id=s ts=2026-11-22T15:00:00Z\n@init model=m\nu: go\n\
            t:Read id=1 f → [ok]\nt!:Bash id=2 arg=\"x\" → [running]\no: id=2 → [error] no\nx: id=2 a: sub\na: done\n\
            @end tokens_in=7 tokens_out=5 cost_usd=0.25 reason=done\n";
        let found = analysis(Some(rlog), None);
        assert_eq!((found.user_messages, found.assistant_messages, found.tool_calls, found.tool_errors), (1, 2, 2, 1));
        assert_eq!((found.cost_micros, found.tokens.input_tokens, found.tokens.output_tokens), (250_000, 7, 5));
        assert_eq!(found.tools["Bash"].errors, 1);
        assert_eq!(found.ends, BTreeMap::from([("done".to_owned(), 1)]));
        let cut = analysis(Some(&rlog[..rlog.len() - 40]), None);
        assert_eq!((cut.ends.get("done"), cut.tool_calls), (None, 2));
    }

    #[test]
    fn damage_is_counted_and_spoils_nothing_else() {
        let jsonl = std::fs::read_to_string(golden("success.jsonl")).unwrap();
        let damaged = format!("{{\"type\":\n\u{0}\u{1}\n{jsonl}{{\"type\":\"assistant\",\"mess");
        let found = analysis(None, Some(&damaged));
        assert_eq!((found.garbled, found.turns, found.cost_micros), (3, 2, 1_480));
    }

    #[test]
    fn a_total_that_grows_with_the_session_is_counted_once() {
        let result = |total: &str| format!("{{\"type\":\"result\",\"total_cost_usd\":{total}}}\n");
        let init = |id: &str| format!("{{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"{id}\"}}\n");
        let first = init("a") + &result("0.10") + &result("0.25");
        assert_eq!(analysis(None, Some(&first)).cost_micros, 250_000);
        // Resumed in a process of its own, and then another session.
        let more = first + &init("a") + &result("0.40") + &init("b") + &result("0.30");
        assert_eq!(analysis(None, Some(&more)).cost_micros, 700_000);
        let since = "{\"type\":\"result\",\"total_cost_usd\":0.5,\"model_usage_since_last_result\":{\"m\":{\"costUSD\":0.1}}}\n";
        let both = more + &init("a") + since;
        assert_eq!(analysis(None, Some(&both)).cost_micros, 800_000);
        assert_eq!(analysis(None, Some(&(both + &result("0.6")))).cost_micros, 900_000);
        // In two logs.
        let folder = tempfile::tempdir().unwrap();
        let mut all = Analysis::default();
        for (name, total) in [("1.jsonl", "0.10"), ("2.jsonl", "0.25")] {
            let path = folder.path().join(name);
            std::fs::write(&path, init("a") + &result(total)).unwrap();
            all.add(&Log::at(&path).unwrap()).unwrap();
        }
        assert_eq!(all.cost_micros, 250_000);
    }

    #[test]
    fn the_model_of_a_foreign_header_is_known_and_what_is_no_line_of_a_log_is_counted() {
        let rlog = "---\nformat: rlog/1\nmodel: opus-x\n---\nu: go\na: one\nnonsense without a kind\na: two\n\na: \0\n";
        let found = analysis(Some(rlog), None);
        assert_eq!(found.models.keys().collect::<Vec<_>>(), ["opus-x"]);
        assert_eq!((found.models["opus-x"].messages, found.garbled), (3, 2));
        let jsonl = std::fs::read_to_string(golden("success.jsonl")).unwrap();
        let beside = analysis(Some(rlog), Some(&jsonl));
        assert_eq!((beside.models.len(), beside.turns, beside.garbled), (1, 2, 2));
    }

    #[test]
    fn of_very_many_latencies_the_quantiles_stay() {
        let mut tool = ToolUse::default();
        (0..100_000).for_each(|ms| tool.took(ms));
        assert!(tool.latencies_ms.len() <= LATENCIES_MAX + 1);
        let (half, most) = (tool.latency_ms(50).unwrap(), tool.latency_ms(95).unwrap());
        assert!((45_000..55_000).contains(&half) && (92_000..98_000).contains(&most), "{half} {most}");
    }

    #[test]
    fn a_logs_money_is_its_own_models() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("foreign.rlog");
        std::fs::write(&foreign, "---\nmodel: gpt-x\n---\na: x\n@end cost_usd=0.5 reason=done\n").unwrap();
        let ours = folder.path().join("ours.jsonl");
        std::fs::copy(golden("success.jsonl"), &ours).unwrap();
        let mut analysis = Analysis::default();
        for path in [&foreign, &ours] {
            analysis.add(&Log::at(path).unwrap()).unwrap();
        }
        let costs: Vec<_> = analysis.models.iter().map(|(name, used)| (name.as_str(), used.cost_micros)).collect();
        assert_eq!(costs, [("claude-sonnet-5-5", 1_480), ("gpt-x", 500_000)]);
        assert_eq!(analysis.cost_micros, 501_480);
    }
}
