//! `GET /ui/requests`: requests as they are submitted and change, as server-sent events (HTML standard, section 9.2).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, body, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep, sleep_until};

use super::event_stream::{self, HEARTBEAT};
use super::{Error, Shared, manage};
use crate::model::Owner;
use crate::store::{Request, Store};
use crate::view;
use crate::watch::{Follow, Watchers};

/// The time between two looks at what has changed.
const SPACING: Duration = Duration::from_millis(500);

/// Events of one look that a listener is sent at most.
const MOST: usize = 100;

/// Looks that wait for a listener who takes nothing.
const BEHIND: usize = 8;

/// The time between two calls to load everything again.
const RELOADS: Duration = Duration::from_secs(5);

/// How long a stream lasts: whoever comes back is asked again who they are.
const LONGEST: Duration = Duration::from_secs(60);

const COMMENT: &str = ":\n\n";

const RELOAD: &str = "event: reload\ndata: {}\n\n";

/// Looks at what has changed, once for all who listen. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    store: Arc<dyn Store>,
    watchers: Watchers,
    looks: broadcast::Sender<Arc<Look>>,
}

/// What has changed between two looks.
struct Look {
    /// Whose a request is, and the event that shows it; the oldest request first.
    events: Vec<(Owner, String)>,
    /// Whether there was more.
    missed: bool,
}

impl Live {
    /// Looks at these rows where these watchers have news.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, watchers: Watchers) -> Self {
        Self { store, watchers, looks: broadcast::Sender::new(BEHIND) }
    }

    /// Looks whenever something has changed while somebody listens, for ever.
    pub async fn keep_up(self) {
        loop {
            let changes = self.watchers.changes().await;
            if self.looks.receiver_count() > 0 {
                let look = match self.store.get_many(changes.rids.into_iter().collect()).await {
                    Ok(requests) => Look { events: requests.into_iter().map(shown).collect(), missed: changes.missed },
                    Err(error) => {
                        log::warn!("those who listen have to look themselves: {error}");
                        Look { events: Vec::new(), missed: true }
                    }
                };
                // They may have gone meanwhile.
                let _ = self.looks.send(Arc::new(look));
            }
            sleep(SPACING).await;
        }
    }
}

fn shown(request: Request) -> (Owner, String) {
    // JSON has no line's end in it.
    let event = format!("event: request\ndata: {}\n\n", view::object(&request, true));
    (request.owner, event)
}

/// The route.
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let who = manage::who(&req)?;
    let mut response = event_stream::head();
    if *req.method() == Method::HEAD {
        return Ok(response.body(body::None::new()));
    }
    let now = Instant::now();
    let listener = Listener {
        looks: shared.live.looks.subscribe(),
        follow: shared.watchers.follow(),
        sees: (!manage::is_admin(&who)).then_some(Arc::unwrap_or_clone(who.owner)),
        missed: false,
        reload_at: now,
        // At once, so that the head is on its way: from then on nothing is missed.
        beat_at: now,
        until: now + LONGEST,
    };
    Ok(response.streaming(stream::unfold(listener, Listener::step)))
}

/// An event stream under way. Nothing gathers in it: what its reader does not take is given up, and the reader is told.
struct Listener {
    looks: broadcast::Receiver<Arc<Look>>,
    follow: Follow,
    /// Whose requests are shown; `None`: everybody's.
    sees: Option<Owner>,
    /// Whether there was something that was not shown.
    missed: bool,
    /// From when on that may be told.
    reload_at: Instant,
    /// When a comment is due.
    beat_at: Instant,
    until: Instant,
}

impl Listener {
    /// The next piece, as soon as there is one; `None` at the end.
    async fn step(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            let due = if self.missed { self.reload_at.min(self.beat_at) } else { self.beat_at };
            let text = tokio::select! {
                biased;
                () = self.follow.closed() => return None,
                () = sleep_until(self.until) => return None,
                look = self.looks.recv() => match look {
                    Ok(look) => self.take(&look),
                    Err(RecvError::Lagged(_)) => {
                        self.missed = true;
                        String::new()
                    }
                    Err(RecvError::Closed) => return None,
                },
                () = sleep_until(due) => self.due(),
            };
            if !text.is_empty() {
                self.beat_at = Instant::now() + HEARTBEAT;
                return Some((Ok(text.into()), self));
            }
        }
    }

    /// The events of a look that are for this reader; the newest requests', where they are too many.
    fn take(&mut self, look: &Look) -> String {
        let is_seen = |owner: &Owner| self.sees.as_ref().is_none_or(|own| own == owner);
        let events: Vec<_> =
            look.events.iter().filter(|(owner, _)| is_seen(owner)).map(|(_, event)| event.as_str()).collect();
        let left_out = events.len().saturating_sub(MOST);
        self.missed |= look.missed || left_out > 0;
        events[left_out..].concat()
    }

    /// What is to be said where there is no event.
    fn due(&mut self) -> String {
        let now = Instant::now();
        if self.missed && now >= self.reload_at {
            self.missed = false;
            self.reload_at = now + RELOADS;
            return RELOAD.to_owned();
        }
        COMMENT.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn listener(live: &Live, sees: Option<Owner>) -> Listener {
        let now = Instant::now();
        Listener {
            looks: live.looks.subscribe(),
            follow: live.watchers.follow(),
            sees,
            missed: false,
            reload_at: now,
            beat_at: now + HEARTBEAT,
            until: now + LONGEST,
        }
    }

    fn look(owners: impl IntoIterator<Item = i64>, missed: bool) -> Look {
        let event = |(at, owner): (usize, i64)| (Owner::local(owner), format!("{owner}-{at};"));
        Look { events: owners.into_iter().enumerate().map(event).collect(), missed }
    }

    fn live() -> (tempfile::TempDir, Live) {
        use crate::store::sqlite::{Durability, Sqlite};
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("test.sqlite3"), Durability::Normal).unwrap();
        (dir, Live::new(Arc::new(store), Watchers::default()))
    }

    async fn step(listener: Listener) -> (String, Listener) {
        let (text, listener) = listener.step().await.expect("no end");
        let text = text.unwrap_or_else(|never| match never {});
        (String::from_utf8(text.to_vec()).unwrap(), listener)
    }

    #[tokio::test]
    async fn a_user_sees_their_own_and_who_sees_all_sees_the_newest_of_too_many() {
        let (_dir, live) = live();
        let (own, all) = (listener(&live, Some(Owner::local(1))), listener(&live, None));
        assert!(live.looks.send(Arc::new(look([1, 2, 1], false))).is_ok());
        let ((text, own), (everything, all)) = (step(own).await, step(all).await);
        assert_eq!((&*text, &*everything), ("1-0;1-2;", "1-0;2-1;1-2;"));
        assert!(live.looks.send(Arc::new(look(vec![2; MOST + 1], false))).is_ok());
        let (text, all) = step(all).await;
        assert!(text.starts_with("2-1;") && text.ends_with(&format!("2-{MOST};")), "{text}");
        // Of what was left out, it is told; not of others' requests.
        assert_eq!(step(all).await.0, RELOAD);
        assert!(own.step().now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_falls_behind_is_told_to_load_again_once_in_a_while() {
        let (_dir, live) = live();
        let mut slow = listener(&live, None);
        for _ in 0..=BEHIND {
            assert!(live.looks.send(Arc::new(look([1], false))).is_ok());
        }
        for _ in 0..BEHIND {
            let (text, listener) = step(slow).await;
            assert_eq!(text, "1-0;");
            slow = listener;
        }
        let (text, slow) = step(slow).await;
        assert_eq!(text, RELOAD);
        assert!(live.looks.send(Arc::new(look([], true))).is_ok());
        assert!(slow.step().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_shutdown_ends_it() {
        let (_dir, live) = live();
        let listener = listener(&live, None);
        live.watchers.close();
        assert!(listener.step().now_or_never().is_some_and(|end| end.is_none()));
    }
}
