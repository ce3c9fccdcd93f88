# The place for a task's work: what a dead worker's check left is removed; then the task's branch, in a worktree of its own or in
# the working directory. REPO, CHECKOUT; BRANCH, if there is to be one; WORKTREE, likewise.
# The names have AUTOPILOT_ in front.
set -eu
cd "$AUTOPILOT_REPO"
if [ -e "$AUTOPILOT_CHECKOUT" ] || [ -e "$AUTOPILOT_CHECKOUT.index" ]; then
    git worktree remove --force "$AUTOPILOT_CHECKOUT" 2>/dev/null || true
    rm -rf "$AUTOPILOT_CHECKOUT" "$AUTOPILOT_CHECKOUT.index"
    git worktree prune 2>/dev/null || true
fi
[ -n "$AUTOPILOT_BRANCH" ] || exit 0
if git show-ref --verify --quiet "refs/heads/$AUTOPILOT_BRANCH"; then exists=1; else exists=; fi
if [ -n "$AUTOPILOT_WORKTREE" ]; then
    # An interrupted task goes on where it was.
    if [ -e "$AUTOPILOT_WORKTREE/.git" ] && git -C "$AUTOPILOT_WORKTREE" rev-parse --verify --quiet HEAD >/dev/null; then exit 0; fi
    rm -rf "$AUTOPILOT_WORKTREE"
    git worktree prune
    if [ -n "$exists" ]; then
        git worktree add --quiet "$AUTOPILOT_WORKTREE" "$AUTOPILOT_BRANCH"
    else
        git worktree add --quiet -b "$AUTOPILOT_BRANCH" "$AUTOPILOT_WORKTREE"
    fi
elif [ "$(git symbolic-ref --quiet --short HEAD || true)" != "$AUTOPILOT_BRANCH" ]; then
    # What is not committed would come along, and be the task's.
    dirty=$(git status --porcelain -- ':/' ':(top,exclude,glob)**/docs/logs/**')
    if [ -n "$dirty" ]; then
        names=$(printf '%s\n' "$dirty" | head -n 5 | cut -c 4- | paste -s -d , - | sed 's/,/, /g')
        echo "not committed: $names; commit or stash it, or set git = \"worktree\""
        exit 1
    fi
    if [ -n "$exists" ]; then git switch --quiet "$AUTOPILOT_BRANCH"; else git switch --quiet -c "$AUTOPILOT_BRANCH"; fi
fi
