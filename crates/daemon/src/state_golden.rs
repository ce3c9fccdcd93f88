//! The state that daemons of this version write is carried on with by every later one, and that of the next version by this
//! one: an upgrade has a way back.

use std::path::Path;

use crate::state::{Loaded, load};

fn recorded(text: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    std::fs::write(&path, text).unwrap();
    load(&path).unwrap()
}

fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/golden/state-2");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn a_recorded_state_is_understood() {
    let Loaded::State(state) = recorded(&golden("state.json")) else { panic!("a state") };
    let same_boot = state.snapshot("0a1b2c3d-0000-4000-8000-000000000001");
    assert_eq!((same_boot.last_run, same_boot.starts, same_boot.failures), (7, 3, 2));
    assert_eq!((same_boot.failures_ms, same_boot.stall_kills_ms), (vec![8_712_010, 8_812_010], vec![8_712_010]));
    assert_eq!((same_boot.next_attempt_ms, same_boot.failed, same_boot.stopped), (Some(8_814_010), false, false));
    assert_eq!((state.ended_run, state.last_exits[0].cause.as_str()), (7, "exit status 3"));
    // Members that nobody knows are ignored, missing ones have defaults.
    let Loaded::State(state) = recorded(&golden("next.json")) else { panic!("a state") };
    assert_eq!((state.snapshot("").last_run, state.snapshot("").starts), (4, 0));
}
