//! Figures of what was done, minute by minute and route by route, as rows.

use async_trait::async_trait;
use jiff::Timestamp;

use super::Result;

/// The route of whatever has no place of its own among an hour's routes.
pub const OTHER: &str = "other";

/// What was done in a minute, or in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minute {
    /// When it began.
    pub at: Timestamp,
    /// Requests that were accepted in it.
    pub submitted: i64,
    /// Requests that ended with an answer.
    pub finished: i64,
    /// Requests that ended without one.
    pub failed: i64,
    /// Requests that were cancelled.
    pub cancelled: i64,
    /// How many ran at its end; of several, the most.
    pub running: i64,
    /// How many waited at its end; of several, the most.
    pub waiting: i64,
}

impl Minute {
    /// A minute in which nothing was done.
    #[must_use]
    pub const fn new(at: Timestamp) -> Self {
        Self { at, submitted: 0, finished: 0, failed: 0, cancelled: 0, running: 0, waiting: 0 }
    }

    /// Takes in what was done in another.
    pub fn add(&mut self, other: &Self) {
        self.submitted += other.submitted;
        self.finished += other.finished;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.running = self.running.max(other.running);
        self.waiting = self.waiting.max(other.waiting);
    }
}

/// How long the calls of a route took that ended in an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durations {
    /// When the hour began.
    pub hour: Timestamp,
    /// The route.
    pub route: String,
    /// How many calls took how long: a number for each span of durations, the shortest first.
    pub buckets: Vec<u64>,
}

/// Figures, durable. Minutes and routes of which there is nothing to tell have no row.
#[async_trait]
pub trait Stats: Send + Sync {
    /// Adds to what is there of these minutes and hours, and drops what is from before `oldest`. An hour has `routes` routes
    /// at most, further ones are added to [`OTHER`]. All of it or nothing is there after a crash.
    async fn add_figures(
        &self,
        minutes: Vec<Minute>,
        durations: Vec<Durations>,
        routes: usize,
        oldest: Timestamp,
    ) -> Result<()>;

    /// The minutes from one on, and the durations from an hour on, each oldest first.
    async fn figures(&self, minute: Timestamp, hour: Timestamp) -> Result<(Vec<Minute>, Vec<Durations>)>;

    /// When the oldest of those that are queued was accepted. It walks along all that has not ended.
    async fn oldest_waiting(&self) -> Result<Option<Timestamp>>;

    /// How many bytes all results have. It walks along all rows.
    async fn result_bytes(&self) -> Result<u64>;
}
