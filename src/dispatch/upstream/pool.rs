//! Connections to one upstream: opened as they are needed, one call at a time on each, kept for a while in between.
//!
//! hyper speaks on them; this only keeps them (`homes.rs`: which one a call takes). hyper-util's pool keeps them too, for
//! many hosts and HTTP/2, and takes an eighth of the time that passing a call on takes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use tower_service::Service;

use super::client::{Body, CONNECT};
use super::homes::{Homes, IDLE, Taken};
use crate::dispatch::Error;

/// Bytes of an answer's head, and of what is read at once. It has a hundred fields at most, which is hyper's own number:
/// for another one, it asks for 16 KiB to write each answer's fields down in.
const MOST_HEAD: usize = 64 * 1024;

/// The connections. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Connections>);

struct Connections {
    connector: HttpsConnector<HttpConnector>,
    /// Scheme and authority are what counts.
    address: Uri,
    /// The longest that a connection may take to come about. The connector's own limit is for TCP alone, not for TLS.
    limit: Duration,
    homes: Mutex<Homes>,
}

/// A connection that its thread drives; dropped with the task that does.
struct Open {
    connections: Weak<Connections>,
    home: ThreadId,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(connections) = self.connections.upgrade() {
            connections.lock().closed(self.home);
        }
    }
}

/// Which connection a call goes over.
#[derive(Debug, Clone, Copy)]
pub enum Over {
    /// One that is idle at that moment, which is the present; a new one where there is none.
    Any(Instant),
    /// A new one.
    New,
}

/// An answer. In a box: it goes through many hands.
pub type Answer = Box<Response<Received>>;

/// An answer's body. Its connection serves the next call once it has come to its end, and is closed where it is dropped
/// before.
pub struct Received {
    body: Incoming,
    connection: Option<(Pool, Taken)>,
}

impl Pool {
    /// Connects to `address` as the connector does.
    pub fn new(connector: HttpsConnector<HttpConnector>, address: Uri) -> Self {
        Self::within(CONNECT, connector, address)
    }

    /// The same; a connection has to come about in this time.
    fn within(limit: Duration, connector: HttpsConnector<HttpConnector>, address: Uri) -> Self {
        Self(Arc::new(Connections { connector, address, limit, homes: Mutex::default() }))
    }

    /// Sends a call; its target is in origin form, and its `Host` is there. A connection that was closed before anything of
    /// the call was written to it is passed over. An answer that `check` refuses closes its connection.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Stale`] or [`Error::Unanswered`], and what `check` returns.
    pub fn send(
        self,
        call: Request<Body>,
        over: Over,
        check: impl FnOnce(&Response<Incoming>) -> Result<(), Error> + Send + 'static,
    ) -> impl Future<Output = Result<Answer, Error>> + Send + 'static {
        // Not first when the future is asked: it would have room for the call, and is made and moved for each.
        let taken = match over {
            Over::Any(now) => self.take(now),
            Over::New => None,
        };
        let sent = match taken {
            Some(mut taken) => Ok((taken.sender.try_send_request(call), taken)),
            None => Err(Box::new(call)),
        };
        async move {
            let unsent = match sent {
                Ok((answer, taken)) => match answer.await {
                    Ok(answer) => return self.receive(answer, taken, check),
                    Err(error) => unsent(error)?,
                },
                Err(unsent) => unsent,
            };
            let (answer, taken) = Box::pin(self.send_elsewhere(*unsent, over)).await?;
            self.receive(answer, taken, check)
        }
    }

    /// Sends a call over other connections, in the end over a new one.
    async fn send_elsewhere(&self, mut call: Request<Body>, over: Over) -> Result<(Response<Incoming>, Taken), Error> {
        while matches!(over, Over::Any(_))
            && let Some(mut taken) = self.take(Instant::now())
        {
            match taken.sender.try_send_request(call).await {
                Ok(answer) => return Ok((answer, taken)),
                Err(error) => call = *unsent(error)?,
            }
        }
        let mut taken = self.connect().await?;
        match taken.sender.send_request(call).await {
            Ok(answer) => Ok((answer, taken)),
            Err(error) => Err(Error::Unanswered(innermost(&error))),
        }
    }

    fn take(&self, now: Instant) -> Option<Taken> {
        self.0.lock().take(thread::current().id(), now)
    }

    async fn connect(&self) -> Result<Taken, Error> {
        let mut connector = self.0.connector.clone();
        let unreachable = |error: Box<dyn std::error::Error + Send + Sync>| Error::Unreachable(innermost(&*error));
        std::future::poll_fn(|cx| connector.poll_ready(cx)).await.map_err(unreachable)?;
        let limit = self.0.limit;
        let connected = tokio::time::timeout(limit, connector.call(self.0.address.clone())).await;
        let stream = connected
            .map_err(|_| Error::Unreachable(format!("no connection within {}", humantime::format_duration(limit))))?
            .map_err(unreachable)?;
        let mut builder = http1::Builder::new();
        // Most calls have no body, or a small one: one piece of memory is written in less time than a list of one.
        builder.max_buf_size(MOST_HEAD).writev(false);
        let (sender, connection) =
            builder.handshake(stream).await.map_err(|error| Error::Unanswered(innermost(&error)))?;
        let home = thread::current().id();
        self.0.lock().opened(home);
        let open = Open { connections: Arc::downgrade(&self.0), home };
        tokio::spawn(async move {
            let _open = open;
            // Whoever has a call on it is told as well.
            if let Err(error) = connection.with_upgrades().await {
                log::debug!("a connection to an upstream ended: {error}");
            }
        });
        Ok(Taken { sender, home })
    }

    fn receive(
        self,
        answer: Response<Incoming>,
        taken: Taken,
        check: impl FnOnce(&Response<Incoming>) -> Result<(), Error>,
    ) -> Result<Answer, Error> {
        check(&answer)?;
        let is_kept = answer.status() != StatusCode::SWITCHING_PROTOCOLS;
        Ok(Box::new(answer.map(|body| {
            let mut received = Received { body, connection: is_kept.then_some((self, taken)) };
            received.check_end();
            received
        })))
    }

    fn give_back(&self, taken: Taken) {
        if taken.sender.is_closed() {
            return;
        }
        let mut homes = self.0.lock();
        homes.give_back(taken);
        if !homes.is_swept {
            homes.is_swept = true;
            tokio::spawn(sweep(Sweep { connections: Arc::downgrade(&self.0), is_over: false }));
        }
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Homes> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that sweeps. It may go with its thread before it is over: another begins then.
struct Sweep {
    connections: Weak<Connections>,
    is_over: bool,
}

impl Drop for Sweep {
    fn drop(&mut self) {
        if let Some(connections) = self.connections.upgrade().filter(|_| !self.is_over) {
            connections.lock().is_swept = false;
        }
    }
}

/// Closes what nobody has taken for long, until nothing is left.
async fn sweep(mut sweep: Sweep) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(connections) = sweep.connections.upgrade() else { return };
        let mut homes = connections.lock();
        if !homes.sweep() {
            homes.is_swept = false;
            sweep.is_over = true;
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
        if let Some((pool, taken)) = self.connection.take() {
            pool.give_back(taken);
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

/// The call, where nothing of it was written to a connection that had served another one before.
fn unsent(mut error: TrySendError<Request<Body>>) -> Result<Box<Request<Body>>, Error> {
    error.take_message().map(Box::new).ok_or_else(|| ended(error.error()))
}

/// Why a call has no answer on a connection that had served another one before.
fn ended(error: &hyper::Error) -> Error {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    let is_reset =
        io.is_some_and(|io| matches!(io.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe));
    let why = innermost(error);
    if is_reset || error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        Error::Stale(why)
    } else {
        Error::Unanswered(why)
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::client::conn::http1::SendRequest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::client::nothing;
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// A pool, and the listener that it connects to.
    async fn pool() -> (Pool, TcpListener) {
        pool_to("http", CONNECT).await
    }

    async fn pool_to(scheme: &str, limit: Duration) -> (Pool, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let roots = rustls::RootCertStore::empty();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let address = format!("{scheme}://{}/", listener.local_addr().unwrap()).parse().unwrap();
        (Pool::within(limit, builder.build(), address), listener)
    }

    fn call() -> Request<Body> {
        Request::get("/x").header("host", "a").body(nothing()).unwrap()
    }

    fn any() -> Over {
        Over::Any(Instant::now())
    }

    fn accept(_: &Response<Incoming>) -> Result<(), Error> {
        Ok(())
    }

    async fn answer(stream: &mut TcpStream, answer: &[u8]) {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "closed before a call");
        }
        stream.write_all(answer).await.unwrap();
    }

    /// Answers one call on each of so many connections, and leaves them open.
    async fn answers(listener: TcpListener, count: usize) -> Vec<TcpStream> {
        let mut streams = Vec::new();
        for _ in 0..count {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, ANSWER).await;
            streams.push(stream);
        }
        streams
    }

    /// The end of a connection, seen from the other side.
    async fn closed(stream: &mut TcpStream) {
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    }

    async fn whole(answer: Answer) -> Bytes {
        answer.into_body().collect().await.unwrap().to_bytes()
    }

    fn idle(pool: &Pool, is: impl Fn(&SendRequest<Body>) -> bool) -> usize {
        pool.0.lock().idle(is)
    }

    /// Waits until the connection is ready for the next call.
    async fn rested(pool: &Pool) {
        let limit = Instant::now() + Duration::from_secs(30);
        while idle(pool, SendRequest::is_ready) == 0 {
            assert!(Instant::now() < limit, "the connection never rests");
            tokio::task::yield_now().await;
        }
    }

    /// Runs it on a thread with a runtime of its own.
    async fn elsewhere<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
        let done = tokio::task::spawn_blocking(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
        });
        done.await.unwrap()
    }

    #[tokio::test]
    async fn one_call_after_the_other_takes_the_same_connection() {
        let (pool, listener) = pool().await;
        let upstream = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..3 {
                answer(&mut stream, ANSWER).await;
            }
        });
        assert_eq!(whole(pool.clone().send(call(), any(), accept).await.unwrap()).await, "ok");
        for _ in 0..2 {
            rested(&pool).await;
            assert_eq!(whole(pool.clone().send(call(), any(), accept).await.unwrap()).await, "ok");
        }
        upstream.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_of_another_thread_is_taken_where_there_is_none_of_its_own_and_goes_back_there() {
        let (pool, listener) = pool().await;
        let upstream = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..3 {
                answer(&mut stream, ANSWER).await;
            }
            stream
        });
        assert_eq!(whole(pool.clone().send(call(), any(), accept).await.unwrap()).await, "ok");
        for _ in 0..2 {
            rested(&pool).await;
            let pool = pool.clone();
            assert_eq!(elsewhere(async { whole(pool.send(call(), any(), accept).await.unwrap()).await }).await, "ok");
        }
        let _open = upstream.await.unwrap();
        assert_eq!(pool.0.lock().open(), [(thread::current().id(), 1)]);
    }

    #[tokio::test]
    async fn a_thread_whose_connections_are_busy_opens_one_and_leaves_another_threads_alone() {
        let (pool, listener) = pool().await;
        let upstream = tokio::spawn(answers(listener, 3));
        assert_eq!(whole(pool.clone().send(call(), any(), accept).await.unwrap()).await, "ok");
        rested(&pool).await;
        let its = pool.clone();
        let open = elsewhere(async move {
            let _unread = its.clone().send(call(), Over::New, accept).await.unwrap();
            assert_eq!(whole(its.clone().send(call(), any(), accept).await.unwrap()).await, "ok");
            let open = its.0.lock().open();
            open.iter().map(|(_, count)| *count).collect::<Vec<_>>()
        });
        assert_eq!(open.await, [1, 2]);
        let _open = upstream.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_the_upstream_has_closed_is_passed_over() {
        let (pool, listener) = pool().await;
        let upstream = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                answer(&mut stream, ANSWER).await;
            }
        });
        assert_eq!(whole(pool.clone().send(call(), any(), accept).await.unwrap()).await, "ok");
        let limit = Instant::now() + Duration::from_secs(30);
        while idle(&pool, |sender| !sender.is_closed()) > 0 {
            assert!(Instant::now() < limit, "the end of the connection is not noticed");
            tokio::task::yield_now().await;
        }
        assert_eq!(whole(pool.clone().send(call(), any(), accept).await.unwrap()).await, "ok");
        upstream.await.unwrap();
    }

    #[tokio::test]
    async fn a_call_that_meets_the_end_of_its_connection_is_told_from_one_that_is_not_answered() {
        let (pool, listener) = pool().await;
        let upstream = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, ANSWER).await;
            answer(&mut stream, b"").await;
            drop(stream);
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, b"").await;
        });
        assert_eq!(whole(pool.clone().send(call(), any(), accept).await.unwrap()).await, "ok");
        rested(&pool).await;
        assert!(matches!(pool.clone().send(call(), any(), accept).await, Err(Error::Stale(_))));
        assert!(matches!(pool.clone().send(call(), Over::New, accept).await, Err(Error::Unanswered(_))));
        upstream.await.unwrap();
    }

    #[tokio::test]
    async fn a_call_over_a_connection_of_its_own_leaves_those_that_are_idle() {
        let (pool, listener) = pool().await;
        let upstream = tokio::spawn(answers(listener, 2));
        assert_eq!(whole(pool.clone().send(call(), any(), accept).await.unwrap()).await, "ok");
        rested(&pool).await;
        assert_eq!(whole(pool.clone().send(call(), Over::New, accept).await.unwrap()).await, "ok");
        let _open = upstream.await.unwrap();
        assert_eq!(idle(&pool, |sender| !sender.is_closed()), 2);
    }

    #[tokio::test]
    async fn an_upstream_that_never_answers_to_tls_cannot_be_reached() {
        let (pool, listener) = pool_to("https", Duration::from_millis(50)).await;
        let Err(error) = pool.send(call(), any(), accept).await else { panic!("there is nobody") };
        assert!(matches!(error, Error::Unreachable(_)), "{error}");
        drop(listener);
    }

    #[tokio::test]
    async fn an_answer_or_a_call_that_is_dropped_before_its_end_closes_the_connection() {
        let (pool, listener) = pool().await;
        let (sent, has_come) = tokio::sync::oneshot::channel();
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nok";
        let upstream = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, half).await;
            closed(&mut stream).await;
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, b"").await;
            sent.send(()).unwrap();
            closed(&mut stream).await;
        });
        drop(pool.clone().send(call(), any(), accept).await.unwrap());
        let unanswered = tokio::spawn(pool.clone().send(call(), any(), accept));
        has_come.await.unwrap();
        unanswered.abort();
        upstream.await.unwrap();
        assert_eq!(idle(&pool, |_| true), 0);
    }

    #[tokio::test]
    async fn a_connection_that_nobody_takes_is_closed_after_a_while() {
        let (pool, listener) = pool().await;
        let upstream = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, ANSWER).await;
            closed(&mut stream).await;
        });
        assert_eq!(whole(pool.clone().send(call(), any(), accept).await.unwrap()).await, "ok");
        upstream.await.unwrap();
        assert_eq!(idle(&pool, |_| true), 0);
    }
}
