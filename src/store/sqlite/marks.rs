//! Whether anything can have been committed since somebody looked, without another look.
//!
//! The header of the WAL index has a checksum that each commit of any process changes. The writer says after each
//! transaction what it is, and whether others have committed meanwhile: the header's count of commits has grown by more than
//! the transaction's own. As long as the file says the same, users are as they were, unless this process has changed one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::wal_index::{Header, WalIndex};

const UNASKED: u64 = 0;
const UNKNOWN: u64 = u64::MAX;

/// What this process knows of commits.
pub struct Marks {
    index: WalIndex,
    /// The header's checksum after this process's last transaction.
    own: AtomicU64,
    /// The header's count of commits within the transaction under way; [`UNKNOWN`]: it was not looked at.
    before: AtomicU64,
    /// Rows that the writer had ever changed when its last transaction had ended.
    rows: AtomicU64,
    /// Grows whenever users may have changed; never 0.
    users: AtomicU64,
    /// What [`Marks::within`] has said in the transaction under way: [`UNASKED`], [`UNKNOWN`], or the number.
    within: AtomicU64,
    /// Whether the transaction under way changes a user.
    touched: AtomicBool,
}

impl Marks {
    /// For a database that is open, and whose index this is.
    pub fn new(index: WalIndex) -> Self {
        // Nobody has looked at a user before.
        let own = index.header().map_or(0, |header| header.checksum);
        Self {
            index,
            own: AtomicU64::new(own),
            before: AtomicU64::new(UNKNOWN),
            rows: AtomicU64::new(0),
            users: AtomicU64::new(1),
            within: AtomicU64::new(UNASKED),
            touched: AtomicBool::new(false),
        }
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

    /// To be called by the writer within each transaction, before its end: nobody else can commit until then.
    pub fn ending(&self) {
        let now = self.index.header();
        if now.is_none_or(|now| now.checksum != self.own.load(Ordering::SeqCst)) {
            self.users_changed();
        }
        self.before.store(now.map_or(UNKNOWN, |now| now.commits.into()), Ordering::SeqCst);
    }

    /// To be called by the writer behind each of its transactions, with the number of rows that it has ever changed. Gives
    /// what the header says now.
    pub fn ended(&self, committed: bool, rows: u64) -> Option<Header> {
        self.within.store(UNASKED, Ordering::Relaxed);
        let has_changed = self.rows.swap(rows, Ordering::SeqCst) != rows;
        let before = self.before.swap(UNKNOWN, Ordering::SeqCst);
        let now = self.index.header();
        let is_own = now
            .zip(u32::try_from(before).ok())
            .is_some_and(|(now, before)| now.commits == before.wrapping_add(u32::from(committed && has_changed)));
        // Before the header is taken for known: nobody is to believe an older look by it.
        if self.touched.swap(false, Ordering::SeqCst) || !is_own {
            self.users_changed();
        }
        if let Some(now) = now {
            self.own.store(now.checksum, Ordering::SeqCst);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::sqlite::Durability;
    use crate::store::sqlite::connection::open_for_writing;

    const NOTHING: &str = "SELECT 1";
    const USER: &str = "INSERT INTO users (login, password, created_dt) VALUES (hex(randomblob(9)), '', '')";

    /// Changes a user, and undoes it again: rows have changed, and yet nothing has.
    const UNDONE: &str = "SAVEPOINT act; INSERT INTO users (login, password, created_dt) VALUES ('x', '', ''); ROLLBACK TO act; RELEASE act";

    /// A database whose writer has had a transaction.
    fn opened() -> (tempfile::TempDir, Connection, Marks) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let own = open_for_writing(&path, Durability::Normal).unwrap();
        let marks = Marks::new(WalIndex::open(&path));
        transaction(&own, &marks, NOTHING, true, || ());
        (dir, own, marks)
    }

    /// A transaction of the writer's, what it says at its end, and what another process does right before that.
    fn transaction(own: &Connection, marks: &Marks, act: &str, committed: bool, meanwhile: impl FnOnce()) {
        own.execute_batch("BEGIN IMMEDIATE").unwrap();
        own.execute_batch(act).unwrap();
        marks.ending();
        own.execute_batch(if committed { "COMMIT" } else { "ROLLBACK" }).unwrap();
        meanwhile();
        marks.ended(committed, own.total_changes());
    }

    #[test]
    fn another_process_that_commits_is_noticed_at_once_and_own_commits_change_nothing() {
        let (dir, own, marks) = opened();
        let first = marks.users();
        assert!(first.is_some());
        own.execute_batch(USER).unwrap();
        assert_eq!(marks.users(), None, "not known before the writer has said so");
        transaction(&own, &marks, USER, true, || ());
        let second = marks.users();
        assert!(second.is_some() && second != first, "somebody has committed before");
        for (act, committed) in [(USER, true), (USER, false), (NOTHING, true), (NOTHING, false)] {
            transaction(&own, &marks, act, committed, || ());
            assert_eq!(marks.users(), second, "{act}, {committed}");
        }

        let other = Connection::open(dir.path().join("db")).unwrap();
        assert_eq!(marks.users(), second);
        other.execute_batch(USER).unwrap();
        assert_eq!(marks.users(), None);
        transaction(&own, &marks, USER, true, || ());
        assert!(marks.users().is_some_and(|now| Some(now) != second));

        for (act, committed) in [(USER, true), (USER, false), (UNDONE, true), (NOTHING, true), (NOTHING, false)] {
            let before = marks.users();
            transaction(&own, &marks, act, committed, || other.execute_batch(USER).unwrap());
            assert!(
                marks.users().is_some_and(|now| Some(now) != before),
                "{act}, {committed}, and another's behind it"
            );
        }

        // The header changes with that too; it is known again behind the writer's next transactions.
        other.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        for act in [USER, NOTHING] {
            transaction(&own, &marks, act, true, || ());
            assert!(marks.users().is_some(), "{act}");
        }
    }

    #[test]
    fn a_transaction_that_changes_a_user_says_so() {
        let (_dir, own, marks) = opened();
        let now = marks.users();
        assert_eq!(marks.within(), now);
        marks.touch();
        assert_eq!(marks.within(), None);
        transaction(&own, &marks, USER, true, || ());
        assert!(marks.users().is_some() && marks.users() != now);
    }
}
