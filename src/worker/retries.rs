//! Requests put aside until their next attempt is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::model::Owner;
use crate::scheduler::Scheduler;

/// The longest sleep: the clock may be set while it lasts.
const LONGEST: Duration = Duration::from_secs(60);

/// Who is to be woken when, the next on top.
type Due = BinaryHeap<Reverse<(Timestamp, Owner)>>;

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
        Self { scheduler, clock, due: Arc::default(), changed: Arc::default() }
    }

    /// Takes in what the table says is put aside; the scheduler has counted it.
    pub fn restore(&self, retrying: Vec<(Owner, Timestamp)>) {
        self.lock().extend(retrying.into_iter().map(|(owner, due)| Reverse((due, owner))));
        self.changed.notify_one();
    }

    /// A request was put aside.
    pub fn add(&self, owner: Owner, due: Timestamp) {
        self.scheduler.sleep(owner.clone());
        self.lock().push(Reverse((due, owner)));
        self.changed.notify_one();
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
        while let Some(Reverse((at, _))) = due.peek() {
            let rest = at.duration_since(self.clock.now());
            if rest.is_positive() {
                return rest.unsigned_abs().min(LONGEST);
            }
            if let Some(Reverse((_, owner))) = due.pop() {
                self.scheduler.wake(owner);
            }
        }
        LONGEST
    }

    fn lock(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
