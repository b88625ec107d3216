//! Sessions of the dashboard in SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use super::Sqlite;
use crate::model::{Owner, time};
use crate::store::{Result, Session, Sessions};

/// Sessions of one user at most; the oldest end.
const MOST: i64 = 100;

#[async_trait]
impl Sessions for Sqlite {
    async fn add(&self, session: Session) -> Result<()> {
        self.write(move |connection| {
            let Session { id, owner, sealed, expires } = &session;
            let sql = "INSERT INTO sessions (id, source, user_id, sealed, expires_dt) VALUES (?, ?, ?, ?, ?)";
            let values = params![id, owner.source, owner.id, sealed, time::format(*expires)];
            connection.prepare_cached(sql)?.execute(values)?;
            let sql = "DELETE FROM sessions WHERE id IN
                           (SELECT id FROM sessions WHERE source = ? AND user_id = ? AND id <> ?
                            ORDER BY expires_dt DESC LIMIT -1 OFFSET ?)";
            connection.prepare_cached(sql)?.execute(params![owner.source, owner.id, id, MOST - 1])?;
            Ok(())
        })
        .await
    }

    async fn find(&self, id: &str, now: Timestamp) -> Result<Option<Session>> {
        let id = id.to_owned();
        self.read(move |connection| {
            let sql = "SELECT id, source, user_id, sealed, expires_dt FROM sessions WHERE id = ? AND expires_dt > ?";
            let values = params![id, time::format(now)];
            Ok(connection.prepare_cached(sql)?.query_row(values, read_session).optional()?)
        })
        .await
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.write(move |connection| {
            connection.prepare_cached("DELETE FROM sessions WHERE id = ?")?.execute([&id])?;
            Ok(())
        })
        .await
    }

    async fn expire(&self, now: Timestamp, limit: usize) -> Result<usize> {
        self.work(move |connection| {
            let sql = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_dt <= ? LIMIT ?)";
            Ok(connection.prepare_cached(sql)?.execute(params![time::format(now), limit as i64])?)
        })
        .await
    }
}

fn read_session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let expires: String = row.get(4)?;
    Ok(Session {
        id: row.get(0)?,
        owner: Owner { source: row.get(1)?, id: row.get(2)? },
        sealed: row.get(3)?,
        // A time that cannot be read is past.
        expires: time::parse(&expires).unwrap_or(Timestamp::UNIX_EPOCH),
    })
}
