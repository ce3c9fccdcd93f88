//! Where the fail points are.

/// One place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Used once in the source.
    pub name: &'static str,
    /// What is about to happen there.
    pub when: &'static str,
    /// The place is passed with these files, whose names follow its own; none: it has but one name.
    pub files: &'static [&'static str],
    /// An error there has consequences. What can't fail can only die or take its time.
    pub can_fail: bool,
}

impl Point {
    /// By which `AUTOPILOT_FAIL` knows it.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        if self.takes_files() {
            return self.files.iter().map(|file| format!("{}:{file}", self.name)).collect();
        }
        vec![self.name.to_owned()]
    }

    /// It is one of `point_at`.
    #[must_use]
    pub fn takes_files(&self) -> bool {
        PER_FILE.contains(&self.name)
    }
}

const PER_FILE: [&str; 7] =
    ["socket.replace", "record.read", "file.open", "file.write", "file.sync", "file.rename", "file.sync-folder"];

const fn call(name: &'static str, when: &'static str) -> Point {
    Point { name, when, files: &[], can_fail: true }
}

const fn step(name: &'static str, when: &'static str) -> Point {
    Point { name, when, files: &[], can_fail: false }
}

const fn of_files(name: &'static str, when: &'static str, files: &'static [&'static str]) -> Point {
    Point { name, when, files, can_fail: true }
}

/// All of them.
pub const POINTS: &[Point] = &[
    call("home.create", "before the home is made"),
    call("home.make-private", "before others are kept out of it"),
    call("home.lock", "before the daemon's lock is taken"),
    call("home.locked", "while it is held, before anything else is touched"),
    call("home.folders", "before the worker's folders are made"),
    call("home.pid-file", "before the pid file is written"),
    call("groups.probe", "before the home's control group is made"),
    call("state.load", "before the state is read"),
    of_files("socket.replace", "before what lies in a socket's place is removed", &["autopilotd.sock", "notify.sock"]),
    call("control.bind", "before the control socket is bound"),
    call("control.make-private", "between its bind and its mode"),
    step("control.mend", "before a removed control socket is made again"),
    call("notify.bind", "before the socket for heartbeats is bound"),
    call("loop.poller", "before the loop's epoll is made"),
    call("loop.signals", "before signals are handled"),
    call("loop.watch", "before anything is waited for"),
    call("loop.removals", "before the home is watched for removals"),
    call("loop.subreaper", "before the daemon adopts orphans"),
    step("loop.boot", "before the machine is told what was found"),
    call("runs.list", "before the runs are listed"),
    call("runs.prune", "before an old run's folder is removed"),
    call("run.is-free", "before a run's lock is tried"),
    of_files("record.read", "before a record of the shim is read", &["started", "exit"]),
    call("adopt.pidfd", "before the hold on a found shim"),
    call("adopt.watch", "before a found run is watched"),
    call("run.lives", "before it is looked for what a free lock does not tell of"),
    call("orphans.find", "before what is left of a run is looked for"),
    call("run.prepare", "before anything of the next run is made"),
    call("run.clear", "before what an earlier daemon prepared is removed"),
    call("run.folder", "before the next run's folder is made"),
    call("run.lock", "before its lock is taken"),
    call("run.name", "before its name is written into the lock"),
    call("run.take-place", "before the prepared run gets its number"),
    call("run.wire", "before the pipe between daemon and shim"),
    call("run.fork", "before the shim is forked"),
    call("run.pidfd", "after that, before the hold on it"),
    call("run.watch", "before the run is watched"),
    step("run.end", "before the shim is told to end its tree"),
    step("news.started", "when the daemon heard of the worker's start"),
    step("news.ended", "when it heard of its end"),
    step("shim-end.last-words", "when the shim has ended, before its last words are read"),
    call("state.save", "before the state is saved"),
    of_files(
        "file.open",
        "before a file's new content has a place",
        &["autopilotd.pid", "state.json", "started", "seen", "exit", "index.json", "index.json.prev", "lives.json"],
    ),
    of_files(
        "file.write",
        "before it is written",
        &["autopilotd.pid", "state.json", "started", "seen", "exit", "index.json", "index.json.prev", "lives.json"],
    ),
    of_files("file.sync", "before it is synced", &["state.json", "index.json"]),
    of_files(
        "file.rename",
        "before it replaces the old one",
        &["autopilotd.pid", "state.json", "started", "seen", "exit", "index.json", "index.json.prev", "lives.json"],
    ),
    of_files("file.sync-folder", "before its folder is synced", &["state.json", "index.json"]),
    call("file.set-aside", "before a damaged file is renamed"),
    call("state.reach", "before a folder that leads to the state is synced"),
    call("journal.open", "before the journal is opened"),
    call("journal.append", "before a line is added to it"),
    call("journal.rotate", "before it is put aside because it is full"),
    call("seen.read", "before it is read what the daemon before saw of a found run"),
    call("store.source", "before the worker's program is opened"),
    call("store.folder", "before the store is made"),
    call("store.copy", "before the program is copied"),
    call("store.sync", "before the copy is synced"),
    call("store.verify", "before it is read back"),
    call("store.place", "before the folder of its hash is made"),
    call("store.rename", "before it gets its name there"),
    call("store.sync-folder", "before the folders are synced"),
    call("store.lock", "before the index is locked"),
    call("store.remember", "before the index is brought up to date"),
    step("store.admitted", "when a new copy is named there"),
    call("store.count", "before it is written down how often each copy ran"),
    call("smoke.ask", "before a new copy is asked for its version"),
    call("smoke.answered", "when it has answered"),
    call("trial.fork", "before the child that looks into a new file"),
    step("trial.report", "in that child, before it tells the daemon what it found"),
    call("activity.watch", "before the watch for new logs is made"),
    call("evidence.folder", "before the folder for evidence is made"),
    call("notify.receive", "before heartbeats are taken"),
    call("client.accept", "before a client is let in"),
    call("client.watch", "before it is waited for"),
    call("client.read", "before its request is read"),
    call("client.reply", "before it is answered"),
    step("upgrade.settled", "when nothing is in the way of an upgrade, before anything is done"),
    call("guard.fork", "before the guard of an upgrade is forked"),
    call("upgrade.execute", "before the new program is executed"),
    step("heir.open", "in the new program, before it looks at what was passed on"),
    step("heir.serves", "when it serves, before the guard is told"),
    step("heir.answer", "after that, before whoever asked is answered"),
    call("leave.groups", "when the daemon ends, before its groups are removed"),
    step("leave.prepared", "before what is prepared is removed"),
    step("leave.sockets", "before its sockets are removed"),
    step("leave.pid-file", "before its pid file is removed"),
    step("leave.unlock", "before its lock is given up"),
    step("leave.unlocked", "after that, before the last answer"),
    call("shim.session", "in the forked shim, before anything else"),
    call("shim.subreaper", "before it adopts orphans"),
    call("shim.signals", "before it handles signals"),
    call("shim.poller", "before its epoll is made"),
    call("shim.working-dir", "before it goes to the working directory"),
    call("shim.lock", "before the lock is left to the worker"),
    call("shim.output", "before the pipe for the worker's output"),
    call("groups.make", "before the run's control group is made"),
    call("spawn.descriptors", "before the worker's descriptors are opened"),
    call("spawn.enter-group", "before it is born into its group"),
    call("spawn.fork", "before it is forked"),
    step("spawn.forked", "after that, before it is known whether it runs"),
    step("shim.spawned", "when it runs, before anybody is told"),
    step("shim.told-start", "when the daemon was told, before the record"),
    call("output.open", "before the output's file is opened"),
    call("output.splice", "before output is moved into it"),
    call("output.rotate", "when the older files have moved, before the newest does"),
    step("shim.stop", "before the tree is asked to end"),
    step("shim.kill", "before it is killed"),
    call("groups.kill", "before its group is killed"),
    step("shim.reaped", "when the worker has ended, before its tree is"),
    step("shim.emptied", "when the tree is empty"),
    call("groups.remove", "before the run's group is removed"),
    step("shim.tell-end", "before the daemon is told of the end"),
    step("shim.told-end", "after that, before the record"),
];
