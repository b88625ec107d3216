//! Who is calling: Basic credentials against the server's own users.

pub mod basic;
pub mod forward;
mod password;
mod throttle;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lru::LruCache;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::store::{self, Known, User, Users};
use basic::Credentials;
use throttle::Throttle;

/// Verified credentials that are remembered; the one used longest ago is forgotten first.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Password checks that may wait for their turn: one at a time has the processor.
const WAITING: usize = 256;

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No credentials.
    #[error("Sign in with HTTP Basic credentials.")]
    Missing,
    /// Credentials that cannot be read.
    #[error("The Authorization header is malformed; send one, with HTTP Basic credentials.")]
    Malformed,
    /// No such login, or another password.
    #[error("Login or password is wrong; check both.")]
    Wrong,
    /// Too many wrong passwords of this login from this address.
    #[error("too many wrong passwords")]
    TooMany {
        /// Seconds until the next try.
        retry_after: u64,
    },
    /// Too many passwords are being checked.
    #[error("too many passwords are being checked")]
    Busy,
    /// The upstream that would know could not be asked.
    #[error("the upstream could not be asked: {0}")]
    Unasked(String),
    /// The users cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Knows callers by their credentials.
pub struct Authenticator {
    users: Arc<dyn Users>,
    throttle: Throttle,
    /// By keyed hashes of what the callers sent: the users as they were when it was verified. It counts only while the
    /// user's row says the same: a changed password or a removed user, by whatever process, ends it at once.
    remembered: Mutex<LruCache<[u8; 32], Arc<Known>>>,
    key: Zeroizing<[u8; 32]>,
    /// What an unknown login's password is compared with, so that it takes as long as a known one's.
    decoy: tokio::sync::OnceCell<String>,
    checking: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Authenticator {
    /// Knows these users.
    ///
    /// # Errors
    /// When the system's random source cannot be read.
    pub fn new(users: Arc<dyn Users>) -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut())?;
        Ok(Self {
            users,
            throttle: Throttle::default(),
            remembered: Mutex::new(LruCache::sparse(REMEMBERED)),
            key,
            decoy: tokio::sync::OnceCell::new(),
            checking: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// Knows a caller by the values of the `Authorization` headers and the address.
    ///
    /// # Errors
    /// Why the caller is not let in.
    pub async fn authenticate<'a>(
        &self,
        values: impl Iterator<Item = &'a [u8]>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Known>, Error> {
        let sent = basic::only(values)?;
        // Looked up whenever any process can have changed something: what it changes about the user counts at once.
        let (trace, mark) = (self.trace(sent), self.users.mark());
        if let Some(known) = self.still_knows(&trace, mark) {
            return Ok(known);
        }
        let credentials = basic::parse(sent)?;
        let user = self.users.find(&credentials.login).await?;
        if let Some(user) = &user
            && let Some(known) = self.remembered(&trace, user, mark)
        {
            return Ok(known);
        }
        // In a box: of those who are remembered, no call's future is to be as large.
        Box::pin(self.check(credentials, trace, user, address)).await
    }

    /// The caller as remembered, without a look at the user's row. Whoever acts on it must make the act itself look
    /// whether the row still says so, unless [`Known::is_current`] does by the [`Authenticator::mark`].
    pub fn recall<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Option<Arc<Known>> {
        let trace = self.trace(basic::only(values).ok()?);
        self.lock().get(&trace).cloned()
    }

    /// The users' mark ([`Users::mark`]).
    #[must_use]
    pub fn mark(&self) -> Option<u64> {
        self.users.mark()
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many wait for the same.
    pub async fn hash(&self, password: Zeroizing<String>) -> Result<String, Error> {
        self.off_thread(move || password::hash(&password)).await?.map_err(|error| {
            log::error!("a password could not be hashed: {error}");
            Error::Busy
        })
    }

    /// Checks a password that is not remembered, one try of a login and address at a time.
    async fn check(
        &self,
        credentials: Credentials,
        trace: [u8; 32],
        user: Option<User>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Known>, Error> {
        let tries = self.throttle.tries(&credentials.login, address);
        let mut wrong = tries.lock().await;
        if let Some(user) = &user
            && let Some(known) = self.remembered(&trace, user, None)
        {
            return Ok(known);
        }
        wrong.check(Instant::now()).map_err(|retry_after| Error::TooMany { retry_after })?;
        let hash = match &user {
            Some(user) => user.password.clone(),
            None => self.decoy().await?,
        };
        let password = credentials.password;
        let right = self.off_thread(move || password::verify(&password, &hash)).await?;
        match user {
            Some(user) if right => {
                let known = Arc::new(Known::from(&user));
                self.lock().put(trace, known.clone());
                Ok(known)
            }
            _ => {
                wrong.count(Instant::now());
                self.throttle.remember(&credentials.login, address, &tries);
                Err(Error::Wrong)
            }
        }
    }

    async fn decoy(&self) -> Result<String, Error> {
        let made = self.decoy.get_or_try_init(|| self.hash(Zeroizing::new("decoy".to_owned()))).await?;
        Ok(made.clone())
    }

    /// Runs work that costs tens of milliseconds on a thread that may be blocked, one at a time.
    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Error::Busy)?;
        let turn = self.checking.clone().acquire_owned().await.map_err(|_| Error::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a caller that hangs up does not let a second one in beside it.
            let _turn = turn;
            work()
        });
        done.await.map_err(|_| Error::Busy)
    }

    /// Under what verified credentials are remembered; they cannot be read from it.
    fn trace(&self, sent: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.key, sent).as_bytes()
    }

    /// The caller, if nothing can have changed since the user's row was looked at.
    fn still_knows(&self, trace: &[u8; 32], mark: Option<u64>) -> Option<Arc<Known>> {
        let mark = mark?;
        self.lock().get(trace).filter(|known| known.is_current(mark)).cloned()
    }

    /// The user, where the row is as remembered; it was looked at after `mark` was asked for.
    fn remembered(&self, trace: &[u8; 32], user: &User, mark: Option<u64>) -> Option<Arc<Known>> {
        let mut remembered = self.lock();
        let known = remembered.get(trace).filter(|known| known.is(user))?;
        if let Some(mark) = mark {
            known.see(mark);
        }
        Some(known.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<[u8; 32], Arc<Known>>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
