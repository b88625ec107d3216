//! How many calls are under way, answers included, so that a shutdown can wait for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The calls of all Apps. Each App counts its own: threads that count with one number get in each other's way.
#[derive(Default)]
pub struct UnderWay(Mutex<Vec<Arc<AtomicUsize>>>);

/// The calls of one App.
pub struct Own(Arc<AtomicUsize>);

/// One call under way, until it is dropped.
pub struct OneUnderWay(Arc<AtomicUsize>);

impl UnderWay {
    /// Counts those of another App too.
    pub fn join(&self) -> Own {
        let own = Arc::<AtomicUsize>::default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of Apps that are gone, with all their calls, nobody else has the number.
        all.retain(|of_one| Arc::strong_count(of_one) > 1);
        all.push(own.clone());
        Own(own)
    }

    /// How many calls are under way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|own| own.load(Ordering::SeqCst)).sum()
    }
}

impl Own {
    /// Another call.
    pub fn enter(&self) -> OneUnderWay {
        self.0.fetch_add(1, Ordering::SeqCst);
        OneUnderWay(self.0.clone())
    }
}

impl Drop for OneUnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
