use super::*;

fn task(id: i64) -> Candidate {
    let (priority, created_ms) = (Priority::Medium, 1_000);
    Candidate { id, priority, created_ms, status: Status::Open, unmet: 0, lease: None }
}

fn leased(id: i64, expires_ms: u64, holder_is_dead: bool) -> Candidate {
    Candidate { lease: Some(Lease { expires_ms, holder_is_dead }), ..task(id) }
}

#[test]
fn every_kind_of_task_stands_somewhere() {
    let now_ms = 5_000;
    for (candidate, expected) in [
        (task(1), Standing::Ready),
        (Candidate { unmet: 1, ..task(1) }, Standing::Waiting),
        (Candidate { status: Status::Blocked, ..task(1) }, Standing::Blocked),
        (Candidate { status: Status::Done, ..task(1) }, Standing::Done),
        (leased(1, 5_001, false), Standing::Claimed),
        // The moment at which it expires is the first at which it is over.
        (leased(1, 5_000, false), Standing::Ready),
        (leased(1, u64::MAX, true), Standing::Ready),
        // A claim does not make a blocked task anything else, nor a claim that is over one that waits.
        (Candidate { status: Status::Blocked, ..leased(1, 9_000, false) }, Standing::Blocked),
        (Candidate { unmet: 1, ..leased(1, 4_000, false) }, Standing::Waiting),
    ] {
        assert_eq!(candidate.standing(now_ms), expected, "{candidate:?}");
    }
}

#[test]
fn the_most_urgent_is_next_and_of_these_the_oldest() {
    let with = |id, priority, created_ms| Candidate { priority, created_ms, ..task(id) };
    use Priority::{High, Low, Medium, Urgent};
    for (candidates, expected) in [
        (vec![], None),
        (vec![with(1, Low, 1), with(2, High, 9), with(3, Medium, 0)], Some(2)),
        (vec![with(1, High, 2), with(2, High, 1)], Some(2)),
        (vec![with(2, High, 1), with(1, High, 1)], Some(1)),
        (vec![Candidate { unmet: 2, ..with(1, Urgent, 0) }, with(2, Low, 5)], Some(2)),
        (vec![leased(1, 5_000, false), task(2)], Some(2)),
        (vec![leased(1, 5_000, false)], None),
    ] {
        assert_eq!(next(&candidates, 10), expected, "{candidates:?}");
    }
}

#[test]
fn only_the_end_of_a_claim_comes_by_itself() {
    assert_eq!(look_again_ms(&[task(1), Candidate { unmet: 1, ..task(2) }], 10), None);
    assert_eq!(look_again_ms(&[leased(1, 900, false), leased(2, 700, false), leased(3, 5, false)], 10), Some(700));
}

#[test]
fn no_task_waits_for_itself() {
    let edges = [(2, 1), (3, 2), (4, 3), (4, 1), (9, 8), (8, 9)];
    for (task, needs, expected) in [
        (1, 1, Some(vec![1, 1])),
        (1, 2, Some(vec![1, 2, 1])),
        (1, 4, Some(vec![1, 4, 1])),
        (2, 4, Some(vec![2, 4, 3, 2])),
        (4, 2, None),
        (5, 4, None),
        // A circle that is already there is not run through for ever.
        (5, 9, None),
    ] {
        let found = circle(&edges, task, needs);
        assert_eq!(found, expected, "{task} needs {needs}");
    }
}

#[test]
fn after_the_last_attempt_a_person_looks() {
    for (attempts, max, expected) in [
        (1, 3, AfterRejection::Again),
        (2, 3, AfterRejection::Again),
        (3, 3, AfterRejection::Block),
        (4, 3, AfterRejection::Block),
        (1, 1, AfterRejection::Block),
        (1, 0, AfterRejection::Block),
    ] {
        assert_eq!(after_rejection(attempts, max), expected, "{attempts} of {max}");
    }
}
