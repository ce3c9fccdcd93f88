//! Runs tests where nothing can leave the machine: in a network namespace that has only a loopback interface.
//!
//! A namespace is entered by the whole process: the test starts itself once more under `unshare` (util-linux), as root
//! with `--net`, else inside a user namespace of its own, and reports what that second process says. Whoever starts the
//! real CLI asks [`assert_only_loopback`] first.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::processes;

/// Set for the second process; holds the path of the file by which it proves that the test ran.
const PROOF_VARIABLE: &str = "TESTKIT_NETNS_PROOF";
/// No test of one session takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(180);

/// Runs the body of a test in a network namespace that has only loopback.
///
/// To be called first thing in a `#[test]` function, with a closure written there: the test's name is the closure's.
///
/// # Panics
/// When the body panics, when it takes longer than three minutes, and when this machine allows no namespace.
pub fn isolated<Body: FnOnce()>(body: Body) {
    match std::env::var_os(PROOF_VARIABLE) {
        Some(proof) => {
            raise();
            File::create(proof).expect("note that the test was found");
            body();
        }
        None => run_again_in_namespace(&test_name::<Body>()),
    }
}

/// The start of a command line that runs a program in such a namespace; the program is to call [`raise`] first.
///
/// # Panics
/// When this machine allows no namespace.
pub fn command() -> Command {
    namespace_command()
}

/// In the namespace: makes loopback usable.
///
/// # Panics
/// Outside of one, and when that can't be done.
pub fn raise() {
    assert_only_loopback();
    raise_loopback().expect("raise the loopback interface");
}

/// Whether this process is the second one, inside of the namespace.
pub fn is_isolated() -> bool {
    std::env::var_os(PROOF_VARIABLE).is_some()
}

/// Refuses to go on where another network than loopback can be reached.
///
/// # Panics
/// When this process sees any network interface but `lo`.
pub fn assert_only_loopback() {
    let foreign = interfaces().expect("read /proc/thread-self/net/dev").into_iter().find(|name| name != "lo");
    if let Some(name) = foreign {
        panic!(
            "network interface {name:?} is within reach: the real CLI only runs where there is nothing but loopback. \
             Wrap the test's body in testkit::netns::isolated(|| …)."
        );
    }
}

fn interfaces() -> io::Result<Vec<String>> {
    // Two lines of headings, then `  name: counters`. /sys/class/net would show the namespace of whoever mounted it.
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    Ok(table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect())
}

/// `ip link set lo up`, as one netlink message: rtnetlink(7), RTM_NEWLINK with an `ifinfomsg`.
fn raise_loopback() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const NLMSG_ERROR: u16 = 2;
    const LOOPBACK_INDEX: i32 = 1;
    const IFF_UP: u32 = 1;

    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes()); // sequence
    message.extend(0_u32.to_ne_bytes()); // port: the kernel's
    message.extend([0; 4]); // family unspecified, padding, device type
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes()); // flags
    message.extend(IFF_UP.to_ne_bytes()); // which of them to change

    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0_u8; 256];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    if length < 20 || kind != NLMSG_ERROR {
        return Err(io::Error::other(format!("a netlink answer of kind {kind}, {length} bytes")));
    }
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}

/// `file::module::the_test::{{closure}}` without what is around the test's name.
fn test_name<Body>() -> String {
    let path = std::any::type_name::<Body>();
    let path = path.split("::{{closure}}").next().unwrap_or(path);
    path.split_once("::").map_or(path, |(_, name)| name).to_owned()
}

fn run_again_in_namespace(test_name: &str) {
    let folder = tempfile::tempdir().expect("make a temporary folder");
    let (proof, output) = (folder.path().join("proof"), folder.path().join("output"));
    let id = processes::new_id();
    let said = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();

    let status = run_with_deadline(
        namespace_command()
            .arg(std::env::current_exe().expect("this test's own path"))
            .args([test_name, "--exact", "--nocapture", "--test-threads=1"])
            .env(PROOF_VARIABLE, &proof)
            .env(processes::SCOPE_VARIABLE, &id),
        &output,
    );
    let left = processes::end_all(&id, Duration::from_secs(10));
    let ended_well = matches!(&status, Some(status) if status.success());
    if !ended_well {
        // Indented, so that nobody who counts result lines counts this one.
        said(&output).lines().for_each(|line| eprintln!("  | {line}"));
    }
    assert!(left.is_empty(), "processes that cannot be ended: {left:?}");
    match status {
        None => panic!("{test_name} was not done after {DEADLINE:?}, in its network namespace"),
        Some(status) => assert!(status.success(), "{test_name} failed in its network namespace ({status}), see above"),
    }
    assert!(proof.exists(), "{test_name} was not found by its name: isolated() belongs into the test itself");
}

/// `None` when the deadline was reached and the process killed.
fn run_with_deadline(command: &mut Command, output: &PathBuf) -> Option<std::process::ExitStatus> {
    let file = File::create(output).expect("make a file for the output");
    let second = file.try_clone().expect("share the file for the output");
    let mut child = command.stdin(Stdio::null()).stdout(file).stderr(second).spawn().expect("start unshare");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("open a pidfd");
    let in_time = processes::wait_for_exit(&pidfd, DEADLINE);
    if !in_time {
        pidfd_send_signal(&pidfd, Signal::KILL).expect("kill our own child");
    }
    let status = child.wait().expect("wait for our own child");
    in_time.then_some(status)
}

/// `unshare` with the flags that work for this user on this machine.
fn namespace_command() -> Command {
    let ways: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    let mut reasons = String::new();
    for flags in ways {
        match Command::new("unshare").args(flags).arg("true").output() {
            Ok(output) if output.status.success() => {
                let mut command = Command::new("unshare");
                command.args(flags).arg("--");
                return command;
            }
            Ok(output) => reasons.push_str(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => reasons.push_str(&format!("unshare: {error}\n")),
        }
    }
    panic!(
        "no network namespace to be had on this machine:\n{reasons}\
         Tests of the real CLI need one, so that nothing can leave the machine. It takes util-linux and either root \
         with CAP_SYS_ADMIN (docker run --privileged) or user namespaces (sysctl user.max_user_namespaces)."
    );
}
