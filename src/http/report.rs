//! `POST /bgrs/{rid}/report`: what an upstream says about the progress of a call.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Error, Shared, wait};

/// Bytes of a report at most.
pub const MOST: usize = 64 * 1024;

/// A report.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"progress": 42.5, "details": "425 of 1000 imported"})))]
struct Report {
    /// Percent. Below what was reached it leaves it as it is.
    #[schema(minimum = 0, maximum = 100)]
    progress: Option<f64>,
    /// What was done, for the request's log.
    details: Option<String>,
}

/// The route. Who knows the request's token may report, with or without being a user.
#[utoipa::path(
    post,
    path = "/bgrs/{rid}/report",
    tag = "background requests",
    operation_id = "reportProgress",
    summary = "An upstream says how far it is",
    description = "For who has the request's Bgrs-Report-Token, which came with the call.",
    params(super::openapi::InPath),
    request_body = Report,
    security(("report" = [])),
    responses(
        (status = 204, description = "It is taken down."),
        (status = 400, description = "The report cannot be read, or its progress is not 0 to 100."),
        (
            status = 401,
            description = "Send the Bgrs-Report-Token that came with this call as a Bearer token.",
            headers(("WWW-Authenticate" = String, description = "Asks for a Bearer token."))
        ),
        (status = 404, description = "There is no background request of that id, or it has expired; check the id."),
        (status = 408, description = "The body did not arrive in time; send it again without long pauses."),
        (status = 409, description = "The request has ended; nothing more is taken down of it."),
        (status = 413, description = "A report has 65536 bytes at most; send shorter details."),
        (status = 500, description = "The server failed; its log says why. Try again later.")
    )
)]
pub async fn post(req: HttpRequest, body: web::Payload, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let token = req.headers().get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    // A wrong token is answered alike for any id: it says nothing about which there are.
    let rid = wait::rid(&req).ok().filter(|rid| token.is_some_and(|token| shared.key.is_token(*rid, token)));
    let rid = rid.ok_or_else(unauthorized)?;
    let body = body.to_bytes_limited(MOST).await.map_err(|_| too_long())?.map_err(|error| broken(&error))?;
    // Whatever its Content-Type: curl and PHP call it a form where nobody says otherwise.
    let report: Report = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
    // An array of the two would be read as well.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(unreadable(&"it is no object"));
    }
    let progress = report.progress.map(hundredths).transpose()?;
    let details = report.details.filter(|details| !details.is_empty());
    match shared.store.annotate(rid, shared.clock.now(), progress, details).await? {
        Some(true) => {
            shared.watchers.changed(rid);
            Ok(HttpResponse::NoContent().finish())
        }
        Some(false) => {
            Err(Error::new(StatusCode::CONFLICT, "The request has ended; nothing more is taken down of it."))
        }
        None => Err(wait::unknown()),
    }
}

fn unreadable(why: &dyn std::fmt::Display) -> Error {
    Error::bad_request(format!(
        "The report cannot be read: {why}. Send {{\"progress\": 42.5, \"details\": \"what was done\"}}."
    ))
}

fn too_long() -> Error {
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, format!("A report has {MOST} bytes at most; send shorter details."))
        .with(header::CONNECTION, HeaderValue::from_static("close"))
}

fn broken(error: &actix_web::Error) -> Error {
    log::debug!("a report broke off: {error}");
    Error::bad_request("The report broke off; send it again.")
        .with(header::CONNECTION, HeaderValue::from_static("close"))
}

fn hundredths(percent: f64) -> Result<i64, Error> {
    if (0.0..=100.0).contains(&percent) {
        // Within 0 and 10,000: it fits.
        return Ok((percent * 100.0 + 1e-6) as i64);
    }
    Err(Error::bad_request("progress is a percentage, 0 to 100."))
}

/// The token of a `Bearer` credential (RFC 6750 section 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn unauthorized() -> Error {
    let challenge = HeaderValue::from_static("Bearer realm=\"progress reports\"");
    Error::new(StatusCode::UNAUTHORIZED, "Send the Bgrs-Report-Token that came with this call as a Bearer token.")
        .with(header::WWW_AUTHENTICATE, challenge)
}
