# The place for a task's work: what a dead worker's check left is removed; then the task's branch, in a worktree of its own or in
# the working directory. It begins with what the tasks have made that it needs: NEEDS are the branches that were left for review.
# REPO, CHECKOUT; BRANCH, if there is to be one; WORKTREE and FOLDER, the folder in it to work in, likewise.
# The names have AUTOPILOT_ in front.
set -euf
cd "$AUTOPILOT_REPO"
refuse() {
    echo "$1"
    exit 1
}
if [ -e "$AUTOPILOT_CHECKOUT" ] || [ -e "$AUTOPILOT_CHECKOUT.index" ]; then
    git worktree remove --force "$AUTOPILOT_CHECKOUT" 2>/dev/null || true
    rm -rf "$AUTOPILOT_CHECKOUT" "$AUTOPILOT_CHECKOUT.index"
    git worktree prune 2>/dev/null || true
fi
# The agent's `git add -A` would have the session's own log, which grows on.
if [ -n "$AUTOPILOT_BRANCH" ] && [ -z "$AUTOPILOT_WORKTREE" ] && ! git check-ignore --quiet docs/logs/log.rlog; then
    exclude=$(git rev-parse --git-path info/exclude)
    mkdir -p "${exclude%/*}"
    printf '/%sdocs/logs/\n' "$(git rev-parse --show-prefix)" >>"$exclude"
fi
tip_of() { git rev-parse --verify --quiet "refs/heads/$1^{commit}"; }
if [ -z "$AUTOPILOT_BRANCH" ]; then
    for needed in $AUTOPILOT_NEEDS; do
        tip=$(tip_of "$needed") || continue
        if git merge-base --is-ancestor "$tip" HEAD; then continue; fi
        refuse "it needs $needed, which is not merged; merge it, or set git = \"branch\" or \"worktree\""
    done
    exit 0
fi
# An interrupted task goes on where it was.
if [ -n "$AUTOPILOT_WORKTREE" ]; then
    if [ -e "$AUTOPILOT_WORKTREE/.git" ] && git -C "$AUTOPILOT_WORKTREE" rev-parse --verify --quiet HEAD >/dev/null; then exit 0; fi
    rm -rf "$AUTOPILOT_WORKTREE"
    git worktree prune
elif [ "$(git symbolic-ref --quiet --short HEAD || true)" = "$AUTOPILOT_BRANCH" ]; then
    exit 0
else
    # What is not committed would come along, and be the task's.
    dirty=$(git status --porcelain -- ':/' ':(top,exclude,glob)**/docs/logs/**')
    if [ -n "$dirty" ]; then
        names=$(printf '%s\n' "$dirty" | head -n 5 | cut -c 4- | paste -s -d , - | sed 's/,/, /g')
        refuse "not committed: $names; commit or stash it, or set git = \"worktree\""
    fi
fi
old=$(tip_of "$AUTOPILOT_BRANCH" || true)
start=${old:-$(git rev-parse --verify --quiet HEAD || true)}
[ -n "$start" ] || refuse "the repository has no commit yet"
# Commits only, until all of them go together: whatever dies meanwhile, no branch has half of it.
for needed in $AUTOPILOT_NEEDS; do
    # One that is gone was merged, and its result is where that was done.
    tip=$(tip_of "$needed") || continue
    if git merge-base --is-ancestor "$tip" "$start"; then continue; fi
    if git merge-base --is-ancestor "$start" "$tip"; then
        start=$tip
        continue
    fi
    tree=$(git merge-tree --write-tree --no-messages "$start" "$tip" 2>/dev/null) ||
        refuse "it needs $needed, which cannot be merged with what else it begins with; merge it by hand"
    start=$(GIT_AUTHOR_NAME=autopilot GIT_AUTHOR_EMAIL=autopilot@localhost GIT_COMMITTER_NAME=autopilot \
        GIT_COMMITTER_EMAIL=autopilot@localhost \
        git commit-tree -p "$start" -p "$tip" -m "Merge branch '$needed' into $AUTOPILOT_BRANCH" "$tree")
done
if [ -n "$AUTOPILOT_FOLDER" ] && ! git rev-parse --verify --quiet "$start:$AUTOPILOT_FOLDER" >/dev/null; then
    refuse "the folder $AUTOPILOT_FOLDER is not in $AUTOPILOT_BRANCH; commit something in it, or start the worker elsewhere"
fi
# Refused where somebody has it checked out.
[ "$start" = "$old" ] || git branch --quiet --no-track --force "$AUTOPILOT_BRANCH" "$start"
if [ -n "$AUTOPILOT_WORKTREE" ]; then
    git worktree add --quiet "$AUTOPILOT_WORKTREE" "$AUTOPILOT_BRANCH"
else
    git switch --quiet "$AUTOPILOT_BRANCH"
fi
