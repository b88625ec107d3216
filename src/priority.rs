//! Who comes first when the processors are busy: what accepts and answers, before what works in the background.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The niceness of threads that work in the background: they get a tenth of what the others get, never nothing.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// The time between two looks at how busy a thread that answers callers is.
const SAMPLE: Duration = Duration::from_millis(10);

/// For how long what a look has shown counts: without calls nobody looks.
const COUNTS: Duration = Duration::from_millis(30);

/// How much of long work is done before it is asked whether to rest.
const STRETCH: Duration = Duration::from_millis(2);

/// The most that is taken for work: the rest of a long stretch was waiting.
const LONGEST_STRETCH: Duration = Duration::from_millis(10);

/// How many times as long as it has worked long work rests while callers keep the server busy.
const REST: u32 = 5;

/// Milliseconds since [`START`] until which the threads that answer callers count as busy.
static BUSY_UNTIL: AtomicU64 = AtomicU64::new(0);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    /// When this thread was last looked at, and the processor's time it had used by then.
    static LOOKED: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// Lowers the priority of the current thread.
#[cfg(target_os = "linux")]
pub fn lower() {
    // On Linux this is the thread's alone (setpriority(2), "C library/kernel differences").
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        log::debug!("a thread keeps its priority: {error}");
    }
}

/// Elsewhere priorities are the process's: nothing is changed.
#[cfg(not(target_os = "linux"))]
pub fn lower() {}

/// Lets the current thread, which answers callers, wait for its turn where the processors are busy (`SCHED_BATCH`,
/// sched(7)): a call that wakes it interrupts nobody, neither the writer nor a caller on the same machine, and it finds
/// all that has come together by then. Its share of the processors stays the same. Threads that it starts inherit this.
#[cfg(target_os = "linux")]
pub fn take_turns() {
    use preempt_rt::sched::{Pid, Scheduler, SchedulerParams, set_scheduler};
    if let Err(error) = set_scheduler(Pid::current_thread(), Scheduler::SCHED_BATCH, SchedulerParams { priority: 0 }) {
        log::debug!("a thread keeps its scheduling policy: {error}");
    }
}

/// Elsewhere there is no such policy.
#[cfg(not(target_os = "linux"))]
pub fn take_turns() {}

/// Takes note that the current thread answers a caller, now.
pub fn answering(now: Instant) {
    let looked = LOOKED.get();
    if looked.is_some_and(|(at, _)| now - at < SAMPLE) {
        return;
    }
    let used = used();
    LOOKED.set(Some((now, used)));
    let Some((at, before)) = looked else { return };
    // Not more than a quarter: a thread that gets no processor, since others work, uses little and is busy all the same.
    if now - at < COUNTS && (used.saturating_sub(before)) * 4 > now - at {
        BUSY_UNTIL.store(millis(now + COUNTS), Ordering::Relaxed);
    }
}

/// The processor's time that this thread has used.
fn used() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(used).unwrap_or_default()
}

fn millis(moment: Instant) -> u64 {
    u64::try_from(moment.saturating_duration_since(*START).as_millis()).unwrap_or(u64::MAX)
}

/// The pace of long work: it goes as fast as it can, and a sixth of the time while callers keep the server busy. A
/// lower priority is not enough: what the work leaves to other threads (commits, say) has theirs.
pub struct Pace {
    since: Instant,
}

impl Pace {
    /// Begins the work.
    pub fn new() -> Self {
        Self { since: Instant::now() }
    }

    /// Asked from time to time: how long to rest now. Zero: not at all.
    pub fn rest(&mut self) -> Duration {
        let now = Instant::now();
        let worked = now - self.since;
        if worked < STRETCH {
            return Duration::ZERO;
        }
        let is_busy = millis(now) < BUSY_UNTIL.load(Ordering::Relaxed);
        let rest = if is_busy { worked.min(LONGEST_STRETCH) * REST } else { Duration::ZERO };
        self.since = now + rest;
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_work_rests_while_a_thread_is_kept_busy_by_callers_and_not_when_they_have_left() {
        let mut pace = Pace::new();
        let rested = std::iter::repeat_with(|| {
            answering(Instant::now());
            pace.rest()
        });
        assert!(rested.take(50_000_000).any(|rest| !rest.is_zero()), "a thread that does nothing else is busy");
        // Nobody answers any more: a look counts for a moment only.
        let mut pace = Pace { since: Instant::now() };
        while millis(Instant::now()) < BUSY_UNTIL.load(Ordering::Relaxed) {}
        pace.since = Instant::now().checked_sub(STRETCH).unwrap();
        assert_eq!(pace.rest(), Duration::ZERO);
    }
}
