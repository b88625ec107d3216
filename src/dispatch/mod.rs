//! Performing one captured call.

mod batch;
pub mod headers;
mod in_process;
pub mod upstream;

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::model::{Call, Caller, Headers, Rid};
use crate::progress::Progress;
pub use batch::Batch;
pub use in_process::{Background, InProcess, Routes};

/// What is to be performed.
pub struct Replay {
    /// The request.
    pub rid: Rid,
    /// Whether there is a request of that id, or it stands for a call in the foreground alone.
    pub is_stored: bool,
    /// The call.
    pub call: Call,
    /// In whose name; `None`: somebody whom only the upstream knows.
    pub caller: Option<Caller>,
    /// Where the handler reports to.
    pub progress: Progress,
    /// Whether it is one of several calls of this request, which begin in the order in which they are dispatched.
    pub in_turn: bool,
    /// Where an upstream reports to.
    pub report: Option<Report>,
    /// The stored body, if the call has one.
    pub body: Option<BoxStream<'static, std::io::Result<Bytes>>>,
}

/// Where an upstream reports its progress to.
#[derive(Clone)]
pub struct Report {
    /// The URL to post to.
    pub url: String,
    /// What it has to show there.
    pub token: String,
}

/// The API's answer, as it comes.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers that are kept.
    pub headers: Headers,
    /// The body's length, where it is said beforehand.
    pub length: Option<u64>,
    /// The body; an error in it means that the answer broke off.
    pub body: BoxStream<'static, Result<Bytes, Error>>,
}

/// A call that is on its way since before it was a background request.
pub struct UnderWay {
    /// Its answer.
    pub answer: BoxFuture<'static, Result<Response, Error>>,
    /// When it began: its time runs since then.
    pub begun: Instant,
    /// Whether it had a body: it was streamed, and cannot be sent again.
    pub has_body: bool,
}

/// Why there is no answer, or not all of it. The texts are for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The handler panicked.
    #[error("the API's handler broke down; the server's log says where")]
    Panicked,
    /// The answer broke off before its end.
    #[error("the API's answer broke off; the server's log says why")]
    BrokeOff,
    /// No connection came about.
    #[error("the upstream cannot be reached: {0}")]
    Unreachable(String),
    /// The connection ended, or said something that is no HTTP, before there was an answer.
    #[error("the upstream broke off before it had answered: {0}")]
    Unanswered(String),
    /// The same, on a connection that had served another call before: it may have been closed when this one took it.
    #[error("the upstream broke off before it had answered: {0}")]
    Stale(String),
    /// The configuration that the call was accepted with had an upstream that this one has not.
    #[error("there is no upstream {0} any more")]
    Gone(String),
    /// What is stored of the call is none that can be made.
    #[error("the stored call cannot be made again")]
    Malformed,
    /// The threads that run the API are gone.
    #[error("the API is not running")]
    Stopped,
}

impl Error {
    /// Whether another attempt may succeed: there was no answer at all.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unanswered(_) | Self::Stale(_))
    }
}

/// Performs captured calls. Dropping the future, or the answer's body, drops the call.
#[async_trait]
pub trait Dispatch: Send + Sync {
    /// Performs one call and returns when the answer's head is there.
    async fn dispatch(&self, replay: Replay) -> Result<Response, Error>;
}
