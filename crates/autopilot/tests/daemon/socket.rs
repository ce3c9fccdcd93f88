//! Whatever comes over the control socket: the daemon serves on, and status answers.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::control::{Control, request};
use testkit::home::{DEADLINE, Started};
use testkit::vitals;

use crate::rig::{Rig, prompt_in_one_of_three};

fn serving() -> (Rig, Started) {
    let rig = Rig::new("stop_timeout_ms = 400").hostile("ready");
    let daemon = rig.start();
    rig.ready_worker();
    (rig, daemon)
}

/// The promise: within 50 ms. The best of a few, because the machine may be busy with other things.
fn assert_status_answers(rig: &Rig) {
    let samples: Vec<Duration> = (0..9)
        .map(|_| {
            let asked = Instant::now();
            assert_eq!(rig.status()["worker_status"], "running");
            asked.elapsed()
        })
        .collect();
    assert!(samples.iter().min() <= Some(&Duration::from_millis(50)), "status took {samples:?}");
}

fn assert_refused(rig: &Rig, bytes: &[u8], message: &str) {
    let mut control = rig.connect();
    control.send(bytes).unwrap();
    let reply = control.reply(DEADLINE).unwrap_or_else(|| panic!("no word about {:?}", String::from_utf8_lossy(bytes)));
    assert_eq!((&reply.value["v"], &reply.value["failed"]["kind"]), (&1.into(), &"bad-request".into()));
    assert!(reply.failed().starts_with(message), "{}", reply.value);
    assert_eq!(control.reply(DEADLINE), None, "and nothing after it");
}

#[test]
fn what_is_no_request_is_refused() {
    let (rig, daemon) = serving();
    let garbage: [&[u8]; 12] = [
        b"\n",
        b"status\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"{\"v\":1}\n",
        b"{\"v\":1,\"verb\":\"dance\"}\n",
        b"{\"v\":\"1\",\"verb\":\"status\"}\n",
        b"{\"v\":-1,\"verb\":\"status\"}\n",
        b"\xff\xfe\0\x01\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[b'['; 4_000],
    ];
    for bytes in garbage {
        let line = [bytes, b"\n"].concat();
        assert_refused(&rig, if bytes.ends_with(b"\n") { bytes } else { &line }, "not a request: ");
    }
    assert_refused(&rig, b"{\"v\":2,\"verb\":\"status\"}\n", "protocol version 2 is not spoken here, but 1");
    assert_refused(&rig, &[b'x'; 5_000], "the request is longer than 4096 bytes");
    assert_status_answers(&rig);
    rig.finish(daemon);
}

/// A later client may say more than this daemon knows.
#[test]
fn unknown_members_are_passed_over() {
    let (rig, daemon) = serving();
    let mut control = rig.connect();
    control.send(b" { \"v\" : 1 , \"verb\" : \"status\" , \"more\" : [1, {}] } \r\n").unwrap();
    assert_eq!(control.reply(DEADLINE).unwrap().value["status"]["worker_status"], "running");
    rig.finish(daemon);
}

#[test]
fn a_line_of_ten_megabytes_is_refused_and_costs_no_memory() {
    let (rig, daemon) = serving();
    let before = vitals::peak_rss_kib(daemon.pid());
    let mut control = rig.connect();
    let line = vec![b'x'; 10_000_000];
    control.stream().set_write_timeout(Some(DEADLINE)).unwrap();
    match control.send(&line) {
        Ok(()) => {}
        Err(error) => assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}"),
    }
    if let Some(reply) = control.reply(DEADLINE) {
        assert_eq!(reply.failed(), "the request is longer than 4096 bytes");
    }
    assert!(vitals::peak_rss_kib(daemon.pid()) - before < 1_024);
    assert_status_answers(&rig);
    rig.finish(daemon);
}

/// What is sent behind a request that takes long is not hoarded.
#[test]
fn a_client_that_sends_while_it_waits_costs_no_memory() {
    let rig = Rig::new("stop_timeout_ms = 1500").hostile("ignore-term ready");
    let daemon = rig.start();
    rig.ready_worker();
    let mut control = rig.connect();
    let before = vitals::peak_rss_kib(daemon.pid());
    control.send(&request("stop-worker")).unwrap();
    control.stream().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let requests = request("status").repeat(2_000);
    let mut sent = 0;
    // It may stop reading, or close the connection; it may not take it all in.
    while sent < 40_000_000 && control.send(&requests).is_ok() {
        sent += requests.len();
    }
    let grown = vitals::peak_rss_kib(daemon.pid()) - before;
    assert!(grown < 2_048, "{grown} KiB more after {sent} bytes");
    let mut other = rig.connect();
    assert_eq!(other.ask("stop-worker", DEADLINE).failed(), "");
    rig.finish(daemon);
}

#[test]
fn half_a_request_and_silence_holds_nobody_up() {
    let (rig, daemon) = serving();
    let mut halves: Vec<Control> = (0..20).map(|_| rig.connect()).collect();
    for half in &mut halves {
        half.send(b"{\"v\":1,\"verb\":\"sta").unwrap();
    }
    assert_status_answers(&rig);
    // It is a request once it is whole.
    let mut half = halves.pop().unwrap();
    half.send(b"tus\"}\n").unwrap();
    assert_eq!(half.reply(DEADLINE).unwrap().value["status"]["worker_status"], "running");
    rig.finish(daemon);
}

#[test]
fn three_hundred_idle_clients_hold_nobody_up() {
    let rig = Rig::new("stop_timeout_ms = 2500").hostile("ignore-term ready");
    let daemon = rig.start();
    rig.ready_worker();
    let idle: Vec<Control> = (0..300).map(|_| rig.connect()).collect();
    assert_status_answers(&rig);
    // Who waits for an answer is not sent away for them.
    let mut waiting = rig.connect();
    waiting.send(&request("stop-worker")).unwrap();
    rig.wait_for_state("stopping");
    let more: Vec<Control> = (0..300).map(|_| rig.connect()).collect();
    assert_eq!(rig.status()["worker_status"], "stopping");
    assert_eq!(waiting.reply(DEADLINE).unwrap().done(), "Worker stopped");
    drop((idle, more));
    rig.finish(daemon);
}

/// The shell that started the daemon allows it few descriptors.
#[test]
fn few_descriptors_are_enough() {
    let rig = Rig::new("").hostile("ready");
    let mut command = rig.home.command("sh");
    let autopilotd = rig.command();
    command.args(["-c", "ulimit -n 40; exec \"$@\"", "sh"]).arg(autopilotd.get_program()).args(autopilotd.get_args());
    let daemon = rig.start_by(command);
    rig.ready_worker();
    let idle: Vec<Control> = (0..100).map(|_| rig.connect()).collect();
    assert_status_answers(&rig);
    assert!(rig.ask("restart-worker").done().starts_with("Worker started"));
    rig.ready_worker();
    let before = vitals::cpu_ticks(daemon.pid());
    let until = Instant::now() + Duration::from_millis(500);
    rig.home.wait_until("half a second goes by", DEADLINE, || (Instant::now() > until).then_some(()));
    assert!(vitals::cpu_ticks(daemon.pid()) - before < 10, "the daemon spins");
    drop(idle);
    rig.finish(daemon);
}

#[test]
fn several_requests_in_one_write_are_answered_in_turn() {
    let (rig, daemon) = serving();
    let mut control = rig.connect();
    let verbs = ["status", "stop-worker", "status", "start-worker", "status", "restart-worker", "start-worker"];
    control.send(&verbs.iter().flat_map(|verb| request(verb)).collect::<Vec<u8>>()).unwrap();
    let replies: Vec<Value> = verbs.iter().map(|_| control.reply(DEADLINE).unwrap().value).collect();
    let states: Vec<&Value> = [0, 2, 4].map(|index| &replies[index]["status"]["worker_status"]).to_vec();
    assert_eq!(states, ["running", "stopped", "running"]);
    let said = |index: usize| replies[index]["done"]["message"].as_str().unwrap_or_default();
    assert_eq!(said(1), "Worker stopped");
    assert!(said(3).starts_with("Worker started ("));
    assert!(said(5).starts_with("Worker started ("));
    assert!(said(6).starts_with("Worker runs already ("));

    // More than fit into one read, and one of them bad.
    let many = request("status").repeat(400);
    control.send(&many).unwrap();
    for _ in 0..400 {
        assert_eq!(control.reply(DEADLINE).unwrap().value["status"]["worker_status"], "running");
    }
    control.send(&[request("status"), b"what?\n".to_vec(), request("status")].concat()).unwrap();
    assert_eq!(control.reply(DEADLINE).unwrap().value["status"]["worker_status"], "running");
    assert!(control.reply(DEADLINE).unwrap().failed().starts_with("not a request: "));
    assert_eq!(control.reply(DEADLINE), None);
    rig.finish(daemon);
}

#[test]
fn a_client_that_leaves_in_mid_answer_is_forgotten() {
    let (rig, daemon) = serving();
    for _ in 0..50 {
        let mut control = rig.connect();
        control.send(&request("status").repeat(100)).unwrap();
        // Closed with answers unread: the daemon's next write breaks.
        drop(control);
    }
    // What is asked for is done all the same.
    for (verb, state, restarts) in
        [("restart-worker", "running", 1), ("stop-worker", "stopped", 1), ("start-worker", "running", 2)]
    {
        rig.connect().send(&request(verb)).unwrap();
        rig.wait_for(verb, |status| status["worker_status"] == state && status["total_restarts"] == restarts);
    }
    assert_status_answers(&rig);
    let sockets = || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().flatten();
        links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|to| to.starts_with("socket:"))).count()
    };
    let quiet = sockets();
    assert!(quiet < 20, "{quiet} connections are still open");
    rig.finish(daemon);
}

/// As `nc -N` and `socat` do: nothing more to say, but listening.
#[test]
fn a_client_that_only_listens_any_more_gets_its_answer() {
    let rig = Rig::new("stop_timeout_ms = 300").hostile("ignore-term ready");
    let daemon = rig.start();
    rig.ready_worker();
    for (verb, answer) in [("stop-worker", "Worker stopped"), ("start-worker", "Worker started")] {
        let mut control = rig.connect();
        control.stream().write_all(&request(verb)).unwrap();
        control.stream().shutdown(Shutdown::Write).unwrap();
        let before = vitals::cpu_ticks(daemon.pid());
        let reply = control.reply(DEADLINE).unwrap_or_else(|| panic!("{verb} was not answered"));
        assert!(reply.done().starts_with(answer), "{verb}");
        assert_eq!(control.reply(DEADLINE), None);
        assert!(vitals::cpu_ticks(daemon.pid()) - before < 15, "the daemon spins while it waits");
    }
    rig.finish(daemon);
}

/// A reader that does not read: its answers wait, nobody else does.
#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let (rig, daemon) = serving();
    let before = vitals::peak_rss_kib(daemon.pid());
    let mut lazy = rig.connect();
    lazy.stream().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let requests = request("status").repeat(1_000);
    while lazy.send(&requests).is_ok() {}
    assert_status_answers(&rig);
    prompt_in_one_of_three("restart-worker", || {
        let asked = Instant::now();
        assert!(rig.ask("restart-worker").done().starts_with("Worker started"));
        asked.elapsed()
    });
    assert!(vitals::peak_rss_kib(daemon.pid()) - before < 2_048);
    rig.finish(daemon);
}
