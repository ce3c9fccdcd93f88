//! Where a task is worked on: which results it begins with, and in which folder.

use std::fs;

use queue::{Draft, Queue, Standing};

use super::{WORK, assert_code};
use crate::stage::Stage;
use crate::tasks::{expect_no_checkout, git, make_repository, queue, stage_with, standings, tasks};

fn needing(queue: &mut Queue, title: &str, needs: &[i64]) -> i64 {
    let draft = Draft { title: title.to_owned(), needs: needs.to_vec(), ..Draft::default() };
    queue.create_task(&draft, os::clock::wall_ms()).unwrap()
}

/// Makes a file of this name with this content.
fn making(name: &str, content: &str) -> String {
    format!("init; call x; echo {content} > {name}; returned x; done_")
}

fn files_of(stage: &Stage, branch: &str) -> Vec<String> {
    let files = git(&stage.cwd(), &["ls-tree", "-r", "--name-only", branch]);
    files.lines().filter(|name| *name != "autopilot.toml").map(str::to_owned).collect()
}

#[test]
fn a_task_begins_with_the_results_that_it_needs_though_they_are_left_for_review() {
    for isolation in ["branch", "worktree"] {
        let stage = stage_with(WORK, &["one", "two"]);
        needing(&mut queue(&stage), "both", &[1, 2]);
        needing(&mut queue(&stage), "last", &[3]);
        make_repository(&stage.cwd(), &format!("git = \"{isolation}\"\n"));
        stage.scene(1, &making("one", "1"));
        // Somebody works on, meanwhile.
        let commit =
            "git -C \"$STANDIN/../cwd\" -c user.name=t -c user.email=t@localhost commit -q --allow-empty -m more";
        let meanwhile = if isolation == "worktree" { commit } else { ":" };
        stage.scene(2, &format!("{meanwhile}; {}", making("two", "2")));
        stage.scene(3, &format!("test -e one && test -e two || exit 1; {}", making("three", "3")));
        stage.scene(4, &format!("test -e three || exit 1; {}", making("four", "4")));
        assert_code(&stage.run(&[]), 0);
        assert_eq!((standings(&stage), stage.calls()), (vec![Standing::Done; 4], 4), "{isolation}");
        assert_eq!(files_of(&stage, "autopilot/2-two"), ["two"], "nothing that it does not need");
        assert_eq!(files_of(&stage, "autopilot/4-last"), ["four", "one", "three", "two"]);
        assert!(files_of(&stage, "main").is_empty(), "left for review");
        expect_no_checkout(&stage);
    }
}

#[test]
fn results_that_do_not_go_together_are_a_persons() {
    let stage = stage_with(WORK, &["one", "two"]);
    needing(&mut queue(&stage), "both", &[1, 2]);
    make_repository(&stage.cwd(), "git = \"worktree\"\n");
    stage.scene(1, &making("same", "1"));
    stage.scene(2, &making("same", "2"));
    assert_code(&stage.run(&[]), 16);
    assert_eq!((standings(&stage)[2], stage.calls()), (Standing::Blocked, 2));
    let reason = tasks(&stage).remove(2).reason.unwrap();
    assert!(reason.contains("autopilot/2-two") && reason.contains("merge"), "{reason}");
    // A person merges them, and the branches go.
    git(&stage.cwd(), &["merge", "-q", "autopilot/1-one"]);
    git(&stage.cwd(), &["merge", "-q", "-X", "ours", "autopilot/2-two"]);
    git(&stage.cwd(), &["branch", "-q", "-d", "autopilot/1-one"]);
    queue(&stage).open_again(3, queue::Status::Blocked, 1).unwrap();
    assert_code(&stage.run(&[]), 0);
    assert_eq!((standings(&stage)[2], stage.calls()), (Standing::Done, 3));
    expect_no_checkout(&stage);
}

#[test]
fn without_a_branch_of_its_own_a_task_waits_for_the_merge() {
    let stage = stage_with(WORK, &["one"]);
    make_repository(&stage.cwd(), "git = \"worktree\"\n");
    stage.scene(1, &making("one", "1"));
    assert_code(&stage.run(&[]), 0);
    needing(&mut queue(&stage), "two", &[1]);
    fs::write(stage.cwd().join("autopilot.toml"), "git = \"off\"\n").unwrap();
    assert_code(&stage.run(&[]), 16);
    assert_eq!((standings(&stage)[1], stage.calls()), (Standing::Blocked, 1));
    let reason = tasks(&stage).remove(1).reason.unwrap();
    assert!(reason.contains("it needs autopilot/1-one, which is not merged"), "{reason}");
    git(&stage.cwd(), &["merge", "-q", "autopilot/1-one"]);
    queue(&stage).open_again(2, queue::Status::Blocked, 1).unwrap();
    assert_code(&stage.run(&[]), 0);
    assert_eq!((standings(&stage)[1], stage.calls()), (Standing::Done, 2));
}

#[test]
fn from_a_folder_below_a_task_is_worked_on_in_the_same_one() {
    for isolation in ["off", "branch", "worktree"] {
        let stage = stage_with(WORK, &["one"]);
        let below = stage.cwd().join("a/below");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("kept"), "").unwrap();
        make_repository(&stage.cwd(), &format!("git = \"{isolation}\"\naccept = \"test -e kept && test -e made\"\n"));
        stage.scene(0, &format!("pwd > $STANDIN/pwd; {}", making("made", "1")));
        assert_code(&stage.run(&[&format!("cwd={}", below.display())]), 0);
        assert_eq!((standings(&stage), stage.calls()), (vec![Standing::Done], 1), "{isolation}");
        let pwd = fs::read_to_string(stage.standin("pwd")).unwrap();
        assert!(pwd.ends_with("/a/below\n"), "{isolation}: {pwd}");
        if isolation != "off" {
            assert_eq!(files_of(&stage, "autopilot/1-one"), ["a/below/kept", "a/below/made"]);
        }
        expect_no_checkout(&stage);
    }
}

/// `script` is what the agent does beside its work.
fn done_with(isolation: &str, merge: bool, script: &str) -> Stage {
    let stage = stage_with(WORK, &["one"]);
    make_repository(&stage.cwd(), &format!("git = \"{isolation}\"\nmerge = {merge}\naccept = \"test -e made\"\n"));
    stage.scene(0, &format!("init; call x; {script}; returned x; done_"));
    assert_code(&stage.run(&[]), 0);
    assert_eq!(standings(&stage), [Standing::Done], "{isolation}");
    expect_no_checkout(&stage);
    stage
}

const AS_AGENT: &str = "git -c user.name=a -c user.email=a@localhost";

/// What was checked is what is delivered.
#[test]
fn an_agent_that_goes_to_a_branch_of_its_own_takes_the_task_along() {
    let script = format!("git checkout -q -b mine; echo 1 > made; git add made; {AS_AGENT} commit -q -m made");
    for isolation in ["branch", "worktree"] {
        let stage = done_with(isolation, false, &script);
        assert_eq!(files_of(&stage, "autopilot/1-one"), ["made"], "{isolation}");
        let stage = done_with(isolation, true, &script);
        assert_eq!(files_of(&stage, "main"), ["made"], "{isolation}");
        // From another place than where the task began.
        let script =
            format!("{AS_AGENT} commit -q --allow-empty -m task; {}", script.replace("-b mine", "-b mine HEAD~1"));
        let stage = done_with(isolation, true, &script);
        assert!(files_of(&stage, "main").is_empty());
        assert_eq!(files_of(&stage, "mine"), ["made"]);
        let log = stage.logs().remove(0);
        assert!(log.contains("the agent's work is on mine, which does not go on from autopilot/1-one"), "{log}");
        assert_eq!(git(&stage.cwd(), &["branch", "--show-current"]), "main");
    }
}

#[test]
fn an_agent_that_adds_everything_does_not_add_the_log_of_its_session() {
    let stage = done_with("branch", true, &format!("echo 1 > made; git add -A; {AS_AGENT} commit -q -m made"));
    assert_eq!(files_of(&stage, "main"), ["made"]);
    assert_eq!(git(&stage.cwd(), &["branch", "--format=%(refname:short)"]), "main");
    assert_eq!(git(&stage.cwd(), &["status", "--porcelain"]), "");
}

#[test]
fn from_a_commit_without_a_branch_it_goes_back_there() {
    let stage = stage_with(WORK, &["one", "two"]);
    make_repository(&stage.cwd(), "git = \"branch\"\n");
    git(&stage.cwd(), &["checkout", "-q", "--detach"]);
    stage.scene(1, &making("one", "1"));
    stage.scene(2, &making("two", "2"));
    assert_code(&stage.run(&[]), 0);
    assert_eq!(files_of(&stage, "autopilot/2-two"), ["two"], "nothing of another task");
    assert_eq!(git(&stage.cwd(), &["branch", "--show-current"]), "");
    assert_eq!(git(&stage.cwd(), &["rev-parse", "HEAD"]), git(&stage.cwd(), &["rev-parse", "main"]));
}

#[test]
fn a_branch_that_is_there_already_is_somebody_elses() {
    let stage = stage_with(WORK, &["one"]);
    make_repository(&stage.cwd(), "git = \"worktree\"\n");
    git(&stage.cwd(), &["branch", "autopilot/1-one"]);
    git(&stage.cwd(), &["commit", "-q", "--allow-empty", "-m", "later"]);
    stage.scene(1, &making("one", "1"));
    assert_code(&stage.run(&[]), 0);
    assert_eq!(tasks(&stage)[0].branch.as_deref(), Some("autopilot/1-one-2"));
    assert_eq!(files_of(&stage, "autopilot/1-one-2"), ["one"]);
    assert!(files_of(&stage, "autopilot/1-one").is_empty());
    // But a task goes on where its own work was left.
    assert!(queue(&stage).open_again(1, queue::Status::Done, 1).unwrap());
    stage.scene(2, &making("more", "2"));
    assert_code(&stage.run(&[]), 0);
    assert_eq!(files_of(&stage, "autopilot/1-one-2"), ["more", "one"]);
}

#[test]
fn a_folder_that_a_worktree_would_not_have_is_named() {
    let stage = stage_with(WORK, &["one"]);
    make_repository(&stage.cwd(), "git = \"worktree\"\n");
    fs::create_dir(stage.cwd().join("new")).unwrap();
    assert_code(&stage.run(&[&format!("cwd={}", stage.cwd().join("new").display())]), 16);
    assert_eq!((standings(&stage), stage.calls()), (vec![Standing::Blocked], 0));
    let reason = tasks(&stage).remove(0).reason.unwrap();
    assert!(reason.contains("the folder new is not in autopilot/1-one"), "{reason}");
    expect_no_checkout(&stage);
}
