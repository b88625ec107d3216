//! What came of a background request.

use bytes::Bytes;

use super::Headers;

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The API answered, whatever its HTTP status.
    Finished(Answer),
    /// No answer could be had.
    Failed(Failure),
}

/// The API's own answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The end-to-end headers that are the API's to say.
    pub headers: Headers,
    /// The body; `None` where there was none.
    pub result: Option<StoredResult>,
    /// The body's bytes, where its file is not durable yet: they are committed with the row, and dropped later.
    pub copy: Option<Bytes>,
}

/// A result's file: durable before anything names it, or its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResult {
    /// The file's name below the media folder.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// A digest of the bytes, as an entity tag's opaque part.
    pub etag: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One sentence for the caller: it becomes the last detail.
    pub detail: String,
    /// What kind of failure it is.
    pub kind: FailureKind,
}

/// The kinds of failure that a caller of the result can tell apart by the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No answer, or only a part of it: 502.
    NoAnswer,
    /// No answer in time: 504.
    TimedOut,
}

impl FailureKind {
    /// The HTTP status with which the result route reports it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NoAnswer => 502,
            Self::TimedOut => 504,
        }
    }
}

impl Failure {
    /// Of a call that a restart interrupted and that is not safe to repeat.
    #[must_use]
    pub fn interrupted(method: &str) -> Self {
        Self::no_answer(format!("interrupted by a restart; {method} is not repeated"))
    }

    /// A failure of the first kind.
    #[must_use]
    pub fn no_answer(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), kind: FailureKind::NoAnswer }
    }
}
