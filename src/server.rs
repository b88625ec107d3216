//! A server of its own: listens, runs what [`crate::Builder`] builds until a signal, and ends in order.

use std::fmt::Display;
use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::middleware::{Condition, Next, from_fn};
use actix_web::{App, HttpServer};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{Builder, Cors, Error, Mount};
use crate::config::Config;
use crate::listen::{self, Socket};
use crate::{limits, priority};

/// How long a client may take for the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept: longer than a load balancer in front keeps its own.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Threads for blocking work on an HTTP thread; the media and the password checks bound themselves far below.
const BLOCKING_THREADS: usize = 16;

/// Seconds in which connections are closed once no call is under way any more.
const CLOSING: u64 = 2;

/// Runs a server until SIGTERM or SIGINT; a second one cuts off what the first one lets end.
///
/// # Errors
/// Why it does not start.
pub async fn serve(builder: Builder) -> Result<(), Error> {
    let mut signals = Signals::new().map_err(|error| Error::new("signals", error))?;
    let config = builder.config().clone();
    limits::raise_open_files();
    let sockets = listen::bind(&config.server.listen, config.server.write_timeout)
        .map_err(|why| Error::new("server.listen", why))?;
    let addresses: Vec<String> = sockets.iter().map(Socket::address).collect();
    let bgrs = builder.address(sockets.iter().find_map(Socket::url)).start().await?;
    if let Some(administrator) = bgrs.administrator() {
        say(administrator);
    }
    let mut server = http_server(&config, sockets, bgrs.mount())?;
    let stop = server.handle();
    // Its first poll starts the threads that accept and answer: they would inherit the priority that this one gets below.
    if let Poll::Ready(ended) = poll_fn(|cx| Poll::Ready(Pin::new(&mut server).poll(cx))).await {
        ended.map_err(|error| Error::new("server.workers", error))?;
    }
    let running = tokio::spawn(server);
    addresses.iter().for_each(|address| say(format_args!("listening on {address}")));
    // Every thread that accepts, answers or writes is there: what is left to this one is the background work.
    priority::lower();
    signals.next().await;
    log::info!("shutting down; what is under way has {:?}", config.server.shutdown_timeout);
    tokio::select! {
        () = bgrs.shut_down(config.server.shutdown_timeout) => {}
        () = signals.next() => log::warn!("told again: what is under way is cut off; the next start sets it right"),
    }
    stop.stop(true).await;
    let _ = running.await;
    log::info!("stopped");
    Ok(())
}

fn http_server(config: &Config, sockets: Vec<Socket>, mount: Mount) -> Result<actix_web::dev::Server, Error> {
    let has_cors = !config.cors.origins.is_empty();
    let cors = Cors::new(&config.cors.origins, config.cors.credentials, config.cors.max_age);
    let mut server = HttpServer::new(move || {
        // Each of the threads that answer makes its own App.
        priority::take_turns();
        let (mount, cors) = (mount.clone(), cors.clone());
        let cors = from_fn(move |req: ServiceRequest, next: Next<BoxBody>| cors.clone().apply(req, next));
        App::new().wrap(mount.middleware()).wrap(Condition::new(has_cors, cors)).configure(|cfg| mount.configure(cfg))
    })
    .workers(config.server.workers)
    .worker_max_blocking_threads(BLOCKING_THREADS)
    .max_connections(config.server.max_connections)
    .keep_alive(KEEP_ALIVE)
    // Whoever closes their half has hung up, as with nginx: an upstream must not work for hours for nobody.
    .h1_allow_half_closed(false)
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(CLOSING)
    .disable_signals();
    for socket in sockets {
        server = match socket {
            Socket::Tcp(listener) => server.listen(listener),
            Socket::Unix(listener, _) => server.listen_uds(listener),
        }
        .map_err(|error| Error::new("server.listen", error))?;
    }
    Ok(server.run())
}

/// Says a line on standard output, where the one secret that is shown once goes too; the log is elsewhere.
fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading: the server runs all the same.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// SIGTERM and SIGINT, caught from here on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next of either.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
