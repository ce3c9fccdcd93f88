//! `autopilot.toml` in the repository: what holds for the work on it, whoever starts the worker.
//!
//! Looked for in the working directory and above it, up to the repository's root. Read at the start, and its budgets again when
//! somebody changes it while one of them keeps the worker waiting: what the agent writes into it does not change the terms that it works
//! under.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ledger::micros;

const NAME: &str = "autopilot.toml";

/// What may be spent on a project, millionths of a dollar. 0: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budgets {
    /// From midnight to midnight, local time.
    pub daily_micros: u64,
    /// From Monday to Monday.
    pub weekly_micros: u64,
    pub monthly_micros: u64,
}

/// How a task's work is kept apart from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// In the working directory, on the branch that it is on.
    #[default]
    Off,
    /// In the working directory, on a branch of its own.
    Branch,
    /// In a worktree of its own, on a branch of its own.
    Worktree,
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The command that has to succeed in a clean checkout of a task's result.
    pub accept: Option<String>,
    /// So many results of one task may fail it.
    pub max_attempts: u32,
    pub git: Isolation,
    /// An accepted result is merged; else its branch is left for review.
    pub merge: bool,
    pub budget: Budgets,
}

impl Default for Settings {
    fn default() -> Self {
        Self { accept: None, max_attempts: 3, git: Isolation::Off, merge: false, budget: Budgets::default() }
    }
}

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{path}:{line}: {what}")]
    Content { path: PathBuf, line: usize, what: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    accept: Option<String>,
    max_attempts: Option<std::num::NonZeroU32>,
    #[serde(default)]
    git: Isolation,
    #[serde(default)]
    merge: bool,
    #[serde(default)]
    budget: BudgetTable,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct BudgetTable {
    daily: Dollars,
    weekly: Dollars,
    monthly: Dollars,
}

/// Millionths.
#[derive(Default, Clone, Copy)]
struct Dollars(u64);

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A whole number is read as one with a fraction, too.
        let micros = f64::deserialize(deserializer).ok().and_then(micros);
        micros
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("wants dollars, 0 or more, for example 5.0 (0 = no limit)"))
    }
}

impl Settings {
    /// Those for this working directory; without a file, the defaults.
    ///
    /// # Errors
    /// [`Wrong`]: half of the settings are none.
    pub fn read(folder: &Path) -> Result<Self, Wrong> {
        let Some(path) = find(folder) else { return Ok(Self::default()) };
        let unreadable = |error| Wrong::Unreadable { path: path.clone(), error };
        // What is there and can't be read is not nothing.
        if !std::fs::metadata(&path).map_err(unreadable)?.is_file() {
            let error = std::io::Error::other("it is no file");
            return Err(Wrong::Unreadable { path, error });
        }
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        Self::parse(&text).map_err(|(line, what)| Wrong::Content { path, line, what })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let file: File = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            (before.matches('\n').count() + 1, error.message().replace('\n', " "))
        })?;
        let BudgetTable { daily, weekly, monthly } = file.budget;
        let budget = Budgets { daily_micros: daily.0, weekly_micros: weekly.0, monthly_micros: monthly.0 };
        let default = Self::default();
        let max_attempts = file.max_attempts.map_or(default.max_attempts, std::num::NonZeroU32::get);
        let accept = file.accept.filter(|command| !command.trim().is_empty());
        Ok(Self { accept, max_attempts, git: file.git, merge: file.merge, budget })
    }
}

/// By what a change of the file is noticed; nothing is read for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen(Option<(PathBuf, [i64; 4], u64, u64)>);

impl Seen {
    /// The file as it is now.
    pub(crate) fn look(folder: &Path) -> Self {
        Self(find(folder).and_then(|path| {
            let data = path.metadata().ok()?;
            let times = [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()];
            Some((path, times, data.ino(), data.len()))
        }))
    }
}

fn find(folder: &Path) -> Option<PathBuf> {
    for folder in folder.ancestors() {
        let path = folder.join(NAME);
        if std::fs::symlink_metadata(&path).is_ok() {
            return Some(path);
        }
        if folder.join(".git").exists() {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_dollars() {
        let text = "[budget]\ndaily = 5\nweekly = 20.5\n";
        let budget = Budgets { daily_micros: 5_000_000, weekly_micros: 20_500_000, monthly_micros: 0 };
        assert_eq!(Settings::parse(text), Ok(Settings { budget, ..Settings::default() }));
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
    }

    #[test]
    fn a_check_and_the_place_for_the_work_are_chosen() {
        let text = "accept = \"make test\"\nmax_attempts = 5\ngit = \"worktree\"\nmerge = true\n";
        let (accept, budget) = (Some("make test".to_owned()), Budgets::default());
        let expected = Settings { accept, max_attempts: 5, git: Isolation::Worktree, merge: true, budget };
        assert_eq!(Settings::parse(text), Ok(expected));
    }

    #[test]
    fn half_of_the_settings_are_none() {
        for (text, line, words) in [
            ("[budget]\n\nhourly = 1\n", 3, "hourly"),
            ("[budget]\ndaily = -1\n", 2, "wants dollars"),
            ("[budget]\ndaily = nan\n", 2, "wants dollars"),
            ("[budget]\ndaily = 1\nweekly = \"5\"\n", 3, "wants dollars"),
            ("git = \"tree\"\n", 1, "worktree"),
            ("max_attempts = 0\n", 1, "nonzero"),
            ("color = 1\n", 1, "color"),
            ("[budget\n", 1, ""),
        ] {
            let (found, what) = Settings::parse(text).unwrap_err();
            assert!(found == line && what.contains(words), "{text:?}: {found}: {what}");
        }
    }

    #[test]
    fn the_file_is_that_of_the_repository() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("repo/src/deep");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(root.path().join(NAME), "nonsense").unwrap();
        std::fs::create_dir(root.path().join("repo/.git")).unwrap();
        assert_eq!(Settings::read(&below).unwrap(), Settings::default(), "what is outside of it is none of it");
        std::fs::write(root.path().join("repo").join(NAME), "[budget]\ndaily = 1.0\n").unwrap();
        assert_eq!(Settings::read(&below).unwrap().budget.daily_micros, 1_000_000);
        std::fs::write(root.path().join("repo").join(NAME), "x = 1").unwrap();
        let wrong = Settings::read(&below).unwrap_err().to_string();
        assert!(wrong.contains("autopilot.toml:1: "), "{wrong}");
        let file = root.path().join("repo").join(NAME);
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(Settings::read(&below).unwrap_err().to_string().contains("it is no file"), "that is not the defaults");
    }
}
