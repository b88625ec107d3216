//! `GET /bgrs/{rid}`: where a request stands.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::{Error, JSON, NO_STORE, RETRY_AFTER, Shared, wait};
use crate::store::Request;

/// The object of the interface: keys and order are part of it, every value is text or null.
#[derive(Serialize)]
struct Information<'a> {
    id: String,
    rid: String,
    user_id: &'a str,
    name: &'a str,
    created_dt: &'a str,
    status_id: String,
    status_name: &'a str,
    progress: String,
    finished_dt: Option<&'a str>,
    status: Option<String>,
    content_type: Option<&'a str>,
    result: Option<String>,
    #[serde(flatten)]
    more: Option<More<'a>>,
}

/// What `?verbose=1` adds.
#[derive(Serialize)]
struct More<'a> {
    method: &'a str,
    started_dt: Option<&'a str>,
    attempts: String,
    size: Option<String>,
    expires_dt: Option<&'a str>,
}

/// The route.
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
        .body(to_json(request, verbose))
}

fn to_json(request: &Request, verbose: bool) -> String {
    let information = Information {
        id: request.id.to_string(),
        rid: request.rid.to_string(),
        user_id: &request.owner.id,
        name: &request.name,
        created_dt: &request.created,
        status_id: request.state.id().to_string(),
        status_name: request.state.name(),
        progress: format!("{}.{:02}", request.progress / 100, request.progress % 100),
        finished_dt: request.finished.as_deref(),
        status: request.status.map(|status| status.to_string()),
        content_type: request.content_type.as_deref(),
        result: request.result.as_ref().map(|file| format!("media/{}", file.name)),
        more: verbose.then(|| More {
            method: &request.method,
            started_dt: request.started.as_deref(),
            attempts: request.attempts.to_string(),
            size: request.result.as_ref().map(|file| file.size.to_string()),
            expires_dt: request.expires.as_deref(),
        }),
    };
    // Texts and nulls: there is nothing in it that serialising could refuse.
    serde_json::to_string(&[information]).unwrap_or_default()
}
