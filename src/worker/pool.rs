//! The bounded pool: so many requests run at once, no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

use super::retries::Retries;
use super::run_one::{Run, Runner};
use crate::dispatch::UnderWay;
use crate::scheduler::{Reservation, Scheduler, Turn};
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
    shared: Arc<Shared>,
    concurrency: u32,
    stop: watch::Sender<bool>,
    feeder: JoinHandle<()>,
    adopted: Arc<Semaphore>,
    adopter: Adopter,
}

/// What its workers share.
struct Shared {
    runner: Runner,
    scheduler: Scheduler,
    retries: Retries,
    permits: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
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

/// Begins requests as they are stored, without a turn in between. Cheap to clone.
#[derive(Clone)]
pub struct Starter {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
}

/// A place in the pool for a request that is about to be stored; dropped, it is free again.
pub struct Start {
    starter: Starter,
    turn: Turn,
    permit: OwnedSemaphorePermit,
}

impl Starter {
    /// Takes a place in the pool, where one is free and nobody waits for it. The last one that is free is not: what is
    /// queued is fed to that.
    ///
    /// # Errors
    /// The place in the queue: the request has to wait there.
    pub fn start(&self, place: Reservation) -> Result<Start, Reservation> {
        let Ok(permit) = self.shared.permits.clone().try_acquire_owned() else { return Err(place) };
        Ok(Start { starter: self.clone(), turn: place.begin()?, permit })
    }
}

impl Start {
    /// The request is stored: runs it on the pool's runtime.
    pub fn run(self, claimed: Claimed) {
        let Self { starter: Starter { shared, runtime }, turn, permit } = self;
        runtime.spawn(async move {
            shared.go_on(turn, Some(claimed)).await;
            drop(permit);
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
        let shared = Arc::new(Shared { runner, scheduler, retries, permits, stopping });
        let feeder = tokio::spawn(feed(shared.clone()));
        let concurrency = u32::try_from(options.concurrency).unwrap_or(u32::MAX);
        Self { shared, concurrency, stop, feeder, adopted, adopter }
    }

    /// What begins requests as they are stored.
    #[must_use]
    pub fn starter(&self) -> Starter {
        Starter { shared: self.shared.clone(), runtime: tokio::runtime::Handle::current() }
    }

    /// What goes on with calls that began in the foreground.
    #[must_use]
    pub fn adopter(&self) -> Adopter {
        self.adopter.clone()
    }

    /// Takes nothing new, gives what runs until `grace` is over, then puts the rest back in the queue.
    pub async fn shut_down(self, grace: Duration) {
        self.shared.scheduler.close();
        let idle = || async {
            tokio::join!(self.shared.permits.acquire_many(self.concurrency), self.adopted.acquire_many(ADOPTED))
        };
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
async fn feed(shared: Arc<Shared>) {
    loop {
        let Ok(permit) = shared.permits.clone().acquire_owned().await else { return };
        let Some(turn) = shared.scheduler.next().await else { return };
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.work(turn).await;
            drop(permit);
        });
    }
}

impl Shared {
    /// Runs the turn's request, and then one after the other as long as there are turns.
    async fn work(&self, mut turn: Turn) {
        match self.runner.claim(&turn.owner).await {
            Ok(claimed) => {
                turn.claimed();
                self.go_on(turn, claimed).await;
            }
            Err(error) => {
                log::error!("a request could not be claimed, trying again: {error}");
                tokio::time::sleep(PAUSE).await;
                self.scheduler.enqueue(turn.owner.clone());
            }
        }
    }

    /// The same with what the turn has claimed.
    async fn go_on(&self, mut turn: Turn, mut claimed: Option<Claimed>) {
        while let Some(request) = claimed {
            let mut stopping = self.stopping.clone();
            let stop = async move {
                let _ = stopping.wait_for(|stop| *stop).await;
            };
            let mut following = None;
            let next = || {
                following = self.scheduler.next_now();
                following.as_ref().map(|turn| turn.owner.clone())
            };
            let rid = request.claim.rid;
            let (run, after) = self.runner.run(request, stop, next).await;
            claimed = after;
            if let Run::Again(due) = run {
                self.retries.add(turn.owner.clone(), rid, due);
            }
            let Some(next) = following else { return };
            turn = next;
            turn.claimed();
        }
    }
}
