//! A secret is in no file, wherever it came from and however it was cut on its way.

use std::fs;
use std::path::{Path, PathBuf};

use os::process::Send;
use testkit::random::Random;

use crate::stage::{Ending, Stage};
use crate::tasks::stage_with;

/// The same secrets in every run.
struct Chance(Random);

impl Chance {
    /// What it stands in, and the secret itself.
    fn secret(&mut self, kind: usize) -> (String, String) {
        let (before, secret, after) = match kind % 10 {
            0 => ("", format!("sk-ant-api03-{}A7", self.0.letters(93)), ""),
            1 => ("", format!("ghp_{}7", self.0.letters(35)), ""),
            2 => ("", format!("xoxb-123456789012-{}7", self.0.letters(24)), ""),
            3 => ("postgres://shop:", self.0.letters(16), "@db.example.com/shop"),
            4 => ("Authorization: Bearer ", self.0.letters(40), ""),
            5 => ("DB_PASSWORD=", self.0.letters(14), ""),
            6 => ("client_secret: ", format!("{}7x", self.0.letters(24)), ""),
            7 => ("", format!("glpat-{}7x", self.0.letters(20)), ""),
            8 => ("", format!("eyJhbGciOiJIUzI1NiJ9.eyJ{}.{}", self.0.letters(40), self.0.letters(43)), ""),
            _ => ("", format!("npm_{}7", self.0.letters(35)), ""),
        };
        (format!("{before}{secret}{after}"), secret)
    }
}

fn every_file(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files.extend(every_file(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

#[track_caller]
fn assert_nowhere(stage: &Stage, ending: &Ending, secrets: &[String]) {
    let mut texts = vec![("stdout".to_owned(), ending.stdout.clone()), ("stderr".to_owned(), ending.stderr.clone())];
    let files: Vec<PathBuf> = [stage.cwd(), stage.home()].iter().flat_map(|folder| every_file(folder)).collect();
    assert!(files.iter().any(|file| file.extension().is_some_and(|end| end == "jsonl")), "{files:?}");
    for file in files {
        texts.push((file.display().to_string(), String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned()));
    }
    texts.push(("datagrams".to_owned(), stage.all_said()));
    for (place, text) in &texts {
        for secret in secrets {
            assert!(!text.contains(secret.as_str()), "{secret} in {place}: {text}");
            assert!(!place.to_lowercase().contains(&secret.to_lowercase()), "{secret} in the name {place}");
        }
    }
    let shown: usize = texts.iter().map(|(_, text)| text.matches("[redacted:").count()).sum();
    assert!(shown >= secrets.len(), "{shown} marks for {} secrets", secrets.len());
}

/// The stand-in prints this file, as it is.
fn print_file(stage: &Stage, name: &str, text: &str) -> String {
    fs::write(stage.standin(name), text).unwrap();
    format!("cat $STANDIN/{name}")
}

fn event(kind: &str, block: serde_json::Value) -> String {
    let message = serde_json::json!({ "id": "m", "model": "x", "content": [block], "usage": {} });
    serde_json::json!({ "type": kind, "message": message, "parent_tool_use_id": null }).to_string() + "\n"
}

#[test]
fn a_thousand_secrets_in_prompt_output_and_environment_are_in_no_file() {
    let mut chance = Chance(Random::new(0x5ec2_e75e_c2e7_0018));
    let mut secrets = Vec::new();
    let mut given = |kind: usize, secrets: &mut Vec<String>| {
        let (text, secret) = chance.secret(kind);
        secrets.push(secret);
        text
    };
    let mut stage = Stage::new("");
    // From tools, from the model, from subagents, in the arguments of calls and in plain words of the CLI.
    let mut stream = String::new();
    for kind in 0..720 {
        let text = given(kind, &mut secrets);
        let shown = format!("before\n{text}\nafter \"{text}\"");
        stream += &match kind % 6 {
            0 => event("assistant", serde_json::json!({ "type": "text", "text": shown })),
            1 => event("assistant", serde_json::json!({ "type": "thinking", "thinking": text })),
            2 => event(
                "assistant",
                serde_json::json!({ "type": "tool_use", "id": "t", "name": "Bash", "input": { "command": shown } }),
            ),
            3 => event("user", serde_json::json!({ "type": "tool_result", "tool_use_id": "t", "content": text })),
            4 => serde_json::json!({ "type": "of_the_future", "nested": { "text": [shown] } }).to_string() + "\n",
            _ => format!("a plain line with {text}\n"),
        };
    }
    let key: Vec<String> = (0..10).map(|_| chance_line(&mut secrets)).collect();
    stream += &format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n", key.join("\n"));
    // 60 on stderr, 20 in the prompt, 190 in the environment.
    let errors: String = (0..60).map(|kind| format!("error: {}\n", given(kind, &mut secrets))).collect();
    let prompt: Vec<String> = (0..20).map(|kind| given(kind, &mut secrets)).collect();
    let mut echoed = String::new();
    for number in 0..190 {
        let value = format!("value {number} of \"{}\" ü", given(9, &mut Vec::new()));
        echoed += &event("user", serde_json::json!({ "type": "tool_result", "tool_use_id": "t", "content": value }));
        stage.env.push((Box::leak(format!("SHOP_{number}_SECRET").into_boxed_str()), value.clone()));
        secrets.push(value);
    }
    let scene = [
        "init".to_owned(),
        print_file(&stage, "stream", &stream),
        format!("{} >&2", print_file(&stage, "errors", &errors)),
        print_file(&stage, "echoed", &echoed),
        "done_".to_owned(),
    ];
    stage.scene(0, &scene.join("; "));
    assert_eq!(secrets.len(), 1_000);
    let ending = stage.run(&[&format!("prompt={}, fix it", prompt.join(" and "))]);
    assert_eq!(ending.code, Some(0), "{}", ending.stderr);
    assert!(stage.argv(1)[1].contains(&prompt[0]), "the agent itself is told");
    assert_nowhere(&stage, &ending, &secrets);
}

fn chance_line(secrets: &mut Vec<String>) -> String {
    let line = Random::new(secrets.len() as u64 + 77).letters(64);
    secrets.push(line.clone());
    line
}

#[test]
fn a_secret_that_comes_in_two_pieces_is_one() {
    let mut secrets = Vec::new();
    let mut random = Random::new(3);
    let (first, second) = (format!("ghp_{}7", random.letters(35)), format!("sk-ant-api03-{}7A", random.letters(80)));
    secrets.extend([first.clone(), second.clone()]);
    let stage = Stage::new("");
    // Written in the middle of it, and later the rest; and as two deltas, with the whole after them.
    let line = event("assistant", serde_json::json!({ "type": "text", "text": format!("take {first}") }));
    let (head, tail) = line.split_at(line.find(&first).unwrap() + 20);
    let delta = |text: &str| {
        let event =
            serde_json::json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": text } });
        serde_json::json!({ "type": "stream_event", "event": event }).to_string() + "\n"
    };
    let whole = event("assistant", serde_json::json!({ "type": "text", "text": second }));
    let deltas = format!("{}{}{whole}", delta(&second[..30]), delta(&second[30..]));
    let scene = [
        "init".to_owned(),
        print_file(&stage, "head", head),
        "touch $STANDIN/half; until [ -e $STANDIN/go ]; do sleep 0.01; done".to_owned(),
        print_file(&stage, "tail", tail),
        print_file(&stage, "deltas", &deltas),
        "done_".to_owned(),
    ];
    stage.scene(0, &scene.join("; "));
    let worker = stage.start(&["prompt=x"]);
    stage.wait_for("AUTOPILOT_PHASE=model");
    fs::write(stage.standin("go"), "").unwrap();
    let ending = worker.wait();
    assert_eq!(ending.code, Some(0), "{}", ending.stderr);
    secrets.extend([second[..30].to_owned(), second[30..].to_owned(), first[..20].to_owned()]);
    let logs = stage.logs();
    assert!(logs[0].contains("a: take [redacted:github-token]\n"), "{}", logs[0]);
    assert!(logs[0].contains("a: [redacted:anthropic-key]\n"), "{}", logs[0]);
    for secret in &secrets {
        assert!(every_file(&stage.cwd()).iter().all(|file| !fs::read_to_string(file).unwrap().contains(secret)));
    }
}

#[test]
fn a_job_whose_prompt_holds_a_secret_is_known_again_and_told_in_full() {
    let secret = "hunter2-is-a-secret-9";
    let mut stage = Stage::new("init; done_");
    stage.env.push(("SHOP_TOKEN", secret.to_owned()));
    stage.scene(1, "init; call 'long'; hang");
    let prompt = format!("prompt=log in with {secret}");
    let worker = stage.start(&[&prompt]);
    stage.wait_for("AUTOPILOT_PHASE=tool");
    worker.send(Send::Kill);
    worker.wait();
    let job = fs::read_to_string(stage.project_file("work.json")).unwrap();
    assert!(job.contains("log in with [redacted:SHOP_TOKEN]"), "{job}");
    stage.scene(2, "echo 'No conversation found with session ID: x'; exit 1");
    let ending = stage.run(&[&prompt]);
    assert_eq!(ending.code, Some(0), "{}", ending.stderr);
    assert_eq!(stage.flag(2, "--resume"), stage.flag(1, "--session-id"), "the same job");
    assert!(stage.flag(3, "-p").unwrap().contains(secret), "a fresh session is told all");
}

#[test]
fn a_secret_of_a_task_is_in_no_file_but_the_queue_and_told_to_the_agent() {
    let mut random = Random::new(11);
    let (typed, said) = (format!("ghp_{}7", random.letters(35)), format!("sk-ant-api03-{}7A", random.letters(80)));
    let blocked = format!("AUTOPILOT: BLOCKED the key {said} is refused");
    let stage = stage_with(&format!("init; say '{blocked}'; ok '{blocked}'"), &[&format!("rotate {typed}")]);
    let ending = stage.run(&[]);
    assert_eq!(ending.code, Some(16), "{}", ending.stderr);
    assert!(stage.flag(1, "-p").unwrap().contains(&typed), "the agent itself is told");
    let task = queue::Queue::open(&stage.project_file("queue.db")).unwrap().task(1).unwrap();
    assert_eq!(task.reason.as_deref(), Some("the key [redacted:anthropic-key] is refused"));
    assert_nowhere(&stage, &ending, &[said]);
    // What a person has typed is his, in the queue.
    let job = fs::read_to_string(stage.project_file("work.json")).unwrap();
    assert!(job.contains("Task #1: rotate [redacted:github-token]") && !job.contains(&typed), "{job}");
    for file in every_file(&stage.cwd()) {
        let name = file.display().to_string().to_lowercase();
        assert!(!name.contains(&typed[..20].to_lowercase().replace('_', "-")), "{name}");
    }
}
