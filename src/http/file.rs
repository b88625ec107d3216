//! Sending a result's bytes: ranges, conditions, the headers that make it harmless in a browser.
//!
//! Not `NamedFile`: it loses ETag and Range on any status but 200 and makes its ETag from the inode; here the tag is a
//! digest of the bytes.

use std::ops::Range;

use actix_web::body;
use actix_web::http::header::{
    self, ContentRange, ContentRangeSpec, EntityTag, Header, HeaderName, HeaderValue, IfNoneMatch, IfRange,
    Range as RangeHeader,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};

use super::{Error, Shared};
use crate::media;
use crate::model::{Rid, StoredResult};

/// Tells an answer of the API from one of the server.
pub const REQUEST: HeaderName = HeaderName::from_static("bgrs-request");

/// Headers that are the server's on a result, whatever the API said.
pub fn is_ours(name: &str) -> bool {
    const OURS: [&str; 7] = [
        "accept-ranges",
        "bgrs-request",
        "cache-control",
        "content-length",
        "content-security-policy",
        "etag",
        "x-content-type-options",
    ];
    OURS.contains(&name)
}

/// Sets the headers that every result carries.
pub fn protect(response: &mut HttpResponseBuilder, rid: Rid) {
    response
        .insert_header((REQUEST, rid.to_string()))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "sandbox"));
}

/// Sends a stored file: whole, or the range that the caller asks for where `status` is 200.
pub async fn send(
    req: &HttpRequest,
    shared: &Shared,
    rid: Rid,
    file: &StoredResult,
    status: StatusCode,
    add_headers: impl FnOnce(&mut HttpResponseBuilder),
) -> Result<HttpResponse, Error> {
    let tag = EntityTag::new_strong(file.etag.clone());
    if let Some(known) = known(req, rid, status, &tag) {
        return Ok(known);
    }
    let part = if status == StatusCode::OK { part(req, file.size, &tag) } else { Part::Whole };
    // An API's own 206 is a whole result here.
    let (status, range, is_part) = match part {
        Part::Whole => (status, 0..file.size, false),
        Part::Range(range) => (StatusCode::PARTIAL_CONTENT, range, true),
        Part::Outside => return Err(outside(file.size, rid)),
    };
    let mut response = HttpResponse::build(status);
    add_headers(&mut response);
    protect(&mut response, rid);
    response.insert_header(header::ETag(tag));
    if is_part {
        let spec =
            ContentRangeSpec::Bytes { range: Some((range.start, range.end - 1)), instance_length: Some(file.size) };
        response.insert_header(ContentRange(spec));
    }
    response.no_chunking(range.end - range.start);
    if req.method() == Method::HEAD {
        return Ok(response.body(Sized(range.end - range.start)));
    }
    let stream = match shared.media.read_result(&file.name, range).await {
        // Removed between the row and the file: it has just expired.
        Err(media::Error::Missing) => return Err(super::wait::unknown()),
        other => other?,
    };
    Ok(response.streaming(stream))
}

/// Sends a result that has no body.
pub fn send_nothing(
    req: &HttpRequest,
    rid: Rid,
    status: StatusCode,
    add_headers: impl FnOnce(&mut HttpResponseBuilder),
) -> HttpResponse {
    // No digest is this: one of all results without a byte, which are alike.
    let tag = EntityTag::new_strong("empty".to_owned());
    if let Some(known) = known(req, rid, status, &tag) {
        return known;
    }
    let mut response = HttpResponse::build(status);
    add_headers(&mut response);
    protect(&mut response, rid);
    response.insert_header(header::ETag(tag));
    // How long the body of what was asked for with HEAD would be is not known: no length is said.
    if *req.method() == Method::HEAD { response.body(body::None::new()) } else { response.finish() }
}

/// The 304 for a caller who has the result already.
fn known(req: &HttpRequest, rid: Rid, status: StatusCode, tag: &EntityTag) -> Option<HttpResponse> {
    if status != StatusCode::OK || !is_known(req, tag) {
        return None;
    }
    let mut response = HttpResponse::NotModified();
    protect(&mut response, rid);
    Some(response.insert_header(header::ETag(tag.clone())).finish())
}

/// A body of which only the length is told: the answer to HEAD.
pub struct Sized(pub u64);

impl actix_web::body::MessageBody for Sized {
    type Error = std::convert::Infallible;

    fn size(&self) -> actix_web::body::BodySize {
        actix_web::body::BodySize::Sized(self.0)
    }

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<bytes::Bytes, Self::Error>>> {
        std::task::Poll::Ready(None)
    }
}

/// Which part of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Range(Range<u64>),
    Outside,
}

/// `If-None-Match` (RFC 9110 section 13.1.2).
fn is_known(req: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(req) {
        Ok(IfNoneMatch::Any) => req.headers().contains_key(header::IF_NONE_MATCH),
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
}

/// `Range` and `If-Range` (RFC 9110 sections 13.1.5 and 14.2). What is malformed, or asks for several ranges, gets the
/// whole.
fn part(req: &HttpRequest, size: u64, tag: &EntityTag) -> Part {
    if req.method() != Method::GET || !req.headers().contains_key(header::RANGE) || !still_the_same(req, tag) {
        return Part::Whole;
    }
    match asked_range(req) {
        Some(RangeHeader::Bytes(specs)) => match specs.as_slice() {
            [spec] => {
                spec.to_satisfiable_range(size).map_or(Part::Outside, |(first, last)| Part::Range(first..last + 1))
            }
            _ => Part::Whole,
        },
        _ => Part::Whole,
    }
}

/// The `Range` header. A position beyond what a number holds is beyond every file's end, not malformed.
fn asked_range(req: &HttpRequest) -> Option<RangeHeader> {
    const FAR: &str = "999999999999999999";
    let text = req.headers().get(header::RANGE)?.to_str().ok()?;
    let mut shortened = String::new();
    let mut digits = 0;
    for c in text.chars() {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        if digits <= FAR.len() {
            shortened.push(c);
        } else if digits == FAR.len() + 1 {
            shortened.truncate(shortened.len() - FAR.len());
            shortened.push_str(FAR);
        }
    }
    shortened.parse().ok()
}

/// `If-Range` with the strong comparison; a date never matches, since none is sent.
fn still_the_same(req: &HttpRequest, tag: &EntityTag) -> bool {
    if !req.headers().contains_key(header::IF_RANGE) {
        return true;
    }
    matches!(IfRange::parse(req), Ok(IfRange::EntityTag(known)) if known.strong_eq(tag))
}

fn outside(size: u64, rid: Rid) -> Error {
    let error = Error::new(StatusCode::RANGE_NOT_SATISFIABLE, "The range lies outside the result; ask for another.");
    let length = HeaderValue::from_str(&format!("bytes */{size}"));
    let rid = HeaderValue::from_str(&rid.to_string());
    match (length, rid) {
        (Ok(length), Ok(rid)) => error.with(header::CONTENT_RANGE, length).with(REQUEST, rid),
        _ => error,
    }
}
