//! Telling callbacks that requests have ended: what is due is sent, and sent again with longer and longer rests, for a
//! day. The table is the queue: memory holds only what is under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::failpoint::{self, Place};
use crate::model::{Rid, time};
use crate::store::{self, Callbacks, Delivery, Request};
use crate::view;
use crate::webhooks::{Answer, Client, site};

/// Deliveries under way at most.
const MOST: usize = 16;

/// Of these, to one receiver: one that is dead holds up no other.
const MOST_OF_ONE: usize = 4;

/// The longest sleep: the clock may be set while it lasts.
const LONGEST: Duration = Duration::from_secs(60);

/// The rest after what the store refused.
const PAUSE: Duration = Duration::from_secs(1);

/// After a look at what is due, so many times its length pass before the next: where very much is due to receivers that
/// are dead, a look takes long, and everybody reads from the same store.
const CALM: u32 = 9;

/// Seconds between an attempt in vain and the next one: the first, the second, and so on; the last from then on.
const RESTS: [u64; 7] = [2, 10, 60, 5 * 60, 30 * 60, 2 * 60 * 60, 4 * 60 * 60];

/// How far a rest may be from that, as a part of it: those that failed together do not come again together.
const SPREAD: f64 = 0.2;

/// The longest rest that a receiver may ask for.
const LONGEST_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long after a request's end its callback is tried again.
const KEPT_UP: SignedDuration = SignedDuration::from_hours(24);

/// A receiver's "do not come again".
const GONE: u16 = 410;

/// Delivers callbacks. Cheap to clone.
#[derive(Clone)]
pub struct Deliverer {
    store: Arc<dyn Callbacks>,
    client: Client,
    clock: Arc<dyn Clock>,
    /// Deliveries under way, by id: where each goes.
    under_way: Arc<Mutex<HashMap<i64, String>>>,
    woken: Arc<Notify>,
}

impl Deliverer {
    /// A deliverer of this store's callbacks.
    #[must_use]
    pub fn new(store: Arc<dyn Callbacks>, client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { store, client, clock, under_way: Arc::default(), woken: Arc::default() }
    }

    /// A delivery is due that was not before.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Delivers what is due, for ever. Dropped, it leaves what is under way to be made again.
    pub async fn keep_up(self) {
        let mut tasks = JoinSet::new();
        let mut failing = false;
        loop {
            while tasks.try_join_next().is_some() {}
            let begun = Instant::now();
            let (pause, rest) = match self.start_due(&mut tasks).await {
                Ok(rest) => {
                    failing = false;
                    ((begun.elapsed() * CALM).min(PAUSE), rest)
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        log::error!("callbacks that are due cannot be read, trying again: {error}");
                    }
                    (PAUSE, Duration::ZERO)
                }
            };
            tokio::time::sleep(pause).await;
            let _ = tokio::time::timeout(rest.saturating_sub(pause), self.woken.notified()).await;
        }
    }

    /// Starts what is due, as far as there is room, and says when to look again.
    async fn start_due(&self, tasks: &mut JoinSet<()>) -> store::Result<Duration> {
        let now = self.clock.now();
        // As it was before the look: what comes to its end meanwhile may look as if it were still to be made.
        let mut taken = self.lock().clone();
        while taken.len() < MOST {
            let before = taken.len();
            // More than are under way: among them is one that is not, if there is any.
            for (delivery, request) in self.store.due(now, full(&taken), 2 * MOST).await? {
                if has_room(&taken, &delivery) {
                    taken.insert(delivery.id, site(&delivery.url).to_owned());
                    self.start(tasks, delivery, request);
                }
            }
            if taken.len() == before {
                break;
            }
        }
        let next = self.store.next_due(now).await?;
        let rest = next.map(|next| Duration::try_from(next.duration_since(self.clock.now())).unwrap_or_default());
        Ok(rest.unwrap_or(LONGEST).min(LONGEST))
    }

    fn start(&self, tasks: &mut JoinSet<()>, delivery: Delivery, request: Request) {
        self.lock().insert(delivery.id, site(&delivery.url).to_owned());
        let place = Taken { deliverer: self.clone(), id: delivery.id };
        tasks.spawn(async move {
            place.deliverer.deliver(delivery, request).await;
            drop(place);
        });
    }

    async fn deliver(&self, delivery: Delivery, request: Request) {
        let (id, body) = (format!("msg_{}", request.rid), view::object(&request, false));
        let answer = self.client.post(&delivery.url, &id, self.clock.now(), body).await;
        failpoint::reach(Place::WebhookSent);
        let now = self.clock.now();
        let ended = request.finished.as_deref().and_then(time::parse);
        let again = ended.and_then(|ended| again(&answer, delivery.attempt, ended, now, fastrand::f64()));
        if again.is_none() && !answer.as_ref().is_ok_and(has_arrived) {
            log::warn!("{}: its callback is given up after attempt {}", request.rid, delivery.attempt);
        }
        self.note(request.rid, delivery.id, now, answer, again).await;
    }

    /// Notes what was done. While the store refuses that, the delivery counts as under way: it is not to be made twice.
    async fn note(&self, rid: Rid, id: i64, at: Timestamp, answer: Result<Answer, String>, again: Option<Timestamp>) {
        let (status, error) = match answer {
            Ok(answer) => (Some(answer.status), None),
            Err(why) => (None, Some(why)),
        };
        let mut failing = false;
        while let Err(refusal) = self.store.delivered(id, at, status, error.clone(), again).await {
            if !std::mem::replace(&mut failing, true) {
                log::error!("{rid}: that its callback was sent cannot be noted, trying again: {refusal}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, String>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a delivery that is under way: free for another when this is dropped.
struct Taken {
    deliverer: Deliverer,
    id: i64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.deliverer.lock().remove(&self.id);
        self.deliverer.wake();
    }
}

fn count(taken: &HashMap<i64, String>, site: &str) -> usize {
    taken.values().filter(|taken| *taken == site).count()
}

/// Receivers that get no more for now.
fn full(taken: &HashMap<i64, String>) -> Vec<String> {
    let mut full: Vec<_> = taken.values().filter(|site| count(taken, site) >= MOST_OF_ONE).cloned().collect();
    full.sort_unstable();
    full.dedup();
    full
}

fn has_room(taken: &HashMap<i64, String>, delivery: &Delivery) -> bool {
    taken.len() < MOST && !taken.contains_key(&delivery.id) && count(taken, site(&delivery.url)) < MOST_OF_ONE
}

fn has_arrived(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

/// When a delivery is made again; `None` where it has arrived, or is given up. `luck`, from 0 to 1, spreads the rests.
fn again(
    answer: &Result<Answer, String>,
    attempt: i64,
    ended: Timestamp,
    now: Timestamp,
    luck: f64,
) -> Option<Timestamp> {
    let asked = match answer {
        Ok(answer) if has_arrived(answer) || answer.status == GONE => return None,
        Ok(answer) => answer.retry_after.unwrap_or_default().min(LONGEST_REST),
        Err(_) => Duration::ZERO,
    };
    let rest = rest(attempt).mul_f64(1.0 - SPREAD + 2.0 * SPREAD * luck).max(asked);
    let due = now.checked_add(rest).ok()?;
    (due.duration_since(ended) <= KEPT_UP).then_some(due)
}

/// The rest after so many attempts in vain.
fn rest(attempts: i64) -> Duration {
    let at = usize::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(RESTS.len() - 1);
    Duration::from_secs(RESTS[at])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-31T10:00:00Z".parse().unwrap()
    }

    fn later(seconds: u64) -> Timestamp {
        now().checked_add(Duration::from_secs(seconds)).unwrap()
    }

    fn answered(status: u16, retry_after: Option<u64>) -> Result<Answer, String> {
        Ok(Answer { status, retry_after: retry_after.map(Duration::from_secs) })
    }

    #[test]
    fn what_has_arrived_or_is_not_wanted_is_not_sent_again() {
        for status in [200, 202, 204, 299, 410] {
            assert_eq!(again(&answered(status, Some(1)), 1, now(), now(), 0.5), None, "{status}");
        }
        for status in [101, 199, 300, 302, 400, 404, 409, 500, 503] {
            assert!(again(&answered(status, None), 1, now(), now(), 0.5).is_some(), "{status}");
        }
    }

    #[test]
    fn rests_grow_and_a_receiver_may_ask_for_longer_ones() {
        let broken = Err("why".to_owned());
        let seconds = [2, 10, 60, 300, 1800, 7200, 14_400, 14_400];
        for (attempt, seconds) in (1..).zip(seconds) {
            for (luck, tenths) in [(0.0, 8), (0.5, 10), (1.0, 12)] {
                let due = again(&broken, attempt, now(), now(), luck).unwrap();
                let expected = SignedDuration::from_millis(seconds * 100 * tenths);
                let off = due.duration_since(now()) - expected;
                assert!(off.abs() < SignedDuration::from_millis(1), "{attempt}: {due}");
            }
        }
        assert_eq!(again(&answered(503, Some(90)), 1, now(), now(), 0.5), Some(later(90)));
        assert_eq!(again(&answered(429, Some(u64::MAX)), 1, now(), now(), 0.5), Some(later(24 * 60 * 60)));
        assert!(again(&answered(503, Some(0)), 3, now(), now(), 0.5).unwrap() > later(50));
    }

    #[test]
    fn a_day_after_the_requests_end_it_is_given_up() {
        let broken = Err("why".to_owned());
        let (mut at, mut attempts) = (now(), 1);
        while let Some(due) = again(&broken, attempts, now(), at, 0.5) {
            (at, attempts) = (due, attempts + 1);
        }
        assert_eq!(attempts, 12);
        assert!(at > later(20 * 60 * 60) && at <= later(24 * 60 * 60), "{at}");
        assert_eq!(again(&answered(503, Some(24 * 60 * 60)), 1, now(), later(1), 0.5), None);
        assert_eq!(again(&broken, 1, now(), later(2 * 24 * 60 * 60), 0.5), None);
    }

    fn delivery(id: i64, receiver: u8) -> Delivery {
        Delivery {
            id,
            rid: Rid::generate(id).unwrap(),
            url: format!("https://{receiver}.example/hook"),
            attempt: 1,
            due: now(),
            sent: None,
            status: None,
            error: None,
        }
    }

    proptest! {
        #[test]
        fn no_delivery_is_taken_twice_and_no_receiver_takes_all_places(
            asked in prop::collection::vec((0..40_i64, 0..6_u8), 0..100)
        ) {
            let mut taken = HashMap::new();
            for (id, receiver) in asked {
                let delivery = delivery(id, receiver);
                if has_room(&taken, &delivery) {
                    prop_assert!(taken.insert(id, site(&delivery.url).to_owned()).is_none());
                }
                prop_assert!(taken.len() <= MOST);
                let others: usize = full(&taken).iter().map(|site| count(&taken, site)).sum();
                prop_assert_eq!(others, full(&taken).len() * MOST_OF_ONE);
            }
        }
    }
}
