//! A few threads that read, each on a connection of the r2d2 pool.

use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::connection;
use super::writer::execute;
use crate::store::{Error, Result};

/// Looks that share a snapshot at most: the first one's answer does not wait long for the last one's.
const TOGETHER: usize = 8;

/// KiB of page cache of each reader: of five million requests the pages that lead to a row take 3 MiB, and those of the rows
/// push them out.
const CACHE: i64 = 8192;

/// How long a reader has nothing to do before it gives its page cache back: to fill it again takes milliseconds.
const REST: Duration = Duration::from_secs(1);

type Look = Box<dyn FnOnce(&Connection) + Send>;

/// The handle of the reading threads. What waits for them is bounded by the calls under way: each has one look.
#[derive(Clone)]
pub struct Readers {
    looks: Sender<Look>,
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
        let (looks, waiting) = unbounded();
        for number in 0..count {
            let (pool, waiting) = (pool.clone(), waiting.clone());
            std::thread::Builder::new()
                .name(format!("bgrs-read-{number}"))
                .spawn(move || serve(&pool, &waiting))
                .map_err(|error| Error::Other(error.to_string()))?;
        }
        Ok(Self { looks })
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
        self.looks.send(look).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::Other("the database's reader has stopped".to_owned())
}

/// Looks at once for those that wait already: each snapshot of its own would take and give back a lock on the file.
fn together(connection: &Connection, look: Look, waiting: &Receiver<Look>) {
    // Before the snapshot begins: whoever asks later is to see what was committed until then.
    let others: Vec<_> = waiting.try_iter().take(TOGETHER - 1).collect();
    if others.is_empty() {
        return look(connection);
    }
    // Where it cannot begin, each look has a snapshot of its own.
    let begun = execute(connection, "BEGIN");
    look(connection);
    others.into_iter().for_each(|look| look(connection));
    if let Err(error) = begun.and_then(|()| execute(connection, "COMMIT")) {
        log::warn!("a snapshot was not shared: {error}");
    }
}

fn serve(pool: &r2d2::Pool<SqliteConnectionManager>, waiting: &Receiver<Look>) {
    while let Ok(look) = waiting.recv() {
        match pool.get() {
            Ok(connection) => serve_while_asked(&connection, look, waiting),
            // Dropping the look tells its caller; the next one tries again.
            Err(error) => log::error!("no connection to read the database: {error}"),
        }
    }
}

/// Looks until nobody has asked for a while.
fn serve_while_asked(connection: &Connection, first: Look, waiting: &Receiver<Look>) {
    together(connection, first, waiting);
    while let Ok(look) = waiting.recv_timeout(REST) {
        together(connection, look, waiting);
    }
    if let Err(error) = connection.execute_batch("PRAGMA shrink_memory") {
        log::warn!("a page cache was not given back: {error}");
    }
}
