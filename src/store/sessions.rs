//! Who is signed in on the dashboard, as rows.

use async_trait::async_trait;
use jiff::Timestamp;

use super::Result;
use crate::model::Owner;

/// A browser in which somebody is signed in. Nobody can sign in with what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// A digest of the secret that the browser keeps: 64 hex digits.
    pub id: String,
    /// Who it is.
    pub owner: Owner,
    /// The credentials, encrypted.
    pub sealed: Vec<u8>,
    /// When it ends.
    pub expires: Timestamp,
}

/// Sessions, durable. Every act is whole or not there after a crash.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Keeps a session. When it returns, the row survives a kill.
    async fn add(&self, session: Session) -> Result<()>;

    /// The session of this id, unless it has ended by `now`.
    async fn find(&self, id: &str, now: Timestamp) -> Result<Option<Session>>;

    /// Removes a session, if it is there.
    async fn remove(&self, id: &str) -> Result<()>;

    /// Removes up to `limit` sessions that have ended by `now`, and says how many.
    async fn expire(&self, now: Timestamp, limit: usize) -> Result<usize>;
}
