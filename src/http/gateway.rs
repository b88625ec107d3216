//! A foreground call to an upstream: passed on as it comes, its answer passed back as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::{HttpMessage, HttpResponse, HttpResponseBuilder, ResponseError};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use hyper::body::Body as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Sleep;

use super::upload::{self, Broken, Passed, Upload};
use super::{Error, Shared, file, origin, session, submit};
use crate::dispatch;
use crate::dispatch::headers::{self, Gather};
use crate::dispatch::upstream::{Answer, Outgoing, Over, Received, nothing};
use crate::model::{Headers, target};
use crate::routing::{Auth, Upstream};

/// How soon a call has to fail for its connection to have been closed before it came, and not because of it.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Bytes that are read at once from a connection that speaks another protocol.
const READ: usize = 16 * 1024;

/// The name under which the server stands in an answer's `Via`: its own answers have none.
const VIA: HeaderValue = HeaderValue::from_static("1.1 bgrs-server");

/// An upstream's answer that is on its way.
pub type Pending = BoxFuture<'static, Result<Answer, dispatch::Error>>;

/// Where a call goes.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// The server that it came to.
    pub shared: &'a Shared,
    /// The upstream that it is for.
    pub upstream: &'a Upstream,
    /// Path and query as sent.
    pub name: &'a str,
}

/// A call that an upstream has begun to get.
pub struct Sent {
    /// Its answer.
    pub answer: Pending,
    /// Its body, while it is passed on; `None`: there is none, or it has come to its end.
    pub upload: Option<Upload>,
    /// Whether it asks for another protocol.
    pub upgrade: bool,
    /// Whether it is sent once more where the connection that it took turns out to be closed.
    pub again: bool,
}

/// When the time of a call is over.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// When it began.
    pub begun: Instant,
    /// How long it may take.
    pub limit: Duration,
}

impl Limit {
    /// From now on.
    pub fn from_now(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit }
    }

    /// Sleeps until `part` of its time is over.
    fn sleep(&self, part: Duration) -> Sleep {
        match self.begun.checked_add(part) {
            Some(end) => tokio::time::sleep_until(end.into()),
            None => tokio::time::sleep(part),
        }
    }

    fn is_over(&self) -> bool {
        self.begun.elapsed() >= self.limit
    }
}

/// Begins to pass a call on; `now` is the present.
pub fn send(way: Way<'_>, req: &mut ServiceRequest, now: Instant) -> Result<Sent, Error> {
    // What has no body and may be done twice (RFC 9110 section 9.2.2): upstreams close connections that are idle, and one
    // may do so at the moment at which a call takes its connection.
    let again = req.method().is_idempotent() && !submit::has_body(req);
    Ok(Sent { again, ..send_over(way, req, Over::Any(now))? })
}

fn send_over(way: Way<'_>, req: &mut ServiceRequest, over: Over) -> Result<Sent, Error> {
    let Way { shared, upstream, name } = way;
    let mut headers = http::HeaderMap::with_capacity(16);
    gather_headers(shared, req, upstream, upstream.preserve_host, &mut headers);
    let protocol = websocket(req);
    let body = if protocol.is_some() { None } else { upload::of(req, shared.bounds.read_timeout) };
    let (body, length, upload) = match body {
        Some((body, length, upload)) => (body, length, Some(upload)),
        None => (nothing(), None, None),
    };
    let target = target::strip(name);
    let method = req.method().as_str();
    let chunked = upload.is_some() && length.is_none();
    let upgrade = protocol.map(HeaderValue::as_bytes);
    let outgoing = Outgoing { method, target: &target, headers, length, chunked, upgrade, over };
    let answer = shared.client.send(upstream, outgoing, body).map_err(|error| no_answer(&error))?;
    Ok(Sent { answer: Box::pin(answer), upload, upgrade: protocol.is_some(), again: false })
}

/// Passes a call on and its answer back.
pub async fn pass(way: Way<'_>, req: &mut ServiceRequest, limit: Limit) -> Result<HttpResponse, Error> {
    let sent = send(way, req, limit.begun)?;
    finish(way, req, sent, limit).await
}

/// Passes the answer of a call back that is under way.
pub async fn finish(
    way: Way<'_>,
    req: &mut ServiceRequest,
    mut sent: Sent,
    limit: Limit,
) -> Result<HttpResponse, Error> {
    match answer(way, req, &mut sent, None, limit).await? {
        Some(answer) => back(req, &sent, answer, limit).await,
        // Not without a moment that it could be late for.
        None => Err(timed_out(limit.limit)),
    }
}

/// Waits for the upstream's answer while the body is passed on. `None`: there is none yet after `late`, and the whole body
/// is passed on.
pub async fn answer(
    way: Way<'_>,
    req: &mut ServiceRequest,
    sent: &mut Sent,
    late: Option<Duration>,
    limit: Limit,
) -> Result<Option<Answer>, Error> {
    let first = late.map_or(limit.limit, |late| late.min(limit.limit));
    // One timer, whether there is a rescue or not: a call that is fast is to pay nothing for it.
    let mut timer = std::pin::pin!(limit.sleep(first));
    let mut is_late = false;
    loop {
        tokio::select! {
            biased;
            passed = upload::pass(&mut sent.upload) => {
                sent.upload = None;
                let passed = passed.map_err(|broken| match broken {
                    Broken::Off(error) => submit::broken(error, way.shared.bounds.max_body),
                    Broken::Slow => Error::too_slow(),
                })?;
                // Late, unless the answer is there by now.
                if is_late && passed == Passed::Whole {
                    timer.set(tokio::time::sleep(Duration::ZERO));
                }
            }
            answer = sent.answer.as_mut() => match answer {
                Ok(answer) => {
                    // An upstream may answer before it has all of the body: it gets more as long as its answer lasts.
                    if let Some(upload) = sent.upload.take() {
                        actix_web::rt::spawn(upload);
                    }
                    return Ok(Some(answer));
                }
                Err(dispatch::Error::Stale(_)) if sent.again && limit.begun.elapsed() < AT_ONCE => {
                    *sent = send_over(way, req, Over::New)?;
                }
                Err(error) => return Err(no_answer(&error)),
            },
            () = timer.as_mut() => {
                if limit.is_over() {
                    return Err(timed_out(limit.limit));
                }
                if sent.upload.is_none() {
                    return Ok(None);
                }
                // A caller who is still sending is not waiting for an answer yet.
                is_late = true;
                timer.set(limit.sleep(limit.limit));
            }
        }
    }
}

/// Passes an answer back.
pub async fn back(req: &mut ServiceRequest, sent: &Sent, answer: Answer, limit: Limit) -> Result<HttpResponse, Error> {
    if sent.upgrade && answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        return Box::pin(switch(req, answer)).await;
    }
    Ok(pass_back(req.method(), *answer, limit.limit))
}

/// A call's headers as they are stored for the upstream.
pub fn outgoing_headers(shared: &Shared, req: &ServiceRequest, upstream: &Upstream) -> Headers {
    let mut headers = Headers::default();
    gather_headers(shared, req, upstream, true, &mut headers);
    headers
}

/// Gathers them, with the caller's `Host` or without: it is in vain where the upstream gets its own.
fn gather_headers(
    shared: &Shared,
    req: &ServiceRequest,
    upstream: &Upstream,
    with_host: bool,
    headers: &mut impl Gather,
) {
    let (origin, own) = (origin::of(req, &shared.trusted_proxies), withheld(upstream));
    let is_withheld = |name: &str| own == Some(name) || name == "host" && !with_host;
    headers::of_forwarded(req.headers(), origin, is_withheld, headers);
}

/// Which of a call's fields is not passed on: the credentials, where they are this server's.
pub fn withheld(upstream: &Upstream) -> Option<&'static str> {
    (upstream.auth == Auth::Local).then_some("authorization")
}

/// The refusal of a path that would climb out of what the upstream is to show.
pub fn check_path(name: &str) -> Result<(), Error> {
    if crate::routing::path::climbs(target::path(name)) {
        return Err(Error::bad_request("The path has a .. segment; send the path that it leads to."));
    }
    Ok(())
}

/// Whether a call asks for another protocol that can be passed on.
pub fn switches(req: &ServiceRequest) -> bool {
    websocket(req).is_some()
}

/// The protocol that a call asks for, where it is one that can be passed on: of other upgrades the connection's bytes
/// cannot be had, and the call is passed on without (RFC 9110 section 7.8).
fn websocket(req: &ServiceRequest) -> Option<&'static HeaderValue> {
    static WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
    let asked = req.headers().get(header::UPGRADE)?.to_str().ok()?;
    let is_upgrade = req.head().connection_type() == ConnectionType::Upgrade && *req.method() == Method::GET;
    (is_upgrade && asked.trim().eq_ignore_ascii_case("websocket")).then_some(&WEBSOCKET)
}

/// Passes an answer back as it comes.
fn pass_back(method: &Method, answer: http::Response<Received>, silence: Duration) -> HttpResponse {
    let (head, body) = answer.into_parts();
    let Ok(status) = StatusCode::from_u16(head.status.as_u16()) else {
        return no_answer(&dispatch::Error::BrokeOff).error_response();
    };
    let mut response = HttpResponse::build(status);
    let length = add_headers(&mut response, &head.headers);
    match length {
        Some(length) if *method == Method::HEAD => {
            response.no_chunking(length);
            response.body(file::Sized(length))
        }
        // Without a length of its own: how long a body would be is not known.
        None if *method == Method::HEAD => response.body(actix_web::body::None::new()),
        // These never have a body. A 304 may say how long that of a 200 would be, a 204 may not (RFC 9110 section 8.6).
        _ if status == StatusCode::NO_CONTENT => response.body(actix_web::body::None::new()),
        _ if status == StatusCode::NOT_MODIFIED => {
            if let Some(length) = length {
                response.insert_header((header::CONTENT_LENGTH, length));
            }
            response.body(actix_web::body::None::new())
        }
        Some(length) => {
            response.no_chunking(length);
            response.body(Body::new(body, BodySize::Sized(length), silence))
        }
        None => response.body(Body::new(body, BodySize::Stream, silence)),
    }
}

/// Adds what is end-to-end of an answer's headers, and returns its length.
fn add_headers(response: &mut HttpResponseBuilder, headers: &http::HeaderMap) -> Option<u64> {
    let mut length = None;
    for (name, value) in headers::of_passing(headers) {
        if name == "content-length" {
            length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        } else if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
            // Who is signed in on the dashboard is not an upstream's to say.
            if name != header::SET_COOKIE || !session::is_set_by(value.as_bytes()) {
                response.append_header((name, value));
            }
        }
    }
    response.append_header((header::VIA, VIA));
    length
}

/// An answer's body: an error in it closes the connection, so that no client takes a part for the whole. Silence is an end
/// too, and not a good one.
struct Body {
    body: Received,
    size: BodySize,
    silence: Duration,
    /// Runs while nothing comes.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Body {
    fn new(body: Received, size: BodySize, silence: Duration) -> Self {
        Self { body, size, silence, waiting: None }
    }
}

impl MessageBody for Body {
    type Error = dispatch::Error;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, dispatch::Error>>> {
        while let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = None;
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                None => return Poll::Ready(None),
                Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(data))),
                // Trailers: the server's side of the connection cannot say them.
                Some(Ok(Err(_))) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(dispatch::upstream::broke_off(&error)))),
            }
        }
        let silence = self.silence;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        waiting.as_mut().poll(cx).map(|()| Some(Err(dispatch::Error::BrokeOff)))
    }
}

/// Passes the bytes of another protocol both ways, until either side ends.
async fn switch(req: &mut ServiceRequest, mut answer: Answer) -> Result<HttpResponse, Error> {
    let upgraded = hyper::upgrade::on(&mut *answer).await.map_err(|error| {
        log::warn!("an upstream did not change the protocol after all: {error}");
        no_answer(&dispatch::Error::BrokeOff)
    })?;
    let (mut from_upstream, mut to_upstream) = tokio::io::split(hyper_util::rt::TokioIo::new(upgraded));
    let mut payload = req.take_payload();
    actix_web::rt::spawn(async move {
        while let Some(Ok(piece)) = payload.next().await {
            if to_upstream.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to_upstream.shutdown().await;
    });
    let mut response = HttpResponse::SwitchingProtocols();
    add_headers(&mut response, answer.headers());
    response.upgrade("websocket");
    let pieces = futures_util::stream::poll_fn({
        let mut buffer = bytes::BytesMut::new();
        move |cx| {
            buffer.reserve(READ);
            let read = std::pin::pin!(from_upstream.read_buf(&mut buffer)).poll(cx);
            read.map(|read| match read {
                Ok(0) => None,
                Ok(_) => Some(Ok(buffer.split().freeze())),
                Err(error) => Some(Err(error)),
            })
        }
    });
    Ok(response.streaming(pieces))
}

/// The answer where the upstream gave none.
pub fn no_answer(error: &dispatch::Error) -> Error {
    match error {
        dispatch::Error::Malformed => return Error::bad_request("The call cannot be passed on: it is malformed."),
        error => log::warn!("no answer to pass back: {error}"),
    }
    let description = match error {
        dispatch::Error::Unreachable(_) => "The API behind this server cannot be reached; try again.",
        _ => "The API behind this server broke off before it had answered; try again.",
    };
    Error::new(StatusCode::BAD_GATEWAY, description)
}

/// The answer where the upstream took too long.
pub fn timed_out(limit: Duration) -> Error {
    let limit = humantime::format_duration(limit);
    let description = format!("The API behind this server has not answered within {limit}; try it with ?bgrs=yes.");
    Error::new(StatusCode::GATEWAY_TIMEOUT, description)
}
