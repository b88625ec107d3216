//! Who may submit, and whose turn it is: counts by owner, in memory.
//!
//! The table is the queue. What is here only bounds it, wakes the workers and makes them fair; it is rebuilt from the
//! table at start. A turn is a hint: a worker that finds nothing to claim drops it.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::Owner;
use crate::store::Unended;

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests waiting, of all owners.
    pub queue: usize,
    /// Requests of one owner, waiting or running.
    pub per_user: usize,
}

/// Why a submission is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The owner has as many requests waiting or running as one may have.
    #[error("the caller's own share is full")]
    ShareFull,
    /// As many requests wait as may.
    #[error("the queue is full")]
    QueueFull,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Closed,
}

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    /// Beside the lock, though only changed within it: each call asks for it.
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    owners: HashMap<Owner, Counts>,
    /// Owners with something to run: whoever has the fewest running first, then who waited longest for a turn.
    turns: BTreeSet<(usize, u64, Owner)>,
    waiting: usize,
    /// Turns that were given, for which nothing is claimed yet.
    unclaimed: usize,
    served: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Accepted for storing, not stored yet.
    reserved: usize,
    waiting: usize,
    /// Put aside until another attempt is due.
    sleeping: usize,
    running: usize,
    /// When the owner had its last turn.
    served: u64,
}

impl Scheduler {
    /// A scheduler that knows of nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared {
                limits,
                closed: AtomicBool::default(),
                state: Mutex::default(),
                changed: Notify::new(),
            }),
        }
    }

    /// Takes in what the table says is waiting.
    pub fn restore(&self, unended: HashMap<Owner, Unended>) {
        for (owner, counts) in unended {
            self.change(&owner, |c| {
                c.waiting += counts.waiting;
                c.sleeping += counts.sleeping;
            });
        }
        self.shared.changed.notify_waiters();
    }

    /// Reserves a place for a submission; dropped, the place is free again.
    ///
    /// # Errors
    /// The bounds that are reached.
    pub fn reserve(&self, owner: Owner) -> Result<Reservation, Refusal> {
        {
            let mut state = self.lock();
            if self.is_closed() {
                return Err(Refusal::Closed);
            }
            let is_full = state.waiting >= self.shared.limits.queue;
            state.change(&owner, |own| {
                if own.queued() + own.running >= self.shared.limits.per_user {
                    return Err(Refusal::ShareFull);
                }
                if is_full {
                    return Err(Refusal::QueueFull);
                }
                own.reserved += 1;
                Ok(())
            })?;
        }
        Ok(Reservation { scheduler: self.clone(), owner: Some(owner) })
    }

    /// A stored request waits (again).
    pub fn enqueue(&self, owner: Owner) {
        self.change(&owner, |c| c.waiting += 1);
        self.shared.changed.notify_one();
    }

    /// A request is put aside.
    pub fn sleep(&self, owner: Owner) {
        self.change(&owner, |c| c.sleeping += 1);
    }

    /// A request that was put aside waits for a turn.
    pub fn wake(&self, owner: Owner) {
        self.change(&owner, |c| {
            c.sleeping = c.sleeping.saturating_sub(1);
            c.waiting += 1;
        });
        self.shared.changed.notify_one();
    }

    /// A request that waits is about to be cancelled: no turn is to be given for it. To be called before that is
    /// committed: behind it, the turn of another could be meant. `false`: the turn is given already, and finds another
    /// request, or nothing.
    #[must_use]
    pub fn withdraw(&self, owner: Owner) -> bool {
        let mut withdrawn = false;
        self.change(&owner, |c| {
            withdrawn = c.waiting > 0;
            c.waiting -= usize::from(withdrawn);
        });
        withdrawn
    }

    /// A request that was put aside is cancelled.
    pub fn withdraw_sleeping(&self, owner: Owner) {
        self.change(&owner, |c| c.sleeping = c.sleeping.saturating_sub(1));
    }

    /// Waits for the next turn; `None` once the scheduler is closed.
    pub async fn next(&self) -> Option<Turn> {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(turn) = self.next_now() {
                return Some(turn);
            }
            if self.is_closed() {
                return None;
            }
            changed.await;
        }
    }

    /// The next turn, if there is one.
    #[must_use]
    pub fn next_now(&self) -> Option<Turn> {
        let mut state = self.lock();
        if self.is_closed() {
            return None;
        }
        let (_, _, owner) = state.turns.first().cloned()?;
        state.served += 1;
        let served = state.served;
        let more = state.turns.len() > 1 || state.owners.get(&owner).is_some_and(|c| c.waiting > 1);
        state.change(&owner, |c| {
            c.waiting -= 1;
            c.running += 1;
            c.served = served;
        });
        state.unclaimed += 1;
        if more {
            self.shared.changed.notify_one();
        }
        Some(Turn { scheduler: self.clone(), owner, is_claimed: false })
    }

    /// How many wait, sleep and run, of all owners.
    #[must_use]
    pub fn total(&self) -> Unended {
        let state = self.lock();
        state.owners.values().fold(Unended::default(), |total, counts| Unended {
            waiting: total.waiting + counts.waiting,
            sleeping: total.sleeping + counts.sleeping,
            running: total.running + counts.running,
        })
    }

    /// Refuses submissions and gives no more turns.
    pub fn close(&self) {
        {
            let _state = self.lock();
            self.shared.closed.store(true, Ordering::Release);
        }
        self.shared.changed.notify_waiters();
        self.shared.changed.notify_one();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The counts are whole at every unlock, also when a thread died.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, owner: &Owner, change: impl FnOnce(&mut Counts)) {
        self.lock().change(owner, change);
    }
}

impl State {
    fn change<T>(&mut self, owner: &Owner, change: impl FnOnce(&mut Counts) -> T) -> T {
        // One look where the owner is known, as nearly always.
        let counts = match self.owners.get_mut(owner) {
            Some(counts) => counts,
            None => self.owners.entry(owner.clone()).or_default(),
        };
        let before = *counts;
        let changed = change(counts);
        let after = *counts;
        if before.turn() != after.turn() {
            if let Some((running, served)) = before.turn() {
                self.turns.remove(&(running, served, owner.clone()));
            }
            if let Some((running, served)) = after.turn() {
                self.turns.insert((running, served, owner.clone()));
            }
        }
        self.waiting = self.waiting + after.queued() - before.queued();
        if after.queued() + after.running == 0 {
            self.owners.remove(owner);
        }
        changed
    }
}

impl Counts {
    /// Where the owner stands among those who have something to run.
    fn turn(self) -> Option<(usize, u64)> {
        (self.waiting > 0).then_some((self.running, self.served))
    }

    /// What takes a place in the queue.
    fn queued(self) -> usize {
        self.waiting + self.sleeping + self.reserved
    }
}

/// A place in the queue for a request that is not stored yet.
pub struct Reservation {
    scheduler: Scheduler,
    owner: Option<Owner>,
}

impl Reservation {
    /// The request is stored: it waits from now on.
    pub fn commit(mut self) {
        if let Some(owner) = self.owner.take() {
            self.scheduler.change(&owner, |c| {
                c.reserved -= 1;
                c.waiting += 1;
            });
            self.scheduler.shared.changed.notify_one();
        }
    }

    /// The request is to run as soon as it is stored, where nobody waits for a turn before it, or has one and not claimed
    /// its request yet: none is overtaken.
    ///
    /// # Errors
    /// The place itself: it has to wait, or the scheduler is closed.
    pub fn begin(mut self) -> Result<Turn, Self> {
        let mut state = self.scheduler.lock();
        let is_free = state.turns.is_empty() && state.unclaimed == 0 && !self.scheduler.is_closed();
        let Some(owner) = self.owner.take_if(|_| is_free) else {
            drop(state);
            return Err(self);
        };
        state.served += 1;
        let served = state.served;
        state.change(&owner, |c| {
            c.reserved -= 1;
            c.running += 1;
            c.served = served;
        });
        drop(state);
        Ok(Turn { scheduler: self.scheduler.clone(), owner, is_claimed: true })
    }

    /// The request is stored and runs already.
    #[must_use]
    pub fn run(mut self) -> Option<Turn> {
        let owner = self.owner.take()?;
        self.scheduler.change(&owner, |c| {
            c.reserved -= 1;
            c.running += 1;
        });
        Some(Turn { scheduler: self.scheduler.clone(), owner, is_claimed: true })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            self.scheduler.change(&owner, |c| c.reserved -= 1);
        }
    }
}

/// A worker's turn to run one of an owner's requests; it counts as running until it is dropped.
pub struct Turn {
    scheduler: Scheduler,
    /// Whose request to claim.
    pub owner: Owner,
    is_claimed: bool,
}

impl Turn {
    /// A request was claimed for it, or there was none.
    pub fn claimed(&mut self) {
        if !std::mem::replace(&mut self.is_claimed, true) {
            self.scheduler.lock().unclaimed -= 1;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.claimed();
        self.scheduler.change(&self.owner, |c| c.running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn user(id: i64) -> Owner {
        Owner::local(id)
    }

    fn next(scheduler: &Scheduler) -> Option<Turn> {
        scheduler.next().now_or_never().flatten()
    }

    #[test]
    fn one_owners_many_do_not_make_anothers_single_one_wait() {
        let scheduler = Scheduler::new(Limits { queue: 100_000, per_user: 100_000 });
        for _ in 0..10_000 {
            scheduler.enqueue(user(1));
        }
        let busy: Vec<_> = (0..8).map(|_| next(&scheduler).unwrap()).collect();
        scheduler.enqueue(user(2));
        assert_eq!(next(&scheduler).unwrap().owner, user(2));
        assert!(busy.iter().all(|turn| turn.owner == user(1)));
    }

    #[test]
    fn owners_with_as_many_running_take_turns() {
        let scheduler = Scheduler::new(Limits { queue: 100, per_user: 100 });
        for _ in 0..3 {
            scheduler.enqueue(user(1));
            scheduler.enqueue(user(2));
        }
        let turns: Vec<i64> = (0..6).map(|_| next(&scheduler).unwrap().owner.local_id().unwrap()).collect();
        assert!(turns.chunks(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
        assert!(next(&scheduler).is_none());
    }

    #[test]
    fn a_share_counts_what_waits_and_what_runs() {
        let scheduler = Scheduler::new(Limits { queue: 100, per_user: 2 });
        scheduler.reserve(user(1)).unwrap().commit();
        let turn = next(&scheduler).unwrap();
        let second = scheduler.reserve(user(1)).unwrap();
        assert_eq!(scheduler.reserve(user(1)).err(), Some(Refusal::ShareFull));
        assert!(scheduler.reserve(user(2)).is_ok());
        drop(second);
        assert!(scheduler.reserve(user(1)).is_ok());
        drop(turn);
        assert!(scheduler.lock().owners.is_empty());
    }

    #[test]
    fn the_queue_counts_what_waits_and_what_is_being_stored() {
        let scheduler = Scheduler::new(Limits { queue: 2, per_user: 100 });
        let _first = scheduler.reserve(user(1)).unwrap();
        scheduler.reserve(user(2)).unwrap().commit();
        assert_eq!(scheduler.reserve(user(3)).err(), Some(Refusal::QueueFull));
        let _turn = next(&scheduler).unwrap();
        assert!(scheduler.reserve(user(3)).is_ok());
    }

    #[test]
    fn a_request_begins_as_it_is_stored_where_nobody_waits() {
        let scheduler = Scheduler::new(Limits { queue: 100, per_user: 2 });
        let turn = scheduler.reserve(user(1)).unwrap().begin().ok().unwrap();
        assert_eq!((&turn.owner, scheduler.total().running), (&user(1), 1));
        scheduler.enqueue(user(2));
        let place = scheduler.reserve(user(1)).unwrap().begin().err().unwrap();
        assert_eq!(scheduler.reserve(user(1)).err(), Some(Refusal::ShareFull), "its place is gone");
        place.commit();
        let order: Vec<_> = (0..2).map(|_| next(&scheduler).unwrap().owner.clone()).collect();
        assert_eq!(order, [user(2), user(1)]);
        scheduler.enqueue(user(2));
        let mut given = next(&scheduler).unwrap();
        let place = scheduler.reserve(user(1)).unwrap().begin().err().unwrap();
        given.claimed();
        drop((place.begin().ok().unwrap(), given, turn));
        assert!(scheduler.lock().owners.is_empty());
        let place = scheduler.reserve(user(1)).unwrap();
        scheduler.close();
        assert!(place.begin().is_err());
    }

    #[test]
    fn a_closed_scheduler_refuses_and_gives_no_turns() {
        let scheduler = Scheduler::new(Limits { queue: 2, per_user: 2 });
        scheduler.enqueue(user(1));
        scheduler.close();
        assert_eq!(scheduler.reserve(user(1)).err(), Some(Refusal::Closed));
        assert!(next(&scheduler).is_none());
    }
}
