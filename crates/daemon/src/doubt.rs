//! A run of which something seems to live, and nobody can say what: it is left alone, and its end is waited for.
//!
//! Never a second worker, and never a signal to a stranger: where only one of the two can be had by guessing, neither is
//! guessed. `status` says what the operator can do.

use os::files::{Lock, Locked};
use policy::supervisor::{Event, Exit, RunId, State};
use wire::run::Ended;

use crate::drive::Daemon;
use crate::home::RunFolder;
use crate::runs::{self, LiveRun, News};

/// Nobody tells when the lock of such a run is free: it is looked at this often.
const LOOK_EVERY_MS: u64 = 1_000;

/// A tree without a shim is looked at this often until it is gone.
const ORPHANS_AGAIN_MS: u64 = 20;

/// What was killed again and again for so long, and is still there, can't be ended from here.
const GIVEN_UP_AFTER_MS: u64 = 5_000;

/// What a shim needs at most beyond the stop timeout: it waits for what can't be killed, and takes the rest of the output.
const SHIM_ENDS_WITHIN_MS: u64 = 8_000;

/// Why it can't be told what lives of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Its record is of a version that is not understood.
    Version { v: u32 },
    /// Its record is of another boot, or of another machine, and its lock is held all the same.
    OtherBoot,
    /// Its pids are of another container.
    OtherNamespace,
    /// `/proc` does not say who is who.
    NoProc,
    /// Its lock is held, and nobody who is to be seen holds it.
    NobodySeen,
    /// It was killed, and is still there.
    NotEnded,
}

impl Doubt {
    fn why(self) -> String {
        match self {
            Self::Version { v } => format!("its record is of version {v}, which this daemon does not understand"),
            Self::OtherBoot => "its record is of another boot or machine, but its lock is held".to_owned(),
            Self::OtherNamespace => "it was started in another container".to_owned(),
            Self::NoProc => "/proc is hidden, so that nobody can be told by his pid".to_owned(),
            Self::NobodySeen => "its lock is held by somebody who is not to be seen from here".to_owned(),
            Self::NotEnded => "it was killed, but something still holds its lock".to_owned(),
        }
    }

    fn hint(self, folder: &RunFolder) -> String {
        let folder = folder.path().display();
        let last = format!("if nothing of it runs any more: rm -r {folder}");
        match self {
            Self::Version { .. } => {
                format!("start the newer autopilotd; or `autopilotd restart-worker` ends it and starts anew; {last}")
            }
            Self::OtherBoot | Self::OtherNamespace | Self::NobodySeen => format!(
                "end it where it runs (another machine, container or user?); `autopilotd restart-worker` ends \
                 what is to be seen of it from here and starts anew; {last}"
            ),
            Self::NoProc => format!("mount /proc; or end it by hand; {last}"),
            Self::NotEnded => format!("see who holds {folder}/lock: fuser -v {folder}/lock; {last}"),
        }
    }
}

impl LiveRun {
    /// Why nobody knows what lives of it, and what to do about it.
    pub(crate) fn doubts(&self) -> Option<(String, String)> {
        let doubt = self.doubt?;
        let why = format!("run {} may still live, and it can't be verified: {}", self.number, doubt.why());
        Some((why, doubt.hint(&self.folder)))
    }
}

impl Daemon {
    /// Why nobody knows what lives, in one line.
    pub(crate) fn doubts(&self) -> Option<String> {
        let (why, hint) = self.run.as_ref()?.doubts()?;
        Some(format!("{why}. What you can do: {hint}"))
    }

    /// It is time to look at what has no shim.
    pub(crate) fn look_at_orphans(&mut self) {
        self.orphans_due_ms = None;
        if !matches!(self.machine.state(), State::Unknown(_)) {
            return self.end_orphans();
        }
        let Some(run) = self.run.as_ref() else { return };
        let number = run.number;
        if !runs::is_free(&run.folder) {
            return self.look_again();
        }
        let Ok(ended) = runs::read::<Ended>(&run.folder.exit()) else { return self.look_again() };
        match ended.filter(|ended| ended.run == number && ended.boot_id == self.boot_id) {
            Some(ended) => self.take_news(News::Ended(ended)),
            None => {
                self.forget_run(number);
                self.feed(Event::Exited(RunId(number), Exit::Unseen));
            }
        }
    }

    pub(crate) fn look_again(&mut self) {
        self.orphans_due_ms = Some(os::clock::monotonic_ms().saturating_add(LOOK_EVERY_MS));
    }

    /// A lock whose file was removed is made again, as the socket is. Somebody else may have it for a moment: until he finds that this daemon answers.
    pub(crate) fn mend_lock(&mut self) {
        let path = self.home.daemon_lock();
        if self.lock.as_ref().is_some_and(|lock| !lock.is_at(&path))
            && let Ok(Locked::Taken(lock)) = Lock::try_take(&path)
        {
            self.lock = Some(lock);
        }
    }

    /// It was told to end its tree. Somebody may stop it, again and again.
    pub(crate) fn await_shim(&mut self) {
        let stop_timeout_ms = self.launching.config().restart.stop_timeout_ms.value;
        let within_ms = stop_timeout_ms.saturating_add(SHIM_ENDS_WITHIN_MS);
        self.shim_due_ms.get_or_insert(os::clock::monotonic_ms().saturating_add(within_ms));
    }

    /// Without it, its tree is one of orphans, which are ended from here.
    pub(crate) fn look_at_shim(&mut self) {
        if self.shim_due_ms.is_some_and(|due_ms| due_ms <= os::clock::monotonic_ms()) {
            self.shim_due_ms = None;
            self.run.as_ref().inspect(|run| run.kill_shim());
        }
    }

    /// They were killed, and not all are gone yet.
    pub(crate) fn orphans_remain(&mut self) {
        let now_ms = os::clock::monotonic_ms();
        let since_ms = *self.orphans_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) < GIVEN_UP_AFTER_MS {
            self.orphans_due_ms = Some(now_ms.saturating_add(ORPHANS_AGAIN_MS));
            return;
        }
        self.orphans_since_ms = None;
        let Some(run) = &mut self.run else { return };
        run.doubt.get_or_insert(Doubt::NotEnded);
        let number = run.number;
        self.look_again();
        self.feed(Event::Unverified(RunId(number)));
    }
}
