//! The media in one folder.

use std::fs::{self, File as OsFile};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::seal::{self, Key, Opener, Sealer};
use super::{ByteStream, Error, File, Listing, Media, Result, Sink, Walk};
use crate::failpoint::{self, Place};
use crate::model::{Rid, StoredResult};

/// Bytes that are read or written at once; smaller files are written in one go.
const PIECE: usize = 64 * 1024;

/// File operations at once: more would only make the pool of blocking threads larger.
const AT_ONCE: usize = 8;

/// Results and bodies in one folder. Cheap to clone.
#[derive(Clone)]
pub struct FsMedia(Arc<Folder>);

struct Folder {
    dir: PathBuf,
    /// Kept open for syncing the names in it.
    handle: OsFile,
    key: Key,
    /// Bytes that results may take in all; 0: as the disk has.
    limit: u64,
    used: AtomicU64,
    /// Held while a name comes or goes, so that the room of what was there is given back once.
    names: Mutex<()>,
    permits: Arc<Semaphore>,
    opened: SystemTime,
}

impl FsMedia {
    /// Opens the folder, making it where it is not there. Blocks.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn open(dir: &Path, key: Key, limit: u64) -> std::io::Result<Self> {
        fs::create_dir_all(dir)?;
        let handle = OsFile::open(dir)?;
        let probe = temporary(dir)?;
        let made = OsFile::create_new(&probe)?.metadata().and_then(|meta| meta.modified());
        fs::remove_file(probe)?;
        // By the folder's own clock: it is coarser than this process's, a file made just now could look older.
        let opened = made?;
        Ok(Self(Arc::new(Folder {
            dir: dir.to_owned(),
            handle,
            key,
            limit,
            used: AtomicU64::new(0),
            names: Mutex::new(()),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            opened,
        })))
    }

    /// How many bytes results may take in all; 0: as many as the disk has.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Says how many bytes results take already.
    pub fn set_used(&self, bytes: u64) {
        self.0.used.store(bytes, Ordering::Relaxed);
    }

    /// Runs file work on a thread that may be blocked.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Folder) -> Result<T> + Send + 'static) -> Result<T> {
        let permit = self.0.permits.clone().acquire_owned().await;
        let folder = self.0.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&folder)
        });
        done.await.unwrap_or_else(|error| Err(Error::Io(std::io::Error::other(error))))
    }
}

impl Folder {
    /// SECURITY: a path is built from nothing but a name of the server's own, whatever a `File` was made from.
    fn path(&self, file: &File) -> Result<PathBuf> {
        let name = file.file_name();
        if File::parse(&name).as_ref() != Some(file) {
            return Err(Error::Missing);
        }
        Ok(self.dir.join(name))
    }

    /// A result's path, of a name that is one.
    fn result(&self, name: &str) -> Result<PathBuf> {
        self.path(&File::Result(name.to_owned()))
    }

    fn names(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_room(&self, bytes: u64) -> Result<()> {
        let fits = |used: &u64| self.limit == 0 || *used <= self.limit;
        let take = |used: u64| Some(used.saturating_add(bytes)).filter(fits);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map(|_| ()).map_err(|_| Error::Full)
    }

    fn give_room(&self, bytes: u64) {
        let give = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }

    /// Names what is durable already, and gives back the room of a result that was there.
    fn rename(&self, from: &Path, file: &File) -> Result<()> {
        let path = self.path(file)?;
        let _names = self.names();
        let replaced = room_of(file, &path);
        fs::rename(from, path)?;
        self.give_room(replaced);
        Ok(())
    }

    /// Removes a file and gives its room back, if it was a result that is there.
    fn remove(&self, file: &File) -> Result<()> {
        let path = self.path(file)?;
        let _names = self.names();
        let room = room_of(file, &path);
        match fs::remove_file(&path) {
            Ok(()) => self.give_room(room),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The room that a file takes of the limit: results alone count.
fn room_of(file: &File, path: &Path) -> u64 {
    match file {
        File::Result(_) => fs::metadata(path).map_or(0, |meta| meta.len()),
        File::Body(_) => 0,
    }
}

/// Room taken of the limit for a file that is being written. Dropped, it is given back.
struct Room {
    folder: Arc<Folder>,
    bytes: u64,
}

impl Room {
    fn take(&mut self, bytes: u64) -> Result<()> {
        self.folder.take_room(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// The file has it now; its removal gives it back.
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.folder.give_room(self.bytes);
    }
}

fn temporary(dir: &Path) -> std::io::Result<PathBuf> {
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(dir.join(format!(".bgrs.{}.part", hex::encode(nonce))))
}

fn is_temporary(name: &str) -> bool {
    name.strip_prefix(".bgrs.").and_then(|name| name.strip_suffix(".part")).is_some()
}

/// A file that is being written: in memory while it is small, in a temporary file then.
struct FsSink {
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
        Ok(self.digest.finalize().to_hex()[..32].to_owned())
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
    fn new(media: FsMedia, sealed_for: Option<Rid>) -> Self {
        let room = Room { folder: media.0.clone(), bytes: 0 };
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

    async fn commit(self: Box<Self>, file: File) -> Result<StoredResult> {
        self.check_whole()?;
        let Self { media, buffer, writing, sealed_for, written, room, torn: _ } = *self;
        let name = file.file_name();
        // The room goes along: a caller who stops waiting does not stop the file from coming to be.
        let etag = media.blocking(move |folder| {
            let mut writing = writing.map_or_else(|| Writing::begin(folder, sealed_for), Ok)?;
            writing.append(&buffer)?;
            writing.commit(folder, &file, room)
        });
        Ok(StoredResult { name, size: written, etag: etag.await? })
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

    async fn has_result(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.blocking(move |folder| Ok(folder.result(&name)?.try_exists()?)).await
    }

    async fn is_left_over(&self, file: &File) -> Result<bool> {
        let file = file.clone();
        self.blocking(move |folder| match fs::metadata(folder.path(&file)?) {
            Ok(meta) => Ok(meta.modified()? < folder.opened),
            Err(_) => Ok(false),
        })
        .await
    }

    async fn remove(&self, file: File) -> Result<()> {
        self.blocking(move |folder| folder.remove(&file)).await
    }

    async fn walk(&self) -> Result<Box<dyn Walk>> {
        let entries = self.blocking(|folder| Ok(fs::read_dir(&folder.dir)?)).await?;
        Ok(Box::new(FsWalk { media: self.clone(), entries: Some(entries) }))
    }

    fn is_full(&self) -> bool {
        self.0.limit > 0 && self.0.used.load(Ordering::Relaxed) >= self.0.limit
    }
}

/// The rest of a result that is being read.
struct Reading {
    file: OsFile,
    left: u64,
}

impl Reading {
    /// A file that is shorter than its row says is an error, not a short answer; it is told before the first byte.
    fn open(folder: &Folder, name: &str, range: &Range<u64>) -> Result<Self> {
        let mut file = OsFile::open(folder.result(name)?)?;
        if file.metadata()?.len() < range.end {
            return Err(Error::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        file.seek(SeekFrom::Start(range.start))?;
        Ok(Self { file, left: range.end.saturating_sub(range.start) })
    }

    /// The next piece, and what is left after it.
    fn next(mut self) -> Result<(Bytes, Option<Self>)> {
        let length = self.left.min(PIECE as u64);
        // At most PIECE: it fits.
        let mut piece = vec![0; length as usize];
        self.file.read_exact(&mut piece)?;
        self.left -= length;
        Ok((piece.into(), (self.left > 0).then_some(self)))
    }
}

/// The rest of a body that is being read and decrypted.
struct Unsealing {
    file: OsFile,
    opener: Opener,
    left: u64,
}

impl Unsealing {
    fn open(folder: &Folder, rid: Rid) -> Result<Self> {
        let mut file = OsFile::open(folder.path(&File::Body(rid))?)?;
        let length = file.metadata()?.len();
        let mut nonce = [0; seal::NONCE];
        file.read_exact(&mut nonce).map_err(|_| Error::Sealed)?;
        let opener = Opener::new(&folder.key, rid, &nonce);
        Ok(Self { file, opener, left: length - seal::NONCE as u64 })
    }

    fn next(mut self) -> Result<(Bytes, Option<Self>)> {
        let length = self.left.min((seal::CHUNK + seal::TAG) as u64);
        // At most a chunk: it fits.
        let mut sealed = vec![0; length as usize];
        self.file.read_exact(&mut sealed)?;
        self.left -= length;
        if self.left == 0 {
            return Ok((self.opener.last(&sealed)?.into(), None));
        }
        Ok((self.opener.next(&sealed)?.into(), Some(self)))
    }
}

struct FsWalk {
    media: FsMedia,
    entries: Option<fs::ReadDir>,
}

#[async_trait]
impl Walk for FsWalk {
    async fn step(&mut self, limit: usize) -> Result<Listing> {
        let Some(mut entries) = self.entries.take() else { return Ok(Listing { files: Vec::new(), done: true }) };
        let step = self.media.blocking(move |folder| {
            let mut files = Vec::new();
            for _ in 0..limit {
                let Some(entry) = entries.next() else { return Ok((files, None)) };
                look_at(folder, &entry?, &mut files);
            }
            Ok((files, Some(entries)))
        });
        let (files, entries) = step.await?;
        let done = entries.is_none();
        self.entries = entries;
        Ok(Listing { files, done })
    }
}

/// Lists one of the server's own, removes an earlier process's temporary file, and passes over what is not ours.
fn look_at(folder: &Folder, entry: &fs::DirEntry, files: &mut Vec<File>) {
    let name = entry.file_name();
    let Some(name) = name.to_str() else { return };
    if let Some(file) = File::parse(name) {
        files.push(file);
    } else if is_temporary(name) {
        let old = entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|modified| modified < folder.opened);
        if old && let Err(error) = fs::remove_file(entry.path()) {
            log::warn!("a temporary file is left over: {error}");
        }
    }
}
