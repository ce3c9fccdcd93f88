//! What the real CLI reads, runs and says is full of secrets: none of them is in a file of ours.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use testkit::fake_api::{Answer, FakeApi, Script};
use testkit::home;
use testkit::home::Home;
use testkit::netns::isolated;
use testkit::random::Random;

use crate::job::{ALL_DONE, DEADLINE, end_reasons};

/// The same secrets in every run.
struct Chance(Random);

impl Chance {
    /// Lines with a secret each, and the secrets.
    fn lines(&mut self, count: usize) -> (Vec<String>, Vec<String>) {
        (0..count)
            .map(|kind| {
                let (before, secret, after) = match kind % 6 {
                    0 => ("key ", format!("sk-ant-api03-{}A7", self.0.letters(93)), ""),
                    1 => ("", format!("ghp_{}7", self.0.letters(35)), " is mine"),
                    2 => ("DATABASE_URL=postgres://shop:", self.0.letters(16), "@db.example.com/shop"),
                    3 => ("-H \"Authorization: Bearer ", self.0.letters(40), "\""),
                    4 => ("export DB_PASSWORD='", self.0.letters(14), "'"),
                    _ => ("{\"client_secret\": \"", format!("{}7x", self.0.letters(24)), "\"}"),
                };
                (format!("{before}{secret}{after}"), secret)
            })
            .unzip()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type().expect("a file's type") {
            kind if kind.is_dir() => files(&entry.path()),
            kind if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn what_the_agent_reads_runs_and_says_leaves_no_secret_in_any_file_of_ours() {
    isolated(|| {
        let mut chance = Chance(Random::new(0x5ec2_e71a_90c1_0018));
        let mut home = home!();
        let mut secrets = Vec::new();
        let mut lines = |count: usize| {
            let (lines, new) = chance.lines(count);
            secrets.extend(new);
            lines
        };
        let repository = home.repository();
        for name in ["read.txt", "printed.txt", "failed.txt"] {
            fs::write(repository.join(name), lines(60).join("\n")).expect("write a file");
        }
        let (said, thought, prompt) = (lines(60).join("\n"), lines(12).join("; "), lines(6).join(" and "));
        let written = lines(30).join("\n");
        let own: Vec<String> =
            (0..40).map(|number| format!("value {number} of \"{}\"", chance.0.letters(20))).collect();
        for (number, value) in own.iter().enumerate() {
            home.set_env(format!("SHOP_{number}_TOKEN"), value);
        }
        secrets.extend(own);

        let read = json!({ "file_path": repository.join("read.txt") });
        let api = FakeApi::start(Script::steps([
            Answer::tool_use("Read", read).thinking(&*thought),
            Answer::bash("cat printed.txt; env | grep SHOP_"),
            Answer::bash("cat failed.txt >&2; exit 3"),
            Answer::write_file(repository.join("written.txt"), &written),
            Answer::text(format!("{said}\n\n{ALL_DONE}")),
        ]));
        home.use_real_claude(&api);
        let worker = home.autopilot_path().to_owned();
        home.set_env("AUTOPILOT_WORKER_BINARY", worker);
        home.write_config(&format!("project = \"demo\"\nprompt = {}\nmax_turns = 50\n", json!(prompt)));
        let mut daemon = home.start_daemon::<&str>([]);
        home.wait_until("the job is done", DEADLINE, || {
            (end_reasons(&home).last().map(String::as_str) == Some("done")).then_some(())
        });
        let status = home.autopilotd(["status", "--json"]);
        assert!(home.autopilotd(["stop"]).status.success());
        assert_eq!(daemon.wait_for_code(DEADLINE), 0);
        let seen = [home.autopilotd(["events", "-n", "1000"]), home.autopilot(["log"]), status];
        let mut texts: Vec<(String, String)> = seen
            .iter()
            .map(|output| ("shown".to_owned(), String::from_utf8_lossy(&output.stdout).into_owned()))
            .collect();
        texts.push(("the terminal".to_owned(), daemon.stderr()));
        expect_nowhere(&home, &secrets, texts);
        assert!(home.read("written.txt").contains(&written), "the agent itself is not held up");
        let asked = api.agent_requests();
        assert!(asked.iter().any(|request| request.body.to_string().contains(&secrets[0])), "nor is its API");
    });
}

fn expect_nowhere(home: &Home, secrets: &[String], mut texts: Vec<(String, String)>) {
    assert!(secrets.len() > 300, "{}", secrets.len());
    // The configuration is the user's own, and the programs are long.
    let is_ours = |file: &PathBuf| !file.ends_with("daemon.toml") && !file.starts_with(home.path().join("bin"));
    let ours = files(&home.path()).into_iter().filter(is_ours);
    for file in ours.chain(files(&home.repository().join("docs"))) {
        texts.push((
            file.display().to_string(),
            String::from_utf8_lossy(&fs::read(&file).expect("read a file of ours")).into_owned(),
        ));
    }
    let marks: usize = texts.iter().map(|(_, text)| text.matches("[redacted:").count()).sum();
    assert!(marks > secrets.len(), "{marks} marks for {} secrets", secrets.len());
    for (place, text) in &texts {
        for secret in secrets {
            let quoted = json!(secret).to_string();
            let hit = text.contains(secret.as_str()) || text.contains(quoted.trim_matches('"'));
            assert!(!hit, "{secret} in {place}");
        }
    }
}
