//! The control socket's connections: bounded buffers, bounded number, nobody waits for anybody.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use os::fail;
use os::poll::{Interest, Poller, Token};
use os::socket::Peer;
use wire::control::{FailedKind, MAX_REQUEST_BYTES, Reply, Request, VERSION};

/// So many connections are served at once, where descriptors are not scarce. One more takes the place of the one that
/// has been idle for longest.
const MAX_CLIENTS: u64 = 256;

/// So many descriptors are left for what the daemon does besides; a start of the worker takes the most.
const OTHER_DESCRIPTORS: u64 = 32;

/// With fewer there is no daemon: a few clients would keep it from starting the worker.
pub(crate) const FEWEST_DESCRIPTORS: u64 = OTHER_DESCRIPTORS + 8;

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    peer: Option<Peer>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Its request is being carried out.
    busy: bool,
    /// Nothing more will be read; it is closed when all is written.
    closing: bool,
    /// Grows with every use: the smallest is idle for longest.
    used: u64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Clients {
    clients: BTreeMap<u64, Client>,
    next: u64,
    uses: u64,
    first_token: u64,
    most: usize,
    /// Given up to let in, and send away, who can't be served.
    spare: Option<File>,
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Whose request it is; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) u64);

impl Clients {
    /// The tokens from `first_token` on are theirs.
    pub(crate) fn new(first_token: u64) -> Self {
        let free = os::process::most_descriptors().saturating_sub(OTHER_DESCRIPTORS);
        let most = usize::try_from(free.clamp(1, MAX_CLIENTS)).unwrap_or(1);
        Self { clients: BTreeMap::new(), next: 0, uses: 0, first_token, most, spare: spare() }
    }

    pub(crate) fn owner_of(&self, token: Token) -> Option<ClientId> {
        token.0.checked_sub(self.first_token).map(ClientId)
    }

    /// Who it is.
    pub(crate) fn peer(&self, id: ClientId) -> Option<Peer> {
        self.clients.get(&id.0)?.peer
    }

    /// Take what waits at the listener.
    pub(crate) fn accept(&mut self, listener: &UnixListener, poller: &Poller) {
        // A bound: others must get their turn, and what still waits wakes the poller again.
        for _ in 0..64 {
            let accepted = fail::point("client.accept").and_then(|()| listener.accept());
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => return self.turn_away(listener, &error),
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            self.make_room();
            let id = self.next;
            self.next += 1;
            let watched = fail::point("client.watch")
                .and_then(|()| poller.add(&stream, Token(self.first_token + id), Interest::Readable));
            if watched.is_err() {
                continue;
            }
            let peer = os::socket::peer(&stream).ok();
            let permitted = peer.is_some_and(permitted);
            let used = self.touch();
            let client =
                Client { stream, peer, input: Vec::new(), output: Vec::new(), busy: false, closing: false, used };
            self.clients.insert(id, client);
            if !permitted {
                let message = "this daemon belongs to another user".to_owned();
                self.refuse(ClientId(id), FailedKind::NotPermitted, message, poller);
            }
        }
    }

    /// Without a descriptor for it a client would wait for ever, and wake the poller for ever.
    fn turn_away(&mut self, listener: &UnixListener, error: &io::Error) {
        if os::spawn::OUT_OF_DESCRIPTORS.contains(&error.raw_os_error().unwrap_or(0)) {
            self.spare = None;
            drop(listener.accept());
            self.spare = spare();
        }
    }

    /// Connections that a program before this one in the same process had.
    pub(crate) fn adopt_all(&mut self, streams: Vec<UnixStream>, poller: &Poller) {
        for stream in streams {
            self.adopt(stream, false, poller);
        }
    }

    /// One of them; `busy`: it waits for an answer.
    pub(crate) fn adopt(&mut self, stream: UnixStream, busy: bool, poller: &Poller) -> Option<ClientId> {
        self.make_room();
        let id = self.next;
        self.next += 1;
        poller.add(&stream, Token(self.first_token + id), Interest::Readable).ok()?;
        let used = self.touch();
        let peer = os::socket::peer(&stream).ok();
        let client = Client { stream, peer, input: Vec::new(), output: Vec::new(), busy, closing: false, used };
        self.clients.insert(id, client);
        Some(ClientId(id))
    }

    /// Those of which nothing is known but that they are connected: what they may have sent is still in the kernel.
    pub(crate) fn idle(&self) -> Vec<&UnixStream> {
        let idle = |c: &&Client| !c.busy && !c.closing && c.input.is_empty() && c.output.is_empty();
        self.clients.values().filter(idle).map(|client| &client.stream).collect()
    }

    pub(crate) fn stream(&self, id: ClientId) -> Option<&UnixStream> {
        self.clients.get(&id.0).map(|client| &client.stream)
    }

    fn touch(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn make_room(&mut self) {
        while self.clients.len() >= self.most {
            // Whoever waits for an answer goes last.
            let Some(idle) = self.clients.iter().min_by_key(|(_, c)| (c.busy, c.used)).map(|(&id, _)| id) else {
                return;
            };
            self.clients.remove(&idle);
        }
    }

    /// Read what a client sent; a whole request, if there is one now. While it waits for an answer nothing is read: what
    /// it sends meanwhile stays with the kernel, and that it has nothing more to say does not mean that it has gone.
    pub(crate) fn read(&mut self, id: ClientId, hung_up: bool, poller: &Poller) -> Option<Request> {
        let used = self.touch();
        let token = Token(self.first_token + id.0);
        let client = self.clients.get_mut(&id.0)?;
        client.used = used;
        if client.busy {
            if hung_up {
                self.clients.remove(&id.0);
            } else {
                poller.change(&client.stream, token, Interest::Nothing).ok();
            }
            return None;
        }
        if client.closing {
            // It was told; whatever else it sends is of no interest, only that it goes.
            let mut sink = [0_u8; 4096];
            if !matches!(client.stream.read(&mut sink), Ok(1..)) {
                self.clients.remove(&id.0);
            }
            return None;
        }
        let mut buffer = [0_u8; MAX_REQUEST_BYTES];
        match fail::point("client.read").and_then(|()| client.stream.read(&mut buffer)) {
            Ok(0) => {
                self.clients.remove(&id.0);
                return None;
            }
            Ok(count) => client.input.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return None;
            }
            Err(_) => {
                self.clients.remove(&id.0);
                return None;
            }
        }
        self.next_request(id, poller)
    }

    fn next_request(&mut self, id: ClientId, poller: &Poller) -> Option<Request> {
        let client = self.clients.get_mut(&id.0)?;
        if client.busy {
            return None;
        }
        let Some(end) = client.input.iter().position(|&b| b == b'\n') else {
            if client.input.len() > MAX_REQUEST_BYTES {
                let message = format!("the request is longer than {MAX_REQUEST_BYTES} bytes");
                self.refuse(id, FailedKind::BadRequest, message, poller);
            }
            return None;
        };
        let line: Vec<u8> = client.input.drain(..=end).collect();
        match serde_json::from_slice::<Request>(&line) {
            Ok(request) if request.v == VERSION => {
                client.busy = true;
                Some(request)
            }
            Ok(request) => {
                let message = format!("protocol version {} is not spoken here, but {VERSION}", request.v);
                self.refuse(id, FailedKind::BadRequest, message, poller);
                None
            }
            Err(error) => {
                self.refuse(id, FailedKind::BadRequest, format!("not a request: {error}"), poller);
                None
            }
        }
    }

    fn refuse(&mut self, id: ClientId, kind: FailedKind, message: String, poller: &Poller) {
        if let Some(client) = self.clients.get_mut(&id.0) {
            client.closing = true;
            client.input = Vec::new();
        }
        self.reply(id, &Reply::failed(kind, message, None), poller);
    }

    /// Answer a request. A client that is gone by now needs no answer. Returns its next request, if it sent one already.
    pub(crate) fn reply(&mut self, id: ClientId, reply: &Reply, poller: &Poller) -> Option<Request> {
        let client = self.clients.get_mut(&id.0)?;
        client.busy = false;
        if let Ok(json) = serde_json::to_vec(reply) {
            client.output.extend_from_slice(&crate::secrets::without_in_bytes(&json));
            client.output.push(b'\n');
        }
        self.write(id, poller);
        if self.clients.get(&id.0).is_some_and(|client| !client.closing && !client.input.is_empty()) {
            return self.next_request(id, poller);
        }
        None
    }

    /// Write what is still to be written.
    pub(crate) fn write(&mut self, id: ClientId, poller: &Poller) {
        let Some(client) = self.clients.get_mut(&id.0) else { return };
        let token = Token(self.first_token + id.0);
        while !client.output.is_empty() {
            match fail::point("client.reply").and_then(|()| client.stream.write(&client.output)) {
                Ok(count) => drop(client.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poller.change(&client.stream, token, Interest::Writable).ok();
                    return;
                }
                Err(_) => {
                    self.clients.remove(&id.0);
                    return;
                }
            }
        }
        if client.closing {
            // Half-close: the reason still reaches a client that is busy sending.
            client.stream.shutdown(std::net::Shutdown::Write).ok();
        }
        poller.change(&client.stream, token, Interest::Readable).ok();
    }

    /// Write out all answers before the end, without waiting for anybody.
    pub(crate) fn finish(&mut self, poller: &Poller) {
        let ids: Vec<u64> = self.clients.keys().copied().collect();
        for id in ids {
            self.write(ClientId(id), poller);
        }
    }
}

/// The owner of the daemon, and root, who can do everything anyway.
fn permitted(peer: Peer) -> bool {
    peer.uid == 0 || peer.uid == os::process::effective_uid()
}
