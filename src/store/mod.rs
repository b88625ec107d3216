//! Rows: what is durable about background requests and users, apart from their bytes.
//!
//! [`Store`] speaks intent, and says for each act what a crash leaves behind; nothing in it is SQLite's.

mod callbacks;
mod campaigns;
mod sessions;
pub mod sqlite;
mod stats;
mod users;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::model::{Call, Caller, Outcome, Owner, Rid, State};
pub use callbacks::{Callbacks, Delivery};
pub use campaigns::{By, Campaign, CampaignChange, Campaigns, Count, Export, NewScan, OnRows, Scan, ScanFilter};
pub use sessions::{Session, Sessions};
pub use stats::{Durations, Minute, OTHER, Stats};
pub use users::{Change, Known, NewUser, Removal, User, Users};

/// What the store could not do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The disk, or what the store may use of it, is full or cannot be written.
    #[error("the database cannot be written: {0}")]
    CannotWrite(String),
    /// Another row has that value already.
    #[error("that {0} is taken")]
    Taken(&'static str),
    /// The file is there, but it is no database of this server.
    #[error("{0}")]
    NotOurs(String),
    /// Anything else; the text is for the log, not for a caller.
    #[error("the database failed: {0}")]
    Other(String),
}

impl Error {
    /// Whether the store could not be written (a full disk, say): waiting or making room may help.
    #[must_use]
    pub fn cannot_write(&self) -> bool {
        matches!(self, Self::CannotWrite(_))
    }
}

/// The result of a store's act.
pub type Result<T> = std::result::Result<T, Error>;

/// A request to be queued.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// Its id.
    pub rid: Rid,
    /// Whose it is.
    pub owner: Owner,
    /// Where the caller was only remembered: as whom. The act itself looks whether that still holds.
    pub vouched: Option<Arc<Known>>,
    /// The captured call; its body, if any, is durable already.
    pub call: Call,
    /// What makes sure that it is accepted once.
    pub key: Option<Key>,
    /// When it was accepted.
    pub created: Timestamp,
}

/// A digest of a call's method, target and body.
pub type Fingerprint = [u8; 16];

/// A caller's `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header) and the call that it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// As sent; it is the owner's own.
    pub text: String,
    /// A digest of the call: the same key with another call is a mistake.
    pub fingerprint: Fingerprint,
}

/// What became of a request that was to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It waits.
    Stored,
    /// The user is gone, or no longer as the request vouches; nothing was stored.
    Stranger,
    /// The owner's key has been used for that call, which is this request; nothing was stored.
    Known(Rid),
    /// The owner's key has been used for another call; nothing was stored.
    KeyTaken,
}

/// What follows upon an act.
pub type Then = Box<dyn FnOnce() + Send>;

/// What follows upon the beginning of a request.
pub type Begun = Box<dyn FnOnce(Claimed) + Send>;

/// What became of a request that was to be cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// It was queued.
    Queued,
    /// It was put aside until its next attempt.
    Retrying(Owner),
    /// A worker had it, by this hold.
    Running(Claim),
    /// It had ended already, and stays as it is.
    Ended,
}

/// Which requests are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Whose; `None`: everybody's.
    pub owners: Option<Vec<Owner>>,
    /// In one of these states; empty: in any.
    pub states: Vec<State>,
    /// What the name begins with.
    pub name: Option<String>,
    /// Accepted at this moment or later.
    pub since: Option<Timestamp>,
    /// Accepted before this moment.
    pub until: Option<Timestamp>,
    /// Only ids below this one.
    pub before: Option<i64>,
}

/// Results of some requests, one behind the other by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Results {
    /// Of those that have one: rid, the file's name, bytes.
    pub found: Vec<(Rid, String, u64)>,
    /// The id of the last that was looked at; `None`: there are no more.
    pub last: Option<i64>,
}

/// Where a request stands, as far as its files are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: State,
    /// Its result's file name.
    pub result: Option<String>,
    /// Whether its body is wiped at its end.
    pub confidential: bool,
}

/// A worker's hold on a request: what it writes is fenced by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The row.
    pub id: i64,
    /// The request.
    pub rid: Rid,
    /// Which attempt this is, from 1. No two claims of a request have the same number.
    pub attempt: i64,
}

/// A claimed request, with what is needed to run it.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The hold.
    pub claim: Claim,
    /// Whose it is.
    pub owner: Owner,
    /// The owner as a caller, if still one of the server's own users.
    pub caller: Option<Caller>,
    /// How many attempts were in vain, since the upstream was not there.
    pub tries: i64,
    /// The call to make.
    pub call: Call,
}

/// How an attempt ended, for the row.
#[derive(Debug, Clone)]
pub struct Ending {
    /// What came of it.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// When row, details and file expire.
    pub expires: Timestamp,
    /// Whether somebody is to be told: the call has a callback.
    pub told: bool,
}

/// A background request as it is shown. Times are the interface's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The row's id: later requests have higher ones.
    pub id: i64,
    /// The request's id.
    pub rid: Rid,
    /// Whose it is.
    pub owner: Owner,
    /// The method.
    pub method: String,
    /// Path and query as sent.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// Hundredths of a percent.
    pub progress: i64,
    /// How often a worker took it.
    pub attempts: i64,
    /// When it was accepted.
    pub created: String,
    /// When the last attempt began.
    pub started: Option<String>,
    /// When it ended.
    pub finished: Option<String>,
    /// When it goes.
    pub expires: Option<String>,
    /// The API's HTTP status.
    pub status: Option<u16>,
    /// The answer's content type, if it has a body.
    pub content_type: Option<String>,
    /// The answer's headers, in [`crate::model::Headers`]'s JSON form.
    pub head: Option<String>,
    /// The result's file name, length and digest.
    pub result: Option<crate::model::StoredResult>,
    /// Of a failed one: the HTTP status that its result answers with.
    pub failure: Option<u16>,
}

/// One line of a request's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// Ids grow with time.
    pub id: i64,
    /// When, as the interface shows it.
    pub dt: String,
    /// What.
    pub text: String,
}

/// What a removed or ended row leaves to be removed from the media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The request.
    pub rid: Rid,
    /// The result's file name.
    pub result: Option<String>,
    /// Whether it had a stored body.
    pub body: bool,
}

/// What became of a request that had lost its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rescued {
    /// It waits again.
    Requeued(Rid, Owner),
    /// It is not safe to repeat, or was tried too often: it failed.
    Failed(Rid),
}

/// Which running requests have lost their worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapsed {
    /// All of them: the process that ran them is gone.
    All,
    /// Those whose lease ended before this moment.
    Before(Timestamp),
}

/// How many requests of an owner have not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unended {
    /// Queued.
    pub waiting: usize,
    /// Retrying.
    pub sleeping: usize,
    /// With a worker.
    pub running: usize,
}

/// Background requests, durable. Every act is whole or not there after a crash; what is said below is what a
/// crash *between* acts leaves.
#[async_trait]
pub trait Store: Send + Sync {
    /// Queues a request. When it returns, the row survives a kill (and with full durability a power cut). A crash
    /// before leaves a body without a row, which the sweep removes.
    async fn insert(&self, new: NewRequest) -> Result<Inserted> {
        self.insert_then(Arc::new(new), Box::new(|| ())).await
    }

    /// The same; `then` is run where it was stored, once it is durable and before the answer, also if nobody waits for
    /// that any more.
    async fn insert_then(&self, new: Arc<NewRequest>, then: Then) -> Result<Inserted>;

    /// The same for a request that runs at once, until `lease`: as [`Store::insert`] and [`Store::claim`] in one. `then`
    /// gets it to run.
    async fn begin(&self, new: Arc<NewRequest>, now: Timestamp, lease: Timestamp, then: Begun) -> Result<Inserted>;

    /// An id for a request that is to be inserted: its row is found by it at once.
    fn new_rid(&self) -> Result<Rid>;

    /// The request that an owner's key was used for, with the fingerprint of its call.
    async fn keyed(&self, owner: &Owner, key: &str) -> Result<Option<(Rid, Fingerprint)>>;

    /// Ends a request that has not ended; `None` if there is no such request. Its worker's hold is lost with it; a crash
    /// right after it leaves a file of the body where that is confidential, which the sweep removes.
    async fn cancel(&self, rid: Rid, now: Timestamp, expires: Timestamp) -> Result<Option<Cancelled>>;

    /// Removes a request that has ended, with its details. A crash after it leaves files without a row, which the sweep
    /// removes. `None`: there is none that has ended.
    async fn forget(&self, rid: Rid) -> Result<Option<Leftover>>;

    /// The call of a request, as it was stored; its secrets are gone once it has ended.
    async fn call(&self, rid: Rid) -> Result<Option<Call>>;

    /// Up to `limit` requests, newest first.
    async fn list(&self, filter: Filter, limit: usize) -> Result<Vec<Request>>;

    /// Gives the owner's oldest waiting request to a worker until `lease`. A crash after it leaves a running row,
    /// which [`Store::rescue`] finds.
    async fn claim(&self, owner: &Owner, now: Timestamp, lease: Timestamp) -> Result<Option<Claimed>>;

    /// Queues a request that is running already, in this process: a call that began in the foreground. Else as
    /// [`Store::insert`] and [`Store::claim`] in one; `detail` is its first.
    async fn adopt(&self, new: NewRequest, lease: Timestamp, detail: &str) -> Result<Option<Claim>>;

    /// Puts a running request aside until `due`, unless its hold is lost (`false`), and says why in its details.
    async fn retry(&self, claim: Claim, now: Timestamp, due: Timestamp, detail: &str) -> Result<bool>;

    /// Requests put aside: whose, which, and until when.
    async fn retrying(&self) -> Result<Vec<(Owner, Rid, Timestamp)>>;

    /// Takes what an upstream reports of a request, as [`Store::report`] does; `None` if there is no such request,
    /// `false`, and nothing changed, where it has ended.
    async fn annotate(
        &self,
        rid: Rid,
        now: Timestamp,
        progress: Option<i64>,
        detail: Option<String>,
    ) -> Result<Option<bool>>;

    /// Prolongs the holds and returns those that are lost: their requests were rescued or removed.
    async fn heartbeat(&self, claims: Vec<Claim>, lease: Timestamp) -> Result<Vec<Claim>>;

    /// Takes a running request's progress, in hundredths of a percent (it never falls), and details with their times,
    /// oldest first; `false`, and nothing changed, where the hold is lost.
    async fn report(&self, claim: Claim, progress: Option<i64>, details: Vec<(String, String)>) -> Result<bool>;

    /// Ends a request, unless its hold is lost (`false`: nothing changed). The result's file must be durable before,
    /// or its bytes come with the answer: they are kept with the row until [`Store::settled`].
    async fn finish(&self, claim: Claim, ending: Ending) -> Result<bool>;

    /// [`Store::finish`] and [`Store::claim`] at the ending's time, in one: a crash leaves both or neither. Whether the
    /// hold was still there has no bearing on the claim.
    async fn finish_and_claim(
        &self,
        claim: Claim,
        ending: Ending,
        next: &Owner,
        lease: Timestamp,
    ) -> Result<(bool, Option<Claimed>)>;

    /// Up to `limit` requests whose results' files are not known to be durable: row and file name, by row, from
    /// behind `after`.
    async fn unsettled(&self, after: i64, limit: usize) -> Result<Vec<(i64, String)>>;

    /// The bytes kept for an unsettled result.
    async fn copy(&self, id: i64) -> Result<Option<Vec<u8>>>;

    /// Drops the bytes kept for these rows: their files are durable now.
    async fn settled(&self, ids: Vec<i64>) -> Result<()>;

    /// Puts a request back into the queue, unless its hold is lost (`false`), and says why in its details.
    async fn release(&self, claim: Claim, now: Timestamp, detail: &str) -> Result<bool>;

    /// Takes up to `limit` running requests that lost their worker: those that are safe to repeat and were not
    /// tried `attempts` times yet wait again, the others fail. None returned: there are no more.
    async fn rescue(
        &self,
        lapsed: Lapsed,
        attempts: i64,
        now: Timestamp,
        expires: Timestamp,
        limit: usize,
    ) -> Result<Vec<Rescued>>;

    /// Looks a request up.
    async fn get(&self, rid: Rid) -> Result<Option<Request>>;

    /// The same for a caller who is only remembered; `None` also where the user is no longer as remembered.
    async fn get_for(&self, rid: Rid, known: Arc<Known>) -> Result<Option<Request>>;

    /// Of these requests, those that exist, oldest first.
    async fn get_many(&self, rids: Vec<Rid>) -> Result<Vec<Request>>;

    /// Up to `limit` details of a request with ids above `after`, oldest first; `None` if there is no such request.
    async fn details(&self, rid: Rid, after: i64, limit: usize) -> Result<Option<Vec<Detail>>>;

    /// The text of a request's last detail.
    async fn last_detail(&self, rid: Rid) -> Result<Option<String>>;

    /// What has not ended, by owner.
    async fn unended(&self) -> Result<HashMap<Owner, Unended>>;

    /// Removes up to `limit` requests, with their details, that expired before `now`. A crash after it leaves
    /// files without rows, which the sweep removes.
    async fn expire(&self, now: Timestamp, limit: usize) -> Result<Vec<Leftover>>;

    /// Of these requests, those that exist.
    async fn standings(&self, rids: Vec<Rid>) -> Result<HashMap<Rid, Standing>>;

    /// The results of the first `limit` requests with an id above `after`.
    async fn results(&self, after: i64, limit: usize) -> Result<Results>;

    /// Marks a finished request as failed, since its result's file is gone from the disk.
    async fn lose(&self, rid: Rid, now: Timestamp) -> Result<()>;

    /// How many bytes all results have.
    async fn bytes(&self) -> Result<u64>;

    /// Answers once a write has gone through: what a load balancer wants to know.
    async fn ping(&self) -> Result<()>;
}
