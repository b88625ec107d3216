//! Accepting a background request: room for it, its body on the disk, its row committed, then the 202.

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpResponse, ResponseError};
use futures_util::StreamExt;
use zeroize::Zeroizing;

use super::asked::{self, Wish};
use super::log_line::Submitted;
use super::{Error, JSON, NO_STORE, RETRY_AFTER, Shared, accept, gateway, key, secret, who};
use crate::dispatch::headers;
use crate::failpoint::{self, Place};
use crate::media::{File, Sink};
use crate::model::array::{self, Splitter};
use crate::model::{Call, Headers, Owner, Rid, is_idempotent, prefer, target};
use crate::routing::Upstream;
use crate::scheduler::{Refusal, Reservation};
use crate::store::{Claimed, Inserted, Key, Known, NewRequest};

/// Bounds of what comes from the network.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of a body.
    pub max_body: u64,
    /// The longest silence within a body.
    pub read_timeout: Duration,
    /// The longest that a whole body may take.
    pub body_timeout: Duration,
}

/// A body that is written but not yet durable.
#[derive(Default)]
pub struct Spooled {
    /// `None` where there were no bytes.
    pub sink: Option<Box<dyn Sink>>,
    /// Of a batch: the number of its elements.
    batch: Option<u64>,
    /// Whether there is a password in it.
    confidential: bool,
    /// A digest of the bytes, where the submission has a key.
    digest: Option<blake3::Hash>,
}

impl Spooled {
    /// The body of another request, copied; it goes on as it was.
    pub fn copied(sink: Box<dyn Sink>) -> Self {
        Self { sink: Some(sink), ..Self::default() }
    }
}

/// What a caller and the policy say of a call.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The longest that it may take.
    pub limit: Duration,
    /// The same, where the caller said so.
    pub asked: Option<Duration>,
    /// Whether it is made again after a crash; `None`: by the method.
    pub repeat: Option<bool>,
    /// The URL that is told of its end.
    pub callback: Option<String>,
}

/// A call that is to be submitted.
#[derive(Clone, Copy)]
pub struct Submission<'a> {
    /// Path and query as sent.
    pub name: &'a str,
    /// The upstream that it is for; `None`: the hosted API.
    pub upstream: Option<&'a Upstream>,
    /// What holds for it.
    pub terms: &'a Terms,
    /// Whether `Prefer` asked for it: the API is not asked for the same again.
    pub preferred: bool,
}

/// A request that was accepted, now or when its key was first used.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// Its id.
    pub rid: Rid,
    /// Whether it was accepted before.
    pub replayed: bool,
}

impl Accepted {
    /// A request that is accepted now.
    pub fn now(rid: Rid) -> Self {
        Self { rid, replayed: false }
    }

    /// The 202.
    pub fn answer(self, shared: &Shared, wish: &Wish) -> HttpResponse {
        let mut response = accepted(shared, self.rid);
        if wish.preferred.is_some() {
            response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
        }
        self.mark(&mut response);
        response
    }

    /// Says in an answer that the request was accepted before.
    pub fn mark(self, response: &mut HttpResponse) {
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
    }
}

/// Takes a place among those that run for a request that is about to be stored, where one is free and nobody waits for it;
/// else gives back its place in the queue.
pub type Begin = Arc<dyn Fn(Reservation) -> Result<Start, Reservation> + Send + Sync>;

/// Runs the request once it is stored; dropped, its place is free again.
pub type Start = Box<dyn FnOnce(Claimed) + Send>;

/// What of `Prefer` was done (RFC 7240 section 3).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

impl Submission<'_> {
    /// The call as it is stored.
    pub fn call(self, shared: &Shared, req: &ServiceRequest, rid: Rid, body: &Spooled) -> Result<Call, Error> {
        let method = req.method().as_str().to_owned();
        let (headers, secrets) = match self.upstream {
            None => (headers::of_call(req.headers()), None),
            Some(upstream) => {
                let (plain, secrets) = headers::split_secrets(&gateway::outgoing_headers(shared, req, upstream));
                (plain, seal(shared, rid, &secrets)?)
            }
        };
        let headers = if self.preferred { without_preference(req, headers) } else { headers };
        let repeatable = self.terms.repeat.unwrap_or_else(|| is_idempotent(&method, &headers));
        Ok(Call {
            method,
            name: self.name.to_owned(),
            headers,
            body: body.sink.as_ref().map(|sink| sink.written()),
            upstream: self.upstream.map(|upstream| upstream.prefix.to_string()),
            secrets,
            timeout: self.terms.asked,
            repeatable,
            confidential: body.confidential,
            batch: body.batch,
            callback: self.terms.callback.clone(),
        })
    }
}

/// Encrypts the headers that are secrets, if there are any.
pub fn seal(shared: &Shared, rid: Rid, secrets: &Headers) -> Result<Option<Vec<u8>>, Error> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let clear = Zeroizing::new(secrets.to_json());
    shared.key.seal(rid, clear.as_bytes()).map(Some).map_err(|error| {
        log::error!("credentials cannot be encrypted: {error}");
        Error::internal()
    })
}

/// The headers less the preferences that are honoured here.
fn without_preference(req: &ServiceRequest, mut headers: Headers) -> Headers {
    headers.remove("prefer");
    if let Some(others) = prefer::others(asked::fields(req)) {
        headers.append("prefer", others.as_bytes());
    }
    headers
}

/// Accepts a call. Whatever is refused leaves neither a row nor a file.
pub async fn submit(
    shared: &Arc<Shared>,
    req: &mut ServiceRequest,
    owner: Owner,
    submission: Submission<'_>,
    batch: bool,
) -> Result<Accepted, Error> {
    let key = key::of(req.headers())?;
    let place = match reserve(shared, &owner) {
        Ok(place) => place,
        Err(refused) => return replay(shared, req, &owner, submission.name, key.as_deref()).await?.ok_or(refused),
    };
    let rid = new_rid(shared)?;
    let how = How { batch, digested: key.is_some(), hosted: submission.upstream.is_none() };
    let body = spool(shared, rid, req, how).await?;
    let call = submission.call(shared, req, rid, &body)?;
    let key = key.map(|key| of_call(key, &call, &body));
    let new = Arc::new(NewRequest { rid, owner, vouched: None, call, key, created: shared.clock.now() });
    keep(shared, new, body, place).await
}

/// Accepts a call without a body of a caller who is only remembered; `None`, and nothing left, where it is refused or the
/// caller is no longer who is remembered.
pub async fn submit_remembered(
    shared: &Arc<Shared>,
    req: &ServiceRequest,
    known: Arc<Known>,
    submission: Submission<'_>,
) -> Option<Result<Accepted, Error>> {
    let owner = Owner::clone(&known.owner);
    let key = key::of(req.headers()).ok()?;
    let place = reserve(shared, &owner).ok()?;
    let rid = new_rid(shared).ok()?;
    let body = Spooled::default();
    let call = submission.call(shared, req, rid, &body).ok()?;
    let key = key.map(|key| of_call(key, &call, &body));
    let new = Arc::new(NewRequest { rid, owner, vouched: Some(known), call, key, created: shared.clock.now() });
    match keep(shared, new, body, place).await {
        Err(error) if error.status_code() == StatusCode::UNAUTHORIZED => None,
        kept => Some(kept),
    }
}

/// A key with the call that it came with.
fn of_call(text: String, call: &Call, body: &Spooled) -> Key {
    key::of_call(text, &call.method, &call.target(), body.digest.as_ref().unwrap_or(key::of_nothing()))
}

/// The request that a key was used for before, also where there is no place for another.
async fn replay(
    shared: &Shared,
    req: &mut ServiceRequest,
    owner: &Owner,
    name: &str,
    key: Option<&str>,
) -> Result<Option<Accepted>, Error> {
    let Some(key) = key else { return Ok(None) };
    let Some((rid, fingerprint)) = shared.store.keyed(owner, key).await? else { return Ok(None) };
    let mut digest = blake3::Hasher::new();
    let mut payload = req.take_payload();
    while let Some(piece) = payload.next().await {
        digest.update(&piece.map_err(|error| broken(error, shared.bounds.max_body))?);
    }
    let same = key::of_call(key.to_owned(), req.method().as_str(), &target::strip(name), &digest.finalize());
    if same.fingerprint == fingerprint { Ok(Some(Accepted { rid, replayed: true })) } else { Err(key::taken()) }
}

/// Whether a call may have a body.
pub fn has_body(req: &ServiceRequest) -> bool {
    let headers = req.headers();
    headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING)
}

/// A place in the queue for a call that fits onto the disk.
pub fn reserve(shared: &Shared, owner: &Owner) -> Result<Reservation, Error> {
    let place = shared.scheduler.reserve(owner.clone()).map_err(refused)?;
    if shared.media.is_full() { Err(Error::no_space()) } else { Ok(place) }
}

/// A new request's id.
pub fn new_rid(shared: &Shared) -> Result<Rid, Error> {
    Ok(shared.store.new_rid()?)
}

/// Keeps a request. A client that hangs up drops the caller's future, and nothing may be torn: what follows upon the row
/// goes along with it, and a body is made durable in a task of its own.
pub async fn keep(
    shared: &Arc<Shared>,
    new: Arc<NewRequest>,
    body: Spooled,
    place: Reservation,
) -> Result<Accepted, Error> {
    let rid = new.rid;
    let inserted = match body.sink {
        None => insert(shared, new, place).await?,
        Some(sink) => {
            let stored = actix_web::rt::spawn(store(shared.clone(), new, sink, place));
            stored.await.map_err(|_| Error::internal())??
        }
    };
    match inserted {
        Inserted::Stored => Ok(Accepted::now(rid)),
        Inserted::Known(rid) => Ok(Accepted { rid, replayed: true }),
        Inserted::KeyTaken => Err(key::taken()),
        Inserted::Stranger => Err(who::challenge("The user is gone; sign in as another.")),
    }
}

/// Body durable, row committed, workers woken, in that order.
async fn store(
    shared: Arc<Shared>,
    new: Arc<NewRequest>,
    body: Box<dyn Sink>,
    place: Reservation,
) -> Result<Inserted, Error> {
    let rid = new.rid;
    body.commit(File::Body(rid)).await?;
    let inserted = insert(&shared, new, place).await;
    if !matches!(inserted, Ok(Inserted::Stored))
        && let Err(error) = shared.media.remove(File::Body(rid)).await
    {
        log::warn!("a body is left over for the sweep: {error}");
    }
    inserted
}

/// Row committed, workers woken. A call that may be made twice is a free worker's at once. Of any other a crash in between
/// would leave a running row, and nobody could say that it had not begun.
async fn insert(shared: &Arc<Shared>, new: Arc<NewRequest>, place: Reservation) -> Result<Inserted, Error> {
    let rid = new.rid;
    failpoint::reach(Place::BeforeInsert);
    let (shared_too, created) = (shared.clone(), new.created);
    let stored = move || {
        failpoint::reach(Place::AfterInsert);
        shared_too.watchers.submitted(rid);
        shared_too.stats.submitted(created);
    };
    let begins = if new.call.repeatable { (shared.begin)(place) } else { Err(place) };
    match begins {
        Ok(start) => {
            let begun = Box::new(move |claimed| {
                stored();
                start(claimed);
            });
            let now = shared.clock.now();
            Ok(shared.store.begin(new, now, (shared.lease)(now), begun).await?)
        }
        Err(place) => {
            let queued = Box::new(move || {
                stored();
                place.commit();
            });
            Ok(shared.store.insert_then(new, queued).await?)
        }
    }
}

/// What is looked at while a body is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Whether it is a batch: what is no array leaves nothing.
    pub batch: bool,
    /// Whether its digest is asked for.
    pub digested: bool,
    /// Whether it is for the hosted API: then a password in it is looked for.
    pub hosted: bool,
}

/// Streams the body, which is bounded already, to the disk; no bytes, no file.
pub async fn spool(shared: &Shared, rid: Rid, req: &mut ServiceRequest, how: How) -> Result<Spooled, Error> {
    let mut payload = req.take_payload();
    if matches!(payload, Payload::None) {
        return Ok(Spooled::default());
    }
    let mut sink = shared.media.write_body(rid);
    let mut splitter = how.batch.then(Splitter::default);
    let mut digest = how.digested.then(blake3::Hasher::new);
    let mut search = how.hosted.then(secret::Search::default);
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(|error| broken(error, shared.bounds.max_body))?;
        if let Some(splitter) = &mut splitter {
            splitter.push(&piece, drop).map_err(|error| no_array(&error))?;
        }
        if let Some(digest) = &mut digest {
            digest.update(&piece);
        }
        if let Some(search) = &mut search {
            search.push(&piece);
        }
        sink.write(piece).await?;
    }
    let batch = splitter.map(Splitter::end).transpose().map_err(|error| no_array(&error))?;
    Ok(Spooled {
        sink: (sink.written() > 0).then_some(sink),
        batch,
        confidential: search.is_some_and(|search| search.found()),
        digest: digest.map(|digest| digest.finalize()),
    })
}

fn no_array(error: &array::Error) -> Error {
    Error::bad_request(format!("The body is not the JSON array that it begins as: {error}. Nothing was done."))
        .with(header::CONNECTION, HeaderValue::from_static("close"))
}

/// Holds a call to the bounds: its body breaks off where it is too long, or too slow.
pub fn bound_body(req: &mut ServiceRequest, bounds: Bounds) -> Result<(), Error> {
    check_length(req, bounds.max_body)?;
    if has_body(req) {
        let end = tokio::time::Instant::now() + bounds.body_timeout;
        let bounded =
            futures_util::stream::unfold((req.take_payload(), 0), move |(mut payload, received)| async move {
                let next = tokio::time::timeout(bounds.read_timeout, payload.next());
                let piece = match tokio::time::timeout_at(end, next).await {
                    Ok(Ok(piece)) => piece?,
                    _ => Err(PayloadError::Io(std::io::ErrorKind::TimedOut.into())),
                };
                let received = received + piece.as_ref().map_or(0, |piece| piece.len() as u64);
                let piece = if received > bounds.max_body { Err(PayloadError::Overflow) } else { piece };
                Some((piece, (payload, received)))
            });
        // Fused: whoever reads a body may look again behind its end.
        req.set_payload(Payload::Stream { payload: Box::pin(bounded.fuse()) });
    }
    Ok(())
}

fn check_length(req: &ServiceRequest, max: u64) -> Result<(), Error> {
    let length = req.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max) { Err(too_large(max)) } else { Ok(()) }
}

/// The 202.
pub fn accepted(shared: &Shared, rid: Rid) -> HttpResponse {
    // Put together from its parts: each submission has it.
    let mut digits = [0; 32];
    let digits = rid.encode(&mut digits);
    let body = ["{\"request\": \"", digits, "\"}"].concat();
    let mut response = HttpResponse::with_body(StatusCode::ACCEPTED, BoxBody::new(body));
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from([&shared.mount, "/bgrs/", digits].concat()) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::CONTENT_TYPE, JSON);
    response.extensions_mut().insert(Submitted(rid));
    response
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::ShareFull => Error::new(
            StatusCode::TOO_MANY_REQUESTS,
            "You have as many background requests waiting or running as one user may; try again when some have ended.",
        )
        .retry_after(5),
        Refusal::QueueFull => {
            Error::new(StatusCode::SERVICE_UNAVAILABLE, "The queue is full; try again when some requests have ended.")
                .retry_after(5)
        }
        Refusal::Closed => accept::shutting_down(),
    }
}

fn too_large(max: u64) -> Error {
    let description = format!("The body is larger than the {max} bytes that this server stores; send a smaller one.");
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, description).with(header::CONNECTION, HeaderValue::from_static("close"))
}

/// The answer to a body that did not come to its end.
pub fn broken(error: PayloadError, max: u64) -> Error {
    match error {
        PayloadError::Overflow => return too_large(max),
        PayloadError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => return Error::too_slow(),
        error => log::debug!("a body broke off: {error}"),
    }
    Error::bad_request("The body broke off or was malformed; send it again.")
        .with(header::CONNECTION, HeaderValue::from_static("close"))
}
