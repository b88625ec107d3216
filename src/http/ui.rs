//! `/ui`: pages for a browser. Their files are open to all; what they show, they ask for with the reader's credentials.

use actix_web::body::MessageBody;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

const PAGE: &str = include_str!("../../static/api.html");
const SCRIPT: &str = include_str!("../../static/api.js");
const STYLE: &str = include_str!("../../static/api.css");
const ICON: &str = include_str!("../../static/api.svg");

/// Nothing from elsewhere, nothing written into the page, and in no other page's frame.
const POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static("default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
);

/// `/ui/api`: the server's description, to read.
pub async fn api(req: HttpRequest) -> HttpResponse {
    // Its links are relative: it is the same behind every mount, and behind a proxy's own path.
    let up = if req.path().ends_with('/') { "../" } else { "" };
    file("text/html; charset=utf-8", PAGE.replace("{up}", up))
}

/// What shows it.
pub async fn script() -> HttpResponse {
    file("text/javascript; charset=utf-8", SCRIPT)
}

/// How it looks.
pub async fn style() -> HttpResponse {
    file("text/css; charset=utf-8", STYLE)
}

/// The page's sign in the browser's tab.
pub async fn icon() -> HttpResponse {
    file("image/svg+xml", ICON)
}

fn file(content_type: &'static str, body: impl MessageBody + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(POLICY)
        .body(body)
}
