//! `autopilot project`, `autopilot issue`, `autopilot budget` and `autopilot mcp`.

use std::path::PathBuf;

use ::queue::{Kind, Priority};
use clap::{Args, Subcommand, ValueEnum};

use super::number;

/// `autopilot project`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Project {
    /// Make a project with an empty queue
    Create {
        /// Its name [default: the folder identifies it, as for `autopilot run`]
        #[arg(value_parser = number::name)]
        name: Option<String>,
        /// Where it is worked on [default: the current directory]
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
    },
    /// All projects
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One project: where it is, and how its tasks stand
    Show {
        /// Its name [default: the project of the current directory]
        name: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a project with all its tasks and its ledger
    Remove {
        /// Its name, as `autopilot project list` shows it
        name: String,
        /// Yes, all of it
        #[arg(long)]
        yes: bool,
    },
}

const AFTER_ISSUE_HELP: &str = "\
A task is ready when it is open, all that it needs is done, and nobody works on it. The most urgent comes first, then the oldest.

Examples:
  autopilot issue create \"Fix the login\" -d \"It fails on Mondays\" --priority high --type bug
  autopilot issue create \"Release\" --needs 1,2
  autopilot issue import plan.md          A heading of the second level for each task
  autopilot issue list --json | jq .";

/// `autopilot issue`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = AFTER_ISSUE_HELP)]
pub struct Issue {
    /// Project name [default: the project of the current directory]
    #[arg(short, long, value_name = "NAME", global = true, value_parser = number::name)]
    pub project: Option<String>,
    #[command(subcommand)]
    pub command: IssueCommand,
}

/// What to do with tasks.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum IssueCommand {
    /// Make a task
    Create {
        /// One line
        title: String,
        /// What is to be done; `-` reads it from stdin
        #[arg(short, long, default_value = "", allow_hyphen_values = true)]
        description: String,
        /// urgent, high, medium or low
        #[arg(long, default_value = "medium", value_parser = ::queue::priority)]
        priority: Priority,
        /// task, bug or feature
        #[arg(long = "type", value_name = "TYPE", default_value = "task", value_parser = kind)]
        kind: Kind,
        /// The tasks that have to be done before, for example 1,2
        #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = id)]
        needs: Vec<i64>,
    },
    /// The tasks that are not done
    List {
        /// Those that are done, too
        #[arg(long)]
        all: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// All about one task
    Show {
        #[arg(value_parser = id)]
        id: i64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Change what a task says
    Edit {
        #[arg(value_parser = id)]
        id: i64,
        #[arg(long)]
        title: Option<String>,
        /// `-` reads it from stdin
        #[arg(short, long, allow_hyphen_values = true)]
        description: Option<String>,
        /// urgent, high, medium or low
        #[arg(long, value_parser = ::queue::priority)]
        priority: Option<Priority>,
        /// task, bug or feature
        #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
        kind: Option<Kind>,
        /// All that it needs from now on; empty for nothing
        #[arg(long, value_name = "IDS", value_parser = ids)]
        needs: Option<Ids>,
    },
    /// Keep a task for yourself: no worker takes it
    Claim {
        /// Which [default: the next one that is ready]
        #[arg(value_parser = id)]
        id: Option<i64>,
        /// For so long, for example 30m, 8h, 2d
        #[arg(long = "for", value_name = "TIME", default_value = "8h", value_parser = span)]
        lease: Span,
    },
    /// Give a claim back, your own or a dead worker's
    Release {
        #[arg(value_parser = id)]
        id: i64,
    },
    /// A task is done
    Complete {
        #[arg(value_parser = id)]
        id: i64,
        /// Even if somebody works on it; a worker then stops
        #[arg(long)]
        force: bool,
    },
    /// Set a task aside until somebody unblocks it
    Block {
        #[arg(value_parser = id)]
        id: i64,
        /// Why
        reason: String,
    },
    /// Let a blocked task be worked on again
    Unblock {
        #[arg(value_parser = id)]
        id: i64,
    },
    /// Open a task again that was done
    Reopen {
        #[arg(value_parser = id)]
        id: i64,
    },
    /// Remove tasks
    Remove {
        #[arg(value_parser = id, required = true)]
        ids: Vec<i64>,
    },
    /// Make the tasks of a file, all or none
    Import {
        /// Markdown or JSON; `-` reads stdin
        file: PathBuf,
        /// [default: JSON if the name ends with .json, else Markdown]
        #[arg(long, value_enum)]
        format: Option<Format>,
    },
    /// Write all tasks to a file
    Export {
        /// [default: stdout]
        file: Option<PathBuf>,
        /// [default: JSON if the name ends with .json, else Markdown]
        #[arg(long, value_enum)]
        format: Option<Format>,
        /// The same as --format json
        #[arg(long, conflicts_with = "format")]
        json: bool,
    },
}

const AFTER_BUDGET_HELP: &str = "\
The budgets are in autopilot.toml, in the repository, in dollars:

  [budget]
  daily = 5.0
  weekly = 20.0
  monthly = 50.0

A worker that has used one up waits, and goes on by itself when the next day, week (on Monday) or month begins.";

/// `autopilot budget`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = AFTER_BUDGET_HELP)]
pub struct Budget {
    /// Project name [default: the project of the current directory]
    #[arg(short, long, value_name = "NAME", global = true, value_parser = number::name)]
    pub project: Option<String>,
    /// The same as `show --json`
    #[arg(long)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Option<BudgetCommand>,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum BudgetCommand {
    /// What was spent, and what is left; the default
    Show {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let every budget count afresh from now on; the ledger stays
    Reset,
}

/// `autopilot mcp`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Mcp {
    /// Project name [default: the project of the current directory]
    #[arg(short, long, value_name = "NAME", value_parser = number::name)]
    pub project: Option<String>,
    /// The database, instead of a project's
    #[arg(long, value_name = "FILE", hide = true)]
    pub database: Option<PathBuf>,
    /// The task that the session works on: it is not completed or blocked through the tools
    #[arg(long, value_name = "ID", value_parser = id)]
    pub task: Option<i64>,
}

/// Of a file with tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Markdown,
    Json,
}

/// Numbers of tasks as one argument, so that none is possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids(pub Vec<i64>);

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub u64);

fn id(text: &str) -> Result<i64, String> {
    let number = text.trim().trim_start_matches('#').parse().ok().filter(|id| *id > 0);
    number.ok_or_else(|| "wants a task's number, for example 3".to_owned())
}

fn ids(text: &str) -> Result<Ids, String> {
    text.split(',').filter(|word| !word.trim().is_empty()).map(id).collect::<Result<_, _>>().map(Ids)
}

fn kind(text: &str) -> Result<Kind, ::queue::UnknownWord> {
    text.parse()
}

fn span(text: &str) -> Result<Span, String> {
    let text = text.trim();
    let unit_ms = match text.chars().last() {
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => 0,
    };
    let number: Option<u64> = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse().ok());
    let ms = number.and_then(|number| number.checked_mul(unit_ms)).filter(|ms| *ms > 0);
    ms.map(Span).ok_or_else(|| "wants a time, for example 30m, 8h or 2d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_read_as_people_write_them() {
        assert_eq!((id("7"), id("#7")), (Ok(7), Ok(7)));
        assert!(id("0").is_err() && id("-1").is_err() && id("x").is_err());
        assert_eq!((ids("1, #2"), ids("")), (Ok(Ids(vec![1, 2])), Ok(Ids(vec![]))));
        assert_eq!((span("30m"), span("2d")), (Ok(Span(1_800_000)), Ok(Span(172_800_000))));
        assert!(span("8").is_err() && span("").is_err() && span("0h").is_err() && span("ä").is_err());
    }
}
