//! The folder itself: paths, names that come and go, and the room that results may take.

use std::fs::{self, File as OsFile};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::media::{Error, File, Result};
use crate::vault::Key;

/// The open folder.
pub struct Folder {
    pub dir: PathBuf,
    /// Kept open for syncing the names in it.
    pub handle: OsFile,
    pub key: Key,
    /// Bytes that results may take in all; 0: as the disk has.
    pub limit: u64,
    pub used: AtomicU64,
    /// Held while a name comes or goes, so that the room of what was there is given back once.
    names: Mutex<()>,
    /// The folder's own time when it was opened: its clock is coarser than this process's, and a file made just now
    /// could look older.
    pub opened: SystemTime,
}

impl Folder {
    /// Opens the folder, making it where it is not there.
    pub fn open(dir: &Path, key: Key, limit: u64) -> std::io::Result<Self> {
        fs::create_dir_all(dir)?;
        let handle = OsFile::open(dir)?;
        let probe = temporary(dir)?;
        let made = OsFile::create_new(&probe)?.metadata().and_then(|meta| meta.modified());
        fs::remove_file(probe)?;
        let opened = made?;
        Ok(Self { dir: dir.to_owned(), handle, key, limit, used: AtomicU64::new(0), names: Mutex::new(()), opened })
    }

    /// SECURITY: a path is built from nothing but a name of the server's own, whatever a `File` was made from.
    pub fn path(&self, file: &File) -> Result<PathBuf> {
        let name = file.file_name();
        if File::parse(&name).as_ref() != Some(file) {
            return Err(Error::Missing);
        }
        Ok(self.dir.join(name))
    }

    /// A result's path, of a name that is one.
    pub fn result(&self, name: &str) -> Result<PathBuf> {
        self.path(&File::Result(name.to_owned()))
    }

    fn names(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn take_room(&self, bytes: u64) -> Result<()> {
        let fits = |used: &u64| self.limit == 0 || *used <= self.limit;
        let take = |used: u64| Some(used.saturating_add(bytes)).filter(fits);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map(|_| ()).map_err(|_| Error::Full)
    }

    pub fn give_room(&self, bytes: u64) {
        let give = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }

    /// Gives a file its name, and gives back the room of a result that was there.
    pub fn rename(&self, from: &Path, file: &File) -> Result<()> {
        let path = self.path(file)?;
        let _names = self.names();
        let replaced = self.room_of(file, &path);
        fs::rename(from, path)?;
        self.give_room(replaced);
        Ok(())
    }

    /// Writes a whole file under its own name, and gives back the room of a result that was there. Not durable; and one
    /// that a crash tears stays under its name, so only bytes that are kept elsewhere may be written so: a name beside it
    /// and a rename would cost as much again as the file.
    pub fn write(&self, file: &File, bytes: &[u8]) -> Result<()> {
        let path = self.path(file)?;
        let _names = self.names();
        let replaced = self.room_of(file, &path);
        // Where this fails, all is as it was.
        let mut made = OsFile::create(&path)?;
        self.give_room(replaced);
        let written = made.write_all(bytes);
        if written.is_err()
            && let Err(error) = fs::remove_file(&path)
        {
            log::warn!("a result that was not written whole is left over: {error}");
        }
        Ok(written?)
    }

    /// Removes a file and gives its room back, if it was a result that is there.
    pub fn remove(&self, file: &File) -> Result<()> {
        let path = self.path(file)?;
        let _names = self.names();
        let room = self.room_of(file, &path);
        match fs::remove_file(&path) {
            Ok(()) => self.give_room(room),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The room that a file takes of the limit: results alone count, and only where there is one.
    fn room_of(&self, file: &File, path: &Path) -> u64 {
        match file {
            File::Result(_) if self.limit > 0 => fs::metadata(path).map_or(0, |meta| meta.len()),
            _ => 0,
        }
    }
}

/// Room taken of the limit for a file that is being written. Dropped, it is given back.
pub struct Room {
    folder: Arc<Folder>,
    bytes: u64,
}

impl Room {
    /// No room.
    pub fn none(folder: Arc<Folder>) -> Self {
        Self { folder, bytes: 0 }
    }

    pub fn take(&mut self, bytes: u64) -> Result<()> {
        self.folder.take_room(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// The file has it now; its removal gives it back.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.folder.give_room(self.bytes);
    }
}

/// A name for a file that is not whole yet.
pub fn temporary(dir: &Path) -> std::io::Result<PathBuf> {
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(dir.join(format!(".bgrs.{}.part", hex::encode(nonce))))
}

pub fn is_temporary(name: &str) -> bool {
    name.strip_prefix(".bgrs.").and_then(|name| name.strip_suffix(".part")).is_some()
}
