//! The fake API, spoken to over a socket.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::fake_api::{Answer, FakeApi, Gate, Purpose, Script, When};

const DEADLINE: Duration = Duration::from_secs(10);

fn connect(api: &FakeApi) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, api.port())).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn send(stream: &mut TcpStream, method: &str, path: &str, body: &str) {
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
}

fn turn(text: &str) -> String {
    json!({"model": "m", "stream": true, "tools": [{"name": "Bash"}], "messages": [{"role": "user", "content": text}]})
        .to_string()
}

/// Everything until the API closes the connection.
fn ask(api: &FakeApi, body: &str) -> String {
    let mut stream = connect(api);
    send(&mut stream, "POST", "/v1/messages?beta=true", body);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_streamed_answer_ends_with_message_stop() {
    let api = FakeApi::start(Script::always(Answer::text("hello")));
    let answer = ask(&api, &turn("hi"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("hello") && answer.contains("event: message_stop"), "{answer}");
}

#[test]
fn rules_answer_in_order_and_are_used_up() {
    let script = Script::new()
        .on_times(1, When::Contains("flaky".to_owned()), Answer::text("first"))
        .on(When::Nth(2), Answer::text("third"))
        .on(When::Any, Answer::text("other"));
    let api = FakeApi::start(script);
    assert!(ask(&api, &turn("flaky")).contains("first"));
    assert!(ask(&api, &turn("flaky")).contains("other"));
    assert!(ask(&api, &turn("flaky")).contains("third"));
}

#[test]
fn a_side_request_uses_up_no_rule() {
    let api = FakeApi::start(Script::new().on(When::Nth(0), Answer::text("the agent's")));
    let side = json!({"model": "small", "stream": true, "messages": [{"role": "user", "content": "a title"}]});
    assert!(!ask(&api, &side.to_string()).contains("the agent's"));
    assert!(ask(&api, &turn("hi")).contains("the agent's"));
    let purposes: Vec<Purpose> = api.requests().iter().map(|request| request.purpose).collect();
    assert_eq!(purposes, [Purpose::Side, Purpose::Agent]);
}

#[test]
fn one_connection_carries_several_requests() {
    let api = FakeApi::start(Script::always(Answer::text("hello")));
    let mut stream = connect(&api);
    let body = json!({"model": "m", "tools": [{"name": "Bash"}], "messages": []}).to_string();
    for (method, path, body) in [("HEAD", "/", ""), ("GET", "/nowhere", ""), ("POST", "/v1/messages", body.as_str())] {
        send(&mut stream, method, path, body);
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "404", "200"], "{answers}");
    let message: Value = serde_json::from_str(answers.rsplit("\r\n\r\n").next().unwrap()).unwrap();
    assert_eq!(message["content"][0]["text"], "hello");
}

#[test]
fn an_error_carries_its_headers() {
    let api = FakeApi::start(Script::always(Answer::usage_limit(1_900_000_000)));
    let mut stream = connect(&api);
    send(&mut stream, "POST", "/v1/messages", &turn("hi"));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("anthropic-ratelimit-unified-reset: 1900000000\r\n"), "{answer}");
}

#[test]
fn a_held_answer_comes_when_the_gate_opens() {
    let gate = Gate::closed();
    let api = FakeApi::start(Script::always(Answer::text("hello").held_by(&gate)));
    let mut stream = connect(&api);
    send(&mut stream, "POST", "/v1/messages", &turn("hi"));
    gate.wait_for_arrival(DEADLINE);
    stream.set_nonblocking(true).unwrap();
    let early = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    gate.open();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("hello"));
}

#[test]
fn dropping_the_api_ends_hanging_connections() {
    let gate = Gate::closed();
    let script = Script::new()
        .on(When::Nth(0), Answer::hang())
        .on(When::Nth(1), Answer::stop_mid_stream("half"))
        .on(When::Nth(2), Answer::text("never seen").held_by(&gate));
    let api = FakeApi::start(script);
    let mut streams: Vec<TcpStream> = (0..3)
        .map(|index| {
            let mut stream = connect(&api);
            send(&mut stream, "POST", "/v1/messages", &turn("hi"));
            api.wait_for_agent_requests(index + 1, DEADLINE);
            stream
        })
        .collect();
    drop(api);
    for stream in &mut streams {
        let mut rest = String::new();
        // Reset or closed: either is an end.
        stream.read_to_string(&mut rest).ok();
        assert!(!rest.contains("message_stop"), "{rest}");
    }
}
