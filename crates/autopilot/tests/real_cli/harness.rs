//! The CLI alone, without any of ours: what the other tests stand on.

use testkit::fake_api::{Answer, FakeApi, Gate, Script};
use testkit::netns::isolated;
use testkit::{claude, home};

use crate::job::{DEADLINE, wait_for_mid_turn};

#[test]
fn the_real_cli_edits_a_file_through_the_fake_api() {
    isolated(|| {
        let mut home = home!();
        let file = home.repository().join("hello.txt");
        let api = FakeApi::start(Script::steps([Answer::write_file(&file, "hello\n"), Answer::text("Written.")]));
        home.use_real_claude(&api);

        let mut command = home.command(claude::binary());
        command.args(["-p", "say hello", "--output-format", "stream-json", "--verbose", "--model", "sonnet"]);
        command.arg("--dangerously-skip-permissions");
        let output = home.start("claude", command).into_output(DEADLINE);

        assert!(output.status.success(), "{output:?}");
        assert_eq!(home.read("hello.txt"), "hello\n");
        assert_eq!(api.agent_requests().len(), 2);
        home.wait_until_nothing_runs(DEADLINE);
    });
}

/// The harness notices what a killed CLI leaves behind, and the session can be resumed.
#[test]
fn the_real_cli_killed_in_mid_turn_resumes_its_session() {
    isolated(|| {
        let mut home = home!();
        let gate = Gate::closed();
        let call = Answer::bash("echo once >> once.txt");
        let mut api = FakeApi::start(Script::steps([call.clone(), Answer::text("Done.").held_by(&gate)]));
        home.use_real_claude(&api);
        let session = "0b6a2e0e-5d0e-4a51-9c7b-6d5f2c1a9e10";
        let start = |args: &[&str]| {
            let mut command = home.command(claude::binary());
            command.args(["-p", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"]);
            command.args(args);
            home.start("claude", command)
        };

        let mut first = start(&["--session-id", session, "do it"]);
        wait_for_mid_turn(&home, &gate);
        first.kill();
        home.wait_until_nothing_runs(DEADLINE);
        api.set_script(Script::steps([call, Answer::text("Done.")]));
        let second = start(&["--resume", session, "continue"]).into_output(DEADLINE);

        assert!(second.status.success(), "{second:?}");
        assert_eq!(home.read("once.txt"), "once\n");
        assert!(api.agent_requests().iter().all(|request| request.session_id() == Some(session)));
    });
}
