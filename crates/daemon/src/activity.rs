//! Whether the run's own log moved: the newest `.rlog` under `docs/logs/YYYYMMDD/` that came into being during the run, or an older
//! one that it has open for writing, and the worker's output.
//!
//! What is compared is "changed since the last look", never a file's time with the clock: a file from the future, or a
//! clock that steps, changes nothing. The kernel tells of new files, so that a look costs the same however many old logs
//! there are.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use os::watch::CreationWatch;
use policy::supervisor::Sign;
use wire::handover::Log;

use crate::repetition::Said;

/// So many of the run's logs are looked at: it writes into the newest, and for a moment into the one before.
const MOST_LOGS: usize = 4;

/// So many of the newest days are watched: a clock that steps back writes into a folder that is not the newest.
const MOST_DAYS: usize = 64;

/// Size and time of a file, to be compared and nothing else.
type Mark = (u64, u64, i64, i64);

/// What showed life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Heartbeat,
    Log(PathBuf),
    Output,
    Tools,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Heartbeat => f.write_str("a heartbeat"),
            Self::Log(path) => write!(f, "its log {}", path.display()),
            Self::Output => f.write_str("its output"),
            Self::Tools => f.write_str("its tools at work"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Activity {
    logs: PathBuf,
    watch: Option<CreationWatch>,
    /// Without a watch, the logs of the newest days that were there already, or are tracked.
    known: BTreeSet<PathBuf>,
    files: VecDeque<Looked>,
    output: Looked,
    told: bool,
    /// What showed life last, and new life.
    last: Option<Source>,
    last_new: Option<Source>,
}

/// A file, as it was at the last look.
#[derive(Debug)]
struct Looked {
    path: PathBuf,
    mark: Option<Mark>,
    said: Said,
}

impl Looked {
    /// What is in it by now is nothing new.
    fn from_now_on(path: PathBuf) -> Self {
        let mark = mark(&path);
        let said = Said::from(mark.map_or(0, |(_, size, _, _)| size));
        Self { path, mark, said }
    }

    /// As a daemon before this one left it: what is in it since is new.
    fn recalled(log: &Log) -> Self {
        let mark = (log.bytes > 0).then_some((log.inode, log.bytes, log.written.0, log.written.1));
        Self { path: PathBuf::from(&log.path), mark, said: Said::recall(log.bytes, &log.complaints) }
    }

    fn to_be_recalled(&self) -> Option<Log> {
        let (inode, bytes, seconds, nanoseconds) = self.mark.unwrap_or_default();
        let path = self.path.to_str()?.to_owned();
        Some(Log { path, inode, bytes, written: (seconds, nanoseconds), complaints: self.said.complaints() })
    }

    fn look(&mut self) -> Sign {
        let now = mark(&self.path);
        if now.is_none() || now == self.mark {
            return Sign::Nothing;
        }
        self.mark = now;
        let size = now.map_or(0, |(_, size, _, _)| size);
        // Made, or emptied, by whoever starts or rotates: neither a word nor a repeated one.
        if size == 0 {
            self.said.emptied();
            return Sign::Nothing;
        }
        if self.said.anything_new(&self.path, size) { Sign::Progress } else { Sign::Repetition }
    }
}

impl Activity {
    /// From now on, for a run in `working_dir`. What exists by now is not this run's. `watch`: of the run before.
    pub(crate) fn begin(working_dir: &Path, output: PathBuf, mut watch: Option<CreationWatch>) -> Self {
        let logs = working_dir.join("docs/logs");
        match &mut watch {
            Some(watch) => watch.clear(),
            None => watch = os::fail::point("activity.watch").and_then(|()| CreationWatch::new()).ok(),
        }
        let output = Looked::from_now_on(output);
        let known = BTreeSet::new();
        let mut activity =
            Self { logs, watch, known, files: VecDeque::new(), output, told: false, last: None, last_new: None };
        activity.extend_watch(false);
        if activity.watch.is_none() {
            activity.known = activity.newest_logs().collect();
        }
        activity
    }

    /// Logs that were there before the run, and that these processes of it have open for writing, are its own: they count when
    /// they grow, from now on. Whoever only reads one shows no life by what others write into it.
    pub(crate) fn look_for_open_logs(&mut self, pids: impl IntoIterator<Item = u32>) {
        if self.told {
            return;
        }
        let Ok(real) = self.logs.canonicalize() else { return };
        let is_own = |path: &Path| path.starts_with(&real) && is_log(path);
        let as_known = |path: PathBuf| path.strip_prefix(&real).map(|rest| self.logs.join(rest)).ok();
        let files = |pid| os::proc::written_files(os::proc::root(), pid, is_own).unwrap_or_default();
        let open: BTreeSet<PathBuf> = pids.into_iter().flat_map(files).filter_map(as_known).collect();
        for path in &open {
            if self.files.iter().any(|file| file.path == *path) {
                continue;
            }
            if self.files.len() == MOST_LOGS {
                let Some(at) = self.files.iter().position(|file| !open.contains(&file.path)) else { return };
                self.files.remove(at);
            }
            self.files.push_back(Looked::from_now_on(path.clone()));
        }
    }

    /// The run began before this daemon: it may go on with the logs that it has. They count when they grow, from now on.
    pub(crate) fn adopt(&mut self) {
        let mut logs: Vec<PathBuf> = self.newest_logs().collect();
        logs.sort_unstable();
        for path in logs.split_off(logs.len().saturating_sub(MOST_LOGS)) {
            self.files.push_back(Looked::from_now_on(path));
        }
    }

    /// A daemon before this one was told so: the log counts when it grows, from now on.
    pub(crate) fn recall(&mut self, log: PathBuf) {
        self.files.clear();
        self.watch.iter_mut().for_each(CreationWatch::clear);
        self.told = true;
        self.files.push_back(Looked::from_now_on(log));
    }

    /// What was read of each file.
    pub(crate) fn looked_at(&self) -> Vec<Log> {
        self.files.iter().chain([&self.output]).filter_map(Looked::to_be_recalled).collect()
    }

    /// The same, by a daemon before this one: what has been written since is new. So is a log that is newer than all that
    /// it knew.
    pub(crate) fn recall_looks(&mut self, logs: &[Log]) {
        let looked_at = |path: &Path| logs.iter().find(|log| Path::new(&log.path) == path).map(Looked::recalled);
        if let Some(output) = looked_at(&self.output.path) {
            self.output = output;
        }
        let own = |log: &&Log| Path::new(&log.path) != self.output.path;
        let newest = logs.iter().filter(own).map(|log| PathBuf::from(&log.path)).max();
        for file in &mut self.files {
            match looked_at(&file.path) {
                Some(before) => *file = before,
                None if newest.as_ref().is_some_and(|newest| *newest < file.path) => file.mark = None,
                None => {}
            }
        }
    }

    fn newest_logs(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let mut days: Vec<PathBuf> = entries(&self.logs).filter(|path| is_day(path)).collect();
        days.sort_unstable();
        days.into_iter().rev().take(2).flat_map(|day| entries(&day)).filter(|path| is_log(path))
    }

    /// The kernel tells of new logs; else they are looked for.
    pub(crate) fn is_told(&self) -> bool {
        self.watch.is_some()
    }

    /// The run is over: what the next one can use.
    pub(crate) fn into_watch(self) -> Option<CreationWatch> {
        self.watch
    }

    /// The worker named its own log: then no other one counts.
    pub(crate) fn told(&mut self, log: PathBuf) {
        if !self.told {
            self.files.clear();
            self.watch.iter_mut().for_each(CreationWatch::clear);
            self.told = true;
        }
        self.track(log);
    }

    /// Its newest log.
    pub(crate) fn newest_log(&self) -> Option<&Path> {
        self.files.back().map(|file| file.path.as_path())
    }

    /// What changed since the last call.
    pub(crate) fn look(&mut self) -> Sign {
        if !self.told {
            self.take_news();
        }
        let mut sign = Sign::Nothing;
        let mut source = None;
        for file in &mut self.files {
            let one = file.look();
            if one > sign {
                (sign, source) = (one, Some(Source::Log(file.path.clone())));
            }
        }
        let one = self.output.look();
        if one > sign {
            (sign, source) = (one, Some(Source::Output));
        }
        if let Some(source) = source {
            self.noted(sign, source);
        }
        sign
    }

    /// It showed this sign of life.
    pub(crate) fn noted(&mut self, sign: Sign, source: Source) {
        if sign == Sign::Progress {
            self.last_new = Some(source.clone());
        }
        self.last = Some(source);
    }

    /// What showed life last, and new life, as far as this daemon has seen it.
    pub(crate) fn sources(&self) -> (Option<&Source>, Option<&Source>) {
        (self.last.as_ref(), self.last_new.as_ref())
    }

    fn take_news(&mut self) {
        let Some(watch) = &mut self.watch else { return self.look_for_news() };
        let news = watch.take();
        let mut deeper = false;
        for path in news {
            if is_log(&path) {
                self.track(path);
            } else {
                // A folder on the way to the logs, perhaps.
                deeper = true;
            }
        }
        if deeper {
            self.extend_watch(true);
        }
    }

    fn look_for_news(&mut self) {
        for path in self.newest_logs() {
            if self.known.insert(path.clone()) {
                self.track(path);
            }
        }
    }

    /// There are too many watches, perhaps only now.
    fn give_up_watch(&mut self) {
        self.watch = None;
        self.adopt();
        self.known = self.newest_logs().collect();
    }

    /// Watch `docs/logs` and its newest days, or the nearest folder on the way there that exists. `new`: what is found
    /// in a folder that was not watched before came into being during the run.
    fn extend_watch(&mut self, new: bool) {
        let Some(watch) = &mut self.watch else { return };
        let mut found = Vec::new();
        // Once more after each new watch: the next folder on the way may have come just before it.
        loop {
            let mut folder = self.logs.as_path();
            let watching = loop {
                match (watch.add(folder), folder.parent()) {
                    (Ok(watching), _) if watching.exists() => break watching,
                    (Err(_), _) => return self.give_up_watch(),
                    (_, Some(parent)) => folder = parent,
                    (_, None) => return,
                }
            };
            if folder == self.logs {
                break;
            }
            if !watching.is_new() {
                return;
            }
        }
        let mut days: Vec<PathBuf> = entries(&self.logs).filter(|path| is_day(path)).collect();
        days.sort_unstable();
        for day in days.into_iter().rev().take(MOST_DAYS) {
            let fresh = watch.add(&day).is_ok_and(|watching| watching.is_new());
            if new && fresh {
                found.extend(entries(&day).filter(|path| is_log(path)));
            }
        }
        for path in found {
            self.track(path);
        }
    }

    fn track(&mut self, path: PathBuf) {
        if self.files.iter().any(|file| file.path == path) {
            return;
        }
        if self.files.len() == MOST_LOGS {
            self.files.pop_front();
        }
        self.files.push_back(Looked { path, mark: None, said: Said::default() });
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rlog")
}

fn is_day(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() == 8 && name.bytes().all(|b| b.is_ascii_digit())
}

fn mark(path: &Path) -> Option<Mark> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_new_log_is_activity_wherever_the_folders_began() {
        for existing in ["", "docs", "docs/logs", "docs/logs/20260101"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join(existing)).unwrap();
            let mut activity = Activity::begin(folder.path(), folder.path().join("output"), None);
            assert!(activity.look() == Sign::Nothing, "{existing}: nothing yet");
            let log = folder.path().join("docs/logs/20260101/090000-a.rlog");
            write(&log, "one\n");
            assert!(activity.look() == Sign::Progress, "{existing}: it came into being");
            assert!(activity.look() == Sign::Nothing, "{existing}: and did not change since");
            write(&log, "one\ntwo\n");
            assert!(activity.look() == Sign::Progress, "{existing}: it grew");
            write(&folder.path().join("docs/logs/20260102/000000-b.rlog"), "next day\n");
            assert!(activity.look() == Sign::Progress, "{existing}: across midnight");
            assert!(activity.look() == Sign::Nothing);
        }
    }

    /// Where the kernel has no watch left.
    #[test]
    fn without_a_watch_new_logs_are_found_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("docs/logs/20260101/080000-old.rlog");
        write(&old, "old\n");
        let mut activity = Activity::begin(folder.path(), folder.path().join("output"), None);
        activity.give_up_watch();
        activity.files.clear();
        assert!(!activity.is_told());
        write(&old, "old\nand growing\n");
        assert!(activity.look() == Sign::Nothing);
        for day in ["20260101", "20260102"] {
            let own = folder.path().join("docs/logs").join(day).join("090000-own.rlog");
            write(&own, "one\n");
            assert!(activity.look() == Sign::Progress, "{day}: it came into being");
            write(&own, "one\ntwo\n");
            assert!(activity.look() == Sign::Progress, "{day}: it grew");
        }
    }

    #[test]
    fn a_file_without_a_word_in_it_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        let mut activity = Activity::begin(folder.path(), output.clone(), None);
        write(&output, "");
        assert!(activity.look() == Sign::Nothing, "it came into being");
        write(&output, "error: not yet\n");
        assert!(activity.look() == Sign::Progress);
        write(&output, "");
        assert!(activity.look() == Sign::Nothing, "it was emptied");
        write(&output, "error: not yet\n");
        assert!(activity.look() == Sign::Repetition, "the same again");
    }

    #[test]
    fn what_was_written_without_a_daemon_is_seen_by_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        let day = folder.path().join("docs/logs/20260101");
        let own = day.join("090000-own.rlog");
        write(&day.join("080000-old.rlog"), "old\n");
        let begin = || Activity::begin(folder.path(), output.clone(), None);
        let mut before = begin();
        write(&own, "one\n");
        write(&output, "error: not yet\n");
        assert!(before.look() == Sign::Progress);
        let logs = before.looked_at();
        let recalled = || {
            let mut activity = begin();
            activity.adopt();
            activity.recall_looks(&logs);
            activity
        };
        assert!(recalled().look() == Sign::Nothing, "nothing was written");
        write(&output, "error: not yet\nerror: not yet\n");
        assert!(recalled().look() == Sign::Repetition, "the same complaint again");
        write(&day.join("090001-own.rlog"), "two\n");
        assert!(recalled().look() == Sign::Progress, "a newer log");
        std::fs::remove_file(day.join("090001-own.rlog")).unwrap();
        write(&own, "one\ntwo\n");
        assert!(recalled().look() == Sign::Progress, "its log grew");
    }

    #[test]
    fn an_adopted_run_goes_on_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("docs/logs/20260101/090000-own.rlog");
        write(&own, "one\n");
        let mut activity = Activity::begin(folder.path(), folder.path().join("output"), None);
        activity.adopt();
        assert!(activity.look() == Sign::Nothing, "what it wrote before is not life");
        write(&own, "one\ntwo\n");
        assert!(activity.look() == Sign::Progress);
    }

    /// The clock was wrong by a month and is right again: the folders from the future stay.
    #[test]
    fn a_log_in_an_older_folder_is_seen_too() {
        let folder = tempfile::tempdir().unwrap();
        for day in 20260101..=20260131 {
            std::fs::create_dir_all(folder.path().join(format!("docs/logs/{day}"))).unwrap();
        }
        let mut activity = Activity::begin(folder.path(), folder.path().join("output"), None);
        write(&folder.path().join("docs/logs/20260101/090000-a.rlog"), "one\n");
        assert!(activity.look() == Sign::Progress);
    }

    #[test]
    fn a_log_from_before_the_run_is_not_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("docs/logs/20260101/090000-old.rlog");
        write(&old, "old\n");
        let mut activity = Activity::begin(folder.path(), folder.path().join("output"), None);
        write(&old, "old\nand growing\n");
        assert!(activity.look() == Sign::Nothing);
        write(&folder.path().join("output"), "a line\n");
        assert!(activity.look() == Sign::Progress, "output is activity");
    }

    #[test]
    fn a_log_from_before_the_run_is_its_own_if_it_has_it_open_for_writing() {
        let folder = tempfile::tempdir().unwrap();
        let day = folder.path().join("docs/logs/20260101");
        let logs: Vec<PathBuf> = (0..6).map(|number| day.join(format!("09000{number}-old.rlog"))).collect();
        logs.iter().for_each(|log| write(log, "old\n"));
        let mut activity = Activity::begin(folder.path(), folder.path().join("output"), None);
        let _read = File::open(&logs[1]).unwrap();
        let _elsewhere = File::create(folder.path().join("elsewhere.rlog")).unwrap();
        activity.look_for_open_logs([std::process::id()]);
        assert_eq!(activity.newest_log(), None);
        let mut own = File::options().append(true).open(&logs[0]).unwrap();
        activity.look_for_open_logs([std::process::id()]);
        assert!(activity.look() == Sign::Nothing, "what was in it before is not life");
        own.write_all(b"more\n").unwrap();
        write(&logs[1], "old\nand growing\n");
        assert!(activity.look() == Sign::Progress && activity.look() == Sign::Nothing);
        // More of them than are looked at: those that are, stay.
        let open: Vec<File> = logs.iter().map(|log| File::options().append(true).open(log).unwrap()).collect();
        activity.look_for_open_logs([std::process::id()]);
        activity.look_for_open_logs([std::process::id()]);
        let tracked: Vec<&PathBuf> = activity.files.iter().map(|file| &file.path).collect();
        assert_eq!(tracked, [&logs[0], &logs[1], &logs[2], &logs[3]]);
        drop(open);
        activity.told(day.join("100000-own.rlog"));
        activity.look_for_open_logs([std::process::id()]);
        assert_eq!(activity.files.len(), 1, "it has named its log");
    }

    #[test]
    fn a_worker_that_names_its_log_is_judged_by_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("docs/logs/20260101/090000-own.rlog");
        write(&own, "own\n");
        let mut activity = Activity::begin(folder.path(), folder.path().join("output"), None);
        activity.told(own.clone());
        assert!(activity.look() == Sign::Progress);
        write(&folder.path().join("docs/logs/20260101/090001-strange.rlog"), "x\n");
        assert!(activity.look() == Sign::Nothing);
        write(&own, "own\nmore\n");
        assert!(activity.look() == Sign::Progress);
    }

    /// Ten thousand old logs cost a look nothing: in turns, so that a busy machine is as busy for both.
    #[test]
    fn a_look_costs_the_same_with_ten_and_with_ten_thousand_logs() {
        let begin = |count: u32| {
            let folder = tempfile::tempdir().unwrap();
            let day = folder.path().join("docs/logs/20260101");
            std::fs::create_dir_all(&day).unwrap();
            for number in 0..count {
                std::fs::write(day.join(format!("{number:06}-old.rlog")), "old\n").unwrap();
            }
            let mut activity = Activity::begin(folder.path(), folder.path().join("output"), None);
            write(&day.join("235959-own.rlog"), "own\n");
            assert!(activity.look() == Sign::Progress);
            (folder, activity)
        };
        let (_few, mut with_few) = begin(10);
        let (_many, mut with_many) = begin(10_000);
        let cost_ns = |activity: &mut Activity| {
            let begun_ns = monotonic_ns();
            assert!(activity.look() == Sign::Nothing);
            monotonic_ns() - begun_ns
        };
        let mut costs_ns: Vec<(u64, u64)> =
            (0..2_001).map(|_| (cost_ns(&mut with_few), cost_ns(&mut with_many))).collect();
        costs_ns.sort_unstable_by_key(|(few, _)| *few);
        let few_ns = costs_ns[1_000].0;
        costs_ns.sort_unstable_by_key(|(_, many)| *many);
        let many_ns = costs_ns[1_000].1;
        println!("measured: a look costs {few_ns} ns with 10 logs, {many_ns} ns with 10,000");
        assert!(many_ns * 2 <= few_ns * 3, "{few_ns} ns with 10 logs, {many_ns} ns with 10,000");
    }

    fn monotonic_ns() -> u64 {
        #[expect(clippy::disallowed_methods, reason = "a millisecond is too coarse a clock for this")]
        let now = std::time::Instant::now();
        static BEGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        u64::try_from(now.duration_since(*BEGIN.get_or_init(|| now)).as_nanos()).unwrap()
    }
}
