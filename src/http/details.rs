//! `GET /bgrs/{rid}/details`: a request's log, streamed page by page, however long it is.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;

use super::{Error, JSON, NO_STORE, Shared, wait};
use crate::model::Rid;
use crate::store::{self, Detail};
use crate::view;

/// Details read at once.
const PAGE: usize = 500;

/// What is still to be sent.
struct Rest {
    shared: web::Data<Shared>,
    rid: Rid,
    after: i64,
    left: usize,
    page: Option<Vec<Detail>>,
    begun: bool,
}

/// The route.
#[utoipa::path(
    get,
    path = "/bgrs/{rid}/details",
    tag = "background requests",
    operation_id = "getDetails",
    summary = "A request's log",
    description = "Oldest first, streamed, all of it unless `limit` says otherwise.",
    params(
        super::openapi::InPath,
        ("after" = Option<i64>, Query, minimum = 0, description = "Only records behind the one with this id."),
        ("limit" = Option<i64>, Query, minimum = 0, description = "So many at most.")
    ),
    responses(
        (status = 200, description = "The records.", body = Vec<crate::view::Line>),
        (status = 404, description = "There is no background request of that id, or it has expired; check the id.")
    )
)]
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let rid = wait::rid(&req)?;
    let after = number(&req, "after")?.unwrap_or(0);
    let left = number(&req, "limit")?.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    shared.find(rid).await?.ok_or_else(wait::unknown)?;
    let first = shared.store.details(rid, after, PAGE.min(left)).await?.ok_or_else(wait::unknown)?;
    let rest = Rest { shared, rid, after, left, page: Some(first), begun: false };
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, NO_STORE))
        .insert_header((header::CONTENT_TYPE, JSON))
        .streaming(stream::try_unfold(rest, next)))
}

/// The next piece of the array; the page that follows is read only when the client has taken this one.
async fn next(mut rest: Rest) -> store::Result<Option<(Bytes, Rest)>> {
    let Some(page) = rest.page.take() else { return Ok(None) };
    let page = if rest.begun && page.is_empty() && rest.left > 0 {
        rest.shared.store.details(rest.rid, rest.after, PAGE.min(rest.left)).await?.unwrap_or_default()
    } else {
        page
    };
    let full = page.len() == PAGE;
    rest.left = rest.left.saturating_sub(page.len());
    rest.after = page.last().map_or(rest.after, |detail| detail.id);
    let last = !full || rest.left == 0;
    let piece = piece(rest.rid, &page, rest.begun, last);
    rest.begun = true;
    rest.page = (!last).then(Vec::new);
    Ok(Some((piece, rest)))
}

fn piece(rid: Rid, page: &[Detail], begun: bool, last: bool) -> Bytes {
    let mut text = String::new();
    if !begun {
        text.push('[');
    }
    for (at, detail) in page.iter().enumerate() {
        if begun || at > 0 {
            text.push(',');
        }
        text.push_str(&view::detail(rid, detail));
    }
    if last {
        text.push(']');
    }
    text.into()
}

fn number(req: &HttpRequest, name: &str) -> Result<Option<i64>, Error> {
    let Some(value) = wait::parameter(req.query_string(), name) else { return Ok(None) };
    match value.parse() {
        Ok(number) if number >= 0 => Ok(Some(number)),
        _ => Err(Error::bad_request(format!("{name} takes a whole number from 0 on."))),
    }
}
