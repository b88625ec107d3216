//! Which paths the App has a route for.

use std::cell::RefCell;
use std::num::NonZeroUsize;

use actix_web::dev::ServiceRequest;
use lru::LruCache;

/// Paths of which it was found out a moment ago whether a route of this App matches: that takes a tenth of a submission's
/// time, and of a call's that is passed on.
pub struct Matched(RefCell<LruCache<String, bool>>);

impl Matched {
    /// How many are remembered, and how long one may be.
    const MOST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
    const LONGEST: usize = 128;

    /// Knows nothing yet.
    pub fn new() -> Self {
        Self(RefCell::new(LruCache::sparse(Self::MOST)))
    }

    /// Whether a route matches the request's path.
    pub fn matches(&self, req: &ServiceRequest) -> bool {
        let path = req.match_info().as_str();
        if let Some(matches) = self.0.borrow_mut().get(path) {
            return *matches;
        }
        // Not the request's own way to ask: it takes the path as it was sent, and the router takes it decoded.
        let matches = req.resource_map().match_pattern(path).is_some();
        if path.len() <= Self::LONGEST {
            self.0.borrow_mut().put(path.to_owned(), matches);
        }
        matches
    }
}
