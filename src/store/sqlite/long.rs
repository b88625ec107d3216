//! Looks that take long: each on a connection and a thread of its own, of lower priority, so that short ones never wait
//! behind them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::connection;
use crate::priority;
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
        let (reply, answer) = oneshot::channel();
        let work = move || {
            let _turn = turn;
            priority::lower();
            let looked = Connection::open_with_flags(&*path, connection::reader_flags())
                .and_then(|connection| connection::prepare_reader(&connection).map(|()| connection))
                .map_err(Error::from)
                .and_then(|connection| look(&connection));
            // A caller that has gone away needs no answer.
            let _ = reply.send(looked);
        };
        let started = std::thread::Builder::new().name("bgrs-long".to_owned()).spawn(work);
        started.map_err(|error| Error::Other(error.to_string()))?;
        answer.await.map_err(|_| Error::Other("a long look has broken down".to_owned()))?
    }
}
