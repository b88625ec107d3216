//! The bounded pool: so many requests run at once, no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::retries::Retries;
use super::run_one::{Run, Runner};
use crate::dispatch::UnderWay;
use crate::scheduler::{Scheduler, Turn};
use crate::store::Claimed;

/// How long a worker rests when the store refuses a claim.
const PAUSE: Duration = Duration::from_secs(1);

/// How long requests that were told to stop have for putting themselves back.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The pool's options.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Requests running at once.
    pub concurrency: usize,
}

/// The running pool.
pub struct Pool {
    scheduler: Scheduler,
    permits: Arc<Semaphore>,
    concurrency: u32,
    stop: watch::Sender<bool>,
    feeder: JoinHandle<()>,
    adopted: Arc<Semaphore>,
    adopter: Adopter,
}

/// Calls that began in the foreground and run on as requests, at most: as many as there may be connections.
const ADOPTED: u32 = 1_000_000;

/// Runs such calls beside the pool: they run already. Cheap to clone.
#[derive(Clone)]
pub struct Adopter {
    runner: Runner,
    retries: Retries,
    adopted: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
    runtime: tokio::runtime::Handle,
}

impl Adopter {
    /// Goes on with a call on the pool's runtime; `turn` counts it as running.
    pub fn adopt(&self, claimed: Claimed, turn: Turn, under_way: UnderWay) {
        let Ok(permit) = self.adopted.clone().try_acquire_owned() else {
            return log::error!("{}: too many calls run beside the pool; the upkeep ends it", claimed.claim.rid);
        };
        let (this, mut stopping) = (self.clone(), self.stopping.clone());
        self.runtime.spawn(async move {
            let stop = async move {
                let _ = stopping.wait_for(|stop| *stop).await;
            };
            let rid = claimed.claim.rid;
            if let Run::Again(due) = this.runner.adopt(claimed, under_way, stop).await {
                this.retries.add(turn.owner.clone(), rid, due);
            }
            drop((turn, permit));
        });
    }
}

impl Pool {
    /// Starts the pool on the current runtime.
    #[must_use]
    pub fn start(runner: Runner, scheduler: Scheduler, retries: Retries, options: Options) -> Self {
        let permits = Arc::new(Semaphore::new(options.concurrency));
        let (stop, stopping) = watch::channel(false);
        let adopted = Arc::new(Semaphore::new(ADOPTED as usize));
        let adopter = Adopter {
            runner: runner.clone(),
            retries: retries.clone(),
            adopted: adopted.clone(),
            stopping: stopping.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let feeder = tokio::spawn(feed(runner, scheduler.clone(), retries, permits.clone(), stopping));
        let concurrency = u32::try_from(options.concurrency).unwrap_or(u32::MAX);
        Self { scheduler, permits, concurrency, stop, feeder, adopted, adopter }
    }

    /// What goes on with calls that began in the foreground.
    #[must_use]
    pub fn adopter(&self) -> Adopter {
        self.adopter.clone()
    }

    /// Takes nothing new, gives what runs until `grace` is over, then puts the rest back in the queue.
    pub async fn shut_down(self, grace: Duration) {
        self.scheduler.close();
        let idle =
            || async { tokio::join!(self.permits.acquire_many(self.concurrency), self.adopted.acquire_many(ADOPTED)) };
        if tokio::time::timeout(grace, idle()).await.is_err() {
            self.stop.send_replace(true);
            if tokio::time::timeout(LAST_WORDS, idle()).await.is_err() {
                log::warn!("some requests could not be put back in the queue; the next start will do it");
            }
        }
        self.feeder.abort();
    }
}

/// Waits for a free place first and for a turn then, so that a turn is never held without being run.
async fn feed(
    runner: Runner,
    scheduler: Scheduler,
    retries: Retries,
    permits: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
) {
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Some(turn) = scheduler.next().await else { return };
        let (runner, stopping) = (runner.clone(), stopping.clone());
        let (scheduler, retries) = (scheduler.clone(), retries.clone());
        tokio::spawn(async move {
            work(&runner, &scheduler, &retries, turn, stopping).await;
            drop(permit);
        });
    }
}

/// Runs the turn's request, and then one after the other as long as there are turns.
async fn work(
    runner: &Runner,
    scheduler: &Scheduler,
    retries: &Retries,
    mut turn: Turn,
    stopping: watch::Receiver<bool>,
) {
    let mut claimed = match runner.claim(&turn.owner).await {
        Ok(claimed) => claimed,
        Err(error) => {
            log::error!("a request could not be claimed, trying again: {error}");
            tokio::time::sleep(PAUSE).await;
            return scheduler.enqueue(turn.owner.clone());
        }
    };
    while let Some(request) = claimed {
        let mut stopping = stopping.clone();
        let stop = async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let mut following = None;
        let next = || {
            following = scheduler.next_now();
            following.as_ref().map(|turn| turn.owner.clone())
        };
        let rid = request.claim.rid;
        let (run, after) = runner.run(request, stop, next).await;
        claimed = after;
        if let Run::Again(due) = run {
            retries.add(turn.owner.clone(), rid, due);
        }
        let Some(next) = following else { return };
        turn = next;
    }
    drop(turn);
}
