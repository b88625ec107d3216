//! The walk through the folder.

use std::fs;

use async_trait::async_trait;

use super::FsMedia;
use super::folder::{Folder, is_temporary};
use crate::media::{File, Listing, Result, Walk};

pub struct FsWalk {
    pub media: FsMedia,
    pub entries: Option<fs::ReadDir>,
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
