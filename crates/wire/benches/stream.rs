//! How fast a recorded stream is read, and rid of secrets: one line of JSON with MB a second, the best of several rounds
//! (whatever else the machine does only ever adds). Read by `cargo xtask bench decoder`.
#![expect(clippy::disallowed_methods, reason = "it measures real time")]
#![expect(clippy::print_stdout, reason = "what it measured is what it is for")]
#![expect(clippy::unwrap_used, reason = "without the recordings there is nothing to measure")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use wire::claude::{Line, LineSplitter, decode};
use wire::redact::Redactor;

/// What a pipe gives at once.
const CHUNK_BYTES: usize = 64 << 10;
const STREAM_BYTES: usize = 16 << 20;
const ROUNDS: usize = 25;

fn main() {
    let stream = recorded();
    let secrets = [("SHOP_API_KEY", "k-3c9d2f7ab1e84d55"), ("SHOP_DB_PASSWORD", "pw-\"5a1d\"-e93b7c")];
    let redactor = Redactor::with_environment(secrets);
    let floor = rate(&stream, |chunk| {
        black_box(std::str::from_utf8(chunk).is_ok());
    });
    let mut splitter = LineSplitter::default();
    let decoded = rate(&stream, |chunk| {
        splitter.push(chunk, |line| {
            if let Line::Whole(line) = line {
                black_box(decode(line));
            }
        });
    });
    let redacted = rate(&stream, |chunk| {
        splitter.push(chunk, |line| {
            if let Line::Whole(line) = line {
                black_box(redactor.bytes(line));
            }
        });
    });
    println!("{{\"utf8_mb_s\":{floor:.0},\"decode_mb_s\":{decoded:.0},\"redact_mb_s\":{redacted:.0}}}");
}

/// Every recording once, again and again.
fn recorded() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/claude-2.1.330");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let once: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    assert!(once.len() > 100_000, "only {} bytes of recordings", once.len());
    once.repeat(STREAM_BYTES.div_ceil(once.len()))
}

fn rate(stream: &[u8], mut take: impl FnMut(&[u8])) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        stream.chunks(CHUNK_BYTES).for_each(&mut take);
        best = best.min(started.elapsed());
    }
    stream.len() as f64 / 1e6 / best.as_secs_f64()
}
