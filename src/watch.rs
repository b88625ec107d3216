//! Who watches a request, or follows all of them: one notification inside the process, no polling of the database.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::model::Rid;
use crate::store::Request;

/// What is sent to those who watch: the request as it has ended, once that is known.
type End = Option<Arc<Request>>;

/// Requests whose news wait for those who follow all, at most: what is beyond is told as missed.
const MOST: usize = 500;

/// The handle. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watchers {
    watched: Arc<Mutex<Watched>>,
    followed: Arc<Followed>,
}

/// What is kept for those who follow all requests.
#[derive(Default)]
struct Followed {
    /// Each who follows has a receiver of it; it turns true when the server is shutting down.
    closed: watch::Sender<bool>,
    changes: Mutex<Changes>,
    news: Notify,
}

/// What has changed since it was last asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Requests that were submitted, have changed, have ended or are gone.
    pub rids: HashSet<Rid>,
    /// Whether there were more than are told.
    pub missed: bool,
}

/// Someone who follows all requests, until it is dropped.
pub struct Follow {
    closed: watch::Receiver<bool>,
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

    /// A request is stored.
    pub fn submitted(&self, rid: Rid) {
        self.followed.note(rid);
    }

    /// Something of the request has changed, and is committed.
    pub fn changed(&self, rid: Rid) {
        self.followed.note(rid);
        if let Some(news) = self.lock().requests.get(&rid) {
            news.send_modify(|_| {});
        }
    }

    /// The request has ended, or is gone (`None`), and that is committed.
    pub fn ended(&self, rid: Rid, request: Option<Request>) {
        self.followed.note(rid);
        let Some(news) = self.lock().requests.remove(&rid) else { return };
        if let Some(request) = request {
            news.send_replace(Some(Arc::new(request)));
        }
    }

    /// Begins to follow all requests: from now on their changes are kept.
    #[must_use]
    pub fn follow(&self) -> Follow {
        Follow { closed: self.followed.closed.subscribe() }
    }

    /// Waits until something has changed of what is followed, and gives it. One task asks, for all who follow.
    pub async fn changes(&self) -> Changes {
        loop {
            let changes = std::mem::take(&mut *self.followed.changes());
            if changes != Changes::default() {
                return changes;
            }
            self.followed.news.notified().await;
        }
    }

    /// The server is shutting down: nobody watches or follows any longer.
    pub fn close(&self) {
        self.followed.closed.send_replace(true);
        let mut watched = self.lock();
        watched.closed = true;
        watched.requests.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Followed {
    /// Keeps a change, if anybody follows: else it costs a look at a number.
    fn note(&self, rid: Rid) {
        if self.closed.receiver_count() == 0 {
            return;
        }
        let mut changes = self.changes();
        if changes.rids.len() < MOST {
            changes.rids.insert(rid);
        } else if !changes.rids.contains(&rid) {
            changes.missed = true;
        }
        drop(changes);
        self.news.notify_one();
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follow {
    /// Waits for the server's shutdown.
    pub async fn closed(&mut self) {
        // An error would mean that the watchers are gone, which is the same.
        let _ = self.closed.wait_for(|closed| *closed).await;
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

    fn other(number: usize) -> Rid {
        format!("{number:032x}").parse().unwrap()
    }

    #[test]
    fn who_follows_hears_of_each_request_once_and_what_nobody_follows_is_not_kept() {
        let watchers = Watchers::default();
        watchers.submitted(other(1));
        assert!(watchers.changes().now_or_never().is_none());
        let follow = watchers.follow();
        watchers.submitted(other(2));
        watchers.changed(other(2));
        watchers.changed(other(3));
        watchers.ended(other(3), None);
        let changes = watchers.changes().now_or_never().unwrap();
        assert_eq!(changes, Changes { rids: [other(2), other(3)].into(), missed: false });
        drop(follow);
        watchers.changed(other(4));
        assert!(watchers.changes().now_or_never().is_none());
    }

    #[test]
    fn changes_of_more_requests_than_are_kept_are_told_as_missed() {
        let watchers = Watchers::default();
        let _follow = watchers.follow();
        (0..MOST).for_each(|number| watchers.changed(other(number)));
        watchers.changed(other(0));
        let changes = watchers.changes().now_or_never().unwrap();
        assert_eq!((changes.rids.len(), changes.missed), (MOST, false));
        (0..=MOST).for_each(|number| watchers.changed(other(number)));
        let changes = watchers.changes().now_or_never().unwrap();
        assert_eq!((changes.rids.len(), changes.missed), (MOST, true));
    }

    #[test]
    fn who_follows_hears_of_the_shutdown_also_if_it_was_before() {
        let watchers = Watchers::default();
        let mut before = watchers.follow();
        assert!(before.closed().now_or_never().is_none());
        watchers.close();
        for follow in [&mut before, &mut watchers.follow()] {
            assert!(follow.closed().now_or_never().is_some());
        }
    }
}
