//! `/ui`: pages for a browser. Their files are open to all; what they show, they ask for with the reader's credentials.

use actix_web::body::MessageBody;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

/// A file of the pages.
pub struct File {
    /// The last segment of its path; none: the page of the folder itself.
    pub name: &'static str,
    content_type: &'static str,
    bytes: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// The dashboard, and what the page of the API is made of.
pub static FILES: [File; 16] = [
    File { name: "", content_type: HTML, bytes: include_str!("../../static/ui/index.html") },
    File { name: "app.js", content_type: SCRIPT, bytes: include_str!("../../static/ui/app.js") },
    File { name: "net.js", content_type: SCRIPT, bytes: include_str!("../../static/ui/net.js") },
    File { name: "dom.js", content_type: SCRIPT, bytes: include_str!("../../static/ui/dom.js") },
    File { name: "list.js", content_type: SCRIPT, bytes: include_str!("../../static/ui/list.js") },
    File { name: "filters.js", content_type: SCRIPT, bytes: include_str!("../../static/ui/filters.js") },
    File { name: "rows.js", content_type: SCRIPT, bytes: include_str!("../../static/ui/rows.js") },
    File { name: "request.js", content_type: SCRIPT, bytes: include_str!("../../static/ui/request.js") },
    File { name: "preview.js", content_type: SCRIPT, bytes: include_str!("../../static/ui/preview.js") },
    File { name: "overview.js", content_type: SCRIPT, bytes: include_str!("../../static/ui/overview.js") },
    File { name: "compose.js", content_type: SCRIPT, bytes: include_str!("../../static/ui/compose.js") },
    File { name: "app.css", content_type: STYLE, bytes: include_str!("../../static/ui/app.css") },
    File { name: "icon.svg", content_type: ICON, bytes: include_str!("../../static/ui/icon.svg") },
    File { name: "api.js", content_type: SCRIPT, bytes: include_str!("../../static/api.js") },
    File { name: "api.css", content_type: STYLE, bytes: include_str!("../../static/api.css") },
    File { name: "api.svg", content_type: ICON, bytes: include_str!("../../static/api.svg") },
];

const API: &str = include_str!("../../static/api.html");

/// Nothing from elsewhere, nothing written into the page, and in no other page's frame.
const POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static("default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
);

/// `/ui`: the folder's links are relative to what is in it.
pub async fn folder() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "ui/")).finish()
}

/// `/ui/api`: the server's description, to read.
pub async fn api(req: HttpRequest) -> HttpResponse {
    // Its links are relative: it is the same behind every mount, and behind a proxy's own path.
    let up = if req.path().ends_with('/') { "../" } else { "" };
    answer(HTML, API.replace("{up}", up))
}

/// One of [`FILES`].
pub fn file(file: &'static File) -> HttpResponse {
    answer(file.content_type, file.bytes)
}

fn answer(content_type: &'static str, body: impl MessageBody + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(POLICY)
        .body(body)
}
