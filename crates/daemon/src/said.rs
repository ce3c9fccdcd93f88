//! What the worker says of itself: heartbeats and words over `NOTIFY_SOCKET`, sd_notify(3).

use std::path::PathBuf;

use os::fail;
use policy::supervisor::{Event, RunId};

use crate::drive::Daemon;
use crate::notify::{self, Said};

/// What the worker said of itself.
#[derive(Debug, Default)]
pub(crate) struct Doing {
    pub(crate) phase: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) rlog: Option<PathBuf>,
    pub(crate) ready: bool,
    /// It sends heartbeats: then those count, and not what its tools do.
    pub(crate) heartbeat: bool,
}

impl Daemon {
    /// Take what has come.
    pub(crate) fn take_notifications(&mut self) {
        let mut buffer = [0_u8; 4096];
        if fail::point("notify.receive").is_err() {
            return;
        }
        // A bound: others must get their turn.
        for _ in 0..64 {
            let Ok(count) = self.notify.recv(&mut buffer) else { return };
            let Some(run) = self.run.as_ref().map(|run| RunId(run.number)) else { continue };
            for said in notify::parse(&buffer[..count]) {
                match said {
                    Said::Ready => {
                        self.said.ready = true;
                        self.feed(Event::Announced(run));
                    }
                    Said::Alive => {
                        self.said.heartbeat = true;
                        self.feed(Event::Activity(run));
                    }
                    Said::Extend { ms } => {
                        let until_ms = os::clock::monotonic_ms().saturating_add(ms);
                        self.feed(Event::Extended(run, until_ms));
                    }
                    Said::Message(message) => self.said.message = Some(message),
                    Said::Phase(phase) => self.said.phase = Some(phase),
                    Said::OutputLost { bytes } => self.output_lost(bytes),
                    Said::Stopping => self.said.phase = Some("stopping".to_owned()),
                    Said::Log(path) => {
                        if let Some(activity) = &mut self.activity {
                            activity.told(path.clone());
                        }
                        self.said.rlog = Some(path);
                    }
                }
            }
        }
    }
}
