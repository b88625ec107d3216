//! The hosted API, called in this process: dedicated threads, each with an App of its own.
//!
//! App services, requests and payloads are `!Send`: each thread builds its own App and takes plain data over a
//! channel. It holds the API's routes alone, so nothing recurses and nothing is accepted twice.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_http::Request;
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{AppConfig, Payload, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri, Version};
use actix_web::{App, HttpMessage, web};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};

use super::{Dispatch, Error, Replay, Response, headers};
use crate::priority;

/// Pieces of an answer between the API and the disk: back-pressure on the handler.
const PIECES: usize = 4;

/// Registers the API's routes on an App.
pub type Routes = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// Marks a call that runs in the background; handlers find it in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Background(pub crate::model::Rid);

/// Calls the hosted API.
pub struct InProcess {
    threads: Vec<Thread>,
}

struct Thread {
    jobs: mpsc::UnboundedSender<Job>,
    /// Calls under way on it: the next goes where the fewest are.
    busy: Arc<AtomicUsize>,
}

struct Job {
    replay: Replay,
    reply: oneshot::Sender<Result<Response, Error>>,
    _busy: Busy,
}

struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InProcess {
    /// Starts `threads` threads, each with an App of these routes.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(threads: usize, routes: &Routes) -> std::io::Result<Self> {
        let threads = (0..threads).map(|number| Thread::start(number, routes.clone())).collect::<Result<_, _>>()?;
        Ok(Self { threads })
    }
}

impl InProcess {
    fn idlest(&self) -> Option<&Thread> {
        self.threads.iter().min_by_key(|thread| thread.busy.load(Ordering::Relaxed))
    }

    /// The same for each call of a request: on one thread calls begin in turn.
    fn thread_of(&self, rid: crate::model::Rid) -> Option<&Thread> {
        let number = BuildHasherDefault::<DefaultHasher>::default().hash_one(rid);
        self.threads.get(usize::try_from(number % self.threads.len().max(1) as u64).unwrap_or(0))
    }
}

impl Thread {
    fn start(number: usize, routes: Routes) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::unbounded_channel();
        std::thread::Builder::new().name(format!("bgrs-api-{number}")).spawn(move || {
            priority::lower();
            match actix_web::rt::Runtime::new() {
                Ok(runtime) => runtime.block_on(serve(routes, waiting)),
                Err(error) => log::error!("a thread for background calls did not start: {error}"),
            }
        })?;
        Ok(Self { jobs, busy: Arc::default() })
    }
}

#[async_trait]
impl Dispatch for InProcess {
    async fn dispatch(&self, replay: Replay) -> Result<Response, Error> {
        let thread = if replay.in_turn { self.thread_of(replay.rid) } else { self.idlest() }.ok_or(Error::Stopped)?;
        thread.busy.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let job = Job { replay, reply, _busy: Busy(thread.busy.clone()) };
        thread.jobs.send(job).map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }
}

async fn serve(routes: Routes, mut waiting: mpsc::UnboundedReceiver<Job>) {
    let app = App::new().configure(|cfg| routes(cfg));
    let factory = app.into_factory();
    let Ok(service) = factory.new_service(AppConfig::default()).await else {
        return log::error!("the API's App did not start");
    };
    let service = Rc::new(service);
    while let Some(job) = waiting.recv().await {
        let service = service.clone();
        actix_web::rt::spawn(perform(service, job));
    }
}

/// Performs one call; gives it up as soon as nobody waits for its answer any more.
async fn perform<S, B>(service: Rc<S>, job: Job)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    let Job { replay, mut reply, _busy } = job;
    let head_only = replay.call.method == "HEAD";
    let call = async { service.call(request(replay)?).await.map_err(|error| unanswerable(&error)) };
    let answered = tokio::select! {
        () = reply.closed() => return,
        answered = AssertUnwindSafe(call).catch_unwind() => answered.unwrap_or(Err(Error::Panicked)),
    };
    let response = match answered {
        Ok(response) => response,
        Err(error) => {
            let _ = reply.send(Err(error));
            return;
        }
    };
    let (status, kept) = (response.status().as_u16(), headers::of_answer(response.headers()));
    let body = response.into_body().boxed();
    let empty = head_only || matches!(body.size(), BodySize::None | BodySize::Sized(0));
    let answer = |body| Response { status, headers: kept, length: None, body };
    // Head and body in one go where both are there: each piece more wakes the other thread once more.
    let body = match body.try_into_bytes() {
        Ok(bytes) => {
            let pieces = (!empty).then_some(Ok(bytes));
            let _ = reply.send(Ok(answer(futures_util::stream::iter(pieces).boxed())));
            return;
        }
        Err(body) => body,
    };
    let (pieces, received) = mpsc::channel(PIECES);
    let stream = futures_util::stream::unfold(received, |mut received| async move {
        received.recv().await.map(|piece| (piece, received))
    });
    if reply.send(Ok(answer(stream.boxed()))).is_ok() && !empty {
        send_body(body, pieces).await;
    }
}

async fn send_body(body: BoxBody, pieces: mpsc::Sender<Result<Bytes, Error>>) {
    let mut body = std::pin::pin!(body);
    loop {
        let next = std::future::poll_fn(|cx| body.as_mut().poll_next(cx));
        let piece = tokio::select! {
            () = pieces.closed() => return,
            piece = AssertUnwindSafe(next).catch_unwind() => piece,
        };
        let piece = match piece {
            Ok(None) => return,
            Ok(Some(Ok(bytes))) => Ok(bytes),
            Ok(Some(Err(error))) => {
                log::error!("an answer broke off: {error}");
                Err(Error::BrokeOff)
            }
            Err(_) => Err(Error::Panicked),
        };
        let ended = piece.is_err();
        if pieces.send(piece).await.is_err() || ended {
            return;
        }
    }
}

/// Builds the request anew. It may come from a pool, with the last one's head: everything is set.
fn request(replay: Replay) -> Result<Request, Error> {
    let Replay { rid, is_stored: _, call, caller, progress, body, in_turn: _, report: _ } = replay;
    let caller = caller.ok_or(Error::Malformed)?;
    let length = call.body;
    let payload = body.map_or(Payload::None, payload);
    let mut request = Request::with_payload(payload);
    let head = request.head_mut();
    head.method = Method::from_bytes(call.method.as_bytes()).map_err(|error| malformed(&error))?;
    head.uri = call.target().parse::<Uri>().map_err(|error| malformed(&error))?;
    head.version = Version::HTTP_11;
    head.peer_addr = None;
    head.headers.clear();
    for (name, value) in call.headers.iter() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| malformed(&error))?;
        let value = HeaderValue::from_bytes(value).map_err(|error| malformed(&error))?;
        head.headers.append(name, value);
    }
    if let Some(length) = length {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(progress);
    request.extensions_mut().insert(Background(rid));
    Ok(request)
}

fn payload(body: BoxStream<'static, std::io::Result<Bytes>>) -> Payload {
    Payload::Stream { payload: Box::pin(body.map_err(PayloadError::Io)) }
}

fn malformed(error: &dyn std::error::Error) -> Error {
    log::error!("a stored call cannot be made again: {error}");
    Error::Malformed
}

/// A service that fails without an answer: a middleware's error outside the API's own error handling.
fn unanswerable(error: &actix_web::Error) -> Error {
    log::error!("the API gave no answer: {error}");
    Error::BrokeOff
}
