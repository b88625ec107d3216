//! `GET /healthz`, `GET /readyz`: for load balancers and people who start the server.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, web};

use super::{Error, NO_STORE, Shared, accept};

/// A store that does not answer in this time is not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// The process answers.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "server",
    operation_id = "getHealth",
    summary = "Whether the process answers",
    security(()),
    responses((status = 200, description = "It does.", body = Object, example = json!({"status": "alive"})))
)]
pub async fn alive() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, NO_STORE)).json(serde_json::json!({"status": "alive"}))
}

/// The server accepts calls: it is not shutting down, and its store can be written and read.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "server",
    operation_id = "getReadiness",
    summary = "Whether calls are accepted",
    security(()),
    responses(
        (status = 200, description = "They are.", body = Object, example = json!({"status": "ready"})),
        (
            status = 503,
            description = "The server is shutting down; try again in a few seconds.",
            headers(("Retry-After" = i64, description = "Seconds after which to try again."))
        )
    )
)]
pub async fn ready(shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    if shared.scheduler.is_closed() {
        return Err(accept::shutting_down());
    }
    match tokio::time::timeout(PATIENCE, shared.store.ping()).await {
        Ok(Ok(())) => Ok(HttpResponse::Ok()
            .insert_header((header::CACHE_CONTROL, NO_STORE))
            .json(serde_json::json!({"status": "ready"}))),
        Ok(Err(error)) => {
            log::error!("not ready: {error}");
            Err(not_ready())
        }
        Err(_) => Err(not_ready()),
    }
}

fn not_ready() -> Error {
    Error::new(StatusCode::SERVICE_UNAVAILABLE, "The server's database does not answer; its log says why.")
        .retry_after(1)
}
