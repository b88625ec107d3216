//! Looks that take long: each on a connection and a thread of its own, so that short ones never wait behind them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection;
use crate::store::{Error, Result};

/// Long looks at once; one more waits for its turn.
const AT_ONCE: usize = 8;

/// Opens connections for long looks. Cheap to clone.
#[derive(Clone)]
pub struct Long {
    path: Arc<PathBuf>,
    turns: Arc<Semaphore>,
}

impl Long {
    /// On this database, which exists.
    pub fn new(path: &Path) -> Self {
        Self { path: Arc::new(path.to_owned()), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Runs `look`.
    pub async fn run<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.turns.clone().acquire_owned().await;
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let connection = Connection::open_with_flags(&*path, connection::reader_flags())?;
            connection::prepare_reader(&connection)?;
            look(&connection)
        });
        done.await.unwrap_or_else(|error| Err(Error::Other(error.to_string())))
    }
}
