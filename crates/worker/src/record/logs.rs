//! Which logs there are, and their lines.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use wire::claude::{Line, LineSplitter};

/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// A longer line of an `.rlog` is passed over; ours have a few KB.
pub(super) const RLOG_LINE_MAX_BYTES: usize = 1 << 20;

/// One log: an `.rlog`, perhaps packed, with its `.jsonl` beside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Log {
    /// `YYYYMMDD`; empty for a file that is elsewhere.
    day: String,
    /// Without its ending: `HHMMSS-slug`.
    name: String,
    /// The `.rlog`, or the `.jsonl` if there is only that.
    pub path: PathBuf,
}

/// A stretch of time, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from_ms: u64,
    pub to_ms: u64,
}

/// Why no log was chosen.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    #[error("there are no logs in {}", .0.display())]
    NoLogs(PathBuf),
    #[error("no log is called {0}")]
    Nobody(String),
    #[error("{} is no log: its name ends neither in .rlog nor in .jsonl", .0.display())]
    NoLog(PathBuf),
    #[error("there is no {}", .0.display())]
    Nothing(PathBuf),
    #[error("{wanted} may be any of {}", .found.join(", "))]
    Several { wanted: String, found: Vec<String> },
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
}

impl Log {
    /// Of a file, wherever it is; `None` if it is no log by its name.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let file = path.file_name()?.to_str()?;
        let name = file.strip_suffix(".gz").unwrap_or(file);
        let name = name.strip_suffix(".rlog").or_else(|| name.strip_suffix(".jsonl"))?;
        let day = path.parent().and_then(Path::file_name).and_then(|day| day.to_str()).filter(|day| is_day(day));
        Some(Self { day: day.unwrap_or_default().to_owned(), name: name.to_owned(), path: path.to_owned() })
    }

    /// As its header has it: `20261122-091400-fix-login`.
    #[must_use]
    pub fn id(&self) -> String {
        if self.day.is_empty() { self.name.clone() } else { format!("{}-{}", self.day, self.name) }
    }

    /// The full events, if they are kept.
    #[must_use]
    pub fn jsonl(&self) -> Option<PathBuf> {
        ["jsonl", "jsonl.gz"].iter().map(|end| self.with_ending(end)).find(|path| path.is_file())
    }

    /// There are only the full events, no lines for people.
    #[must_use]
    pub fn is_events(&self) -> bool {
        self.jsonl().as_ref() == Some(&self.path)
    }

    fn with_ending(&self, ending: &str) -> PathBuf {
        self.path.with_file_name(format!("{}.{ending}", self.name))
    }

    /// When it was begun, by its name, where the user is.
    #[must_use]
    pub fn began_ms(&self) -> Option<u64> {
        let time = self.name.get(..6)?;
        let at = DateTime::strptime("%Y%m%d%H%M%S", format!("{}{time}", self.day)).ok()?;
        let at = at.to_zoned(TimeZone::system()).ok()?;
        u64::try_from(at.timestamp().as_millisecond()).ok()
    }

    /// It is packed.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.path.extension().is_some_and(|end| end == "gz")
    }

    /// All its files.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let endings = ["rlog", "rlog.gz", "jsonl", "jsonl.gz"];
        endings.iter().map(|end| self.with_ending(end)).filter(|path| path.is_file()).collect()
    }
}

fn is_day(name: &str) -> bool {
    name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The folder of a project's logs.
pub(super) fn folder(project: &Path) -> PathBuf {
    project.join("docs/logs")
}

/// The newest day that has a folder.
pub(super) fn newest_day(project: &Path) -> Option<PathBuf> {
    let days = std::fs::read_dir(folder(project)).ok()?.flatten();
    days.filter(|entry| entry.file_name().to_str().is_some_and(is_day)).map(|entry| entry.path()).max()
}

/// All logs of a project, the oldest first.
///
/// # Errors
/// As of readdir; a project without logs has none.
pub fn all(project: &Path) -> io::Result<Vec<Log>> {
    let mut logs = Vec::new();
    let days = match std::fs::read_dir(folder(project)) {
        Ok(days) => days,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(logs),
        Err(error) => return Err(error),
    };
    for day in days.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_day)) {
        logs.extend(in_day(&day.path()));
    }
    logs.sort();
    Ok(logs)
}

/// Those of one folder, the oldest first.
pub(super) fn in_day(folder: &Path) -> Vec<Log> {
    // A folder that went away just now has none.
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut logs: Vec<Log> = files.filter_map(|entry| Log::at(&entry.path())).collect();
    // One log has several files: the `.rlog` is what it is known by, then the packed one.
    logs.sort_by_key(|log| (log.day.clone(), log.name.clone(), rank(&log.path)));
    logs.dedup_by(|later, first| (&later.day, &later.name) == (&first.day, &first.name));
    logs
}

fn rank(path: &Path) -> usize {
    let name = path.to_string_lossy();
    [".rlog", ".rlog.gz", ".jsonl", ".jsonl.gz"].iter().position(|end| name.ends_with(end)).unwrap_or(4)
}

/// The log that somebody means: a path, an id, a part of one, or the newest.
///
/// # Errors
/// [`NotFound`]
pub fn choose(project: &Path, wanted: Option<&str>) -> Result<Log, NotFound> {
    let file = wanted.map(Path::new).filter(|path| path.is_file());
    if let Some(log) = file.and_then(Log::at) {
        return Ok(log);
    }
    let mut logs = all(project).map_err(|error| NotFound::Unreadable { path: folder(project), error })?;
    let Some(wanted) = wanted else {
        return logs.pop().ok_or_else(|| NotFound::NoLogs(folder(project)));
    };
    if let Some(log) = logs.iter().find(|log| log.id() == wanted || log.name == wanted) {
        return Ok(log.clone());
    }
    let mut found: Vec<Log> = logs.into_iter().filter(|log| log.id().contains(wanted)).collect();
    match found.len() {
        0 => Err(file.map_or_else(|| NotFound::Nobody(wanted.to_owned()), |file| NotFound::NoLog(file.to_owned()))),
        1 => found.pop().ok_or_else(|| NotFound::Nobody(wanted.to_owned())),
        _ => {
            let newest = found.iter().rev().take(5).map(Log::id).collect();
            Err(NotFound::Several { wanted: wanted.to_owned(), found: newest })
        }
    }
}

/// The logs at a path: a file, a folder of a day, a project, or any folder with logs in it.
///
/// # Errors
/// [`NotFound`]
pub fn in_path(path: &Path) -> Result<Vec<Log>, NotFound> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => NotFound::Nothing(path.to_owned()),
        _ => NotFound::Unreadable { path: path.to_owned(), error },
    };
    if path.is_file() {
        return Log::at(path).map(|log| vec![log]).ok_or_else(|| NotFound::NoLog(path.to_owned()));
    }
    std::fs::read_dir(path).map_err(unreadable)?;
    let mut logs = all(path).map_err(unreadable)?;
    logs.extend(in_day(path));
    for day in std::fs::read_dir(path).map_err(unreadable)?.flatten().map(|entry| entry.path()) {
        if day.file_name().and_then(|name| name.to_str()).is_some_and(is_day) {
            logs.extend(in_day(&day));
        }
    }
    logs.sort();
    if logs.is_empty() { Err(NotFound::NoLogs(path.to_owned())) } else { Ok(logs) }
}

/// Gives each line of a file, packed or not, as text; a line that is too long as `None`. What a packed file lost at its end
/// is passed over.
///
/// # Errors
/// As of open and read.
pub fn each_line(path: &Path, max_bytes: usize, mut each: impl FnMut(Option<&[u8]>)) -> io::Result<()> {
    let file = File::open(path)?;
    let packed = path.extension().is_some_and(|end| end == "gz");
    let mut from: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut splitter = LineSplitter::new(max_bytes);
    let mut take = |line: Line<'_>| match line {
        Line::Whole(line) => each(Some(line)),
        Line::TooLong(_) => each(None),
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => splitter.push(chunk.get(..bytes).unwrap_or_default(), &mut take),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if packed && error.kind() != io::ErrorKind::PermissionDenied => break,
            Err(error) => return Err(error),
        }
    }
    splitter.finish(&mut take);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[&str]) -> tempfile::TempDir {
        let project = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder(project.path()).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "a: x\n").unwrap();
        }
        project
    }

    #[test]
    fn a_run_is_named_by_a_path_an_id_a_part_of_one_or_not_at_all() {
        let project = project(&[
            "20261121/235900-fix-login.rlog",
            "20261121/235900-fix-login.jsonl",
            "20261122/000100-fix-logout.rlog.gz",
            "20261122/000100-fix-logout.jsonl",
            "20261122/090000-docs.rlog",
            "20261122/notes.txt",
            "attic/100000-x.rlog",
        ]);
        let chosen =
            |wanted: Option<&str>| choose(project.path(), wanted).map(|log| log.id()).map_err(|e| e.to_string());
        let path = folder(project.path()).join("20261121/235900-fix-login.rlog");
        for (wanted, expected) in [
            (None, Ok("20261122-090000-docs")),
            (Some("20261121-235900-fix-login"), Ok("20261121-235900-fix-login")),
            (Some("235900-fix-login"), Ok("20261121-235900-fix-login")),
            (Some("logout"), Ok("20261122-000100-fix-logout")),
            (path.to_str(), Ok("20261121-235900-fix-login")),
            (Some("fix"), Err("fix may be any of 20261122-000100-fix-logout, 20261121-235900-fix-login")),
            (Some("nothing"), Err("no log is called nothing")),
        ] {
            assert_eq!(chosen(wanted), expected.map(str::to_owned).map_err(str::to_owned), "{wanted:?}");
        }
        let notes = folder(project.path()).join("20261122/notes.txt");
        let no_log = Err(format!("{} is no log: its name ends neither in .rlog nor in .jsonl", notes.display()));
        assert_eq!(chosen(notes.to_str()), no_log);
        assert!(matches!(in_path(&notes), Err(NotFound::NoLog(_))));
        assert!(matches!(in_path(&notes.join("x")), Err(NotFound::Unreadable { .. })));
        assert!(matches!(in_path(&project.path().join("x")), Err(NotFound::Nothing(_))));
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(choose(empty.path(), None), Err(NotFound::NoLogs(_))));
        assert_eq!(in_path(project.path()).unwrap().len(), 3);
        assert_eq!(in_path(&folder(project.path()).join("20261122")).unwrap().len(), 2);
        assert_eq!(in_path(&folder(project.path())).unwrap().len(), 3);
    }

    #[test]
    fn lines_are_the_same_packed_and_a_torn_pack_gives_what_it_has() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let text = (0..20_000).map(|n| format!("a: line {n}\n")).collect::<String>();
        let (plain, packed) = (folder.path().join("1.rlog"), folder.path().join("1.rlog.gz"));
        std::fs::write(&plain, &text).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        let bytes = encoder.finish().unwrap();
        std::fs::write(&packed, &bytes).unwrap();
        let lines = |path: &Path| {
            let mut lines = Vec::new();
            each_line(path, 100, |line| lines.push(line.map(<[u8]>::to_vec))).unwrap();
            lines
        };
        assert_eq!(lines(&plain), lines(&packed));
        std::fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
        let some = lines(&packed).len();
        assert!(some > 1_000 && some < 20_000, "{some}");
        std::fs::write(&plain, format!("a\n{}\nb", "x".repeat(200))).unwrap();
        assert_eq!(lines(&plain), [Some(b"a".to_vec()), None, Some(b"b".to_vec())]);
    }
}
