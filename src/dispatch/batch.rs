//! One call for each element of a JSON array: whatever performs single calls performs batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{Dispatch, Error, Replay, Response};
use crate::model::array::Splitter;
use crate::model::{Call, Caller, Headers, Rid, target};
use crate::priority::Pace;
use crate::progress::Progress;

/// Elements under way at once. Their writes share commits; in turn, each would wait for a sync of its own.
const AT_ONCE: usize = 16;

/// Bytes of a single call's answer at most.
const LONGEST_ANSWER: usize = 1 << 20;

/// The time between two details that say how many elements are done.
const TOLD: Duration = Duration::from_millis(250);

/// What is said of a batch's whole body, or would make an answer something else than a text: not an element's.
const OF_THE_WHOLE: [&str; 5] = ["accept-encoding", "content-digest", "content-md5", "digest", "repr-digest"];

/// What stands in a path segment as it is (RFC 3986 section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Performs batches by performing their elements, and hands every other call on.
pub struct Batch {
    inner: Arc<dyn Dispatch>,
}

impl Batch {
    /// Of calls that `inner` performs.
    #[must_use]
    pub fn new(inner: Arc<dyn Dispatch>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl Dispatch for Batch {
    async fn dispatch(&self, replay: Replay) -> Result<Response, Error> {
        let Some(total) = replay.call.batch else { return self.inner.dispatch(replay).await };
        let Replay { rid, is_stored, mut call, caller, progress, body, in_turn: _, report: _ } = replay;
        let Some(body) = body else { return Err(Error::Malformed) };
        OF_THE_WHOLE.iter().for_each(|name| call.headers.remove(name));
        let headers: Headers = [("content-type", "application/json; charset=utf-8")].into_iter().collect();
        let single = Arc::new(Single { inner: self.inner.clone(), rid, is_stored, call, caller });
        let (mut turns, mut number) = (Turns::default(), 0);
        let done = elements(body)
            .map_ok(move |element| {
                number += 1;
                let element = Element::new(&single.call, element, number);
                let turn = turns.of(element.id.clone());
                perform(single.clone(), element, turn)
            })
            .try_buffered(AT_ONCE);
        Ok(Response { status: 200, headers, length: None, body: written(done, Tally::new(progress, total)) })
    }
}

/// What the elements' calls have in common.
struct Single {
    inner: Arc<dyn Dispatch>,
    rid: Rid,
    is_stored: bool,
    /// The batch's own call.
    call: Call,
    caller: Option<Caller>,
}

/// One element: its text, the object that it names, if it has to, and which it is.
struct Element {
    text: Bytes,
    id: Option<String>,
    number: u64,
}

impl Element {
    fn new(call: &Call, text: Vec<u8>, number: u64) -> Self {
        let id = if call.method == "POST" { None } else { id_of(&text) };
        Self { text: text.into(), id, number }
    }
}

fn id_of(element: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: Value,
    }
    match serde_json::from_slice::<Named>(element).ok()?.id {
        Value::Number(id) => Some(id.to_string()),
        Value::String(id) if !id.is_empty() => Some(id),
        _ => None,
    }
}

/// The elements of a stored array.
fn elements(body: BoxStream<'static, std::io::Result<Bytes>>) -> impl Stream<Item = Result<Vec<u8>, Error>> + Send {
    let parts = (body, Splitter::default(), VecDeque::new());
    futures_util::stream::try_unfold(parts, |(mut body, mut splitter, mut ready)| async move {
        loop {
            if let Some(element) = ready.pop_front() {
                return Ok(Some((element, (body, splitter, ready))));
            }
            let Some(piece) = body.next().await else { return Ok(None) };
            let piece = piece.map_err(|error| {
                log::error!("a stored body cannot be read: {error}");
                Error::Malformed
            })?;
            splitter.push(&piece, |element| ready.push_back(element)).map_err(|error| {
                log::error!("a stored batch is none: {error}");
                Error::Malformed
            })?;
        }
    })
}

/// Who comes after whom: elements that name the same object go one after the other, in their order. No more than
/// [`AT_ONCE`] are under way, so only as many have to be remembered.
#[derive(Default)]
struct Turns(VecDeque<(Option<String>, Option<oneshot::Receiver<()>>)>);

/// An element's turn: it waits for `before`, and what comes after it waits until this is dropped.
struct Turn {
    before: Option<oneshot::Receiver<()>>,
    _ends: oneshot::Sender<()>,
}

impl Turns {
    fn of(&mut self, id: Option<String>) -> Turn {
        let same = self.0.iter_mut().rev().find(|(known, _)| id.is_some() && *known == id);
        let before = same.and_then(|(_, end)| end.take());
        let (ends, end) = oneshot::channel();
        if self.0.len() == AT_ONCE {
            self.0.pop_front();
        }
        self.0.push_back((id, Some(end)));
        Turn { before, _ends: ends }
    }
}

/// What a single call answered.
#[derive(Serialize)]
struct Done {
    status: u16,
    body: String,
}

impl Done {
    /// An answer of the batch's own, in the form of the server's errors.
    fn failed(status: u16, error: &str, description: &str) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            description: &'a str,
        }
        let body = serde_json::to_string(&Body { error, description }).unwrap_or_default();
        Self { status, body }
    }

    fn has_failed(&self) -> bool {
        self.status >= 400
    }

    /// Why it failed, as the answer says it.
    fn why(&self) -> String {
        #[derive(Deserialize)]
        struct Said {
            description: String,
        }
        let said = serde_json::from_str::<Said>(&self.body).map(|said| said.description);
        said.unwrap_or_else(|_| self.body.chars().take(200).collect())
    }
}

async fn perform(single: Arc<Single>, element: Element, turn: Turn) -> Result<Done, Error> {
    let call = match call_of(&single.call, &element) {
        Ok(call) => call,
        Err(why) => return Ok(Done::failed(400, "Bad Request", why)),
    };
    if let Some(before) = turn.before {
        let _ = before.await;
    }
    let body = call.body.map(|_| futures_util::stream::iter([Ok(element.text)]).boxed());
    let (rid, is_stored, caller) = (single.rid, single.is_stored, single.caller.clone());
    let progress = Progress::default();
    let replay = Replay { rid, is_stored, call, caller, progress, in_turn: true, report: None, body };
    match answer(&*single.inner, replay).await {
        Err(error @ (Error::Stopped | Error::Gone(_))) => Err(error),
        Err(error) if single.call.upstream.is_some() => Ok(Done::failed(502, "Bad Gateway", &format!("{error}."))),
        Err(error) => Ok(Done::failed(500, "Internal Server Error", &format!("{error}."))),
        Ok(done) => Ok(done),
    }
}

/// The single call of an element, or why there is none.
fn call_of(batch: &Call, element: &Element) -> Result<Call, &'static str> {
    let whole = batch.target();
    let name = match (&*batch.method, &element.id) {
        ("POST", _) => whole.into_owned(),
        (_, None) => return Err("The element has no id; name the object with a number or a text."),
        (_, Some(id)) if batch.upstream.is_some() && leads_away(id) => {
            return Err("The element's id cannot stand in a path; name the object by another.");
        }
        (_, Some(id)) => {
            let path = target::path(&whole);
            let (collection, query) = (path.strip_suffix('/').unwrap_or(path), &whole[path.len()..]);
            format!("{collection}/{}{query}", utf8_percent_encode(id, SEGMENT))
        }
    };
    let body = (batch.method != "DELETE").then_some(element.text.len() as u64);
    let headers = headers_of(&batch.headers, element.number);
    Ok(Call { name, headers, body, batch: None, ..batch.clone() })
}

/// Whether an upstream could take an id for a step to somewhere else: to the collection itself, or out of it.
fn leads_away(id: &str) -> bool {
    // `.;x` is `.` with a parameter to some servers.
    id.split(['/', '\\']).any(|part| matches!(part.split(';').next(), None | Some("" | "." | "..")))
}

/// The headers of an element's call: an `Idempotency-Key` names one call, and each element is one.
fn headers_of(batch: &Headers, number: u64) -> Headers {
    let mut headers = batch.clone();
    if let Some(key) = batch.get("idempotency-key") {
        // Some keys are quoted texts.
        let (key, end) = key.strip_suffix(b"\"").map_or((key, ""), |key| (key, "\""));
        let own = [key, format!("-{number}{end}").as_bytes()].concat();
        headers.remove("idempotency-key");
        headers.append("idempotency-key", &own);
    }
    headers
}

async fn answer(inner: &dyn Dispatch, replay: Replay) -> Result<Done, Error> {
    let Response { status, mut body, .. } = inner.dispatch(replay).await?;
    let mut text = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece?;
        if text.len() + piece.len() > LONGEST_ANSWER {
            let description = "The element's answer is longer than a batch takes; make this call by itself.";
            return Ok(Done::failed(500, "Internal Server Error", description));
        }
        text.extend_from_slice(&piece);
    }
    Ok(Done { status, body: String::from_utf8_lossy(&text).into_owned() })
}

/// How far the batch is, for its progress and its log.
struct Tally {
    progress: Progress,
    total: u64,
    done: u64,
    failed: u64,
    told: Instant,
}

impl Tally {
    fn new(progress: Progress, total: u64) -> Self {
        Self { progress, total, done: 0, failed: 0, told: Instant::now() }
    }

    fn count(&mut self, done: &Done) {
        self.done += 1;
        if done.has_failed() {
            self.failed += 1;
            let (at, total, status) = (self.done, self.total, done.status);
            self.progress.detail(format!("element {at} of {total} failed with {status}: {}", done.why()));
        }
        self.progress.set(self.done as f64 * 100.0 / self.total as f64);
        // What a crash leaves behind says how far it came.
        if self.told.elapsed() >= TOLD || self.done == self.total {
            self.told = Instant::now();
            self.progress.detail(format!("{} of {} elements done, {} failed", self.done, self.total, self.failed));
        }
    }
}

/// The result: the answers in the elements' order.
fn written(
    done: impl Stream<Item = Result<Done, Error>> + Send + 'static,
    tally: Tally,
) -> BoxStream<'static, Result<Bytes, Error>> {
    let parts = Some((Box::pin(done), tally, Pace::new()));
    let pieces = futures_util::stream::try_unfold(parts, |parts| async move {
        let Some((mut done, mut tally, mut pace)) = parts else { return Ok(None) };
        let rest = pace.rest();
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        let mut piece = Vec::new();
        match done.try_next().await? {
            None => {
                piece.extend_from_slice(if tally.done == 0 { b"[]" } else { b"]" });
                Ok(Some((Bytes::from(piece), None)))
            }
            Some(one) => {
                piece.push(if tally.done == 0 { b'[' } else { b',' });
                tally.count(&one);
                serde_json::to_writer(&mut piece, &one).map_err(|_| Error::BrokeOff)?;
                Ok(Some((Bytes::from(piece), Some((done, tally, pace)))))
            }
        }
    });
    pieces.boxed()
}
