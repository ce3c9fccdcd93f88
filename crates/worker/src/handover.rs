//! What a fresh session is told of those before it: the end of their logs, in words.
//!
//! Owns: which lines of a log say what was done. The logs are `rlog/1`, written by this program, and are read as text.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// So much of the end of each log is read.
const TAIL_BYTES: u64 = 64 << 10;
/// So many of the last deeds and sentences are told,
const MOST_LINES: usize = 40;
/// and each only so far.
const LINE_MAX_CHARS: usize = 200;

/// What the newest of the logs say, oldest first; empty, if they say nothing. `newest_first`: their paths.
pub(crate) fn summary<'a>(newest_first: impl IntoIterator<Item = &'a str>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for path in newest_first {
        if lines.len() >= MOST_LINES {
            break;
        }
        let mut earlier = deeds(&tail(Path::new(path)).unwrap_or_default());
        earlier.append(&mut lines);
        lines = earlier;
    }
    let skip = lines.len().saturating_sub(MOST_LINES);
    lines.into_iter().skip(skip).map(|line| format!("- {line}\n")).collect()
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The first line of a part may be the rest of one.
    let whole = if size > TAIL_BYTES { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
    Ok(whole.to_owned())
}

/// What was said and done; a call and what came of it are one line.
fn deeds(log: &str) -> Vec<String> {
    let mut deeds = Vec::new();
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for line in log.lines() {
        if let Some(said) = line.strip_prefix("a: ") {
            deeds.push(format!("said: {}", short(said)));
        } else if let Some(call) = line.strip_prefix("t!:") {
            let call = call.trim_end_matches(" → [running]");
            let (tool, rest) = call.split_once(" id=").unwrap_or((call, ""));
            let (id, arg) = rest.split_once(" arg=").unwrap_or((rest, ""));
            calls.insert(id, deeds.len());
            deeds.push(format!("{tool} {}: no result came", short(arg)));
        } else if let Some((id, result)) = line.strip_prefix("o: id=").and_then(|rest| rest.split_once(" → "))
            && let Some(deed) = calls.remove(id).and_then(|at| deeds.get_mut(at))
            && let Some(done) = deed.strip_suffix(": no result came")
        {
            *deed = format!("{done} → {}", short(result));
        }
    }
    deeds
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LINE_MAX_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "---\nformat: rlog/1\n---\n@start id=s ts=t\nu: build it\na: I will look first.\n\
        t!:Bash id=c1 arg=\"cargo test\" → [running]\no: id=c1 → [error] 3 failed (+9 lines)\n# a status\n\
        t!:Edit id=c2 arg=\"src/lib.rs\" → [running]\n@end tokens_in=1 tokens_out=1 cost_usd=0.1 reason=killed\n";

    #[test]
    fn what_was_said_and_done_and_what_came_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("1.rlog"), folder.path().join("2.rlog"));
        std::fs::write(&old, LOG).unwrap();
        std::fs::write(&new, "a: Going on.\nt!:Read id=c1 arg=\"x\" → [running]\n").unwrap();
        let paths = [new.to_str().unwrap(), old.to_str().unwrap(), "/nonexistent.rlog"];
        assert_eq!(
            summary(paths),
            "- said: I will look first.\n- Bash \"cargo test\" → [error] 3 failed (+9 lines)\n\
             - Edit \"src/lib.rs\": no result came\n- said: Going on.\n- Read \"x\": no result came\n"
        );
        assert_eq!(summary([]), "");
    }

    #[test]
    fn it_is_bounded_and_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.rlog");
        let long = "é".repeat(1_000);
        let text: String = (0..2_000).map(|n| format!("a: {n} {long}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let told = summary([path.to_str().unwrap(), path.to_str().unwrap()]);
        assert_eq!(told.lines().count(), MOST_LINES);
        assert!(told.lines().all(|line| line.chars().count() <= LINE_MAX_CHARS + 12), "{told}");
        assert!(told.lines().last().unwrap().starts_with("- said: 1999 é"));
    }
}
