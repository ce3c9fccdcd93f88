//! Promise 3: `status` as a program, and as a request over the socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use testkit::floor::{quantile, true_runs};

use super::place::{Place, Starts, restarts_after, stamp_file};
use super::row::{Limit, Row, Unit, ms};
use crate::step::Failure;

const REQUEST: &[u8] = b"{\"v\":1,\"verb\":\"status\"}\n";

pub(crate) fn measure(place: &Place) -> Result<Vec<Row>, Failure> {
    let samples = place.samples(300, 150);
    let home = place.home(&restarts_after(0), "");
    let _daemon = home.start_daemon(["--prompt", "bench"]);
    Starts::of(&stamp_file(&home)).next(&home);

    let mut status = home.command(&home.binaries().autopilotd);
    status.arg("status").stdout(Stdio::null()).stderr(Stdio::null());
    let (mut floor, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        floor.extend(true_runs(1));
        let begun = Instant::now();
        assert!(status.status().expect("run autopilotd status").success(), "status failed");
        whole.push(begun.elapsed());
    }
    let socket = home.path().join("autopilotd.sock");
    let kept = over_one_connection(&socket, samples * 10);
    let fresh: Vec<Duration> = (0..samples * 5).map(|_| over_one_connection(&socket, 1)[0]).collect();
    let answer =
        |what: &str, limit, samples: &[Duration]| Row::new(3, what, limit, ms(quantile(samples, 0.5)), Unit::Ms);
    Ok(vec![
        Row::against(
            3,
            "status, whole process: median",
            Limit::TimesFloor(2.5),
            quantile(&whole, 0.5),
            quantile(&floor, 0.5),
        ),
        answer("a request over an open connection: median", Limit::AtMost(0.06), &kept),
        answer("connect and ask: median", Limit::AtMost(0.06), &fresh),
    ])
}

/// Each sample from the request to the end of its answer; the first one from the connect.
fn over_one_connection(socket: &Path, samples: usize) -> Vec<Duration> {
    let mut begun = Instant::now();
    let mut stream = UnixStream::connect(socket).expect("connect to the daemon");
    let mut reader = BufReader::new(stream.try_clone().expect("share the connection"));
    let mut line = String::new();
    let mut latencies = Vec::new();
    for _ in 0..samples {
        stream.write_all(REQUEST).expect("ask");
        line.clear();
        reader.read_line(&mut line).expect("read the answer");
        latencies.push(begun.elapsed());
        assert!(line.contains("worker_status") && line.ends_with('\n'), "not a status: {line}");
        begun = Instant::now();
    }
    latencies
}
