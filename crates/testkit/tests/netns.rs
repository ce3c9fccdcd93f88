//! Tests of the real CLI run where nothing can leave the machine.

use testkit::fake_api::{Answer, FakeApi, Script};
use testkit::{claude, netns};

#[test]
fn an_isolated_test_reaches_the_fake_api_and_nothing_else() {
    netns::isolated(|| {
        netns::assert_only_loopback();
        let api = FakeApi::start(Script::always(Answer::text("hello")));
        assert!(std::net::TcpStream::connect(("127.0.0.1", api.port())).is_ok());
        // A test address of RFC 5737: without a route the kernel refuses at once.
        let refused = std::net::TcpStream::connect(("192.0.2.1", 9)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::NetworkUnreachable);
    });
}

#[test]
fn an_isolated_test_that_fails_fails() {
    let fail = || netns::isolated(|| panic!("on purpose"));
    if netns::is_isolated() {
        fail();
    } else {
        let panic = std::panic::catch_unwind(fail).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(message.contains("failed in its network namespace"), "{message}");
    }
}

#[test]
fn the_pin_names_a_version() {
    let version = claude::version();
    assert_eq!(version.split('.').count(), 3, "{version}");
}
