//! Bytes: the bodies of requests and the results.
//!
//! A file appears under its name whole and durable, or not at all; a small result whole, and its bytes are given back to be
//! kept elsewhere until it is durable: a crash may tear it.

pub mod fs;
mod name;
mod seal;

use std::ops::Range;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

use crate::model::{Rid, StoredResult};
pub use name::{File, extension, files_of, result_name};

/// What the media could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or what results may use of it (`media.max_size`), is full.
    #[error("no space is left for it")]
    Full,
    /// There is no such file.
    #[error("the file is gone")]
    Missing,
    /// A stored body cannot be decrypted: it was changed, or the key is another.
    #[error("the stored body cannot be decrypted: the key file is not the one it was stored with, or it was damaged")]
    Sealed,
    /// Anything else; the text is for the log, not for a caller.
    #[error("the media folder failed: {0}")]
    Io(std::io::Error),
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full,
            std::io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Io(error),
        }
    }
}

impl Error {
    /// Whether making room would help.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full)
    }
}

/// The result of an act on the media.
pub type Result<T> = std::result::Result<T, Error>;

/// Bytes as they come, with back-pressure.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A file that was written.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its name, length and digest, of the bytes as appended, also where they are stored encrypted.
    pub result: StoredResult,
    /// `None`: the file is durable. Else it is whole, but may not outlive a power cut: these are its bytes, to be
    /// committed together with its row, until [`Media::settle`] has made it durable.
    pub copy: Option<Bytes>,
}

/// A file that is being written. Dropped before its end, it leaves nothing.
#[async_trait]
pub trait Sink: Send {
    /// Appends bytes. Memory does not grow with what was appended.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// How many bytes were appended.
    fn written(&self) -> u64;

    /// Puts the file under `file`'s name, replacing one that is there; it is durable then, or comes with its bytes
    /// (small results alone). A crash before its return leaves a temporary file, or a file without a row (torn,
    /// where it is small); the sweep removes both.
    async fn commit(self: Box<Self>, file: File) -> Result<Stored>;
}

/// A step of a walk through the folder.
#[derive(Debug)]
pub struct Listing {
    /// The files of the server's own found in this step (at most the `limit` asked for).
    pub files: Vec<File>,
    /// Whether the walk is at its end.
    pub done: bool,
}

/// A walk through all files, step by step, so that it never is a storm.
#[async_trait]
pub trait Walk: Send {
    /// Goes up to `limit` directory entries further.
    async fn step(&mut self, limit: usize) -> Result<Listing>;
}

/// Bodies and results, durable.
#[async_trait]
pub trait Media: Send + Sync {
    /// Begins a result's file.
    fn write_result(&self) -> Box<dyn Sink>;

    /// Begins a request body's file; its bytes are encrypted on the disk, bound to `rid`.
    fn write_body(&self, rid: Rid) -> Box<dyn Sink>;

    /// Reads bytes `range` of a result. The file is opened, and its absence told, before this returns.
    async fn read_result(&self, name: &str, range: Range<u64>) -> Result<ByteStream>;

    /// Reads a stored body, decrypted.
    async fn read_body(&self, rid: Rid) -> Result<ByteStream>;

    /// Whether a result's file is there, with so many bytes.
    async fn has_result(&self, name: &str, size: u64) -> Result<bool>;

    /// Writes a small result again, unless its file holds these bytes: a power cut may have taken it.
    async fn restore(&self, name: &str, bytes: Bytes) -> Result<()>;

    /// Makes small results durable, together. Those that are gone were removed in the meantime.
    async fn settle(&self, names: Vec<String>) -> Result<()>;

    /// Whether a file was there before this process opened the media: no one is about to write its row.
    async fn is_left_over(&self, file: &File) -> Result<bool>;

    /// Removes a file. That it is not there any more is no error.
    async fn remove(&self, file: File) -> Result<()>;

    /// Begins a walk through all files that are the server's own (results, bodies); it removes temporary files
    /// that an earlier process left behind on its way. Other people's files are passed over.
    async fn walk(&self) -> Result<Box<dyn Walk>>;

    /// Whether results have reached `media.max_size`; submissions are refused then.
    fn is_full(&self) -> bool;

    /// How many bytes results take, where they are counted.
    fn used(&self) -> Option<u64>;
}
