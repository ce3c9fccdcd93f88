//! `autopilot log`, `replay`, `analyze`, `compare`, `apm` and `logs`: what they accept.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::since::{self, Since};

const RUN_HELP: &str = "A path, an id, or a part of one that only it has [default: the newest]";

/// Where the logs are.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Place {
    /// The project's folder, in which docs/logs is [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
}

/// `autopilot log`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ShowLog {
    #[arg(help = RUN_HELP)]
    pub run: Option<String>,
    /// Go on as the log grows, and with the next run's
    #[arg(short, long)]
    pub follow: bool,
    /// The last so many lines [default: all; 20 with -f]
    #[arg(short = 'n', value_name = "N")]
    pub count: Option<usize>,
    /// Only the names of all logs, oldest first
    #[arg(short, long, conflicts_with_all = ["follow", "count", "run"])]
    pub list: bool,
    #[command(flatten)]
    pub place: Place,
}

/// `autopilot replay`.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Replay {
    #[arg(help = RUN_HELP)]
    pub run: Option<String>,
    /// So many times as fast as it was
    #[arg(long, value_name = "X", default_value = "1", value_parser = speed)]
    pub speed: f64,
    /// The longest pause, in seconds
    #[arg(long, value_name = "S", default_value = "5", value_parser = speed)]
    pub max_pause: f64,
    #[command(flatten)]
    pub place: Place,
}

/// `autopilot analyze`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Analyze {
    /// A log, or a folder with logs [default: the project's]
    pub path: Option<PathBuf>,
    /// Only logs that were begun since then: 30m, 2h, 1d, 09:30, 2026-01-31
    #[arg(long, value_name = "TIME", value_parser = since::parse)]
    pub since: Option<Since>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

/// `autopilot compare`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Compare {
    /// A path, an id, or a part of one
    pub a: String,
    /// The other one
    pub b: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

/// `autopilot apm`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Apm {
    /// A log, or a folder with logs [default: the project's]
    pub path: Option<PathBuf>,
    /// The stretch of time until now [default: each of them]
    #[arg(long, value_enum)]
    pub window: Option<Window>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Window {
    #[value(name = "1h")]
    Hour,
    #[value(name = "6h")]
    SixHours,
    #[value(name = "1d")]
    Day,
    #[value(name = "1w")]
    Week,
}

impl Window {
    pub(crate) fn name_and_ms(self) -> (&'static str, u64) {
        match self {
            Self::Hour => ("1h", 3_600_000),
            Self::SixHours => ("6h", 6 * 3_600_000),
            Self::Day => ("1d", 86_400_000),
            Self::Week => ("1w", 7 * 86_400_000),
        }
    }
}

/// `autopilot logs`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Logs {
    /// Pack old logs (gzip); every command reads them as before
    Archive(Old<7>),
    /// Remove old logs
    Cleanup(Old<30>),
}

/// Which logs are old.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Old<const DAYS: u32> {
    /// Begun so long ago, or before then: 12h, 7d, 4w, 2026-01-31
    #[arg(long, value_name = "TIME", value_parser = since::parse, default_value = days(DAYS))]
    pub older_than: Since,
    /// And the oldest others, until all that is left is no larger: 500MB, 2GB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub place: Place,
}

fn days(days: u32) -> &'static str {
    if days == 7 { "7d" } else { "30d" }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: Option<f64> = text.trim_end_matches(['x', '×']).parse().ok();
    speed.filter(|speed| (0.001..=100_000.0).contains(speed)).ok_or_else(|| "wants a number above 0".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    let text = text.trim().to_ascii_uppercase();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().trim_end_matches('B').trim_end_matches('I') {
        "" => Some(0),
        "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let bytes = shift.and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    bytes.ok_or_else(|| "wants bytes, or 500MB, 2GB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_speeds_are_understood_or_refused() {
        for (text, expected) in
            [("500MB", Some(500 << 20)), ("2 gb", Some(2 << 30)), ("4096", Some(4_096)), ("1GiB", Some(1 << 30))]
        {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        for text in ["", "MB", "-1", "1.5GB", "9999999999TB", "ten"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!((speed("10x"), speed("0.5").ok()), (Ok(10.0), Some(0.5)));
        assert!(["0", "-1", "nan", "inf", ""].iter().all(|text| speed(text).is_err()));
    }
}
