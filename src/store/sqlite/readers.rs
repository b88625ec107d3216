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
        // Few looks begin one: the handle is asked for then alone.
        if let Some(watch) = self.0.looks.push(look)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(watch.run());
        }
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::Other("the database's reader has stopped".to_owned())
}

fn serve(pool: &r2d2::Pool<SqliteConnectionManager>, reader: &Reader) {
    let mut own = None;
    while let Some((first, others)) = reader.take() {
        if own.is_none() {
            match pool.get() {
                Ok(connection) => own = Some(connection),
                // Dropping the looks tells their callers; the next ones try again.
                Err(error) => log::error!("no connection to read the database: {error}"),
            }
        }
        if let Some(connection) = &own {
            together(connection, first, others, reader);
        }
    }
}

/// Looks at once for those that wait already: each snapshot of its own would take and give back a lock on the file.
/// Whoever asks later than the snapshot begins is to see what was committed until then, and is not among these.
fn together(connection: &Connection, first: Look, others: Option<Until>, reader: &Reader) {
    let Some(until) = others else { return look(connection, first) };
    // Where it cannot begin, each look has a snapshot of its own.
    let begun = execute(connection, "BEGIN");
    look(connection, first);
    while let Some(another) = reader.take_another(&until) {
        look(connection, another);
    }
    if let Err(error) = begun.and_then(|()| execute(connection, "COMMIT")) {
        log::warn!("a snapshot was not shared: {error}");
        if !connection.is_autocommit() && execute(connection, "ROLLBACK").is_err() {
            log::error!("a reader cannot leave its snapshot");
        }
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
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// A database with an empty table, and so many readers of it.
    fn start(count: u32) -> (tempfile::TempDir, Connection, Readers) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite3");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (i)").unwrap();
        let readers = Readers::start(&path, count).unwrap();
        (dir, writer, readers)
    }

    fn count(connection: &Connection) -> Result<i64> {
        Ok(connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)
    }

    /// Keeps a reader until the other end is told, so that what is asked for meanwhile waits together.
    fn hold() -> (mpsc::Sender<()>, impl FnOnce(&Connection) -> Result<()>) {
        let (release, held) = mpsc::channel();
        let wait = move |_: &Connection| {
            held.recv_timeout(DEADLINE).unwrap();
            Ok(())
        };
        (release, wait)
    }

    #[actix_rt::test]
    async fn a_look_that_panics_leaves_its_reader_and_those_that_share_its_snapshot() {
        let (_dir, _writer, readers) = start(1);
        for _ in 0..10 {
            let (release, held) = hold();
            let (held, first, panicked, last, ()) = tokio::join!(
                readers.run(held),
                readers.run(|connection| Ok(connection.is_autocommit())),
                readers.run::<()>(|_| panic!("on purpose")),
                readers.run(|connection| Ok(connection.is_autocommit())),
                async { release.send(()).unwrap() }
            );
            held.unwrap();
            assert_eq!((first.unwrap(), last.unwrap()), (false, false), "they share no snapshot");
            assert!(panicked.is_err());
        }
        assert!(readers.run(|connection| Ok(connection.is_autocommit())).await.unwrap(), "a snapshot is left open");
    }

    #[actix_rt::test]
    async fn a_look_sees_what_was_committed_before_it_came_though_others_that_came_before_share_an_older_snapshot() {
        let (_dir, writer, readers) = start(1);
        let (release, held) = hold();
        let (begin, begun) = mpsc::channel();
        let (commit, committed) = mpsc::channel();
        let first = move |connection: &Connection| {
            let before = count(connection)?;
            begin.send(()).unwrap();
            committed.recv_timeout(DEADLINE).unwrap();
            Ok(before)
        };
        let commit_and_look = async {
            release.send(()).unwrap();
            begun.recv_timeout(DEADLINE).unwrap();
            writer.execute("INSERT INTO t VALUES (1)", []).unwrap();
            let (late, ()) = tokio::join!(readers.run(count), async { commit.send(()).unwrap() });
            late
        };
        let (held, first, second, late) =
            tokio::join!(readers.run(held), readers.run(first), readers.run(count), commit_and_look);
        held.unwrap();
        assert_eq!((first.unwrap(), second.unwrap()), (0, 0), "they share no snapshot");
        assert_eq!(late.unwrap(), 1, "it is answered from a snapshot that is older than it");
    }

    #[actix_rt::test]
    async fn a_look_waits_not_long_behind_one_that_does() {
        let (_dir, _writer, readers) = start(2);
        let (release, held) = hold();
        let beside = async {
            let found = readers.run(count).await;
            release.send(()).unwrap();
            found
        };
        let (held, found) = tokio::join!(readers.run(held), beside);
        held.unwrap();
        assert_eq!(found.unwrap(), 0);
    }
}
