//! Opening the file: pragmas that are read back, the version, the migrations.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;

use crate::store::{Error, Result};

/// What a committed row survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A kill of the process and a power cut.
    Full,
    /// A kill of the process; a power cut may lose the last ones.
    Normal,
}

/// Each script brings the schema from its place in this list (the version before) to the next version.
const MIGRATIONS: [&str; 1] = [include_str!("../../../schema.sql")];

/// "bgrs" in ASCII: marks the file as ours (PRAGMA application_id).
const APPLICATION_ID: i64 = 0x6267_7273;

/// How long a connection waits for another process's write (the `user` commands write too).
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The first version of SQLite without the WAL-reset corruption of 3.7.0 to 3.51.2.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Statements kept prepared on each connection.
const STATEMENTS: usize = 64;

/// KiB of page cache of the writer.
const WRITER_CACHE: i64 = 2048;

/// Pages of 4 KiB in the WAL at which the writer itself copies those into the database that are not copied yet, and begins it
/// anew. Each copy costs two syncs.
pub const CHECKPOINT: &str = "4000";

/// Opens the database for the writer; makes or migrates it.
pub fn open_for_writing(path: &Path, durability: Durability) -> Result<Connection> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(Error::Other(format!("SQLite {} is too old: 3.51.3 or newer is needed", rusqlite::version())));
    }
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_ours(&connection)?;
    set(&connection, "journal_mode", "wal", "wal")?;
    let synchronous = match durability {
        Durability::Full => "2",
        Durability::Normal => "1",
    };
    set(&connection, "synchronous", synchronous, synchronous)?;
    set(&connection, "foreign_keys", "1", "1")?;
    set(&connection, "temp_store", "2", "2")?;
    let cache = format!("-{WRITER_CACHE}");
    set(&connection, "cache_size", &cache, &cache)?;
    set(&connection, "wal_autocheckpoint", CHECKPOINT, CHECKPOINT)?;
    set(&connection, "journal_size_limit", "67108864", "67108864")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    migrate(&mut connection)?;
    Ok(connection)
}

/// Prepares a reader's connection. The database exists already.
pub fn prepare_reader(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "query_only", 1)
}

/// The flags with which readers open the file. Not read-only: a reader may have to recover the WAL.
pub fn reader_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Sets a pragma and reads it back: SQLite ignores one that it does not know or cannot follow.
fn set(connection: &Connection, pragma: &str, value: &str, expected: &str) -> Result<()> {
    connection.execute_batch(&format!("PRAGMA {pragma} = {value}"))?;
    let now = connection.pragma_query_value(None, pragma, |row| {
        row.get_ref(0).map(|value| match value {
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            other => other.as_str().unwrap_or_default().to_owned(),
        })
    })?;
    if now == expected {
        Ok(())
    } else {
        Err(Error::Other(format!("SQLite refuses PRAGMA {pragma} = {value}: it stays {now}")))
    }
}

/// Refuses another program's database and one from a newer version, before anything is changed.
fn check_ours(connection: &Connection) -> Result<()> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = version(connection)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(Error::NotOurs("it is another program's database".to_owned()));
    }
    if version > MIGRATIONS.len() {
        return Err(Error::NotOurs(format!(
            "it is from a newer version of bgrs-server (schema {version}; this one knows up to {}): upgrade the server",
            MIGRATIONS.len()
        )));
    }
    Ok(())
}

fn version(connection: &Connection) -> Result<usize> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    usize::try_from(version).map_err(|_| Error::NotOurs("it is another program's database".to_owned()))
}

/// Brings the schema to the newest version, all steps in one transaction. Two processes may start at once: the
/// version is read again behind the lock.
fn migrate(connection: &mut Connection) -> Result<()> {
    if version(connection)? == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for script in &MIGRATIONS[version(&transaction)?..] {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_a_page_cache_of_its_own() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = "SELECT count(*) FROM pragma_compile_options WHERE compile_options = 'ENABLE_MEMORY_MANAGEMENT'";
        let shared: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(shared, 0, "SQLite is to be built with the flags of .cargo/config.toml");
    }
}
