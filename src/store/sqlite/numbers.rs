//! The numbers of requests: given out before their rows are there, so that a rid can begin with its row's.
//!
//! A row is then found by its number, in the table itself. Finding it by the index of the rids is another walk down a
//! tree, whose last page is in no cache once there are some hundred thousand.

use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::Connection;

use crate::model::Rid;
use crate::store::{Error, Result};

/// The number that was given out last.
pub struct Numbers(AtomicI64);

impl Numbers {
    /// Goes on behind all rows that there are, and were.
    pub fn load(connection: &Connection) -> Result<Self> {
        let sql = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'bgrs'), 0),
                              coalesce((SELECT max(id) FROM bgrs), 0))";
        Ok(Self(AtomicI64::new(connection.query_row(sql, [], |row| row.get(0))?)))
    }

    /// A rid with the next number.
    pub fn next(&self) -> Result<Rid> {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Rid::generate(number).map_err(|error| Error::Other(format!("no random numbers: {error}")))
    }

    /// The number of a rid that was given out here; any other's row gets the one that the database gives it.
    pub fn of(&self, rid: Rid) -> Option<i64> {
        let number = rid.number();
        (number > 0 && number <= self.0.load(Ordering::Relaxed)).then_some(number)
    }

    /// A row has this number: somebody else has inserted some, and later ones begin behind it.
    pub fn skip(&self, number: i64) {
        self.0.fetch_max(number, Ordering::Relaxed);
    }
}
