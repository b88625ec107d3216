//! Rows of background requests, read and written.

use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use crate::model::{Call, Headers, Owner, Rid, State, StoredResult};
use crate::store::{Leftover, Request, Result};

/// The columns that [`read_request`] reads.
pub const REQUEST: &str = "id, rid, source, user_id, method, name, status_id, progress, attempts, created_dt, started_dt, \
                       finished_dt, expires_dt, status, content_type, head, result, size, etag, failure";

pub fn add_detail(connection: &Connection, id: i64, dt: &str, text: &str) -> Result<()> {
    let sql = "INSERT INTO bgrs_details (bgrs_id, dt, details) VALUES (?, ?, ?)";
    connection.prepare_cached(sql)?.execute(params![id, dt, text])?;
    Ok(())
}

pub fn read_request(row: &Row<'_>) -> rusqlite::Result<Request> {
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

/// The columns that [`read_call`] reads.
pub const CALL: &str =
    "method, name, headers, body, batch, upstream, secrets, timeout, repeatable, confidential, callback";

/// The columns of [`CALL`], from column `at` on.
pub fn read_call(row: &Row<'_>, at: usize) -> rusqlite::Result<Call> {
    let headers: String = row.get(at + 2)?;
    let (body, batch): (Option<i64>, Option<i64>) = (row.get(at + 3)?, row.get(at + 4)?);
    let timeout: Option<i64> = row.get(at + 7)?;
    Ok(Call {
        method: row.get(at)?,
        name: row.get(at + 1)?,
        headers: Headers::from_json(&headers).map_err(|error| unreadable(at + 2, error))?,
        body: body.and_then(|length| u64::try_from(length).ok()),
        batch: batch.and_then(|elements| u64::try_from(elements).ok()),
        upstream: row.get(at + 5)?,
        secrets: row.get(at + 6)?,
        timeout: timeout.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis),
        repeatable: row.get(at + 8)?,
        confidential: row.get(at + 9)?,
        callback: row.get(at + 10)?,
    })
}

pub fn read_leftover(row: &Row<'_>) -> rusqlite::Result<Leftover> {
    Ok(Leftover { rid: read_rid(row, 0)?, result: row.get(1)?, body: row.get(2)? })
}

pub fn read_rid(row: &Row<'_>, at: usize) -> rusqlite::Result<Rid> {
    let text = row.get_ref(at)?.as_str()?;
    text.parse().map_err(|error| unreadable(at, error))
}

pub fn read_state(row: &Row<'_>, at: usize) -> rusqlite::Result<State> {
    let id = row.get(at)?;
    State::from_id(id).ok_or(rusqlite::Error::IntegralValueOutOfRange(at, id))
}

fn unreadable(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(error))
}
