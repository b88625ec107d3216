//! The figures with a clock and a store in the test's hand.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;

use super::*;
use crate::clock::Manual;
use crate::model::{Failure, Owner};
use crate::scheduler::Limits;

/// A store that keeps what it is given, and may refuse it.
#[derive(Default)]
struct Kept {
    minutes: Mutex<Vec<Minute>>,
    durations: Mutex<Vec<Durations>>,
    refuses: AtomicBool,
    looks: AtomicUsize,
    oldest: Mutex<Option<Timestamp>>,
}

#[async_trait]
impl store::Stats for Kept {
    async fn add_figures(
        &self,
        minutes: Vec<Minute>,
        durations: Vec<Durations>,
        _: usize,
        _: Timestamp,
    ) -> store::Result<()> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(store::Error::CannotWrite("full".to_owned()));
        }
        self.minutes.lock().unwrap().extend(minutes);
        self.durations.lock().unwrap().extend(durations);
        Ok(())
    }

    async fn figures(&self, _: Timestamp, _: Timestamp) -> store::Result<(Vec<Minute>, Vec<Durations>)> {
        Ok((self.minutes.lock().unwrap().clone(), self.durations.lock().unwrap().clone()))
    }

    async fn oldest_waiting(&self) -> store::Result<Option<Timestamp>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        Ok(*self.oldest.lock().unwrap())
    }

    async fn result_bytes(&self) -> store::Result<u64> {
        Ok(self.looks.fetch_add(1, Ordering::Relaxed) as u64)
    }
}

struct Room {
    kept: Arc<Kept>,
    clock: Arc<Manual>,
    scheduler: Scheduler,
    stats: Stats,
}

impl Room {
    fn new() -> Self {
        let clock = Arc::new(Manual::at("2026-11-25T01:30:10Z".parse().unwrap()));
        let scheduler = Scheduler::new(Limits { queue: 100, per_user: 100 });
        let kept = Arc::new(Kept::default());
        let stats = Stats::new(kept.clone(), scheduler.clone(), clock.clone());
        Self { kept, clock, scheduler, stats }
    }

    fn advance(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
    }

    fn write(&self) {
        self.stats.write().now_or_never().unwrap();
    }

    fn overview(&self, span: Span) -> Overview {
        self.stats.overview(span).now_or_never().unwrap().unwrap()
    }

    fn fail(&self, name: &str, millis: u64) {
        let outcome = Outcome::Failed(Failure::no_answer("a planned failure"));
        self.stats.ended(name, &outcome, Duration::from_millis(millis));
    }
}

#[test]
fn what_is_counted_is_seen_at_once_and_once_also_after_it_was_written() {
    let room = Room::new();
    room.stats.submitted(room.clock.now());
    room.stats.cancelled();
    room.stats.failed();
    room.fail("/a/1?b=2", 100);
    room.advance(60);
    room.stats.submitted(room.clock.now());
    let before = room.overview(Span::Hour);
    let figures = |point: &Minute| [point.submitted, point.finished, point.failed, point.cancelled];
    assert_eq!(before.points[58..].iter().map(figures).collect::<Vec<_>>(), [[1, 0, 2, 1], [1, 0, 0, 0]]);
    assert_eq!(before.routes.iter().map(|route| (&*route.route, route.count)).collect::<Vec<_>>(), [("/a/{}", 1)]);
    room.write();
    assert_eq!(room.kept.minutes.lock().unwrap().len(), 2);
    assert_eq!(room.overview(Span::Hour), before);
    // Nothing was done: nothing is written.
    room.write();
    assert_eq!(room.kept.minutes.lock().unwrap().len(), 2);
}

#[test]
fn what_the_store_refuses_waits_but_not_for_ever() {
    let room = Room::new();
    room.kept.refuses.store(true, Ordering::Relaxed);
    room.stats.submitted(room.clock.now());
    room.fail("/a", 1);
    room.write();
    room.stats.submitted(room.clock.now());
    room.kept.refuses.store(false, Ordering::Relaxed);
    room.write();
    assert_eq!(room.kept.minutes.lock().unwrap().iter().map(|minute| minute.submitted).collect::<Vec<_>>(), [2]);
    assert_eq!(room.kept.durations.lock().unwrap().len(), 1);
    room.kept.refuses.store(true, Ordering::Relaxed);
    room.stats.submitted(room.clock.now());
    room.advance(UNWRITTEN + HOUR);
    room.write();
    let pending = room.stats.pending();
    assert!(pending.minutes.is_empty() && pending.hours.is_empty());
}

#[test]
fn how_many_run_and_wait_is_noted_for_the_minute_that_ends_and_seen_for_the_one_that_is_now() {
    let room = Room::new();
    (0..3).for_each(|_| room.scheduler.enqueue(Owner::local(1)));
    let turn = room.scheduler.next_now().unwrap();
    room.advance(50);
    room.stats.sample();
    drop(turn);
    let points = room.overview(Span::Hour).points;
    let gauges = |point: &Minute| (point.running, point.waiting);
    assert_eq!(points[57..].iter().map(gauges).collect::<Vec<_>>(), [(0, 0), (1, 2), (0, 2)]);
    let now = room.overview(Span::Day).now;
    assert_eq!((now.running, now.waiting, now.sleeping), (0, 2, 0));
}

#[test]
fn the_oldest_that_waits_is_looked_for_only_where_one_waits_and_seldom() {
    let room = Room::new();
    let oldest = || room.overview(Span::Hour).oldest_waiting;
    assert_eq!((oldest(), room.kept.looks.load(Ordering::Relaxed)), (None, 0));
    room.scheduler.enqueue(Owner::local(1));
    *room.kept.oldest.lock().unwrap() = Some(room.clock.now());
    room.advance(5);
    assert_eq!((oldest(), room.kept.looks.load(Ordering::Relaxed)), (Some(5), 1));
    room.advance(5);
    assert_eq!((oldest(), room.kept.looks.load(Ordering::Relaxed)), (Some(10), 1));
    room.advance(5);
    assert_eq!((oldest(), room.kept.looks.load(Ordering::Relaxed)), (Some(15), 2));
}

#[test]
fn the_size_of_the_results_is_looked_for_once_in_a_while() {
    let room = Room::new();
    let bytes = || room.stats.result_bytes().now_or_never().unwrap().unwrap();
    assert_eq!((bytes(), bytes()), (0, 0));
    assert_eq!(room.kept.looks.load(Ordering::Relaxed), 1);
}

#[test]
fn of_many_routes_the_busiest_are_shown_and_those_beyond_the_bound_count_as_one() {
    let room = Room::new();
    for n in 0..ROUTES + 50 {
        room.fail(&format!("/r{n}x"), 1);
    }
    room.fail("/r7x", 1000);
    let routes = room.overview(Span::Week).routes;
    assert_eq!(routes.len(), SHOWN);
    let first: Vec<_> = routes.iter().take(3).map(|route| (&*route.route, route.count)).collect();
    assert_eq!(first, [(OTHER, 50), ("/r7x", 2), ("/r0x", 1)]);
    assert!(routes[1].p50 < routes[1].p95, "{:?}", routes[1]);
    assert_eq!(room.stats.pending().durations().len(), ROUTES + 1);
}
