//! What is given back when nothing has happened for a moment: a start, a command, or a run's beginning or end needs far
//! more of the program than waiting does, and the daemon waits for days.

/// How long nothing is to have happened, in ms. Long enough that a burst of commands costs it once.
const QUIET_MS: u64 = 1_000;
/// How much later it may be: until then the daemon mostly wakes up for another reason.
const SLACK_MS: u64 = 5_000;

/// Heartbeats and looks at the memory are part of the waiting: they stir nothing.
#[derive(Debug, Default)]
pub(crate) struct Settle {
    quiet_ms: Option<u64>,
}

impl Settle {
    /// Something has happened.
    pub(crate) fn stir(&mut self, now_ms: u64) {
        self.quiet_ms = Some(now_ms.saturating_add(QUIET_MS));
    }

    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.quiet_ms.map(|quiet_ms| quiet_ms.saturating_add(SLACK_MS))
    }

    /// Give back, once it is time; at any wake-up.
    pub(crate) fn look(&mut self, now_ms: u64) {
        if self.quiet_ms.take_if(|quiet_ms| *quiet_ms <= now_ms).is_some() {
            os::image::give_back_code();
        }
    }
}
