//! Callers whom only an upstream knows: it is asked once, and a yes is remembered for a while.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lru::LruCache;
use zeroize::Zeroizing;

use super::throttle::Throttle;
use super::{Error, basic};
use crate::model::{Headers, Owner};

/// Answers that are remembered; the one used longest ago is forgotten first.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// Questions under way at most. Those about the same credentials wait for one answer.
const LANES: usize = 64;

/// By keyed hashes of source and credentials: who it is, and until when that counts.
type Remembered = LruCache<[u8; 32], (Arc<Owner>, Instant)>;

/// Asks an upstream who somebody is.
#[async_trait]
pub trait Ask: Send + Sync {
    /// The id of whoever has these credentials at the upstream of this source; `None`: it does not know them.
    ///
    /// # Errors
    /// Why there was no answer.
    async fn ask(&self, source: &str, credentials: &Headers) -> Result<Option<String>, String>;
}

/// The headers that a caller is known by at an upstream.
pub const CREDENTIALS: [&str; 2] = ["authorization", "cookie"];

/// Knows callers by asking.
pub struct Forward {
    ask: Arc<dyn Ask>,
    throttle: Throttle,
    remembered: Mutex<Remembered>,
    key: Zeroizing<[u8; 32]>,
    lanes: [tokio::sync::Mutex<()>; LANES],
}

impl Forward {
    /// Knows nobody yet.
    ///
    /// # Errors
    /// When the system's random source cannot be read.
    pub fn new(ask: Arc<dyn Ask>) -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut())?;
        Ok(Self {
            ask,
            throttle: Throttle::default(),
            remembered: Mutex::new(LruCache::sparse(REMEMBERED)),
            key,
            lanes: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
        })
    }

    /// Who it is, if that is remembered.
    pub fn recall(&self, source: &str, credentials: &Headers) -> Option<Arc<Owner>> {
        self.remembered_as(&self.trace(source, credentials))
    }

    /// Who it is; a yes is remembered for `ttl`. Wrong passwords are slowed as those of the server's own users are.
    ///
    /// # Errors
    /// Why the caller is not let in.
    pub async fn authenticate(
        &self,
        source: &str,
        credentials: &Headers,
        address: Option<IpAddr>,
        ttl: Duration,
    ) -> Result<Arc<Owner>, Error> {
        if credentials.iter().next().is_none() {
            return Err(Error::Missing);
        }
        let trace = self.trace(source, credentials);
        // Whoever is known does not wait behind questions about others.
        if let Some(owner) = self.remembered_as(&trace) {
            return Ok(owner);
        }
        // In a box: of those who are remembered, no call's future is to be as large.
        Box::pin(self.find_out(trace, source, credentials, address, ttl)).await
    }

    /// Asks the upstream, one question about the same credentials at a time.
    async fn find_out(
        &self,
        trace: [u8; 32],
        source: &str,
        credentials: &Headers,
        address: Option<IpAddr>,
        ttl: Duration,
    ) -> Result<Arc<Owner>, Error> {
        let _lane = self.lanes[usize::from(trace[0]) % LANES].lock().await;
        if let Some(owner) = self.remembered_as(&trace) {
            return Ok(owner);
        }
        let login = login(source, credentials);
        let tries = login.as_ref().map(|login| self.throttle.tries(login, address));
        // Held until the answer: guesses that come at once are counted one by one.
        let mut wrong = match &tries {
            Some(tries) => Some(tries.lock().await),
            None => None,
        };
        if let Some(wrong) = &mut wrong {
            wrong.check(Instant::now()).map_err(|retry_after| Error::TooMany { retry_after })?;
        }
        match self.ask.ask(source, credentials).await.map_err(Error::Unasked)? {
            Some(id) => {
                let owner = Arc::new(Owner { source: source.to_owned(), id });
                self.lock().put(trace, (owner.clone(), Instant::now() + ttl));
                Ok(owner)
            }
            None => {
                if let (Some(login), Some(tries), Some(wrong)) = (&login, &tries, &mut wrong) {
                    wrong.count(Instant::now());
                    self.throttle.remember(login, address, tries);
                }
                Err(Error::Wrong)
            }
        }
    }

    fn remembered_as(&self, trace: &[u8; 32]) -> Option<Arc<Owner>> {
        let mut remembered = self.lock();
        let (owner, until) = remembered.get(trace)?;
        if *until > Instant::now() {
            return Some(owner.clone());
        }
        remembered.pop(trace);
        None
    }

    /// Under what a yes is remembered; credentials cannot be read from it.
    fn trace(&self, source: &str, credentials: &Headers) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        };
        add(source.as_bytes());
        for (name, value) in credentials.iter() {
            add(name.as_bytes());
            add(value);
        }
        *hasher.finalize().as_bytes()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose passwords are guessed at; tokens and cookies are too long to guess, and have no login.
fn login(source: &str, credentials: &Headers) -> Option<String> {
    let value = credentials.get("authorization")?;
    basic::parse(value).ok().map(|credentials| format!("{source} {}", credentials.login))
}
