//! Readers of `/proc`, proc(5). The root is an argument, so that tests can show them trees that never were.

use std::io;
use std::path::{Path, PathBuf};

use crate::process::Identity;

/// Where it is mounted.
#[must_use]
pub fn root() -> &'static Path {
    Path::new("/proc")
}

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The program's short name, at most 15 bytes, as the process set it.
    pub name: String,
    /// R, S, D, Z, T …
    pub state: char,
    /// Its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// User and system time, in clock ticks.
    pub cpu_ticks: u64,
    /// The same of its children that have ended and were reaped, and of theirs.
    pub reaped_cpu_ticks: u64,
    /// When it began, in clock ticks since boot.
    pub start_ticks: u64,
}

/// # Errors
/// As of read (the process is gone, or hidden), and `InvalidData` for what is no stat line.
pub fn stat(root: &Path, pid: u32) -> io::Result<Stat> {
    let bytes = std::fs::read(root.join(pid.to_string()).join("stat"))?;
    parse_stat(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a stat line"))
}

fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    // The name may contain anything, parentheses and spaces included: it ends at the last parenthesis.
    let open = bytes.iter().position(|&b| b == b'(')?;
    let close = bytes.iter().rposition(|&b| b == b')')?;
    let name = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first of them is field 3 of the manual's numbering.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let small = |field: usize| number(field).and_then(|n| u32::try_from(n).ok());
    Some(Stat {
        name,
        state: fields.first()?.chars().next()?,
        parent: small(4)?,
        group: small(5)?,
        session: small(6)?,
        cpu_ticks: number(14)?.saturating_add(number(15)?),
        reaped_cpu_ticks: number(16)?.saturating_add(number(17)?),
        start_ticks: number(22)?,
    })
}

/// The children of a process: of all its threads.
///
/// # Errors
/// As of read: the process is gone, or the kernel has no `children` files.
pub fn children(root: &Path, pid: u32) -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir(root.join(pid.to_string()).join("task"))? {
        let path = thread?.path().join("children");
        match std::fs::read_to_string(&path) {
            Ok(text) => children.extend(text.split_ascii_whitespace().filter_map(|n| n.parse::<u32>().ok())),
            // The thread ended in between; its children went to another one, or to their reaper.
            Err(error) if error.kind() == io::ErrorKind::NotFound && thread_is_gone(&path) => {}
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

fn thread_is_gone(children_file: &Path) -> bool {
    children_file.parent().is_none_or(|thread| !thread.exists())
}

/// All processes that can be seen.
///
/// # Errors
/// As of reading the folder.
pub fn pids(root: &Path) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir(root)? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// The processes below `pid`, parents before their children, each with its start time.
///
/// # Errors
/// If `pid` itself can't be read.
pub fn descendants(root: &Path, pid: u32) -> io::Result<Vec<(Identity, Stat)>> {
    let mut found = Vec::new();
    let mut open = match children(root, pid) {
        Ok(children) => children,
        Err(_) => return descendants_by_parent(root, pid),
    };
    while let Some(child) = open.pop() {
        let Ok(stat) = stat(root, child) else { continue };
        found.push((Identity { pid: child, start_ticks: stat.start_ticks }, stat));
        if let Ok(children) = children(root, child) {
            open.extend(children);
        }
    }
    Ok(found)
}

/// The same for kernels without `children` files: by everybody's parent.
fn descendants_by_parent(root: &Path, pid: u32) -> io::Result<Vec<(Identity, Stat)>> {
    let mut all: Vec<(Identity, Stat)> = Vec::new();
    for other in pids(root)? {
        if let Ok(stat) = stat(root, other) {
            all.push((Identity { pid: other, start_ticks: stat.start_ticks }, stat));
        }
    }
    let mut found: Vec<(Identity, Stat)> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for (identity, stat) in all.iter().filter(|(_, stat)| stat.parent == parent) {
            parents.push(identity.pid);
            found.push((*identity, stat.clone()));
        }
    }
    Ok(found)
}

/// The memory that a process has to itself and its part of what it shares (PSS), in bytes.
///
/// # Errors
/// As of read: the process is gone, or belongs to somebody else.
pub fn pss_bytes(root: &Path, pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(root.join(pid.to_string()).join("smaps_rollup"))?;
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("Pss:")?.trim().strip_suffix("kB").and_then(|n| n.trim().parse::<u64>().ok())
    });
    Ok(kib.unwrap_or(0).saturating_mul(1024))
}

/// Bytes that a process has read and written so far, through whatever: files, pipes, sockets (`rchar` and `wchar`).
///
/// # Errors
/// As of read: the process is gone, or belongs to somebody else.
pub fn io_bytes(root: &Path, pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(root.join(pid.to_string()).join("io"))?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Ok(field("rchar:").unwrap_or(0).saturating_add(field("wchar:").unwrap_or(0)))
}

/// The names that a process goes by besides its short one, which it may set to anything: those of its file and of its first argument,
/// without their folders.
#[must_use]
pub fn other_names(root: &Path, pid: u32) -> Vec<String> {
    let folder = root.join(pid.to_string());
    let file = std::fs::read_link(folder.join("exe"))
        .map(|path| path.into_os_string().into_encoded_bytes())
        .unwrap_or_default();
    let arguments = std::fs::read(folder.join("cmdline")).unwrap_or_default();
    // The kernel says it of a file that was replaced while it runs, as by an update.
    let file = file.strip_suffix(b" (deleted)").unwrap_or(&file);
    let first = arguments.split(|&b| b == 0).next().unwrap_or_default();
    let names = [file, first].map(|path| path.rsplit(|&b| b == b'/').next().unwrap_or_default());
    names.iter().filter(|name| !name.is_empty()).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// Those of the wanted files that a process has open for writing. proc_pid_fd(5) says what they are called, without links on the way.
///
/// # Errors
/// As of reading the folder: the process is gone, or belongs to somebody else.
pub fn written_files(root: &Path, pid: u32, wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
    let folder = root.join(pid.to_string());
    let mut found = Vec::new();
    for descriptor in std::fs::read_dir(folder.join("fd"))? {
        let descriptor = descriptor?;
        // It may be closed by now.
        let Ok(path) = std::fs::read_link(descriptor.path()) else { continue };
        if wanted(&path) && is_for_writing(&folder.join("fdinfo").join(descriptor.file_name())) {
            found.push(path);
        }
    }
    Ok(found)
}

/// proc_pid_fdinfo(5): the flags are octal, the access mode is in the lowest two bits, and 0 is `O_RDONLY`.
fn is_for_writing(info: &Path) -> bool {
    let text = std::fs::read_to_string(info).unwrap_or_default();
    let flags = text.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 0o3 != 0)
}

/// Where in the kernel a process waits; empty if it runs, or where the kernel does not tell.
#[must_use]
pub fn wait_channel(root: &Path, pid: u32) -> String {
    let text = std::fs::read_to_string(root.join(pid.to_string()).join("wchan")).unwrap_or_default();
    if text == "0" { String::new() } else { text }
}

/// How long a clock tick of [`Stat`] is.
#[must_use]
pub fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Whether the environment that the process was started with contains this entry (`NAME=value`).
///
/// # Errors
/// As of read: the process is gone, or belongs to somebody else.
pub fn was_started_with(root: &Path, pid: u32, entry: &[u8]) -> io::Result<bool> {
    let environment = std::fs::read(root.join(pid.to_string()).join("environ"))?;
    Ok(environment.split(|&b| b == 0).any(|variable| variable == entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line =
            b"42 (a) b (c) S 7 42 41 0 -1 4194560 1 2 3 4 10 5 3 4 20 0 1 0 98765 1000 20 18446744073709551615 1";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.name, "a) b (c");
        assert_eq!((stat.state, stat.parent, stat.group, stat.session), ('S', 7, 42, 41));
        assert_eq!((stat.cpu_ticks, stat.reaped_cpu_ticks, stat.start_ticks), (15, 7, 98765));
        assert_eq!(parse_stat(b"42 (x"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn both_ways_find_the_same_descendants() {
        let own = std::process::id();
        #[expect(clippy::disallowed_methods, reason = "a real child")]
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let of = |found: Vec<(Identity, Stat)>| found.iter().any(|(identity, _)| identity.pid == child.id());
        let (by_children, by_parent) = (descendants(root(), own), descendants_by_parent(root(), own));
        let found = (of(by_children.unwrap()), of(by_parent.unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, (true, true));
    }

    /// `process.title = 'next-server (v15)'` sets the short name and the arguments; newer Node calls its main thread `MainThread`.
    #[test]
    fn a_process_that_renamed_itself_is_known_by_its_file_or_its_first_argument() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("7");
        std::fs::create_dir(&folder).unwrap();
        assert!(other_names(root.path(), 7).is_empty());
        std::os::unix::fs::symlink("/opt/node/bin/node (deleted)", folder.join("exe")).unwrap();
        std::fs::write(folder.join("cmdline"), b"next-server (v15)\0\0\0").unwrap();
        assert_eq!(other_names(root.path(), 7), ["node", "next-server (v15)"]);
        std::fs::remove_file(folder.join("exe")).unwrap();
        std::fs::write(folder.join("cmdline"), b"/usr/bin/node\0server.js\0").unwrap();
        assert_eq!(other_names(root.path(), 7), ["node"]);
    }

    #[test]
    fn who_only_reads_a_file_does_not_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let paths = ["read", "appended", "both", "unwanted"].map(|name| folder.join(name));
        paths.iter().for_each(|path| std::fs::write(path, "").unwrap());
        let _read = std::fs::File::open(&paths[0]).unwrap();
        let _appended = std::fs::File::options().append(true).open(&paths[1]).unwrap();
        let _both = std::fs::File::options().read(true).write(true).open(&paths[2]).unwrap();
        let _unwanted = std::fs::File::create(&paths[3]).unwrap();
        let wanted = |path: &Path| path.starts_with(&folder) && !path.ends_with("unwanted");
        let mut found = written_files(root(), std::process::id(), wanted).unwrap();
        found.sort_unstable();
        assert_eq!(found, [paths[1].clone(), paths[2].clone()]);
    }

    #[test]
    fn own_memory_is_neither_nothing_nor_everything() {
        let pss = pss_bytes(root(), std::process::id()).unwrap();
        assert!((100_000..10_000_000_000).contains(&pss), "{pss}");
    }
}
