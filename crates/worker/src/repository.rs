//! Which commit and branch a working directory is at, read from git's own files (gitrepository-layout(5)): starting `git`
//! would cost more than the worker's own start.

use std::path::{Path, PathBuf};

/// Commit and branch; either may be unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) sha: String,
    pub(crate) branch: String,
}

/// Looks upward from `folder`. No repository: both empty.
#[must_use]
pub(crate) fn position(folder: &Path) -> Position {
    folder.ancestors().find_map(|folder| git_folder(&folder.join(".git"))).map(|git| read(&git)).unwrap_or_default()
}

/// What a folder is called from its repository's root; empty for the root itself, and without one.
#[must_use]
pub(crate) fn folder_within(folder: &Path) -> PathBuf {
    let root = folder.ancestors().find(|folder| git_folder(&folder.join(".git")).is_some());
    root.and_then(|root| folder.strip_prefix(root).ok()).unwrap_or(Path::new("")).to_owned()
}

fn git_folder(dot_git: &Path) -> Option<PathBuf> {
    if dot_git.is_dir() {
        return Some(dot_git.to_owned());
    }
    // A worktree or submodule: a file that names the folder.
    let text = std::fs::read_to_string(dot_git).ok()?;
    Some(dot_git.parent()?.join(text.strip_prefix("gitdir:")?.trim()))
}

fn read(git: &Path) -> Position {
    let Ok(head) = std::fs::read_to_string(git.join("HEAD")) else { return Position::default() };
    let head = head.trim();
    let Some(reference) = head.strip_prefix("ref:").map(str::trim) else {
        return Position { sha: head.to_owned(), branch: String::new() };
    };
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference).to_owned();
    Position { sha: commit_of(git, reference).unwrap_or_default(), branch }
}

fn commit_of(git: &Path, reference: &str) -> Option<String> {
    let common = std::fs::read_to_string(git.join("commondir")).map(|path| git.join(path.trim()));
    let common = common.unwrap_or_else(|_| git.to_owned());
    let loose = std::fs::read_to_string(common.join(reference)).map(|sha| sha.trim().to_owned());
    loose.ok().or_else(|| packed(&common, reference))
}

/// Whether there is a branch of this name.
#[must_use]
pub(crate) fn has_branch(folder: &Path, name: &str) -> bool {
    let git = folder.ancestors().find_map(|folder| git_folder(&folder.join(".git")));
    git.is_some_and(|git| commit_of(&git, &format!("refs/heads/{name}")).is_some())
}

fn packed(git: &Path, reference: &str) -> Option<String> {
    let refs = std::fs::read_to_string(git.join("packed-refs")).ok()?;
    refs.lines().find_map(|line| Some(line.strip_suffix(reference)?.strip_suffix(' ')?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], at: &str, sha: &str, branch: &str) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let expected = Position { sha: sha.into(), branch: branch.into() };
        let at = folder.path().join(at);
        assert_eq!(position(&at), expected, "{files:?}");
        assert_eq!(has_branch(&at, branch), !sha.is_empty() && !branch.is_empty(), "{files:?}");
        assert!(!has_branch(&at, "another"));
    }

    #[test]
    fn every_form_of_a_head_is_read() {
        let main = (".git/HEAD", "ref: refs/heads/feature/x\n");
        check(&[main, (".git/refs/heads/feature/x", "abc1\n"), ("src/a", "")], "src", "abc1", "feature/x");
        check(&[main, (".git/packed-refs", "# pack\nabc2 refs/heads/feature/x\n")], ".", "abc2", "feature/x");
        check(&[(".git/HEAD", "abc3\n")], ".", "abc3", "");
        check(&[main], ".", "", "feature/x");
        check(
            &[
                ("main/.git/worktrees/w/HEAD", "ref: refs/heads/w\n"),
                ("main/.git/worktrees/w/commondir", "../..\n"),
                ("main/.git/refs/heads/w", "abc4\n"),
                ("w/.git", "gitdir: ../main/.git/worktrees/w\n"),
            ],
            "w",
            "abc4",
            "w",
        );
    }

    #[test]
    fn no_repository_is_no_error() {
        check(&[(".git/config", "")], ".", "", "");
    }
}
