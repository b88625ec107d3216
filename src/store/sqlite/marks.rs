//! Whether anything can have been committed since somebody looked, without another look.
//!
//! The header of the WAL index has a checksum that each commit of any process changes. The writer says after each
//! transaction what it is, once `PRAGMA data_version` has told that no other process has committed meanwhile. As long as the file says the same, users
//! are as they were, unless this process has changed one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use rusqlite::Connection;

use super::wal_index::WalIndex;
use crate::store::Result;

const UNASKED: u64 = 0;
const UNKNOWN: u64 = u64::MAX;

/// What this process knows of commits.
pub struct Marks {
    index: WalIndex,
    /// The header after this process's last transaction.
    own: AtomicU64,
    /// The database's `data_version` then.
    version: AtomicI64,
    /// Grows whenever users may have changed; never 0.
    users: AtomicU64,
    /// What [`Marks::within`] has said in the transaction under way: [`UNASKED`], [`UNKNOWN`], or the number.
    within: AtomicU64,
    /// Whether the transaction under way changes a user.
    touched: AtomicBool,
}

impl Marks {
    /// For an open database.
    pub fn open(path: &Path, connection: &Connection) -> Result<Self> {
        let marks = Self {
            index: WalIndex::open(path),
            own: AtomicU64::new(0),
            version: AtomicI64::new(-1),
            users: AtomicU64::new(1),
            within: AtomicU64::new(UNASKED),
            touched: AtomicBool::new(false),
        };
        marks.ended(connection)?;
        Ok(marks)
    }

    /// The same number as long as no user can have changed; `None` while that is not known.
    pub fn users(&self) -> Option<u64> {
        let users = self.users.load(Ordering::SeqCst);
        let is_own = self.index.checksum()? == self.own.load(Ordering::SeqCst);
        (is_own && self.users.load(Ordering::SeqCst) == users).then_some(users)
    }

    /// The same within a transaction of the writer's: nobody else can commit before its end, so that one look at the header
    /// does for all of its acts. `None` too where an act of it changes a user.
    pub fn within(&self) -> Option<u64> {
        if self.touched.load(Ordering::SeqCst) {
            return None;
        }
        let known = match self.within.load(Ordering::Relaxed) {
            UNASKED => {
                let now = self.users().unwrap_or(UNKNOWN);
                self.within.store(now, Ordering::Relaxed);
                now
            }
            known => known,
        };
        (known != UNKNOWN).then_some(known)
    }

    /// The transaction under way changes a user. Said within it: whoever waits for its end may be gone by then.
    pub fn touch(&self) {
        self.touched.store(true, Ordering::SeqCst);
    }

    fn users_changed(&self) {
        self.users.fetch_add(1, Ordering::SeqCst);
    }

    /// To be called by the writer, behind each of its transactions.
    pub fn ended(&self, connection: &Connection) -> Result<()> {
        self.within.store(UNASKED, Ordering::Relaxed);
        // Before the header is taken for known: nobody is to believe an older look by it.
        if self.touched.swap(false, Ordering::SeqCst) {
            self.users_changed();
        }
        let Some(mut header) = self.index.checksum() else { return Ok(()) };
        loop {
            let version = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
            if self.version.swap(version, Ordering::SeqCst) == version {
                // Nobody else has committed until after the header was read: it is this process's own.
                self.own.store(header, Ordering::SeqCst);
                return Ok(());
            }
            self.users_changed();
            let Some(now) = self.index.checksum() else { return Ok(()) };
            header = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::Durability;
    use crate::store::sqlite::connection::open_for_writing;

    #[test]
    fn another_process_that_commits_is_noticed_at_once_and_own_commits_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let own = open_for_writing(&path, Durability::Normal).unwrap();
        let marks = Marks::open(&path, &own).unwrap();
        let change = |connection: &Connection| {
            let sql = "INSERT INTO users (login, password, created_dt) VALUES (hex(randomblob(9)), '', '')";
            connection.execute(sql, []).unwrap();
        };
        let first = marks.users();
        assert!(first.is_some());
        change(&own);
        assert_eq!(marks.users(), None, "not known before the writer has said so");
        marks.ended(&own).unwrap();
        assert_eq!(marks.users(), first);

        let other = Connection::open(&path).unwrap();
        assert_eq!(marks.users(), first);
        change(&other);
        assert_eq!(marks.users(), None);
        change(&own);
        marks.ended(&own).unwrap();
        assert!(marks.users().is_some() && marks.users() != first);

        let now = marks.users();
        assert_eq!(marks.within(), now);
        marks.touch();
        assert_eq!(marks.within(), None);
        change(&own);
        assert_eq!(marks.users(), None);
        marks.ended(&own).unwrap();
        assert!(marks.users().is_some() && marks.users() != now);
    }
}
