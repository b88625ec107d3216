//! `GET /bgrs/{rid}`: where a request stands.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};

use super::{Error, JSON, NO_STORE, RETRY_AFTER, Shared, wait};
use crate::store::Request;
use crate::view;

/// The route.
#[utoipa::path(
    get,
    path = "/bgrs/{rid}",
    tag = "background requests",
    operation_id = "getRequest",
    summary = "Where a request stands",
    description = "For anybody with credentials: the id is the secret.",
    params(super::openapi::InPath, super::openapi::Look),
    responses(
        (
            status = 200,
            description = "An array of one.",
            body = Vec<crate::view::Information>,
            headers(("Retry-After" = i64, description = "While it has not ended: seconds after which to ask again."))
        ),
        (status = 404, description = "There is no background request of that id, or it has expired; check the id.")
    )
)]
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let request = wait::request(&req, &shared).await?;
    Ok(answer(&request, HttpResponse::Ok(), is_verbose(&req)))
}

/// Whether the caller wants the longer form.
pub fn is_verbose(req: &HttpRequest) -> bool {
    wait::parameter(req.query_string(), "verbose").as_deref() == Some("1")
}

/// The answer that shows a request.
pub fn answer(request: &Request, mut response: actix_web::HttpResponseBuilder, verbose: bool) -> HttpResponse {
    if !request.state.has_ended() {
        response.insert_header((header::RETRY_AFTER, RETRY_AFTER));
    }
    response
        .insert_header((header::CACHE_CONTROL, NO_STORE))
        .insert_header((header::CONTENT_TYPE, JSON))
        .body(view::array([view::object(request, verbose)]))
}
