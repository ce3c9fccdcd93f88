//! The queue, worked off by real workers with the stand-in CLI.

use std::fs;
use std::path::Path;

use os::process::Send;
use queue::{Draft, Queue, Standing, Task};

use super::{WORK, assert_code, ends};
use crate::stage::Stage;

/// A stage whose project has tasks with these titles.
pub(crate) fn stage_with(scene: &str, titles: &[&str]) -> Stage {
    let stage = Stage::new(scene);
    let mut queue = Queue::create(&stage.project_file("queue.db")).unwrap();
    queue.make_project("p", stage.cwd().to_str(), 0).unwrap();
    for title in titles {
        add(&mut queue, title);
    }
    stage
}

fn add(queue: &mut Queue, title: &str) -> i64 {
    let draft = Draft { title: title.to_string(), description: format!("All of {title}."), ..Draft::default() };
    queue.create_task(&draft, os::clock::wall_ms()).unwrap()
}

pub(crate) fn queue(stage: &Stage) -> Queue {
    Queue::open(&stage.project_file("queue.db")).unwrap()
}

pub(crate) fn tasks(stage: &Stage) -> Vec<Task> {
    queue(stage).tasks().unwrap()
}

pub(crate) fn standings(stage: &Stage) -> Vec<Standing> {
    tasks(stage).iter().map(|task| task.standing(os::clock::wall_ms())).collect()
}

/// Runs git there; gives what it says.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test's own look")]
    let mut command = std::process::Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@localhost"]).args(arguments).current_dir(folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn make_repository(folder: &Path, settings: &str) {
    git(folder, &["init", "-q", "-b", "main"]);
    fs::write(folder.join("autopilot.toml"), settings).unwrap();
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "-m", "first"]);
}

#[track_caller]
pub(crate) fn expect_no_checkout(stage: &Stage) {
    for name in ["checkout", "checkout.index"] {
        assert!(!stage.project_file(name).exists(), "{name} is left");
    }
    if stage.cwd().join(".git").exists() {
        assert_eq!(git(&stage.cwd(), &["worktree", "list"]).lines().count(), 1);
    }
}

#[test]
fn all_tasks_are_worked_off_each_in_a_session_and_a_log_of_its_own() {
    let stage = stage_with(WORK, &["one", "two", "three"]);
    assert_code(&stage.run(&[]), 0);
    assert_eq!(standings(&stage), [Standing::Done; 3]);
    assert_eq!(stage.calls(), 3);
    assert_eq!(stage.flag(2, "-p").as_deref(), Some("Task #2: two"));
    assert!(stage.argv(2).contains(&"All of two.".to_owned()));
    let sessions: std::collections::BTreeSet<_> =
        (1..=3).map(|call| stage.flag(call, "--session-id").unwrap()).collect();
    assert_eq!(sessions.len(), 3);
    let logs = stage.logs();
    assert_eq!(logs.iter().map(|log| ends(log)).collect::<Vec<_>>(), [["done"]; 3]);
    let cost: Vec<(i64, u64)> = queue(&stage).cost_of_tasks().unwrap();
    assert_eq!(cost, [(1, 1_000), (2, 1_000), (3, 1_000)]);
    // Nothing left: it ends at once.
    assert_code(&stage.run(&[]), 0);
    assert_eq!(stage.calls(), 3);
}

#[test]
fn an_idle_worker_starts_a_new_task_within_a_second_and_does_not_spin() {
    let mut stage = stage_with(WORK, &[]);
    stage.supervised = true;
    let worker = stage.start(&[]);
    stage.wait_for("AUTOPILOT_PHASE=idle");
    let cpu = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = cpu(worker.pid());
    for number in 1..=3 {
        let asked_ms = os::clock::monotonic_ms();
        add(&mut queue(&stage), &format!("task {number}"));
        stage.wait_for("STATUS=starting the CLI");
        let took_ms = os::clock::monotonic_ms() - asked_ms;
        assert!(took_ms < 1_000, "{took_ms} ms");
        stage.wait_for("AUTOPILOT_PHASE=idle");
    }
    assert_eq!(standings(&stage), [Standing::Done; 3]);
    // A tick is 10 ms.
    assert!(cpu(worker.pid()) - before < 100, "{} ticks", cpu(worker.pid()) - before);
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
}

#[test]
fn the_task_of_a_killed_worker_is_taken_up_at_once_in_its_session() {
    let stage = stage_with(WORK, &["one", "two"]);
    stage.scene(1, "init; call 'long'; hang");
    let worker = stage.start(&[]);
    stage.wait_for("AUTOPILOT_PHASE=tool");
    assert_eq!(standings(&stage), [Standing::Claimed, Standing::Ready]);
    worker.send(Send::Kill);
    worker.wait();
    assert_code(&stage.run(&[]), 0);
    assert_eq!(stage.flag(2, "--resume"), stage.flag(1, "--session-id"));
    assert_eq!((standings(&stage), stage.calls()), (vec![Standing::Done; 2], 3));
    assert_eq!(stage.logs().iter().map(|log| ends(log)).collect::<Vec<_>>(), [["killed"], ["done"], ["done"]]);
}

#[test]
fn what_was_done_before_the_worker_died_is_not_done_again() {
    let stage = stage_with(WORK, &["one", "two"]);
    // It dies between the queue's word and its own.
    stage.scene(1, "init; call 'long'; hang");
    let worker = stage.start(&[]);
    stage.wait_for("AUTOPILOT_PHASE=tool");
    worker.send(Send::Kill);
    worker.wait();
    assert!(queue(&stage).complete_anyway(1, 5).unwrap());
    assert_code(&stage.run(&[]), 0);
    assert_eq!(stage.calls(), 2);
    assert_eq!(stage.flag(2, "-p").as_deref(), Some("Task #2: two"));
    assert_eq!(tasks(&stage)[0].done_ms, Some(5));
}

#[test]
fn a_terminated_worker_gives_its_task_back() {
    let stage = stage_with(WORK, &["one"]);
    stage.scene(1, "init; call 'long'; hang");
    let worker = stage.start(&[]);
    stage.wait_for("AUTOPILOT_PHASE=tool");
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
    assert_eq!(standings(&stage), [Standing::Ready]);
    assert_code(&stage.run(&[]), 0);
    assert_eq!(stage.flag(2, "--resume"), stage.flag(1, "--session-id"));
}

#[test]
fn a_task_that_needs_a_person_is_set_aside_with_the_reason_and_the_next_one_done() {
    let stage = stage_with(WORK, &["one", "two"]);
    stage.scene(1, "init; say 'AUTOPILOT: BLOCKED no key'; ok 'AUTOPILOT: BLOCKED no key'");
    assert_code(&stage.run(&[]), 16);
    assert_eq!(standings(&stage), [Standing::Blocked, Standing::Done]);
    assert_eq!(tasks(&stage)[0].reason.as_deref(), Some("no key"));
    assert_eq!(stage.logs().iter().map(|log| ends(log)).collect::<Vec<_>>(), [["needs-you:blocked"], ["done"]]);
}

#[test]
fn a_session_without_the_queues_tools_fails_loudly_and_the_task_stays() {
    let stage = stage_with(WORK, &["one"]);
    for (scene, status) in [
        ("init", "missing"),
        (
            "printf '{\"type\":\"system\",\"subtype\":\"init\",\"mcp_servers\":[{\"name\":\"autopilot\",\"status\":\"failed\"}]}\\n'",
            "failed",
        ),
    ] {
        stage.scene(0, &format!("{scene}; hang"));
        let ending = stage.run(&["mcp=/nonexistent/autopilot"]);
        assert_code(&ending, 13);
        let said = format!("error: the CLI does not get the queue's tools: MCP server autopilot: {status}\nhint: ");
        assert!(ending.stderr.contains(&said), "{}", ending.stderr);
        assert_eq!(standings(&stage), [Standing::Ready]);
    }
    assert_eq!(stage.calls(), 4, "three times, and once by the next worker, which knows of them");
    let config = stage.flag(1, "--mcp-config").unwrap();
    assert!(config.contains("\"--task\",\"1\"") && config.contains("queue.db"), "{config}");
}

/// Says that it is done, whatever is there.
const DONE: &str = "init; call x; returned x; done_";

#[test]
fn a_result_is_checked_in_a_clean_checkout_and_what_the_check_says_goes_back() {
    let stage = stage_with(DONE, &["one"]);
    // Ignored by git, so it is not in the checkout; the result is, though nobody has committed it.
    make_repository(&stage.cwd(), "accept = \"echo checking; test ! -e built && cat result\"\n");
    fs::write(stage.cwd().join(".gitignore"), "built\n").unwrap();
    fs::write(stage.cwd().join("built"), "").unwrap();
    stage.scene(2, "init; call x; echo fine > result; returned x; done_");
    assert_code(&stage.run(&[]), 0);
    assert_eq!((stage.calls(), standings(&stage)), (2, vec![Standing::Done]));
    let told = stage.argv(2).join("\n");
    assert!(told.contains("not accepted") && told.contains("\nchecking\ncat: result: "), "{told}");
    assert_eq!(stage.flag(2, "--resume"), stage.flag(1, "--session-id"));
    assert_eq!(git(&stage.cwd(), &["status", "--porcelain", "-uall", "result"]), "?? result", "the index is as it was");
    assert_eq!(git(&stage.cwd(), &["log", "--format=%s"]), "first");
    expect_no_checkout(&stage);
}

#[test]
fn after_so_many_attempts_a_person_looks_and_has_the_reason() {
    let stage = stage_with(DONE, &["one", "two"]);
    make_repository(&stage.cwd(), "accept = \"echo broken; false\"\nmax_attempts = 2\n");
    let ending = stage.run(&[]);
    assert_code(&ending, 16);
    for id in [1, 2] {
        let last_words =
            format!("error: task #{id} is set aside: 2 results were not accepted; the last: broken\nhint: ");
        assert!(ending.stderr.contains(&last_words), "{}", ending.stderr);
    }
    assert!(!ending.stderr.contains("the agent says"), "{}", ending.stderr);
    assert_eq!((stage.calls(), standings(&stage)), (4, vec![Standing::Blocked; 2]));
    let task = tasks(&stage).remove(0);
    assert_eq!(task.attempts, 2);
    assert_eq!(task.reason.as_deref(), Some("2 results were not accepted; the last:\nbroken"));
    expect_no_checkout(&stage);
}

#[test]
fn a_check_is_put_away_whoever_dies() {
    for whole_group in [false, true] {
        let stage = stage_with(DONE, &["one"]);
        let check =
            "accept = \"test -e $STANDIN/slow && { rm $STANDIN/slow; touch $STANDIN/checking; sleep 300; }; true\"\n";
        make_repository(&stage.cwd(), check);
        fs::write(stage.standin("slow"), "").unwrap();
        let worker = stage.start(&[]);
        stage.wait_for("checking the result");
        wait_for_file(&stage.standin("checking"));
        assert!(stage.project_file("checkout").exists());
        if whole_group {
            // Nobody is left who could put anything away.
            for pid in children(worker.pid()) {
                kill(pid);
            }
        }
        worker.send(Send::Kill);
        worker.wait();
        assert_code(&stage.run(&[]), 0);
        assert_eq!(standings(&stage), [Standing::Done]);
        expect_no_checkout(&stage);
    }
}

#[test]
fn a_worker_that_is_stopped_puts_its_check_away() {
    let stage = stage_with(DONE, &["one"]);
    make_repository(&stage.cwd(), "accept = \"touch $STANDIN/checking; sleep 300\"\n");
    let worker = stage.start(&[]);
    wait_for_file(&stage.standin("checking"));
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
    expect_no_checkout(&stage);
    assert_eq!(standings(&stage), [Standing::Ready]);
}

pub(crate) fn wait_for_file(path: &Path) {
    let deadline = os::clock::monotonic_ms() + crate::stage::PATIENCE_MS;
    while !path.exists() {
        assert!(os::clock::monotonic_ms() < deadline, "no {}", path.display());
        std::thread::yield_now();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn kill(pid: u32) {
    os::process::Pidfd::open_child(pid).unwrap().unwrap().send(Send::Kill).unwrap();
}

#[test]
fn each_task_has_a_branch_of_its_own_and_the_working_directory_is_as_before() {
    for (isolation, calls) in [("branch", 1), ("worktree", 1)] {
        let stage = stage_with("init; call x; echo done > made; returned x; done_", &["Make it"]);
        make_repository(&stage.cwd(), &format!("git = \"{isolation}\"\naccept = \"test -e made\"\n"));
        assert_code(&stage.run(&[]), 0);
        assert_eq!((stage.calls(), standings(&stage)), (calls, vec![Standing::Done]));
        assert_eq!(tasks(&stage)[0].branch.as_deref(), Some("autopilot/1-make-it"));
        assert_eq!(git(&stage.cwd(), &["branch", "--show-current"]), "main");
        assert!(!stage.cwd().join("made").exists(), "{isolation}: left for review");
        assert_eq!(git(&stage.cwd(), &["log", "--format=%s", "autopilot/1-make-it"]), "#1 Make it\nfirst");
        assert_eq!(git(&stage.cwd(), &["show", "autopilot/1-make-it:made"]), "done");
        let files = git(&stage.cwd(), &["ls-tree", "-r", "--name-only", "autopilot/1-make-it"]);
        assert!(!files.contains("docs/logs"), "{files}");
        expect_no_checkout(&stage);
    }
}

#[test]
fn an_accepted_branch_is_merged_if_that_is_wanted_and_possible() {
    let stage = stage_with("init; call x; echo $n > made; returned x; done_", &["one", "two"]);
    make_repository(&stage.cwd(), "git = \"worktree\"\nmerge = true\n");
    // Meanwhile somebody else makes the same file.
    stage.scene(
        2,
        "init; call x; echo mine > made; cd \"$STANDIN/../cwd\"; echo theirs > made; git add made; \
                    git -c user.name=t -c user.email=t@localhost commit -qm theirs; returned x; done_",
    );
    assert_code(&stage.run(&[]), 0);
    assert_eq!(standings(&stage), [Standing::Done; 2]);
    let branches: Vec<Option<String>> = tasks(&stage).into_iter().map(|task| task.branch).collect();
    assert_eq!(branches, [None, Some("autopilot/2-two".to_owned())]);
    assert_eq!(git(&stage.cwd(), &["log", "--format=%s"]), "theirs\n#1 one\nfirst");
    assert_eq!(fs::read_to_string(stage.cwd().join("made")).unwrap(), "theirs\n");
    assert!(stage.logs()[1].contains("cannot be merged into main without somebody"), "{}", stage.logs()[1]);
    expect_no_checkout(&stage);
}

#[test]
fn a_task_that_somebody_else_completes_is_left_alone() {
    let mut stage = stage_with(WORK, &["one"]);
    stage.supervised = true;
    stage.scene(1, "init; call 'long'; hang");
    let worker = stage.start(&[]);
    stage.wait_for("AUTOPILOT_PHASE=tool");
    queue(&stage).complete_anyway(1, 5).unwrap();
    stage.wait_for("AUTOPILOT_PHASE=idle");
    assert_eq!(stage.logs().iter().map(|log| ends(log)).collect::<Vec<_>>(), [["taken"]]);
    assert_eq!(tasks(&stage)[0].done_ms, Some(5));
    worker.send(Send::Term);
    assert_code(&worker.wait(), 143);
}

#[test]
fn what_somebody_has_not_committed_is_never_a_tasks() {
    let stage = stage_with(WORK, &["one"]);
    make_repository(&stage.cwd(), "git = \"branch\"\n");
    fs::write(stage.cwd().join("mine"), "mine").unwrap();
    fs::write(stage.cwd().join("autopilot.toml"), "git = \"branch\"\n# mine\n").unwrap();
    assert_code(&stage.run(&[]), 16);
    assert_eq!((standings(&stage), stage.calls()), (vec![Standing::Blocked], 0));
    let reason = "there is no place for its work: not committed: autopilot.toml, mine; commit or stash it, or set git = \"worktree\"";
    assert_eq!(tasks(&stage)[0].reason.as_deref(), Some(reason));
    assert_eq!(git(&stage.cwd(), &["branch", "--format=%(refname:short)"]), "main");
    assert_eq!(fs::read_to_string(stage.cwd().join("mine")).unwrap(), "mine");
    git(&stage.cwd(), &["add", "-A"]);
    git(&stage.cwd(), &["commit", "-q", "-m", "mine"]);
    assert!(queue(&stage).open_again(1, queue::Status::Blocked, 1).unwrap());
    assert_code(&stage.run(&[]), 0);
    assert_eq!(standings(&stage), [Standing::Done]);
}

#[test]
fn a_check_has_the_users_own_variables() {
    let mut stage = stage_with(WORK, &["one"]);
    make_repository(&stage.cwd(), "accept = \"env > $STANDIN/of-check\"\n");
    let own = ["BASE", "BRANCH", "MERGE", "MESSAGE", "REPO", "MAIN", "CHECKOUT", "WORKTREE", "ACCEPT"];
    stage.env.extend(own.map(|name| (name, format!("my {name}"))));
    assert_code(&stage.run(&[]), 0);
    let env = fs::read_to_string(stage.standin("of-check")).unwrap();
    for name in own {
        assert!(env.lines().any(|line| line == format!("{name}=my {name}")), "{name}: {env}");
    }
}
