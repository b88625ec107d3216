//! Writing: in memory while it is small, in a temporary file then.

use std::fs::{self, File as OsFile};
use std::io::Write;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::folder::{Folder, Room, temporary};
use super::{FsMedia, PIECE, SMALL};
use crate::failpoint::{self, Place};
use crate::media::seal::Sealer;
use crate::media::{Error, File, Result, Sink, Stored};
use crate::model::{Rid, StoredResult};

/// A file that is being written: in memory while it is small, in a temporary file then.
pub struct FsSink {
    media: FsMedia,
    buffer: BytesMut,
    /// Behind the buffer; `None` until the first bytes go to the disk.
    writing: Option<Writing>,
    /// The request, if the bytes are encrypted.
    sealed_for: Option<Rid>,
    written: u64,
    room: Room,
    /// A write failed, or was given up half-way: bytes are missing, and nothing may come of it.
    torn: bool,
}

fn digest(hash: &blake3::Hash) -> String {
    hash.to_hex()[..32].to_owned()
}

/// The temporary file; dropped, it is removed.
struct Writing {
    file: OsFile,
    path: PathBuf,
    digest: blake3::Hasher,
    sealer: Option<Sealer>,
    kept: bool,
}

impl Writing {
    fn begin(folder: &Folder, sealed_for: Option<Rid>) -> Result<Self> {
        let path = temporary(&folder.dir)?;
        let file = OsFile::create_new(&path)?;
        let mut writing = Self { file, path, digest: blake3::Hasher::new(), sealer: None, kept: false };
        if let Some(rid) = sealed_for {
            let (sealer, nonce) = Sealer::new(&folder.key, rid)?;
            writing.file.write_all(&nonce)?;
            writing.sealer = Some(sealer);
        }
        Ok(writing)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.digest.update(bytes);
        match &mut self.sealer {
            Some(sealer) => self.file.write_all(&sealer.push(bytes)?)?,
            None => self.file.write_all(bytes)?,
        }
        Ok(())
    }

    /// Durable, then named, then the name durable. A crash in between leaves a temporary file or one without a row.
    fn commit(mut self, folder: &Folder, file: &File, room: Room) -> Result<String> {
        if let Some(sealer) = self.sealer.take() {
            self.file.write_all(&sealer.finish()?)?;
        }
        self.file.sync_data()?;
        folder.rename(&self.path, file)?;
        self.kept = true;
        room.keep();
        folder.handle.sync_all()?;
        Ok(digest(&self.digest.finalize()))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("a temporary file is left over: {error}");
        }
    }
}

impl FsSink {
    pub fn new(media: FsMedia, sealed_for: Option<Rid>) -> Self {
        let room = Room::none(media.folder.clone());
        Self { media, buffer: BytesMut::new(), writing: None, sealed_for, written: 0, room, torn: false }
    }

    fn check_whole(&self) -> Result<()> {
        if self.torn {
            return Err(Error::Io(std::io::Error::other("an earlier write of this file did not come to its end")));
        }
        Ok(())
    }

    /// Writes what is in memory to the temporary file.
    async fn flush(&mut self) -> Result<()> {
        let (buffer, writing, sealed_for) = (self.buffer.split().freeze(), self.writing.take(), self.sealed_for);
        let writing = self.media.blocking(move |folder| {
            let mut writing = writing.map_or_else(|| Writing::begin(folder, sealed_for), Ok)?;
            writing.append(&buffer)?;
            Ok(writing)
        });
        self.writing = Some(writing.await?);
        if self.sealed_for.is_none() {
            failpoint::reach(Place::HalfResult);
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for FsSink {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.check_whole()?;
        // Until the end of this: an error leaves it so, and a caller who stops waiting as well.
        self.torn = true;
        let length = bytes.len() as u64;
        if self.sealed_for.is_none() {
            self.room.take(length)?;
        }
        self.written += length;
        // Whatever size comes: memory holds one piece.
        for piece in bytes.chunks(PIECE) {
            self.buffer.extend_from_slice(piece);
            if self.buffer.len() >= PIECE {
                self.flush().await?;
            }
        }
        self.torn = false;
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }

    async fn commit(self: Box<Self>, file: File) -> Result<Stored> {
        self.check_whole()?;
        let Self { media, buffer, writing, sealed_for, written, room, torn: _ } = *self;
        let name = file.file_name();
        // The room goes along: a caller who stops waiting does not stop the file from coming to be.
        if writing.is_none() && sealed_for.is_none() && buffer.len() <= SMALL {
            let bytes = buffer.freeze();
            let etag = digest(&blake3::Hasher::new().update(&bytes).finalize());
            media.small.write(file, bytes.clone(), room).await?;
            return Ok(Stored { result: StoredResult { name, size: written, etag }, copy: Some(bytes) });
        }
        let etag = media.blocking(move |folder| {
            let mut writing = writing.map_or_else(|| Writing::begin(folder, sealed_for), Ok)?;
            writing.append(&buffer)?;
            writing.commit(folder, &file, room)
        });
        Ok(Stored { result: StoredResult { name, size: written, etag: etag.await? }, copy: None })
    }
}
