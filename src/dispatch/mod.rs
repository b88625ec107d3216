//! Performing one captured call.

mod batch;
pub mod headers;
mod in_process;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::model::{Call, Caller, Headers, Rid};
use crate::progress::Progress;
pub use batch::Batch;
pub use in_process::{Background, InProcess, Routes};

/// What is to be performed.
pub struct Replay {
    /// The request.
    pub rid: Rid,
    /// The call.
    pub call: Call,
    /// In whose name.
    pub caller: Caller,
    /// Where the handler reports to.
    pub progress: Progress,
    /// Whether it is one of several calls of this request, which begin in the order in which they are dispatched.
    pub in_turn: bool,
    /// The stored body, if the call has one.
    pub body: Option<BoxStream<'static, std::io::Result<Bytes>>>,
}

/// The API's answer, as it comes.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers that are kept.
    pub headers: Headers,
    /// The body; an error in it means that the answer broke off.
    pub body: BoxStream<'static, Result<Bytes, Error>>,
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
    /// What is stored of the call is none that can be made.
    #[error("the stored call cannot be made again")]
    Malformed,
    /// The threads that run the API are gone.
    #[error("the API is not running")]
    Stopped,
}

/// Performs captured calls. Dropping the future, or the answer's body, drops the call.
#[async_trait]
pub trait Dispatch: Send + Sync {
    /// Performs one call and returns when the answer's head is there.
    async fn dispatch(&self, replay: Replay) -> Result<Response, Error>;
}
