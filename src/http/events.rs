//! `GET /bgrs/{rid}/events`: what becomes of a request, as server-sent events (HTML standard, section 9.2).

use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse, body, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::event_stream::{self, HEARTBEAT};
use super::{Error, Shared, wait};
use crate::model::{Rid, State};
use crate::store::{self, Detail, Request};
use crate::view;
use crate::watch::{News, Watch};

/// The time between two looks at the rows, while something changes all the time.
const SPACING: Duration = Duration::from_millis(100);

/// Details that are sent at once.
const PAGE: usize = 50;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Behind the id of the last event there is.
const END: &str = "-end";

/// The route.
#[utoipa::path(
    get,
    path = "/bgrs/{rid}/events",
    tag = "background requests",
    operation_id = "getEvents",
    summary = "What becomes of a request, live",
    description = "Server-sent events: `status` with the request's object, `detail` with a record of its log, and at \
                   the end `end` with the request's object; a comment every 15 seconds. Each has an id to resume behind.",
    params(
        super::openapi::InPath,
        (
            "Last-Event-ID" = Option<String>, Header, nullable = false,
            description = "The id of the last event that was seen."
        )
    ),
    responses(
        (status = 200, description = "The events.", content_type = "text/event-stream"),
        (status = 204, description = "It has ended, and all has been seen."),
        (status = 404, description = "There is no background request of that id, or it has expired; check the id.")
    )
)]
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let rid = wait::rid(&req)?;
    let watch = shared.watchers.watch(rid);
    let request = shared.find(rid).await?.ok_or_else(wait::unknown)?;
    let seen = req.headers().get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let at_end = seen.and_then(|id| id.strip_suffix(END)).and_then(Place::parse).is_some();
    if at_end && request.state.has_ended() {
        // Whoever reconnects by itself takes this for "there is nothing more".
        return Ok(HttpResponse::NoContent().finish());
    }
    let mut response = event_stream::head();
    if *req.method() == Method::HEAD {
        return Ok(response.body(body::None::new()));
    }
    let place = seen.and_then(Place::parse).unwrap_or_default();
    let feed = Feed { shared, rid, watch, place, next: Next::Look(Some(Box::new(request))), looked: Instant::now() };
    Ok(response.streaming(stream::try_unfold(feed, Feed::step)))
}

/// How far a reader has come. It is the id of each event: a reader that comes back says it, and misses nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// The last detail.
    detail: i64,
    /// The last state and progress; `None`: nothing was shown yet.
    status: Option<(State, i64)>,
}

impl Place {
    fn parse(id: &str) -> Option<Self> {
        let mut parts = id.split('-');
        let (detail, state, progress) = (parts.next()?, parts.next()?, parts.next()?);
        let state = State::from_id(state.parse().ok()?)?;
        let place = Self { detail: detail.parse().ok()?, status: Some((state, progress.parse().ok()?)) };
        (parts.next().is_none() && place.detail >= 0).then_some(place)
    }

    fn id(&self) -> String {
        let (state, progress) = self.status.map_or((0, 0), |(state, progress)| (state.id(), progress));
        format!("{}-{state}-{progress}", self.detail)
    }
}

/// What a feed does next.
enum Next {
    /// Look at the rows; at the details alone, where the request is known.
    Look(Option<Box<Request>>),
    /// Wait until there is something to look at.
    Wait,
    /// It has said everything.
    End,
}

/// An event stream under way. Nothing waits in it: rows are looked at when the reader has taken what came before.
struct Feed {
    shared: web::Data<Shared>,
    rid: Rid,
    watch: Watch,
    place: Place,
    next: Next,
    looked: Instant,
}

impl Feed {
    /// The next piece, as soon as there is one.
    async fn step(mut self) -> store::Result<Option<(Bytes, Self)>> {
        loop {
            let text = match std::mem::replace(&mut self.next, Next::End) {
                Next::End => return Ok(None),
                Next::Wait => self.wait().await,
                Next::Look(request) => self.look(request).await?,
            };
            if !text.is_empty() {
                return Ok(Some((text.into(), self)));
            }
        }
    }

    /// Waits for news; a comment where there are none for long.
    async fn wait(&mut self) -> String {
        let Ok(news) = timeout(HEARTBEAT, self.watch.news()).await else {
            // Looked at all the same: requests that go with their user are not told one by one.
            self.next = Next::Look(None);
            return ":\n\n".to_owned();
        };
        let ended = match news {
            News::Changed => {
                // At once, unless the last look was a moment ago; the end does not wait for that.
                match timeout_at(self.looked + SPACING, self.watch.end()).await {
                    Ok(Some(request)) => Some(request),
                    Ok(None) => {
                        sleep_until(self.looked + SPACING).await;
                        None
                    }
                    Err(_) => None,
                }
            }
            News::Ended(request) => Some(request),
            News::Over => None,
        };
        self.next = Next::Look(ended.map(|request| Box::new((*request).clone())));
        String::new()
    }

    /// What is new in the rows.
    async fn look(&mut self, known: Option<Box<Request>>) -> store::Result<String> {
        self.looked = Instant::now();
        let is_over = self.watch.is_over();
        // The state before the log: of one that has ended, all details are there then.
        let request = match known {
            Some(request) => *request,
            None => match self.shared.find(self.rid).await? {
                Some(request) => request,
                None => return Ok(String::new()),
            },
        };
        let Some(details) = self.shared.store.details(self.rid, self.place.detail, PAGE).await? else {
            return Ok(String::new());
        };
        let (full, ended) = (details.len() == PAGE, request.state.has_ended());
        let text = self.events(&request, &details, full);
        self.next = match (full, ended) {
            (true, ended) => Next::Look(ended.then(|| Box::new(request))),
            (false, true) => Next::End,
            // The server is shutting down: the reader comes back.
            (false, false) if is_over => Next::End,
            (false, false) => Next::Wait,
        };
        Ok(text)
    }

    fn events(&mut self, request: &Request, details: &[Detail], more: bool) -> String {
        let mut text = String::new();
        let (status, ended) = ((request.state, request.progress), request.state.has_ended());
        let object = view::object(request, false);
        // Of the end, the event of that name tells; who sees nothing but the end is shown the state first all the same.
        if self.place.status.is_none() || !ended && self.place.status != Some(status) {
            self.place.status = Some(status);
            event(&mut text, "status", &self.place.id(), &object);
        }
        for detail in details {
            self.place.detail = detail.id;
            event(&mut text, "detail", &self.place.id(), &view::detail(self.rid, detail));
        }
        if ended && !more {
            self.place.status = Some(status);
            event(&mut text, "end", &format!("{}{END}", self.place.id()), &object);
        }
        text
    }
}

/// One event; JSON has no line's end in it.
fn event(text: &mut String, name: &str, id: &str, data: &str) {
    for part in ["event: ", name, "\nid: ", id, "\ndata: ", data, "\n\n"] {
        text.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_that_is_none_is_no_place() {
        for id in ["", "x", "1", "1-2", "1-9-0", "-1-2-3", "1-2-3-end", "1-2-3-4", "1-2-x"] {
            assert_eq!(Place::parse(id), None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn an_id_leads_back_to_its_place(detail in 0_i64.., state in 1_i64..=6, progress in 0_i64..=10_000) {
            let place = Place { detail, status: State::from_id(state).map(|state| (state, progress)) };
            prop_assert_eq!(Place::parse(&place.id()), Some(place));
        }
    }
}
