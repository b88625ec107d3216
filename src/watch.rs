//! Who waits for a request to end: one notification inside the process, no polling of the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::Rid;

/// The handle. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watchers {
    watched: Arc<Mutex<Watched>>,
}

#[derive(Default)]
struct Watched {
    ends: HashMap<Rid, watch::Sender<()>>,
    closed: bool,
}

/// Someone's wait for the end of a request.
pub struct Wait {
    watchers: Watchers,
    rid: Rid,
    end: Option<watch::Receiver<()>>,
}

impl Watchers {
    /// Begins to wait. Look at the request only after this, or its end may slip through in between.
    #[must_use]
    pub fn wait(&self, rid: Rid) -> Wait {
        let mut watched = self.lock();
        let end =
            (!watched.closed).then(|| watched.ends.entry(rid).or_insert_with(|| watch::channel(()).0).subscribe());
        Wait { watchers: self.clone(), rid, end }
    }

    /// The request has ended: whoever waits for it looks again.
    pub fn ended(&self, rid: Rid) {
        self.lock().ends.remove(&rid);
    }

    /// The server is shutting down: nobody waits any longer.
    pub fn close(&self) {
        let mut watched = self.lock();
        watched.closed = true;
        watched.ends.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wait {
    /// Returns once the request has ended, or the server is shutting down.
    pub async fn end(&mut self) {
        if let Some(end) = &mut self.end {
            // Only the sender's end is awaited: nothing is ever sent.
            while end.changed().await.is_ok() {}
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut watched = self.watchers.lock();
        self.end = None;
        if watched.ends.get(&self.rid).is_some_and(|end| end.receiver_count() == 0) {
            watched.ends.remove(&self.rid);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn all_who_wait_are_woken_and_nothing_is_left() {
        let watchers = Watchers::default();
        let rid: Rid = "4ff7cc2d88b1de88e83cce3f1caa1509".parse().unwrap();
        let (mut one, mut two) = (watchers.wait(rid), watchers.wait(rid));
        assert!(one.end().now_or_never().is_none());
        watchers.ended(rid);
        assert!(one.end().now_or_never().is_some());
        assert!(two.end().now_or_never().is_some());
        drop((one, two));
        assert!(watchers.lock().ends.is_empty());
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let watchers = Watchers::default();
        let rid: Rid = "4ff7cc2d88b1de88e83cce3f1caa1509".parse().unwrap();
        drop(watchers.wait(rid));
        assert!(watchers.lock().ends.is_empty());
    }
}
