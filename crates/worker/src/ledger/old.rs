//! `ledger.jsonl`, where earlier versions kept the ledger: read once into the database, then kept under another name.

use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use queue::{Entry, Error, Queue, Totals};
use serde::Deserialize;
use wire::claude::Usage;

use super::use_entry;
use crate::price::listed_micros;

const NAME: &str = "ledger.jsonl";

/// A line. What it does not know of a later version does not matter: none follows.
#[derive(Deserialize)]
#[serde(tag = "t", rename_all = "kebab-case")]
enum Record {
    Log {
        job: String,
        rlog: String,
    },
    Start {
        job: String,
        session: String,
    },
    Use {
        job: String,
        id: String,
        model: String,
        main: bool,
        input: u64,
        output: u64,
        cache_write: u64,
        cache_read: u64,
    },
    Result {
        job: String,
        cost_micros: Option<u64>,
        total_micros: Option<u64>,
    },
}

impl Record {
    fn entry(self) -> (String, Entry) {
        match self {
            // The totals at that moment are not in the line; the log that they were for is closed by now, or is told of in full.
            Self::Log { job, rlog } => (job, Entry::Log { path: rlog, totals: Totals::default() }),
            Self::Start { job, session } => (job, Entry::Start { session, task: None }),
            Self::Use { job, id, model, main, input, output, cache_write, cache_read } => {
                let usage = Usage {
                    input_tokens: input,
                    output_tokens: output,
                    cache_write_tokens: cache_write,
                    cache_read_tokens: cache_read,
                };
                (job, use_entry(&id, &model, main, usage, listed_micros(&model, usage)))
            }
            Self::Result { job, cost_micros, total_micros } => {
                (job, Entry::Result { cost_micros, total_micros, prices: Vec::new() })
            }
        }
    }
}

/// Once: a death between the two steps leaves the file, and the next worker finds that its content is known.
pub(super) fn take_over(folder: &Path, db: &mut Queue) -> Result<(), Error> {
    let path = folder.join(NAME);
    let disk = |error| Error::Disk { path: path.clone(), error };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(disk(error)),
    };
    // When it was last written to: the nearest that can be known of when its money was spent.
    let written = std::fs::metadata(&path).and_then(|file| file.modified()).map_err(disk)?;
    let at_ms =
        written.duration_since(UNIX_EPOCH).ok().and_then(|age| u64::try_from(age.as_millis()).ok()).unwrap_or(0);
    // A torn or damaged line is passed over; it stays in the file.
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Record>(line).ok());
    let entries: Vec<(String, Entry)> = lines.map(Record::entry).collect();
    db.record_file(NAME, &entries, at_ms)?;
    std::fs::rename(&path, folder.join("ledger.jsonl.imported")).map_err(disk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    const LINES: &str = r#"{"t":"log","v":1,"job":"job","rlog":"a.rlog"}
{"t":"start","v":1,"job":"job","session":"s"}
{"t":"use","v":1,"job":"job","id":"m1","model":"claude-opus-4","main":true,"input":1,"output":1,"cache_write":0,"cache_read":0}
{"t":"result","v":1,"job":"job","cost_micros":1000,"total_micros":1000}
%%%
{"t":"start","v":1,"job":"job","session":"s"}
{"t":"use","v":1,"job":"job","id":"m2","model":"claude-opus-4","main":true,"input":1,"output":1,"cache_write":0,"cache_read":0}
{"t":"telepathy","job":"job"}
{"t":"use","v":1,"jo"#;

    #[test]
    fn an_old_ledger_is_taken_over_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (old, kept) = (folder.path().join(NAME), folder.path().join("ledger.jsonl.imported"));
        std::fs::write(&old, LINES).unwrap();
        for _ in 0..3 {
            let spent = Ledger::open(folder.path(), "job").unwrap().spent();
            assert_eq!((spent.turns, spent.cost_micros), (2, 1_000 + 90));
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), LINES);
            assert!(!old.exists());
            // As after a death between the two steps.
            std::fs::rename(&kept, &old).unwrap();
        }
    }
}
