//! The supervisor's ear: what it is told over `NOTIFY_SOCKET`, sd_notify(3), in one datagram for all that a step decides.

use os::notify::Notifier;

/// The longest status. The supervisor keeps 500 characters, and what a long one pushes out of the datagram is not heard.
const STATUS_MAX_CHARS: usize = 400;

#[derive(Debug)]
pub(super) struct Report {
    notifier: Notifier,
    /// What the step had to tell so far.
    lines: String,
    /// The last word on what we do: one a datagram, and after all else.
    status: Option<String>,
}

impl Report {
    pub(super) fn new(notifier: Notifier) -> Self {
        Self { notifier, lines: String::new(), status: None }
    }

    pub(super) fn begin(&mut self) {
        (self.lines, self.status) = (String::new(), None);
    }

    pub(super) fn add(&mut self, key: &str, value: &str) {
        self.lines.extend([key, "=", &value.replace('\n', " "), "\n"]);
    }

    pub(super) fn status(&mut self, text: &str) {
        let mut status: String = text.replace('\n', " ").chars().take(STATUS_MAX_CHARS).collect();
        if status.chars().count() < text.chars().count() {
            status.push('…');
        }
        self.status = Some(status);
    }

    pub(super) fn send(&mut self) {
        if let Some(status) = self.status.take() {
            self.add("STATUS", &status);
        }
        if !self.lines.is_empty() {
            self.notifier.send(self.lines.trim_end());
            self.lines.clear();
        }
    }

    /// Outside of any step.
    pub(super) fn at_once(&self, lines: &str) {
        self.notifier.send(lines);
    }
}
