//! Asking the CLI whether somebody has logged in, beside the loop: it takes a fifth of a second, and may hang.

use os::child::{self, Child, Ended};
use os::poll::Interest;
use policy::work::Event;

use super::{Drive, PROBE};

/// What is read of its answer; it is a few hundred bytes.
const MOST_BYTES: usize = 4 << 10;

/// The probe that runs, and what was answered last.
#[derive(Debug, Default)]
pub(super) struct Probe {
    running: Option<Child>,
    answer: Option<(Ended, Vec<u8>)>,
}

impl Drive<'_> {
    /// One that is still there from the last time has hung.
    pub(super) fn begin_probe(&mut self) {
        if let Some(hung) = self.probe.running.take() {
            self.end_probe(hung);
        }
        let Some(program) = self.desk.probe() else { return };
        match Child::spawn(&program, &self.desk.cwd()) {
            Ok(child) => {
                if self.poller.add(&child, PROBE, Interest::Readable).is_ok() {
                    self.probe.running = Some(child);
                } else {
                    self.end_probe(child);
                }
            }
            Err(error) => self.desk.status(&format!("cannot ask the CLI whether it is logged in: {error}")),
        }
    }

    fn end_probe(&mut self, mut child: Child) {
        self.poller.remove(&child).ok();
        child.send(os::process::Send::Kill).ok();
        // It is dead, but for the moment that this takes; a zombie that is left goes with us.
        child.reap().ok();
    }

    pub(super) fn take_probe(&mut self) {
        let Some(mut child) = self.probe.running.take() else { return };
        let Ok(Some(ended)) = child.reap() else {
            self.probe.running = Some(child);
            return;
        };
        self.poller.remove(&child).ok();
        let mut answer = vec![0; MOST_BYTES];
        let bytes = match child::read(&child.stdout, &mut answer) {
            Ok(child::Read::Bytes(bytes)) => bytes,
            Ok(child::Read::Empty | child::Read::Closed) | Err(_) => 0,
        };
        answer.truncate(bytes);
        // A version that does not know the question is no version that nobody is logged in to.
        let says_no = |json: serde_json::Value| json["loggedIn"] == false;
        let logged_in = !serde_json::from_slice(&answer).is_ok_and(says_no);
        let answer = (ended, answer);
        let changed = self.probe.answer.as_ref().is_some_and(|before| *before != answer);
        self.probe.answer = Some(answer);
        self.feed(Event::Probed { logged_in, changed });
    }
}
