# A task is over: what is not committed is, on the task's branch; then its worktree goes, or the working directory is again on the
# branch that it was on; then, if it is wanted, that branch gets the result. REPO is where the agent worked, MAIN the working directory,
# BRANCH, BASE, MESSAGE; WORKTREE and MERGE, if there are.
# The names have AUTOPILOT_ in front.
set -u
if [ -d "$AUTOPILOT_REPO" ]; then
    cd "$AUTOPILOT_REPO" || exit 1
    if ! git config user.email >/dev/null; then
        export GIT_AUTHOR_NAME=autopilot GIT_AUTHOR_EMAIL=autopilot@localhost
        export GIT_COMMITTER_NAME=autopilot GIT_COMMITTER_EMAIL=autopilot@localhost
    fi
    git add -A -- ':/' ':(top,exclude,glob)**/docs/logs/**' || exit 1
    if ! git diff --cached --quiet; then git commit --quiet --no-verify -m "$AUTOPILOT_MESSAGE" || exit 1; fi
fi
cd "$AUTOPILOT_MAIN" || exit 1
if [ -n "$AUTOPILOT_WORKTREE" ]; then
    [ -e "$AUTOPILOT_WORKTREE" ] && git worktree remove --force "$AUTOPILOT_WORKTREE"
    rm -rf "$AUTOPILOT_WORKTREE"
    git worktree prune
elif [ -n "$AUTOPILOT_BASE" ]; then
    git switch --quiet "$AUTOPILOT_BASE" || exit 1
fi
if [ -n "$AUTOPILOT_MERGE" ]; then
    if [ "$(git symbolic-ref --quiet --short HEAD)" != "$AUTOPILOT_BASE" ]; then
        echo "the working directory is no longer on $AUTOPILOT_BASE"
        exit 1
    fi
    if ! git merge --quiet --no-edit "$AUTOPILOT_BRANCH" >/dev/null 2>&1; then
        git merge --abort 2>/dev/null
        echo "$AUTOPILOT_BRANCH cannot be merged into $AUTOPILOT_BASE without somebody"
        exit 1
    fi
    git branch --quiet -d "$AUTOPILOT_BRANCH"
fi
exit 0
