//! Connections to one upstream: opened as they are needed, one call at a time on each, kept for a while in between.
//!
//! hyper speaks on them; this only keeps them. hyper-util's pool keeps them too, for many hosts and HTTP/2, and takes an
//! eighth of the time that passing a call on takes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use tower_service::Service;

use super::client::Body;
use crate::dispatch::Error;

/// How long an idle connection is kept: shorter than the servers that are common upstreams do (Node.js: 5 s).
const IDLE: Duration = Duration::from_secs(4);

/// Idle connections at most.
const MOST_IDLE: usize = 256;

/// Bytes of an answer's head, and of what is read at once.
const MOST_HEAD: usize = 64 * 1024;

/// Fields of an answer's head.
const MOST_FIELDS: usize = 256;

/// The connections. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Connections>);

struct Connections {
    connector: HttpsConnector<HttpConnector>,
    /// Scheme and authority are what counts.
    address: Uri,
    idle: Mutex<IdleOnes>,
}

#[derive(Default)]
struct IdleOnes {
    /// The one used last is the last, and is taken first.
    connections: Vec<Idle>,
    /// Whether a task is there that closes those that nobody takes.
    is_swept: bool,
}

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// An answer's body. Its connection serves the next call once it has come to its end, and is closed where it is dropped
/// before.
pub struct Received {
    body: Incoming,
    connection: Option<(Pool, SendRequest<Body>)>,
}

impl Pool {
    /// Connects to `address` as the connector does.
    pub fn new(connector: HttpsConnector<HttpConnector>, address: Uri) -> Self {
        Self(Arc::new(Connections { connector, address, idle: Mutex::default() }))
    }

    /// Sends a call; its target is in origin form, and its `Host` is there. A connection that was closed before anything of
    /// the call was written to it is passed over.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Unanswered`].
    pub async fn send(self, mut call: Request<Body>) -> Result<Response<Received>, Error> {
        while let Some(mut sender) = self.take() {
            match sender.try_send_request(call).await {
                Ok(answer) => return Ok(self.receive(answer, sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => call = unsent,
                    None => return Err(Error::Unanswered(innermost(error.error()))),
                },
            }
        }
        let mut sender = self.connect().await?;
        match sender.send_request(call).await {
            Ok(answer) => Ok(self.receive(answer, sender)),
            Err(error) => Err(Error::Unanswered(innermost(&error))),
        }
    }

    /// An idle connection that can be used.
    fn take(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.lock();
        let now = Instant::now();
        idle.connections.retain(|idle| !idle.sender.is_closed() && now.duration_since(idle.since) < IDLE);
        // One that is not ready yet has its call's body still to send, or is about to be.
        let at = idle.connections.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.connections.remove(at).sender)
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Error> {
        let mut connector = self.0.connector.clone();
        let unreachable = |error: Box<dyn std::error::Error + Send + Sync>| Error::Unreachable(innermost(&*error));
        std::future::poll_fn(|cx| connector.poll_ready(cx)).await.map_err(unreachable)?;
        let stream = connector.call(self.0.address.clone()).await.map_err(unreachable)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MOST_HEAD).max_headers(MOST_FIELDS);
        let (sender, connection) =
            builder.handshake(stream).await.map_err(|error| Error::Unanswered(innermost(&error)))?;
        tokio::spawn(async move {
            // Whoever has a call on it is told as well.
            if let Err(error) = connection.with_upgrades().await {
                log::debug!("a connection to an upstream ended: {error}");
            }
        });
        Ok(sender)
    }

    fn receive(&self, answer: Response<Incoming>, sender: SendRequest<Body>) -> Response<Received> {
        let is_kept = answer.status() != StatusCode::SWITCHING_PROTOCOLS;
        answer.map(|body| {
            let mut received = Received { body, connection: is_kept.then(|| (self.clone(), sender)) };
            received.check_end();
            received
        })
    }

    fn give_back(&self, sender: SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.lock();
        if idle.connections.len() >= MOST_IDLE {
            return;
        }
        idle.connections.push(Idle { sender, since: Instant::now() });
        if !idle.is_swept {
            idle.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, IdleOnes> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what nobody has taken for long, until nothing is left.
async fn sweep(connections: Weak<Connections>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(connections) = connections.upgrade() else { return };
        let mut idle = connections.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.connections.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE);
        if idle.connections.is_empty() {
            idle.is_swept = false;
            return;
        }
    }
}

impl Received {
    fn check_end(&mut self) {
        if self.body.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some((pool, sender)) = self.connection.take() {
            pool.give_back(sender);
        }
    }
}

impl hyper::body::Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => self.check_end(),
            Some(Err(_)) => self.connection = None,
            None => self.give_back(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is at the bottom of an error says what happened.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
