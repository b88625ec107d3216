//! `GET /ui/overview`: what the server does and has done, in figures.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::{Error, JSON, NO_STORE, Shared, manage, wait};
use crate::model::time;
use crate::stats::{Overview, Route, Span};
use crate::store::Minute;

#[derive(Serialize)]
struct Shown<'a> {
    span: &'static str,
    /// Seconds of a point.
    step: i64,
    points: Vec<Point>,
    now: Now,
    routes: Vec<Timing<'a>>,
}

#[derive(Serialize)]
struct Point {
    at: String,
    submitted: i64,
    finished: i64,
    failed: i64,
    cancelled: i64,
    running: i64,
    waiting: i64,
}

#[derive(Serialize)]
struct Now {
    running: usize,
    waiting: usize,
    sleeping: usize,
    oldest_waiting_s: Option<i64>,
    result_bytes: u64,
}

#[derive(Serialize)]
struct Timing<'a> {
    route: &'a str,
    count: u64,
    p50_ms: u64,
    p95_ms: u64,
}

/// The route.
pub async fn get(req: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Error> {
    if !manage::is_admin(&manage::who(&req)?) {
        return Err(Error::forbidden("Only administrators may look at the overview; list your own requests instead."));
    }
    let span = match wait::parameter(req.query_string(), "span") {
        None => Span::Hour,
        Some(name) => Span::named(&name).ok_or_else(|| Error::bad_request("span takes one of hour, day and week."))?,
    };
    let overview = shared.stats.overview(span).await?;
    let bytes = match shared.media.used() {
        Some(bytes) => bytes,
        None => shared.stats.result_bytes().await?,
    };
    let text = serde_json::to_string(&shown(&overview, bytes)).map_err(|error| {
        log::error!("{error}");
        Error::internal()
    })?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, NO_STORE))
        .insert_header((header::CONTENT_TYPE, JSON))
        .body(text))
}

fn shown(overview: &Overview, result_bytes: u64) -> Shown<'_> {
    let now = &overview.now;
    Shown {
        span: overview.span.name(),
        step: overview.span.step(),
        points: overview.points.iter().map(point).collect(),
        now: Now {
            running: now.running,
            waiting: now.waiting,
            sleeping: now.sleeping,
            oldest_waiting_s: overview.oldest_waiting,
            result_bytes,
        },
        routes: overview.routes.iter().map(timing).collect(),
    }
}

fn point(minute: &Minute) -> Point {
    let Minute { at, submitted, finished, failed, cancelled, running, waiting } = *minute;
    Point { at: time::format(at), submitted, finished, failed, cancelled, running, waiting }
}

fn timing(route: &Route) -> Timing<'_> {
    Timing { route: &route.route, count: route.count, p50_ms: route.p50, p95_ms: route.p95 }
}
