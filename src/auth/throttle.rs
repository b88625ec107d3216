//! Wrong passwords, slowed for each login and address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use lru::LruCache;

/// Wrong passwords that are free in each [`WINDOW`].
const FREE: usize = 10;

/// The time in which they are.
const WINDOW: Duration = Duration::from_secs(60);

/// Pairs whose wrong passwords are remembered; the one seen longest ago is forgotten first.
const PAIRS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Pairs known before the first look at which of them are in use no more.
const SWEEP: usize = 1024;

/// A login, as its hash (a caller may send long ones), and an address.
type Pair = ([u8; 32], Option<IpAddr>);

/// The wrong passwords of one login from one address. Who holds the lock tries a password: tries of one pair follow each
/// other, so that a volley of guesses is counted as one by one.
pub type Tries = Arc<tokio::sync::Mutex<Wrong>>;

/// The moments of the last wrong passwords.
#[derive(Debug, Default)]
pub struct Wrong(VecDeque<Instant>);

impl Wrong {
    /// Whether another try is free at `now`.
    ///
    /// # Errors
    /// The seconds until it is.
    pub fn check(&mut self, now: Instant) -> Result<(), u64> {
        while self.0.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        match self.0.front() {
            Some(oldest) if self.0.len() >= FREE => Err((WINDOW - now.duration_since(*oldest)).as_secs() + 1),
            _ => Ok(()),
        }
    }

    /// Counts a wrong password.
    pub fn count(&mut self, now: Instant) {
        self.0.push_back(now);
    }
}

/// The tries of all pairs.
pub struct Throttle(Mutex<Pairs>);

struct Pairs {
    /// Pairs with a try under way or a wrong password remembered, and some that are swept out later.
    known: HashMap<Pair, Weak<tokio::sync::Mutex<Wrong>>>,
    /// SECURITY: only a password that was checked and was wrong takes a place here. Were a try enough, a volley of
    /// made-up logins, refused before they cost anything, would drive out the pair that is being guessed at.
    wrong: LruCache<Pair, Tries>,
    /// How many are known when they are swept next.
    sweep_at: usize,
}

impl Default for Throttle {
    fn default() -> Self {
        Self(Mutex::new(Pairs { known: HashMap::new(), wrong: LruCache::sparse(PAIRS), sweep_at: SWEEP }))
    }
}

impl Throttle {
    /// The tries of a login, known or not, from an address.
    pub fn tries(&self, login: &str, address: Option<IpAddr>) -> Tries {
        let pair = pair(login, address);
        let mut pairs = self.lock();
        pairs.wrong.promote(&pair);
        if let Some(tries) = pairs.known.get(&pair).and_then(Weak::upgrade) {
            return tries;
        }
        pairs.sweep();
        let tries = Tries::default();
        pairs.known.insert(pair, Arc::downgrade(&tries));
        tries
    }

    /// Remembers tries that had a wrong password beyond the call that made it.
    pub fn remember(&self, login: &str, address: Option<IpAddr>, tries: &Tries) {
        self.lock().wrong.put(pair(login, address), tries.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Pairs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pairs {
    /// Forgets the pairs that nobody holds any more, seldom enough that it costs each try next to nothing.
    fn sweep(&mut self) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, tries| tries.strong_count() > 0);
            self.sweep_at = SWEEP.max(2 * self.known.len());
        }
    }
}

fn pair(login: &str, address: Option<IpAddr>) -> Pair {
    (*blake3::hash(login.as_bytes()).as_bytes(), address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_passwords_a_minute_are_free_and_the_next_waits_for_the_first_to_grow_old() {
        let mut wrong = Wrong::default();
        let start = Instant::now();
        for second in 0..10 {
            let now = start + Duration::from_secs(second);
            assert_eq!(wrong.check(now), Ok(()));
            wrong.count(now);
        }
        assert_eq!(wrong.check(start + Duration::from_secs(10)), Err(51));
        assert_eq!(wrong.check(start + Duration::from_secs(60)), Ok(()));
        wrong.count(start + Duration::from_secs(60));
        assert!(wrong.check(start + Duration::from_secs(60)).is_err());
    }

    #[test]
    fn pairs_are_slowed_apart() {
        let throttle = Throttle::default();
        let (here, there) = (Some("127.0.0.1".parse().unwrap()), Some("127.0.0.2".parse().unwrap()));
        let tries = throttle.tries("a", here);
        assert!(Arc::ptr_eq(&tries, &throttle.tries("a", here)));
        assert!(!Arc::ptr_eq(&tries, &throttle.tries("a", there)));
        assert!(!Arc::ptr_eq(&tries, &throttle.tries("b", here)));
    }

    #[test]
    fn tries_without_a_wrong_password_neither_drive_out_others_nor_pile_up() {
        let throttle = Throttle::default();
        let guessed_at = throttle.tries("admin", None);
        guessed_at.try_lock().unwrap().count(Instant::now());
        throttle.remember("admin", None, &guessed_at);
        drop(guessed_at);
        for made_up in 0..3 * PAIRS.get() {
            throttle.tries(&made_up.to_string(), None);
        }
        assert_eq!(throttle.tries("admin", None).try_lock().unwrap().0.len(), 1);
        assert!(throttle.lock().known.len() <= SWEEP);
    }

    #[test]
    fn of_too_many_pairs_with_wrong_passwords_the_one_seen_longest_ago_is_forgotten() {
        let throttle = Throttle::default();
        for login in 0..=PAIRS.get() {
            let tries = throttle.tries(&login.to_string(), None);
            tries.try_lock().unwrap().count(Instant::now());
            throttle.remember(&login.to_string(), None, &tries);
        }
        assert_eq!(throttle.tries("0", None).try_lock().unwrap().0.len(), 0);
        assert_eq!(throttle.tries("1", None).try_lock().unwrap().0.len(), 1);
    }
}
