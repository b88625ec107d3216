//! `GET /bgrs/{rid}/callbacks`: what was sent to a request's callback, and `POST …/callbacks/{id}/resend`: once more.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde::Serialize;

use super::{Error, JSON, NO_STORE, Shared, manage, wait};
use crate::model::time;
use crate::store::Delivery;

/// A delivery. Keys and order are part of the interface, every value is text or null.
#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    rid: String,
    url: &'a str,
    attempt: String,
    due_dt: String,
    sent_dt: Option<&'a str>,
    status: Option<String>,
    error: Option<&'a str>,
}

/// The route of the list.
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let request = manage::owned(&req, &shared).await?;
    let deliveries = shared.callbacks.of(request.rid).await?.ok_or_else(wait::unknown)?;
    Ok(answer(HttpResponse::Ok(), &deliveries))
}

/// The route that sends one again.
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
