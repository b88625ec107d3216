//! Errors as callers see them: JSON with a reason phrase and one sentence that says what to do.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

/// An error answer. What goes into the log stays out of it: no stack, no SQL, no path.
///
/// Handlers of an embedded API may return it too.
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    description: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    description: &'a str,
}

impl Error {
    /// An error with that status; `description` is one sentence that says what to do.
    #[must_use]
    pub fn new(status: StatusCode, description: impl Into<Cow<'static, str>>) -> Self {
        Self { status, description: description.into(), headers: Vec::new() }
    }

    /// 400.
    #[must_use]
    pub fn bad_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, description)
    }

    /// 403.
    #[must_use]
    pub fn forbidden(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, description)
    }

    /// 404.
    #[must_use]
    pub fn not_found(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, description)
    }

    /// 409.
    #[must_use]
    pub fn conflict(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, description)
    }

    /// 408, of a body; the connection is closed, since the rest of it may still come.
    #[must_use]
    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time; send it again without long pauses.")
            .with(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// 500; the cause belongs in the log.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The server failed; its log says why. Try again later.")
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        for (name, value) in &self.headers {
            if *name == header::CONNECTION {
                // The library does not look at the field.
                response.force_close();
            } else {
                response.append_header((name.clone(), value.clone()));
            }
        }
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        response.json(Body { error: self.status.canonical_reason().unwrap_or("Error"), description: &self.description })
    }
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        log::error!("{error}");
        if error.cannot_write() { Self::no_space() } else { Self::internal() }
    }
}

impl From<crate::media::Error> for Error {
    fn from(error: crate::media::Error) -> Self {
        log::error!("{error}");
        if error.is_full() { Self::no_space() } else { Self::internal() }
    }
}

impl Error {
    /// 507.
    #[must_use]
    pub fn no_space() -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "The server cannot store anything now, its disk may be full; nothing was kept. Try again later.",
        )
    }
}
