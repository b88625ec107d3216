//! The server's own users, as rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Leftover, Result};
use crate::model::{Caller, Owner};

/// A user. Not `Debug`: the hash must not slip into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Never used again after the user is gone.
    pub id: i64,
    /// What the user signs in with.
    pub login: String,
    /// The argon2id hash of the password, in PHC form.
    pub password: String,
    /// The name to show.
    pub display_name: Option<String>,
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
    /// Whether the user is an administrator.
    pub is_admin: bool,
    /// Whether the user may only look.
    pub read_only: bool,
    /// When the user was made, as the interface shows it.
    pub created: String,
}

/// What is remembered of a user whose password was right; it vouches for the user's submissions.
pub struct Known {
    /// The user.
    pub id: i64,
    /// As it was then, here and below.
    pub login: String,
    /// The hash.
    pub password: String,
    /// Whether the user was an administrator.
    pub is_admin: bool,
    /// Whether the user might only look.
    pub read_only: bool,
    /// The owner of what the user submits.
    pub owner: Arc<Owner>,
    /// The users' mark at which the row said the same; 0: it was not looked at since.
    seen: AtomicU64,
}

impl Known {
    /// Whether the row has said the same when the users' mark was this one.
    #[must_use]
    pub fn is_current(&self, mark: u64) -> bool {
        self.seen.load(Ordering::Acquire) == mark
    }

    /// Takes note that the row says the same; it was looked at after `mark` was asked for.
    pub fn see(&self, mark: u64) {
        self.seen.store(mark, Ordering::Release);
    }

    /// Whether the user is still as remembered.
    #[must_use]
    pub fn is(&self, user: &User) -> bool {
        (self.id, self.is_admin, self.read_only) == (user.id, user.is_admin, user.read_only)
            && self.login == user.login
            && self.password == user.password
    }

    /// The user as a caller.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller { user_id: self.id, is_admin: self.is_admin, read_only: self.read_only }
    }
}

impl From<&User> for Known {
    fn from(user: &User) -> Self {
        Self {
            id: user.id,
            login: user.login.clone(),
            password: user.password.clone(),
            is_admin: user.is_admin,
            read_only: user.read_only,
            owner: Arc::new(Owner::local(user.id)),
            seen: AtomicU64::new(0),
        }
    }
}

/// Without the hash: it must not slip into a log.
impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A user to be made.
#[derive(Clone)]
pub struct NewUser {
    /// Must not be taken.
    pub login: String,
    /// The hash.
    pub password: String,
    /// The other fields.
    pub change: Change,
    /// When.
    pub created: Timestamp,
}

/// Fields to write: `None` leaves one as it is.
#[derive(Clone, Default)]
pub struct Change {
    /// A new login.
    pub login: Option<String>,
    /// A new hash.
    pub password: Option<String>,
    /// The name to show; `Some(None)` clears it, here and below.
    pub display_name: Option<Option<String>>,
    /// The first name.
    pub first_name: Option<Option<String>>,
    /// The last name.
    pub last_name: Option<Option<String>>,
    /// The e-mail address.
    pub email: Option<Option<String>>,
    /// Whether the user is an administrator.
    pub is_admin: Option<bool>,
    /// Whether the user may only look.
    pub read_only: Option<bool>,
}

/// What came of removing a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// There is no such user.
    Unknown,
    /// It is the last administrator: nothing changed.
    LastAdministrator,
    /// The user owns a campaign: nothing changed.
    OwnsCampaign,
    /// Some of the user's background requests are gone, with these files to remove; call again.
    Partly(Vec<Leftover>),
    /// The user is gone, with the last of the background requests.
    Done(Vec<Leftover>),
}

/// The users, durable.
#[async_trait]
pub trait Users: Send + Sync {
    /// The same number, never 0, as long as no user can have changed, by whatever process; `None` while that is not known. What was
    /// read after it was asked for holds for as long.
    fn mark(&self) -> Option<u64>;

    /// Looks a user up by the login, exactly as it is written.
    async fn find(&self, login: &str) -> Result<Option<User>>;

    /// Looks a user up by the id.
    async fn user(&self, id: i64) -> Result<Option<User>>;

    /// Up to `limit` users with an id above `after`, by id.
    async fn users(&self, after: i64, limit: usize) -> Result<Vec<User>>;

    /// Makes a user. [`super::Error::Taken`] if the login is.
    async fn add(&self, new: NewUser) -> Result<User>;

    /// Makes the first administrator, if there is none at all: looking and making are one act.
    async fn add_first_administrator(&self, new: NewUser) -> Result<Option<User>>;

    /// Whether there is any administrator.
    async fn has_administrator(&self) -> Result<bool>;

    /// Writes fields. `Ok(None)`: no such user. `Ok(Some(None))`: it would take away the last administrator's right.
    async fn change(&self, id: i64, change: Change) -> Result<Option<Option<User>>>;

    /// Removes up to `limit` of a user's background requests, and with the last of them the user.
    async fn remove(&self, id: i64, limit: usize) -> Result<Removal>;
}
