//! How far a call has come, as its handler says: an extractor for handlers, and the other end for the worker.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::model::time;

/// Details that wait for the store at most, before it is asked to take them at once.
const MANY: usize = 1000;

/// Takes a handler's reports. In the foreground they go nowhere and cost nothing. Cheap to clone, also into threads.
///
/// ```
/// use actix_web::HttpResponse;
/// use bgrs::Progress;
///
/// async fn import(progress: Progress) -> HttpResponse {
///     for done in 0..=100 {
///         if progress.cancelled() {
///             break;
///         }
///         progress.set(f64::from(done));
///         if done % 10 == 0 {
///             progress.detail(format!("{done} of 100 imported"));
///         }
///     }
///     HttpResponse::Ok().finish()
/// }
/// ```
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Reports>>);

struct Reports {
    clock: Arc<dyn Clock>,
    waiting: Mutex<Waiting>,
    /// Told when there is something new, and again when there is much of it.
    news: Notify,
    cancelled: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    progress: Option<i64>,
    details: Vec<(String, String)>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.progress.is_none() && self.details.is_empty()
    }
}

/// Reports that are on their way to the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The latest percentage, in hundredths.
    pub progress: Option<i64>,
    /// Details with their times, oldest first.
    pub details: Vec<(String, String)>,
}

/// The worker's end. Dropped, the call counts as cancelled.
pub struct Listener(Arc<Reports>);

impl Progress {
    /// A pair of ends: one for the handler, one for the worker.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> (Self, Listener) {
        let reports = Reports { clock, waiting: Mutex::default(), news: Notify::new(), cancelled: false.into() };
        let reports = Arc::new(reports);
        (Self(Some(reports.clone())), Listener(reports))
    }

    /// Says how far the call has come, 0 to 100. What is outside counts as the nearer end; a percentage below the one
    /// reached leaves it where it is.
    pub fn set(&self, percent: f64) {
        let Some(reports) = &self.0 else { return };
        if percent.is_nan() {
            return;
        }
        // Within 0 and 10,000: it fits.
        // A little more: 0.29 is a little less than it says, and is 29 hundredths all the same.
        let hundredths = (percent.clamp(0.0, 100.0) * 100.0 + 1e-6) as i64;
        let mut waiting = reports.lock();
        if waiting.progress.is_none_or(|known| known < hundredths) {
            waiting.progress = Some(hundredths);
            drop(waiting);
            reports.news.notify_one();
        }
    }

    /// Adds a line to the call's log. None is lost, and they stay in order.
    pub fn detail(&self, text: impl Into<String>) {
        let Some(reports) = &self.0 else { return };
        let dt = time::format(reports.clock.now());
        reports.lock().details.push((dt, text.into()));
        reports.news.notify_one();
    }

    /// Whether nobody waits for the call's end any more: it was cancelled, took too long, or the server shuts down.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|reports| reports.cancelled.load(Ordering::Relaxed))
    }
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Waits until there is something to take.
    pub async fn news(&self) {
        // Looked at first: the notice of what is there may have been taken by a wait for much of it.
        while self.0.lock().is_empty() {
            self.0.news.notified().await;
        }
    }

    /// Waits until there is so much that it should be taken at once.
    pub async fn much(&self) {
        while self.0.lock().details.len() < MANY {
            self.0.news.notified().await;
        }
    }

    /// Takes what there is.
    #[must_use]
    pub fn take(&self) -> News {
        let Waiting { progress, details } = std::mem::take(&mut *self.0.lock());
        News { progress, details }
    }

    /// Puts back what could not be stored, before what came since.
    pub fn put_back(&self, news: News) {
        let mut waiting = self.0.lock();
        waiting.progress = waiting.progress.max(news.progress);
        let since = std::mem::replace(&mut waiting.details, news.details);
        waiting.details.extend(since);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

impl News {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.progress.is_none() && self.details.is_empty()
    }
}

impl FromRequest for Progress {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(req.extensions().get::<Self>().cloned().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::clock;

    #[test]
    fn the_latest_percentage_and_all_details_are_taken_once() {
        let (progress, listener) = Progress::new(Arc::new(clock::System));
        for percent in [1.0, 55.555, 20.0, f64::NAN, -3.0] {
            progress.set(percent);
            progress.detail(percent.to_string());
        }
        let news = listener.take();
        assert_eq!((news.progress, news.details.len()), (Some(5555), 5));
        assert!(listener.take().is_empty());
        progress.detail("since");
        listener.put_back(news);
        let again = listener.take();
        assert_eq!((again.progress, again.details.len()), (Some(5555), 6));
        assert_eq!(again.details[5].1, "since");
        progress.set(1e9);
        assert_eq!(listener.take().progress, Some(10_000));
        assert!(!progress.cancelled());
        progress.detail("x");
        let taken = listener.much().now_or_never();
        assert!(taken.is_none() && listener.news().now_or_never().is_some(), "a notice is lost");
        drop(listener);
        assert!(progress.cancelled());
    }

    #[test]
    fn in_the_foreground_reports_go_nowhere() {
        let progress = Progress::default();
        progress.set(50.0);
        progress.detail("x");
        assert!(!progress.cancelled());
    }
}
