//! What the server has done, in figures: counted in memory, written once a minute in one act, and gone after a week.
//!
//! A crash loses a minute of it at most. Where nothing is done, nothing is written.

mod histogram;
mod route;
mod span;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::model::Outcome;
use crate::scheduler::Scheduler;
use crate::store::{self, Durations, Minute, OTHER, Unended};
use histogram::Histogram;
pub use span::Span;
use span::{HOUR, MINUTE, begin};

/// Routes of an hour, at most; further ones count as one.
const ROUTES: usize = 200;

/// Routes that are shown: the busiest.
const SHOWN: usize = 20;

/// Seconds for which figures are kept: the longest span, and the hours and steps that it has begun.
const KEPT: i64 = 8 * 24 * HOUR;

/// Seconds for which figures wait for a store that cannot be written.
const UNWRITTEN: i64 = 6 * HOUR;

/// How long the oldest that waits counts as the oldest.
const OLDEST: SignedDuration = SignedDuration::from_secs(10);

/// How long the size of all results is believed, at least, and in times that the look for it took.
const SIZE: (Duration, u32) = (Duration::from_secs(60), 50);

/// The figures. Cheap to clone.
#[derive(Clone)]
pub struct Stats(Arc<Inner>);

struct Inner {
    store: Arc<dyn store::Stats>,
    scheduler: Scheduler,
    clock: Arc<dyn Clock>,
    pending: Mutex<Pending>,
    /// Held while what was pending is written: nobody sees it twice then, or not at all.
    writing: tokio::sync::Mutex<()>,
    /// When it was looked for the oldest that waits, and since when that one does.
    oldest: Mutex<Option<(Timestamp, Timestamp)>>,
    /// How many bytes the results have, and until when that is believed.
    size: tokio::sync::Mutex<Option<(u64, Instant)>>,
}

/// What is not written yet.
#[derive(Clone, Default)]
struct Pending {
    minutes: BTreeMap<Timestamp, Minute>,
    hours: BTreeMap<Timestamp, HashMap<String, Histogram>>,
}

/// A span of time in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Which one.
    pub span: Span,
    /// A point for each of its steps, oldest first.
    pub points: Vec<Minute>,
    /// How many there are now.
    pub now: Unended,
    /// For how many seconds the oldest one waits, if there is one.
    pub oldest_waiting: Option<i64>,
    /// The busiest routes, in whole hours, the busiest first.
    pub routes: Vec<Route>,
}

/// A route in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The paths of its calls.
    pub route: String,
    /// How many calls have ended.
    pub count: u64,
    /// The milliseconds that half of them took at most.
    pub p50: u64,
    /// The milliseconds that 95 of 100 took at most.
    pub p95: u64,
}

impl Stats {
    /// Figures in this store.
    #[must_use]
    pub fn new(store: Arc<dyn store::Stats>, scheduler: Scheduler, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            store,
            scheduler,
            clock,
            pending: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            oldest: Mutex::default(),
            size: tokio::sync::Mutex::default(),
        }))
    }

    /// A request was accepted at that moment.
    pub fn submitted(&self, at: Timestamp) {
        self.count_at(at, |minute| minute.submitted += 1);
    }

    /// A request was cancelled.
    pub fn cancelled(&self) {
        self.count(|minute| minute.cancelled += 1);
    }

    /// A request has failed that nobody was running any more.
    pub fn failed(&self) {
        self.count(|minute| minute.failed += 1);
    }

    /// The call of this name has come to its end, so long after it was begun.
    pub fn ended(&self, name: &str, outcome: &Outcome, took: Duration) {
        self.count(|minute| match outcome {
            Outcome::Finished(_) => minute.finished += 1,
            Outcome::Failed(_) => minute.failed += 1,
        });
        let route = route::route(name);
        let hour = begin(self.0.clock.now().as_second(), HOUR);
        let mut pending = self.pending();
        let routes = pending.hours.entry(hour).or_default();
        let route = if routes.len() < ROUTES || routes.contains_key(&route) { route } else { OTHER.to_owned() };
        routes.entry(route).or_default().record(took);
    }

    /// Writes what was counted, once a minute, for ever.
    pub async fn keep_up(self) {
        loop {
            let into_minute = self.0.clock.now().as_millisecond().rem_euclid(1000 * MINUTE).unsigned_abs();
            tokio::time::sleep(Duration::from_millis(MINUTE.unsigned_abs() * 1000 - into_minute)).await;
            self.sample();
            self.write().await;
        }
    }

    /// Takes note of how many run and wait, at a minute's end.
    pub fn sample(&self) {
        let total = self.0.scheduler.total();
        if total.running + total.waiting > 0 {
            // A little later or earlier, it is still the minute that ends.
            let minute = begin(self.0.clock.now().as_second() - MINUTE / 2, MINUTE);
            gauge(self.pending().minute(minute), total);
        }
    }

    /// Writes what was counted; what the store does not take waits for the next time.
    pub async fn write(&self) {
        let _writing = self.0.writing.lock().await;
        let pending = std::mem::take(&mut *self.pending());
        if pending.minutes.is_empty() && pending.hours.is_empty() {
            return;
        }
        let now = self.0.clock.now().as_second();
        let minutes = pending.minutes.values().copied().collect();
        let written = self.0.store.add_figures(minutes, pending.durations(), ROUTES, begin(now - KEPT, HOUR)).await;
        if let Err(error) = written {
            log::warn!("figures of what was done could not be stored, trying again: {error}");
            self.pending().put_back(pending, now - UNWRITTEN);
        }
    }

    /// A span of time that ends now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn overview(&self, span: Span) -> store::Result<Overview> {
        let now = self.0.clock.now();
        let first = span.first(now);
        let hour = begin(first.as_second(), HOUR);
        let ((minutes, mut durations), pending) = {
            let _writing = self.0.writing.lock().await;
            let written = self.0.store.figures(first, hour).await?;
            (written, self.pending().clone())
        };
        let total = self.0.scheduler.total();
        let mut points = span.points(now, minutes.into_iter().chain(pending.minutes.values().copied()));
        if let Some(last) = points.last_mut() {
            gauge(last, total);
        }
        durations.extend(pending.durations().into_iter().filter(|durations| durations.hour >= hour));
        let oldest_waiting = self.oldest_waiting(now, total).await?;
        Ok(Overview { span, points, now: total, oldest_waiting, routes: busiest(durations) })
    }

    /// How many bytes the results have, as it was a minute ago or later; where very many are to be looked at, a while
    /// ago.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn result_bytes(&self) -> store::Result<u64> {
        let mut size = self.0.size.lock().await;
        if let Some((bytes, until)) = *size
            && Instant::now() < until
        {
            return Ok(bytes);
        }
        let begun = Instant::now();
        let bytes = self.0.store.result_bytes().await?;
        *size = Some((bytes, Instant::now() + SIZE.0.max(begun.elapsed() * SIZE.1)));
        Ok(bytes)
    }

    async fn oldest_waiting(&self, now: Timestamp, total: Unended) -> store::Result<Option<i64>> {
        // Where none waits, none is looked for.
        if total.waiting == 0 {
            return Ok(None);
        }
        let known = *self.oldest();
        let since = match known {
            Some((looked, since)) if now.duration_since(looked) < OLDEST => Some(since),
            _ => {
                let since = self.0.store.oldest_waiting().await?;
                *self.oldest() = since.map(|since| (now, since));
                since
            }
        };
        Ok(since.map(|since| now.duration_since(since).as_secs().max(0)))
    }

    fn count(&self, change: impl FnOnce(&mut Minute)) {
        self.count_at(self.0.clock.now(), change);
    }

    fn count_at(&self, at: Timestamp, change: impl FnOnce(&mut Minute)) {
        change(self.pending().minute(begin(at.as_second(), MINUTE)));
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn oldest(&self) -> MutexGuard<'_, Option<(Timestamp, Timestamp)>> {
        self.0.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn minute(&mut self, at: Timestamp) -> &mut Minute {
        self.minutes.entry(at).or_insert_with(|| Minute::new(at))
    }

    fn durations(&self) -> Vec<Durations> {
        let routes = self.hours.iter().flat_map(|(hour, routes)| routes.iter().map(move |route| (*hour, route)));
        routes
            .map(|(hour, (route, histogram))| Durations {
                hour,
                route: route.clone(),
                buckets: histogram.buckets().to_vec(),
            })
            .collect()
    }

    /// Takes in what could not be written, less what is from before this second.
    fn put_back(&mut self, other: Self, oldest: i64) {
        for (at, minute) in other.minutes.into_iter().filter(|(at, _)| at.as_second() >= oldest) {
            self.minute(at).add(&minute);
        }
        for (hour, routes) in other.hours.into_iter().filter(|(hour, _)| hour.as_second() >= oldest) {
            let own = self.hours.entry(hour).or_default();
            for (route, histogram) in routes {
                own.entry(route).or_default().add(histogram.buckets());
            }
        }
    }
}

fn gauge(minute: &mut Minute, total: Unended) {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    minute.running = minute.running.max(count(total.running));
    minute.waiting = minute.waiting.max(count(total.waiting));
}

fn busiest(durations: Vec<Durations>) -> Vec<Route> {
    let mut sums: HashMap<String, Histogram> = HashMap::new();
    for Durations { route, buckets, .. } in durations {
        sums.entry(route).or_default().add(&buckets);
    }
    let figures = |(route, sum): (String, Histogram)| {
        Some(Route { route, count: sum.count(), p50: sum.quantile(0.5)?, p95: sum.quantile(0.95)? })
    };
    let mut routes: Vec<_> = sums.into_iter().filter_map(figures).collect();
    routes.sort_unstable_by(|one, other| other.count.cmp(&one.count).then_with(|| one.route.cmp(&other.route)));
    routes.truncate(SHOWN);
    routes
}

#[cfg(test)]
mod tests;
