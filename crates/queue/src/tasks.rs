//! Tasks: made, read, changed, removed.

use std::collections::HashMap;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};

use crate::task::{self, Change, Draft, Holder, Lease, Project, Task, Word, word};
use crate::{Error, Queue, Standing, Status, Stop};

impl Queue {
    /// Whose queue it is; `None`: nobody has made one here yet.
    ///
    /// # Errors
    /// As of the database.
    pub fn project(&self) -> Result<Option<Project>, Error> {
        self.read(|db| {
            db.query_row("SELECT name, folder, created_ms FROM project", [], |row| {
                Ok(Project { name: row.get(0)?, folder: row.get(1)?, created_ms: row.get(2)? })
            })
            .optional()
        })
    }

    /// Makes it somebody's queue. `false`: it is already, and stays what it is.
    ///
    /// # Errors
    /// As of the database.
    pub fn make_project(&mut self, name: &str, folder: Option<&str>, now_ms: u64) -> Result<bool, Error> {
        self.change(|tx| {
            let sql = "INSERT OR IGNORE INTO project (one, name, folder, created_ms) VALUES (1, ?1, ?2, ?3)";
            Ok(tx.execute(sql, params![name, folder, now_ms])? > 0)
        })
    }

    /// All tasks, in the order of their numbers.
    ///
    /// # Errors
    /// As of the database.
    pub fn tasks(&self) -> Result<Vec<Task>, Error> {
        self.read(|db| select(db, None))
    }

    /// One task.
    ///
    /// # Errors
    /// [`Error::NoTask`], and as of the database.
    pub fn task(&self, id: i64) -> Result<Task, Error> {
        self.read(|db| select(db, Some(id)))?.pop().ok_or(Error::NoTask(id))
    }

    /// Makes a task; gives its number.
    ///
    /// # Errors
    /// [`Error::NoTitle`], [`Error::NoTask`] for one that it needs, and as of the database.
    pub fn create_task(&mut self, draft: &Draft, now_ms: u64) -> Result<i64, Error> {
        let draft = draft.tidied();
        self.change(|tx| {
            let id = insert(tx, None, &draft, now_ms)?;
            set_needs(tx, id, &draft.needs)?;
            Ok(id)
        })
    }

    /// Changes what a task says.
    ///
    /// # Errors
    /// [`Error::NoTask`], [`Error::NoTitle`], [`Error::Circle`], and as of the database.
    pub fn edit(&mut self, id: i64, change: &Change, now_ms: u64) -> Result<(), Error> {
        let title = change.title.as_deref().map(task::title);
        if title.as_deref() == Some("") {
            return Err(Error::NoTitle);
        }
        let description = change.description.as_deref().map(task::description);
        self.change(|tx| {
            let sql = "UPDATE task SET title = COALESCE(:title, title), description = COALESCE(:description, description),
                priority = COALESCE(:priority, priority), kind = COALESCE(:kind, kind), updated_ms = :now WHERE id = :id";
            let changed = tx.execute(
                sql,
                named_params! {
                    ":title": title, ":description": description, ":priority": change.priority.map(word),
                    ":kind": change.kind.map(word), ":now": now_ms, ":id": id,
                },
            )?;
            if changed == 0 {
                return Err(Error::NoTask(id).into());
            }
            match &change.needs {
                Some(needs) => set_needs(tx, id, needs),
                None => Ok(()),
            }
        })
    }

    /// Removes a task that no other one needs and nobody works on.
    ///
    /// # Errors
    /// [`Error::NoTask`], [`Error::NeededBy`], [`Error::Held`], and as of the database.
    pub fn remove(&mut self, id: i64, now_ms: u64) -> Result<(), Error> {
        self.change(|tx| {
            crate::claims::refuse_if_held(tx, id, None, now_ms)?;
            let mut query = tx.prepare("SELECT task FROM dependency WHERE needs = ?1 ORDER BY task")?;
            let by: Vec<i64> = query.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
            if !by.is_empty() {
                return Err(Error::NeededBy { id, by }.into());
            }
            match tx.execute("DELETE FROM task WHERE id = ?1", [id])? {
                0 => Err(Error::NoTask(id).into()),
                _ => Ok(()),
            }
        })
    }

    /// Sets a task aside until somebody unblocks it. A claim of `owner` ends with it.
    ///
    /// # Errors
    /// [`Error::NoTask`], [`Error::Held`] by somebody else, [`Error::NotReady`] if it is done, and as of the database.
    pub fn block(&mut self, id: i64, reason: &str, owner: Option<&str>, now_ms: u64) -> Result<(), Error> {
        let reason = task::description(reason);
        self.change(|tx| {
            crate::claims::refuse_if_held(tx, id, owner, now_ms)?;
            let sql = "SELECT status = 'done' FROM task WHERE id = ?1";
            if tx.query_row(sql, [id], |row| row.get::<_, bool>(0))? {
                // Unblocked, it would be done a second time.
                return Err(Error::NotReady { id, standing: Standing::Done }.into());
            }
            tx.execute("DELETE FROM lease WHERE task = ?1", [id])?;
            let sql = "UPDATE task SET status = 'blocked', reason = ?2, updated_ms = ?3, done_ms = NULL WHERE id = ?1";
            tx.execute(sql, params![id, reason, now_ms])?;
            Ok(())
        })
    }

    /// Opens a task that is blocked or done; its attempts count afresh. `false`: it was open.
    ///
    /// # Errors
    /// [`Error::NoTask`], and as of the database.
    pub fn open_again(&mut self, id: i64, from: Status, now_ms: u64) -> Result<bool, Error> {
        self.change(|tx| {
            let status: Option<String> =
                tx.query_row("SELECT status FROM task WHERE id = ?1", [id], |row| row.get(0)).optional()?;
            if status.is_none() {
                return Err(Error::NoTask(id).into());
            }
            let sql = "UPDATE task SET status = 'open', reason = NULL, done_ms = NULL, attempts = 0, updated_ms = ?2
                WHERE id = ?1 AND status = ?3";
            Ok(tx.execute(sql, params![id, now_ms, word(from)])? > 0)
        })
    }

    /// The branches on which the results are that this task needs, and those that these need, the oldest task first.
    ///
    /// # Errors
    /// As of the database.
    pub fn branches_needed(&self, id: i64) -> Result<Vec<String>, Error> {
        let sql = "WITH RECURSIVE below (id) AS (
                SELECT needs FROM dependency WHERE task = ?1
                UNION SELECT d.needs FROM dependency d JOIN below ON d.task = below.id)
            SELECT t.branch FROM below JOIN task t ON t.id = below.id
            WHERE t.branch IS NOT NULL AND t.status = 'done' ORDER BY t.id";
        self.read(|db| db.prepare(sql)?.query_map([id], |row| row.get(0))?.collect())
    }

    /// Notes on which branch a task's result is.
    ///
    /// # Errors
    /// [`Error::NoTask`], and as of the database.
    pub fn set_branch(&mut self, id: i64, branch: Option<&str>) -> Result<(), Error> {
        self.change(|tx| match tx.execute("UPDATE task SET branch = ?2 WHERE id = ?1", params![id, branch])? {
            0 => Err(Error::NoTask(id).into()),
            _ => Ok(()),
        })
    }
}

/// `id`: a number that is known to be free.
pub(crate) fn insert(tx: &Transaction<'_>, id: Option<i64>, draft: &Draft, now_ms: u64) -> Result<i64, Stop> {
    if draft.title.is_empty() {
        return Err(Error::NoTitle.into());
    }
    let sql = "INSERT INTO task (id, title, description, priority, kind, status, created_ms, updated_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, 'open', ?6, ?6)";
    let Draft { title, description, priority, kind, .. } = draft;
    tx.execute(sql, params![id, title, description, word(*priority), word(*kind), now_ms])?;
    Ok(tx.last_insert_rowid())
}

pub(crate) fn set_needs(tx: &Transaction<'_>, id: i64, needs: &[i64]) -> Result<(), Stop> {
    tx.execute("DELETE FROM dependency WHERE task = ?1", [id])?;
    for needed in needs {
        let known: bool =
            tx.query_row("SELECT EXISTS (SELECT 1 FROM task WHERE id = ?1)", [needed], |row| row.get(0))?;
        if !known {
            return Err(Error::NoTask(*needed).into());
        }
        let mut query = tx.prepare("SELECT task, needs FROM dependency")?;
        let edges: Vec<(i64, i64)> =
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        if let Some(circle) = policy::queue::circle(&edges, id, *needed) {
            return Err(Error::Circle { id, circle }.into());
        }
        tx.execute("INSERT OR IGNORE INTO dependency (task, needs) VALUES (?1, ?2)", [id, *needed])?;
    }
    Ok(())
}

/// All tasks, or this one.
fn select(db: &Connection, id: Option<i64>) -> rusqlite::Result<Vec<Task>> {
    let mut needs: HashMap<i64, (Vec<i64>, usize)> = HashMap::new();
    let mut query = db.prepare(
        "SELECT d.task, d.needs, t.status <> 'done' FROM dependency d JOIN task t ON t.id = d.needs
         WHERE ?1 IS NULL OR d.task = ?1 ORDER BY d.needs",
    )?;
    let mut rows = query.query([id])?;
    while let Some(row) = rows.next()? {
        let (needed, unmet) = needs.entry(row.get(0)?).or_default();
        needed.push(row.get(1)?);
        *unmet += usize::from(row.get::<_, bool>(2)?);
    }
    let mut query = db.prepare(
        "SELECT id, title, description, priority, kind, status, reason, attempts, branch, created_ms, updated_ms, done_ms,
                owner, holder, since_ms, expires_ms
         FROM task LEFT JOIN lease ON lease.task = task.id WHERE ?1 IS NULL OR id = ?1 ORDER BY id",
    )?;
    query
        .query_map([id], |row| {
            let id = row.get(0)?;
            let (needs, unmet) = needs.remove(&id).unwrap_or_default();
            let owner: Option<String> = row.get(12)?;
            let lease = match owner {
                Some(owner) => Some(lease(row, owner)?),
                None => None,
            };
            Ok(Task {
                id,
                title: row.get(1)?,
                description: row.get(2)?,
                priority: read_word(row, 3)?,
                kind: read_word(row, 4)?,
                status: read_word(row, 5)?,
                reason: row.get(6)?,
                needs,
                unmet,
                lease,
                attempts: row.get(7)?,
                branch: row.get(8)?,
                created_ms: row.get(9)?,
                updated_ms: row.get(10)?,
                done_ms: row.get(11)?,
            })
        })?
        .collect()
}

fn lease(row: &Row<'_>, owner: String) -> rusqlite::Result<Lease> {
    let holder: Holder = read_word(row, 13)?;
    Ok(Lease { owner, holder, since_ms: row.get(14)?, expires_ms: row.get(15)? })
}

pub(crate) fn read_word<T: Word>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    T::read(&text).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}
