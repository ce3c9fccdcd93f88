//! The database as a file, and tasks in other files.

use proptest::prelude::*;

use super::*;
use crate::schema::STEPS;

#[test]
fn nobody_else_can_read_it() {
    let place = Place::new();
    let mut queue = place.queue();
    queue.create_task(&draft("secret"), 0).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.path().parent().unwrap()), 0o700);
    for entry in fs::read_dir(place.path().parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_later_version_is_left_alone() {
    let place = Place::new();
    let later: Vec<&str> = STEPS.iter().copied().chain(["CREATE TABLE dream (id)"]).collect();
    place.queue().create_task(&draft("old"), 0).unwrap();
    // An earlier one is brought forward, with all that is in it.
    let queue = Queue::with_steps(&place.path(), &later).unwrap();
    assert_eq!(queue.tasks().unwrap().len(), 1);
    drop(queue);
    let before = fs::read(place.path()).unwrap();
    let refused = Queue::open(&place.path()).unwrap_err();
    assert!(matches!(refused, Error::Newer { version, known, .. } if version == known + 1), "{refused}");
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[test]
fn a_step_that_fails_leaves_the_version_before() {
    let place = Place::new();
    place.queue().create_task(&draft("old"), 0).unwrap();
    let broken: Vec<&str> = STEPS.iter().copied().chain(["CREATE TABLE half (id); CREATE TABLE task (id)"]).collect();
    Queue::with_steps(&place.path(), &broken).unwrap_err();
    assert_eq!(Queue::open(&place.path()).unwrap().tasks().unwrap().len(), 1);
}

#[test]
fn what_is_damaged_is_said_to_be_and_not_touched() {
    let place = Place::new();
    place.queue();
    for damage in
        [&b"this is no database at all, but it is long enough to be taken for one ........"[..], &[0xff; 8_192]]
    {
        for beside in ["queue.db-wal", "queue.db-shm"] {
            fs::remove_file(place.path().with_file_name(beside)).ok();
        }
        fs::write(place.path(), damage).unwrap();
        let refused = Queue::create(&place.path()).unwrap_err();
        assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
        assert_eq!(fs::read(place.path()).unwrap(), damage);
    }
    assert!(matches!(Queue::open(&place.path().join("x")), Err(Error::Missing(_))));
}

#[test]
fn what_was_committed_is_there_after_a_crash() {
    let place = Place::new();
    let mut queue = place.queue();
    queue.create_task(&draft("kept"), 0).unwrap();
    // A process that dies closes nothing: its files as they are at that moment.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["queue.db", "queue.db-wal"] {
        fs::copy(place.path().with_file_name(name), crashed.path().join(name)).unwrap();
    }
    let wal = crashed.path().join("queue.db-wal");
    // Torn in the middle of a later transaction.
    let mut bytes = fs::read(&wal).unwrap();
    bytes.extend([7; 1_000]);
    fs::write(&wal, bytes).unwrap();
    let after = Queue::open(&crashed.path().join("queue.db")).unwrap();
    assert_eq!(after.tasks().unwrap()[0].title, "kept");
}

#[test]
fn a_file_that_a_person_wrote_is_understood() {
    let text = "# My plans\n\nSome words.\n\n## Fix the login\n\nIt fails on Mondays.\n\n### Details\n- priority: none of ours\n\n\
                ## #12 Faster start\n- priority: high\n- type: feature\n- needs: 3, #1\n- colour: red\n";
    let documents = read_markdown(text).unwrap();
    let [login, start] = &documents[..] else { panic!("{documents:#?}") };
    assert_eq!(
        (login.id, &*login.draft.title, &*login.draft.description),
        (None, "Fix the login", "It fails on Mondays.\n\n### Details\n- priority: none of ours")
    );
    assert_eq!((start.id, start.draft.priority, start.draft.kind), (Some(12), Priority::High, Kind::Feature));
    assert_eq!((&start.draft.needs[..], &*start.draft.description), (&[3, 1][..], "- colour: red"));
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_line() {
    for (text, expected) in [
        ("## A\n- priority: soon\n", "line 2: `soon` is none of urgent, high, medium, low"),
        ("\n## \n", "line 2: a task needs a title"),
        ("## A\n- needs: #1, b\n", "line 2: `b` is no task's number"),
        ("## #1 A\n## #1 B\n", "it has two tasks #1"),
    ] {
        assert_eq!(read_markdown(text).unwrap_err().to_string(), expected, "{text:?}");
    }
    for (text, expected) in [
        (
            r#"{"format":"autopilot-tasks/9","tasks":[]}"#,
            "it has the format `autopilot-tasks/9`; known is autopilot-tasks/1",
        ),
        (
            r#"{"tasks":[{"id":9223372036854775807,"title":"big"}]}"#,
            "#9223372036854775807 is too high for a task's number; the highest is 2147483648",
        ),
        (r#"{"tasks":[{"title":"a"},{"title":" "}]}"#, "task 2 has no title"),
        (r#"{"tasks":[{"title":"a","type":"wish"}]}"#, "task 1: `wish` is none of task, bug, feature"),
    ] {
        assert_eq!(read_json(text).unwrap_err().to_string(), expected, "{text:?}");
    }
}

#[test]
fn an_import_keeps_the_numbers_that_are_free_and_renames_the_others_everywhere() {
    let place = Place::new();
    let mut queue = place.queue();
    queue.create_task(&draft("here before"), 0).unwrap();
    let documents = read_markdown("## #1 A\n\n## #7 B\n- needs: #1\n\n## C\n- needs: #7\n- status: done\n").unwrap();
    assert_eq!(queue.import(&documents, 5).unwrap().ids, [2, 7, 8]);
    let needs: Vec<Vec<i64>> = queue.tasks().unwrap().into_iter().map(|task| task.needs).collect();
    assert_eq!(needs, [vec![], vec![], vec![2], vec![7]]);
    // All or nothing.
    let documents = read_markdown("## D\n\n## E\n- needs: #99\n").unwrap();
    assert!(matches!(queue.import(&documents, 6), Err(Error::NoTask(99))));
    assert_eq!(queue.tasks().unwrap().len(), 4);
}

fn documents() -> impl Strategy<Value = Vec<Document>> {
    let text = || {
        prop_oneof![
            ".*",
            "(\\\\{0,2}##? #?[0-9]? ?[a-z]*\n|- (priority|type|reason): [a-z\"]*\n|\r?\n|[ -~]*\n){0,6}",
            "( {0,4}\\\\{0,2}(`{3,4}|~{3,4}) ?[a-z`]?\n|\\\\?## a\n|[ -~]*\n){0,6}",
        ]
    };
    let title = prop_oneof!["[ -~]{0,3}[a-z#]", "\\\\{0,2}(#1 )?\\[[ xX]\\] ?[a-z]"];
    let draft = (title, text(), 0..4_usize, 0..3_usize, proptest::collection::btree_set(0..6_usize, 0..3));
    let document = (draft, 0..3_usize, proptest::option::of(text()));
    proptest::collection::vec(document, 0..6).prop_map(|all| {
        let document = |(index, ((title, description, priority, kind, needs), status, reason)): (usize, _)| {
            let reason: Option<String> = reason;
            let description: String = description;
            let title: String = title;
            // Only on earlier ones: no circles.
            let needs: std::collections::BTreeSet<usize> = needs;
            let needs = needs.into_iter().filter(|need| *need < index).map(|need| i64::try_from(need).unwrap() + 1);
            let draft = Draft {
                title,
                description,
                priority: [Priority::Urgent, Priority::High, Priority::Medium, Priority::Low][priority],
                kind: [Kind::Task, Kind::Bug, Kind::Feature][kind],
                needs: needs.collect(),
            };
            let status: usize = status;
            let status = [Status::Open, Status::Blocked, Status::Done][status];
            let id = Some(i64::try_from(index).unwrap() + 1);
            let claimed_by = None;
            let branch = (index % 2 == 1).then(|| format!("autopilot/{index}-\"a"));
            let (attempts, times) = (u32::from(index % 3 == 1), Times { created_ms: Some(7), ..Times::default() });
            Document { id, draft, status, reason, claimed_by, attempts, branch, times }
        };
        all.into_iter().enumerate().map(document).collect()
    })
}

fn exported(queue: &Queue) -> Vec<Document> {
    queue.tasks().unwrap().iter().map(Document::from).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_exported_is_imported_again_as_it_was(documents in documents()) {
        let (place, markdown_place, json_place) = (Place::new(), Place::new(), Place::new());
        let documents: Vec<Document> =
            documents.into_iter().map(|document| Document { draft: document.draft.tidied(), ..document }).collect();
        let mut queue = place.queue();
        queue.import(&documents, 0).unwrap();
        let tasks = exported(&queue);

        let text = markdown(&tasks);
        let read = read_markdown(&text).unwrap();
        let mut other = markdown_place.queue();
        other.import(&read, 0).unwrap();
        let timeless = |tasks: &[Document]| -> Vec<Document> {
            tasks.iter().cloned().map(|task| Document { times: Times::default(), ..task }).collect()
        };
        prop_assert_eq!(timeless(&exported(&other)), timeless(&tasks), "{}", text);

        let text = json(&tasks);
        let mut other = json_place.queue();
        other.import(&read_json(&text).unwrap(), 9).unwrap();
        prop_assert_eq!(&exported(&other), &tasks, "{}", text);
    }
}
