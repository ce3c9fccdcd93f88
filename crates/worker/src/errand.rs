//! What is done for a task by another program than the agent: its branch and worktree, and the project's own check on its result.
//!
//! The programs are shell scripts around git, because each is a handful of git's commands. Each may be ended at any instant and is then
//! run again from its beginning: they find what is there. The checkout for a check has one place per project, so that the next run knows
//! what a dead one has left.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use os::spawn::Program;
use policy::work::task::Errand;

use crate::environment::{MARK, NOT_FOR_THE_CLI};
use crate::names::log_slug;
use crate::repository;
use crate::settings::{Isolation, Settings};

/// So much of what a check says goes back to the agent: its end, where failures are summed up.
pub(crate) const MAX_OUTPUT_BYTES: usize = 16 << 10;

/// Where a task is worked on.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Place {
    /// The branch that the working directory was on, or the commit.
    #[serde(default)]
    pub(crate) base: String,
    /// The task's own; empty: none.
    #[serde(default)]
    pub(crate) branch: String,
    #[serde(default)]
    pub(crate) worktree: Option<PathBuf>,
    /// In the worktree: the folder that the working directory is in the repository.
    #[serde(default)]
    pub(crate) folder: PathBuf,
}

impl Place {
    /// For a task, as the settings say. `left`: the branch on which earlier work on it was left.
    pub(crate) fn new(
        isolation: Isolation,
        cwd: &Path,
        (id, title, left): (i64, &str, Option<&str>),
        project_folder: &Path,
    ) -> Self {
        let position = repository::position(cwd);
        let base = if position.branch.is_empty() { position.sha } else { position.branch };
        let name = format!("autopilot/{id}-{}", log_slug(title));
        // What somebody else calls so is not this task's.
        let mut names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}")));
        let is_free = |name: &String| left == Some(name.as_str()) || !repository::has_branch(cwd, name);
        let branch = names.find(is_free).unwrap_or(name);
        let worktree = project_folder.join("worktrees").join(id.to_string());
        match isolation {
            Isolation::Off => Self::default(),
            Isolation::Branch => Self { base, branch, ..Self::default() },
            Isolation::Worktree => {
                Self { base, branch, worktree: Some(worktree), folder: repository::folder_within(cwd) }
            }
        }
    }

    /// Where the agent works, if not in the working directory.
    pub(crate) fn of_agent(&self) -> Option<PathBuf> {
        let worktree = self.worktree.as_ref()?;
        Some(if self.folder == Path::new("") { worktree.clone() } else { worktree.join(&self.folder) })
    }
}

/// All that an errand needs.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) place: &'a Place,
    /// The worker's working directory.
    pub(crate) cwd: &'a Path,
    /// The project's folder in the home.
    pub(crate) folder: &'a Path,
    /// `#3 Fix the login`.
    pub(crate) task: &'a str,
    /// The branches on which the results are that the task needs.
    pub(crate) needs: &'a [String],
    pub(crate) mark: &'a str,
}

/// The program for it; `None`: there is nothing to do.
pub(crate) fn program(errand: Errand, on: &Surroundings<'_>) -> Option<Program> {
    let checkout = on.folder.join("checkout");
    let isolated = !on.place.branch.is_empty();
    let script = match errand {
        Errand::Prepare if isolated || checkout.exists() || !on.needs.is_empty() => include_str!("errand/prepare.sh"),
        Errand::Accept if on.settings.accept.is_some() => include_str!("errand/accept.sh"),
        Errand::Finish | Errand::Abandon if isolated => include_str!("errand/finish.sh"),
        Errand::Prepare | Errand::Accept | Errand::Finish | Errand::Abandon => return None,
    };
    let worktree: OsString = on.place.worktree.clone().map(Into::into).unwrap_or_default();
    // In the worktree there is no other folder than its own.
    let repo = match (&on.place.worktree, errand) {
        (Some(worktree), Errand::Accept | Errand::Finish | Errand::Abandon) => worktree,
        (Some(_) | None, _) => &on.cwd.to_owned(),
    };
    let merge = errand == Errand::Finish && on.settings.merge;
    let message = if errand == Errand::Finish { on.task.to_owned() } else { format!("{} (unfinished)", on.task) };
    // The check inherits them: a name of ours must be none of the user's.
    let env: Vec<(OsString, OsString)> = vec![
        ("AUTOPILOT_REPO".into(), repo.into()),
        ("AUTOPILOT_MAIN".into(), on.cwd.into()),
        ("AUTOPILOT_CHECKOUT".into(), checkout.into()),
        ("AUTOPILOT_BRANCH".into(), (&on.place.branch).into()),
        ("AUTOPILOT_BASE".into(), (&on.place.base).into()),
        // Git allows no space in such a name.
        ("AUTOPILOT_NEEDS".into(), on.needs.join(" ").into()),
        ("AUTOPILOT_WORKTREE".into(), worktree),
        ("AUTOPILOT_FOLDER".into(), (&on.place.folder).into()),
        ("AUTOPILOT_MERGE".into(), if merge { "1".into() } else { OsString::new() }),
        ("AUTOPILOT_MESSAGE".into(), message.into()),
        ("AUTOPILOT_ACCEPT".into(), on.settings.accept.as_deref().unwrap_or_default().into()),
        (MARK.into(), on.mark.into()),
    ];
    // Git's own would have it look elsewhere.
    let of_git = ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"].map(OsString::from);
    let env_remove = NOT_FOR_THE_CLI.map(OsString::from).into_iter().chain(of_git).collect();
    Some(Program { argv: vec!["sh".into(), "-c".into(), script.into()], env, env_remove })
}

/// The end of what a program said, as text.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * MAX_OUTPUT_BYTES {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let over = self.bytes.len().saturating_sub(MAX_OUTPUT_BYTES);
        self.cut |= over > 0;
        self.bytes.drain(..over);
    }

    pub(crate) fn take(&mut self) -> String {
        self.shorten();
        let text = String::from_utf8_lossy(&self.bytes).trim_end().to_owned();
        let text = if self.cut { format!("[…]\n{text}") } else { text };
        *self = Self::default();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_is_kept_and_no_more() {
        let mut tail = Tail::default();
        for _ in 0..1_000 {
            tail.push(&[b'a'; 1_000]);
            assert!(tail.bytes.len() <= 2 * MAX_OUTPUT_BYTES);
        }
        tail.push(b"the end\n");
        let text = tail.take();
        assert!(text.starts_with("[…]\naaa") && text.ends_with("the end"));
        assert!(text.len() < MAX_OUTPUT_BYTES + 10);
        tail.push(b"short\n");
        assert_eq!(tail.take(), "short");
    }

    #[test]
    fn what_is_not_wanted_is_not_done() {
        let (settings, place) = (Settings::default(), Place::default());
        let (folder, task, mark) = (Path::new("/nonexistent"), "#1 a", "m");
        let on = Surroundings { settings: &settings, place: &place, cwd: folder, folder, task, needs: &[], mark };
        for errand in [Errand::Prepare, Errand::Accept, Errand::Finish, Errand::Abandon] {
            assert!(program(errand, &on).is_none(), "{errand:?}");
        }
    }
}
