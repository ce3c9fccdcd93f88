//! How much memory could still be had: of the machine, or of the container where that is tighter.

use std::io;
use std::path::{Path, PathBuf};

use policy::supervisor::MemoryReading;

/// The tighter of `/proc/meminfo` and the memory cgroups that this process is in, up to the root. Inside a container of
/// 200 MB, `MemAvailable` alone read 23.7 GB.
///
/// # Errors
/// As of reading `/proc/meminfo`; cgroup files that aren't there are no limit.
pub fn reading(proc_root: &Path, cgroup_root: &Path) -> io::Result<MemoryReading> {
    let machine = machine(&std::fs::read_to_string(proc_root.join("meminfo"))?);
    let groups = std::fs::read_to_string(proc_root.join("self/cgroup")).unwrap_or_default();
    let tightest = limits(cgroup_root, &groups, machine.total_bytes).into_iter().fold(machine, |tightest, limit| {
        if limit.total_bytes < machine.total_bytes && limit.available_bytes < tightest.available_bytes {
            limit
        } else {
            tightest
        }
    });
    Ok(MemoryReading { pressure_percent: pressure(proc_root), ..tightest })
}

/// `some avg10` of `/proc/pressure/memory`; 0 where the kernel does not tell. kernel: Documentation/accounting/psi.rst
fn pressure(proc_root: &Path) -> u8 {
    let text = std::fs::read_to_string(proc_root.join("pressure/memory")).unwrap_or_default();
    let average =
        text.lines().find_map(|line| line.strip_prefix("some ")?.split(' ').find_map(|f| f.strip_prefix("avg10=")));
    average.and_then(|average| average.split('.').next()?.parse().ok()).unwrap_or(0)
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

/// One reading for each ancestor cgroup that has a limit.
fn limits(cgroup_root: &Path, groups: &str, machine_bytes: u64) -> Vec<MemoryReading> {
    let mut readings = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if controllers.split(',').any(|c| c == "memory") {
            climb(&cgroup_root.join("memory"), path, &V1, machine_bytes, &mut readings);
        } else if hierarchy == "0" {
            climb(cgroup_root, path, &V2, machine_bytes, &mut readings);
            climb(&cgroup_root.join("unified"), path, &V2, machine_bytes, &mut readings);
        }
    }
    readings
}

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

fn climb(mount: &Path, path: &str, names: &Names, machine_bytes: u64, readings: &mut Vec<MemoryReading>) {
    let mut folder: PathBuf = mount.join(path.trim_start_matches('/'));
    loop {
        if let Some(reading) = group(&folder, names, machine_bytes) {
            readings.push(reading);
        }
        if folder == mount || !folder.pop() || !folder.starts_with(mount) {
            return;
        }
    }
}

/// Limit minus working set, the working set being usage without the page cache that can go at once.
fn group(folder: &Path, names: &Names, machine_bytes: u64) -> Option<MemoryReading> {
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    // Most groups have no limit, and the kernel adds up their statistics only to be read in vain.
    let total_bytes = number(names.limit).filter(|&limit| limit < machine_bytes)?;
    let usage = number(names.usage)?;
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let inactive =
        stat.lines().find_map(|line| line.strip_prefix(names.inactive)?.trim().parse::<u64>().ok()).unwrap_or(0);
    let working_set = usage.saturating_sub(inactive);
    let available_bytes = total_bytes.saturating_sub(working_set);
    Some(MemoryReading { available_bytes, total_bytes, pressure_percent: 0 })
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

    fn read(folder: &tempfile::TempDir) -> (u64, u64) {
        let reading = reading(&folder.path().join("proc"), &folder.path().join("cgroup")).unwrap();
        (reading.available_bytes / 1024, reading.total_bytes / 1024)
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
