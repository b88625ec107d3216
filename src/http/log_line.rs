//! One line per call in the log, when its answer has been sent or given up. Never a query: it may hold secrets.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, StatusCode, Uri};
use bytes::Bytes;

use super::accept::OneUnderWay;

/// What is written where the caller hung up before there was an answer (nginx's number for that).
const HUNG_UP: &str = "499";

/// A call on its way. Dropped without an answer, it has lost its caller.
pub struct Line {
    method: Method,
    uri: Uri,
    rid: Option<crate::model::Rid>,
    begun: Instant,
    is_written: bool,
    _under_way: OneUnderWay,
}

impl Line {
    /// Of a call that has just come in.
    pub fn of(req: &ServiceRequest, under_way: OneUnderWay) -> Self {
        let (method, uri) = (req.method().clone(), req.uri().clone());
        Self { method, uri, rid: None, begun: Instant::now(), is_written: false, _under_way: under_way }
    }

    /// Writes it, with the answer's status.
    pub fn write(mut self, status: StatusCode) {
        self.put(status.as_str());
    }

    /// Takes in what the answer says.
    #[must_use]
    pub fn with(mut self, response: &HttpResponse) -> Self {
        self.rid = response.extensions().get::<Submitted>().map(|submitted| submitted.0);
        self
    }

    fn put(&mut self, status: &str) {
        self.is_written = true;
        if !log::log_enabled!(log::Level::Info) {
            return;
        }
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).to_string();
        let mut digits = [0; 32];
        let rid = self.rid.map(|rid| rid.encode(&mut digits));
        let (before, rid) = rid.map_or(("", ""), |rid| (" rid=", rid));
        // One text, not a format of several: each call has this line, and a tenth of its time went into it.
        let path = self.uri.path();
        let text = ["call ", self.method.as_str(), " ", path, " status=", status, " ms=", &ms, before, rid].concat();
        log::info!("{text}");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.is_written {
            self.put(HUNG_UP);
        }
    }
}

/// Names the request that a submission made, for its log line.
#[derive(Clone, Copy)]
pub struct Submitted(pub crate::model::Rid);

/// An answer's body that writes the line when it ends.
pub struct Logged {
    body: BoxBody,
    line: Line,
    status: StatusCode,
}

impl Logged {
    /// Wraps a body.
    pub fn new(body: BoxBody, line: Line, status: StatusCode) -> Self {
        Self { body, line, status }
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
        self.line.put(self.status.as_str());
    }
}
