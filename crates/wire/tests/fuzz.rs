//! Damaged streams: recorded lines that are cut, glued, flipped and stuffed, by chance, and the same in every run of a seed.
//! Nothing may panic, and what the redactor gives must be text where text was given, and JSON where JSON was.
//!
//! The tests take a share; `cargo xtask soak fuzz` asks for all ten million, by `FUZZ_INPUTS` and `FUZZ_SEED`.
#![expect(clippy::disallowed_methods, reason = "the soak says in the environment how much it wants")]
#![expect(clippy::unwrap_used, reason = "without the recordings there is nothing to damage")]

use std::borrow::Cow;
use std::path::Path;

use wire::claude::{Line, LineSplitter, decode};
use wire::redact::Redactor;
use wire::rlog::read::Reader;

const SHARE: u64 = 20_000;

/// Inserted where chance says: what a parser may trip over.
const STUFFING: [&[u8]; 23] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"1e999",
    b"-0",
    b"null",
    b"{\"type\":",
    b"\"type\":\"assistant\",",
    b"sk-ant-api03-",
    b"-----BEGIN PRIVATE KEY-----",
    b"://a:b@",
    b"a \\\"quoted\\\" word",
    b"\"password\": \"",
];

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 20).unwrap_or(0) % limit.max(1)
    }
}

fn recorded() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/claude-2.1.330");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let lines = |file: &std::path::PathBuf| -> Vec<Vec<u8>> {
        std::fs::read(file).unwrap().split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    };
    let all: Vec<Vec<u8>> = files.iter().flat_map(lines).filter(|line| !line.is_empty()).collect();
    assert!(all.len() > 200, "only {} recorded lines", all.len());
    all
}

fn damage(input: &mut Vec<u8>, lines: &[Vec<u8>], chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(input.len() + 1);
        let until = (at + chance.below(40)).min(input.len());
        match chance.below(8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..until)),
            2 => drop(input.splice(at..at, STUFFING[chance.below(STUFFING.len())].iter().copied())),
            3 => {
                let other = &lines[chance.below(lines.len())];
                let from = chance.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            4 => {
                let piece: Vec<u8> = input[at..until].to_vec();
                drop(input.splice(at..at, piece));
            }
            5 => input[at..until].fill(STUFFING[chance.below(STUFFING.len())][0]),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
        }
    }
}

fn check(input: &[u8], redactor: &Redactor, chance: &mut Chance) {
    let mut splitter = LineSplitter::new(64 << chance.below(12));
    let mut each = |line: Line<'_>| {
        if let Line::Whole(line) = line {
            std::hint::black_box(decode(line));
        }
    };
    let cut = chance.below(input.len() + 1);
    splitter.push(&input[..cut], &mut each);
    splitter.push(&input[cut..], &mut each);
    splitter.finish(&mut each);
    std::hint::black_box(decode(input));
    let text = String::from_utf8_lossy(input);
    let mut log = Reader::default();
    for line in text.lines() {
        std::hint::black_box(log.line(line));
    }
    if let Cow::Owned(clean) = redactor.bytes(input) {
        let is_text = std::str::from_utf8(input).is_ok();
        assert!(
            !is_text || std::str::from_utf8(&clean).is_ok(),
            "text became none: {}",
            String::from_utf8_lossy(input)
        );
        let is_json = |bytes: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
        assert!(!is_json(input) || is_json(&clean), "JSON became none: {}", String::from_utf8_lossy(input));
    }
}

#[test]
fn a_damaged_stream_is_no_reason_to_panic() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let inputs = number("FUZZ_INPUTS").unwrap_or(SHARE);
    let seed = number("FUZZ_SEED").unwrap_or(0x5eed_0016).max(1);
    let lines = recorded();
    let redactor =
        Redactor::with_environment([("SHOP_API_KEY", "claude-sonnet-5-5"), ("SHOP_TOKEN", "a \"quoted\" word")]);
    let mut chance = Chance(seed);
    let mut bytes = 0;
    for input in 0..inputs {
        let before = chance.0;
        let mut line = lines[chance.below(lines.len())].clone();
        damage(&mut line, &lines, &mut chance);
        bytes += line.len();
        let checked = std::panic::catch_unwind(|| check(&line, &redactor, &mut Chance(before)));
        assert!(checked.is_ok(), "input {input} of seed {seed}: {}", String::from_utf8_lossy(&line));
    }
    println!("{inputs} inputs of seed {seed}, {} MB, no panic", bytes / 1_000_000);
}
