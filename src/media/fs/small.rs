//! Small results: one thread writes them, one after the other, without a sync for each.

use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::folder::{Folder, Room};
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
        std::thread::Builder::new().name("bgrs-media".to_owned()).spawn(move || {
            priority::lower();
            for Job { file, bytes, room, reply } in waiting {
                let written = folder.write(&file, &bytes);
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
