//! The queue's acts: what the writer does in a transaction for a request that is stored, claimed, ended or rescued.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::callbacks;
use super::checkpoint::Checkpoints;
use super::inserts::{Inserts, New};
use super::keys::{self, Keys};
use super::marks::Marks;
use super::numbers::Numbers;
use super::rows::{CALL, add_detail, read_call, read_rid, read_state};
use super::users::{caller, is_still};
use super::writer::Edges;
use crate::model::{Answer, Call, Failure, Outcome, Owner, Rid, State, time};
use crate::store::{Cancelled, Claim, Claimed, Ending, Inserted, Known, Lapsed, NewRequest, Rescued, Result};

/// What the writer knows beside the tables.
pub struct Memory {
    /// Which keys have been used.
    pub keys: Keys,
    /// Whether users can have changed.
    pub marks: Marks,
    /// The rows' numbers.
    pub numbers: Numbers,
    /// Rows that are not in the table yet.
    pub inserts: Inserts,
}

impl Memory {
    /// Lets the table have all rows: to be called before anything looks at it.
    pub fn flush(&self, connection: &Connection) -> Result<()> {
        self.flush_and(connection, || Ok(()))
    }

    /// The same, and `then` something with the rows.
    fn flush_and<T>(&self, connection: &Connection, then: impl FnOnce() -> Result<T>) -> Result<T> {
        self.inserts.flush_and(connection, &self.keys, &self.numbers, then)
    }
}

/// What the queue has done at the edges of the writer's transactions.
pub struct AtEdges {
    /// What is brought up to date.
    pub memory: Arc<Memory>,
    /// What copies the write-ahead log.
    pub checkpoints: Checkpoints,
}

impl Edges for AtEdges {
    fn before_commit(&self, connection: &Connection) -> Result<()> {
        self.memory.flush(connection)?;
        self.memory.marks.ending();
        Ok(())
    }

    fn ended(&self, connection: &Connection, committed: bool) {
        // There are none left, but where the transaction was undone: its acts are run again.
        self.memory.inserts.take();
        self.memory.keys.ended(committed);
        if let Some(header) = self.memory.marks.ended(committed, connection.total_changes()) {
            self.checkpoints.ended(header.frames);
        }
    }
}

/// Adds a row for a request that waits; it is in the table once all are flushed.
pub fn insert(connection: &Connection, memory: &Memory, new: &Arc<NewRequest>) -> Result<Inserted> {
    let known = match &new.vouched {
        Some(known) => vouches(connection, &memory.marks, known)?,
        // A body may have taken long: its caller may be gone since.
        None => new.owner.local_id().is_none() || caller(connection, &new.owner)?.is_some(),
    };
    if !known {
        return Ok(Inserted::Stranger);
    }
    let hash = new.key.as_ref().map(|key| keys::hash(&new.owner, &key.text));
    // The writer is one: nobody uses the key in between.
    if let (Some(key), Some(hash)) = (&new.key, hash) {
        if memory.inserts.has(hash) {
            memory.flush(connection)?;
        }
        if let Some((rid, fingerprint)) = memory.keys.find(connection, &new.owner, &key.text, hash)? {
            return Ok(if fingerprint == key.fingerprint { Inserted::Known(rid) } else { Inserted::KeyTaken });
        }
    }
    let number = memory.numbers.of(new.rid);
    if number.is_none() {
        memory.flush(connection)?;
    }
    memory.inserts.add(New { number, request: Arc::clone(new), hash });
    // Alone: what number the database gives it is known only then, and its key is remembered by that.
    if number.is_none() {
        memory.flush(connection)?;
    }
    Ok(Inserted::Stored)
}

/// Adds a row for a request that runs from the beginning.
pub fn insert_running(
    connection: &Connection,
    memory: &Memory,
    new: &Arc<NewRequest>,
    now: Timestamp,
    lease: Timestamp,
) -> Result<(Inserted, Option<Claim>)> {
    let inserted = insert(connection, memory, new)?;
    if inserted != Inserted::Stored {
        return Ok((inserted, None));
    }
    let id = memory.flush_and(connection, || {
        // Not the last row that was inserted: others may have gone into the table with it.
        let sql = "SELECT id FROM bgrs WHERE rid = ?";
        let id = connection.prepare_cached(sql)?.query_row([new.rid.encode(&mut [0; 32])], |row| row.get(0))?;
        let sql = "UPDATE bgrs SET status_id = 2, attempts = 1, started_dt = ?, lease_dt = ? WHERE id = ?";
        connection.prepare_cached(sql)?.execute(params![time::format(now), time::format(lease), id])?;
        Ok(id)
    })?;
    Ok((inserted, Some(Claim { id, rid: new.rid, attempt: 1 })))
}

/// Whether the caller is still as remembered. The row is looked at where users can have changed since it was.
fn vouches(connection: &Connection, marks: &Marks, known: &Known) -> Result<bool> {
    let mark = marks.within();
    if mark.is_some_and(|mark| known.is_current(mark)) {
        return Ok(true);
    }
    let still = is_still(connection, known)?;
    if let Some(mark) = mark.filter(|_| still) {
        known.see(mark);
    }
    Ok(still)
}

/// Ends a request that has not ended.
pub fn cancel(connection: &Connection, rid: Rid, now: Timestamp, expires: Timestamp) -> Result<Option<Cancelled>> {
    let sql = "SELECT id, status_id, attempts, source, user_id FROM bgrs WHERE rid = ?";
    let found = connection.prepare_cached(sql)?.query_row([rid.to_string()], |row| {
        let claim = Claim { id: row.get(0)?, rid, attempt: row.get(2)? };
        Ok((claim, read_state(row, 1)?, Owner { source: row.get(3)?, id: row.get(4)? }))
    });
    let Some((claim, state, owner)) = found.optional()? else { return Ok(None) };
    let cancelled = match state {
        State::Queued => Cancelled::Queued,
        State::Retrying => Cancelled::Retrying(owner),
        State::Running => Cancelled::Running(claim),
        State::Finished | State::Failed | State::Cancelled => return Ok(Some(Cancelled::Ended)),
    };
    let sql = "UPDATE bgrs SET status_id = 6, lease_dt = NULL, retry_dt = NULL, finished_dt = ?, expires_dt = ?,
                   secrets = NULL
               WHERE id = ?";
    connection.prepare_cached(sql)?.execute(params![time::format(now), time::format(expires), claim.id])?;
    add_detail(connection, claim.id, &time::format(now), "cancelled")?;
    callbacks::begin(connection, claim.id, now)?;
    Ok(Some(cancelled))
}

pub fn claim(connection: &Connection, owner: &Owner, now: Timestamp, lease: Timestamp) -> Result<Option<Claimed>> {
    let found = [oldest(connection, owner)?, due(connection, owner, now)?];
    let Some((mut claim, tries, call)) = found.into_iter().flatten().min_by_key(|(claim, ..)| claim.id) else {
        return Ok(None);
    };
    claim.attempt += 1;
    // Not one statement with RETURNING: that one makes a temporary table each time.
    let sql = "UPDATE bgrs SET status_id = 2, attempts = ?, started_dt = ?, lease_dt = ?, retry_dt = NULL WHERE id = ?";
    let values = params![claim.attempt, time::format(now), time::format(lease), claim.id];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(Some(Claimed { claim, owner: owner.clone(), caller: caller(connection, owner)?, tries, call }))
}

/// A request with the number of its last attempt, and how many were in vain.
type Found = (Claim, i64, Call);

/// The owner's oldest request that is queued.
fn oldest(connection: &Connection, owner: &Owner) -> Result<Option<Found>> {
    // SQLite takes a partial index only where the query repeats its condition; INDEXED BY makes a slip an error and not
    // a walk through the whole table.
    let sql = format!(
        "SELECT id, rid, attempts, tries, {CALL} FROM bgrs INDEXED BY bgrs_unended
         WHERE finished_dt IS NULL AND source = ? AND user_id = ? AND status_id = 1 ORDER BY id LIMIT 1"
    );
    let found = connection.prepare_cached(&sql)?.query_row(params![owner.source, owner.id], found);
    Ok(found.optional()?)
}

/// The owner's request whose next attempt has been due for longest.
fn due(connection: &Connection, owner: &Owner, now: Timestamp) -> Result<Option<Found>> {
    let sql = format!(
        "SELECT id, rid, attempts, tries, {CALL} FROM bgrs INDEXED BY bgrs_retries
         WHERE status_id = 3 AND source = ? AND user_id = ? AND retry_dt <= ? ORDER BY retry_dt LIMIT 1"
    );
    let values = params![owner.source, owner.id, time::format_millis(now)];
    Ok(connection.prepare_cached(&sql)?.query_row(values, found).optional()?)
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let claim = Claim { id: row.get(0)?, rid: read_rid(row, 1)?, attempt: row.get(2)? };
    Ok((claim, row.get(3)?, read_call(row, 4)?))
}

/// Puts a running request aside until `due`.
pub fn retry(connection: &Connection, claim: Claim, due: Timestamp) -> Result<bool> {
    let sql = "UPDATE bgrs SET status_id = 3, lease_dt = NULL, retry_dt = ?, tries = tries + 1
               WHERE id = ? AND attempts = ? AND status_id = 2";
    let values = params![time::format_millis(due), claim.id, claim.attempt];
    Ok(connection.prepare_cached(sql)?.execute(values)? > 0)
}

pub fn heartbeat(connection: &Connection, claims: &[Claim], lease: Timestamp) -> Result<Vec<Claim>> {
    let lease = time::format(lease);
    let sql = "UPDATE bgrs SET lease_dt = ? WHERE id = ? AND attempts = ? AND status_id = 2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut lost = Vec::new();
    for claim in claims {
        if statement.execute(params![lease, claim.id, claim.attempt])? == 0 {
            lost.push(*claim);
        }
    }
    Ok(lost)
}

pub fn finish(connection: &Connection, claim: Claim, ending: &Ending) -> Result<bool> {
    let held = match &ending.outcome {
        Outcome::Finished(answer) => finish_with(connection, claim, ending, answer)?,
        Outcome::Failed(failure) => fail(connection, claim, ending, failure)?,
    };
    if held {
        let detail = match &ending.outcome {
            Outcome::Finished(_) => "done",
            Outcome::Failed(failure) => &failure.detail,
        };
        add_detail(connection, claim.id, &time::format(ending.at), detail)?;
        if ending.told {
            callbacks::begin(connection, claim.id, ending.at)?;
        }
    }
    Ok(held)
}

fn finish_with(connection: &Connection, claim: Claim, ending: &Ending, answer: &Answer) -> Result<bool> {
    let sql = "UPDATE bgrs SET status_id = 4, progress = 10000, lease_dt = NULL, finished_dt = ?, expires_dt = ?,
                   status = ?, content_type = ?, head = ?, result = ?, size = ?, etag = ?, secrets = NULL
               WHERE id = ? AND attempts = ? AND status_id = 2";
    let result = answer.result.as_ref();
    let content_type = answer.headers.get("content-type").filter(|_| result.is_some());
    let changed = connection.prepare_cached(sql)?.execute(params![
        time::format(ending.at),
        time::format(ending.expires),
        answer.status,
        content_type.map(String::from_utf8_lossy),
        answer.headers.to_json(),
        result.map(|file| &file.name),
        result.map(|file| file.size as i64),
        result.map(|file| &file.etag),
        claim.id,
        claim.attempt,
    ])?;
    if let Some(bytes) = answer.copy.as_ref().filter(|_| changed > 0) {
        let sql = "INSERT OR REPLACE INTO bgrs_copies (bgrs_id, bytes) VALUES (?, ?)";
        connection.prepare_cached(sql)?.execute(params![claim.id, &**bytes])?;
    }
    Ok(changed > 0)
}

fn fail(connection: &Connection, claim: Claim, ending: &Ending, failure: &Failure) -> Result<bool> {
    let sql = "UPDATE bgrs SET status_id = 5, lease_dt = NULL, finished_dt = ?, expires_dt = ?, failure = ?,
                   secrets = NULL
               WHERE id = ? AND attempts = ? AND status_id = 2";
    let changed = connection.prepare_cached(sql)?.execute(params![
        time::format(ending.at),
        time::format(ending.expires),
        failure.kind.status(),
        claim.id,
        claim.attempt,
    ])?;
    Ok(changed > 0)
}

pub fn requeue(connection: &Connection, claim: Claim) -> Result<bool> {
    let sql = "UPDATE bgrs SET status_id = 1, lease_dt = NULL WHERE id = ? AND attempts = ? AND status_id = 2";
    Ok(connection.prepare_cached(sql)?.execute(params![claim.id, claim.attempt])? > 0)
}

pub fn rescue(
    connection: &Connection,
    lapsed: Lapsed,
    attempts: i64,
    now: Timestamp,
    expires: Timestamp,
    limit: usize,
) -> Result<Vec<Rescued>> {
    // A lease's text sorts as its time does; ':' sorts behind every digit.
    let before = match lapsed {
        Lapsed::All => ":".to_owned(),
        Lapsed::Before(moment) => time::format(moment),
    };
    let sql = "SELECT id, rid, attempts, source, user_id, method, repeatable, tries, callback IS NOT NULL FROM bgrs
               INDEXED BY bgrs_unended WHERE finished_dt IS NULL AND status_id = 2 AND lease_dt < ?
               ORDER BY id LIMIT ?";
    let lost: Vec<Lost> = connection
        .prepare_cached(sql)?
        .query_map(params![before, limit as i64], |row| {
            Ok(Lost {
                claim: Claim { id: row.get(0)?, rid: read_rid(row, 1)?, attempt: row.get(2)? },
                owner: Owner { source: row.get(3)?, id: row.get(4)? },
                method: row.get(5)?,
                repeatable: row.get(6)?,
                tries: row.get(7)?,
                told: row.get(8)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    lost.into_iter().map(|lost| rescue_one(connection, lost, attempts, now, expires)).collect()
}

/// A running request that has lost its worker.
struct Lost {
    claim: Claim,
    owner: Owner,
    method: String,
    repeatable: bool,
    tries: i64,
    told: bool,
}

fn rescue_one(
    connection: &Connection,
    lost: Lost,
    attempts: i64,
    now: Timestamp,
    expires: Timestamp,
) -> Result<Rescued> {
    let Lost { claim, owner, method, repeatable, tries, told } = lost;
    let failure = if !repeatable {
        Failure::interrupted(&method)
    } else if claim.attempt - tries >= attempts {
        Failure::no_answer(format!("interrupted by a restart; given up after {} attempts", claim.attempt))
    } else {
        requeue(connection, claim)?;
        let detail = format!("interrupted by a restart in attempt {}; queued again", claim.attempt);
        add_detail(connection, claim.id, &time::format(now), &detail)?;
        return Ok(Rescued::Requeued(claim.rid, owner));
    };
    let ending = Ending { outcome: Outcome::Failed(failure), at: now, expires, told };
    finish(connection, claim, &ending)?;
    Ok(Rescued::Failed(claim.rid))
}
