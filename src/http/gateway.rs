//! A foreground call to an upstream: passed on as it comes, its answer passed back as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use super::{Error, Shared, file, origin, session, submit};
use crate::dispatch;
use crate::dispatch::headers::{self, Gather};
use crate::dispatch::upstream::{Body, Outgoing, Received, nothing, streamed};
use crate::model::target;
use crate::routing::{Auth, Upstream};

/// Pieces of a body between the two connections: back-pressure on the caller.
const PIECES: usize = 4;

/// Bytes that are read at once from a connection that speaks another protocol.
const READ: usize = 16 * 1024;

/// The name under which the server stands in an answer's `Via`: its own answers have none.
const VIA: HeaderValue = HeaderValue::from_static("1.1 bgrs-server");

/// An upstream's answer that is on its way.
pub type Pending = BoxFuture<'static, Result<http::Response<Received>, dispatch::Error>>;

/// A call that an upstream has begun to get.
pub struct Sent {
    /// Its answer.
    pub answer: Pending,
    /// Returns when the whole body has been passed on; `None`: there is none.
    pub uploaded: Option<oneshot::Receiver<()>>,
    /// Whether it asks for another protocol.
    pub upgrade: bool,
    /// Becomes true where the caller stops to send the body: then it is not the upstream that is at fault.
    pub stalled: Arc<AtomicBool>,
}

/// Begins to pass a call on.
pub fn send(shared: &Shared, req: &mut ServiceRequest, upstream: &Upstream, name: &str) -> Result<Sent, Error> {
    let headers = outgoing_headers(shared, req, upstream, http::HeaderMap::with_capacity(16));
    let protocol = websocket(req);
    let stalled = Arc::new(AtomicBool::new(false));
    let (body, length, uploaded) = match protocol {
        Some(_) => (nothing(), None, None),
        None => body(req, shared.bounds.read_timeout, stalled.clone()),
    };
    let target = target::strip(name);
    let method = req.method().as_str();
    let chunked = uploaded.is_some() && length.is_none();
    let upgrade = protocol.map(HeaderValue::as_bytes);
    let outgoing = Outgoing { method, target: &target, headers, length, chunked, upgrade };
    let answer = shared.client.send(upstream, outgoing, body).map_err(|error| no_answer(&error))?;
    Ok(Sent { answer: Box::pin(answer), uploaded, upgrade: protocol.is_some(), stalled })
}

/// Passes a call on and its answer back.
pub async fn pass(
    req: &mut ServiceRequest,
    sent: Sent,
    limit: Duration,
    begun: Instant,
) -> Result<HttpResponse, Error> {
    let Sent { answer, upgrade, stalled, .. } = sent;
    match tokio::time::timeout(limit.saturating_sub(begun.elapsed()), answer).await {
        Ok(Ok(answer)) if upgrade && answer.status() == http::StatusCode::SWITCHING_PROTOCOLS => {
            Box::pin(switch(req, answer)).await
        }
        Ok(answer) => answered(req, answer, &stalled, limit),
        Err(_) => Err(timed_out(limit)),
    }
}

/// Passes back what became of a call.
pub fn answered(
    req: &ServiceRequest,
    answer: Result<http::Response<Received>, dispatch::Error>,
    stalled: &AtomicBool,
    limit: Duration,
) -> Result<HttpResponse, Error> {
    match answer {
        Ok(answer) => Ok(pass_back(req.method(), answer, limit)),
        Err(_) if stalled.load(Ordering::Relaxed) => Err(Error::too_slow()),
        Err(error) => Err(no_answer(&error)),
    }
}

/// A call's headers as the upstream gets them, gathered in `headers`.
pub fn outgoing_headers<H: Gather>(shared: &Shared, req: &ServiceRequest, upstream: &Upstream, mut headers: H) -> H {
    headers::of_forwarded(req.headers(), origin::of(req, &shared.trusted_proxies), &mut headers);
    withhold(&mut headers, upstream);
    headers
}

/// Takes out the credentials that are this server's.
pub fn withhold(headers: &mut impl Gather, upstream: &Upstream) {
    if upstream.auth == Auth::Local {
        headers.remove("authorization");
    }
}

/// The refusal of a path that would climb out of what the upstream is to show.
pub fn check_path(name: &str) -> Result<(), Error> {
    if crate::routing::path::climbs(target::path(name)) {
        return Err(Error::bad_request("The path has a .. segment; send the path that it leads to."));
    }
    Ok(())
}

/// The protocol that a call asks for, where it is one that can be passed on: of other upgrades the connection's bytes
/// cannot be had, and the call is passed on without (RFC 9110 section 7.8).
fn websocket(req: &ServiceRequest) -> Option<&'static HeaderValue> {
    static WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
    let asked = req.headers().get(header::UPGRADE)?.to_str().ok()?;
    let is_upgrade = req.head().connection_type() == ConnectionType::Upgrade && *req.method() == Method::GET;
    (is_upgrade && asked.trim().eq_ignore_ascii_case("websocket")).then_some(&WEBSOCKET)
}

/// The body, on its way to the upstream as it comes.
fn body(
    req: &mut ServiceRequest,
    silence: Duration,
    stalled: Arc<AtomicBool>,
) -> (Body, Option<u64>, Option<oneshot::Receiver<()>>) {
    if !submit::has_body(req) {
        return (nothing(), None, None);
    }
    let length = req.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut payload = req.take_payload();
    let (pieces, received) = mpsc::channel(PIECES);
    let (done, uploaded) = oneshot::channel();
    actix_web::rt::spawn(async move {
        loop {
            let next = tokio::time::timeout(silence, payload.next());
            let piece = tokio::select! {
                () = pieces.closed() => return,
                piece = next => piece,
            };
            let piece = match piece {
                Ok(None) => break,
                Ok(Some(Ok(piece))) => Ok(piece),
                Ok(Some(Err(error))) => Err(std::io::Error::other(error.to_string())),
                Err(_) => {
                    stalled.store(true, Ordering::Relaxed);
                    Err(std::io::ErrorKind::TimedOut.into())
                }
            };
            let broke = piece.is_err();
            if pieces.send(piece).await.is_err() {
                return;
            }
            if broke {
                // `done` goes no sooner than the call: a body that broke off is not one that was sent.
                return pieces.closed().await;
            }
        }
        let _ = done.send(());
    });
    let stream = futures_util::stream::unfold(received, |mut received| async move {
        received.recv().await.map(|piece| (piece, received))
    });
    (streamed(stream), length, Some(uploaded))
}

/// Passes an answer back as it comes.
fn pass_back(method: &Method, answer: http::Response<Received>, silence: Duration) -> HttpResponse {
    let (head, body) = answer.into_parts();
    let Ok(status) = StatusCode::from_u16(head.status.as_u16()) else {
        return no_answer(&dispatch::Error::BrokeOff).error_response();
    };
    let mut response = HttpResponse::build(status);
    let length = add_headers(&mut response, &head.headers);
    let is_empty = *method == Method::HEAD || status == StatusCode::NOT_MODIFIED || status == StatusCode::NO_CONTENT;
    match length {
        Some(length) if is_empty => {
            response.no_chunking(length);
            response.body(file::Sized(length))
        }
        // Without a length of its own: how long a body would be is not known.
        None if is_empty => response.body(actix_web::body::None::new()),
        Some(length) => {
            response.no_chunking(length);
            response.body(Passed::new(body, BodySize::Sized(length), silence))
        }
        None => response.body(Passed::new(body, BodySize::Stream, silence)),
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
            if name != header::SET_COOKIE || !value.as_bytes().trim_ascii_start().starts_with(session::PAIR) {
                response.append_header((name, value));
            }
        }
    }
    response.append_header((header::VIA, VIA));
    length
}

/// An answer's body: an error in it closes the connection, so that no client takes a part for the whole. Silence is an end
/// too, and not a good one.
struct Passed {
    body: Received,
    size: BodySize,
    silence: Duration,
    /// Runs while nothing comes.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Passed {
    fn new(body: Received, size: BodySize, silence: Duration) -> Self {
        Self { body, size, silence, waiting: None }
    }
}

impl MessageBody for Passed {
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
async fn switch(req: &mut ServiceRequest, mut answer: http::Response<Received>) -> Result<HttpResponse, Error> {
    let upgraded = hyper::upgrade::on(&mut answer).await.map_err(|error| {
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
