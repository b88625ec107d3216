//! Making small results durable, many at a time, and making anew those that a power cut took.

use std::fs::{self, File as OsFile};

use super::folder::Folder;
use crate::media::{File, Result};

/// Up to so many files are synced one by one; for more of them the whole file system is synced once.
const ONE_BY_ONE: usize = 16;

/// Makes the files durable under their names. One that is gone was removed in the meantime: that is no error.
pub fn settle(folder: &Folder, names: &[String]) -> Result<()> {
    if names.len() > ONE_BY_ONE && sync_all(folder)? {
        return Ok(());
    }
    for name in names {
        match OsFile::open(folder.result(name)?).and_then(|file| file.sync_data()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(folder.handle.sync_all()?)
}

/// Syncs the file system that the folder is on; `false` where that cannot be done in one go.
#[cfg(target_os = "linux")]
fn sync_all(folder: &Folder) -> Result<bool> {
    rustix::fs::syncfs(&folder.handle).map_err(std::io::Error::from)?;
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn sync_all(_: &Folder) -> Result<bool> {
    Ok(false)
}

/// Writes a result again, unless its file holds these bytes already.
pub fn restore(folder: &Folder, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.result(name)?;
    let length = fs::metadata(&path).map_or(0, |meta| meta.len());
    if length == bytes.len() as u64 && fs::read(&path)? == bytes {
        return Ok(());
    }
    // Gone first: its room is the row's, which was counted whole, and replacing a torn file would give back a part.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    folder.write(&File::Result(name.to_owned()), bytes)
}
