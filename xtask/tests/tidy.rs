//! The repository's own rules, as tests. A rule that is broken names the file and the line.
#![expect(clippy::disallowed_methods, reason = "cargo is asked about the packages")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file that is longer has more than one subject.
const LONGEST_FILE_LINES: usize = 600;

fn workspace() -> PathBuf {
    testkit::binaries::workspace()
}

/// Every text file of the repository, by its path from the root.
fn files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut to_visit = vec![workspace()];
    while let Some(folder) = to_visit.pop() {
        for entry in fs::read_dir(&folder).expect("read a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            // In a worktree .git is a file.
            if name == ".git" {
                continue;
            }
            if entry.file_type().expect("a file's type").is_dir() {
                if name != "target" && name != "node_modules" {
                    to_visit.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((relative(&path), text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 20, "found only {} files: the rules would hold by accident", found.len());
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace()).expect("a path in the workspace").to_string_lossy().into_owned()
}

fn rust_files() -> Vec<(String, String)> {
    files().into_iter().filter(|(path, _)| path.ends_with(".rs")).collect()
}

/// Checks a rule line by line; the rule says what is wrong.
fn check_lines(files: &[(String, String)], rule: impl Fn(&str, &str) -> Option<String>) {
    let mut broken = Vec::new();
    for (path, text) in files {
        for (index, line) in text.lines().enumerate() {
            broken.extend(rule(path, line).map(|what| format!("{path}:{}: {what}", index + 1)));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The line without its comment, roughly: good enough for words that no string of ours contains.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|candidate| candidate == word)
}

#[test]
fn files_have_one_subject_each() {
    let too_long: Vec<String> = rust_files()
        .iter()
        .filter(|(_, text)| text.lines().count() > LONGEST_FILE_LINES)
        .map(|(path, text)| format!("{path} has {} lines; at most {LONGEST_FILE_LINES}", text.lines().count()))
        .collect();
    assert!(too_long.is_empty(), "\n{}", too_long.join("\n"));
}

#[test]
fn unsafe_code_is_in_os_only() {
    let word = ["un", "safe"].concat();
    check_lines(&rust_files(), |path, line| {
        let broken = !path.starts_with("crates/os/") && has_word(code(line), &word);
        broken.then(|| format!("{word} outside of crates/os"))
    });
}

#[test]
fn nothing_is_left_to_be_done() {
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat(), ["HA", "CK"].concat()];
    check_lines(&rust_files(), |_, line| {
        words.iter().find(|word| has_word(line, word)).map(|word| format!("{word}: do it, or open an issue"))
    });
}

#[test]
fn no_test_is_ignored_and_no_lint_allowed() {
    let (ignore, allow) = (["#[ig", "nore"].concat(), ["[al", "low("].concat());
    check_lines(&rust_files(), |path, line| {
        if line.contains(&ignore) {
            return Some("a test that does not run tests nothing".to_owned());
        }
        // What several test programs share is not used in full by each: there, no expectation holds everywhere.
        let is_shared = path.contains("/tests/shared/") && line.contains("reason = ");
        (line.contains(&allow) && !is_shared)
            .then(|| "#[expect(…, reason = \"…\")] notices when it is no longer needed".to_owned())
    });
}

#[test]
fn no_machine_is_named() {
    let homes = [["/ro", "ot/"].concat(), ["/wo", "rk/"].concat(), ["/Us", "ers/"].concat()];
    let people = ["/home/user", "/home/ada", "/home/you", "/home/*", "/home/…"];
    let home = ["/ho", "me/"].concat();
    check_lines(&files(), |path, line| {
        if path.starts_with("LICENSE") || path == "xtask/tests/tidy.rs" {
            return None;
        }
        if let Some(named) = homes.iter().find(|named| line.contains(named.as_str())) {
            return Some(format!("{named}… is a path of one machine"));
        }
        let foreign = line.match_indices(&home).any(|(at, _)| {
            let rest = &line[at..];
            let own = line[..at].ends_with(|letter: char| letter.is_alphanumeric() || "-_.>}~".contains(letter));
            !own && !people.iter().any(|known| rest.starts_with(known))
        });
        foreign.then(|| "a home of one machine; the example user is ada".to_owned())
    });
}

#[test]
fn npm_packages_are_locked_by_content_and_not_by_registry() {
    let lock = fs::read_to_string(workspace().join("xtask/claude-code/package-lock.json")).expect("read the lock file");
    let lock: Value = serde_json::from_str(&lock).expect("the lock file is JSON");
    for (name, package) in lock["packages"].as_object().expect("packages").iter().filter(|(name, _)| !name.is_empty()) {
        assert!(package["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-")), "{name} has no hash");
        assert!(package["resolved"].is_null(), "{name} names a registry");
    }
}

/// Who may use whom, tests aside. `policy` and `wire` use nobody, `daemon` and `worker` never each other.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("policy", &[] as &[&str]),
        ("wire", &[]),
        ("os", &["policy"]),
        ("daemon", &["policy", "wire", "os"]),
        ("queue", &["policy", "os"]),
        ("mcp", &["os", "queue", "wire"]),
        ("worker", &["policy", "wire", "os", "queue"]),
        ("autopilot", &["policy", "wire", "os", "daemon", "mcp", "queue", "worker"]),
        ("testkit", &["policy", "wire", "os"]),
        ("xtask", &["testkit", "policy", "wire", "os", "daemon", "worker", "autopilot"]),
    ])
}

/// Name, and dependencies that are no dev-dependencies, of each package.
fn packages() -> Vec<(String, BTreeSet<String>)> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(workspace())
        .output()
        .expect("run cargo metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |value: &Value| value.as_str().expect("a name").to_owned();
    let dependencies = |package: &Value| {
        let all = package["dependencies"].as_array().expect("dependencies");
        all.iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .map(|dependency| text(&dependency["name"]))
            .collect()
    };
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(|package| (text(&package["name"]), dependencies(package))).collect()
}

#[test]
fn dependencies_point_one_way() {
    let allowed = allowed();
    let packages = packages();
    let ours: BTreeSet<&str> = packages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(ours, allowed.keys().copied().collect(), "a package without a rule, or a rule without a package");
    for (name, dependencies) in &packages {
        for dependency in dependencies.iter().filter(|dependency| ours.contains(dependency.as_str())) {
            assert!(allowed[name.as_str()].contains(&dependency.as_str()), "{name} may not use {dependency}");
        }
    }
}

#[test]
fn policy_depends_on_nothing_and_wire_on_serde_only() {
    let packages: BTreeMap<_, _> = packages().into_iter().collect();
    assert_eq!(packages["policy"], BTreeSet::new());
    assert_eq!(packages["wire"], BTreeSet::from(["serde", "serde_json"].map(str::to_owned)));
}

#[test]
fn the_kernel_is_spoken_to_in_os_only() {
    // The tests' own eyes are apart from the product's.
    for (name, dependencies) in packages().iter().filter(|(name, _)| name != "os" && name != "testkit") {
        for kernel in ["rustix", "libc", "signal-hook"] {
            assert!(!dependencies.contains(kernel), "{name} may not use {kernel}: that is for os");
        }
    }
}

#[test]
fn policy_cannot_see_a_clock() {
    let text = fs::read_to_string(workspace().join("crates/policy/src/lib.rs")).expect("read policy");
    assert!(text.contains("#![no_std]"), "policy without no_std could do I/O");
}

/// The names in backticks in a row's last cell.
fn enforcers(row: &str) -> impl Iterator<Item = &str> {
    let last_cell = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default();
    last_cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_promise_names_the_test_or_bench_that_enforces_it() {
    let promises = fs::read_to_string(workspace().join("PROMISES.md")).expect("read PROMISES.md");
    let sources = rust_files();
    // A package, a test file, a module of one, a bench, or a function.
    let exists = |name: &str| {
        let (file, folder, function) = (format!("/{name}.rs"), format!("/{name}/"), format!("fn {name}("));
        let mut tests = sources.iter().filter(|(path, _)| path.contains("/tests/") || path.contains("/src/"));
        tests.any(|(path, text)| path.ends_with(&file) || path.contains(&folder) || text.contains(&function))
    };
    let is_row = |line: &&str| line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_digit);
    let rows: Vec<&str> = promises.lines().filter(is_row).collect();
    assert!(rows.len() > 10, "PROMISES.md has no numbered rows");
    for row in rows {
        assert_ne!(enforcers(row).count(), 0, "nothing enforces this promise: {row}");
        let mut names = enforcers(row).flat_map(|name| name.split("::"));
        let missing = names.find(|name| !exists(name));
        assert_eq!(missing, None, "no such test or bench, in {row}");
    }
}

/// The names of the fail points in the source, with the kind of call.
fn fail_points_in_source() -> Vec<(String, bool)> {
    let product = rust_files().into_iter().filter(|(path, _)| path.contains("/src/") && !path.contains("/fail"));
    let call = ["fail::po", "int"].concat();
    let mut found = Vec::new();
    for (_, text) in product {
        for piece in text.split(&call).skip(1) {
            let per_file = piece.starts_with("_at(");
            let name = piece.trim_start_matches("_at").strip_prefix("(\"").and_then(|rest| rest.split('"').next());
            found.extend(name.map(|name| (name.to_owned(), per_file)));
        }
    }
    found.sort();
    found
}

#[test]
fn each_fail_point_is_listed_and_is_in_one_place() {
    let mut listed: Vec<(String, bool)> =
        os::fail::POINTS.iter().map(|point| (point.name.to_owned(), point.takes_files())).collect();
    listed.sort();
    assert_eq!(fail_points_in_source(), listed);
    assert!(listed.windows(2).all(|pair| pair[0].0 != pair[1].0), "a name is listed twice");
    assert!(listed.len() >= 40, "only {} fail points", listed.len());
}
