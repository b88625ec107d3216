//! Deliveries of callbacks, as rows: one for each attempt, due or made.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Request, Result};
use crate::model::Rid;

/// An attempt to tell a callback's URL of a request's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Later ones have higher ids.
    pub id: i64,
    /// The request that has ended.
    pub rid: Rid,
    /// Where it goes.
    pub url: String,
    /// Which attempt it is, from 1.
    pub attempt: i64,
    /// From when on it is to be made.
    pub due: Timestamp,
    /// When it was made, as the interface shows it.
    pub sent: Option<String>,
    /// What the receiver answered: an HTTP status.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// Deliveries, durable. A request's first one is made in the transaction that ends it. Every act is whole or not there
/// after a crash; a crash between sending and [`Callbacks::delivered`] leaves a delivery that is due and is made again:
/// receivers hear of an end at least once.
#[async_trait]
pub trait Callbacks: Send + Sync {
    /// Up to `limit` deliveries that are due and not made, the one that is due for longest first, each with its request
    /// as it is now. Those whose URL begins with one of `but` are left out.
    async fn due(&self, now: Timestamp, but: Vec<String>, limit: usize) -> Result<Vec<(Delivery, Request)>>;

    /// When the next one is due of those that are not yet at `now`.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>>;

    /// Notes that a delivery was made, and what came of it; with `again`, another attempt is due then, in the same act.
    /// One that is gone meanwhile, with its request, or that was made before, stays as it is.
    async fn delivered(
        &self,
        id: i64,
        at: Timestamp,
        status: Option<u16>,
        error: Option<String>,
        again: Option<Timestamp>,
    ) -> Result<()>;

    /// A request's deliveries, oldest first; `None` if there is no such request.
    async fn of(&self, rid: Rid) -> Result<Option<Vec<Delivery>>>;

    /// Makes a first attempt due once more, as one of an ended request's deliveries was, whatever came of that one;
    /// `None`: there is no such delivery.
    async fn resend(&self, rid: Rid, id: i64, now: Timestamp) -> Result<Option<Delivery>>;
}
