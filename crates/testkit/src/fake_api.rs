//! A fake Messages API on an ephemeral port of the loopback interface, scripted by plain values.
//!
//! Owns the listening socket, one thread for each connection, and the record of every request. It decides nothing: a
//! [`Script`] does. The protocol is what Claude Code 2.1.330 was seen to use (`POST /v1/messages?beta=true`, answered
//! as Server-Sent Events); whatever else a client asks for gets a polite answer.

mod conversation;
mod http;
mod json;
mod script;
mod sse;

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use conversation::Conversation;
pub use json::ScriptError;
pub use script::{Answer, Gate, Script, Usage, When};

use script::Outcome;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The agent's own turn: `/v1/messages` with tools.
    Agent,
    /// `/v1/messages` for something on the side: a title, a summary.
    Side,
    /// Anything else.
    Other,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// `Null` when there was none, or none that is JSON.
    pub body: Value,
    pub purpose: Purpose,
    /// Since the API was started.
    pub at: Duration,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The session that sent it, by the header that Claude Code adds.
    pub fn session_id(&self) -> Option<&str> {
        self.header("x-claude-code-session-id")
    }

    pub fn conversation(&self) -> Conversation {
        Conversation::new(self.body.clone())
    }
}

/// A running fake API. Dropping it closes every connection and ends every thread.
#[derive(Debug)]
pub struct FakeApi {
    port: u16,
    shared: Arc<Shared>,
    gates: Vec<Gate>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    state: Mutex<State>,
    arrived: Condvar,
    /// Opened when the API ends; whatever hangs waits for it.
    ending: Gate,
}

#[derive(Debug)]
struct State {
    script: Script,
    requests: Vec<Request>,
    connections: Vec<TcpStream>,
    connection_threads: Vec<JoinHandle<()>>,
    ended: bool,
}

impl FakeApi {
    /// Listens on an ephemeral port of the loopback interface.
    ///
    /// # Panics
    /// When the loopback interface is down or the port cannot be had.
    pub fn start(script: Script) -> Self {
        Self::start_on(0, script).expect("listen on 127.0.0.1")
    }

    /// Listens on the given port; 0 takes a free one.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub fn start_on(port: u16, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let port = listener.local_addr()?.port();
        let gates = script.gates();
        let state = State {
            script,
            requests: Vec::new(),
            connections: Vec::new(),
            connection_threads: Vec::new(),
            ended: false,
        };
        let shared = Arc::new(Shared {
            started: Instant::now(),
            state: Mutex::new(state),
            arrived: Condvar::new(),
            ending: Gate::closed(),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("fake-api".to_owned()).spawn(move || accept(&listener, &shared))?
        };
        Ok(Self { port, shared, gates, acceptor: Some(acceptor) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// For `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Another script from now on.
    pub fn set_script(&mut self, script: Script) {
        self.gates.extend(script.gates());
        self.shared.lock().script = script;
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// The agent's own requests so far.
    pub fn agent_requests(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.purpose == Purpose::Agent).collect()
    }

    /// Every request so far, once there are more than `seen` or the time is over.
    pub fn wait_for_more_requests(&self, seen: usize, longest: Duration) -> Vec<Request> {
        let none_new = |state: &mut State| state.requests.len() <= seen;
        let waited = self.shared.arrived.wait_timeout_while(self.shared.lock(), longest, none_new);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.requests.clone()
    }

    /// Waits until the agent has sent so many requests, and returns them.
    ///
    /// # Panics
    /// When it has not within the deadline.
    pub fn wait_for_agent_requests(&self, count: usize, deadline: Duration) -> Vec<Request> {
        let few = |state: &mut State| agent_count(&state.requests) < count;
        let (state, timeout) = self
            .shared
            .arrived
            .wait_timeout_while(self.shared.lock(), deadline, few)
            .unwrap_or_else(PoisonError::into_inner);
        let seen = agent_count(&state.requests);
        drop(state);
        assert!(!timeout.timed_out(), "waited {deadline:?} for {count} requests of the agent, saw {seen}");
        self.agent_requests()
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        let (connections, threads) = {
            let mut state = self.shared.lock();
            state.ended = true;
            (std::mem::take(&mut state.connections), std::mem::take(&mut state.connection_threads))
        };
        self.shared.ending.open();
        self.gates.iter().for_each(Gate::open);
        for connection in &connections {
            // Already closed by its client: then there is nothing left to close.
            connection.shutdown(Shutdown::Both).ok();
        }
        // The acceptor sleeps in accept(): one more connection wakes it up.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
        for thread in self.acceptor.take().into_iter().chain(threads) {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn agent_count(requests: &[Request]) -> usize {
    requests.iter().filter(|request| request.purpose == Purpose::Agent).count()
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let mut state = shared.lock();
        if state.ended {
            return;
        }
        let Ok(stream) = stream else { continue };
        state.connections.extend(stream.try_clone());
        let serving = Arc::clone(shared);
        let thread = std::thread::spawn(move || {
            // A client that is killed in mid-request is an everyday event here.
            serve(stream, &serving).ok();
        });
        state.connection_threads.push(thread);
    }
}

/// Both directions of one connection as one value.
struct Connection {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl io::BufRead for Connection {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }
    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.writer.write(buffer)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

enum Next {
    KeepOpen,
    Close,
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = Connection { reader: BufReader::new(stream.try_clone()?), writer: stream };
    while let Some((head, body)) = http::read_request(&mut connection)? {
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        match answer_request(&mut connection, shared, head, body)? {
            Next::KeepOpen => {}
            Next::Close => break,
        }
    }
    connection.writer.shutdown(Shutdown::Both)
}

fn answer_request(connection: &mut Connection, shared: &Shared, head: http::Head, body: Value) -> io::Result<Next> {
    let path = head.path.split('?').next().unwrap_or_default().to_owned();
    let is_message = head.method == "POST" && path == "/v1/messages";
    let conversation = Conversation::new(body.clone());
    let purpose = match (is_message, conversation.is_agents()) {
        (true, true) => Purpose::Agent,
        (true, false) => Purpose::Side,
        (false, _) => Purpose::Other,
    };
    let (number, answer) = {
        let mut state = shared.lock();
        let index = agent_count(&state.requests);
        let at = shared.started.elapsed();
        state.requests.push(Request {
            method: head.method.clone(),
            path: head.path.clone(),
            headers: head.headers,
            body,
            purpose,
            at,
        });
        let number = state.requests.len();
        let answer = match purpose {
            Purpose::Agent => Some(state.script.answer(index, &conversation)),
            Purpose::Side => Some(Answer::text("Side request")),
            Purpose::Other => None,
        };
        shared.arrived.notify_all();
        (number, answer)
    };
    match answer {
        Some(answer) => send(connection, shared, number, &conversation, &answer),
        None => other(connection, &head.method, &path).map(|()| Next::KeepOpen),
    }
}

fn send(
    connection: &mut Connection,
    shared: &Shared,
    number: usize,
    conversation: &Conversation,
    answer: &Answer,
) -> io::Result<Next> {
    if let Some(gate) = &answer.gate {
        gate.pass();
    }
    shared.ending.pass_within(answer.delay);
    if shared.lock().ended {
        return Ok(Next::Close);
    }
    let label = sse::Label { number, model: conversation.model().to_owned() };
    let request_id = format!("req_{number:06}");
    match &answer.outcome {
        Outcome::Message { blocks, stop_reason } if conversation.streams() => {
            http::begin_stream(connection, &request_id)?;
            connection.write_all(sse::message(&label, blocks, stop_reason, answer.usage).as_bytes())?;
            Ok(Next::Close)
        }
        Outcome::Message { blocks, stop_reason } => {
            let message = sse::whole(&label, blocks, stop_reason, answer.usage).to_string();
            http::write_answer(connection, 200, &[], &message, true).map(|()| Next::KeepOpen)
        }
        Outcome::Hang => {
            shared.ending.pass();
            Ok(Next::Close)
        }
        Outcome::StopMidStream { text } | Outcome::CutMidStream { text } => {
            http::begin_stream(connection, &request_id)?;
            connection.write_all(sse::beginning(&label, text, answer.usage).as_bytes())?;
            if matches!(answer.outcome, Outcome::StopMidStream { .. }) {
                shared.ending.pass();
            }
            Ok(Next::Close)
        }
        Outcome::Error { status, kind, message, headers } => {
            let body = json!({
                "type": "error",
                "error": {"type": kind, "message": message},
                "request_id": request_id,
            });
            http::write_answer(connection, *status, headers, &body.to_string(), true).map(|()| Next::KeepOpen)
        }
    }
}

/// Requests that are not about messages: the client's look around, and what a test does not care for.
fn other(connection: &mut Connection, method: &str, path: &str) -> io::Result<()> {
    let (status, body) = match (method, path) {
        ("HEAD" | "GET", "/") => (200, json!({})),
        ("POST", "/v1/messages/count_tokens") => (200, json!({"input_tokens": 1000})),
        _ => {
            let message = format!("the fake API has no {method} {path}");
            (404, json!({"type": "error", "error": {"type": "not_found_error", "message": message}}))
        }
    };
    http::write_answer(connection, status, &[], &body.to_string(), method != "HEAD")
}
