//! The shim's records and what daemons leave each other: recorded bytes of every version, the one before and the next one.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;

use wire::handover::{Handover, Log, Seen, handover, seen};
use wire::run::{Ended, Exit, Leaked, Line, NEWEST_READ, Process, Record, StartError, Started, decode, decode_line};

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)).unwrap()
}

const BOOT: &str = "0a1b2c3d-0000-4000-8000-000000000001";

fn started() -> Started {
    Started {
        v: 1,
        run: 7,
        run_id: "7-00c0ffee00c0ffee".to_owned(),
        boot_id: BOOT.to_owned(),
        shim: Process { pid: 4120, start_ticks: 881_200 },
        worker: Process { pid: 4121, start_ticks: 881_201 },
        at_ms: 8_812_010,
        at_unix_ms: 1_795_370_463_000,
        containment: "cgroup2".to_owned(),
        group: Some("/sys/fs/cgroup/autopilot-0123456789abcdef/run-7".to_owned()),
        pid_namespace: 4_026_531_836,
    }
}

fn ended() -> Ended {
    Ended {
        v: 1,
        run: 7,
        boot_id: BOOT.to_owned(),
        exit: Some(Exit { code: Some(3), signal: None }),
        start_error: None,
        at_ms: 8_912_010,
        at_unix_ms: 1_795_370_563_000,
        lived_ms: 100_000,
        survivors_killed: 2,
        output_lost_bytes: 0,
        out_of_memory: false,
        leaked: vec![Leaked { pid: 4130, name: "node".to_owned(), state: 'D' }],
    }
}

/// What is written today is, byte for byte, what is recorded.
#[test]
fn the_records_of_this_version() {
    assert_eq!(decode(&golden("run-1/started.json")), Record::Known(started()));
    assert_eq!(decode(&golden("run-1/exit.json")), Record::Known(ended()));
    let line = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap() + "\n";
    assert_eq!(line(serde_json::to_vec(&started()).unwrap()).into_bytes(), golden("run-1/started.json"));
    assert_eq!(line(serde_json::to_vec(&ended()).unwrap()).into_bytes(), golden("run-1/exit.json"));
}

/// The files are sealed; the lines of the pipe are not.
#[test]
fn the_sealed_records_of_this_version() {
    for (name, bytes) in [
        ("run-1-sealed/started.json", wire::run::encode(&started()).unwrap()),
        ("run-1-sealed/exit.json", wire::run::encode(&ended()).unwrap()),
    ] {
        assert_eq!(String::from_utf8(bytes).unwrap() + "\n", String::from_utf8(golden(name)).unwrap(), "{name}");
    }
    assert_eq!(decode(&golden("run-1-sealed/started.json")), Record::Known(started()));
    assert_eq!(decode(&golden("run-1-sealed/exit.json")), Record::Known(ended()));
}

/// Whatever byte of it changes: it never says anything else than what was written.
#[test]
fn no_changed_byte_of_a_sealed_record_goes_unseen() {
    let sealed = wire::run::encode(&started()).unwrap();
    for at in 0..sealed.len() {
        for other in [b'0', b'9', b'"', b' ', sealed[at] ^ 1, sealed[at] ^ 0x20] {
            let mut damaged = sealed.clone();
            damaged[at] = other;
            if let Record::Known(read) = decode::<Started>(&damaged) {
                assert_eq!(read, started(), "byte {at} as {:?}", char::from(other));
            }
        }
    }
}

#[test]
fn a_shim_of_before_is_understood() {
    let first = Started { containment: String::new(), group: None, pid_namespace: 0, ..started() };
    assert_eq!(decode(&golden("run-1/started-first.json")), Record::Known(first));
    let exit = Some(Exit { code: None, signal: Some(9) });
    let first = Ended { exit, survivors_killed: 0, leaked: Vec::new(), ..ended() };
    assert_eq!(decode(&golden("run-1/exit-first.json")), Record::Known(first));
}

/// For one version, the other way round: members that nobody knows are ignored, those that are missing have defaults.
#[test]
fn a_shim_of_the_next_version_is_understood() {
    let next: Started = decode(&golden("run-2/started.json")).known().unwrap();
    assert_eq!((next.v, next.run, next.shim), (2, 8, Process { pid: 4120, start_ticks: 881_200 }));
    assert_eq!((next.at_unix_ms, next.group), (0, None));
    let next: Ended = decode(&golden("run-2/exit.json")).known().unwrap();
    assert_eq!((next.exit, next.lived_ms), (Some(Exit { code: Some(0), signal: None }), 5));
}

#[test]
fn what_is_later_than_that_is_unknown_and_the_rest_is_garbled() {
    let later = |v: u32| format!("{{\"v\":{v},\"run\":9}}").into_bytes();
    assert_eq!(decode::<Started>(&later(NEWEST_READ + 1)), Record::Unknown { v: NEWEST_READ + 1 });
    assert_eq!(decode::<Ended>(&later(99)), Record::Unknown { v: 99 });
    assert_eq!(decode::<Ended>(&later(0)), Record::Unknown { v: 0 });
    // A later one may mean other things by the same names.
    assert_eq!(decode::<Started>(b"{\"v\":99,\"run\":\"nine\"}"), Record::Unknown { v: 99 });
    for bytes in ["", "{", "{}", "[]", "\0\0\0", "{\"run\":1}", "{\"v\":1,\"run\":\"nine\"}", "{\"v\":-1}"] {
        assert_eq!(decode::<Started>(bytes.as_bytes()), Record::Garbled, "{bytes:?}");
    }
    // Torn anywhere.
    let whole = golden("run-1/started.json");
    for end in 0..whole.len() - 2 {
        assert_eq!(decode::<Started>(&whole[..end]), Record::Garbled, "{end}");
    }
}

#[test]
fn the_lines_of_the_pipe() {
    let pipe = golden("run-1/pipe.jsonl");
    let lines: Vec<Record<Line>> = pipe.split_inclusive(|&b| b == b'\n').map(decode_line).collect();
    let first = Started { containment: "subreaper".to_owned(), group: None, ..started() };
    let second = Ended {
        exit: None,
        start_error: Some(StartError { step: "execute".to_owned(), errno: 2 }),
        at_ms: 8_812_010,
        at_unix_ms: 1_795_370_463_000,
        lived_ms: 0,
        survivors_killed: 0,
        leaked: Vec::new(),
        ..ended()
    };
    assert_eq!(lines, [Record::Known(Line::Started(first)), Record::Known(Line::Ended(second))]);
    let next = golden("run-2/pipe.jsonl");
    let mut next = next.split_inclusive(|&b| b == b'\n').map(decode_line);
    let Some(Record::Known(Line::Ended(ended))) = next.next() else { panic!("an end") };
    assert_eq!(ended.exit, Some(Exit { code: None, signal: Some(15) }));
    assert_eq!(next.next(), Some(Record::Garbled), "a kind of line that nobody knows is passed over");
    assert_eq!(decode_line(b"{\"ended\":{\"v\":9}}"), Record::Unknown { v: 9 });
}

#[test]
fn what_a_daemon_leaves_to_the_next_one() {
    let left = seen(&golden("run-1/seen.json")).unwrap();
    let expected = Seen {
        v: 1,
        run_id: "7-00c0ffee00c0ffee".to_owned(),
        ready: true,
        heartbeat: true,
        phase: Some("tool".to_owned()),
        message: Some("cargo test".to_owned()),
        rlog: Some("/p/docs/logs/20261122/091400-fix.rlog".to_owned()),
        binary: Some("/h/bin/autopilot".to_owned()),
        reason: Some("the worker ended: exit status 3".to_owned()),
        left_at_ms: Some(8_813_000),
        active_ms: 8_812_999,
        progress_ms: 8_812_999,
        ..Seen::default()
    };
    assert_eq!(left, expected);
    let noted = seen(&golden("run-1/seen-noted.json")).unwrap();
    let log = Log {
        path: "/h/workers/main/output.log".to_owned(),
        inode: 4711,
        bytes: 20,
        written: (1_795_370_463, 5),
        complaints: vec![17],
    };
    let (left_at_ms, noted_at_ms) = (None, Some(8_813_000));
    assert_eq!(noted, Seen { left_at_ms, noted_at_ms, logs: vec![log], ..expected });
    let passed_on = handover(&golden("run-1/handover.json")).unwrap();
    let expected = Handover {
        v: 1,
        pid: 4100,
        from: "0.1.0".to_owned(),
        lock: 3,
        control: 7,
        notify: 8,
        clients: vec![11, 12],
        asked: Some(13),
        back: Some(14),
        ..Handover::default()
    };
    assert_eq!(passed_on, expected);
    assert_eq!(seen(b"{\"v\":2,\"ready\":true,\"x\":1}").map(|seen| seen.ready), Some(true));
    for not in ["", "{}", "{\"v\":9}", "nonsense"] {
        assert_eq!((seen(not.as_bytes()), handover(not.as_bytes())), (None, None), "{not:?}");
    }
}
