//! A few threads that read, each on a connection of the r2d2 pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::connection;
use super::looks::{Look, Looks, Reader};
use super::writer::execute;
use crate::store::{Error, Result};

/// Looks that share a snapshot at most: the first one's answer does not wait long for the last one's.
const TOGETHER: usize = 8;

/// KiB of page cache of each reader: of five million requests the pages that lead to a row take 3 MiB, and those of the rows
/// push them out.
const CACHE: i64 = 8192;

/// How long a reader has nothing to do before it gives its page cache back: to fill it again takes milliseconds.
const REST: Duration = Duration::from_secs(1);

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

/// Looks at once for those that wait already: each snapshot of its own would take and give back a lock on the file.
/// Whoever asks later than the snapshot begins is to see what was committed until then, and is not among these.
fn together(connection: &Connection, looks: Vec<Look>) {
    // One that panics takes neither the thread nor the others' snapshot with it; its caller gets an error.
    let look = |look: Look| {
        if catch_unwind(AssertUnwindSafe(|| look(connection))).is_err() {
            log::error!("a look at the database panicked");
        }
    };
    if looks.len() == 1 {
        return looks.into_iter().for_each(look);
    }
    // Where it cannot begin, each look has a snapshot of its own.
    let begun = execute(connection, "BEGIN");
    looks.into_iter().for_each(look);
    if let Err(error) = begun.and_then(|()| execute(connection, "COMMIT")) {
        log::warn!("a snapshot was not shared: {error}");
    }
}

fn serve(pool: &r2d2::Pool<SqliteConnectionManager>, reader: &Reader) {
    while let Some(first) = reader.take(TOGETHER, None) {
        match pool.get() {
            Ok(connection) => serve_while_asked(&connection, first, reader),
            // Dropping the looks tells their callers; the next ones try again.
            Err(error) => log::error!("no connection to read the database: {error}"),
        }
    }
}

/// Looks until nobody has asked for a while.
fn serve_while_asked(connection: &Connection, first: Vec<Look>, reader: &Reader) {
    together(connection, first);
    while let Some(more) = reader.take(TOGETHER, Some(REST)) {
        together(connection, more);
    }
    if let Err(error) = connection.execute_batch("PRAGMA shrink_memory") {
        log::warn!("a page cache was not given back: {error}");
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
