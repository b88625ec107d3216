//! Batches: which calls are one, and those that are performed in the foreground.

use std::sync::Arc;

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpMessage, HttpResponse};
use bytes::Bytes;
use futures_util::StreamExt;

use super::submit::{self, Bounds, How, Submission};
use super::{Error, JSON, Shared, gateway};
use crate::dispatch::{self, Replay};
use crate::media::{self, ByteStream, File, Media, Sink};
use crate::model::array::is_space;
use crate::model::{Caller, Rid};
use crate::progress::Progress;

/// White space before an array at most; behind more of it nobody looks for one.
const MOST_SPACE: usize = 64 * 1024;

/// Whether a call may be a batch: a POST, PUT or DELETE on a collection, with a body of JSON. What is a collection of an
/// upstream, its policy has said.
pub fn may_be(req: &ServiceRequest, at_upstream: bool) -> bool {
    submit::has_body(req)
        && is_json(req.headers())
        && if at_upstream { takes_elements(req.method()) } else { is_collection(req) }
}

/// Whether the body's first byte is a bracket. The body is as it was afterwards.
///
/// # Errors
/// When the body does not come.
pub async fn is_array(req: &mut ServiceRequest, bounds: Bounds) -> Result<bool, Error> {
    let mut payload = req.take_payload();
    let (mut seen, mut first) = (Vec::<Bytes>::new(), None);
    while first.is_none() && seen.iter().map(Bytes::len).sum::<usize>() < MOST_SPACE {
        let next = tokio::time::timeout(bounds.read_timeout, payload.next()).await;
        let Some(piece) = next.map_err(|_| Error::too_slow())? else { break };
        let piece = piece.map_err(|error| submit::broken(error, bounds.max_body))?;
        first = piece.iter().copied().find(|byte| !is_space(*byte));
        seen.push(piece);
    }
    let whole = futures_util::stream::iter(seen).map(Ok).chain(payload);
    req.set_payload(Payload::Stream { payload: Box::pin(whole) });
    Ok(first == Some(b'['))
}

/// Whether `Content-Type` says JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    sent.and_then(|sent| sent.parse::<mime::Mime>().ok()).is_some_and(|sent| sent.essence_str() == "application/json")
}

/// Whether the path is one whose objects can be made or, with an id behind it, changed or removed.
fn is_collection(req: &ServiceRequest) -> bool {
    let (routes, path) = (req.resource_map(), req.match_info().as_str());
    if routes.match_pattern(path).is_none_or(|pattern| pattern.ends_with('}')) {
        return false;
    }
    match *req.method() {
        Method::POST => true,
        Method::PUT | Method::DELETE => routes.match_pattern(&format!("{path}/1")).is_some(),
        _ => false,
    }
}

/// Whether a method is one that makes, changes or removes the elements of an array.
fn takes_elements(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::DELETE)
}

/// Performs a batch in the foreground: from a file, as in the background, since nothing may be done of an array that is
/// none at its end. The file has lost its name before the first element is called.
///
/// # Errors
/// What is wrong with the body, or that it cannot be stored.
pub async fn perform(
    shared: &Arc<Shared>,
    req: &mut ServiceRequest,
    caller: Option<Caller>,
    submission: Submission<'_>,
) -> Result<HttpResponse, Error> {
    let (upstream, limit) = (submission.upstream, submission.terms.limit);
    let rid = submit::new_rid(shared)?;
    let spooled = submit::spool(shared, rid, req, How { batch: true, ..How::default() }).await?;
    let mut call = submission.call(shared, req, rid, &spooled)?;
    if let Some(upstream) = upstream {
        // It is not stored: its secrets go on as they came.
        (call.headers, call.secrets) = (gateway::outgoing_headers(shared, req, upstream), None);
    }
    let Some(sink) = spooled.sink else { return Err(Error::internal()) };
    // In a task of its own: a client that hangs up in between must not leave a file.
    let opened = actix_web::rt::spawn(open_once(shared.media.clone(), rid, sink));
    let body = opened.await.map_err(|_| Error::internal())??;
    let body = Some(body.map(|piece| piece.map_err(std::io::Error::other)).boxed());
    let progress = Progress::default();
    let replay = Replay { rid, is_stored: false, call, caller, progress, in_turn: false, report: None, body };
    let end = tokio::time::Instant::now() + limit;
    let answer = shared.dispatch.dispatch(replay).await.map_err(|error| {
        log::error!("a batch was not performed: {error}");
        Error::internal()
    })?;
    // What takes too long breaks off: it has begun with its 200 already.
    let body = futures_util::stream::unfold(answer.body, move |mut body| async move {
        let piece = tokio::time::timeout_at(end, body.next()).await.unwrap_or_else(|_| {
            log::warn!("a batch in the foreground is cut off after {limit:?}");
            Some(Err(dispatch::Error::BrokeOff))
        });
        piece.map(|piece| (piece, body))
    });
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, JSON)).streaming(body))
}

/// Opens a body that has no name any more once this returns.
async fn open_once(media: Arc<dyn Media>, rid: Rid, sink: Box<dyn Sink>) -> media::Result<ByteStream> {
    let file = File::Body(rid);
    sink.commit(file.clone()).await?;
    let body = media.read_body(rid).await;
    media.remove(file).await?;
    body
}
