//! Copies of the write-ahead log into the database, made beside the writer: it would wait for two syncs each time, and all
//! callers with it.
//!
//! Where commits follow each other at once, the log never comes to its end in this way: what is left over is copied by the
//! writer ([`connection::CHECKPOINT`]), which then begins the log anew.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;

use super::connection;
use crate::store::{Error, Result};

/// Frames (pages of 4 KiB) of the log that are copied at once.
const STEP: u32 = 1000;

/// The handle of the copying thread, which ends with it.
pub struct Checkpoints {
    /// Frames of the log when a copy was last asked for.
    asked_at: AtomicU32,
    asked: Sender<()>,
}

impl Checkpoints {
    /// Starts the thread on an open database.
    pub fn start(path: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(path, connection::reader_flags())?;
        let (asked, asking) = bounded(1);
        std::thread::Builder::new()
            .name("bgrs-copy".to_owned())
            .spawn(move || copy_when(&asking, &connection))
            .map_err(|error| Error::Other(error.to_string()))?;
        Ok(Self { asked_at: AtomicU32::new(0), asked })
    }

    /// To be called by the writer, behind each of its transactions, with the number of frames in the log.
    pub fn ended(&self, frames: u32) {
        let asked_at = self.asked_at.load(Ordering::Relaxed);
        if frames < asked_at {
            // The log was begun anew.
            self.asked_at.store(0, Ordering::Relaxed);
        } else if frames - asked_at >= STEP {
            self.asked_at.store(frames, Ordering::Relaxed);
            // Where one is asked for already, it takes these too.
            let _ = self.asked.try_send(());
        }
    }
}

fn copy_when(asking: &Receiver<()>, connection: &Connection) {
    while let Ok(()) = asking.recv() {
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            log::warn!("the write-ahead log could not be copied into the database, the writer will: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::store::sqlite::Durability;
    use crate::store::sqlite::connection::open_for_writing;
    use crate::store::sqlite::wal_index::WalIndex;

    #[test]
    fn the_log_is_copied_while_the_writer_goes_on_and_its_later_frames_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let writer = open_for_writing(&path, Durability::Normal).unwrap();
        // All of it is this thread's doing.
        writer.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
        let (checkpoints, index) = (Checkpoints::start(&path).unwrap(), WalIndex::open(&path));
        // A frame for each.
        let commit = || {
            writer.execute("UPDATE bgrs_keys_floor SET id = id + 1", []).unwrap();
            checkpoints.ended(index.header().unwrap().frames);
        };
        // As a program would see it that has neither the log nor its index. Copied by another process: to close the file in
        // this one would take away its locks.
        let copied = || {
            let aside = dir.path().join("aside");
            assert!(Command::new("cp").arg(&path).arg(&aside).status().unwrap().success());
            let aside = Connection::open(aside).unwrap();
            aside.query_row("SELECT id FROM bgrs_keys_floor", [], |row| row.get::<_, u32>(0)).unwrap_or(0)
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        for least in [STEP / 2, STEP + STEP / 2, 3 * STEP] {
            while copied() < least {
                assert!(Instant::now() < deadline, "the log is not copied");
                (0..STEP / 4).for_each(|_| commit());
            }
        }
    }
}
