//! The rules of users, the same for the hosted API, the command line and the first start.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::auth::{self, Authenticator, basic};
use crate::clock::Clock;
use crate::media::{self, Media};
use crate::store::{self, Change, Leftover, NewUser, Removal, User, Users};

/// Background requests removed in one step with their user.
const STEP: usize = 500;

/// Characters of a name or an e-mail address at most.
const LONGEST_TEXT: usize = 1000;

/// Random bytes in a password that the server makes up: 144 bits.
const RANDOM: usize = 18;

/// Why an act on users is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that a field cannot take.
    #[error("{field} {what}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What it must be, as the end of a sentence.
        what: &'static str,
    },
    /// Another user has the login.
    #[error("this login is taken; choose another")]
    Taken,
    /// There is no such user.
    #[error("there is no such user")]
    Unknown,
    /// It would leave the server without an administrator.
    #[error("this is the last administrator; make another one first")]
    LastAdministrator,
    /// A user who owns a campaign cannot go.
    #[error("this user owns a campaign; remove it or give it to another user first")]
    OwnsCampaign,
    /// Too many passwords are being hashed.
    #[error("too many passwords are being hashed; try again")]
    Busy,
    /// The users cannot be read or written.
    #[error(transparent)]
    Store(store::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Taken(_) => Self::Taken,
            other => Self::Store(other),
        }
    }
}

/// What callers write about a user; the password in clear text, wiped when it is dropped.
#[derive(Default)]
pub struct Draft {
    /// The fields that become columns as they are; its `password` is not used.
    pub change: Change,
    /// A new password.
    pub password: Option<Zeroizing<String>>,
}

/// The users under their rules.
pub struct Accounts {
    users: Arc<dyn Users>,
    media: Arc<dyn Media>,
    clock: Arc<dyn Clock>,
    auth: Arc<Authenticator>,
}

impl Accounts {
    /// The users of this store, whose requests' files lie in these media.
    #[must_use]
    pub fn new(users: Arc<dyn Users>, media: Arc<dyn Media>, clock: Arc<dyn Clock>, auth: Arc<Authenticator>) -> Self {
        Self { users, media, clock, auth }
    }

    /// Makes a user; login and password are required.
    ///
    /// # Errors
    /// What is wrong with a field, or that the login is taken.
    pub async fn add(&self, draft: Draft) -> Result<User, Error> {
        Ok(self.users.add(self.new_user(draft).await?).await?)
    }

    /// Changes a user.
    ///
    /// # Errors
    /// What is wrong with a field, or which rule forbids it.
    pub async fn change(&self, id: i64, draft: Draft) -> Result<User, Error> {
        check(&draft)?;
        let mut change = draft.change;
        if let Some(password) = draft.password {
            change.password = Some(self.hash(password).await?);
        }
        match self.users.change(id, change).await? {
            None => Err(Error::Unknown),
            Some(None) => Err(Error::LastAdministrator),
            Some(Some(user)) => Ok(user),
        }
    }

    /// Removes a user with all background requests, in steps: rows first, files after them.
    ///
    /// # Errors
    /// Which rule forbids it.
    pub async fn remove(&self, id: i64) -> Result<(), Error> {
        loop {
            match self.users.remove(id, STEP).await? {
                Removal::Unknown => return Err(Error::Unknown),
                Removal::LastAdministrator => return Err(Error::LastAdministrator),
                Removal::OwnsCampaign => return Err(Error::OwnsCampaign),
                Removal::Partly(gone) => self.remove_files(gone).await,
                Removal::Done(gone) => {
                    self.remove_files(gone).await;
                    return Ok(());
                }
            }
        }
    }

    /// A user by id.
    ///
    /// # Errors
    /// [`Error::Unknown`], or when the users cannot be read.
    pub async fn get(&self, id: i64) -> Result<User, Error> {
        self.users.user(id).await?.ok_or(Error::Unknown)
    }

    /// A user by login.
    ///
    /// # Errors
    /// [`Error::Unknown`], or when the users cannot be read.
    pub async fn find(&self, login: &str) -> Result<User, Error> {
        self.users.find(login).await?.ok_or(Error::Unknown)
    }

    /// Up to `limit` users with ids above `after`.
    ///
    /// # Errors
    /// When the users cannot be read.
    pub async fn list(&self, after: i64, limit: usize) -> Result<Vec<User>, Error> {
        Ok(self.users.users(after, limit).await?)
    }

    /// Makes the first administrator where there is none: the login, and the password if it was made up here.
    ///
    /// # Errors
    /// What is wrong with the password, or that the users cannot be written.
    pub async fn ensure_administrator(
        &self,
        password: Option<String>,
    ) -> Result<Option<(String, Option<String>)>, Error> {
        if self.users.has_administrator().await? {
            return Ok(None);
        }
        let made_up = if password.is_none() { Some(random_password()?) } else { None };
        let password = password.or_else(|| made_up.clone()).unwrap_or_default();
        let login = self.free_login().await?;
        let change = Change { login: Some(login.clone()), is_admin: Some(true), ..Change::default() };
        let new = self.new_user(Draft { change, password: Some(Zeroizing::new(password)) }).await?;
        let made = self.users.add_first_administrator(new).await?;
        Ok(made.map(|_| (login, made_up)))
    }

    /// `admin`, or where an ordinary user has that login, the next that is free: nobody becomes an administrator by name.
    async fn free_login(&self) -> Result<String, Error> {
        let mut login = "admin".to_owned();
        let mut number = 2;
        while self.users.find(&login).await?.is_some() {
            login = format!("admin-{number}");
            number += 1;
        }
        Ok(login)
    }

    async fn new_user(&self, draft: Draft) -> Result<NewUser, Error> {
        check(&draft)?;
        let login = draft.change.login.clone().ok_or(Error::Invalid { field: "login", what: "is required" })?;
        let password = draft.password.ok_or(Error::Invalid { field: "password", what: "is required" })?;
        let password = self.hash(password).await?;
        Ok(NewUser { login, password, change: draft.change, created: self.clock.now() })
    }

    async fn hash(&self, password: Zeroizing<String>) -> Result<String, Error> {
        self.auth.hash(password).await.map_err(|error| match error {
            auth::Error::Store(error) => Error::Store(error),
            _ => Error::Busy,
        })
    }

    /// Their rows are gone: a file that cannot be removed is nobody's, and the sweep's.
    async fn remove_files(&self, gone: Vec<Leftover>) {
        for Leftover { rid, result, body } in gone {
            for file in media::files_of(rid, result, body) {
                if let Err(error) = self.media.remove(file).await {
                    log::warn!("a file is left over for the sweep: {error}");
                }
            }
        }
    }
}

fn check(draft: &Draft) -> Result<(), Error> {
    if let Some(login) = &draft.change.login {
        check_login(login)?;
    }
    if let Some(password) = &draft.password {
        check_password(password)?;
    }
    let change = &draft.change;
    for (field, value) in [
        ("display_name", &change.display_name),
        ("first_name", &change.first_name),
        ("last_name", &change.last_name),
        ("email", &change.email),
    ] {
        if let Some(Some(text)) = value {
            check_text(field, text)?;
        }
    }
    Ok(())
}

fn check_login(login: &str) -> Result<(), Error> {
    let invalid = |what| Err(Error::Invalid { field: "login", what });
    if login.is_empty() || login.len() > basic::LONGEST_LOGIN {
        return invalid("must have 1 to 255 bytes");
    }
    if login.contains(':') || login.chars().any(char::is_control) {
        return invalid("must have neither a colon nor control characters, which HTTP Basic cannot carry");
    }
    if login.trim() != login {
        return invalid("must not begin or end with white space");
    }
    Ok(())
}

fn check_password(password: &str) -> Result<(), Error> {
    let invalid = |what| Err(Error::Invalid { field: "password", what });
    if password.is_empty() {
        return invalid("must not be empty");
    }
    if password.len() > basic::LONGEST_PASSWORD {
        return invalid("must have at most 1024 bytes");
    }
    if password.chars().any(char::is_control) {
        return invalid("must not have control characters");
    }
    Ok(())
}

fn check_text(field: &'static str, text: &str) -> Result<(), Error> {
    if text.chars().count() > LONGEST_TEXT {
        return Err(Error::Invalid { field, what: "must have at most 1000 characters" });
    }
    if text.chars().any(char::is_control) {
        return Err(Error::Invalid { field, what: "must not have control characters" });
    }
    Ok(())
}

fn random_password() -> Result<String, Error> {
    let mut bytes = Zeroizing::new([0; RANDOM]);
    getrandom::fill(bytes.as_mut()).map_err(|error| Error::Store(store::Error::Other(error.to_string())))?;
    Ok(hex::encode(bytes.as_ref()))
}
