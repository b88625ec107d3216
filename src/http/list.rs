//! `GET /bgrs`: the caller's requests, newest first, page by page.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;

use super::{Error, JSON, NO_STORE, Shared, information, manage, wait};
use crate::model::{State, time};
use crate::store::Filter;
use crate::view;

/// Requests on a page that does not say how many.
const DEFAULT: usize = 50;

/// Requests on a page at most.
const MOST: usize = 1000;

/// The route.
#[utoipa::path(
    get,
    path = "/bgrs",
    tag = "background requests",
    operation_id = "listRequests",
    summary = "Background requests",
    description = "The caller's own, newest first.",
    params(
        (
            "status" = Option<String>, Query,
            pattern = "^(queued|running|retrying|finished|failed|cancelled|[1-6])(,(queued|running|retrying|finished|failed|cancelled|[1-6]))*$",
            example = "queued,running",
            description = "Only these states: names or ids, with commas in between."
        ),
        ("name" = Option<String>, Query, description = "Only calls whose path and query begin like this."),
        (
            "since" = Option<String>, Query, format = DateTime,
            description = "Only what was submitted then or later: as RFC 3339 has it, or `2017-12-26 18:21:52` in UTC."
        ),
        ("until" = Option<String>, Query, format = DateTime, description = "Only what was submitted earlier."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "So many at most; by default 50."),
        ("before" = Option<i64>, Query, minimum = 1, description = "Only requests whose `id` is below this one."),
        (
            "user_id" = Option<String>, Query, min_length = 1, example = "all",
            description = "Of this user, or of `all`; for administrators."
        ),
        ("verbose" = Option<String>, Query, example = "1", description = "`1` shows more of each.")
    ),
    responses(
        (
            status = 200,
            description = "The requests.",
            body = Vec<crate::view::Information>,
            headers(("Link" = String, description = "Where there is more, with rel=\"next\": the next page."))
        ),
        (status = 403, description = "Only administrators may list by user_id; without it your own are listed.")
    )
)]
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    let (filter, limit) = (filter(&req, &shared)?, limit(&req)?);
    let mut requests = shared.store.list(filter, limit + 1).await?;
    let more = requests.len() > limit;
    requests.truncate(limit);
    let mut response = HttpResponse::Ok();
    if let Some(last) = requests.last().filter(|_| more) {
        response.insert_header((header::LINK, format!("<{}>; rel=\"next\"", next(&req, last.id))));
    }
    let verbose = information::is_verbose(&req);
    Ok(response
        .insert_header((header::CACHE_CONTROL, NO_STORE))
        .insert_header((header::CONTENT_TYPE, JSON))
        .body(view::array(requests.iter().map(|request| view::object(request, verbose)))))
}

fn filter(req: &HttpRequest, shared: &Shared) -> Result<Filter, Error> {
    let query = req.query_string();
    let who = manage::who(req)?;
    let owners = match wait::parameter(query, "user_id") {
        None => Some(vec![Arc::unwrap_or_clone(who.owner)]),
        Some(_) if !manage::is_admin(&who) => {
            return Err(Error::forbidden("Only administrators may list by user_id; without it your own are listed."));
        }
        Some(all) if all == "all" => None,
        Some(id) if !id.is_empty() => Some(manage::owners_with(shared, &id)),
        Some(_) => return Err(Error::bad_request("user_id takes the id of a user, or all.")),
    };
    Ok(Filter {
        owners,
        states: wait::parameter(query, "status").map_or(Ok(Vec::new()), |text| states(&text))?,
        name: wait::parameter(query, "name").filter(|name| !name.is_empty()),
        since: moment(query, "since")?,
        until: moment(query, "until")?,
        before: before(query)?,
    })
}

/// States by their names or ids, with commas in between.
fn states(text: &str) -> Result<Vec<State>, Error> {
    let one = |text: &str| {
        let text = text.trim();
        State::ALL.into_iter().find(|state| state.name() == text || state.id().to_string() == text)
    };
    let mut states: Vec<_> = text.split(',').map(one).collect::<Option<_>>().ok_or_else(|| {
        let known: Vec<_> = State::ALL.iter().map(|state| state.name()).collect();
        Error::bad_request(format!("status takes names or ids, with commas in between: {}.", known.join(", ")))
    })?;
    states.sort_unstable_by_key(|state| state.id());
    states.dedup();
    Ok(states)
}

fn moment(query: &str, name: &str) -> Result<Option<Timestamp>, Error> {
    let Some(text) = wait::parameter(query, name) else { return Ok(None) };
    let read = time::parse_bound(&text);
    read.map(Some).ok_or_else(|| {
        Error::bad_request(format!("{name} takes a time such as 2026-01-31 10:00:00 (UTC) or 2026-01-31T10:00:00Z."))
    })
}

fn before(query: &str) -> Result<Option<i64>, Error> {
    let Some(text) = wait::parameter(query, "before") else { return Ok(None) };
    let id = text.parse().ok().filter(|id| *id > 0);
    id.map(Some).ok_or_else(|| Error::bad_request("before takes the id of a request, a whole number from 1 on."))
}

fn limit(req: &HttpRequest) -> Result<usize, Error> {
    let Some(text) = wait::parameter(req.query_string(), "limit") else { return Ok(DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or_else(|| Error::bad_request("limit takes a whole number from 1 to 1000."))
}

/// The link to the page behind `last`, with everything else as it was asked.
fn next(req: &HttpRequest, last: i64) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let others = form_urlencoded::parse(req.query_string().as_bytes()).filter(|(name, _)| name != "before");
    query.extend_pairs(others);
    query.append_pair("before", &last.to_string());
    format!("{}?{}", req.path(), query.finish())
}
