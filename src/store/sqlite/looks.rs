//! What waits for the readers, and which of them sleep. One reader is enough as long as it keeps up: what it has just read
//! is in its processor's cache, and a second one would wake and fall asleep beside it for every few looks. Another is woken
//! where it does not, be it that it waits for the disk or that there is more to do than one thread can.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// How long the oldest look waits before another reader is woken: time enough for a hundred looks at rows in memory.
const PATIENCE: Duration = Duration::from_millis(2);

/// Looks that a reader takes at once; the others are there for whoever is free first.
const AT_ONCE: usize = 8;

/// Looks that share a snapshot at most: what one looks at keeps the write-ahead log from beginning anew.
const TOGETHER: u64 = 64;

/// One look at the database.
pub type Look = Box<dyn FnOnce(&Connection) + Send>;

/// The looks that wait.
#[derive(Default)]
pub struct Looks(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    looks: VecDeque<(Instant, Look)>,
    /// How many were taken so far.
    taken: u64,
    /// Readers that sleep; the last one fell asleep last, and is the next to be woken: its memory is the warmest.
    asleep: Vec<Thread>,
    /// Readers that there are, asleep or not.
    readers: usize,
    /// No more will come.
    closed: bool,
}

/// One that takes looks. It is used by one thread.
pub struct Reader(Arc<Looks>);

/// The looks that waited at one moment, by the number of the first that did not.
pub struct Until(u64);

impl Looks {
    /// Adds a reader, for as long as what this returns is kept.
    pub fn reader(self: Arc<Self>) -> Reader {
        self.lock().readers += 1;
        Reader(self)
    }

    /// Adds one; dropped where there is no reader left to look.
    pub fn push(&self, look: Look) {
        let now = Instant::now();
        let mut waiting = self.lock();
        if waiting.readers == 0 {
            return;
        }
        waiting.looks.push_back((now, look));
        let all_asleep = waiting.asleep.len() == waiting.readers;
        let late = || waiting.looks.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > PATIENCE);
        let wakes = all_asleep || (!waiting.asleep.is_empty() && late());
        let woken = if wakes { waiting.asleep.pop() } else { None };
        drop(waiting);
        if let Some(reader) = woken {
            reader.unpark();
        }
    }

    /// Says that no more will come. What waits is looked at still.
    pub fn close(&self) {
        let asleep = {
            let mut waiting = self.lock();
            waiting.closed = true;
            std::mem::take(&mut waiting.asleep)
        };
        asleep.iter().for_each(Thread::unpark);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self, most: usize) -> Vec<Look> {
        let count = self.looks.len().min(most);
        self.taken += count as u64;
        self.looks.drain(..count).map(|(_, look)| look).collect()
    }
}

impl Reader {
    /// Takes some, oldest first, sleeping until there is one, and gives which of the others may share their snapshot; `None`
    /// where none will come any more.
    pub fn take(&self) -> Option<(Vec<Look>, Until)> {
        let mut waiting = self.0.lock();
        while waiting.looks.is_empty() {
            if waiting.closed {
                return None;
            }
            let me = thread::current();
            let id = me.id();
            waiting.asleep.push(me);
            drop(waiting);
            thread::park();
            waiting = self.0.lock();
            // Still there where nobody has woken it: a thread may also wake by itself.
            waiting.asleep.retain(|asleep| asleep.id() != id);
        }
        let until = waiting.taken + (waiting.looks.len() as u64).min(TOGETHER);
        Some((waiting.take(AT_ONCE), Until(until)))
    }

    /// Takes some more of those that waited then; none where others have taken them.
    pub fn take_more(&self, until: &Until) -> Vec<Look> {
        let mut waiting = self.0.lock();
        let left = usize::try_from(until.0.saturating_sub(waiting.taken)).unwrap_or(usize::MAX);
        waiting.take(left.min(AT_ONCE))
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
    use std::sync::mpsc::{self, Receiver};
    use std::thread::JoinHandle;

    use super::*;

    fn add(looks: &Looks, count: usize) {
        (0..count).for_each(|_| looks.push(Box::new(|_| ())));
    }

    /// A thread that tells of itself each time it has taken looks.
    fn sleeper(looks: &Arc<Looks>) -> (JoinHandle<()>, Receiver<thread::ThreadId>) {
        let reader = looks.clone().reader();
        let (told, takes) = mpsc::channel();
        let thread = thread::spawn(move || {
            while reader.take().is_some() {
                let _ = told.send(thread::current().id());
            }
        });
        (thread, takes)
    }

    fn wait_until_so_many_sleep(looks: &Looks, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while looks.lock().asleep.len() < count {
            assert!(Instant::now() < deadline, "they do not sleep");
            thread::yield_now();
        }
    }

    #[test]
    fn what_waits_is_found_a_few_at_a_time_and_what_comes_later_shares_no_snapshot_with_it() {
        let looks = Arc::new(Looks::default());
        let reader = looks.clone().reader();
        add(&looks, AT_ONCE + 3);
        let (first, until) = reader.take().unwrap();
        add(&looks, 2);
        assert_eq!((first.len(), reader.take_more(&until).len(), reader.take_more(&until).len()), (AT_ONCE, 3, 0));
        looks.close();
        let (last, until) = reader.take().unwrap();
        assert_eq!((last.len(), reader.take_more(&until).len()), (2, 0));
        assert!(reader.take().is_none());
    }

    #[test]
    fn a_snapshot_is_shared_by_a_bounded_number_of_looks() {
        let looks = Arc::new(Looks::default());
        let (reader, other) = (looks.clone().reader(), looks.clone().reader());
        add(&looks, 1000);
        let (first, until) = reader.take().unwrap();
        // What another one takes of them is not there twice.
        let mut shared = first.len() + other.take().unwrap().0.len();
        loop {
            let more = reader.take_more(&until).len();
            if more == 0 {
                break;
            }
            shared += more;
        }
        assert_eq!(shared as u64, TOGETHER);
    }

    #[test]
    fn a_reader_that_sleeps_is_woken_by_a_look_and_by_the_end() {
        let looks = Arc::new(Looks::default());
        let (thread, takes) = sleeper(&looks);
        wait_until_so_many_sleep(&looks, 1);
        add(&looks, 1);
        takes.recv_timeout(Duration::from_secs(10)).unwrap();
        wait_until_so_many_sleep(&looks, 1);
        looks.close();
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_that_wakes_by_itself_sleeps_again_and_is_counted_once() {
        let looks = Arc::new(Looks::default());
        let (thread, takes) = sleeper(&looks);
        for _ in 0..100 {
            wait_until_so_many_sleep(&looks, 1);
            thread.thread().unpark();
        }
        wait_until_so_many_sleep(&looks, 1);
        assert_eq!(looks.lock().asleep.len(), 1);
        add(&looks, 1);
        takes.recv_timeout(Duration::from_secs(10)).unwrap();
        looks.close();
        thread.join().unwrap();
    }

    #[test]
    fn the_reader_that_fell_asleep_last_is_woken_first() {
        let looks = Arc::new(Looks::default());
        let (first, _of_first) = sleeper(&looks);
        wait_until_so_many_sleep(&looks, 1);
        let (last, of_last) = sleeper(&looks);
        for _ in 0..10 {
            wait_until_so_many_sleep(&looks, 2);
            add(&looks, 1);
            assert_eq!(of_last.recv_timeout(Duration::from_secs(10)).unwrap(), last.thread().id());
        }
        looks.close();
        first.join().unwrap();
        last.join().unwrap();
    }

    #[test]
    fn a_second_reader_sleeps_on_unless_the_first_leaves_a_look_waiting_for_long() {
        let looks = Arc::new(Looks::default());
        let awake = looks.clone().reader();
        let (thread, takes) = sleeper(&looks);
        wait_until_so_many_sleep(&looks, 1);
        add(&looks, 1);
        assert_eq!(looks.lock().asleep.len(), 1, "it is woken for a look that has only just come");
        let deadline = Instant::now() + Duration::from_secs(10);
        while takes.try_recv().is_err() {
            assert!(Instant::now() < deadline, "the looks wait for a reader that does not come");
            add(&looks, 1);
            thread::yield_now();
        }
        drop(awake);
        looks.close();
        thread.join().unwrap();
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
