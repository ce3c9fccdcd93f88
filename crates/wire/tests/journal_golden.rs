//! The journal's lines as a daemon of each version writes them.

use std::path::Path;

use proptest::prelude::*;
use wire::journal::{Line, decode};

fn golden() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/journal-1");
    let read = |name| std::fs::read(folder.join(name)).expect("read the golden lines");
    ["every-kind.jsonl", "needs-you.jsonl"].map(read).concat()
}

/// What a daemon of version 1 wrote is understood wholly, and would be written just so again.
#[test]
fn every_recorded_line_is_understood_to_the_byte() {
    let golden = golden();
    let mut kinds = Vec::new();
    for line in golden.split_inclusive(|byte| *byte == b'\n') {
        match decode(line) {
            Line::Record(record) => {
                assert_eq!(String::from_utf8_lossy(&record.encode()), String::from_utf8_lossy(line));
                kinds.push(record.event.kind());
            }
            other => panic!("{other:?}: {}", String::from_utf8_lossy(line)),
        }
    }
    kinds.dedup();
    assert_eq!(kinds.len(), 28, "{kinds:?}");
}

#[test]
fn what_is_not_known_is_shown_as_it_is() {
    let of_the_future = b"{\"v\":1,\"seq\":7,\"at_unix_ms\":5,\"at_ms\":1,\"boot\":\"b\",\"daemon\":9,\
                          \"event\":{\"kind\":\"teleported\",\"to\":[1]},\"text\":\"Worker 4 is elsewhere\",\"more\":{}}\n";
    let expected = Line::Unknown {
        seq: 7,
        at_unix_ms: 5,
        kind: "teleported".to_owned(),
        text: "Worker 4 is elsewhere".to_owned(),
    };
    assert_eq!(decode(of_the_future), expected);
    let other_version = b"{\"v\":2,\"seq\":8,\"at_unix_ms\":6,\"text\":\"hello\"}";
    assert!(matches!(decode(other_version), Line::Unknown { seq: 8, text, .. } if text == "hello"));
    // A member more does not make a line unknown.
    let more =
        String::from_utf8_lossy(&golden()).lines().next().unwrap_or_default().replacen("{\"v\"", "{\"new\":1,\"v\"", 1);
    assert!(matches!(decode(more.as_bytes()), Line::Record(_)));
    for garbled in ["", "{", "null", "{\"v\":1}", "[]", "\u{0}\u{0}", "{\"v\":-1,\"seq\":1,\"at_unix_ms\":1}"] {
        assert_eq!(decode(garbled.as_bytes()), Line::Garbled, "{garbled}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(decode(&bytes));
    }

    #[test]
    fn no_damage_makes_the_decoder_panic(at in 0_usize..6_000, bit in 0_u8..8, end in 0_usize..6_000) {
        let mut bytes = golden();
        let length = bytes.len();
        bytes[at % length] ^= 1 << bit;
        bytes.truncate(end.max(1));
        bytes.split(|byte| *byte == b'\n').for_each(|line| drop(decode(line)));
    }
}
