//! How a request and a line of its log are shown: the objects of the interface, in answers, events and callbacks.

use serde::Serialize;

use crate::model::Rid;
use crate::store::{Detail, Request};

/// A request. Keys and order are part of the interface, every value is text or null.
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

/// A line of its log.
#[derive(Serialize)]
struct Line<'a> {
    id: String,
    rid: String,
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
