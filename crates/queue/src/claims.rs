//! Claims: a task belongs to one worker or person at a time, for as long as they show life.

use policy::queue::{Candidate, Standing, look_again_ms, next};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::task::{Holder, word};
use crate::tasks::read_word;
use crate::{Error, Queue, Stop};

/// Who claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// The same for all calls of one process, and of no other: run and start time are in it.
    pub owner: String,
    pub holder: Holder,
    /// So long does the claim hold without a renewal.
    pub lease_ms: u64,
    /// It holds the project's lock: any other worker that claims to work on something here is dead.
    pub holds_lock: bool,
}

/// Which task is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The next one that is ready.
    Next,
    This(i64),
}

/// What a claim found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is the claimant's now.
    Task(Claim),
    /// Nothing is ready; something may be at this time without anybody changing anything.
    Nothing { look_again_ms: Option<u64> },
}

/// A claimed task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub id: i64,
    pub expires_ms: u64,
}

impl Queue {
    /// Claims a task, if it is ready. One that the same owner has claimed already is given again if it is asked for by its number.
    ///
    /// # Errors
    /// For a certain task: [`Error::NoTask`], [`Error::Held`], [`Error::NotReady`]. And as of the database.
    pub fn claim(&mut self, which: Which, claimant: &Claimant, now_ms: u64) -> Result<Found, Error> {
        self.change(|tx| {
            let candidates = candidates(tx, which, claimant)?;
            let id = match which {
                Which::Next => match next(&candidates, now_ms) {
                    Some(id) => id,
                    None => return Ok(Found::Nothing { look_again_ms: look_again_ms(&candidates, now_ms) }),
                },
                Which::This(id) => id,
            };
            if let Which::This(id) = which {
                refuse_if_held_by_another(tx, id, claimant, now_ms)?;
                let candidate = candidates.iter().find(|candidate| candidate.id == id);
                let standing = candidate.map_or(Standing::Done, |candidate| candidate.standing(now_ms));
                if standing != Standing::Ready {
                    return Err(Error::NotReady { id, standing }.into());
                }
            }
            let expires_ms = now_ms.saturating_add(claimant.lease_ms);
            let sql =
                "INSERT OR REPLACE INTO lease (task, owner, holder, since_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
            tx.execute(sql, params![id, claimant.owner, word(claimant.holder), now_ms, expires_ms])?;
            Ok(Found::Task(Claim { id, expires_ms }))
        })
    }

    /// Shows life. `false`: the claim is somebody else's by now, or over and the task done, blocked or removed.
    ///
    /// # Errors
    /// As of the database.
    pub fn renew(&mut self, id: i64, claimant: &Claimant, now_ms: u64) -> Result<bool, Error> {
        let expires_ms = now_ms.saturating_add(claimant.lease_ms);
        self.change(|tx| {
            let sql = "UPDATE lease SET expires_ms = ?3 WHERE task = ?1 AND owner = ?2
                AND EXISTS (SELECT 1 FROM task WHERE id = ?1 AND status = 'open')";
            Ok(tx.execute(sql, params![id, claimant.owner, expires_ms])? > 0)
        })
    }

    /// Whether an open task is claimed by this owner. Expired or not: nobody else has it.
    ///
    /// # Errors
    /// As of the database.
    pub fn is_held_by(&self, id: i64, owner: &str) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM lease JOIN task ON task.id = lease.task
            WHERE task = ?1 AND owner = ?2 AND status = 'open')";
        self.read(|db| db.query_row(sql, params![id, owner], |row| row.get(0)))
    }

    /// Gives a claim back. One of somebody else stays, unless that is wanted.
    ///
    /// # Errors
    /// As of the database.
    pub fn release(&mut self, id: i64, owner: Option<&str>) -> Result<bool, Error> {
        self.change(|tx| {
            let sql = "DELETE FROM lease WHERE task = ?1 AND (?2 IS NULL OR owner = ?2)";
            Ok(tx.execute(sql, params![id, owner])? > 0)
        })
    }

    /// Notes that a task is done. `false`: it was already. `owner`: only if nobody else works on it.
    ///
    /// # Errors
    /// [`Error::NoTask`], [`Error::Held`], and as of the database.
    pub fn complete(&mut self, id: i64, owner: Option<&str>, now_ms: u64) -> Result<bool, Error> {
        self.change(|tx| {
            refuse_if_held(tx, id, owner, now_ms)?;
            done(tx, id, now_ms)
        })
    }

    /// The same whoever works on it: that worker notices, and stops.
    ///
    /// # Errors
    /// [`Error::NoTask`], and as of the database.
    pub fn complete_anyway(&mut self, id: i64, now_ms: u64) -> Result<bool, Error> {
        self.change(|tx| {
            exists(tx, id)?;
            done(tx, id, now_ms)
        })
    }

    /// Counts a result that was not accepted; gives how many there were.
    ///
    /// # Errors
    /// [`Error::NoTask`], and as of the database.
    pub fn reject(&mut self, id: i64, now_ms: u64) -> Result<u32, Error> {
        self.change(|tx| {
            let sql = "UPDATE task SET attempts = attempts + 1, updated_ms = ?2 WHERE id = ?1 RETURNING attempts";
            let attempts = tx.query_row(sql, params![id, now_ms], |row| row.get(0)).optional()?;
            attempts.ok_or_else(|| Error::NoTask(id).into())
        })
    }
}

fn done(tx: &Transaction<'_>, id: i64, now_ms: u64) -> Result<bool, Stop> {
    tx.execute("DELETE FROM lease WHERE task = ?1", [id])?;
    let sql = "UPDATE task SET status = 'done', reason = NULL, done_ms = ?2, updated_ms = ?2 WHERE id = ?1 AND status <> 'done'";
    Ok(tx.execute(sql, params![id, now_ms])? > 0)
}

/// All that is not done, without its texts: a queue may be long, and a claim is made often.
fn candidates(tx: &Transaction<'_>, which: Which, claimant: &Claimant) -> Result<Vec<Candidate>, Stop> {
    let mut query = tx.prepare(
        "SELECT t.id, t.priority, t.created_ms, t.status, l.owner, l.holder, l.expires_ms,
                (SELECT COUNT(*) FROM dependency d JOIN task n ON n.id = d.needs WHERE d.task = t.id AND n.status <> 'done')
         FROM task t LEFT JOIN lease l ON l.task = t.id WHERE t.status <> 'done'",
    )?;
    let candidates = query.query_map([], |row| {
        let owner: Option<String> = row.get(4)?;
        let lease = match owner {
            Some(owner) => {
                let of_a_worker = read_word::<Holder>(row, 5)? == Holder::Worker;
                // Who asks for its own task again gets it.
                let own = owner == claimant.owner && matches!(which, Which::This(_));
                let holder_is_dead = own || (owner != claimant.owner && claimant.holds_lock && of_a_worker);
                Some(policy::queue::Lease { expires_ms: row.get(6)?, holder_is_dead })
            }
            None => None,
        };
        Ok(Candidate {
            id: row.get(0)?,
            priority: read_word(row, 1)?,
            created_ms: row.get(2)?,
            status: read_word(row, 3)?,
            unmet: row.get(7)?,
            lease,
        })
    })?;
    Ok(candidates.collect::<Result<_, _>>()?)
}

fn exists(tx: &Transaction<'_>, id: i64) -> Result<(), Stop> {
    let found: bool = tx.query_row("SELECT EXISTS (SELECT 1 FROM task WHERE id = ?1)", [id], |row| row.get(0))?;
    if found { Ok(()) } else { Err(Error::NoTask(id).into()) }
}

/// Refuses for a task that is not there or that somebody else than `owner` works on.
pub(crate) fn refuse_if_held(tx: &Transaction<'_>, id: i64, owner: Option<&str>, now_ms: u64) -> Result<(), Stop> {
    exists(tx, id)?;
    let sql = "SELECT owner, expires_ms FROM lease WHERE task = ?1 AND expires_ms > ?2 AND owner IS NOT ?3";
    let held = tx.query_row(sql, params![id, now_ms, owner], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    match held {
        Some((owner, expires_ms)) => Err(Error::Held { id, owner, expires_ms }.into()),
        None => Ok(()),
    }
}

fn refuse_if_held_by_another(tx: &Transaction<'_>, id: i64, claimant: &Claimant, now_ms: u64) -> Result<(), Stop> {
    match refuse_if_held(tx, id, Some(&claimant.owner), now_ms) {
        Err(Stop::Refused(Error::Held { .. })) if claimant.holds_lock => {
            // A dead worker's claim keeps nobody away; a person's does.
            let sql = "SELECT holder = 'worker' FROM lease WHERE task = ?1";
            let of_a_worker: bool = tx.query_row(sql, [id], |row| row.get(0))?;
            if of_a_worker { Ok(()) } else { refuse_if_held(tx, id, Some(&claimant.owner), now_ms) }
        }
        other => other,
    }
}
