//! Background requests in SQLite.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Sqlite;
use super::keys;
use super::list::list;
use super::queue::{cancel, claim, finish, heartbeat, insert, insert_running, requeue, rescue, retry};
use super::rows::{CALL, REQUEST, add_detail, read_call, read_leftover, read_request, read_rid, read_state};
use super::users::{caller, is_still};
use super::writer::Lane;
use crate::model::{Call, Owner, Rid, time};
use crate::store::{
    Begun, Cancelled, Claim, Claimed, Detail, Ending, Filter, Fingerprint, Inserted, Known, Lapsed, Leftover,
    NewRequest, Request, Rescued, Result, Results, Standing, Store, Then, Unended,
};

#[async_trait]
impl Store for Sqlite {
    async fn insert_then(&self, new: Arc<NewRequest>, then: Then) -> Result<Inserted> {
        let memory = self.memory.clone();
        let act = move |connection: &Connection| insert(connection, &memory, &new);
        let then = |inserted: &Inserted| {
            if *inserted == Inserted::Stored {
                then();
            }
        };
        self.writer.run(Lane::Call, act, then).await
    }

    async fn begin(&self, new: Arc<NewRequest>, now: Timestamp, lease: Timestamp, then: Begun) -> Result<Inserted> {
        let memory = self.memory.clone();
        let act = move |connection: &Connection| {
            // Where the insertion vouches for a remembered caller, it is still as remembered.
            let caller = match &new.vouched {
                Some(known) => Some(known.caller()),
                None => caller(connection, &new.owner)?,
            };
            let (inserted, claim) = insert_running(connection, &memory, &new, now, lease)?;
            let (owner, call) = (&new.owner, &new.call);
            let claimed =
                claim.map(|claim| Claimed { claim, owner: owner.clone(), caller, tries: 0, call: call.clone() });
            Ok((inserted, claimed))
        };
        let then = |(_, claimed): &(Inserted, Option<Claimed>)| {
            if let Some(claimed) = claimed {
                then(claimed.clone());
            }
        };
        Ok(self.writer.run(Lane::Call, act, then).await?.0)
    }

    fn new_rid(&self) -> Result<Rid> {
        self.memory.numbers.next()
    }

    async fn keyed(&self, owner: &Owner, key: &str) -> Result<Option<(Rid, Fingerprint)>> {
        let (memory, owner, key) = (self.memory.clone(), owner.clone(), key.to_owned());
        let hash = keys::hash(&owner, &key);
        self.read(move |connection| memory.keys.find(connection, &owner, &key, hash)).await
    }

    async fn cancel(&self, rid: Rid, now: Timestamp, expires: Timestamp) -> Result<Option<Cancelled>> {
        self.write(move |connection| cancel(connection, rid, now, expires)).await
    }

    async fn forget(&self, rid: Rid) -> Result<Option<Leftover>> {
        self.write(move |connection| {
            let sql = "DELETE FROM bgrs WHERE rid = ? AND finished_dt IS NOT NULL
                       RETURNING rid, result, body IS NOT NULL";
            Ok(connection.prepare_cached(sql)?.query_row([rid.to_string()], read_leftover).optional()?)
        })
        .await
    }

    async fn call(&self, rid: Rid) -> Result<Option<Call>> {
        self.read(move |connection| by_rid(connection, CALL, rid, |row| read_call(row, 0))).await
    }

    async fn list(&self, filter: Filter, limit: usize) -> Result<Vec<Request>> {
        // Whoever looks at everybody's, or for a name or a time, may walk far.
        if filter.owners.is_some() && filter.name.is_none() && filter.since.is_none() && filter.until.is_none() {
            self.read(move |connection| list(connection, &filter, limit)).await
        } else {
            self.long(move |connection| list(connection, &filter, limit)).await
        }
    }

    async fn claim(&self, owner: &Owner, now: Timestamp, lease: Timestamp) -> Result<Option<Claimed>> {
        let owner = owner.clone();
        self.work(move |connection| claim(connection, &owner, now, lease)).await
    }

    async fn heartbeat(&self, claims: Vec<Claim>, lease: Timestamp) -> Result<Vec<Claim>> {
        // Before the background work: while callers press, thousands of its acts may wait for longer than a lease lasts.
        self.write(move |connection| heartbeat(connection, &claims, lease)).await
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
                       WHERE c.bgrs_id > ? AND b.result IS NOT NULL ORDER BY c.bgrs_id LIMIT ?";
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

    async fn adopt(&self, new: NewRequest, lease: Timestamp, detail: &str) -> Result<Option<Claim>> {
        let (memory, new, detail) = (self.memory.clone(), Arc::new(new), detail.to_owned());
        self.write(move |connection| {
            let (_, claim) = insert_running(connection, &memory, &new, new.created, lease)?;
            if let Some(claim) = claim {
                add_detail(connection, claim.id, &time::format(new.created), &detail)?;
            }
            Ok(claim)
        })
        .await
    }

    async fn retry(&self, claim: Claim, now: Timestamp, due: Timestamp, detail: &str) -> Result<bool> {
        let detail = detail.to_owned();
        self.work(move |connection| {
            let held = retry(connection, claim, due)?;
            if held {
                add_detail(connection, claim.id, &time::format(now), &detail)?;
            }
            Ok(held)
        })
        .await
    }

    async fn retrying(&self) -> Result<Vec<(Owner, Rid, Timestamp)>> {
        self.read(|connection| {
            let sql = "SELECT source, user_id, retry_dt, rid FROM bgrs INDEXED BY bgrs_retries WHERE status_id = 3";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                let due: String = row.get(2)?;
                // A moment that somebody has written by hand is as good as past.
                let due = time::parse_millis(&due).unwrap_or(Timestamp::UNIX_EPOCH);
                Ok((Owner { source: row.get(0)?, id: row.get(1)? }, read_rid(row, 3)?, due))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn annotate(
        &self,
        rid: Rid,
        now: Timestamp,
        progress: Option<i64>,
        detail: Option<String>,
    ) -> Result<Option<bool>> {
        self.write(move |connection| {
            let sql = "SELECT id, finished_dt IS NULL FROM bgrs WHERE rid = ?";
            let found =
                connection.prepare_cached(sql)?.query_row([rid.to_string()], |row| Ok((row.get(0)?, row.get(1)?)));
            let (id, open): (i64, bool) = match found.optional()? {
                Some(found) => found,
                None => return Ok(None),
            };
            if !open {
                return Ok(Some(false));
            }
            if let Some(progress) = progress {
                let sql = "UPDATE bgrs SET progress = max(progress, ?) WHERE id = ?";
                connection.prepare_cached(sql)?.execute(params![progress, id])?;
            }
            if let Some(detail) = &detail {
                add_detail(connection, id, &time::format(now), detail)?;
            }
            Ok(Some(true))
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
        self.read(move |connection| get(connection, rid)).await
    }

    async fn get_for(&self, rid: Rid, known: Arc<Known>) -> Result<Option<Request>> {
        self.read(move |connection| if is_still(connection, &known)? { get(connection, rid) } else { Ok(None) }).await
    }

    async fn get_many(&self, rids: Vec<Rid>) -> Result<Vec<Request>> {
        self.read(move |connection| {
            let found = rids.into_iter().filter_map(|rid| get(connection, rid).transpose());
            let mut found = found.collect::<Result<Vec<_>>>()?;
            found.sort_unstable_by_key(|request| request.id);
            Ok(found)
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

    async fn standings(&self, rids: Vec<Rid>) -> Result<HashMap<Rid, Standing>> {
        self.read(move |connection| {
            let sql = "SELECT status_id, result, confidential FROM bgrs WHERE rid = ?";
            let mut statement = connection.prepare_cached(sql)?;
            let mut known = HashMap::new();
            for rid in rids {
                let row = statement.query_row([rid.to_string()], |row| {
                    Ok(Standing { state: read_state(row, 0)?, result: row.get(1)?, confidential: row.get(2)? })
                });
                if let Some(found) = row.optional()? {
                    known.insert(rid, found);
                }
            }
            Ok(known)
        })
        .await
    }

    async fn results(&self, after: i64, limit: usize) -> Result<Results> {
        self.read(move |connection| {
            // Also rows without one: where few have any, looking for them could take in the whole table at once.
            let sql = "SELECT id, rid, result, size FROM bgrs WHERE id > ? ORDER BY id LIMIT ?";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![after, limit as i64])?;
            let (mut results, mut looked) = (Results::default(), 0);
            while let Some(row) = rows.next()? {
                looked += 1;
                results.last = Some(row.get(0)?);
                if let Some(name) = row.get(2)? {
                    let size: i64 = row.get(3)?;
                    results.found.push((read_rid(row, 1)?, name, u64::try_from(size).unwrap_or(0)));
                }
            }
            drop(rows);
            results.last = results.last.filter(|_| looked == limit);
            // Its pages are not looked at again before tomorrow.
            connection.execute_batch("PRAGMA shrink_memory")?;
            Ok(results)
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

fn get(connection: &Connection, rid: Rid) -> Result<Option<Request>> {
    by_rid(connection, REQUEST, rid, read_request)
}

/// These columns of a request. Its number is in the rid; what was inserted by hand has another, and is found by the index.
fn by_rid<T>(
    connection: &Connection,
    columns: &str,
    rid: Rid,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>> {
    let (text, number) = (rid.to_string(), rid.number());
    let sql = format!("SELECT {columns} FROM bgrs WHERE id = ? AND rid = ?");
    let found = connection.prepare_cached(&sql)?.query_row(params![number, text], &read).optional()?;
    if found.is_some() {
        return Ok(found);
    }
    let sql = format!("SELECT {columns} FROM bgrs WHERE rid = ?");
    Ok(connection.prepare_cached(&sql)?.query_row([text], &read).optional()?)
}

fn details(connection: &Connection, rid: Rid, after: i64, limit: usize) -> Result<Option<Vec<Detail>>> {
    let Some(id) = by_rid(connection, "id", rid, |row| row.get::<_, i64>(0))? else { return Ok(None) };
    let sql = "SELECT id, dt, details FROM bgrs_details WHERE bgrs_id = ? AND id > ? ORDER BY id LIMIT ?";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![id, after, limit as i64], |row| {
        Ok(Detail { id: row.get(0)?, dt: row.get(1)?, text: row.get(2)? })
    })?;
    Ok(Some(rows.collect::<rusqlite::Result<_>>()?))
}

fn unended(connection: &Connection) -> Result<HashMap<Owner, Unended>> {
    let sql = "SELECT source, user_id, sum(status_id = 1), sum(status_id = 3), sum(status_id = 2) FROM bgrs INDEXED BY bgrs_unended
               WHERE finished_dt IS NULL GROUP BY source, user_id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let owner = Owner { source: row.get(0)?, id: row.get(1)? };
        let (waiting, sleeping, running): (i64, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let count = |number: i64| usize::try_from(number).unwrap_or(0);
        Ok((owner, Unended { waiting: count(waiting), sleeping: count(sleeping), running: count(running) }))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
