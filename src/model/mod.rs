//! The nouns of the domain: what a background request is, and what may become of it.
//!
//! No I/O, no actix, no SQL: everything here can be tested with values alone.

mod answer;
pub mod array;
mod call;
mod caller;
mod headers;
pub mod prefer;
mod rid;
mod state;
pub mod target;
pub mod time;

pub use answer::{Answer, Failure, FailureKind, Outcome, StoredResult};
pub use call::{Call, is_idempotent};
pub use caller::{Caller, Owner};
pub use headers::Headers;
pub use rid::Rid;
pub use state::State;
