//! One line per call in the log, when its answer has been sent or given up. Never a query: it may hold secrets.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, StatusCode, Uri};
use bytes::Bytes;

use super::under_way::OneUnderWay;

/// What is written where the caller hung up before there was an answer (nginx's number for that).
const HUNG_UP: &str = "499";

/// A call on its way; dropped, it is written. Without an answer by then it has lost its caller.
pub struct Line {
    method: Method,
    uri: Uri,
    status: Option<StatusCode>,
    rid: Option<crate::model::Rid>,
    begun: Instant,
    _under_way: OneUnderWay,
}

impl Line {
    /// Of a call that came in at that moment.
    pub fn of(req: &ServiceRequest, under_way: OneUnderWay, begun: Instant) -> Self {
        let (method, uri) = (req.method().clone(), req.uri().clone());
        Self { method, uri, status: None, rid: None, begun, _under_way: under_way }
    }

    /// Takes in the status of an answer that the library makes.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Takes in what the answer says.
    pub fn answered_with(&mut self, response: &HttpResponse) {
        self.rid = response.extensions().get::<Submitted>().map(|submitted| submitted.0);
        self.answered(response.status());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !log::log_enabled!(log::Level::Info) {
            return;
        }
        let status = self.status.as_ref().map_or(HUNG_UP, StatusCode::as_str);
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

/// Names the request that a submission made, for its log line.
#[derive(Clone, Copy)]
pub struct Submitted(pub crate::model::Rid);

/// An answer's body, with the line that is written when it ends.
pub struct Logged {
    body: BoxBody,
    _line: Line,
}

impl Logged {
    /// Wraps a body.
    pub fn new(body: BoxBody, line: Line) -> Self {
        Self { body, _line: line }
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
