# A task is over: what is not committed is, on the task's branch; then its worktree goes, or the working directory is again on the
# branch that it was on; then, if it is wanted, that branch gets the result. REPO is where the agent worked, MAIN the working directory,
# BRANCH, BASE, MESSAGE; WORKTREE and MERGE, if there are.
# The names have AUTOPILOT_ in front.
set -u
elsewhere=
if [ -d "$AUTOPILOT_REPO" ]; then
    cd "$AUTOPILOT_REPO" || exit 1
    if ! git config user.email >/dev/null; then
        export GIT_AUTHOR_NAME=autopilot GIT_AUTHOR_EMAIL=autopilot@localhost
        export GIT_COMMITTER_NAME=autopilot GIT_COMMITTER_EMAIL=autopilot@localhost
    fi
    git add -A -- ':/' ':(top,exclude,glob)**/docs/logs/**' || exit 1
    if ! git diff --cached --quiet; then git commit --quiet --no-verify -m "$AUTOPILOT_MESSAGE" || exit 1; fi
    # The agent may have gone elsewhere: what was checked is what is there.
    on=$(git symbolic-ref --quiet --short HEAD || git rev-parse HEAD)
    if [ "$on" != "$AUTOPILOT_BRANCH" ]; then
        if git merge-base --is-ancestor "refs/heads/$AUTOPILOT_BRANCH" HEAD; then
            git branch --quiet --no-track --force "$AUTOPILOT_BRANCH" HEAD && git switch --quiet "$AUTOPILOT_BRANCH" || exit 1
        else
            elsewhere="the agent's work is on $on, which does not go on from $AUTOPILOT_BRANCH"
        fi
    fi
fi
cd "$AUTOPILOT_MAIN" || exit 1
if [ -n "$AUTOPILOT_WORKTREE" ]; then
    [ -e "$AUTOPILOT_WORKTREE" ] && git worktree remove --force "$AUTOPILOT_WORKTREE"
    rm -rf "$AUTOPILOT_WORKTREE"
    git worktree prune
elif [ -n "$AUTOPILOT_BASE" ]; then
    # A commit, where the working directory was on no branch.
    if git show-ref --verify --quiet "refs/heads/$AUTOPILOT_BASE"; then detach=; else detach=--detach; fi
    if ! git switch --quiet $detach "$AUTOPILOT_BASE"; then
        echo "the working directory cannot go back to $AUTOPILOT_BASE"
        exit 1
    fi
fi
if [ -n "$elsewhere" ]; then
    echo "$elsewhere"
    exit 1
fi
if [ -n "$AUTOPILOT_MERGE" ]; then
    if [ "$(git symbolic-ref --quiet --short HEAD)" != "$AUTOPILOT_BASE" ]; then
        echo "the working directory is not on a branch $AUTOPILOT_BASE"
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
