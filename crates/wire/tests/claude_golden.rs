//! The decoder against what the real CLI wrote.

use std::borrow::Cow;
use std::path::Path;

use wire::claude::{Block, Decoded, Ending, Line, LineSplitter, Message, Usage, decode};

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/claude-2.1.330").join(name).with_extension("jsonl");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn each(bytes: &[u8], mut each: impl FnMut(Decoded<'_>)) {
    let mut splitter = LineSplitter::default();
    let mut line = |line: Line<'_>| match line {
        Line::Whole(bytes) => each(decode(bytes)),
        Line::TooLong(bytes) => panic!("a recorded line of {bytes} bytes"),
    };
    splitter.push(bytes, &mut line);
    splitter.finish(&mut line);
}

/// Everything that says how a session ended, on one line.
fn ending(name: &str) -> String {
    let (mut error, mut limit, mut end) = (String::from("-"), String::new(), String::from("no result"));
    each(&golden(name), |decoded| match decoded {
        Decoded::Message(Message::Assistant(assistant)) => {
            if let Some(kind) = assistant.error {
                error = format!("{kind} {:?} {:?}", assistant.api_error_status, assistant.api_error);
            }
        }
        Decoded::Message(Message::RateLimit(rate)) => {
            limit = format!(" limit={} {:?} {:?}", rate.status, rate.kind, rate.resets_at_epoch_s.is_some());
        }
        Decoded::Message(Message::Result(Ending { subtype, is_error, terminal_reason, stop_reason, .. })) => {
            end = format!(
                "{subtype} is_error={is_error} {} {}",
                terminal_reason.unwrap_or(Cow::Borrowed("-")),
                stop_reason.unwrap_or(Cow::Borrowed("-"))
            );
        }
        Decoded::Message(_) => {}
        Decoded::Unknown(kind) => panic!("{name}: unknown type {kind}"),
        Decoded::Garbled => error.push_str(" garbled"),
    });
    format!("{end}; {error}{limit}")
}

#[test]
fn every_recorded_ending_keeps_its_meaning() {
    for (name, expected) in [
        ("success", "success is_error=false completed end_turn; -"),
        ("tool_error", "success is_error=false completed end_turn; -"),
        ("tool_progress", "success is_error=false completed end_turn; -"),
        ("subagent", "success is_error=false completed end_turn; -"),
        ("background", "success is_error=false completed end_turn; -"),
        ("resumed", "success is_error=false completed end_turn; -"),
        ("max_turns", "error_max_turns is_error=true max_turns tool_use; -"),
        ("budget", "error_max_budget_usd is_error=true budget_exhausted tool_use; -"),
        ("auth_401", "success is_error=true api_error stop_sequence; authentication_failed Some(401) None"),
        ("auth_401_login", "success is_error=true api_error stop_sequence; authentication_failed Some(401) None"),
        ("auth_403", "success is_error=true api_error stop_sequence; authentication_failed Some(403) None"),
        ("rate_429", "success is_error=true api_error stop_sequence; rate_limit Some(429) None"),
        (
            "limit_429",
            "success is_error=true api_error stop_sequence; rate_limit Some(429) Some(\"usage_limit_reached\") \
             limit=rejected Some(\"five_hour\") true",
        ),
        ("overloaded_529", "success is_error=true api_error stop_sequence; server_error Some(529) None"),
        ("server_500", "success is_error=true api_error stop_sequence; server_error Some(500) None"),
        ("refused", "success is_error=true api_error stop_sequence; server_error None Some(\"connection_failed\")"),
        ("no_credit", "success is_error=true api_error stop_sequence; billing_error Some(400) None"),
        (
            "disabled",
            "success is_error=true api_error stop_sequence; invalid_request Some(400) Some(\"org_disabled_credential\")",
        ),
        ("too_long", "success is_error=true prompt_too_long stop_sequence; invalid_request Some(400) None"),
        ("model_404", "success is_error=true api_error stop_sequence; model_not_found Some(404) None"),
        (
            "max_tokens",
            "success is_error=true api_error stop_sequence; max_output_tokens None Some(\"max_output_tokens\")",
        ),
        ("no_conversation", "error_during_execution is_error=true - -; - garbled"),
        ("in_use", "no result; - garbled"),
    ] {
        assert_eq!(ending(name), expected, "{name}");
    }
}

#[test]
fn the_turn_of_a_tool_is_read_block_by_block() {
    let mut seen = Vec::new();
    let mut final_usage = Vec::new();
    let mut cost = None;
    each(&golden("success"), |decoded| match decoded {
        Decoded::Message(Message::Assistant(assistant)) => {
            assert_eq!(assistant.usage.map(|usage| usage.output_tokens), Some(1));
            seen.extend(assistant.blocks.iter().map(|block| match block {
                Block::Text(text) => format!("text {text:?}"),
                Block::Thinking(text) => format!("thinking {text:?}"),
                Block::ToolUse { id, name, arg } => format!("call {name} {id} {arg:?}"),
                Block::ToolResult { .. } | Block::Other(_) => panic!("{block:?}"),
            }));
        }
        Decoded::Message(Message::User(user)) => seen.extend(user.blocks.iter().map(|block| match block {
            Block::ToolResult { id, is_error, text } => {
                format!("result {id} {is_error} {text:?}")
            }
            other => panic!("{other:?}"),
        })),
        Decoded::Message(Message::Partial(partial)) if partial.kind == "message_delta" => {
            final_usage.extend(partial.usage);
            assert!(partial.message_id.is_some());
        }
        Decoded::Message(Message::Result(ending)) => cost = ending.cost_usd,
        _ => {}
    });
    assert_eq!(
        seen,
        [
            r#"thinking "I should write the file.\nThen report.""#,
            r#"text "Writing the file.""#,
            r#"call Bash toolu_5175_1 Some("echo hi > out.txt; echo written")"#,
            r#"result toolu_5175_1 false Some("written")"#,
            r#"text "All finished.\nAUTOPILOT: DONE""#,
        ]
    );
    let expected = Usage { input_tokens: 120, output_tokens: 42, ..Usage::default() };
    assert_eq!(final_usage, [expected, expected]);
    assert_eq!(cost, Some(0.00148));
}

#[test]
fn a_resumed_session_tells_its_own_cost_apart_from_the_total() {
    each(&golden("resumed"), |decoded| {
        if let Decoded::Message(Message::Result(ending)) = decoded {
            assert_eq!((ending.total_cost_usd, ending.cost_usd), (Some(0.00148), Some(0.00074)));
        }
    });
}

#[test]
fn background_tasks_and_tool_progress_are_signs_of_life() {
    let mut running = Vec::new();
    each(&golden("background"), |decoded| {
        if let Decoded::Message(Message::BackgroundTasks { running: now }) = decoded {
            running.push(now);
        }
    });
    assert_eq!(running, [1, 0]);
    let mut elapsed = Vec::new();
    each(&golden("tool_progress"), |decoded| {
        if let Decoded::Message(Message::ToolProgress { tool, elapsed_s }) = decoded {
            elapsed.push((tool.map(Cow::into_owned), elapsed_s));
        }
    });
    assert!(elapsed.contains(&(Some("Bash".into()), 30)), "{elapsed:?}");
}

#[test]
fn a_field_of_the_wrong_type_spoils_nothing_else() {
    let line = br#"{"message":"oops","type":"result","is_error":true,"errors":{"a":1},"result":[1,{"b":null}],
        "num_turns":"three","total_cost_usd":null,"terminal_reason":"max_turns","usage":7}"#;
    let Decoded::Message(Message::Result(ending)) = decode(line) else { panic!() };
    assert!(ending.is_error);
    assert_eq!(ending.terminal_reason.as_deref(), Some("max_turns"));
    assert_eq!((ending.num_turns, ending.text, ending.errors.len()), (0, None, 0));
}

#[test]
fn what_is_no_event_is_garbled_or_unknown() {
    for garbage in [
        "",
        "{",
        "[]",
        "[\"result\"]",
        "7",
        "null",
        "{}",
        r#"{"type":7}"#,
        "Error: boom",
        "{\"type\":\"result\"",
        "\u{0}",
    ] {
        assert_eq!(decode(garbage.as_bytes()), Decoded::Garbled, "{garbage:?}");
    }
    assert_eq!(decode(b"{\"type\":\"res\xff\"}"), Decoded::Garbled);
    assert_eq!(decode(br#"{"type":"telepathy"}"#), Decoded::Unknown("telepathy".into()));
    let deep = format!(r#"{{"type":"user","message":{}"#, "[".repeat(100_000));
    assert_eq!(decode(deep.as_bytes()), Decoded::Garbled);
}

proptest::proptest! {
    #[test]
    fn no_bytes_can_make_it_fail(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        drop(decode(&bytes));
    }

    #[test]
    fn a_damaged_recording_cannot_make_it_fail(at in 0_usize..10_000, byte: u8, cut in 0_usize..10_000) {
        let mut bytes = golden("success");
        let (at, cut) = (at % bytes.len(), cut % bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.max(1));
        each(&bytes, |_| {});
    }
}
