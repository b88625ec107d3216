//! `GET /media/{name}`: the file of a result under the name that its information shows.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};

use super::{Error, Shared, file};
use crate::media::File;
use crate::model::Headers;
use crate::store::Request;

/// The route.
///
/// SECURITY: a path is never built from what was sent. The name must parse as a result's, and must be the one that
/// the row of its rid holds, letter for letter; traversal, encodings and other files under media/ end here.
#[utoipa::path(
    get,
    path = "/media/{name}",
    tag = "background requests",
    operation_id = "getFile",
    summary = "The file of a result",
    description = "The same bytes as `GET /bgrs/{rid}/result`, always with 200, under the path that `result` shows.",
    params(
        (
            "name" = String, Path, example = "keep1m.bgrs.4ff7cc2d88b1de88e83cce3f1caa1509.result.json",
            description = "The file's name."
        ),
        (
            "Range" = Option<String>, Header, nullable = false, example = "bytes=0-1023",
            description = "A part of it (RFC 9110)."
        ),
        ("If-None-Match" = Option<String>, Header, nullable = false, description = "The ETag of what is there already.")
    ),
    responses(
        (
            status = 200,
            description = "The bytes.",
            content_type = "*/*",
            headers(("ETag" = String, description = "A digest of the bytes."))
        ),
        (status = 206, description = "The part that was asked for.", content_type = "*/*"),
        (status = 304, description = "It is there already."),
        (
            status = 404,
            description = "There is no such result, or it has expired; take the name from the request's information."
        ),
        (status = 416, description = "The range lies outside the result; ask for another.")
    )
)]
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let name = sent_name(&req, &shared.mount);
    let rid = match File::parse(name) {
        Some(File::Result(_)) => File::parse(name).and_then(|file| file.rid()),
        _ => None,
    };
    let rid = rid.ok_or_else(nothing)?;
    let request = shared.find(rid).await?.ok_or_else(nothing)?;
    let stored = request.result.as_ref().filter(|file| file.name == name).ok_or_else(nothing)?;
    file::send(&req, &shared, rid, stored, StatusCode::OK, |response| add_headers(response, &request)).await
}

/// The last segment as it was sent, not as the router decoded it: a name has one spelling.
fn sent_name<'a>(req: &'a HttpRequest, mount: &str) -> &'a str {
    req.path().strip_prefix(mount).and_then(|path| path.strip_prefix("/media/")).unwrap_or_default()
}

/// What a browser needs to read the bytes: their type, and how they are encoded.
fn add_headers(response: &mut HttpResponseBuilder, request: &Request) {
    let head = request.head.as_deref().and_then(|head| Headers::from_json(head).ok()).unwrap_or_default();
    for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
        if let Some(value) = head.get(name.as_str()).and_then(|value| HeaderValue::from_bytes(value).ok()) {
            response.insert_header((name, value));
        }
    }
}

fn nothing() -> Error {
    Error::not_found("There is no such result, or it has expired; take the name from the request's information.")
}
