//! An API behind the server, called over HTTP.

mod asker;
mod client;
mod homes;
mod pool;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use http_body_util::BodyExt;

use super::{Dispatch, Error, Replay, Response, headers};
use crate::model::Headers;
use crate::routing::Upstreams;
pub use asker::Asker;
use client::header_map;
pub use client::{Body, Client, Connectors, Outgoing, nothing, streamed, uri};
pub use pool::{Answer, Over, Received};

/// Performs captured calls at the upstream that each is for.
pub struct AtUpstream {
    upstreams: Upstreams,
    client: Client,
}

impl AtUpstream {
    /// With a pool of its own.
    #[must_use]
    pub fn new(upstreams: Upstreams, connectors: &Connectors) -> Self {
        Self { upstreams, client: Client::new(connectors) }
    }
}

#[async_trait]
impl Dispatch for AtUpstream {
    async fn dispatch(&self, replay: Replay) -> Result<Response, Error> {
        let Replay { rid, is_stored, call, body, report, .. } = replay;
        let prefix = call.upstream.as_deref().unwrap_or_default();
        let found = self.upstreams.iter().find(|upstream| upstream.prefix.to_string() == prefix);
        let upstream = found.ok_or_else(|| Error::Gone(prefix.to_owned()))?;
        let mut sent = call.headers.clone();
        if is_stored {
            sent.append("bgrs-request", rid.to_string().as_bytes());
        }
        if let Some(report) = report {
            sent.append("bgrs-report", report.url.as_bytes());
            sent.append("bgrs-report-token", report.token.as_bytes());
        }
        let (target, headers) = (call.target(), header_map(&sent)?);
        // No body was stored, but some servers answer 411 where these methods come without a length.
        let none = matches!(&*call.method, "POST" | "PUT" | "PATCH").then_some(0);
        let length = call.body.or(none);
        let outgoing = Outgoing { length, ..Outgoing::new(&call.method, &target, headers) };
        let body = body.map_or_else(nothing, streamed);
        let answer = self.client.send(upstream, outgoing, body)?.await?;
        Ok(response(*answer, call.method == "HEAD"))
    }
}

/// An upstream's answer, to be stored.
#[must_use]
pub fn response(answer: http::Response<Received>, head_only: bool) -> Response {
    let (head, body) = answer.into_parts();
    let length = head.headers.get(http::header::CONTENT_LENGTH).filter(|_| !head_only);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let headers: Headers = headers::of_answer(&head.headers);
    let body = body.into_data_stream().map(|piece| piece.map_err(|error| broke_off(&error)));
    Response { status: head.status.as_u16(), headers, length, body: body.boxed() }
}

/// An answer that did not come to its end.
#[must_use]
pub fn broke_off(error: &hyper::Error) -> Error {
    log::warn!("an upstream's answer broke off: {error}");
    Error::BrokeOff
}

/// The calls of the hosted API go one way, those of upstreams another.
pub struct Switch {
    hosted: Arc<dyn Dispatch>,
    upstreams: AtUpstream,
}

impl Switch {
    /// Both ways.
    #[must_use]
    pub fn new(hosted: Arc<dyn Dispatch>, upstreams: AtUpstream) -> Self {
        Self { hosted, upstreams }
    }
}

#[async_trait]
impl Dispatch for Switch {
    async fn dispatch(&self, replay: Replay) -> Result<Response, Error> {
        match replay.call.upstream {
            Some(_) => self.upstreams.dispatch(replay).await,
            None => self.hosted.dispatch(replay).await,
        }
    }
}
