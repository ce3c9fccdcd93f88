//! Processes of the worker's tree that are ended for want of memory: held by their pidfds until they are gone.

use os::poll::{Interest, Poller, Token};
use os::process::{Identity, Pidfd, Send};
use policy::supervisor::{Event, VictimSignal};

use crate::drive::Daemon;

/// The tokens from here on are theirs.
const FIRST_VICTIM: u64 = 1_000;

/// Those that are being ended.
#[derive(Debug, Default)]
pub(crate) struct Victims {
    all: Vec<Victim>,
    /// So many have been held so far: a token is never given twice.
    held: u64,
}

/// A candidate and all below it. It is gone when all of them are: a child may heed no SIGTERM, outlive its parent, and hold the
/// memory that was the reason.
#[derive(Debug)]
struct Victim {
    pid: u32,
    /// Those that live.
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    identity: Identity,
    pidfd: Pidfd,
    token: Token,
}

impl Victims {
    /// Their run is over.
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    /// Ask it to end, with all below it; `false` if it is gone.
    fn ask(&mut self, leader: Identity, below: Vec<Identity>, poller: &Poller) -> bool {
        // One of the same pid that was given up was another process.
        self.all.retain(|victim| victim.pid != leader.pid);
        let mut victim = Victim { pid: leader.pid, members: Vec::new() };
        self.hold(&mut victim, vec![leader], poller);
        if victim.members.is_empty() {
            return false;
        }
        self.hold(&mut victim, below, poller);
        for member in &victim.members {
            // One that is gone needs no signal, and one that belongs to another user now can't be sent any.
            member.pidfd.send(Send::Term).ok();
        }
        self.all.push(victim);
        true
    }

    /// Kill what is left of it, and what that has started since; `false` if nothing is left.
    fn kill(&mut self, pid: u32, poller: &Poller) -> bool {
        let Some(position) = self.all.iter().position(|victim| victim.pid == pid) else { return false };
        let mut victim = self.all.swap_remove(position);
        let left: Vec<Identity> = victim.members.iter().map(|member| member.identity).collect();
        for &identity in &left {
            self.hold(&mut victim, os::tree::below(identity), poller);
        }
        os::tree::kill_each(&left);
        self.all.push(victim);
        true
    }

    /// Take hold of those that are not held yet, and have not ended.
    fn hold(&mut self, victim: &mut Victim, wanted: Vec<Identity>, poller: &Poller) {
        for identity in wanted {
            if victim.members.iter().any(|member| member.identity == identity) {
                continue;
            }
            let Ok(Some(pidfd)) = Pidfd::open(identity) else { continue };
            let token = Token(FIRST_VICTIM + self.held);
            if poller.add(&pidfd, token, Interest::Readable).is_ok() {
                self.held += 1;
                victim.members.push(Member { identity, pidfd, token });
            }
        }
    }

    /// One of them has ended. Whose last one it was is gone.
    fn ended(&mut self, token: Token, poller: &Poller) -> Option<u32> {
        let is_it = |member: &Member| member.token == token;
        let at = self.all.iter().position(|victim| victim.members.iter().any(is_it))?;
        let members = &mut self.all[at].members;
        if let Some(place) = members.iter().position(is_it) {
            poller.remove(&members.swap_remove(place).pidfd).ok();
        }
        members.is_empty().then(|| self.all.swap_remove(at).pid)
    }
}

impl Daemon {
    pub(crate) fn signal(&mut self, pid: u32, signal: VictimSignal) {
        let is_held = match signal {
            VictimSignal::Term => {
                let mut below = self.surveyed.subtree(pid);
                let leader = below.iter().position(|identity| identity.pid == pid).map(|at| below.swap_remove(at));
                // Those that were started since the look, too.
                below.extend(leader.iter().flat_map(|leader| os::tree::below(*leader)));
                leader.is_some_and(|leader| self.victims.ask(leader, below, &self.poller))
            }
            VictimSignal::Kill => self.victims.kill(pid, &self.poller),
        };
        if !is_held {
            self.events.push_back(Event::VictimGone(pid));
        }
    }

    pub(crate) fn take_victim(&mut self, token: Token) {
        if let Some(pid) = self.victims.ended(token, &self.poller) {
            self.feed(Event::VictimGone(pid));
        }
    }
}
