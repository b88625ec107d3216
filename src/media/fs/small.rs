//! Small results: one thread writes them, one after the other, without a sync for each.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::LocalKey;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::folder::{Folder, Room};
use crate::media::{Error, File, Result};
use crate::post::{self, Letter, Post, Remembered};
use crate::priority;

/// Files that are written before those who wait for them are told, at most: the first does not wait long for the last.
const TOGETHER: usize = 8;

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
    post: Post<Written>,
}

/// A file that was written, or why it was not.
struct Written {
    outcome: Result<()>,
    reply: oneshot::Sender<Result<()>>,
    post: Post<Written>,
}

impl Letter for Written {
    fn remembered() -> &'static LocalKey<Remembered<Self>> {
        thread_local!(static REMEMBERED: Remembered<Written> = const { Remembered::new(None) });
        &REMEMBERED
    }

    fn post(&self) -> Option<&Post<Self>> {
        Some(&self.post)
    }

    fn open(self) {
        // A caller that has gone away needs no answer.
        let _ = self.reply.send(self.outcome);
    }
}

impl Job {
    fn perform(self, folder: &Folder) -> Written {
        let Self { file, bytes, room, reply, post } = self;
        let outcome = folder.write(&file, &bytes);
        if outcome.is_ok() {
            room.keep();
        }
        Written { outcome, reply, post }
    }
}

impl Scribe {
    /// Starts the thread; it ends with the last handle.
    pub fn start(folder: Arc<Folder>) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("bgrs-media".to_owned()).spawn(move || {
            priority::lower();
            while let Ok(first) = waiting.recv() {
                let jobs = std::iter::once(first).chain(waiting.try_iter().take(TOGETHER - 1));
                let written: Vec<_> = jobs.map(|job| job.perform(&folder)).collect();
                post::deliver(written);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Writes a file: whole under its name when this returns, but not durable.
    pub async fn write(&self, file: File, bytes: Bytes, room: Room) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Error::Io(std::io::Error::other("the thread for small results has stopped"));
        let job = Job { file, bytes, room, reply, post: Post::here() };
        self.jobs.send(job).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}
