//! What a worker says of itself may hold a secret: the daemon neither shows it nor writes it down.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rig::Rig;

const KNOWN: &str = "k-3c9d2f7ab1e84d55";
const TOKEN: &str = "ghp_0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX";

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path()),
            kind if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn no_word_of_a_worker_carries_a_secret_into_status_journal_or_evidence() {
    // Longer than a busy machine takes to start it: it has to speak before it is ended.
    let settings = "stall_timeout_ms = 3000\nstall_grace_ms = 3000\ninitial_backoff_ms = 60000\nstop_timeout_ms = 200\n\
         [memory]\npoll_interval_ms = 50";
    let mut rig = Rig::new(settings).hostile(&format!("ready status=login:{TOKEN}:{KNOWN}"));
    rig.home.set_env("SHOP_API_KEY", KNOWN);
    let daemon = rig.start();
    let said = rig.wait_for("the worker has spoken", |status| status["worker_message"].is_string());
    assert_eq!(said["worker_message"], "login:[redacted:github-token]:[redacted:SHOP_API_KEY]");
    rig.wait_for_state("restarting");
    let stderr = daemon.stderr();
    rig.finish(daemon);
    let mut incidents = 0;
    let written = files(&rig.home.path()).into_iter().filter(|file| !file.starts_with(rig.home.path().join("bin")));
    for file in written {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains(KNOWN) && !text.contains(TOKEN), "{}: {text}", file.display());
        if file.parent().is_some_and(|folder| folder.ends_with("incidents")) {
            incidents += 1;
            assert!(text.contains("in its words: login:[redacted:github-token]:[redacted:SHOP_API_KEY]"), "{text}");
        }
    }
    assert_eq!(incidents, 1);
    assert!(!stderr.contains(KNOWN) && !stderr.contains(TOKEN), "{stderr}");
}
