//! The bounded pool: so many requests run at once, no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::run_one::Runner;
use crate::scheduler::{Scheduler, Turn};

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
}

impl Pool {
    /// Starts the pool on the current runtime.
    #[must_use]
    pub fn start(runner: Runner, scheduler: Scheduler, options: Options) -> Self {
        let permits = Arc::new(Semaphore::new(options.concurrency));
        let (stop, stopping) = watch::channel(false);
        let feeder = tokio::spawn(feed(runner, scheduler.clone(), permits.clone(), stopping));
        let concurrency = u32::try_from(options.concurrency).unwrap_or(u32::MAX);
        Self { scheduler, permits, concurrency, stop, feeder }
    }

    /// Takes nothing new, gives what runs until `grace` is over, then puts the rest back in the queue.
    pub async fn shut_down(self, grace: Duration) {
        self.scheduler.close();
        let idle = || self.permits.acquire_many(self.concurrency);
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
async fn feed(runner: Runner, scheduler: Scheduler, permits: Arc<Semaphore>, stopping: watch::Receiver<bool>) {
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Some(turn) = scheduler.next().await else { return };
        let (runner, stopping) = (runner.clone(), stopping.clone());
        let scheduler = scheduler.clone();
        tokio::spawn(async move {
            work(&runner, &scheduler, turn, stopping).await;
            drop(permit);
        });
    }
}

/// Runs the turn's request, and then one after the other as long as there are turns.
async fn work(runner: &Runner, scheduler: &Scheduler, mut turn: Turn, stopping: watch::Receiver<bool>) {
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
        claimed = runner.run(request, stop, next).await.1;
        let Some(next) = following else { return };
        turn = next;
    }
    drop(turn);
}
