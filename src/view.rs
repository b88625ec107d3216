//! How a request and a line of its log are shown: the objects of the interface, in answers, events and callbacks.

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::Rid;
use crate::store::{Detail, Request};

/// A request. Keys and order are part of the interface, every value is text or null.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "267", "rid": "4ff7cc2d88b1de88e83cce3f1caa1509", "user_id": "1", "name": "/v2.5/users/me?bgrs=yes",
    "created_dt": "2017-12-26 18:21:52", "status_id": "4", "status_name": "finished", "progress": "100.00",
    "finished_dt": "2017-12-26 18:21:52", "status": "200", "content_type": "application/json; charset=utf-8",
    "result": "media/keep1m.bgrs.4ff7cc2d88b1de88e83cce3f1caa1509.result.json"
})))]
pub struct Information<'a> {
    #[schema(pattern = "^[0-9]+$")]
    id: String,
    #[schema(pattern = "^[0-9a-f]{32}$")]
    rid: String,
    /// Whose it is.
    user_id: &'a str,
    /// Path and query, as they were sent.
    name: &'a str,
    /// Times are UTC.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")]
    created_dt: &'a str,
    #[schema(pattern = "^[1-6]$")]
    status_id: String,
    /// Which of them end: finished, failed and cancelled.
    #[schema(pattern = "^(queued|running|retrying|finished|failed|cancelled)$")]
    status_name: &'a str,
    /// Percent, never falling.
    #[schema(pattern = "^(100\\.00|[0-9]{1,2}\\.[0-9]{2})$")]
    progress: String,
    #[schema(required = true, pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")]
    finished_dt: Option<&'a str>,
    /// The HTTP status that the API answered.
    #[schema(required = true, pattern = "^[1-9][0-9]{2}$")]
    status: Option<String>,
    #[schema(required = true)]
    content_type: Option<&'a str>,
    /// The path of the result's file, relative to the API's root.
    #[schema(required = true, pattern = "^media/")]
    result: Option<String>,
    #[serde(flatten)]
    #[schema(value_type = More)]
    more: Option<More<'a>>,
}

/// What `?verbose=1` adds.
#[derive(Serialize, ToSchema)]
#[schema(as = Verbose)]
pub struct More<'a> {
    #[schema(required = false)]
    method: &'a str,
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")]
    started_dt: Option<&'a str>,
    /// How often it was begun.
    #[schema(required = false, pattern = "^[0-9]+$")]
    attempts: String,
    /// Bytes of the result.
    #[schema(pattern = "^[0-9]+$")]
    size: Option<String>,
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")]
    expires_dt: Option<&'a str>,
}

/// A line of its log.
#[derive(Serialize, ToSchema)]
#[schema(as = Detail, examples(json!({
    "id": "5802", "rid": "4ff7cc2d88b1de88e83cce3f1caa1509", "dt": "2017-12-26 18:21:52", "details": "done"
})))]
pub struct Line<'a> {
    #[schema(pattern = "^[0-9]+$")]
    id: String,
    #[schema(pattern = "^[0-9a-f]{32}$")]
    rid: String,
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")]
    dt: &'a str,
    details: &'a str,
}

/// The object of a request; with more in it where it is to be `verbose`.
#[must_use]
pub fn object(request: &Request, verbose: bool) -> String {
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
    text(&information)
}

/// The object of a line of a request's log.
#[must_use]
pub fn detail(rid: Rid, detail: &Detail) -> String {
    text(&Line { id: detail.id.to_string(), rid: rid.to_string(), dt: &detail.dt, details: &detail.text })
}

/// An array of objects that are written already.
#[must_use]
pub fn array(objects: impl IntoIterator<Item = String>) -> String {
    let objects: Vec<_> = objects.into_iter().collect();
    format!("[{}]", objects.join(","))
}

fn text(value: &impl Serialize) -> String {
    // Texts and nulls: there is nothing in it that serialising could refuse.
    serde_json::to_string(value).unwrap_or_default()
}
