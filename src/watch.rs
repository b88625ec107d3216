//! Who watches a request: one notification inside the process, no polling of the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::Rid;
use crate::store::Request;

/// What is sent to those who watch: the request as it has ended, once that is known.
type End = Option<Arc<Request>>;

/// The handle. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watchers {
    watched: Arc<Mutex<Watched>>,
}

#[derive(Default)]
struct Watched {
    requests: HashMap<Rid, watch::Sender<End>>,
    closed: bool,
}

/// Someone's watch over a request.
pub struct Watch {
    watchers: Watchers,
    rid: Rid,
    news: Option<watch::Receiver<End>>,
}

/// What a watch has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Something has changed: state, progress, or the log.
    Changed,
    /// The request has ended, like this.
    Ended(Arc<Request>),
    /// Nothing more will be heard: look at the request once more. It is gone, has ended, or the server is shutting down.
    Over,
}

impl Watchers {
    /// Begins to watch. Look at the request only after this, or its end may slip through in between.
    #[must_use]
    pub fn watch(&self, rid: Rid) -> Watch {
        let mut watched = self.lock();
        let open = !watched.closed;
        let news = open.then(|| watched.requests.entry(rid).or_insert_with(|| watch::channel(None).0).subscribe());
        Watch { watchers: self.clone(), rid, news }
    }

    /// Whether somebody watches a request: else nobody has to be told.
    #[must_use]
    pub fn is_watched(&self, rid: Rid) -> bool {
        self.lock().requests.contains_key(&rid)
    }

    /// Something of the request has changed, and is committed.
    pub fn changed(&self, rid: Rid) {
        if let Some(news) = self.lock().requests.get(&rid) {
            news.send_modify(|_| {});
        }
    }

    /// The request has ended, or is gone (`None`), and that is committed.
    pub fn ended(&self, rid: Rid, request: Option<Request>) {
        let Some(news) = self.lock().requests.remove(&rid) else { return };
        if let Some(request) = request {
            news.send_replace(Some(Arc::new(request)));
        }
    }

    /// The server is shutting down: nobody watches any longer.
    pub fn close(&self) {
        let mut watched = self.lock();
        watched.closed = true;
        watched.requests.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Whether nothing more will be heard.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.news.as_ref().is_none_or(|news| news.has_changed().is_err())
    }

    /// Waits for the next news.
    pub async fn news(&mut self) -> News {
        let Some(news) = &mut self.news else { return News::Over };
        let more = news.changed().await.is_ok();
        match &*news.borrow_and_update() {
            Some(request) => News::Ended(request.clone()),
            None if more => News::Changed,
            None => News::Over,
        }
    }

    /// Waits for the end; `None` where it is not known how the request has ended, or whether.
    pub async fn end(&mut self) -> Option<Arc<Request>> {
        loop {
            match self.news().await {
                News::Changed => {}
                News::Ended(request) => return Some(request),
                News::Over => return None,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.watchers.lock();
        self.news = None;
        if watched.requests.get(&self.rid).is_some_and(|news| news.receiver_count() == 0) {
            watched.requests.remove(&self.rid);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn rid() -> Rid {
        "4ff7cc2d88b1de88e83cce3f1caa1509".parse().unwrap()
    }

    #[test]
    fn all_who_watch_hear_of_changes_and_the_end_and_nothing_is_left() {
        let watchers = Watchers::default();
        let (mut one, mut two) = (watchers.watch(rid()), watchers.watch(rid()));
        assert!(one.news().now_or_never().is_none());
        watchers.changed(rid());
        assert_eq!(one.news().now_or_never(), Some(News::Changed));
        assert!(two.end().now_or_never().is_none());
        watchers.ended(rid(), None);
        assert_eq!(one.news().now_or_never(), Some(News::Over));
        assert_eq!(two.end().now_or_never(), Some(None));
        drop((one, two));
        assert!(!watchers.is_watched(rid()));
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let watchers = Watchers::default();
        drop(watchers.watch(rid()));
        assert!(!watchers.is_watched(rid()));
        watchers.close();
        assert!(watchers.watch(rid()).end().now_or_never().is_some());
    }
}
