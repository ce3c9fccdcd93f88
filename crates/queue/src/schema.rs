//! The tables, by version (`PRAGMA user_version`). A step is never edited once it was released: a database of any earlier version is
//! brought forward by the steps that it lacks.

/// The n-th step leads to version n.
pub(crate) const STEPS: &[&str] = &[
    "
CREATE TABLE project (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL,
    folder TEXT,
    created_ms INTEGER NOT NULL
);
CREATE TABLE task (
    -- A number is never used again: people and branches name tasks by it.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    priority TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    -- Why it is blocked.
    reason TEXT,
    -- Results that were not accepted.
    attempts INTEGER NOT NULL DEFAULT 0,
    -- Where the result is, if not in the working directory.
    branch TEXT,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    done_ms INTEGER
);
CREATE TABLE dependency (
    task INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,
    needs INTEGER NOT NULL REFERENCES task(id) ON DELETE RESTRICT,
    PRIMARY KEY (task, needs)
) WITHOUT ROWID;
CREATE TABLE lease (
    task INTEGER PRIMARY KEY REFERENCES task(id) ON DELETE CASCADE,
    owner TEXT NOT NULL,
    holder TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
);
",
    "
-- Each start of the agent. An account is what a budget is for: a job, or the queue.
CREATE TABLE process (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    -- No reference: what a task has cost stays known when it is removed.
    task INTEGER,
    session TEXT NOT NULL,
    began_ms INTEGER NOT NULL
);
CREATE INDEX process_of_account ON process (account);
CREATE TABLE answer (
    process INTEGER NOT NULL REFERENCES process(id),
    message TEXT NOT NULL,
    model TEXT NOT NULL,
    -- Of the main agent: a turn.
    main INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (process, message)
) WITHOUT ROWID;
-- What an answer is thought to cost, until the agent has told what all of them did.
CREATE TABLE charge (
    id INTEGER PRIMARY KEY,
    process INTEGER NOT NULL REFERENCES process(id),
    -- None: told by the agent.
    message TEXT,
    micros INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    at_ms INTEGER NOT NULL
);
CREATE INDEX charge_of_process ON charge (process);
CREATE INDEX charge_by_time ON charge (at_ms);
-- What a session had cost in all at its last result: the agent counts on when it is resumed.
CREATE TABLE session (
    id TEXT PRIMARY KEY,
    micros INTEGER NOT NULL
);
-- Where the account stood when a log was begun.
CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    path TEXT NOT NULL,
    tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    micros INTEGER NOT NULL
);
-- What was spent before does not count any more.
CREATE TABLE reset (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at_ms INTEGER NOT NULL
);
-- Files whose content is in here.
CREATE TABLE imported (
    name TEXT PRIMARY KEY
);
",
    "
-- What the agent said last that a model's answers had cost, and what they were thought to cost by list price.
CREATE TABLE price (
    model TEXT PRIMARY KEY,
    told_micros INTEGER NOT NULL,
    listed_micros INTEGER NOT NULL
);
-- Set for a request whose answer nobody saw, because its process died first: the model by whose answers it is priced; empty, and
-- 0 millionths, until there is one.
ALTER TABLE charge ADD COLUMN unanswered TEXT;
CREATE INDEX unpriced ON charge (process) WHERE unanswered = '';
",
];
