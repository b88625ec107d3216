//! Deliveries of callbacks in SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::Sqlite;
use super::rows::{REQUEST, read_request, read_rid};
use crate::model::{Rid, time};
use crate::store::{Callbacks, Delivery, Error, Request, Result};

#[async_trait]
impl Callbacks for Sqlite {
    async fn due(&self, now: Timestamp, but: Vec<String>, limit: usize) -> Result<Vec<(Delivery, Request)>> {
        let but = serde_json::to_string(&but).map_err(|error| Error::Other(error.to_string()))?;
        self.read(move |connection| {
            let sql = select(
                "INDEXED BY bgrs_callbacks_due WHERE sent_dt IS NULL AND due_dt <= ?1",
                "WHERE NOT EXISTS (SELECT 1 FROM json_each(?2) WHERE substr(callback, 1, length(value)) = value)
                 ORDER BY due_dt LIMIT ?3",
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![time::format_millis(now), but, limit as i64], |row| {
                Ok((read_delivery(row)?, read_request(row)?))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        self.read(move |connection| {
            let sql = "SELECT min(due_dt) FROM bgrs_callbacks INDEXED BY bgrs_callbacks_due
                       WHERE sent_dt IS NULL AND due_dt > ?";
            let mut statement = connection.prepare_cached(sql)?;
            let due: Option<String> = statement.query_row([time::format_millis(now)], |row| row.get(0))?;
            Ok(due.as_deref().and_then(time::parse_millis))
        })
        .await
    }

    async fn delivered(
        &self,
        id: i64,
        at: Timestamp,
        status: Option<u16>,
        error: Option<String>,
        again: Option<Timestamp>,
    ) -> Result<()> {
        self.work(move |connection| {
            let sql = "UPDATE bgrs_callbacks SET sent_dt = ?, status = ?, error = ? WHERE id = ? AND sent_dt IS NULL";
            let changed = connection.prepare_cached(sql)?.execute(params![time::format(at), status, error, id])?;
            if let Some(again) = again.filter(|_| changed > 0) {
                let sql = "INSERT INTO bgrs_callbacks (bgrs_id, attempt, due_dt)
                           SELECT bgrs_id, attempt + 1, ? FROM bgrs_callbacks WHERE id = ?";
                connection.prepare_cached(sql)?.execute(params![time::format_millis(again), id])?;
            }
            Ok(())
        })
        .await
    }

    async fn of(&self, rid: Rid) -> Result<Option<Vec<Delivery>>> {
        self.read(move |connection| {
            if !connection.prepare_cached("SELECT 1 FROM bgrs WHERE rid = ?")?.exists([rid.to_string()])? {
                return Ok(None);
            }
            let which = "WHERE bgrs_id = (SELECT id FROM bgrs WHERE rid = ?1)";
            deliveries(connection, which, rid.to_string()).map(Some)
        })
        .await
    }

    async fn resend(&self, rid: Rid, id: i64, now: Timestamp) -> Result<Option<Delivery>> {
        self.write(move |connection| {
            let sql = "INSERT INTO bgrs_callbacks (bgrs_id, attempt, due_dt)
                       SELECT b.id, 1, ?1 FROM bgrs_callbacks c JOIN bgrs b ON b.id = c.bgrs_id
                       WHERE c.id = ?2 AND b.rid = ?3 AND b.finished_dt IS NOT NULL";
            let values = params![time::format_millis(now), id, rid.to_string()];
            if connection.prepare_cached(sql)?.execute(values)? == 0 {
                return Ok(None);
            }
            let made = deliveries(connection, "WHERE id = ?1", connection.last_insert_rowid())?;
            Ok(made.into_iter().next())
        })
        .await
    }
}

/// Makes the first delivery of a request that ends now, where it has a callback.
pub fn begin(connection: &Connection, bgrs_id: i64, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO bgrs_callbacks (bgrs_id, attempt, due_dt)
               SELECT id, 1, ? FROM bgrs WHERE id = ? AND callback IS NOT NULL";
    connection.prepare_cached(sql)?.execute(params![time::format_millis(now), bgrs_id])?;
    Ok(())
}

/// What [`read_request`] and [`read_delivery`] read, of those deliveries.
fn select(which: &str, rest: &str) -> String {
    format!(
        "SELECT {REQUEST}, callback, delivery, attempt, due_dt, sent_dt, answered, error
         FROM (SELECT id AS delivery, bgrs_id, attempt, due_dt, sent_dt, status AS answered, error
               FROM bgrs_callbacks {which})
         CROSS JOIN bgrs ON id = bgrs_id {rest}"
    )
}

fn deliveries(connection: &Connection, which: &str, value: impl rusqlite::ToSql) -> Result<Vec<Delivery>> {
    let mut statement = connection.prepare_cached(&select(which, "ORDER BY delivery"))?;
    let rows = statement.query_map([value], read_delivery)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn read_delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let (url, due): (Option<String>, String) = (row.get("callback")?, row.get("due_dt")?);
    Ok(Delivery {
        id: row.get("delivery")?,
        rid: read_rid(row, 1)?,
        url: url.unwrap_or_default(),
        attempt: row.get("attempt")?,
        due: time::parse_millis(&due).unwrap_or(Timestamp::UNIX_EPOCH),
        sent: row.get("sent_dt")?,
        status: row.get("answered")?,
        error: row.get("error")?,
    })
}
