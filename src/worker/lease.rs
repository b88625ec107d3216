//! The holds of this process: prolonged by a task of its own, so that no job can starve its own heartbeat.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lru::LruCache;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::store::{self, Claim, Store};

/// How long a hold lasts without a heartbeat.
pub const LEASE: SignedDuration = SignedDuration::from_secs(60);

/// How often holds are prolonged: three may fail before one is lost.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Holds that are remembered as lost before they were begun to be prolonged, at most.
const MOST_LOST: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// The holds of this process. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    holds: Arc<Mutex<Holds>>,
}

struct Holds {
    held: HashMap<Claim, watch::Sender<()>>,
    /// Lost between the claim's commit and the beginning of its run.
    lost: LruCache<Claim, ()>,
}

impl Default for Leases {
    fn default() -> Self {
        Self { holds: Arc::new(Mutex::new(Holds { held: HashMap::new(), lost: LruCache::sparse(MOST_LOST) })) }
    }
}

/// A hold that is prolonged until it is dropped.
pub struct Lease {
    leases: Leases,
    claim: Claim,
    lost: watch::Receiver<()>,
}

impl Leases {
    /// Begins to prolong a hold.
    #[must_use]
    pub fn hold(&self, claim: Claim) -> Lease {
        let (held, lost) = watch::channel(());
        let mut holds = self.lock();
        if holds.lost.pop(&claim).is_none() {
            holds.held.insert(claim, held);
        }
        drop(holds);
        Lease { leases: self.clone(), claim, lost }
    }

    /// The end of a hold that begins or is prolonged at `now`.
    #[must_use]
    pub fn end(now: Timestamp) -> Timestamp {
        now.saturating_add(LEASE).unwrap_or(Timestamp::MAX)
    }

    /// Prolongs the holds for ever.
    pub async fn keep(self, store: Arc<dyn Store>, clock: Arc<dyn Clock>) {
        let mut beat = tokio::time::interval(HEARTBEAT);
        loop {
            beat.tick().await;
            if let Err(error) = self.beat(&*store, &*clock).await {
                log::warn!("leases were not prolonged: {error}");
            }
        }
    }

    /// Prolongs the holds once.
    ///
    /// # Errors
    /// When the rows cannot be written.
    pub async fn beat(&self, store: &dyn Store, clock: &dyn Clock) -> store::Result<()> {
        let claims: Vec<Claim> = self.lock().held.keys().copied().collect();
        if !claims.is_empty() {
            let lost = store.heartbeat(claims, Self::end(clock.now())).await?;
            lost.iter().for_each(|claim| self.lose(claim));
        }
        Ok(())
    }

    fn lose(&self, claim: &Claim) {
        if self.lock().held.remove(claim).is_some() {
            log::warn!("{} attempt {}: its hold is lost, it is dropped", claim.rid, claim.attempt);
        }
    }

    /// Ends a hold: its request was cancelled. A run that has not begun yet ends as it begins.
    pub fn cancel(&self, claim: Claim) {
        let mut holds = self.lock();
        if holds.held.remove(&claim).is_none() {
            holds.lost.put(claim, ());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Returns when the hold is lost: the request was rescued or removed behind the worker's back.
    pub async fn lost(&mut self) {
        while self.lost.changed().await.is_ok() {}
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.lock().held.remove(&self.claim);
    }
}
