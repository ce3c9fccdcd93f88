use proptest::prelude::*;

use super::*;

#[test]
fn a_log_looks_like_this() {
    let header = Header {
        id: "20261122-091400-fix-login",
        repo_sha: "90538be",
        branch: "main",
        model: "sonnet",
        cwd: "/home/ada/code/shop",
        agent: "claude-code",
        version: "0.1.0",
    };
    let mut log = header.to_string();
    for entry in [
        Entry::Start { session: "7f1c2a90-5b1e-4c3f-9a54-0d6b8f3e2a11", ts: "2026-11-22T09:14:00Z" },
        Entry::Init { model: "claude-sonnet-5-5" },
        Entry::User("Fix the login.\nThen stop."),
        Entry::Thinking("First the test."),
        Entry::Assistant("Writing the file."),
        Entry::Call { id: "toolu_01AbCdEfGhIjKlMnOpQrStUv", tool: "Bash", arg: "echo \"a\\b\"" },
        Entry::Output { id: "toolu_01AbCdEfGhIjKlMnOpQrStUv", is_error: false, text: "one\ntwo\nthree\n" },
        Entry::Output { id: "t2", is_error: true, text: "\u{1b}[31mExit code 2\u{1b}[0m\nno" },
        Entry::Output { id: "t3", is_error: false, text: "" },
        Entry::Subagent { parent: "toolu_task", entry: &Entry::Assistant("found it") },
        Entry::Status("09:20:11 usage limit until 12:00:01"),
        Entry::End { tokens_in: 240, tokens_out: 84, cost_usd: 0.00148, reason: "needs-you:login" },
    ] {
        log.push_str(&entry.line());
    }
    assert_eq!(
        log,
        "---\nformat: rlog/1\nid: 20261122-091400-fix-login\nrepo_sha: 90538be\nbranch: main\nmodel: sonnet\n\
         cwd: /home/ada/code/shop\nagent: claude-code\nversion: 0.1.0\n---\n\
         @start id=7f1c2a90-5b1e-4c3f-9a54-0d6b8f3e2a11 ts=2026-11-22T09:14:00Z\n\
         @init model=claude-sonnet-5-5\n\
         u: Fix the login.⏎ Then stop.\n\
         th: First the test.\n\
         a: Writing the file.\n\
         t!:Bash id=OpQrStUv arg=\"echo \\\"a\\\\b\\\"\" → [running]\n\
         o: id=OpQrStUv → [ok] one (+2 lines)\n\
         o: id=t2 → [error] Exit code 2 (+1 line)\n\
         o: id=t3 → [ok]\n\
         x: id=toolu_task a: found it\n\
         # 09:20:11 usage limit until 12:00:01\n\
         @end tokens_in=240 tokens_out=84 cost_usd=0.0015 reason=needs-you:login\n"
    );
}

#[test]
fn a_long_text_is_cut_between_characters_and_says_so() {
    let line = Entry::Thinking(&"ü".repeat(600)).line();
    assert_eq!(line, format!("th: {} …[+100 chars]\n", "ü".repeat(500)));
}

#[test]
fn a_terminal_cannot_be_driven_from_a_log() {
    let nasty = "\u{1b}]0;title\u{7}\u{1b}[2Jx\u{1b}c\u{8}\u{9b}31m\u{202e}y\r\nz\u{1b}]8;;no end\nrest";
    assert_eq!(Entry::Assistant(nasty).line(), "a: x␛c␈�31m�y⏎ z⏎ rest\n");
}

#[test]
fn only_a_whole_end_line_closes_a_log() {
    let end = Entry::End { tokens_in: 1, tokens_out: 2, cost_usd: 0.0, reason: "done" }.line();
    for (bytes, expected) in [
        (format!("a: x\n{end}"), Tail::Closed),
        (format!("a: x\n{end}\n"), Tail::Closed),
        (format!("a: x\n{}", end.trim_end()), Tail::Open { torn: true }),
        ("a: x\n@end tokens_in=1 tok".into(), Tail::Open { torn: true }),
        (format!("{end}a: x\n"), Tail::Open { torn: false }),
        ("a: @end reason=done\n".into(), Tail::Open { torn: false }),
        (String::new(), Tail::Open { torn: false }),
    ] {
        assert_eq!(tail(bytes.as_bytes()), expected, "{bytes:?}");
    }
    assert_eq!(tail(b"a: caf\xc3"), Tail::Open { torn: true });
}

proptest! {
    #[test]
    fn every_entry_is_one_line_without_control_characters(text in any::<String>(), id in any::<String>()) {
        let inner = Entry::Output { id: &id, is_error: true, text: &text };
        for entry in [
            Entry::User(&text),
            Entry::Thinking(&text),
            Entry::Call { id: &id, tool: &text, arg: &text },
            Entry::Subagent { parent: &id, entry: &inner },
            Entry::Start { session: &id, ts: &text },
            Entry::End { tokens_in: 0, tokens_out: 0, cost_usd: 0.0, reason: &text },
        ] {
            let line = entry.line();
            prop_assert!(!line.trim_end_matches('\n').chars().any(char::is_control), "{line:?}");
            prop_assert_eq!(line.lines().count(), 1);
            let ends = matches!(entry, Entry::End { .. });
            prop_assert_eq!(is_closed(line.as_bytes()), ends);
        }
    }
}
