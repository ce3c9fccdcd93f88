//! Processes of the worker's tree that are ended for want of memory: held by their pidfds until they are gone.

use os::poll::{Interest, Token};
use os::process::{Pidfd, Send};
use policy::supervisor::{Event, VictimSignal};

use crate::drive::Daemon;

/// The tokens from here on are theirs.
const FIRST_VICTIM: u64 = 1_000;

/// A process that is ended for want of memory, and with it what was below it.
#[derive(Debug)]
pub(crate) struct Victim {
    pub(crate) pid: u32,
    pub(crate) pidfd: Pidfd,
    pub(crate) below: Vec<Pidfd>,
    pub(crate) token: Token,
}

impl Daemon {
    pub(crate) fn signal(&mut self, pid: u32, signal: VictimSignal) {
        if !self.victims.iter().any(|victim| victim.pid == pid) && !self.catch_victim(pid) {
            self.events.push_back(Event::VictimGone(pid));
            return;
        }
        let signal = match signal {
            VictimSignal::Term => Send::Term,
            VictimSignal::Kill => Send::Kill,
        };
        for victim in self.victims.iter().filter(|victim| victim.pid == pid) {
            for pidfd in std::iter::once(&victim.pidfd).chain(&victim.below) {
                // One that is gone needs no signal, and one that belongs to another user now can't be sent any.
                pidfd.send(signal).ok();
            }
        }
    }

    /// Take hold of a candidate and all below it; `false` if it is gone.
    fn catch_victim(&mut self, pid: u32) -> bool {
        let token = self.victim_token();
        let mut caught = None;
        let mut below = Vec::new();
        for identity in self.surveyed.subtree(pid) {
            match Pidfd::open(identity) {
                Ok(Some(pidfd)) if identity.pid == pid => caught = Some(pidfd),
                Ok(Some(pidfd)) => below.push(pidfd),
                Ok(None) | Err(_) => {}
            }
        }
        let Some(pidfd) = caught else { return false };
        if self.poller.add(&pidfd, token, Interest::Readable).is_err() {
            return false;
        }
        self.victims.push(Victim { pid, pidfd, below, token });
        true
    }

    pub(crate) fn take_victim(&mut self, token: Token) {
        let Some(position) = self.victims.iter().position(|victim| victim.token == token) else { return };
        let victim = self.victims.swap_remove(position);
        self.feed(Event::VictimGone(victim.pid));
    }

    fn victim_token(&self) -> Token {
        let last = self.victims.iter().map(|victim| victim.token.0).max();
        Token(last.map_or(FIRST_VICTIM, |token| token + 1))
    }
}
