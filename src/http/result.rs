//! `GET /bgrs/{rid}/result`: the API's own answer, as if the call had been made in the foreground.

use actix_web::body;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};

use super::{Error, Shared, file, information, wait};
use crate::model::{Headers, State};
use crate::store::Request;

/// The route.
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
        None => {
            let mut response = HttpResponse::build(status);
            add(&mut response);
            file::protect(&mut response, request.rid);
            // How long the body of what was asked for with HEAD would be is not known: no length is said.
            if *req.method() == Method::HEAD { Ok(response.body(body::None::new())) } else { Ok(response.finish()) }
        }
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
