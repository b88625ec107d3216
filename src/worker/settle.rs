//! Making small results durable behind their rows: their bytes rode in the rows' commits, and are dropped here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::failpoint::{self, Place};
use crate::media::Media;
use crate::store::Store;

/// How long results gather before they are synced together.
const GATHER: Duration = Duration::from_secs(1);

/// Files of one sync at most.
const STEP: usize = 10_000;

/// Rows whose bytes are dropped in one act: submissions do not wait long behind it.
const ROWS: usize = 500;

/// Settles small results. Cheap to clone.
#[derive(Clone)]
pub struct Settler {
    store: Arc<dyn Store>,
    media: Arc<dyn Media>,
    woken: Arc<Notify>,
}

impl Settler {
    /// A settler of these results.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, media: Arc<dyn Media>) -> Self {
        Self { store, media, woken: Arc::default() }
    }

    /// A result came without being durable.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Writes those files again that a power cut took, before anybody looks for them, and settles what there is.
    ///
    /// # Errors
    /// When rows or files cannot be read or written.
    pub async fn at_start(&self) -> anyhow::Result<()> {
        let mut after = 0;
        loop {
            let unsettled = self.store.unsettled(after, STEP).await?;
            let Some((last, _)) = unsettled.last() else { break };
            after = *last;
            for (id, name) in unsettled {
                if let Some(bytes) = self.store.copy(id).await? {
                    self.media.restore(&name, Bytes::from(bytes)).await?;
                }
            }
        }
        self.settle().await
    }

    /// Settles from time to time, for ever.
    pub async fn keep_up(self) {
        loop {
            self.woken.notified().await;
            tokio::time::sleep(GATHER).await;
            failpoint::reach(Place::Unsettled);
            if let Err(error) = self.settle().await {
                log::error!("results could not be synced, trying again: {error}");
                self.wake();
            }
        }
    }

    /// Settles what there is: files first, then their rows.
    ///
    /// # Errors
    /// When rows or files cannot be read or written; what is not settled stays as it is.
    pub async fn settle(&self) -> anyhow::Result<()> {
        loop {
            let unsettled = self.store.unsettled(0, STEP).await?;
            let done = unsettled.len() < STEP;
            let (ids, names): (Vec<_>, Vec<_>) = unsettled.into_iter().unzip();
            if !ids.is_empty() {
                self.media.settle(names).await?;
            }
            for ids in ids.chunks(ROWS) {
                self.store.settled(ids.to_vec()).await?;
            }
            if done {
                return Ok(());
            }
        }
    }
}
