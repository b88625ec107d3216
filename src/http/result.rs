//! `GET /bgrs/{rid}/result`: the API's own answer, as if the call had been made in the foreground.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};

use super::{Error, Shared, file, information, wait};
use crate::model::{Headers, State};
use crate::store::Request;

/// The route.
#[utoipa::path(
    get,
    path = "/bgrs/{rid}/result",
    tag = "background requests",
    operation_id = "getResult",
    summary = "A request's result",
    description = "The API's own answer: its status, its headers but for Set-Cookie, its body byte for byte. \
                   Bgrs-Request in an answer says that it is the request's, not one about it.",
    params(
        super::openapi::InPath,
        super::openapi::Look,
        (
            "Range" = Option<String>, Header, nullable = false, example = "bytes=0-1023",
            description = "A part of a result with status 200 (RFC 9110)."
        ),
        (
            "If-None-Match" = Option<String>, Header, nullable = false,
            description = "The ETag of the result that is there already."
        )
    ),
    responses(
        (
            status = 200,
            description = "The result; other statuses of the API come as they are.",
            content_type = "*/*",
            headers(
                ("Bgrs-Request" = String, description = "The request's id."),
                ("ETag" = String, description = "A digest of the bytes."),
                ("Accept-Ranges" = String, description = "`bytes`.")
            )
        ),
        (
            status = 202,
            description = "It has not ended.",
            body = Vec<crate::view::Information>,
            headers(("Retry-After" = i64, description = "Seconds after which to ask again."))
        ),
        (status = 204, description = "The API's own, without a body."),
        (status = 206, description = "The part that was asked for.", content_type = "*/*"),
        (status = 304, description = "It is there already."),
        (status = 404, description = "There is no background request of that id, or it has expired; check the id."),
        (status = 410, description = "The request was cancelled: it has no result. Submit the call again."),
        (status = 416, description = "The range lies outside the result; ask for another."),
        (status = 502, description = "The request failed; this says why."),
        (status = 504, description = "The call has timed out; this says after how long."),
        (status = "default", description = "The API's own answer, whatever its status.", content_type = "*/*")
    )
)]
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let request = wait::request(&req, &shared).await?;
    of(&req, &shared, &request).await
}

/// The answer of a request that has ended, or how far it has come.
pub async fn of(req: &HttpRequest, shared: &Shared, request: &Request) -> Result<HttpResponse, Error> {
    match request.state {
        State::Queued | State::Running | State::Retrying => {
            Ok(information::answer(request, HttpResponse::Accepted(), information::is_verbose(req)))
        }
        State::Finished => finished(req, shared, request).await,
        State::Failed => Err(failed(shared, request).await?),
        State::Cancelled => Err(ours(
            Error::new(StatusCode::GONE, "The request was cancelled: it has no result. Submit the call again."),
            request,
        )),
    }
}

async fn finished(req: &HttpRequest, shared: &Shared, request: &Request) -> Result<HttpResponse, Error> {
    let status = request.status.and_then(|status| StatusCode::from_u16(status).ok()).ok_or_else(Error::internal)?;
    let head = request.head.as_deref().unwrap_or("[]");
    let headers = Headers::from_json(head).map_err(|error| {
        log::error!("{}: its head cannot be read: {error}", request.rid);
        Error::internal()
    })?;
    let add = |response: &mut HttpResponseBuilder| add_headers(response, &headers);
    match &request.result {
        Some(stored) => file::send(req, shared, request.rid, stored, status, add).await,
        None => Ok(file::send_nothing(req, request.rid, status, add)),
    }
}

fn add_headers(response: &mut HttpResponseBuilder, headers: &Headers) {
    for (name, value) in headers.iter().filter(|(name, _)| !file::is_ours(name)) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
            response.append_header((name, value));
        }
    }
}

async fn failed(shared: &Shared, request: &Request) -> Result<Error, Error> {
    let why = shared.store.last_detail(request.rid).await?.unwrap_or_else(|| "The request failed.".to_owned());
    let status =
        request.failure.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::BAD_GATEWAY);
    Ok(ours(Error::new(status, why), request))
}

fn ours(error: Error, request: &Request) -> Error {
    match HeaderValue::from_str(&request.rid.to_string()) {
        Ok(rid) => error.with(file::REQUEST, rid),
        Err(_) => error,
    }
}
