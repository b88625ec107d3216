//! One line per call in the log, when its answer has been sent or given up. Never a query: it may hold secrets.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, Uri};
use bytes::Bytes;

use super::accept::OneUnderWay;

/// What is known of a call before its answer.
pub struct Line {
    method: Method,
    uri: Uri,
    rid: Option<crate::model::Rid>,
}

impl Line {
    /// Of a call that has just come in.
    pub fn of(req: &ServiceRequest) -> Self {
        Self { method: req.method().clone(), uri: req.uri().clone(), rid: None }
    }

    /// Writes it.
    pub fn write(&self, status: u16, begun: Instant) {
        let Self { method, uri, rid } = self;
        let path = uri.path();
        let ms = begun.elapsed().as_millis();
        match rid {
            Some(rid) => log::info!("call {method} {path} status={status} ms={ms} rid={rid}"),
            None => log::info!("call {method} {path} status={status} ms={ms}"),
        }
    }

    /// Takes in what the answer says.
    #[must_use]
    pub fn with(mut self, response: &HttpResponse) -> Self {
        self.rid = response.extensions().get::<Submitted>().map(|submitted| submitted.0);
        self
    }
}

/// Names the request that a submission made, for its log line.
#[derive(Clone, Copy)]
pub struct Submitted(pub crate::model::Rid);

/// An answer's body that writes the line when it ends.
pub struct Logged {
    body: BoxBody,
    line: Line,
    status: u16,
    begun: Instant,
    _under_way: OneUnderWay,
}

impl Logged {
    /// Wraps a body.
    pub fn new(body: BoxBody, line: Line, status: u16, begun: Instant, under_way: OneUnderWay) -> Self {
        Self { body, line, status, begun, _under_way: under_way }
    }
}

impl MessageBody for Logged {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        self.line.write(self.status, self.begun);
    }
}
