//! Follows the worker's logs as somebody with `tail -f` would: only by their lines.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What a line says, as far as the demo wants to know.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// A session begins or goes on.
    Start { session: String },
    /// The agent runs a command.
    Call(String),
    /// The command's result.
    Output(String),
    /// Words of the agent.
    Words(String),
    /// The log's end.
    End { reason: String, cost_usd: f64 },
}

/// One log.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    read_bytes: u64,
}

/// All logs of a working folder.
#[derive(Debug)]
pub(super) struct Logs {
    folder: PathBuf,
    logs: Vec<Log>,
    /// Of every log, in the order of their beginning.
    pub(super) sessions: Vec<String>,
    /// The reasons of the logs that have ended.
    pub(super) ends: Vec<String>,
    pub(super) cost_usd: f64,
    /// The command that the agent runs now.
    pub(super) running: Option<String>,
}

impl Logs {
    pub(super) fn new(working_folder: &Path) -> Self {
        Self {
            folder: working_folder.join("docs/logs"),
            logs: Vec::new(),
            sessions: Vec::new(),
            ends: Vec::new(),
            cost_usd: 0.0,
            running: None,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.logs.len()
    }

    /// What was said since the last call.
    pub(super) fn news(&mut self) -> Vec<Said> {
        for path in paths(&self.folder) {
            if !self.logs.iter().any(|log| log.path == path) {
                self.logs.push(Log { path, read_bytes: 0 });
            }
        }
        let lines: Vec<String> = self.logs.iter_mut().flat_map(Log::new_lines).collect();
        let said: Vec<Said> = lines.iter().filter_map(|line| parse(line)).collect();
        for said in &said {
            match said {
                Said::Start { session } => self.sessions.push(session.clone()),
                Said::Call(command) => self.running = Some(command.clone()),
                Said::Output(_) => self.running = None,
                Said::Words(_) => {}
                Said::End { reason, cost_usd } => {
                    self.ends.push(reason.clone());
                    self.cost_usd += cost_usd;
                }
            }
        }
        said
    }
}

impl Log {
    /// Whole lines only: the writer may be in the middle of one.
    fn new_lines(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read_bytes))?;
            file.read_to_end(&mut bytes)
        });
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if read.is_err() || whole == 0 {
            return Vec::new();
        }
        self.read_bytes += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect()
    }
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = entries(folder).flat_map(|day| entries(&day).collect::<Vec<_>>()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rlog"));
    paths
}

/// `wire::rlog` describes the lines.
fn parse(line: &str) -> Option<Said> {
    let field = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    if line.starts_with("@start ") {
        return Some(Said::Start { session: field("id")?.to_owned() });
    }
    if line.starts_with("@end ") {
        let cost_usd = field("cost_usd")?.parse().ok()?;
        return Some(Said::End { reason: field("reason")?.to_owned(), cost_usd });
    }
    if line.starts_with("t!:") {
        let argument = line.split_once(" arg=\"")?.1;
        return Some(Said::Call(argument.rsplit_once('"')?.0.to_owned()));
    }
    if line.starts_with("o: ") {
        return Some(Said::Output(line.split_once(" → ")?.1.to_owned()));
    }
    line.strip_prefix("a: ").map(|words| Said::Words(words.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_format_are_understood() {
        let text = "---\nformat: rlog/1\n---\n@start id=7f1c ts=2026-11-22T09:14:00Z\nu: go\n\
            t!:Bash id=t1 arg=\"./step 1\" → [running]\no: id=t1 → [ok] wrote line 1\na: Good.\n\
            @end tokens_in=1 tokens_out=2 cost_usd=0.0015 reason=done\n";
        let said: Vec<Said> = text.lines().filter_map(parse).collect();
        let expected = [
            Said::Start { session: "7f1c".into() },
            Said::Call("./step 1".into()),
            Said::Output("[ok] wrote line 1".into()),
            Said::Words("Good.".into()),
            Said::End { reason: "done".into(), cost_usd: 0.0015 },
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn half_a_line_is_read_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let day = folder.path().join("docs/logs/20260101");
        fs::create_dir_all(&day).unwrap();
        let mut logs = Logs::new(folder.path());
        assert_eq!(logs.news(), []);
        fs::write(day.join("a.rlog"), "a: on").unwrap();
        assert_eq!(logs.news(), []);
        fs::write(day.join("a.rlog"), "a: one\n").unwrap();
        assert_eq!(logs.news(), [Said::Words("one".into())]);
        assert_eq!(logs.news(), []);
    }
}
