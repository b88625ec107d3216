//! The one writer: whatever waits goes into one transaction, each act answered only after the commit.
//!
//! Savepoints copy each page that is changed behind them, so a batch is first run without: where an act of it fails
//! (seldom), the transaction is undone and the batch is run again with each act behind a savepoint of its own.

use std::thread::LocalKey;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, Sender, select_biased, unbounded};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::post::{self, Letter, Post, Remembered};
use crate::store::{Error, Result};

/// Acts of calls in one transaction at most. More only delays the first one's answer.
const CALLS: usize = 1024;

/// How many calls come together, at most and on the average of late, where callers do not press: then there is room for the
/// background work.
const FEW: usize = 8;

/// Over how many transactions that average is, more or less.
const LATE: usize = 16;

/// Acts of the background work that ride along at once: the threads on a run's way are woken once for all of them, and
/// to wake them takes more of the machine than the acts do.
const TOGETHER: usize = 8;

/// How often so many ride along while callers press: while submissions take all the machine has, they are accepted first
/// and run later, and the queue is what bounds them.
const RIDE_EVERY: Duration = Duration::from_millis(100);

/// How long callers who came together must have left the writer alone before the background work has a transaction of
/// its own: they come again, and would wait behind its sync.
const QUIET: Duration = Duration::from_millis(5);

/// Acts of the background work in a transaction that no call waits for.
const WORK_ALONE: usize = 64;

/// Who waits for an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A caller, with a submission, say, or a lease that would end.
    Call,
    /// The background work.
    Work,
}

/// The handle of the writer thread. What waits for it is bounded by the calls under way and by the requests that run:
/// each has one act at a time.
#[derive(Clone)]
pub struct Writer {
    calls: Sender<Box<dyn Act>>,
    work: Sender<Box<dyn Act>>,
}

/// One act of the writer: run inside the transaction (again, if that is undone), answered after it.
pub trait Act: Send {
    /// Runs it.
    fn run(&mut self, connection: &Connection) -> Result<()>;
    /// Tells the caller: what the act returned, or why it is not durable.
    fn answer(self: Box<Self>, committed: Result<()>);
    /// Where it is answered; `None`: wherever it was run.
    fn post(&self) -> Option<&Post<Answered>>;
}

/// An act that was run, and whether what it did is durable.
pub struct Answered {
    act: Box<dyn Act>,
    committed: Result<()>,
}

impl Letter for Answered {
    fn remembered() -> &'static LocalKey<Remembered<Self>> {
        thread_local!(static REMEMBERED: Remembered<Answered> = const { Remembered::new(None) });
        &REMEMBERED
    }

    fn post(&self) -> Option<&Post<Self>> {
        self.act.post()
    }

    fn open(self) {
        self.act.answer(self.committed);
    }
}

/// What is done at the edges of the writer's transactions.
pub trait Edges: Send {
    /// The last act of each, and behind each act that is run apart.
    fn before_commit(&self, connection: &Connection) -> Result<()>;
    /// It was committed, or undone.
    fn ended(&self, connection: &Connection, committed: bool);
}

struct Pending<T, F, N> {
    act: F,
    /// What follows upon it.
    then: N,
    returned: Option<T>,
    reply: oneshot::Sender<Result<T>>,
    post: Post<Answered>,
}

impl<T: Send, F: FnMut(&Connection) -> Result<T> + Send, N: FnOnce(&T) + Send> Act for Pending<T, F, N> {
    fn run(&mut self, connection: &Connection) -> Result<()> {
        self.returned = Some((self.act)(connection)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let Self { then, returned, reply, .. } = *self;
        let outcome = committed.and_then(|()| returned.ok_or_else(stopped));
        if let Ok(returned) = &outcome {
            then(returned);
        }
        // A caller that has gone away needs no answer.
        let _ = reply.send(outcome);
    }

    fn post(&self) -> Option<&Post<Answered>> {
        Some(&self.post)
    }
}

impl Writer {
    /// Starts the thread on an open database.
    pub fn start(connection: Connection, edges: impl Edges + 'static) -> Result<Self> {
        let ((calls, calling), (work, working)) = (unbounded(), unbounded());
        std::thread::Builder::new()
            .name("bgrs-write".to_owned())
            .spawn(move || serve(&connection, Waiting::new(calling, working), &edges))
            .map_err(|error| Error::Other(error.to_string()))?;
        Ok(Self { calls, work })
    }

    /// Runs `act` in one of the next transactions and answers after its commit. It is run again, from the start, where
    /// a transaction has to be. `then` is run on what it returned before the answer, also where nobody waits any longer.
    pub async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        act: impl FnMut(&Connection) -> Result<T> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let act = Box::new(Pending { act, then, returned: None, reply, post: Post::here() });
        let lane = match lane {
            Lane::Call => &self.calls,
            Lane::Work => &self.work,
        };
        lane.send(act).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::Other("the database's writer has stopped".to_owned())
}

/// What waits for the writer, and how busy callers keep it.
struct Waiting {
    calls: Receiver<Box<dyn Act>>,
    work: Receiver<Box<dyn Act>>,
    /// Until then the background work rides along with callers' acts, and has no transactions of its own.
    quiet_at: Instant,
    /// From then on the background work rides along also where callers press.
    ride_at: Instant,
    /// A moving sum of the acts of calls in the last [`LATE`] transactions or so.
    late: usize,
}

impl Waiting {
    fn new(calls: Receiver<Box<dyn Act>>, work: Receiver<Box<dyn Act>>) -> Self {
        let now = Instant::now();
        Self { calls, work, quiet_at: now, ride_at: now + RIDE_EVERY, late: 0 }
    }

    /// Waits for the next batch; `false` once there will be none.
    fn next(&mut self, batch: &mut Vec<Box<dyn Act>>) -> bool {
        if let Ok(call) = self.calls.recv_deadline(self.quiet_at) {
            batch.push(call);
        } else {
            select_biased! {
                recv(self.calls) -> call => match call {
                    Ok(call) => batch.push(call),
                    // There will be no more; of the background work something may be left.
                    Err(_) => return self.work_alone(self.work.recv(), batch),
                },
                recv(self.work) -> act => return self.work_alone(act, batch),
            }
        }
        take(&self.calls, batch, CALLS);
        let (calls, now) = (batch.len(), Instant::now());
        let rides = self.rides(calls, now);
        take(&self.work, batch, rides);
        if calls > 1 {
            self.quiet_at = now + QUIET;
        }
        !batch.is_empty()
    }

    /// A batch of the background work; `false` where there is none.
    fn work_alone(&self, first: std::result::Result<Box<dyn Act>, RecvError>, batch: &mut Vec<Box<dyn Act>>) -> bool {
        batch.extend(first);
        take(&self.work, batch, WORK_ALONE);
        !batch.is_empty()
    }

    /// How many acts of the background work ride along with so many of calls.
    fn rides(&mut self, calls: usize, now: Instant) -> usize {
        self.late = self.late - self.late / LATE + calls;
        if self.late > FEW * LATE && now < self.ride_at {
            return 0;
        }
        self.ride_at = now + RIDE_EVERY;
        TOGETHER
    }
}

fn take(lane: &Receiver<Box<dyn Act>>, batch: &mut Vec<Box<dyn Act>>, most: usize) {
    batch.extend(lane.try_iter().take(most));
}

fn serve(connection: &Connection, mut waiting: Waiting, edges: &impl Edges) {
    let mut batch = Vec::with_capacity(CALLS);
    while waiting.next(&mut batch) {
        commit_together(connection, &mut batch, edges);
    }
}

/// Runs a batch in one transaction and answers each of its acts.
fn commit_together(connection: &Connection, batch: &mut Vec<Box<dyn Act>>, edges: &impl Edges) {
    let mut begun = false;
    let together = transaction(connection, || {
        begun = true;
        batch.iter_mut().try_for_each(|act| act.run(connection))?;
        edges.before_commit(connection)
    });
    edges.ended(connection, together.is_ok());
    // Where it could not even begin, another program holds the database: it has been waited for long enough.
    if together.is_ok() || !begun {
        return post::deliver(batch.drain(..).map(|act| Answered { act, committed: together.clone() }));
    }
    let mut outcomes = Vec::with_capacity(batch.len());
    let committed = transaction(connection, || {
        for act in batch.iter_mut() {
            outcomes.push(run_apart(connection, act.as_mut(), edges)?);
        }
        Ok(())
    });
    edges.ended(connection, committed.is_ok());
    post::deliver(batch.drain(..).enumerate().map(|(at, act)| {
        let own = outcomes.get(at).cloned().unwrap_or(Ok(()));
        Answered { act, committed: own.and(committed.clone()) }
    }));
}

/// All or nothing.
fn transaction(connection: &Connection, acts: impl FnOnce() -> Result<()>) -> Result<()> {
    let done =
        execute(connection, "BEGIN IMMEDIATE").and_then(|()| acts()).and_then(|()| execute(connection, "COMMIT"));
    if done.is_err()
        && !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        log::error!("a transaction could not be rolled back: {error}");
    }
    done
}

/// Runs one act behind a savepoint: its error undoes it alone. The outer error is the whole transaction's.
fn run_apart(connection: &Connection, act: &mut dyn Act, edges: &impl Edges) -> Result<Result<()>> {
    execute(connection, "SAVEPOINT act")?;
    let outcome = act.run(connection).and_then(|()| edges.before_commit(connection));
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

/// Runs a statement without values.
pub fn execute(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Act for Nothing {
        fn run(&mut self, _: &Connection) -> Result<()> {
            Ok(())
        }

        fn answer(self: Box<Self>, _: Result<()>) {}

        fn post(&self) -> Option<&Post<Answered>> {
            None
        }
    }

    fn lanes(calls: usize, work: usize) -> (Waiting, impl Sized) {
        let ((call, calling), (act, working)) = (unbounded::<Box<dyn Act>>(), unbounded::<Box<dyn Act>>());
        (0..calls).for_each(|_| call.send(Box::new(Nothing)).unwrap());
        (0..work).for_each(|_| act.send(Box::new(Nothing)).unwrap());
        (Waiting::new(calling, working), (call, act))
    }

    fn first_batch(calls: usize, work: usize) -> usize {
        let ((mut waiting, _handles), mut batch) = (lanes(calls, work), Vec::new());
        assert!(waiting.next(&mut batch));
        batch.len()
    }

    #[test]
    fn while_callers_press_the_background_work_rides_along_in_groups_every_so_often() {
        let (mut waiting, _handles) = lanes(0, 0);
        let begin = waiting.ride_at;
        let mut rides = |tenths: u32| waiting.rides(CALLS, begin + RIDE_EVERY / 10 * tenths);
        assert_eq!([0, 1, 9, 10, 19, 25, 34, 35].map(&mut rides), [8, 0, 0, 8, 0, 8, 0, 8]);
    }

    #[test]
    fn callers_press_while_many_come_together_for_a_while() {
        let (mut waiting, _handles) = lanes(0, 0);
        let now = waiting.ride_at;
        let mut rides = |calls, times| (0..times).filter(|_| waiting.rides(calls, now) > 0).count();
        assert_eq!(rides(FEW, 1000), 1000, "few for long");
        assert!(rides(4 * FEW, 1000) < 50, "many for long");
        assert_eq!(rides(0, 1), 0, "a moment without");
        assert!(rides(FEW / 2, 1000) > 950, "few again");
    }

    #[test]
    fn everything_that_waits_is_done_also_once_the_handles_are_gone() {
        for (calls, work) in [(0, 0), (1, 0), (0, 1), (3, 200), (5000, 7)] {
            let ((mut waiting, handles), mut batch) = (lanes(calls, work), Vec::new());
            drop(handles);
            let mut done = 0;
            while waiting.next(&mut batch) {
                done += batch.drain(..).count();
            }
            assert_eq!(done, calls + work, "{calls} and {work}");
        }
    }

    #[test]
    fn callers_come_first_and_background_work_rides_along_where_they_are_few() {
        for (calls, work) in [(1, TOGETHER), (FEW * LATE, TOGETHER), (FEW * LATE + 1, 0), (CALLS, 0)] {
            assert_eq!(first_batch(calls, 1000), calls + work, "{calls}");
        }
        assert_eq!(first_batch(0, 1000), WORK_ALONE + 1);
    }
}
