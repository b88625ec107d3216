//! The store in one SQLite file: one writer thread with group commit, a few readers.

mod callbacks;
mod campaigns;
mod checkpoint;
mod connection;
mod inserts;
mod keys;
mod list;
mod long;
mod looks;
mod marks;
mod numbers;
mod queue;
mod readers;
mod requests;
mod rows;
mod sessions;
mod stats;
mod users;
mod wal_index;
mod writer;

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::{Error, Result};
use checkpoint::Checkpoints;
pub use connection::Durability;
use inserts::Inserts;
use keys::Keys;
use long::Long;
use marks::Marks;
use numbers::Numbers;
use queue::{AtEdges, Memory};
use readers::Readers;
use wal_index::WalIndex;
use writer::{Lane, Writer};

/// How many threads read. One does while rows are in memory (see `looks.rs`); the others are for when they come from the disk.
const READERS: u32 = 4;

/// The store in a SQLite file. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
    long: Long,
    memory: Arc<Memory>,
}

impl Sqlite {
    /// Opens the database, making or migrating it as needed. Blocks.
    ///
    /// # Errors
    /// A file that is no database, another program's, or from a newer version; one that cannot be read or written.
    pub fn open(path: &Path, durability: Durability) -> Result<Self> {
        let connection = connection::open_for_writing(path, durability)?;
        let keys = Keys::load(&connection)?;
        let marks = Marks::new(WalIndex::open(path));
        let numbers = Numbers::load(&connection)?;
        let memory = Arc::new(Memory { keys, marks, numbers, inserts: Inserts::default() });
        let edges = AtEdges { memory: memory.clone(), checkpoints: Checkpoints::start(path)? };
        let writer = Writer::start(connection, edges)?;
        Ok(Self { writer, readers: Readers::start(path, READERS)?, long: Long::new(path), memory })
    }

    /// Runs `act`, for which a caller waits or a lease, in the writer's next transaction and answers after its commit. It
    /// may be run more than once.
    async fn write<T: Send + 'static>(&self, act: impl FnMut(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        self.run(Lane::Call, act).await
    }

    /// The same for the background work: behind whatever callers wait for, a little of it at a time.
    async fn work<T: Send + 'static>(&self, act: impl FnMut(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        self.run(Lane::Work, act).await
    }

    async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        mut act: impl FnMut(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let memory = self.memory.clone();
        let act = move |connection: &Connection| {
            memory.flush(connection)?;
            act(connection)
        };
        self.writer.run(lane, act, |_| ()).await
    }

    /// Runs a look that takes long, on a connection of its own.
    async fn long<T: Send + 'static>(&self, look: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        self.long.run(look).await
    }

    /// Runs `look` on a reader.
    async fn read<T: Send + 'static>(&self, look: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        self.readers.run(look).await
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, NotADatabase, ReadOnly, SystemIoFailure,
        };
        match error.sqlite_error_code() {
            Some(DiskFull | SystemIoFailure | ReadOnly | CannotOpen | DatabaseBusy | DatabaseLocked) => {
                Self::CannotWrite(error.to_string())
            }
            Some(NotADatabase) => Self::NotOurs("it is not a SQLite database".to_owned()),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<r2d2::Error> for Error {
    fn from(error: r2d2::Error) -> Self {
        Self::Other(error.to_string())
    }
}
