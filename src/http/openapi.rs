//! `GET /openapi.json`: what the server offers, as [OpenAPI 3.1](https://spec.openapis.org/oas/v3.1.0) describes it.
//!
//! Each handler says of itself what only it knows (`#[utoipa::path]`); what is the same for many is added in
//! `openapi/common.rs`. Listed are the server's own routes behind `server.mount`, without a version, and the API's
//! routes under their version: the same routes in their other form are not listed a second time.

mod common;

use std::sync::OnceLock;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use utoipa::openapi::{Info, OpenApi as Document, Paths};

use super::{
    Error, NO_STORE, Shared, callbacks, details, events, health, information, list, manage, media, report, rerun,
    result,
};
pub use common::{Accepted, Batch, Failure, InPath, Look, Outcome, Outcomes};

/// What an API says of itself.
pub type Description = fn() -> Document;

/// What every reader has to know first.
const INTRODUCTION: &str = "Any call of the API can be made in the background: with `?bgrs=yes`, or with \
    `Prefer: respond-async`, it is answered at once with 202 and the id of a background request. Where that stands, \
    its log, its result and its events are read below `/bgrs/{rid}`, which `Location` names. A JSON array that is sent \
    to a collection is a batch: one call for each element, in the background unless `bgrs=no` is there.\n\n\
    The routes of the API are there without a version too (`/users`): they are the newest version's. The server's own \
    routes below `/bgrs` are there under each version (`/v2.5/bgrs`). HEAD is answered wherever GET is.\n\n\
    Each error that the server makes is JSON with a reason phrase and one sentence that says what to do.";

/// What the server's own routes say of themselves.
#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        list::get,
        information::get,
        manage::delete,
        details::get,
        result::get,
        events::get,
        rerun::post,
        callbacks::get,
        callbacks::resend,
        report::post,
        media::get,
        health::alive,
        health::ready,
        get
    ),
    components(schemas(Accepted, Batch, Failure, Outcome, Outcomes)),
    tags(
        (name = "background requests", description = "Calls in the background: where they stand, what came of them."),
        (name = "server", description = "The server itself.")
    )
)]
struct Own;

/// The description of a server; put together when it is first asked for, since most never are.
pub struct Described {
    mount: String,
    api: Option<Description>,
    written: OnceLock<Bytes>,
}

impl Described {
    /// Of the server's own routes behind `mount`, and of what the hosted API says of itself.
    #[must_use]
    pub fn new(mount: String, api: Option<Description>) -> Self {
        Self { mount, api, written: OnceLock::new() }
    }

    fn text(&self) -> serde_json::Result<Bytes> {
        if let Some(text) = self.written.get() {
            return Ok(text.clone());
        }
        let text = Bytes::from(document(&self.mount, self.api.map(|describe| describe()))?);
        Ok(self.written.get_or_init(|| text).clone())
    }
}

fn document(mount: &str, api: Option<Document>) -> serde_json::Result<String> {
    let mut document = match api {
        Some(mut api) => {
            common::complete_api(&mut api);
            api
        }
        None => Document::new(Info::new("bgrs-server", env!("CARGO_PKG_VERSION")), Paths::new()),
    };
    let told = document.info.description.take().unwrap_or_default();
    document.info.description = Some(format!("{told}\n\n{INTRODUCTION}").trim_start().to_owned());
    let mut own = <Own as utoipa::OpenApi>::openapi();
    common::complete_own(&mut own);
    let mut document = document.nest(mount, own);
    common::complete(&mut document);
    document.to_json()
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "server",
    operation_id = "getDescription",
    responses((status = 200, description = "The server's description, as OpenAPI 3.1.", body = Object))
)]
pub async fn get(shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let text = web::block(move || shared.document.text()).await.map_err(|_| Error::internal())?;
    let text = text.map_err(|error| {
        log::error!("the description cannot be written: {error}");
        Error::internal()
    })?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, NO_STORE))
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .body(text))
}
