//! The media in one folder.

mod folder;
mod read;
mod settle;
mod sink;
mod small;
mod walk;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::{ByteStream, Error, File, Media, Result, Sink, Walk};
use crate::model::Rid;
use crate::vault::Key;
use folder::Folder;
use read::{Reading, Unsealing};
use sink::FsSink;
use small::Scribe;
use walk::FsWalk;

/// Bytes that are read or written at once; smaller files are written in one go.
const PIECE: usize = 64 * 1024;

/// A result of at most so many bytes rides in the commit of its row, and is synced later, many at a time: a sync of
/// its own would cost many times its writing.
const SMALL: usize = 16 * 1024;

/// File operations at once: more would only make the pool of blocking threads larger.
const AT_ONCE: usize = 8;

/// Results and bodies in one folder. Cheap to clone.
#[derive(Clone)]
pub struct FsMedia {
    folder: Arc<Folder>,
    permits: Arc<Semaphore>,
    small: Scribe,
}

impl FsMedia {
    /// Opens the folder, making it where it is not there. Blocks.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn open(dir: &Path, key: Key, limit: u64) -> std::io::Result<Self> {
        let folder = Arc::new(Folder::open(dir, key, limit)?);
        let small = Scribe::start(folder.clone())?;
        Ok(Self { folder, permits: Arc::new(Semaphore::new(AT_ONCE)), small })
    }

    /// How many bytes results may take in all; 0: as many as the disk has.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.folder.limit
    }

    /// Says how many bytes results take already.
    pub fn set_used(&self, bytes: u64) {
        self.folder.used.store(bytes, Ordering::Relaxed);
    }

    /// Runs file work on a thread that may be blocked.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Folder) -> Result<T> + Send + 'static) -> Result<T> {
        let permit = self.permits.clone().acquire_owned().await;
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&folder)
        });
        done.await.unwrap_or_else(|error| Err(Error::Io(std::io::Error::other(error))))
    }
}

#[async_trait]
impl Media for FsMedia {
    fn write_result(&self) -> Box<dyn Sink> {
        Box::new(FsSink::new(self.clone(), None))
    }

    fn write_body(&self, rid: Rid) -> Box<dyn Sink> {
        Box::new(FsSink::new(self.clone(), Some(rid)))
    }

    async fn read_result(&self, name: &str, range: Range<u64>) -> Result<ByteStream> {
        let name = name.to_owned();
        let reading = self.blocking(move |folder| Reading::open(folder, &name, &range)?.next());
        let (first, rest) = reading.await?;
        let media = self.clone();
        let later = futures_util::stream::try_unfold(rest, move |rest| {
            let media = media.clone();
            async move {
                let Some(rest) = rest else { return Ok(None) };
                media.blocking(move |_| rest.next()).await.map(Some)
            }
        });
        Ok(futures_util::stream::iter([Ok(first)]).chain(later).boxed())
    }

    async fn read_body(&self, rid: Rid) -> Result<ByteStream> {
        let opening = self.blocking(move |folder| Unsealing::open(folder, rid)).await?;
        let media = self.clone();
        let pieces = futures_util::stream::try_unfold(Some(opening), move |rest| {
            let media = media.clone();
            async move {
                let Some(rest) = rest else { return Ok(None) };
                media.blocking(move |_| rest.next()).await.map(Some)
            }
        });
        Ok(pieces.boxed())
    }

    async fn has_result(&self, name: &str, size: u64) -> Result<bool> {
        let name = name.to_owned();
        self.blocking(move |folder| match fs::metadata(folder.result(&name)?) {
            Ok(meta) => Ok(meta.len() == size),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        })
        .await
    }

    async fn is_left_over(&self, file: &File) -> Result<bool> {
        let file = file.clone();
        self.blocking(move |folder| match fs::metadata(folder.path(&file)?) {
            Ok(meta) => Ok(meta.modified()? < folder.opened),
            Err(_) => Ok(false),
        })
        .await
    }

    async fn restore(&self, name: &str, bytes: Bytes) -> Result<()> {
        let name = name.to_owned();
        self.blocking(move |folder| settle::restore(folder, &name, &bytes)).await
    }

    async fn settle(&self, names: Vec<String>) -> Result<()> {
        self.blocking(move |folder| settle::settle(folder, &names)).await
    }

    async fn remove(&self, file: File) -> Result<()> {
        self.blocking(move |folder| folder.remove(&file)).await
    }

    async fn walk(&self) -> Result<Box<dyn Walk>> {
        let entries = self.blocking(|folder| Ok(fs::read_dir(&folder.dir)?)).await?;
        Ok(Box::new(FsWalk { media: self.clone(), entries: Some(entries) }))
    }

    fn is_full(&self) -> bool {
        self.folder.limit > 0 && self.folder.used.load(Ordering::Relaxed) >= self.folder.limit
    }

    fn used(&self) -> Option<u64> {
        // Without a limit nobody counts what is removed.
        (self.folder.limit > 0).then(|| self.folder.used.load(Ordering::Relaxed))
    }
}
