use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::*;

mod files;

const WORKER: Claimant = Claimant { owner: String::new(), holder: Holder::Worker, lease_ms: 1_000, holds_lock: false };

fn worker(owner: &str) -> Claimant {
    Claimant { owner: owner.to_owned(), ..WORKER }
}

fn heir(owner: &str) -> Claimant {
    Claimant { holds_lock: true, ..worker(owner) }
}

fn person(owner: &str) -> Claimant {
    Claimant { holder: Holder::Person, ..worker(owner) }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("p/queue.db")
    }

    fn queue(&self) -> Queue {
        Queue::create(&self.path()).unwrap()
    }
}

fn draft(title: &str) -> Draft {
    Draft { title: title.to_owned(), ..Draft::default() }
}

fn needing(title: &str, needs: &[i64]) -> Draft {
    Draft { needs: needs.to_vec(), ..draft(title) }
}

fn next(queue: &mut Queue, who: &Claimant, now_ms: u64) -> Option<i64> {
    match queue.claim(Which::Next, who, now_ms).unwrap() {
        Found::Task(claim) => Some(claim.id),
        Found::Nothing { .. } => None,
    }
}

#[test]
fn tasks_are_worked_off_in_their_order_and_each_once() {
    let place = Place::new();
    let mut queue = place.queue();
    let low = queue.create_task(&Draft { priority: Priority::Low, ..draft("low") }, 1).unwrap();
    let first = queue.create_task(&draft("first"), 2).unwrap();
    let second = queue.create_task(&draft("second"), 3).unwrap();
    let after = queue.create_task(&Draft { priority: Priority::Urgent, ..needing("after", &[second]) }, 4).unwrap();
    assert_eq!((low, first, second, after), (1, 2, 3, 4));
    let me = worker("me");
    let mut order = Vec::new();
    while let Some(id) = next(&mut queue, &me, 10) {
        order.push(id);
        assert!(queue.complete(id, Some("me"), 10).unwrap());
        assert!(!queue.complete(id, Some("me"), 10).unwrap(), "done once");
    }
    assert_eq!(order, [first, second, after, low]);
    assert_eq!(queue.task(after).unwrap().done_ms, Some(10));
}

#[test]
fn a_claim_keeps_others_away_until_it_expires() {
    let place = Place::new();
    let mut queue = place.queue();
    let id = queue.create_task(&draft("one"), 0).unwrap();
    let (first, second) = (worker("first"), worker("second"));
    assert_eq!(next(&mut queue, &first, 0), Some(id));
    assert_eq!(queue.claim(Which::Next, &second, 999).unwrap(), Found::Nothing { look_again_ms: Some(1_000) });
    let refused = queue.claim(Which::This(id), &second, 999).unwrap_err();
    assert!(matches!(&refused, Error::Held { owner, .. } if owner == "first"), "{refused}");
    // Shown to be alive, it goes on.
    assert!(queue.renew(id, &first, 999).unwrap());
    assert_eq!(next(&mut queue, &second, 1_500), None);
    // Its own claim is taken up again at any time.
    assert!(matches!(queue.claim(Which::This(id), &first, 1_600).unwrap(), Found::Task(_)));
    assert_eq!(next(&mut queue, &first, 1_600), None, "one more is another one");
    assert_eq!(next(&mut queue, &second, 2_600), Some(id));
    assert!(!queue.renew(id, &first, 2_700).unwrap(), "the claim is lost, and its holder is told");
    assert!(matches!(queue.complete(id, Some("first"), 2_700), Err(Error::Held { .. })));
    assert!(queue.complete(id, Some("second"), 2_700).unwrap());
    assert!(!queue.renew(id, &second, 2_800).unwrap(), "what is done is not claimed any more");
}

#[test]
fn who_holds_the_lock_takes_over_from_a_dead_worker_at_once_but_not_from_a_person() {
    let place = Place::new();
    let mut queue = place.queue();
    let (one, two) =
        (queue.create_task(&draft("one"), 0).unwrap(), queue.create_task(&needing("two", &[]), 1).unwrap());
    assert_eq!(next(&mut queue, &worker("dead"), 0), Some(one));
    queue.claim(Which::This(two), &person("ada"), 0).unwrap();
    assert_eq!(next(&mut queue, &worker("other"), 1), None);
    assert!(matches!(queue.claim(Which::This(two), &heir("next"), 1), Err(Error::Held { .. })));
    assert!(matches!(queue.claim(Which::This(one), &heir("next"), 1).unwrap(), Found::Task(claim) if claim.id == one));
    assert_eq!(queue.claim(Which::Next, &worker("other"), 1).unwrap(), Found::Nothing { look_again_ms: Some(1_000) });
    let lease = queue.task(one).unwrap().lease.unwrap();
    assert_eq!((lease.owner.as_str(), lease.since_ms, lease.expires_ms), ("next", 1, 1_001));
}

/// The real thing: connections that race for the same tasks.
#[test]
fn no_task_is_claimed_twice_at_once() {
    let place = Place::new();
    let count = 40;
    for n in 0..count {
        place.queue().create_task(&draft(&format!("task {n}")), n).unwrap();
    }
    let path = place.path();
    let claimed: Vec<Vec<i64>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|n| {
                let path = &path;
                scope.spawn(move || {
                    let mut queue = Queue::open(path).unwrap();
                    let me = worker(&format!("worker {n}"));
                    std::iter::from_fn(|| next(&mut queue, &me, 0)).collect()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut all: Vec<i64> = claimed.concat();
    all.sort_unstable();
    assert_eq!(all, (1..=i64::try_from(count).unwrap()).collect::<Vec<_>>());
}

#[test]
fn circles_are_refused_and_named() {
    let place = Place::new();
    let mut queue = place.queue();
    let a = queue.create_task(&draft("a"), 0).unwrap();
    let b = queue.create_task(&needing("b", &[a]), 0).unwrap();
    let c = queue.create_task(&needing("c", &[b]), 0).unwrap();
    let change = Change { needs: Some(vec![c]), title: Some("changed".into()), ..Change::default() };
    let refused = queue.edit(a, &change, 1).unwrap_err();
    assert_eq!(refused.to_string(), "#1 would wait for itself: #1 → #3 → #2 → #1");
    let task = queue.task(a).unwrap();
    assert_eq!((task.title.as_str(), task.needs.len()), ("a", 0), "nothing of it was done");
    assert!(matches!(queue.edit(a, &Change { needs: Some(vec![77]), ..Change::default() }, 1), Err(Error::NoTask(77))));
    assert!(matches!(queue.create_task(&needing("d", &[9]), 1), Err(Error::NoTask(9))));
    assert_eq!(queue.tasks().unwrap().len(), 3);
}

#[test]
fn a_number_is_never_used_again_and_what_others_need_stays() {
    let place = Place::new();
    let mut queue = place.queue();
    let a = queue.create_task(&draft("a"), 0).unwrap();
    let b = queue.create_task(&needing("b", &[a]), 0).unwrap();
    assert_eq!(queue.remove(a, 1).unwrap_err().to_string(), "#1 is needed by #2");
    next(&mut queue, &worker("w"), 1).unwrap();
    queue.remove(b, 1).unwrap();
    assert!(matches!(queue.remove(a, 1), Err(Error::Held { .. })));
    assert_eq!(queue.create_task(&draft("c"), 2).unwrap(), 3);
}

#[test]
fn a_blocked_task_waits_for_somebody_and_then_starts_afresh() {
    let place = Place::new();
    let mut queue = place.queue();
    let id = queue.create_task(&draft("a"), 0).unwrap();
    let me = worker("me");
    next(&mut queue, &me, 0).unwrap();
    assert_eq!([queue.reject(id, 1).unwrap(), queue.reject(id, 1).unwrap()], [1, 2]);
    assert!(matches!(queue.block(id, "no", Some("somebody else"), 1), Err(Error::Held { .. })));
    queue.block(id, "tests fail\n\nbadly\n", Some("me"), 1).unwrap();
    let task = queue.task(id).unwrap();
    assert_eq!((task.standing(1), task.reason.as_deref()), (Standing::Blocked, Some("tests fail\n\nbadly")));
    assert_eq!(queue.claim(Which::Next, &me, 1).unwrap(), Found::Nothing { look_again_ms: None });
    assert!(!queue.open_again(id, Status::Done, 2).unwrap());
    assert!(queue.open_again(id, Status::Blocked, 2).unwrap());
    let task = queue.task(id).unwrap();
    assert_eq!((task.standing(2), task.reason, task.attempts), (Standing::Ready, None, 0));
}

#[test]
fn what_is_done_is_not_blocked_and_so_not_done_again() {
    let mut queue = Place::new().queue();
    let id = queue.create_task(&draft("a"), 0).unwrap();
    queue.complete(id, None, 1).unwrap();
    let refused = queue.block(id, "why", None, 2);
    assert!(matches!(refused, Err(Error::NotReady { standing: Standing::Done, .. })), "{refused:?}");
    assert!(!queue.open_again(id, Status::Blocked, 3).unwrap());
    assert_eq!((queue.task(id).unwrap().status, queue.task(id).unwrap().done_ms), (Status::Done, Some(1)));
}
