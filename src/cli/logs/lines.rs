//! Lines of the log on their way out: over a thread of its own, so that whoever reads them slowly, or not at all, stops no
//! call. They gather for a moment, so that a busy server does not wake that thread for each, and each thread that logs
//! has room of its own: threads that answer calls would wait for each other where they shared it.

use std::io::{self, BufWriter, Write};
use std::iter::Peekable;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Bytes of one thread's lines that wait at most; lines that come on top of them are counted and left out.
const WAITING: usize = 2 << 20;

/// Bytes of room that are kept where nothing waits.
const KEPT: usize = 256 << 10;

/// Bytes that are written at once.
const AT_ONCE: usize = 64 << 10;

/// How long lines gather.
const GATHER: Duration = Duration::from_millis(20);

/// The lines of all threads.
#[derive(Default)]
pub struct Lines {
    threads: Mutex<Vec<Arc<OfThread>>>,
    /// Whether lines may wait: then the thread that writes them is woken, or awake.
    waiting: AtomicBool,
    closed: Mutex<bool>,
    changed: Condvar,
}

/// The lines of one thread.
#[derive(Default)]
pub struct OfThread(Mutex<Room>);

/// Lines in the order in which they came.
#[derive(Default)]
struct Room {
    text: Vec<u8>,
    /// When each was logged, and where it ends.
    ends: Vec<(SystemTime, usize)>,
    left_out: usize,
}

impl Lines {
    /// Room for the lines of a thread, until that drops it.
    pub fn of_thread(&self) -> Arc<OfThread> {
        let own = Arc::<OfThread>::default();
        lock(&self.threads).push(own.clone());
        own
    }

    /// Adds a line, which was logged at that time.
    pub fn push(&self, own: &OfThread, at: SystemTime, line: &[u8]) {
        {
            let mut room = lock(&own.0);
            if room.text.len() + line.len() > WAITING {
                room.left_out += 1;
                return;
            }
            room.text.extend_from_slice(line);
            let end = room.text.len();
            room.ends.push((at, end));
        }
        // It is unset before lines are taken, so that one that was not taken is seen here.
        if !self.waiting.load(Ordering::Relaxed) && !self.waiting.swap(true, Ordering::AcqRel) {
            // Whoever waits has either seen it or is waiting by now.
            drop(lock(&self.closed));
            self.changed.notify_one();
        }
    }

    /// Lets [`Lines::write_to`] end.
    pub fn close(&self) {
        *lock(&self.closed) = true;
        self.changed.notify_one();
    }

    /// Writes what comes until no more will.
    pub fn write_to(&self, out: &mut impl Write) {
        let mut out = BufWriter::with_capacity(AT_ONCE, out);
        let mut rooms = Vec::new();
        loop {
            let open = self.wait();
            self.take(&mut rooms);
            // Nobody is there to tell.
            let _ = write_in_order(&rooms, &mut out);
            rooms.iter_mut().for_each(Room::clear);
            if !open {
                return;
            }
        }
    }

    /// Waits for lines, and lets more of them gather; `false` where it is closed.
    fn wait(&self) -> bool {
        let none = |closed: &mut bool| !*closed && !self.waiting.load(Ordering::Acquire);
        let closed = self.changed.wait_while(lock(&self.closed), none).unwrap_or_else(PoisonError::into_inner);
        let gathered = self.changed.wait_timeout_while(closed, GATHER, |closed| !*closed);
        let open = !*gathered.unwrap_or_else(PoisonError::into_inner).0;
        self.waiting.store(false, Ordering::Release);
        open
    }

    /// Takes all lines there are, for rooms that are empty. From all threads at one moment: a line that follows upon
    /// another thread's is not to be taken before that.
    fn take(&self, rooms: &mut Vec<Room>) {
        let mut threads = lock(&self.threads);
        rooms.resize_with(threads.len(), Room::default);
        // Of a thread that has ended by now nothing more will come.
        let ended: Vec<_> = threads.iter().map(|own| Arc::strong_count(own) == 1).collect();
        let all: Vec<_> = threads.iter().map(|own| lock(&own.0)).collect();
        for (mut own, room) in all.into_iter().zip(rooms) {
            std::mem::swap(&mut *own, room);
        }
        let mut ended = ended.into_iter();
        threads.retain(|_| !ended.next().unwrap_or(false));
    }
}

impl Room {
    /// The lines, with the time of each.
    fn lines(&self) -> impl Iterator<Item = (SystemTime, &[u8])> {
        let mut begin = 0;
        self.ends.iter().map(move |&(at, end)| (at, &self.text[std::mem::replace(&mut begin, end)..end]))
    }

    fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT);
        self.ends.clear();
        self.ends.shrink_to(KEPT / size_of::<(SystemTime, usize)>());
        self.left_out = 0;
    }
}

/// Writes the lines of several threads in the order of their times, each thread's in its own, and how many are left out.
fn write_in_order(rooms: &[Room], out: &mut impl Write) -> io::Result<()> {
    let mut threads: Vec<_> = rooms.iter().map(|room| room.lines().peekable()).collect();
    while let Some(next) = earliest(&mut threads) {
        out.write_all(next)?;
    }
    let left_out: usize = rooms.iter().map(|room| room.left_out).sum();
    if left_out > 0 {
        writeln!(out, "{left_out} lines of the log are left out: they were not read fast enough")?;
    }
    out.flush()
}

/// The next line of the thread whose next is the earliest.
fn earliest<'a, L: Iterator<Item = (SystemTime, &'a [u8])>>(threads: &mut [Peekable<L>]) -> Option<&'a [u8]> {
    let times = threads.iter_mut().enumerate().filter_map(|(thread, lines)| Some((lines.peek()?.0, thread)));
    let (_, thread) = times.min()?;
    threads[thread].next().map(|(_, line)| line)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in them is whole at every unlock, also when a thread died.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn written(lines: &Lines) -> String {
        lines.close();
        let mut written = Vec::new();
        lines.write_to(&mut written);
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn lines_stay_whole_and_in_order_and_what_is_left_out_is_counted() {
        let (lines, long) = (Lines::default(), "x".repeat(WAITING - 5));
        let own = lines.of_thread();
        for line in ["one\n", &long, "two\n", "three\n"] {
            lines.push(&own, UNIX_EPOCH, line.as_bytes());
        }
        let note = "2 lines of the log are left out: they were not read fast enough\n";
        assert_eq!(written(&lines), format!("one\n{long}{note}"));
    }

    #[test]
    fn lines_of_several_threads_come_in_the_order_of_their_times_and_each_threads_in_its_own() {
        let lines = Lines::default();
        let (one, two) = (lines.of_thread(), lines.of_thread());
        for (own, second, line) in
            [(&two, 1, "a\n"), (&one, 2, "b\n"), (&one, 1, "c\n"), (&two, 3, "d\n"), (&one, 4, "e\n")]
        {
            lines.push(own, UNIX_EPOCH + Duration::from_secs(second), line.as_bytes());
        }
        assert_eq!(written(&lines), "a\nb\nc\nd\ne\n");
    }

    #[test]
    fn what_a_thread_has_logged_is_written_after_its_end_and_its_room_is_gone() {
        let lines = Lines::default();
        lines.push(&lines.of_thread(), UNIX_EPOCH, b"last words\n");
        assert_eq!(written(&lines), "last words\n");
        assert_eq!(lock(&lines.threads).len(), 0);
    }

    #[test]
    fn every_line_of_threads_that_log_at_once_is_written_while_they_do_and_none_twice() {
        let lines = Lines::default();
        let mut text = Vec::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| lines.write_to(&mut text));
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let lines = &lines;
                    scope.spawn(move || {
                        let own = lines.of_thread();
                        for line in 0..5000 {
                            lines.push(&own, SystemTime::now(), format!("{thread} {line}\n").as_bytes());
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            lines.close();
            writer.join().unwrap();
        });
        let text = String::from_utf8(text).unwrap();
        for thread in 0..4 {
            let begin = format!("{thread} ");
            let own: Vec<usize> = text.lines().filter_map(|line| line.strip_prefix(&begin)?.parse().ok()).collect();
            assert_eq!(own, (0..5000).collect::<Vec<_>>(), "thread {thread}");
        }
    }
}
