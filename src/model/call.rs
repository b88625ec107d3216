//! One captured API call: everything that is needed to make it again.

use std::borrow::Cow;
use std::time::Duration;

use super::{Headers, target};

/// An API call as it was sent, less what is of this hop or of this connection alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method, as sent.
    pub method: String,
    /// Path and query as the caller sent them, the `bgrs` parameter included.
    pub name: String,
    /// The headers that are kept.
    pub headers: Headers,
    /// The body's length in bytes; `None` where there is no body.
    pub body: Option<u64>,
    /// Whether the body holds a password: it is wiped when the request has ended.
    pub confidential: bool,
    /// The prefix of the upstream that it is for; `None`: the hosted API.
    pub upstream: Option<String>,
    /// Headers that are secrets, encrypted; wiped when the request has ended.
    pub secrets: Option<Vec<u8>>,
    /// The longest that it may take, where the caller said so.
    pub timeout: Option<Duration>,
    /// Whether it is made again after an attempt whose end nobody knows.
    pub repeatable: bool,
    /// Of a batch: the number of elements in its body, each a call of its own.
    pub batch: Option<u64>,
    /// The URL that is told of the end.
    pub callback: Option<String>,
}

impl Call {
    /// Path and query as the API is to see them.
    #[must_use]
    pub fn target(&self) -> Cow<'_, str> {
        target::strip(&self.name)
    }
}

/// Whether a call may be made twice: an idempotent method (RFC 9110 section 9.2.2), or one that carries an
/// `Idempotency-Key`.
#[must_use]
pub fn is_idempotent(method: &str, headers: &Headers) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE") || headers.get("idempotency-key").is_some()
}
