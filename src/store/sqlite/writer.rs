//! The one writer: whatever waits goes into one transaction, each act behind a savepoint of its own, each answered
//! only after the commit.

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::store::{Error, Result};

/// Acts in one transaction at most. More only delays the first one's answer.
const BATCH: usize = 1024;

/// Acts that wait before a caller has to: back-pressure on submissions.
const WAITING: usize = 4096;

/// The handle of the writer thread.
#[derive(Clone)]
pub struct Writer {
    acts: mpsc::Sender<Box<dyn Act>>,
}

/// One act of the writer: run inside the transaction, answered after it.
trait Act: Send {
    /// Runs it; an error undoes this act alone.
    fn run(&mut self, connection: &Connection) -> Result<()>;
    /// Tells the caller: what the act returned, or why it is not durable.
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Pending<T, F> {
    act: Option<F>,
    returned: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T> + Send> Act for Pending<T, F> {
    fn run(&mut self, connection: &Connection) -> Result<()> {
        if let Some(act) = self.act.take() {
            self.returned = Some(act(connection)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let Self { returned, reply, .. } = *self;
        // A caller that has gone away needs no answer.
        let _ = reply.send(committed.and_then(|()| returned.ok_or_else(stopped)));
    }
}

impl Writer {
    /// Starts the thread on an open database.
    pub fn start(connection: Connection) -> Result<Self> {
        let (acts, waiting) = mpsc::channel(WAITING);
        std::thread::Builder::new()
            .name("bgrs-write".to_owned())
            .spawn(move || serve(&connection, waiting))
            .map_err(|error| Error::Other(error.to_string()))?;
        Ok(Self { acts })
    }

    /// Runs `act` in the next transaction and answers after its commit.
    pub async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let act = Box::new(Pending { act: Some(act), returned: None, reply });
        self.acts.send(act).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::Other("the database's writer has stopped".to_owned())
}

fn serve(connection: &Connection, mut waiting: mpsc::Receiver<Box<dyn Act>>) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(first) = waiting.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH {
            match waiting.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        commit_together(connection, &mut batch);
    }
}

/// Runs a batch in one transaction and answers each of its acts.
fn commit_together(connection: &Connection, batch: &mut Vec<Box<dyn Act>>) {
    let mut outcomes = Vec::with_capacity(batch.len());
    let committed = run_all(connection, batch, &mut outcomes);
    if committed.is_err()
        && !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        log::error!("a transaction could not be rolled back: {error}");
    }
    for (at, act) in batch.drain(..).enumerate() {
        let own = outcomes.get(at).cloned().unwrap_or(Ok(()));
        act.answer(own.and(committed.clone()));
    }
}

fn run_all(connection: &Connection, batch: &mut [Box<dyn Act>], outcomes: &mut Vec<Result<()>>) -> Result<()> {
    execute(connection, "BEGIN IMMEDIATE")?;
    for act in batch {
        outcomes.push(run_one(connection, act.as_mut())?);
    }
    execute(connection, "COMMIT")
}

/// Runs one act behind a savepoint. The outer error is the whole transaction's.
fn run_one(connection: &Connection, act: &mut dyn Act) -> Result<Result<()>> {
    execute(connection, "SAVEPOINT act")?;
    let outcome = act.run(connection);
    if let Err(error) = &outcome {
        // A full disk ends the whole transaction; then no act of it is durable.
        if connection.is_autocommit() {
            return Err(error.clone());
        }
        execute(connection, "ROLLBACK TO act")?;
    }
    execute(connection, "RELEASE act")?;
    Ok(outcome)
}

fn execute(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}
