//! `autopilot project` and `autopilot issue`, as a user and a script see them.

use std::process::Output;

use testkit::home;
use testkit::home::Home;

/// What a command says on stdout; it has to succeed.
#[track_caller]
fn said(home: &Home, args: &[&str]) -> String {
    let output = home.autopilot(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What it says on stderr when it refuses, with its exit code.
#[track_caller]
fn refused(home: &Home, args: &[&str], code: i32) -> String {
    let Output { status, stdout, stderr } = home.autopilot(args);
    let stderr = String::from_utf8(stderr).expect("text");
    assert_eq!((status.code(), stdout.as_slice()), (Some(code), &b""[..]), "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains("\nhint: "), "{args:?}: {stderr}");
    stderr
}

fn json(home: &Home, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&said(home, args)).expect("JSON")
}

#[test]
fn a_task_lives_from_its_creation_to_its_removal() {
    let home = home!();
    assert!(refused(&home, &["issue", "list"], 2).contains("no project here"));
    let create =
        ["issue", "create", "Fix the login", "-d", "It fails\non Mondays", "--priority", "high", "--type", "bug"];
    assert_eq!(said(&home, &create), "#1 Fix the login\n");
    assert_eq!(said(&home, &["issue", "create", "Release", "--needs", "#1"]), "#2 Release\n");
    assert_eq!(
        said(&home, &["issue", "list"]),
        "    state    priority  type  title\n\
         #1  ready    high      bug   Fix the login\n\
         #2  waiting  medium    task  Release (needs #1)\n"
    );
    said(&home, &["issue", "edit", "2", "--title", "Ship it", "--needs", ""]);
    said(&home, &["issue", "block", "2", "no ship"]);
    assert!(said(&home, &["issue", "show", "2"]).contains("reason    no ship\n"));
    said(&home, &["issue", "unblock", "2"]);
    assert!(said(&home, &["issue", "claim"]).starts_with("#1 Fix the login is yours until "));
    let task = json(&home, &["issue", "list", "--json"])["tasks"][0].clone();
    assert_eq!((&task["state"], &task["claim"]["holder"]), (&"claimed".into(), &"person".into()));
    assert!(said(&home, &["issue", "show", "1"]).contains(" (by hand), until "));
    assert!(refused(&home, &["issue", "remove", "1"], 6).contains("being worked on by"));
    said(&home, &["issue", "release", "1"]);
    assert_eq!(said(&home, &["issue", "complete", "1"]), "#1 done\n");
    assert_eq!(said(&home, &["issue", "complete", "1"]), "#1 was done already\n");
    assert!(!said(&home, &["issue", "list"]).contains("login"));
    assert!(said(&home, &["issue", "list", "--all"]).contains("#1  done"));
    assert_eq!(said(&home, &["issue", "reopen", "1"]), "#1 is open again\n");
    assert_eq!(said(&home, &["issue", "remove", "1", "2"]), "removed #1, #2\n");
    assert_eq!(said(&home, &["issue", "list"]), "no tasks; `autopilot issue create \"…\"` makes one\n");
    assert!(refused(&home, &["issue", "show", "1"], 2).contains("no task #1"));
    assert_eq!(home.autopilot(["issue", "show", "x"]).status.code(), Some(2));
}

#[test]
fn a_project_is_found_by_its_name_and_from_its_folder() {
    let home = home!();
    let folder = home.repository();
    let folder = folder.to_str().expect("text");
    assert!(said(&home, &["project", "create", "shop"]).starts_with("made the project shop in "));
    refused(&home, &["project", "create", "shop"], 6);
    std::fs::create_dir(home.repository().join("sub")).expect("make a folder");
    let mut command = home.command(home.autopilot_path());
    command.args(["issue", "create", "From below"]).current_dir(home.repository().join("sub"));
    assert_eq!(home.start("below", command).wait_for_code(testkit::home::DEADLINE), 0);
    assert_eq!(json(&home, &["project", "show", "--json"])["tasks"]["ready"], 1);
    assert_eq!(json(&home, &["issue", "-p", "shop", "list", "--json"])["tasks"][0]["title"], "From below");
    assert!(said(&home, &["project", "list"]).contains(folder));
    assert!(refused(&home, &["issue", "list", "--project", "other"], 2).contains("no project other"));
    refused(&home, &["project", "remove", "shop"], 6);
    assert_eq!(said(&home, &["project", "remove", "shop", "--yes"]), "removed the project shop with 1 task\n");
    assert_eq!(said(&home, &["project", "list"]), "no projects; `autopilot project create` makes one\n");
}

#[test]
fn tasks_come_from_files_and_go_into_files() {
    let home = home!();
    std::fs::write(home.repository().join("plan.md"), "## Build\n\nAll of it.\n\n## Test\n- priority: urgent\n")
        .expect("write");
    assert_eq!(said(&home, &["issue", "import", "plan.md"]), "#1 Build\n#2 Test\n");
    for (file, back) in [("out.json", "issue import out.json -p again"), ("out.md", "issue import out.md -p more")] {
        assert_eq!(said(&home, &["issue", "export", file]), format!("wrote 2 tasks to {file}\n"));
        said(&home, &back.split(' ').collect::<Vec<_>>());
    }
    let listed = said(&home, &["issue", "list", "-p", "more"]);
    assert_eq!(listed, said(&home, &["issue", "list", "-p", "again"]));
    assert_eq!(said(&home, &["issue", "export", "-p", "again", "--format", "json"]), home.read("out.json"));
    std::fs::write(home.repository().join("bad.md"), "## A\n- type: wish\n").expect("write");
    let stderr = refused(&home, &["issue", "import", "bad.md"], 2);
    assert!(stderr.contains("bad.md: line 2: `wish` is none of task, bug, feature"), "{stderr}");
}

/// A pipe, a link, a device are written to; a file keeps its mode.
#[test]
fn an_export_replaces_no_more_than_a_files_content() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    let home = home!();
    let at = |name: &str| home.repository().join(name);
    said(&home, &["issue", "create", "one"]);
    let whole = said(&home, &["issue", "export"]);
    std::fs::write(at("kept.md"), "old").expect("write");
    std::fs::set_permissions(at("kept.md"), std::fs::Permissions::from_mode(0o640)).expect("chmod");
    symlink("kept.md", at("link.md")).expect("link");
    said(&home, &["issue", "export", "link.md"]);
    assert!(at("link.md").is_symlink());
    assert_eq!(std::fs::read_to_string(at("kept.md")).expect("read"), whole);
    assert_eq!(std::fs::metadata(at("kept.md")).expect("stat").permissions().mode() & 0o777, 0o640);
    let pipe = at("pipe");
    assert!(home.command("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let mut reader = home.command("cat");
    reader.arg(&pipe);
    let reader = home.start("reader", reader);
    said(&home, &["issue", "export", "pipe"]);
    assert_eq!(String::from_utf8(reader.into_output(home::DEADLINE).stdout).expect("text"), whole);
    assert!(std::fs::metadata(&pipe).expect("stat").file_type().is_fifo());
    assert!(refused(&home, &["issue", "export", "."], 2).contains("cannot write ."));
    // Nobody takes half a backup for a whole one.
    let mut command = home.command(&home.binaries().autopilot);
    command.args(["issue", "export"]).stdout(std::fs::File::options().write(true).open("/dev/full").expect("open"));
    let output = command.output().expect("run");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

/// As far as the agent, of which there is none here.
#[test]
fn a_worker_finds_the_queue_that_the_other_commands_find() {
    let mut home = home!();
    home.set_env("AUTOPILOT_CLAUDE", "/nonexistent");
    said(&home, &["issue", "create", "one"]);
    let (repository, below) = (home.repository(), home.repository().join("a/below"));
    std::fs::create_dir_all(&below).expect("mkdir");
    let name = repository.file_name().expect("a name").to_str().expect("text").to_owned();
    let below = below.to_str().expect("text");
    for args in [&["--cwd", below][..], &["-p", &name], &["--cwd", below, "-p", &name]] {
        let output = home.autopilot([&["run", "--full-auto"], args].concat());
        assert_eq!(output.status.code(), Some(13), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(home.autopilot(["run", "--full-auto", "-p", "other"]).status.code(), Some(2));
    let projects = || std::fs::read_dir(home.path().join("projects")).expect("projects").count();
    assert_eq!(projects(), 2, "the queue's, and other");
    // A prompt is worked on where it was given, and gone on with there.
    for args in [&["run", "--full-auto", "--cwd", below, "do it"][..], &["run", "--full-auto", "--cwd", below]] {
        assert_eq!(home.autopilot(args).status.code(), Some(13), "{args:?}");
        assert_eq!(projects(), 3);
    }
    let job = std::fs::read_dir(home.path().join("projects")).expect("projects").filter(|entry| {
        let text = std::fs::read_to_string(entry.as_ref().expect("entry").path().join("work.json"));
        text.is_ok_and(|text| text.contains("do it") && text.contains("unfinished"))
    });
    assert_eq!(job.count(), 1, "it is still to be done");
}

#[test]
fn a_list_of_tasks_alone_is_imported_and_odd_names_and_reasons_are_refused() {
    let home = home!();
    let import = |text: &str| std::fs::write(home.repository().join("t.json"), text).expect("write");
    import("[{\"title\":\"x\"}]");
    assert_eq!(said(&home, &["issue", "import", "t.json"]), "#1 x\n");
    import("[{\"title\":\"x\",\"id\":-1}]");
    assert!(refused(&home, &["issue", "import", "t.json"], 2).contains("-1 is no task's id"));
    import("{\"tasks\":[]}");
    assert!(refused(&home, &["issue", "import", "t.json"], 2).contains("{\"tasks\": ["));
    assert!(refused(&home, &["issue", "block", "1", " "], 2).contains("no reason was given"));
    for args in [&["project", "create", ""][..], &["project", "create", "a\nb"], &["issue", "-p", "", "list"]] {
        assert_eq!(home.autopilot(args).status.code(), Some(2), "{args:?}");
    }
    // What can't be read is not nothing.
    std::fs::create_dir_all(home.path().join("projects/bad")).expect("mkdir");
    std::fs::write(home.path().join("projects/bad/queue.db"), "garbage".repeat(1_000)).expect("write");
    assert!(said(&home, &["project", "list"]).contains("warning: the project in bad cannot be read: "));
}

#[test]
fn an_import_that_cannot_be_read_says_what_to_do() {
    let home = home!();
    std::fs::write(home.repository().join("latin.md"), b"## caf\xe9\n").expect("write");
    for (file, why) in [
        ("nope.md", "there is no file nope.md"),
        ("latin.md", "latin.md is no text in UTF-8"),
        (".", "cannot read .: "),
    ] {
        assert!(refused(&home, &["issue", "import", file], 2).contains(why), "{file}");
    }
}

#[test]
fn what_a_list_or_an_export_says_of_each_task_comes_back_with_it() {
    let home = home!();
    for create in [
        "issue create Design --type feature",
        "issue create Build --needs 1 --priority high",
        "issue create Ship --needs 2",
        "issue create Sell --priority low",
        "issue create Rest",
    ] {
        said(&home, &create.split(' ').collect::<Vec<_>>());
    }
    said(&home, &["issue", "complete", "1"]);
    said(&home, &["issue", "block", "4", "no shop\nyet"]);
    said(&home, &["issue", "claim", "5"]);
    let all = ["issue", "list", "--all", "--json"];
    for (source, file) in [(&all[..], "list.json"), (&["issue", "export", "--json"], "export.json")] {
        std::fs::write(home.repository().join(file), said(&home, source)).expect("write");
        let imported = said(&home, &["issue", "import", file, "-p", file]);
        for line in ["#1 Design (done)", "#2 Build", "#3 Ship", "#4 Sell (blocked)"] {
            assert!(imported.lines().any(|found| found == line), "{line}: {imported}");
        }
        said(&home, &["issue", "claim", "5", "-p", file]);
        let without_claim = |mut list: serde_json::Value| {
            for task in list["tasks"].as_array_mut().expect("tasks") {
                task["claim"].take();
            }
            list
        };
        let again = json(&home, &[&all[..], &["-p", file]].concat());
        assert_eq!(without_claim(again), without_claim(json(&home, &all)), "{file}");
    }
    // What is claimed here is claimed by nobody there, and that is said.
    let imported = said(&home, &["issue", "import", "list.json", "-p", "other"]);
    assert!(imported.contains("#5 Rest (was claimed by "), "{imported}");
    // Those that are done are not in a short list; what needs them says so.
    std::fs::write(home.repository().join("short.json"), said(&home, &["issue", "list", "--json"])).expect("write");
    assert!(refused(&home, &["issue", "import", "short.json", "-p", "none"], 2).contains("needs #1, which"));
    assert!(refused(&home, &["issue", "list", "-p", "none"], 2).contains("no project none"));
}

#[test]
fn an_import_names_what_it_does_not_know_and_makes_nothing() {
    let home = home!();
    for (file, text, words) in [
        ("a.json", r#"{"tasks":[{"title":"a"},{"title":"b","colour":"red"}]}"#, "unknown member `colour`"),
        ("a.json", r#"{"tasks":[{"title":"a"}],"owner":"me"}"#, "unknown member `owner`"),
        ("a.json", r#"{"tasks":[{"title":"a","state":"asleep"}]}"#, "task 1: `asleep` is none of "),
        ("a.json", r#"{"tasks":[{"title":"a","state":"done","status":"open"}]}"#, "task 1 "),
        ("a.md", "## A\n```\n## B\n", "line 2: "),
        ("a.md", "## [x] A\n- status: open\n", "line 2: "),
        ("a.md", "## A\n\n## B\n- needs: #9\n", "needs #9, which"),
        ("a.md", "## #5 A\n- needs: #6\n## #6 B\n- needs: #5\n", "#6 would wait for itself: #6 → #5 → #6"),
    ] {
        std::fs::write(home.repository().join(file), text).expect("write");
        let stderr = refused(&home, &["issue", "import", file], 2);
        assert!(stderr.contains(words), "{text}: {stderr}");
        assert!(refused(&home, &["issue", "list"], 2).contains("no project here"));
    }
}

#[test]
fn a_plan_is_read_as_other_programs_read_markdown() {
    let home = home!();
    let plan = "\u{feff}# Plan\n\n```\n## No task\n```\n\n## [x] Design\n\n## [ ] #7 Build\n- Priority: HIGH\n* Type: Bug\n\n\
                Like this:\n\n~~~ md\n## Inside\n- status: done\n```\n~~~\n\n## Test\n- STATUS: Blocked\n";
    for (file, text) in [("unix.md", plan.to_owned()), ("dos.md", plan.replace('\n', "\r\n"))] {
        std::fs::write(home.repository().join(file), text).expect("write");
        let imported = said(&home, &["issue", "import", file, "-p", file]);
        assert_eq!(imported, "#1 Design (done)\n#7 Build\n#8 Test (blocked)\n", "{file}");
        let build = json(&home, &["issue", "show", "7", "--json", "-p", file]);
        assert_eq!((build["priority"].as_str(), build["type"].as_str()), (Some("high"), Some("bug")));
        assert_eq!(build["description"], "Like this:\n\n~~~ md\n## Inside\n- status: done\n```\n~~~");
    }
    std::fs::write(home.repository().join("bom.json"), "\u{feff}{\"tasks\":[{\"title\":\"a\"}]}\r\n").expect("write");
    assert_eq!(said(&home, &["issue", "import", "bom.json", "-p", "bom"]), "#1 a\n");
}

#[test]
fn an_agents_tools_speak_the_protocol_and_refuse_in_words() {
    let home = home!();
    said(&home, &["issue", "create", "First"]);
    let call = |id: u32, tool: &str, arguments: serde_json::Value| serde_json::json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
    let client = serde_json::json!({ "name": "test", "version": "1" });
    let hello = serde_json::json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    let lines = [
        serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello }),
        serde_json::json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        call(2, "issue_create", serde_json::json!({ "title": "Second", "type": "bug", "needs": [1] })),
        call(3, "issue_update", serde_json::json!({ "id": 1, "needs": [2] })),
        call(4, "issue_create", serde_json::json!({ "title": "x", "priority": "soon" })),
        call(5, "issue_complete", serde_json::json!({ "id": 1 })),
        call(6, "issue_block", serde_json::json!({ "id": 2, "reason": "no key" })),
        call(7, "issue_get", serde_json::json!({ "id": 2 })),
        call(8, "issue_ready", serde_json::json!({})),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(home.repository().join("input"), input).expect("write");
    // It answers all that it was asked, although its input has ended by then.
    let output =
        home.command("sh").args(["-c", "exec \"$0\" mcp --task 1 < input"]).arg(home.autopilot_path()).output();
    let output = output.expect("run it");
    assert!(output.status.success(), "{output:?}");
    let answers: std::collections::BTreeMap<u64, serde_json::Value> = String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|answer| (answer["id"].as_u64().expect("an id"), answer["result"].clone()))
        .collect();
    let words = |id: u64| answers[&id]["content"][0]["text"].as_str().expect("text").to_owned();
    assert_eq!(answers[&1]["serverInfo"]["name"], "autopilot");
    for (id, refused, expected) in [
        (2, false, "\"title\": \"Second\""),
        (3, true, "#1 would wait for itself: #1 → #2 → #1"),
        (4, true, "`soon` is none of urgent, high, medium, low"),
        (5, true, "end your last message with the line AUTOPILOT: DONE"),
        (6, false, "\"reason\": \"no key\""),
        (7, false, "\"state\": \"blocked\""),
        (8, false, "\"title\": \"First\""),
    ] {
        assert_eq!(answers[&id]["isError"].as_bool().unwrap_or(false), refused, "{id}: {}", words(id));
        assert!(words(id).contains(expected), "{id}: {}", words(id));
    }
}

#[test]
fn a_client_of_the_tools_that_goes_at_once_is_no_error() {
    let home = home!();
    said(&home, &["issue", "create", "First"]);
    let output = home.command("sh").args(["-c", "exec \"$0\" mcp < /dev/null"]).arg(home.autopilot_path()).output();
    let output = output.expect("run it");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_budget_is_shown_against_what_was_spent() {
    let home = home!();
    assert!(refused(&home, &["budget"], 2).contains("no project here"));
    said(&home, &["project", "create"]);
    std::fs::write(home.repository().join("autopilot.toml"), "[budget]\nweekly = 20.0\n").expect("write");
    let shown = said(&home, &["budget"]);
    assert!(shown.contains("this week   $0.00  $20.00    $20.00 left\n"), "{shown}");
    assert_eq!(json(&home, &["budget", "show", "--json"])["stretches"][0]["limit_usd"], serde_json::Value::Null);
    assert_eq!(json(&home, &["budget", "--json"]), json(&home, &["budget", "show", "--json"]));
    refused(&home, &["budget", "--json", "reset"], 2);
    assert!(said(&home, &["budget", "reset"]).contains("counts afresh"));
    assert!(said(&home, &["budget"]).contains("since "));
    std::fs::write(home.repository().join("autopilot.toml"), "[budget]\nweekly = -1\n").expect("write");
    assert!(refused(&home, &["budget"], 5).contains("autopilot.toml:2: "));
}

#[test]
fn a_database_that_is_damaged_or_of_a_later_version_is_named_and_left_alone() {
    let home = home!();
    said(&home, &["project", "create", "shop"]);
    let path = home.path().join("projects/shop/queue.db");
    let database = std::fs::read(&path).expect("read");
    // The 4 bytes at 60 are PRAGMA user_version: https://sqlite.org/fileformat.html
    let mut later = database.clone();
    later[60..64].copy_from_slice(&[0, 0, 3, 0xe7]);
    for (bytes, words) in [(later, "later version"), (vec![b'x'; 5_000], "damaged")] {
        std::fs::write(&path, &bytes).expect("write");
        let stderr = refused(&home, &["issue", "-p", "shop", "list"], 1);
        assert!(stderr.contains(words) && stderr.contains("queue.db"), "{stderr}");
        assert_eq!(std::fs::read(&path).expect("read"), bytes);
    }
}
