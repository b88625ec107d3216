//! Small results: one thread writes them, one after the other, without a sync for each.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::folder::{Folder, Room, temporary};
use crate::media::{Error, File, Result};
use crate::priority;

/// The handle of the thread. What waits for it is bounded by the requests that run at once.
#[derive(Clone)]
pub struct Scribe {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    file: File,
    bytes: Bytes,
    room: Room,
    reply: oneshot::Sender<Result<()>>,
}

impl Scribe {
    /// Starts the thread; it ends with the last handle.
    pub fn start(folder: Arc<Folder>) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        // One name is enough: the thread has one file at a time in its hands.
        let part = temporary(&folder.dir)?;
        std::thread::Builder::new().name("bgrs-media".to_owned()).spawn(move || {
            priority::lower();
            for Job { file, bytes, room, reply } in waiting {
                let written = write(&folder, &part, &file, &bytes);
                if written.is_ok() {
                    room.keep();
                }
                // A caller that has gone away needs no answer.
                let _ = reply.send(written);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Writes a file: whole under its name when this returns, but not durable.
    pub async fn write(&self, file: File, bytes: Bytes, room: Room) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Error::Io(std::io::Error::other("the thread for small results has stopped"));
        self.jobs.send(Job { file, bytes, room, reply }).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

/// Writes beside, then names.
pub fn write(folder: &Folder, part: &Path, file: &File, bytes: &[u8]) -> Result<()> {
    let written = fs::write(part, bytes).map_err(Error::from).and_then(|()| folder.rename(part, file));
    if written.is_err() {
        forget(part.to_owned());
    }
    written
}

fn forget(part: PathBuf) {
    match fs::remove_file(part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log::warn!("a temporary file is left over: {error}");
        }
        _ => {}
    }
}
