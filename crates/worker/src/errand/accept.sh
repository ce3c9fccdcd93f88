# The project's own check, in a clean checkout of the result: what is committed and what is not, but nothing that git ignores, and none
# of the worker's logs. REPO is where the agent worked, FOLDER the folder in it if that is not REPO itself, CHECKOUT a place that is free, ACCEPT the command.
# The names have AUTOPILOT_ in front.
set -u
running=
remove() {
    cd /
    [ -e "$AUTOPILOT_CHECKOUT" ] && git -C "$AUTOPILOT_REPO" worktree remove --force "$AUTOPILOT_CHECKOUT" 2>/dev/null
    rm -rf "$AUTOPILOT_CHECKOUT" "$AUTOPILOT_CHECKOUT.index"
    git -C "$AUTOPILOT_REPO" worktree prune 2>/dev/null
}
fail() {
    echo "autopilot: $1"
    remove
    exit 1
}
trap '[ -n "$running" ] && kill "$running" 2>/dev/null; remove; exit 143' TERM INT HUP
if top=$(git -C "$AUTOPILOT_REPO" rev-parse --show-toplevel 2>/dev/null); then
    remove
    prefix=${AUTOPILOT_FOLDER:-$(git -C "$AUTOPILOT_REPO" rev-parse --show-prefix)}
    head=$(git -C "$top" rev-parse --verify --quiet HEAD)
    # An index of its own: that of the repository stays as the agent left it.
    export GIT_INDEX_FILE="$AUTOPILOT_CHECKOUT.index"
    if [ -n "$head" ]; then git -C "$top" read-tree HEAD || fail "cannot read the result"; fi
    git -C "$top" add -A -- . ':(exclude,glob)**/docs/logs/**' || fail "cannot read the result"
    tree=$(git -C "$top" write-tree) || fail "cannot read the result"
    commit=$(GIT_AUTHOR_NAME=autopilot GIT_AUTHOR_EMAIL=autopilot@localhost GIT_COMMITTER_NAME=autopilot \
        GIT_COMMITTER_EMAIL=autopilot@localhost \
        git -C "$top" commit-tree ${head:+-p "$head"} -m "to be checked" "$tree") || fail "cannot read the result"
    unset GIT_INDEX_FILE
    git -C "$top" worktree add --quiet --detach "$AUTOPILOT_CHECKOUT" "$commit" || fail "cannot check the result out"
    cd "$AUTOPILOT_CHECKOUT/$prefix" || fail "cannot enter the checkout"
else
    # No repository: the result is the folder itself.
    cd "$AUTOPILOT_REPO" || fail "cannot enter the folder"
fi
sh -c "$AUTOPILOT_ACCEPT" &
running=$!
wait "$running"
status=$?
running=
if [ -n "$top" ]; then remove; fi
exit "$status"
