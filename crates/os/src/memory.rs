//! How much memory could still be had: of the machine, or of the container where that is tighter.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use policy::supervisor::MemoryReading;

/// How long this process is taken to stay in its control groups, and those without a limit to have none, in ms.
const GROUPS_STAY_MS: u64 = 60_000;

/// The tighter of `/proc/meminfo` and the memory cgroups that this process is in, up to the root. Inside a container of
/// 200 MB, `MemAvailable` alone read 23.7 GB.
///
/// It is read many times: the files stay open, and groups without a limit are not read.
#[derive(Debug)]
pub struct Gauge {
    proc_root: PathBuf,
    cgroup_root: PathBuf,
    meminfo: Option<File>,
    pressure: Option<File>,
    groups: Vec<Group>,
    groups_due_ms: u64,
}

impl Gauge {
    #[must_use]
    pub fn new(proc_root: &Path, cgroup_root: &Path) -> Self {
        Self {
            proc_root: proc_root.to_owned(),
            cgroup_root: cgroup_root.to_owned(),
            meminfo: None,
            pressure: File::open(proc_root.join("pressure/memory")).ok(),
            groups: Vec::new(),
            groups_due_ms: 0,
        }
    }

    /// # Errors
    /// As of reading `/proc/meminfo`; cgroup files that aren't there are no limit.
    pub fn read(&mut self, now_ms: u64) -> io::Result<MemoryReading> {
        if self.meminfo.is_none() {
            self.meminfo = Some(File::open(self.proc_root.join("meminfo"))?);
        }
        let machine = machine(&text_of(self.meminfo.as_ref())?);
        if now_ms >= self.groups_due_ms {
            let groups = std::fs::read_to_string(self.proc_root.join("self/cgroup")).unwrap_or_default();
            self.groups = groups_of(&self.cgroup_root, &groups);
            self.groups.retain(|group| group.limit(machine.total_bytes).is_some());
            self.groups_due_ms = now_ms.saturating_add(GROUPS_STAY_MS);
        }
        let readings = self.groups.iter().filter_map(|group| group.read(machine.total_bytes));
        let tightest =
            readings.fold(
                machine,
                |tightest, reading| {
                    if reading.available_bytes < tightest.available_bytes { reading } else { tightest }
                },
            );
        Ok(MemoryReading { pressure_percent: self.pressure_percent(), ..tightest })
    }

    /// `some avg10` of `/proc/pressure/memory`; 0 where the kernel does not tell.
    /// kernel: Documentation/accounting/psi.rst
    fn pressure_percent(&self) -> u8 {
        let text = text_of(self.pressure.as_ref()).unwrap_or_default();
        let average =
            text.lines().find_map(|line| line.strip_prefix("some ")?.split(' ').find_map(|f| f.strip_prefix("avg10=")));
        average.and_then(|average| average.split('.').next()?.parse().ok()).unwrap_or(0)
    }
}

/// The kernel writes its files anew for each reading from their beginning, and all of such a small one at once: what does
/// not fill the buffer is whole (fs/seq_file.c), and asking for its end would double the calls.
fn text_of(file: Option<&File>) -> io::Result<String> {
    let Some(file) = file else { return Ok(String::new()) };
    let mut bytes = [0_u8; 8192];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        let wanted = room.len();
        let count = file.read_at(room, filled as u64)?;
        filled += count;
        if count == 0 || (count < wanted && bytes[filled - 1] == b'\n') {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes[..filled]).into_owned())
}

/// Where the control groups are mounted.
#[must_use]
pub fn cgroup_root() -> &'static Path {
    Path::new("/sys/fs/cgroup")
}

/// How many processes the kernel has killed for want of memory: in the memory cgroup that this process is in, or on the
/// whole machine where that does not tell. `None`: unknown.
#[must_use]
pub fn oom_kills(proc_root: &Path, cgroup_root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(proc_root.join("self/cgroup")).unwrap_or_default();
    let count = |text: &str| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok());
    let of_group = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?.trim_start_matches('/'));
        let file = if controllers.split(',').any(|c| c == "memory") {
            cgroup_root.join("memory").join(path).join("memory.oom_control")
        } else if hierarchy == "0" {
            cgroup_root.join(path).join("memory.events")
        } else {
            return None;
        };
        count(&std::fs::read_to_string(file).ok()?)
    });
    of_group.or_else(|| count(&std::fs::read_to_string(proc_root.join("vmstat")).ok()?))
}

fn machine(meminfo: &str) -> MemoryReading {
    let field = |name: &str| {
        meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
            .map(|kib| kib.saturating_mul(1024))
    };
    let total_bytes = field("MemTotal:").unwrap_or(0);
    let available_bytes = field("MemAvailable:").or_else(|| field("MemFree:")).unwrap_or(0);
    MemoryReading { available_bytes: available_bytes.min(total_bytes), total_bytes, pressure_percent: 0 }
}

/// A cgroup that can have a limit.
#[derive(Debug)]
struct Group {
    folder: PathBuf,
    names: &'static Names,
    limit: File,
}

/// Of this process, and the ancestors of those.
fn groups_of(cgroup_root: &Path, groups: &str) -> Vec<Group> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if controllers.split(',').any(|c| c == "memory") {
            climb(&cgroup_root.join("memory"), path, &V1, &mut found);
        } else if hierarchy == "0" {
            climb(cgroup_root, path, &V2, &mut found);
            climb(&cgroup_root.join("unified"), path, &V2, &mut found);
        }
    }
    found
}

#[derive(Debug)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    inactive: &'static str,
}

/// kernel: Documentation/admin-guide/cgroup-v1/memory.rst
const V1: Names =
    Names { limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", inactive: "total_inactive_file" };
/// kernel: Documentation/admin-guide/cgroup-v2.rst
const V2: Names = Names { limit: "memory.max", usage: "memory.current", inactive: "inactive_file" };

fn climb(mount: &Path, path: &str, names: &'static Names, found: &mut Vec<Group>) {
    let mut folder: PathBuf = mount.join(path.trim_start_matches('/'));
    loop {
        let limit = File::open(folder.join(names.limit)).ok();
        found.extend(limit.map(|limit| Group { folder: folder.clone(), names, limit }));
        if folder == mount || !folder.pop() || !folder.starts_with(mount) {
            return;
        }
    }
}

fn number(folder: &Path, name: &str) -> Option<u64> {
    std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
}

impl Group {
    /// None that is below what the machine has.
    fn limit(&self, machine_bytes: u64) -> Option<u64> {
        let limit = text_of(Some(&self.limit)).ok()?;
        limit.trim().parse().ok().filter(|&limit_bytes| limit_bytes < machine_bytes)
    }

    /// Limit minus working set, the working set being usage without the page cache that can go at once.
    fn read(&self, machine_bytes: u64) -> Option<MemoryReading> {
        let total_bytes = self.limit(machine_bytes)?;
        let usage = number(&self.folder, self.names.usage)?;
        let stat = std::fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let inactive = stat.lines().find_map(|line| line.strip_prefix(self.names.inactive)?.trim().parse::<u64>().ok());
        let working_set = usage.saturating_sub(inactive.unwrap_or(0));
        let available_bytes = u64::saturating_sub(total_bytes, working_set);
        Some(MemoryReading { available_bytes, total_bytes, pressure_percent: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal: 16000 kB\nMemFree: 1000 kB\nMemAvailable: 9000 kB\n";

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn gauge(folder: &tempfile::TempDir) -> Gauge {
        Gauge::new(&folder.path().join("proc"), &folder.path().join("cgroup"))
    }

    fn kib(reading: MemoryReading) -> (u64, u64) {
        (reading.available_bytes / 1024, reading.total_bytes / 1024)
    }

    fn read(folder: &tempfile::TempDir) -> (u64, u64) {
        kib(gauge(folder).read(0).unwrap())
    }

    #[test]
    fn limits_and_usage_are_read_each_time_and_groups_within_a_minute() {
        let folder = tree(&[
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/pressure/memory", "some avg10=12.34 avg60=0.00 avg300=0.00 total=1\n"),
            ("cgroup/a/memory.max", "4096000\n"),
            ("cgroup/a/memory.current", "1024000\n"),
        ]);
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let mut gauge = gauge(&folder);
        let first = gauge.read(5).unwrap();
        assert_eq!((kib(first), first.pressure_percent), ((3000, 4000), 12));
        write("cgroup/a/memory.current", "2048000\n");
        write("cgroup/a/memory.max", "3072000\n");
        write("proc/meminfo", "MemTotal: 16000 kB\nMemAvailable: 500 kB\n");
        assert_eq!(kib(gauge.read(6).unwrap()), (500, 16000));
        write("proc/meminfo", MEMINFO);
        assert_eq!(kib(gauge.read(7).unwrap()), (1000, 3000));
        write("cgroup/memory.max", "2048000\n");
        write("proc/self/cgroup", "0::/\n");
        assert_eq!(kib(gauge.read(8).unwrap()), (1000, 3000));
        write("cgroup/memory.max", "max\n");
        assert_eq!(kib(gauge.read(5 + GROUPS_STAY_MS).unwrap()), (9000, 16000));
        write("cgroup/memory.max", "2048000\n");
        write("cgroup/memory.current", "1024000\n");
        assert_eq!(kib(gauge.read(6 + GROUPS_STAY_MS).unwrap()), (9000, 16000), "it had no limit");
        assert_eq!(kib(gauge.read(6 + 2 * GROUPS_STAY_MS).unwrap()), (1000, 2000));
    }

    #[test]
    fn without_cgroups_it_is_the_machine() {
        assert_eq!(read(&tree(&[("proc/meminfo", MEMINFO)])), (9000, 16000));
    }

    #[test]
    fn the_tightest_ancestor_counts() {
        let folder = tree(&[
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/a/b\n"),
            ("cgroup/a/memory.max", "4096000\n"),
            ("cgroup/a/memory.current", "2048000\n"),
            ("cgroup/a/memory.stat", "anon 1\ninactive_file 1024000\n"),
            ("cgroup/a/b/memory.max", "max\n"),
            ("cgroup/a/b/memory.current", "1\n"),
        ]);
        assert_eq!(read(&folder), (3000, 4000));
    }

    #[test]
    fn oom_kills_are_those_of_the_own_group_if_it_tells() {
        let vmstat = ("proc/vmstat", "pgfault 1\noom_kill 7\n");
        let kills = |folder: &tempfile::TempDir| oom_kills(&folder.path().join("proc"), &folder.path().join("cgroup"));
        assert_eq!(kills(&tree(&[vmstat])), Some(7));
        let v1 = tree(&[
            vmstat,
            ("proc/self/cgroup", "4:memory:/jail\n0::/\n"),
            ("cgroup/memory/jail/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ]);
        assert_eq!(kills(&v1), Some(2));
        let v2 = tree(&[
            vmstat,
            ("proc/self/cgroup", "0::/jail\n"),
            ("cgroup/jail/memory.events", "max 3\noom 1\noom_kill 4\n"),
        ]);
        assert_eq!(kills(&v2), Some(4));
        assert_eq!(kills(&tree(&[("proc/self/cgroup", "0::/\n")])), None);
    }

    #[test]
    fn version_1_has_other_names_and_an_unlimited_number() {
        let folder = tree(&[
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "4:memory:/jail\n0::/\n"),
            ("cgroup/memory/jail/memory.limit_in_bytes", "2048000\n"),
            ("cgroup/memory/jail/memory.usage_in_bytes", "1024000\n"),
            ("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cgroup/memory/memory.usage_in_bytes", "5\n"),
        ]);
        assert_eq!(read(&folder), (1000, 2000));
    }
}
