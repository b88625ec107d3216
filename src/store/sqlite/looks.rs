//! What waits for the readers. A thread that finds nothing sleeps at once: channels look again and again before that, and
//! give up the processor in between, and where a look comes now and then that costs more than the look.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// One look at the database.
pub type Look = Box<dyn FnOnce(&Connection) + Send>;

/// The looks that wait.
#[derive(Default)]
pub struct Looks {
    waiting: Mutex<Waiting>,
    come: Condvar,
}

#[derive(Default)]
struct Waiting {
    looks: VecDeque<Look>,
    /// Readers that sleep.
    asleep: usize,
    /// Readers that there are, asleep or not.
    readers: usize,
    /// No more will come.
    closed: bool,
}

/// One that takes looks.
pub struct Reader(Arc<Looks>);

impl Looks {
    /// Adds a reader, for as long as what this returns is kept.
    pub fn reader(self: Arc<Self>) -> Reader {
        self.lock().readers += 1;
        Reader(self)
    }

    /// Adds one; dropped where there is no reader left to look.
    pub fn push(&self, look: Look) {
        let mut waiting = self.lock();
        if waiting.readers == 0 {
            return;
        }
        waiting.looks.push_back(look);
        let asleep = waiting.asleep > 0;
        drop(waiting);
        if asleep {
            self.come.notify_one();
        }
    }

    /// Says that no more will come. What waits is looked at still.
    pub fn close(&self) {
        self.lock().closed = true;
        self.come.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Takes up to `most`, oldest first, waiting for the first for at most `rest` (`None`: for ever); `None` where there was
    /// none until then, or none will come any more.
    pub fn take(&self, most: usize, rest: Option<Duration>) -> Option<Vec<Look>> {
        let until = rest.and_then(|rest| Instant::now().checked_add(rest));
        let mut waiting = self.0.lock();
        while waiting.looks.is_empty() {
            if waiting.closed {
                return None;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            waiting.asleep += 1;
            waiting = match left {
                Some(left) => self.0.come.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.come.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
            waiting.asleep -= 1;
        }
        let count = waiting.looks.len().min(most);
        Some(waiting.looks.drain(..count).collect())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.readers -= 1;
        if waiting.readers == 0 {
            let left = std::mem::take(&mut waiting.looks);
            // Whoever waits for one of these hears of it, without the lock.
            drop(waiting);
            drop(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(reader: &Reader, rest: Option<Duration>) -> Option<usize> {
        reader.take(8, rest).map(|looks| looks.len())
    }

    #[test]
    fn what_waits_is_found_a_few_at_a_time_also_once_it_is_closed() {
        let looks = Arc::new(Looks::default());
        let reader = looks.clone().reader();
        assert_eq!(found(&reader, Some(Duration::ZERO)), None);
        (0..11).for_each(|_| looks.push(Box::new(|_| ())));
        assert_eq!(found(&reader, None), Some(8));
        looks.close();
        assert_eq!([found(&reader, None), found(&reader, None)], [Some(3), None]);
    }

    #[test]
    fn a_reader_that_sleeps_is_woken_by_a_look_and_by_the_end() {
        let looks = Arc::new(Looks::default());
        let reader = looks.clone().reader();
        let sleeper = std::thread::spawn(move || {
            let first = reader.take(8, None);
            let second = reader.take(8, Some(Duration::MAX));
            first.is_some() && second.is_none()
        });
        let wait_until_it_sleeps = || {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !matches!(*looks.lock(), Waiting { asleep: 1, ref looks, .. } if looks.is_empty()) {
                assert!(Instant::now() < deadline, "it does not sleep");
                std::thread::yield_now();
            }
        };
        wait_until_it_sleeps();
        looks.push(Box::new(|_| ()));
        wait_until_it_sleeps();
        looks.close();
        assert!(sleeper.join().unwrap());
    }

    #[test]
    fn what_nobody_is_left_to_look_at_is_dropped() {
        let looks = Arc::new(Looks::default());
        let (first, second) = (looks.clone().reader(), looks.clone().reader());
        let kept = Arc::new(());
        let look = || {
            let kept = kept.clone();
            looks.push(Box::new(move |_| drop(kept)));
        };
        look();
        drop(first);
        assert_eq!(Arc::strong_count(&kept), 2);
        drop(second);
        assert_eq!(Arc::strong_count(&kept), 1, "it waited on");
        look();
        assert_eq!(Arc::strong_count(&kept), 1, "it was taken in");
    }
}
