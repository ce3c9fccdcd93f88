//! What the hostile worker is told, read from its words.

use std::time::Duration;

/// What to do; see the table in the module above.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub(super) ignore_term: bool,
    pub(super) notifications: Vec<String>,
    pub(super) spew_bytes: u64,
    pub(super) leak: Option<Leak>,
    pub(super) trap: bool,
    pub(super) bomb: usize,
    pub(super) watchdog: Option<Duration>,
    pub(super) beats_while: Option<String>,
    pub(super) rlog: Option<String>,
    pub(super) rlog_interval: Option<Duration>,
    pub(super) after: Option<Duration>,
    pub(super) alone: bool,
    pub(super) exit: u8,
    pub(super) die: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leak {
    pub(super) bytes_per_second: u64,
    pub(super) cap_bytes: u64,
}

impl Words {
    /// # Errors
    /// The word that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = Self::default();
        for word in text.split_ascii_whitespace() {
            words.take(word).ok_or_else(|| format!("not understood: {word}"))?;
        }
        Ok(words)
    }

    fn take(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let milliseconds = || value.parse().ok().map(Duration::from_millis);
        match name {
            "ignore-term" => self.ignore_term = true,
            "ready" => self.notifications.push("READY=1".to_owned()),
            "phase" => self.notifications.push(format!("AUTOPILOT_PHASE={value}")),
            "notify" => self.notifications.push(value.to_owned()),
            "status" => self.notifications.push(format!("STATUS={value}")),
            "spew" => self.spew_bytes = value.parse().ok()?,
            "leak" => {
                let (rate, cap) = value.split_once(':')?;
                self.leak = Some(Leak { bytes_per_second: rate.parse().ok()?, cap_bytes: cap.parse().ok()? });
            }
            "trap" => self.trap = true,
            "bomb" => self.bomb = value.parse().ok()?,
            "watchdog_ms" => self.watchdog = Some(milliseconds()?),
            "beats_while" => self.beats_while = Some(value.to_owned()),
            "rlog" => self.rlog = Some(value.to_owned()),
            "rlog_ms" => self.rlog_interval = Some(milliseconds()?),
            "after_ms" => self.after = Some(milliseconds()?),
            "alone" => self.alone = true,
            "exit" if value == "pid" => self.exit = super::code_of(i32::try_from(std::process::id()).ok()?),
            "exit" => self.exit = value.parse().ok()?,
            "die" => self.die = Some(value.parse().ok()?),
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_and_unknown_ones_named() {
        let words = Words::parse("ignore-term ready leak=1000:5000 after_ms=20 exit=3").unwrap();
        assert!(words.ignore_term);
        assert_eq!(words.notifications, ["READY=1"]);
        assert_eq!(words.leak, Some(Leak { bytes_per_second: 1000, cap_bytes: 5000 }));
        assert_eq!((words.after, words.exit), (Some(Duration::from_millis(20)), 3));
        assert_eq!(Words::parse("exit=300").unwrap_err(), "not understood: exit=300");
    }
}
