//! Requests put aside until their next attempt is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use lru::LruCache;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::model::{Owner, Rid};
use crate::scheduler::Scheduler;

/// The longest sleep: the clock may be set while it lasts.
const LONGEST: Duration = Duration::from_secs(60);

/// Cancelled requests that are remembered until they would be put aside, at most.
const MOST_CANCELLED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

struct Due {
    /// Who is to be woken when, the next on top.
    sleeping: BinaryHeap<Reverse<(Timestamp, Owner, Rid)>>,
    /// Cancelled between the commit that put them aside and the word of it here.
    cancelled: LruCache<Rid, ()>,
}

/// Wakes the owners of such requests. What is here is a hint, rebuilt from the table at start. Cheap to clone.
#[derive(Clone)]
pub struct Retries {
    scheduler: Scheduler,
    clock: Arc<dyn Clock>,
    due: Arc<Mutex<Due>>,
    changed: Arc<Notify>,
}

impl Retries {
    /// Knows of nothing yet.
    #[must_use]
    pub fn new(scheduler: Scheduler, clock: Arc<dyn Clock>) -> Self {
        let due = Due { sleeping: BinaryHeap::new(), cancelled: LruCache::sparse(MOST_CANCELLED) };
        Self { scheduler, clock, due: Arc::new(Mutex::new(due)), changed: Arc::default() }
    }

    /// Takes in what the table says is put aside; the scheduler has counted it.
    pub fn restore(&self, retrying: Vec<(Owner, Rid, Timestamp)>) {
        self.lock().sleeping.extend(retrying.into_iter().map(|(owner, rid, due)| Reverse((due, owner, rid))));
        self.changed.notify_one();
    }

    /// A request was put aside.
    pub fn add(&self, owner: Owner, rid: Rid, due: Timestamp) {
        let mut waiting = self.lock();
        if waiting.cancelled.pop(&rid).is_some() {
            return;
        }
        self.scheduler.sleep(owner.clone());
        waiting.sleeping.push(Reverse((due, owner, rid)));
        drop(waiting);
        self.changed.notify_one();
    }

    /// A request that was put aside is cancelled: its owner's place is free again.
    pub fn cancel(&self, owner: &Owner, rid: Rid) {
        let mut waiting = self.lock();
        let before = waiting.sleeping.len();
        waiting.sleeping.retain(|Reverse((_, _, sleeping))| *sleeping != rid);
        if waiting.sleeping.len() < before {
            self.scheduler.withdraw_sleeping(owner.clone());
        } else {
            waiting.cancelled.put(rid, ());
        }
    }

    /// Wakes whoever is due, for ever.
    pub async fn keep_up(self) {
        loop {
            let changed = self.changed.notified();
            let rest = self.wake_due();
            let _ = tokio::time::timeout(rest, changed).await;
        }
    }

    /// Wakes whoever is due, and says when to look again.
    fn wake_due(&self) -> Duration {
        let mut due = self.lock();
        while let Some(Reverse((at, ..))) = due.sleeping.peek() {
            let rest = at.duration_since(self.clock.now());
            if rest.is_positive() {
                return rest.unsigned_abs().min(LONGEST);
            }
            if let Some(Reverse((_, owner, _))) = due.sleeping.pop() {
                self.scheduler.wake(owner);
            }
        }
        LONGEST
    }

    fn lock(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
