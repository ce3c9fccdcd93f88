//! What was spent. Each entry is one transaction with all that follows from it: an answer and what it is thought to cost; a result,
//! what the agent says it cost, and the end of the thoughts that this replaces.

use rusqlite::{OptionalExtension, Transaction, named_params, params};

use crate::{Error, Queue, Stop};

/// An event that costs, or by which costs are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A log was begun when so much had been used.
    Log { path: String, totals: Totals },
    /// A process of the agent is about to be started.
    Start { session: String, task: Option<i64> },
    /// An answer of the process that was started last; again when its counts are known better.
    Use { message: String, model: String, main: bool, tokens: Tokens, thought_micros: u64 },
    /// That process said what it cost: this result alone, and its session in all.
    Result { cost_micros: Option<u64>, total_micros: Option<u64>, prices: Vec<Price> },
    /// It died while it waited for an answer, which nobody will see and somebody will charge for. Told once for a process.
    Unanswered { model: String, thought_micros: u64 },
}

/// What the agent says that a model's answers have cost, and what they were thought to cost by list price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    pub model: String,
    pub told_micros: u64,
    /// Never 0.
    pub listed_micros: u64,
}

impl Price {
    /// What the agent would say, from what the list says. Rounded up: a budget is a bound.
    #[must_use]
    pub fn of(&self, listed_micros: u64) -> u64 {
        let micros = u128::from(listed_micros) * u128::from(self.told_micros);
        u64::try_from(micros.div_ceil(u128::from(self.listed_micros.max(1)))).unwrap_or(u64::MAX)
    }
}

/// Tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
    pub cache_write: u64,
    pub cache_read: u64,
}

/// Tokens and money of a stretch of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub cost_micros: u64,
}

/// What an account has used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Answers of the main agent.
    pub turns: u64,
    pub totals: Totals,
    /// When the newest log was begun.
    pub log_began: Totals,
    /// What counts begins here.
    pub since_ms: u64,
    /// Requests whose answers nobody saw and for which there is no price yet.
    pub unpriced: u64,
    /// Tokens of the longest answer.
    pub longest: u64,
}

impl Queue {
    /// Writes entries of an account, all or none.
    ///
    /// # Errors
    /// As of the database.
    pub fn record(&mut self, account: &str, entries: &[Entry], now_ms: u64) -> Result<(), Error> {
        self.change(|tx| entries.iter().try_for_each(|entry| write(tx, account, entry, now_ms)))
    }

    /// The same for what a file says, once ever. `false`: it is in here already.
    ///
    /// # Errors
    /// As of the database.
    pub fn record_file(&mut self, name: &str, entries: &[(String, Entry)], at_ms: u64) -> Result<bool, Error> {
        self.change(|tx| {
            if tx.execute("INSERT OR IGNORE INTO imported (name) VALUES (?1)", [name])? == 0 {
                return Ok(false);
            }
            entries.iter().try_for_each(|(account, entry)| write(tx, account, entry, at_ms))?;
            Ok(true)
        })
    }

    /// Where an account stands.
    ///
    /// # Errors
    /// As of the database.
    pub fn account(&self, account: &str) -> Result<Account, Error> {
        self.read(|db| {
            let since_ms = reset_ms(db)?;
            let (turns, tokens_in, tokens_out) = db.query_row(
                "SELECT COALESCE(SUM(main), 0), COALESCE(SUM(input + cache_write + cache_read), 0), COALESCE(SUM(output), 0)
                 FROM answer JOIN process ON process.id = answer.process WHERE account = ?1 AND at_ms >= ?2",
                params![account, since_ms],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
            let cost_micros = db.query_row(
                "SELECT COALESCE(SUM(micros), 0) FROM charge JOIN process ON process.id = charge.process
                 WHERE account = ?1 AND at_ms >= ?2",
                params![account, since_ms],
                |row| row.get(0),
            )?;
            let newest = "SELECT tokens_in, tokens_out, micros FROM log WHERE account = ?1 ORDER BY id DESC LIMIT 1";
            let log_began = db
                .query_row(newest, [account], |row| {
                    Ok(Totals { tokens_in: row.get(0)?, tokens_out: row.get(1)?, cost_micros: row.get(2)? })
                })
                .optional()?;
            let totals = Totals { tokens_in, tokens_out, cost_micros };
            let unpriced = db.query_row(
                "SELECT COUNT(*) FROM charge JOIN process ON process.id = charge.process
                 WHERE unanswered = '' AND account = ?1 AND at_ms >= ?2",
                params![account, since_ms],
                |row| row.get(0),
            )?;
            let longest = db.query_row(
                "SELECT COALESCE(MAX(output), 0) FROM answer JOIN process ON process.id = answer.process WHERE account = ?1",
                [account],
                |row| row.get(0),
            )?;
            let log_began = log_began.unwrap_or_default();
            Ok(Account { turns, totals, log_began, since_ms, unpriced, longest })
        })
    }

    /// The agent's last word on each model's price.
    ///
    /// # Errors
    /// As of the database.
    pub fn prices(&self) -> Result<Vec<Price>, Error> {
        self.read(|db| {
            let row = |row: &rusqlite::Row<'_>| {
                Ok(Price { model: row.get(0)?, told_micros: row.get(1)?, listed_micros: row.get(2)? })
            };
            db.prepare("SELECT model, told_micros, listed_micros FROM price")?.query_map([], row)?.collect()
        })
    }

    /// The newest answer of the session that an account used last; without one, that of the account.
    ///
    /// # Errors
    /// As of the database.
    pub fn newest_answer(&self, account: &str) -> Result<Option<(String, Tokens)>, Error> {
        let sql = "SELECT model, input, output, cache_write, cache_read FROM answer JOIN process ON process.id = process
            WHERE account = ?1
            ORDER BY session = (SELECT session FROM process WHERE account = ?1 ORDER BY id DESC LIMIT 1) DESC, at_ms DESC LIMIT 1";
        let row = |row: &rusqlite::Row<'_>| {
            let tokens =
                Tokens { input: row.get(1)?, output: row.get(2)?, cache_write: row.get(3)?, cache_read: row.get(4)? };
            Ok((row.get(0)?, tokens))
        };
        self.read(|db| db.query_row(sql, [account], row).optional())
    }

    /// Requests whose answers nobody saw, and the millionths of a dollar that are counted for them, in what was spent since then.
    ///
    /// # Errors
    /// As of the database.
    pub fn unanswered_since(&self, from_ms: u64) -> Result<(u64, u64), Error> {
        let sql = "SELECT COUNT(*), COALESCE(SUM(micros), 0) FROM charge WHERE unanswered IS NOT NULL
            AND at_ms >= MAX(?1, COALESCE((SELECT at_ms FROM reset), 0))";
        self.read(|db| db.query_row(sql, [from_ms], |row| Ok((row.get(0)?, row.get(1)?))))
    }

    /// What a session had cost in all at its last result.
    ///
    /// # Errors
    /// As of the database.
    pub fn session_micros(&self, session: &str) -> Result<u64, Error> {
        self.read(|db| Ok(total_of(db, session)?.unwrap_or(0)))
    }

    /// Millionths of a dollar that the project has cost from this time on, all accounts together, and what was reset left out.
    ///
    /// # Errors
    /// As of the database.
    pub fn spent_since(&self, from_ms: u64) -> Result<u64, Error> {
        let sql = "SELECT COALESCE(SUM(micros), 0) FROM charge
            WHERE at_ms >= MAX(?1, COALESCE((SELECT at_ms FROM reset), 0))";
        self.read(|db| db.query_row(sql, [from_ms], |row| row.get(0)))
    }

    /// What each task has cost, by its number.
    ///
    /// # Errors
    /// As of the database.
    pub fn cost_of_tasks(&self) -> Result<Vec<(i64, u64)>, Error> {
        let sql = "SELECT task, SUM(micros) FROM charge JOIN process ON process.id = charge.process
            WHERE task IS NOT NULL GROUP BY task ORDER BY task";
        self.read(|db| db.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
    }

    /// What was spent before this time does not count against a budget.
    ///
    /// # Errors
    /// As of the database.
    pub fn counts_since_ms(&self) -> Result<u64, Error> {
        self.read(reset_ms)
    }

    /// From now on nothing that was spent before counts against a budget. It stays in the ledger.
    ///
    /// # Errors
    /// As of the database.
    pub fn reset_budget(&mut self, now_ms: u64) -> Result<(), Error> {
        self.change(|tx| {
            tx.execute("INSERT OR REPLACE INTO reset (one, at_ms) VALUES (1, ?1)", [now_ms])?;
            Ok(())
        })
    }
}

fn reset_ms(db: &rusqlite::Connection) -> rusqlite::Result<u64> {
    Ok(db.query_row("SELECT at_ms FROM reset", [], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn total_of(db: &rusqlite::Connection, session: &str) -> rusqlite::Result<Option<u64>> {
    db.query_row("SELECT micros FROM session WHERE id = ?1", [session], |row| row.get(0)).optional()
}

fn write(tx: &Transaction<'_>, account: &str, entry: &Entry, now_ms: u64) -> Result<(), Stop> {
    let running = || -> rusqlite::Result<Option<(i64, String)>> {
        let newest = "SELECT id, session FROM process WHERE account = ?1 ORDER BY id DESC LIMIT 1";
        tx.query_row(newest, [account], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    };
    match entry {
        Entry::Log { path, totals: Totals { tokens_in, tokens_out, cost_micros } } => {
            let sql = "INSERT INTO log (account, path, tokens_in, tokens_out, micros) VALUES (?1, ?2, ?3, ?4, ?5)";
            tx.execute(sql, params![account, path, tokens_in, tokens_out, cost_micros])?;
        }
        Entry::Start { session, task } => {
            let sql = "INSERT INTO process (account, task, session, began_ms) VALUES (?1, ?2, ?3, ?4)";
            tx.execute(sql, params![account, task, session, now_ms])?;
        }
        Entry::Use { message, model, main, tokens, thought_micros } => {
            // Of no process that was ever started: nothing says that, and nothing can be charged to it.
            let Some((process, _)) = running()? else { return Ok(()) };
            tx.execute(
                "INSERT INTO answer (process, message, model, main, input, output, cache_write, cache_read, at_ms)
                 VALUES (:process, :message, :model, :main, :input, :output, :cache_write, :cache_read, :now)
                 ON CONFLICT DO UPDATE SET input = :input, output = :output, cache_write = :cache_write, cache_read = :cache_read",
                named_params! {
                    ":process": process, ":message": message, ":model": model, ":main": main, ":input": tokens.input,
                    ":output": tokens.output, ":cache_write": tokens.cache_write, ":cache_read": tokens.cache_read,
                    ":now": now_ms,
                },
            )?;
            tx.execute(
                "DELETE FROM charge WHERE process = ?1 AND message = ?2 AND NOT settled",
                params![process, message],
            )?;
            let sql = "INSERT INTO charge (process, message, micros, settled, at_ms) VALUES (?1, ?2, ?3, 0, ?4)";
            tx.execute(sql, params![process, message, thought_micros, now_ms])?;
            tx.execute(
                "UPDATE charge SET unanswered = ?2, micros = ?3
                 WHERE unanswered = '' AND process IN (SELECT id FROM process WHERE account = ?1)",
                params![account, model, thought_micros],
            )?;
        }
        Entry::Unanswered { model, thought_micros } => {
            let Some((process, _)) = running()? else { return Ok(()) };
            // A worker that died before it had put all in order is followed by one that begins anew with it.
            tx.execute(
                "INSERT INTO charge (process, message, micros, settled, at_ms, unanswered) SELECT ?1, NULL, ?2, 1, ?3, ?4
                 WHERE NOT EXISTS (SELECT 1 FROM charge WHERE process = ?1 AND unanswered IS NOT NULL)",
                params![process, thought_micros, now_ms, model],
            )?;
        }
        Entry::Result { cost_micros, total_micros, prices } => {
            let Some((process, session)) = running()? else { return Ok(()) };
            prices.iter().try_for_each(|price| learn(tx, price))?;
            let before = total_of(tx, &session)?.unwrap_or(0);
            if let Some(told) = told(*cost_micros, *total_micros, before) {
                tx.execute("DELETE FROM charge WHERE process = ?1 AND NOT settled", [process])?;
                let sql = "INSERT INTO charge (process, message, micros, settled, at_ms) VALUES (?1, NULL, ?2, 1, ?3)";
                tx.execute(sql, params![process, told, now_ms])?;
            } else {
                tx.execute("UPDATE charge SET settled = 1 WHERE process = ?1", [process])?;
            }
            if let Some(total) = total_micros {
                tx.execute("INSERT OR REPLACE INTO session (id, micros) VALUES (?1, ?2)", params![session, total])?;
            }
        }
    }
    Ok(())
}

/// The agent's word on a price. The first one corrects what was thought before it.
fn learn(tx: &Transaction<'_>, price: &Price) -> rusqlite::Result<()> {
    let Price { model, told_micros, listed_micros } = price;
    let known = tx.query_row("SELECT 1 FROM price WHERE model = ?1", [model], |_| Ok(())).optional()?;
    if known.is_none() {
        tx.execute(
            "UPDATE charge SET micros = (micros * ?2 + ?3 - 1) / ?3 WHERE unanswered = ?1 OR (NOT settled AND EXISTS
             (SELECT 1 FROM answer WHERE answer.process = charge.process AND answer.message = charge.message AND model = ?1))",
            params![model, told_micros, listed_micros],
        )?;
    }
    tx.execute(
        "INSERT OR REPLACE INTO price (model, told_micros, listed_micros) VALUES (?1, ?2, ?3)",
        params![model, told_micros, listed_micros],
    )?;
    Ok(())
}

/// What a result says that it cost itself. A cost of 0 for answers that were given is a gap in the agent's own books: `None`.
#[must_use]
pub fn told(cost_micros: Option<u64>, total_micros: Option<u64>, session_before: u64) -> Option<u64> {
    let by_total = total_micros.map(|total| total.saturating_sub(session_before));
    cost_micros.or(by_total).filter(|cost| *cost > 0)
}
