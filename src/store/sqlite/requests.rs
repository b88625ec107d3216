//! Background requests in SQLite.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Sqlite;
use crate::model::{Answer, Call, Failure, Headers, Outcome, Owner, Rid, State, StoredResult, time};
use crate::store::{
    Claim, Claimed, Detail, Ending, Lapsed, Leftover, NewRequest, Request, Rescued, Result, Store, Unended,
};

const COLUMNS: &str = "id, rid, source, user_id, method, name, status_id, progress, attempts, created_dt, started_dt, \
                       finished_dt, expires_dt, status, content_type, head, result, size, etag, failure";

#[async_trait]
impl Store for Sqlite {
    async fn insert(&self, new: NewRequest) -> Result<i64> {
        self.write(move |connection| insert(connection, &new)).await
    }

    async fn claim(&self, owner: &Owner, now: Timestamp, lease: Timestamp) -> Result<Option<Claimed>> {
        let owner = owner.clone();
        self.work(move |connection| claim(connection, &owner, now, lease)).await
    }

    async fn heartbeat(&self, claims: Vec<Claim>, lease: Timestamp) -> Result<Vec<Claim>> {
        self.work(move |connection| heartbeat(connection, &claims, lease)).await
    }

    async fn report(&self, claim: Claim, progress: Option<i64>, details: Vec<(String, String)>) -> Result<bool> {
        self.work(move |connection| {
            let sql = "UPDATE bgrs SET progress = max(progress, ?) WHERE id = ? AND attempts = ? AND status_id = 2";
            let values = params![progress.unwrap_or(0), claim.id, claim.attempt];
            if connection.prepare_cached(sql)?.execute(values)? == 0 {
                return Ok(false);
            }
            details.iter().try_for_each(|(dt, text)| add_detail(connection, claim.id, dt, text))?;
            Ok(true)
        })
        .await
    }

    async fn finish(&self, claim: Claim, ending: Ending) -> Result<bool> {
        self.work(move |connection| finish(connection, claim, &ending)).await
    }

    async fn finish_and_claim(
        &self,
        claim: Claim,
        ending: Ending,
        next: &Owner,
        lease: Timestamp,
    ) -> Result<(bool, Option<Claimed>)> {
        let next = next.clone();
        self.work(move |connection| {
            let held = finish(connection, claim, &ending)?;
            Ok((held, self::claim(connection, &next, ending.at, lease)?))
        })
        .await
    }

    async fn unsettled(&self, after: i64, limit: usize) -> Result<Vec<(i64, String)>> {
        self.read(move |connection| {
            let sql = "SELECT c.bgrs_id, b.result FROM bgrs_copies c JOIN bgrs b ON b.id = c.bgrs_id
                       WHERE c.bgrs_id > ? ORDER BY c.bgrs_id LIMIT ?";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![after, limit as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn copy(&self, id: i64) -> Result<Option<Vec<u8>>> {
        self.read(move |connection| {
            let sql = "SELECT bytes FROM bgrs_copies WHERE bgrs_id = ?";
            Ok(connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?)
        })
        .await
    }

    async fn settled(&self, ids: Vec<i64>) -> Result<()> {
        self.work(move |connection| {
            let mut statement = connection.prepare_cached("DELETE FROM bgrs_copies WHERE bgrs_id = ?")?;
            ids.iter().try_for_each(|id| statement.execute([id]).map(|_| ()))?;
            Ok(())
        })
        .await
    }

    async fn release(&self, claim: Claim, now: Timestamp, detail: &str) -> Result<bool> {
        let detail = detail.to_owned();
        self.work(move |connection| {
            let held = requeue(connection, claim)?;
            if held {
                add_detail(connection, claim.id, &time::format(now), &detail)?;
            }
            Ok(held)
        })
        .await
    }

    async fn rescue(
        &self,
        lapsed: Lapsed,
        attempts: i64,
        now: Timestamp,
        expires: Timestamp,
        limit: usize,
    ) -> Result<Vec<Rescued>> {
        self.work(move |connection| rescue(connection, lapsed, attempts, now, expires, limit)).await
    }

    async fn get(&self, rid: Rid) -> Result<Option<Request>> {
        self.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM bgrs WHERE rid = ?");
            Ok(connection.prepare_cached(&sql)?.query_row([rid.to_string()], read_request).optional()?)
        })
        .await
    }

    async fn details(&self, rid: Rid, after: i64, limit: usize) -> Result<Option<Vec<Detail>>> {
        self.read(move |connection| details(connection, rid, after, limit)).await
    }

    async fn last_detail(&self, rid: Rid) -> Result<Option<String>> {
        self.read(move |connection| {
            let sql = "SELECT d.details FROM bgrs_details d JOIN bgrs b ON d.bgrs_id = b.id WHERE b.rid = ?
                       ORDER BY d.id DESC LIMIT 1";
            Ok(connection.prepare_cached(sql)?.query_row([rid.to_string()], |row| row.get(0)).optional()?)
        })
        .await
    }

    async fn unended(&self) -> Result<HashMap<Owner, Unended>> {
        self.read(unended).await
    }

    async fn expire(&self, now: Timestamp, limit: usize) -> Result<Vec<Leftover>> {
        self.work(move |connection| {
            let sql = "DELETE FROM bgrs WHERE id IN
                           (SELECT id FROM bgrs WHERE expires_dt < ? ORDER BY expires_dt LIMIT ?)
                       RETURNING rid, result, body IS NOT NULL";
            let mut statement = connection.prepare_cached(sql)?;
            let gone = statement.query_map(params![time::format(now), limit as i64], read_leftover)?;
            Ok(gone.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn states(&self, rids: Vec<Rid>) -> Result<HashMap<Rid, (State, Option<String>)>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT status_id, result FROM bgrs WHERE rid = ?")?;
            let mut known = HashMap::new();
            for rid in rids {
                let row = statement.query_row([rid.to_string()], |row| Ok((read_state(row, 0)?, row.get(1)?)));
                if let Some(found) = row.optional()? {
                    known.insert(rid, found);
                }
            }
            Ok(known)
        })
        .await
    }

    async fn results(&self, after: i64, limit: usize) -> Result<Vec<(i64, Rid, String)>> {
        self.read(move |connection| {
            let sql = "SELECT id, rid, result FROM bgrs WHERE id > ? AND result IS NOT NULL ORDER BY id LIMIT ?";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement
                .query_map(params![after, limit as i64], |row| Ok((row.get(0)?, read_rid(row, 1)?, row.get(2)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn lose(&self, rid: Rid, now: Timestamp) -> Result<()> {
        self.work(move |connection| {
            let sql = "UPDATE bgrs SET status_id = 5, failure = 502, status = NULL, content_type = NULL, head = NULL,
                           result = NULL, size = NULL, etag = NULL
                       WHERE rid = ? AND status_id = 4 RETURNING id";
            let id = connection.prepare_cached(sql)?.query_row([rid.to_string()], |row| row.get(0)).optional()?;
            if let Some(id) = id {
                connection.prepare_cached("DELETE FROM bgrs_copies WHERE bgrs_id = ?")?.execute([id])?;
                add_detail(connection, id, &time::format(now), "the file of its result is gone from the media folder")?;
            }
            Ok(())
        })
        .await
    }

    async fn bytes(&self) -> Result<u64> {
        self.read(|connection| {
            let sum: i64 = connection.query_row("SELECT coalesce(sum(size), 0) FROM bgrs", [], |row| row.get(0))?;
            Ok(u64::try_from(sum).unwrap_or(0))
        })
        .await
    }

    async fn ping(&self) -> Result<()> {
        self.write(|_| Ok(())).await?;
        self.read(|connection| Ok(connection.query_row("SELECT 1 FROM bgrs_status LIMIT 1", [], |_| Ok(()))?)).await
    }
}

fn insert(connection: &Connection, new: &NewRequest) -> Result<i64> {
    let sql = "INSERT INTO bgrs (rid, source, user_id, method, name, headers, body, created_dt)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let call = &new.call;
    connection.prepare_cached(sql)?.execute(params![
        new.rid.to_string(),
        new.owner.source,
        new.owner.id,
        call.method,
        call.name,
        call.headers.to_json(),
        call.body.map(|length| length as i64),
        time::format(new.created),
    ])?;
    Ok(connection.last_insert_rowid())
}

fn claim(connection: &Connection, owner: &Owner, now: Timestamp, lease: Timestamp) -> Result<Option<Claimed>> {
    let queued = oldest(connection, owner, State::Queued)?;
    let retrying = oldest(connection, owner, State::Retrying)?;
    let Some(mut claimed) = [queued, retrying].into_iter().flatten().min_by_key(|found| found.claim.id) else {
        return Ok(None);
    };
    claimed.claim.attempt += 1;
    // Not one statement with RETURNING: that one makes a temporary table each time.
    let sql = "UPDATE bgrs SET status_id = 2, attempts = ?, started_dt = ?, lease_dt = ? WHERE id = ?";
    let values = params![claimed.claim.attempt, time::format(now), time::format(lease), claimed.claim.id];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(Some(claimed))
}

/// The owner's oldest request in a waiting state, with the number of its last attempt.
fn oldest(connection: &Connection, owner: &Owner, state: State) -> Result<Option<Claimed>> {
    // SQLite takes a partial index only where the query repeats its condition; INDEXED BY makes a slip an error and not
    // a walk through the whole table.
    let sql = "SELECT id, rid, attempts, method, name, headers, body FROM bgrs INDEXED BY bgrs_unended
               WHERE status_id IN (1, 2, 3) AND source = ? AND user_id = ? AND status_id = ? ORDER BY id LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row(params![owner.source, owner.id, state.id()], |row| {
        Ok(Claimed {
            claim: Claim { id: row.get(0)?, rid: read_rid(row, 1)?, attempt: row.get(2)? },
            owner: owner.clone(),
            call: read_call(row, 3)?,
        })
    });
    Ok(found.optional()?)
}

fn heartbeat(connection: &Connection, claims: &[Claim], lease: Timestamp) -> Result<Vec<Claim>> {
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

fn finish(connection: &Connection, claim: Claim, ending: &Ending) -> Result<bool> {
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
    }
    Ok(held)
}

fn finish_with(connection: &Connection, claim: Claim, ending: &Ending, answer: &Answer) -> Result<bool> {
    let sql = "UPDATE bgrs SET status_id = 4, progress = 10000, lease_dt = NULL, finished_dt = ?, expires_dt = ?,
                   status = ?, content_type = ?, head = ?, result = ?, size = ?, etag = ?
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
        let sql = "INSERT INTO bgrs_copies (bgrs_id, bytes) VALUES (?, ?)";
        connection.prepare_cached(sql)?.execute(params![claim.id, &**bytes])?;
    }
    Ok(changed > 0)
}

fn fail(connection: &Connection, claim: Claim, ending: &Ending, failure: &Failure) -> Result<bool> {
    let sql = "UPDATE bgrs SET status_id = 5, lease_dt = NULL, finished_dt = ?, expires_dt = ?, failure = ?
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

fn requeue(connection: &Connection, claim: Claim) -> Result<bool> {
    let sql = "UPDATE bgrs SET status_id = 1, lease_dt = NULL WHERE id = ? AND attempts = ? AND status_id = 2";
    Ok(connection.prepare_cached(sql)?.execute(params![claim.id, claim.attempt])? > 0)
}

fn rescue(
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
    let sql = "SELECT id, rid, attempts, source, user_id, method, name, headers, body FROM bgrs
               INDEXED BY bgrs_unended WHERE status_id IN (1, 2, 3) AND status_id = 2 AND lease_dt < ?
               ORDER BY id LIMIT ?";
    let lost: Vec<Claimed> = connection
        .prepare_cached(sql)?
        .query_map(params![before, limit as i64], |row| {
            Ok(Claimed {
                claim: Claim { id: row.get(0)?, rid: read_rid(row, 1)?, attempt: row.get(2)? },
                owner: Owner { source: row.get(3)?, id: row.get(4)? },
                call: read_call(row, 5)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    lost.into_iter().map(|claimed| rescue_one(connection, claimed, attempts, now, expires)).collect()
}

fn rescue_one(
    connection: &Connection,
    claimed: Claimed,
    attempts: i64,
    now: Timestamp,
    expires: Timestamp,
) -> Result<Rescued> {
    let Claimed { claim, owner, call } = claimed;
    let failure = if !call.is_repeatable() {
        Failure::interrupted(&call.method)
    } else if claim.attempt >= attempts {
        Failure::no_answer(format!("interrupted by a restart; given up after {} attempts", claim.attempt))
    } else {
        requeue(connection, claim)?;
        let detail = format!("interrupted by a restart in attempt {}; queued again", claim.attempt);
        add_detail(connection, claim.id, &time::format(now), &detail)?;
        return Ok(Rescued::Requeued(claim.rid, owner));
    };
    let ending = Ending { outcome: Outcome::Failed(failure), at: now, expires };
    finish(connection, claim, &ending)?;
    Ok(Rescued::Failed(claim.rid))
}

fn details(connection: &Connection, rid: Rid, after: i64, limit: usize) -> Result<Option<Vec<Detail>>> {
    let id: Option<i64> = connection
        .prepare_cached("SELECT id FROM bgrs WHERE rid = ?")?
        .query_row([rid.to_string()], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    let sql = "SELECT id, dt, details FROM bgrs_details WHERE bgrs_id = ? AND id > ? ORDER BY id LIMIT ?";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![id, after, limit as i64], |row| {
        Ok(Detail { id: row.get(0)?, dt: row.get(1)?, text: row.get(2)? })
    })?;
    Ok(Some(rows.collect::<rusqlite::Result<_>>()?))
}

fn unended(connection: &Connection) -> Result<HashMap<Owner, Unended>> {
    let sql = "SELECT source, user_id, sum(status_id <> 2), sum(status_id = 2) FROM bgrs INDEXED BY bgrs_unended
               WHERE status_id IN (1, 2, 3) GROUP BY source, user_id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let owner = Owner { source: row.get(0)?, id: row.get(1)? };
        let (waiting, running): (i64, i64) = (row.get(2)?, row.get(3)?);
        let count = |number: i64| usize::try_from(number).unwrap_or(0);
        Ok((owner, Unended { waiting: count(waiting), running: count(running) }))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn add_detail(connection: &Connection, id: i64, dt: &str, text: &str) -> Result<()> {
    let sql = "INSERT INTO bgrs_details (bgrs_id, dt, details) VALUES (?, ?, ?)";
    connection.prepare_cached(sql)?.execute(params![id, dt, text])?;
    Ok(())
}

fn read_request(row: &Row<'_>) -> rusqlite::Result<Request> {
    let (name, size, etag): (Option<String>, Option<i64>, Option<String>) = (row.get(16)?, row.get(17)?, row.get(18)?);
    let result = name.zip(size).zip(etag).map(|((name, size), etag)| StoredResult {
        name,
        size: u64::try_from(size).unwrap_or(0),
        etag,
    });
    Ok(Request {
        id: row.get(0)?,
        rid: read_rid(row, 1)?,
        owner: Owner { source: row.get(2)?, id: row.get(3)? },
        method: row.get(4)?,
        name: row.get(5)?,
        state: read_state(row, 6)?,
        progress: row.get(7)?,
        attempts: row.get(8)?,
        created: row.get(9)?,
        started: row.get(10)?,
        finished: row.get(11)?,
        expires: row.get(12)?,
        status: row.get(13)?,
        content_type: row.get(14)?,
        head: row.get(15)?,
        result,
        failure: row.get(19)?,
    })
}

/// Method, name, headers and body length, from column `at` on.
fn read_call(row: &Row<'_>, at: usize) -> rusqlite::Result<Call> {
    let headers: String = row.get(at + 2)?;
    let body: Option<i64> = row.get(at + 3)?;
    Ok(Call {
        method: row.get(at)?,
        name: row.get(at + 1)?,
        headers: Headers::from_json(&headers).map_err(|error| unreadable(at + 2, error))?,
        body: body.and_then(|length| u64::try_from(length).ok()),
    })
}

pub(super) fn read_leftover(row: &Row<'_>) -> rusqlite::Result<Leftover> {
    Ok(Leftover { rid: read_rid(row, 0)?, result: row.get(1)?, body: row.get(2)? })
}

fn read_rid(row: &Row<'_>, at: usize) -> rusqlite::Result<Rid> {
    let text = row.get_ref(at)?.as_str()?;
    text.parse().map_err(|error| unreadable(at, error))
}

fn read_state(row: &Row<'_>, at: usize) -> rusqlite::Result<State> {
    let id = row.get(at)?;
    State::from_id(id).ok_or(rusqlite::Error::IntegralValueOutOfRange(at, id))
}

fn unreadable(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(error))
}
