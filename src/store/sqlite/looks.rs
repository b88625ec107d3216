//! What waits for the readers, and which of them sleep. One reader is enough as long as it keeps up: what it has just read
//! is in its processor's cache, and a second one would wake and fall asleep beside it for every few looks. Another is woken
//! where it does not, be it that it waits for the disk or that there is more to do than one thread can.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// How long the oldest look waits before another reader is woken, or up to twice that: time enough for a hundred looks at
/// rows in memory.
const PATIENCE: Duration = Duration::from_millis(2);

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
    /// Somebody watches how long they wait.
    watched: bool,
    /// How many were taken so far.
    taken: u64,
    /// Readers that sleep; the last one fell asleep last, and is the next to be woken: its memory is the warmest.
    asleep: Vec<Thread>,
    /// Readers that there are, asleep or not.
    readers: usize,
    /// No more will come.
    closed: bool,
}

/// Watches how long looks wait, while there are any.
#[must_use]
pub struct Watch(Option<Arc<Looks>>);

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

    /// Adds one; dropped where there is no reader left to look. What it returns is to be run beside whatever waits.
    pub fn push(self: &Arc<Self>, look: Look) -> Option<Watch> {
        let now = Instant::now();
        let mut waiting = self.lock();
        if waiting.readers == 0 {
            return None;
        }
        waiting.looks.push_back((now, look));
        if waiting.asleep.len() == waiting.readers {
            waiting.wake_one();
            return None;
        }
        let begins = !waiting.watched && !waiting.asleep.is_empty();
        waiting.watched |= begins;
        begins.then(|| Watch(Some(self.clone())))
    }

    /// Says that no more will come. What waits is looked at still.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        while waiting.wake_one() {}
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Wakes another reader each time the oldest look has waited for long, until none waits.
    pub async fn run(mut self) {
        while self.goes_on() {
            tokio::time::sleep(PATIENCE).await;
        }
    }

    fn goes_on(&mut self) -> bool {
        let Some(looks) = &self.0 else { return false };
        let mut waiting = looks.lock();
        let Some((since, _)) = waiting.looks.front() else {
            // Whoever comes next begins another one.
            waiting.watched = false;
            drop(waiting);
            self.0 = None;
            return false;
        };
        if since.elapsed() >= PATIENCE {
            waiting.wake_one();
        }
        true
    }
}

impl Drop for Watch {
    /// Where it ends before its time, with the runtime that it was given to.
    fn drop(&mut self) {
        if let Some(looks) = &self.0 {
            looks.lock().watched = false;
        }
    }
}

impl Waiting {
    /// Wakes the one that fell asleep last; whether there was one.
    fn wake_one(&mut self) -> bool {
        self.asleep.pop().inspect(Thread::unpark).is_some()
    }

    fn take(&mut self) -> Option<Look> {
        let (_, look) = self.looks.pop_front()?;
        self.taken += 1;
        Some(look)
    }
}

impl Reader {
    /// Takes the oldest, sleeping until there is one, and gives which others may share its snapshot, where there are any;
    /// `None` where none will come any more.
    pub fn take(&self) -> Option<(Look, Option<Until>)> {
        let mut waiting = self.0.lock();
        loop {
            let until = waiting.taken + (waiting.looks.len() as u64).min(TOGETHER);
            if let Some(look) = waiting.take() {
                return Some((look, (until > waiting.taken).then_some(Until(until))));
            }
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
    }

    /// Takes another one of those that waited then, where there is one left. One by one: what waits for the disk takes
    /// nobody else's time.
    pub fn take_another(&self, until: &Until) -> Option<Look> {
        let mut waiting = self.0.lock();
        if waiting.taken < until.0 { waiting.take() } else { None }
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
        } else if !waiting.looks.is_empty() {
            waiting.wake_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};
    use std::thread::JoinHandle;

    use super::*;

    fn add(looks: &Arc<Looks>, count: usize) {
        (0..count).for_each(|_| drop(looks.push(Box::new(|_| ()))));
    }

    /// A thread that tells of itself each time it has taken a look.
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
    fn what_waits_may_share_a_snapshot_and_what_comes_later_may_not() {
        let looks = Arc::new(Looks::default());
        let (reader, other) = (looks.clone().reader(), looks.clone().reader());
        add(&looks, 4);
        let (_, until) = reader.take().unwrap();
        let until = until.unwrap();
        add(&looks, 1);
        assert!(reader.take_another(&until).is_some());
        // What another one takes of them is not there twice.
        assert!(other.take().is_some());
        assert!(reader.take_another(&until).is_some());
        assert!(reader.take_another(&until).is_none());
        looks.close();
        assert!(reader.take().unwrap().1.is_none(), "the last one shares its snapshot with nobody");
        assert!(reader.take().is_none());
    }

    #[test]
    fn a_snapshot_is_shared_by_a_bounded_number_of_looks() {
        let looks = Arc::new(Looks::default());
        let reader = looks.clone().reader();
        add(&looks, 1000);
        let (_, until) = reader.take().unwrap();
        let until = until.unwrap();
        let others = std::iter::from_fn(|| reader.take_another(&until)).count();
        assert_eq!(1 + others as u64, TOGETHER);
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
        wait_until_so_many_sleep(&looks, 1);
        let last = || looks.lock().asleep.last().map(Thread::id);
        // Stands behind it until it has been awake.
        looks.lock().asleep.push(thread::current());
        thread.thread().unpark();
        let deadline = Instant::now() + Duration::from_secs(10);
        while last() != Some(thread.thread().id()) {
            assert!(Instant::now() < deadline, "it does not sleep again");
            thread::yield_now();
        }
        looks.lock().asleep.retain(|asleep| asleep.id() != thread::current().id());
        assert_eq!(looks.lock().asleep.len(), 1);
        let _ = looks.push(Box::new(|_| ()));
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
        let mut watch = looks.push(Box::new(|_| ())).unwrap();
        assert!(looks.push(Box::new(|_| ())).is_none(), "it is watched twice");
        assert_eq!(looks.lock().asleep.len(), 1, "another one is woken for a look that has only just come");
        let deadline = Instant::now() + Duration::from_secs(10);
        while takes.try_recv().is_err() {
            assert!(Instant::now() < deadline, "the looks wait for a reader that does not come");
            watch.goes_on();
            thread::yield_now();
        }
        wait_until_so_many_sleep(&looks, 1);
        assert!(!watch.goes_on(), "what nobody waits for is watched");
        drop(watch);
        assert!(looks.push(Box::new(|_| ())).is_some(), "the next one is not watched");
        assert!(looks.push(Box::new(|_| ())).is_some(), "one that ended before its time is not replaced");
        drop(awake);
        looks.close();
        thread.join().unwrap();
    }

    #[test]
    fn where_the_only_one_awake_ends_another_takes_what_waits() {
        let looks = Arc::new(Looks::default());
        let awake = looks.clone().reader();
        let (thread, takes) = sleeper(&looks);
        wait_until_so_many_sleep(&looks, 1);
        add(&looks, 1);
        drop(awake);
        takes.recv_timeout(Duration::from_secs(10)).unwrap();
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
            drop(looks.push(Box::new(move |_| drop(kept))));
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
