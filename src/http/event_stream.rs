//! What all streams of server-sent events begin with (HTML standard, section 9.2).

use std::time::Duration;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};

use super::NO_STORE;

/// Silence after which a comment is sent: a CDN closes a connection on which nothing comes.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Tells nginx that it is not to wait for more.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// The head of the answer.
pub fn head() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, EVENT_STREAM))
        .insert_header((header::CACHE_CONTROL, NO_STORE))
        .insert_header(UNBUFFERED);
    response
}
