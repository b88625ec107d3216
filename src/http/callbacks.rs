//! `GET /bgrs/{rid}/callbacks`: what was sent to a request's callback, and `POST …/callbacks/{id}/resend`: once more.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Error, JSON, NO_STORE, Shared, manage, wait};
use crate::model::time;
use crate::store::Delivery;

/// A delivery. Keys and order are part of the interface, every value is text or null.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery, examples(json!({
    "id": "12", "rid": "4ff7cc2d88b1de88e83cce3f1caa1509", "url": "https://hooks.example.com/bgrs", "attempt": "1",
    "due_dt": "2017-12-26 18:21:52", "sent_dt": "2017-12-26 18:21:52", "status": "200", "error": null
})))]
struct Shown<'a> {
    #[schema(pattern = "^[0-9]+$")]
    id: String,
    #[schema(pattern = "^[0-9a-f]{32}$")]
    rid: String,
    url: &'a str,
    #[schema(pattern = "^[0-9]+$")]
    attempt: String,
    /// When it is to be sent.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")]
    due_dt: String,
    #[schema(required = true)]
    sent_dt: Option<&'a str>,
    /// The HTTP status of the answer.
    #[schema(required = true)]
    status: Option<String>,
    /// Why there was no answer.
    #[schema(required = true)]
    error: Option<&'a str>,
}

/// The route of the list.
#[utoipa::path(
    get,
    path = "/bgrs/{rid}/callbacks",
    tag = "background requests",
    operation_id = "listCallbacks",
    summary = "What was sent to a request's callback",
    description = "Each attempt, oldest first. For its owner and administrators.",
    params(super::openapi::InPath),
    responses(
        (status = 200, description = "The deliveries.", body = Vec<Shown>),
        (status = 403, description = "Only its owner and administrators may do that; ask one of them."),
        (status = 404, description = "There is no background request of that id, or it has expired; check the id.")
    )
)]
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let request = manage::owned(&req, &shared).await?;
    let deliveries = shared.callbacks.of(request.rid).await?.ok_or_else(wait::unknown)?;
    Ok(answer(HttpResponse::Ok(), &deliveries))
}

/// The route that sends one again.
#[utoipa::path(
    post,
    path = "/bgrs/{rid}/callbacks/{id}/resend",
    tag = "background requests",
    operation_id = "resendCallback",
    summary = "Sends a delivery again",
    description = "At once, under the same webhook-id. For its owner and administrators.",
    params(super::openapi::InPath, ("id" = i64, Path, minimum = 1, description = "The delivery's id.")),
    responses(
        (status = 202, description = "The new delivery, in an array of one.", body = Vec<Shown>),
        (status = 403, description = "Only its owner and administrators may do that; ask one of them."),
        (
            status = 404,
            description = "The request has no delivery of that id; its list of callbacks shows those that it has."
        )
    )
)]
pub async fn resend(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let request = manage::owned(&req, &shared).await?;
    let id = req.match_info().query("id").parse().map_err(|_| unknown())?;
    let made = shared.callbacks.resend(request.rid, id, shared.clock.now()).await?.ok_or_else(unknown)?;
    (shared.deliver)();
    Ok(answer(HttpResponse::Accepted(), &[made]))
}

fn unknown() -> Error {
    Error::not_found("The request has no delivery of that id; its list of callbacks shows those that it has.")
}

fn answer(mut response: HttpResponseBuilder, deliveries: &[Delivery]) -> HttpResponse {
    let shown: Vec<_> = deliveries.iter().map(shown).collect();
    response
        .insert_header((header::CACHE_CONTROL, NO_STORE))
        .insert_header((header::CONTENT_TYPE, JSON))
        // Texts and nulls: there is nothing in it that serialising could refuse.
        .body(serde_json::to_string(&shown).unwrap_or_default())
}

fn shown(delivery: &Delivery) -> Shown<'_> {
    Shown {
        id: delivery.id.to_string(),
        rid: delivery.rid.to_string(),
        url: &delivery.url,
        attempt: delivery.attempt.to_string(),
        due_dt: time::format(delivery.due),
        sent_dt: delivery.sent.as_deref(),
        status: delivery.status.map(|status| status.to_string()),
        error: delivery.error.as_deref(),
    }
}
