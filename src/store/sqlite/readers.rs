//! A few threads that read, each on a connection of the r2d2 pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::connection;
use super::looks::{Look, Looks, Reader, Until};
use super::writer::execute;
use crate::store::{Error, Result};

/// KiB of page cache of each reader. Small, so that it stays in the processor's own cache: a page that is copied again from
/// the kernel's memory into warm memory costs less than one kept for long, whose place in memory has gone cold.
const CACHE: i64 = 512;

/// The handle of the reading threads. What waits for them is bounded by the calls under way: each has one look.
#[derive(Clone)]
pub struct Readers(Arc<Handle>);

struct Handle {
    looks: Arc<Looks>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.looks.close();
    }
}

impl Readers {
    /// Starts `count` readers of an existing database.
    pub fn start(path: &Path, count: u32) -> Result<Self> {
        let manager =
            SqliteConnectionManager::file(path).with_flags(connection::reader_flags()).with_init(|connection| {
                connection::prepare_reader(connection)?;
                connection.pragma_update(None, "cache_size", -CACHE)
            });
        let pool = r2d2::Pool::builder().max_size(count).test_on_check_out(false).build(manager)?;
        let handle = Handle { looks: Arc::default() };
        for number in 0..count {
            let (pool, reader) = (pool.clone(), handle.looks.clone().reader());
            std::thread::Builder::new()
                .name(format!("bgrs-read-{number}"))
                .spawn(move || serve(&pool, &reader))
                .map_err(|error| Error::Other(error.to_string()))?;
        }
        Ok(Self(Arc::new(handle)))
    }

    /// Runs `look` on the next free reader.
    pub async fn run<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |connection| {
            let _ = reply.send(look(connection));
        });
        self.0.looks.push(look);
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::Other("the database's reader has stopped".to_owned())
}

fn serve(pool: &r2d2::Pool<SqliteConnectionManager>, reader: &Reader) {
    let mut own = None;
    while let Some((looks, until)) = reader.take() {
        if own.is_none() {
            match pool.get() {
                Ok(connection) => own = Some(connection),
                // Dropping the looks tells their callers; the next ones try again.
                Err(error) => log::error!("no connection to read the database: {error}"),
            }
        }
        if let Some(connection) = &own {
            together(connection, looks, reader, &until);
        }
    }
}

/// Looks at once for those that wait already: each snapshot of its own would take and give back a lock on the file.
/// Whoever asks later than the snapshot begins is to see what was committed until then, and is not among these.
fn together(connection: &Connection, mut looks: Vec<Look>, reader: &Reader, until: &Until) {
    if looks.len() == 1 {
        return looks.into_iter().for_each(|only| look(connection, only));
    }
    // Where it cannot begin, each look has a snapshot of its own.
    let begun = execute(connection, "BEGIN");
    while !looks.is_empty() {
        looks.into_iter().for_each(|each| look(connection, each));
        looks = reader.take_more(until);
    }
    if let Err(error) = begun.and_then(|()| execute(connection, "COMMIT")) {
        log::warn!("a snapshot was not shared: {error}");
    }
}

/// One that panics takes neither the thread nor the others' snapshot with it; its caller gets an error.
fn look(connection: &Connection, look: Look) {
    if catch_unwind(AssertUnwindSafe(|| look(connection))).is_err() {
        log::error!("a look at the database panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_look_that_panics_leaves_its_reader_and_those_that_share_its_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite3");
        Connection::open(&path).unwrap().execute_batch("PRAGMA journal_mode = wal").unwrap();
        let readers = Readers::start(&path, 1).unwrap();
        for _ in 0..10 {
            let panics = readers.run::<()>(|_| panic!("on purpose"));
            let (first, panicked, last) = tokio::join!(readers.run(|_| Ok(1)), panics, readers.run(|_| Ok(2)));
            assert_eq!((first.unwrap(), last.unwrap()), (1, 2));
            assert!(panicked.is_err());
        }
        assert!(readers.run(|connection| Ok(connection.is_autocommit())).await.unwrap(), "a snapshot is left open");
    }
}
