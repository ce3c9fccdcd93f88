//! What the real CLI keeps of the demo in its own folder: the sessions' transcripts, and what a killed CLI did not
//! remove. Seen with Claude Code 2.1.330: files and folders named by the working folder or the session, and
//! `sessions/PID.json`, which names both inside.
//!
//! **Invariant:** nothing of another session is touched. What can't be told apart (the snapshot of the shell that a
//! killed CLI leaves, the counters in `.claude.json`) stays; Claude Code has its own clean-up for it.

use std::fs;
use std::path::{Path, PathBuf};

use super::stage::Stage;

/// A larger file is no such record.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// The paths to remove.
pub(super) fn of(claude_folder: &Path, stage: &Stage, sessions: &[String]) -> Vec<PathBuf> {
    // A short name would be part of others' names.
    let mut names: Vec<String> = sessions.iter().filter(|id| is_uuid(id)).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names.push(stage.name().to_string_lossy().into_owned());
    let is_ours = |text: &str| names.iter().any(|name| text.contains(name.as_str()));
    let mut traces = Vec::new();
    for kind in entries(claude_folder).filter(|path| path.is_dir() && !path.is_symlink()) {
        traces.extend(entries(&kind).filter(|path| is_ours(&name(path))));
    }
    for record in entries(&claude_folder.join("sessions")) {
        let small = fs::metadata(&record).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_RECORD_BYTES);
        let text = if small { fs::read_to_string(&record).unwrap_or_default() } else { String::new() };
        let (file, pid) = (name(&record), name(&record).split('.').next().unwrap_or_default().to_owned());
        if file.ends_with(".json") && is_ours(&text) && !pid.is_empty() {
            let of_this_pid = |path: &PathBuf| name(path).split('.').next() == Some(&pid);
            traces.extend(entries(&claude_folder.join("sessions")).filter(of_this_pid));
        }
    }
    traces
}

fn is_uuid(id: &str) -> bool {
    id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_this_demo_is_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::at("/tmp/ap-demo-0123456789".into());
        let session = "ab4af32f-6803-4d21-b8da-159ba5e52304".to_owned();
        let ours = [
            "projects/-tmp-ap-demo-0123456789-repo/x.jsonl",
            "todos/ab4af32f-6803-4d21-b8da-159ba5e52304.json",
            "sessions/77.json",
            "sessions/77.abc.key",
        ];
        let others = ["projects/-home-ada-app/y.jsonl", "todos/z.json", "sessions/7.json", "sessions/7.def.key"];
        for path in ours.iter().chain(&others) {
            fs::create_dir_all(folder.path().join(path).parent().unwrap()).unwrap();
            fs::write(folder.path().join(path), "{}").unwrap();
        }
        fs::write(folder.path().join("sessions/77.json"), format!("{{\"sessionId\":\"{session}\"}}")).unwrap();
        for path in of(folder.path(), &stage, &[session, String::new(), "7".to_owned()]) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.unwrap();
        }
        let there = |path: &&&str| folder.path().join(path).exists();
        assert_eq!((ours.iter().filter(there).count(), others.iter().filter(there).count()), (0, others.len()));
    }
}
